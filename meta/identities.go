package meta

import (
	"bytes"
	"context"
	"maps"

	"cairn/meta/replica"
)

// counterIdentities counts the changes of identities. Every change checks it, so that changes follow one another.
const counterIdentities = "identities"

// Identities returns all rows of package iam by name, and the number of the last change.
func (s *Store) Identities(ctx context.Context) (rows map[string][]byte, version uint64, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		if version, err = identityVersion(w); err != nil {
			return err
		}
		rows, err = readIdentities(w)
		return err
	})
	return rows, version, fail("meta.identities", "", err)
}

// IdentityVersion returns the number of the last change of identities.
func (s *Store) IdentityVersion(ctx context.Context) (version uint64, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		version, err = identityVersion(w)
		return err
	})
	return version, fail("meta.identity version", "", err)
}

// ChangeIdentities hands change a copy of all rows and commits what it put, replaced and deleted, as one step; change may run
// more than once. Errors: what change returns.
func (s *Store) ChangeIdentities(ctx context.Context, change func(rows map[string][]byte) error) error {
	_, err := s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		version, err := t.counter(counterIdentities)
		if err != nil {
			return err
		}
		old, err := readIdentities(t.view)
		if err != nil {
			return err
		}
		rows := maps.Clone(old)
		if err := change(rows); err != nil {
			return err
		}
		changed := false
		for name, row := range rows {
			if had, ok := old[name]; !ok || !bytes.Equal(had, row) {
				t.batch.Put(keyName(famIdentity, name), row)
				changed = true
			}
		}
		for name := range old {
			if _, ok := rows[name]; !ok {
				t.batch.Delete(keyName(famIdentity, name))
				changed = true
			}
		}
		if changed {
			t.setCounter(counterIdentities, version+1)
		}
		return nil
	})
	return fail("meta.change identities", "", err)
}

func identityVersion(w *replica.View) (uint64, error) {
	row, found, err := w.Get(keyName(famCounter, counterIdentities), nil)
	if err != nil || !found {
		return 0, err
	}
	return decodeNumber(row)
}

func readIdentities(w *replica.View) (map[string][]byte, error) {
	rows := map[string][]byte{}
	err := w.Walk([]byte{famIdentity}, []byte{famIdentity + 1}, func(c replica.Cursor) error {
		for ; c.Valid(); c.Next() {
			row, err := c.Value()
			if err != nil {
				return err
			}
			rows[string(c.Key()[1:])] = bytes.Clone(row)
		}
		return nil
	})
	return rows, err
}
