package meta

// FlushForTest writes every voter's state into tables.
func (s *Store) FlushForTest() { s.groups.system().FlushAll() }

// LeadForTest asks the voter at a home to lead.
func (s *Store) LeadForTest(dir string) { s.groups.system().Lead(dir) }
