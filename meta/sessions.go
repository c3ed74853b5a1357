package meta

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"cairn"
	"cairn/meta/replica"
)

const (
	// maxSessions bounds the sessions that exist at once; expired ones go when new ones are made.
	maxSessions = 2000
	// maxSessionBytes bounds a session's record.
	maxSessionBytes = 1 << 10
)

// PutSession commits a session of the admin interface under the hash of its secret, and removes those that have expired.
// What is in the record is the caller's. Errors: ErrOverloaded (too many sessions), ErrInvalid.
func (s *Store) PutSession(ctx context.Context, hash [sha256.Size]byte, record []byte, expires time.Time) error {
	if len(record) > maxSessionBytes {
		return fail("meta.put session", "", invalid("a record of %d bytes", len(record)))
	}
	_, err := s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		kept := 0
		err := t.view.Walk([]byte{famSession}, []byte{famSession + 1}, func(c replica.Cursor) error {
			for ; c.Valid(); c.Next() {
				row, err := c.Value()
				if err != nil {
					return err
				}
				if end, _, err := decodeSession(row); err != nil || t.now.After(end) {
					t.batch.Delete(bytes.Clone(c.Key()))
					continue
				}
				kept++
			}
			return nil
		})
		if err != nil {
			return err
		}
		if kept >= maxSessions {
			return fmt.Errorf("%d sessions exist; they expire: %w", kept, cairn.ErrOverloaded)
		}
		t.batch.Put(sessionKey(hash), append(binary.BigEndian.AppendUint64(nil, uint64(expires.UnixNano())), record...))
		return nil
	})
	return fail("meta.put session", "", err)
}

// Session returns the record of a session that has not expired. Errors: ErrNotFound.
func (s *Store) Session(ctx context.Context, hash [sha256.Size]byte) (record []byte, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		row, err := getRow(w, sessionKey(hash))
		if err != nil {
			return err
		}
		end, rest, err := decodeSession(row)
		if err == nil && time.Now().After(end) {
			err = cairn.ErrNotFound
		}
		record = bytes.Clone(rest)
		return err
	})
	return record, fail("meta.session", "", err)
}

// DeleteSession ends a session. One that is not there is no error.
func (s *Store) DeleteSession(ctx context.Context, hash [sha256.Size]byte) error {
	_, err := s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		t.batch.Delete(sessionKey(hash))
		return nil
	})
	return fail("meta.delete session", "", err)
}

func sessionKey(hash [sha256.Size]byte) []byte { return append([]byte{famSession}, hash[:]...) }

func decodeSession(row []byte) (expires time.Time, record []byte, err error) {
	if len(row) < 8 {
		return expires, nil, corruptRow("session")
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(row))), row[8:], nil
}
