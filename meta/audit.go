package meta

import (
	"bytes"
	"context"
	"encoding/binary"

	"cairn/meta/replica"
)

const (
	// MaxAuditBytes bounds one record.
	MaxAuditBytes = 4 << 10

	counterAudit = "audit" // the number of the last record
)

// AuditRow is one record of who changed what, as package admin wrote it.
type AuditRow struct {
	Number uint64
	Record []byte
}

// AppendAudit commits a record and returns its number; numbers rise by one. Of the records only the last keep stay: the
// oldest goes with the same commit. Errors: ErrInvalid for a record that is too long.
func (s *Store) AppendAudit(ctx context.Context, record []byte, keep uint64) (number uint64, err error) {
	if len(record) == 0 || len(record) > MaxAuditBytes {
		return 0, fail("meta.append audit", "", invalid("a record of %d bytes", len(record)))
	}
	_, err = s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		last, err := t.counter(counterAudit)
		if err != nil {
			return err
		}
		number = last + 1
		t.setCounter(counterAudit, number)
		t.batch.Put(key1(famAudit, number), record)
		if number > keep {
			t.batch.Delete(key1(famAudit, number-keep))
		}
		return nil
	})
	return number, fail("meta.append audit", "", err)
}

// Audit returns up to max records with numbers below before, newest first; before 0 means from the newest on.
func (s *Store) Audit(ctx context.Context, before uint64, max int) (list []AuditRow, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		row, found, err := w.Get(keyName(famCounter, counterAudit), nil)
		if err != nil || !found {
			return err
		}
		last, err := decodeNumber(row)
		if err != nil {
			return err
		}
		if before == 0 || before > last {
			before = last + 1
		}
		first := uint64(1)
		if before > uint64(max) {
			first = before - uint64(max)
		}
		list = nil
		return w.Walk(key1(famAudit, first), key1(famAudit, before), func(c replica.Cursor) error {
			for ; c.Valid(); c.Next() {
				row, err := c.Value()
				if err != nil {
					return err
				}
				if len(c.Key()) != 9 {
					return corruptRow("audit record's key")
				}
				list = append(list, AuditRow{binary.BigEndian.Uint64(c.Key()[1:]), bytes.Clone(row)})
			}
			return nil
		})
	})
	for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
		list[i], list[j] = list[j], list[i]
	}
	return list, fail("meta.audit", "", err)
}
