package meta

import (
	"context"

	"cairn"
	"cairn/meta/replica"
)

// PutDrives commits drives' rows, each whole but for Draining, which SetDraining alone changes: who measures a drive and who
// empties it are not the same.
func (s *Store) PutDrives(ctx context.Context, drives []cairn.Drive) error {
	_, err := s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		for i := range drives {
			if drives[i].ID.IsZero() {
				return invalid("a drive without ID")
			}
			d, key := drives[i], driveKey(drives[i].ID)
			row, found, err := t.get(key)
			if err != nil {
				return err
			}
			d.Draining = false
			if found {
				old, err := decodeDrive(d.ID, row)
				if err != nil {
					return err
				}
				d.Draining = old.Draining
			}
			t.batch.Put(key, encodeDrive(&d))
		}
		_, err := t.mapChanged()
		return err
	})
	return fail("meta.put drives", "", err)
}

// SetDraining marks a drive that takes nothing new since it is being emptied, or takes the mark away. Errors: ErrNotFound.
func (s *Store) SetDraining(ctx context.Context, id cairn.DriveID, draining bool) error {
	_, err := s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		row, found, err := t.get(driveKey(id))
		if err != nil {
			return err
		}
		if !found {
			return cairn.ErrNotFound
		}
		d, err := decodeDrive(id, row)
		if err != nil || d.Draining == draining {
			return err
		}
		d.Draining = draining
		t.batch.Put(driveKey(id), encodeDrive(&d))
		_, err = t.mapChanged()
		return err
	})
	return fail("meta.set draining", id.String(), err)
}

func driveKey(id cairn.DriveID) []byte { return append([]byte{famDrive}, id[:]...) }

// Drives returns all drives' rows.
func (s *Store) Drives(ctx context.Context) (list []cairn.Drive, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		list = nil
		return w.Walk([]byte{famDrive}, []byte{famDrive + 1}, func(c replica.Cursor) error {
			for ; c.Valid(); c.Next() {
				row, err := c.Value()
				if err != nil {
					return err
				}
				if len(c.Key()) != 17 {
					return corruptRow("drive's key")
				}
				d, err := decodeDrive(cairn.DriveID(c.Key()[1:]), row)
				if err != nil {
					return err
				}
				list = append(list, d)
			}
			return nil
		})
	})
	return list, fail("meta.drives", "", err)
}

// PutConfig commits a small named row of the cluster's.
func (s *Store) PutConfig(ctx context.Context, name string, value []byte) error {
	_, err := s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		t.batch.Put(keyName(famConfig, name), value)
		return nil
	})
	return fail("meta.put config", name, err)
}

// Config returns what PutConfig committed. Errors: ErrNotFound.
func (s *Store) Config(ctx context.Context, name string) (value []byte, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		value, err = getRow(w, keyName(famConfig, name))
		return err
	})
	return value, fail("meta.config", name, err)
}
