package meta

import (
	"bytes"
	"context"

	"cairn"
	"cairn/meta/replica"
)

// RewrapPlace is where a pass of Rewrap goes on; the zero value is its beginning.
type RewrapPlace struct {
	family int    // index in rewrapFamilies
	from   []byte // nil for its beginning
	last   bool
}

// Done tells that the pass is through.
func (p RewrapPlace) Done() bool { return p.last }

// Rewrapped counts what a page of Rewrap did.
type Rewrapped struct {
	Looked  int // rows of versions and uploads that were read
	Changed int // records that were replaced
	Missed  int // rows that others changed meanwhile: the next pass sees them
}

// rewrapFamilies are those whose rows hold an encryption record. A version that becomes an older one during a pass is met there.
var rewrapFamilies = [...]byte{famCurrent, famOlder, famUpload}

// rewrapRow is a row whose record is to be replaced.
type rewrapRow struct{ key, old, fresh []byte }

// Rewrap hands the encryption records of at most max rows to rewrap, from a place on, and commits those that it replaced, each only
// if nobody changed the row meanwhile. Nothing else of a row changes. A version that takes the place of the current one behind the
// pass is missed by it: repeat passes until one changes nothing.
func (s *Store) Rewrap(ctx context.Context, at RewrapPlace, max int,
	rewrap func(cairn.Encryption) (cairn.Encryption, bool, error)) (next RewrapPlace, r Rewrapped, err error) {
	var rows []rewrapRow
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		rows, r = nil, Rewrapped{}
		next, err = rewrapPage(w, at, max, func(fam byte, key, row []byte) error {
			r.Looked++
			fresh, changed, err := rewrapOne(fam, row, rewrap)
			if changed && err == nil {
				rows = append(rows, rewrapRow{bytes.Clone(key), bytes.Clone(row), fresh})
			}
			return err
		})
		return err
	})
	if err == nil && len(rows) > 0 {
		_, err = s.change(ctx, s.groups.system(), 0, func(t *txn) error {
			r.Changed, r.Missed = 0, 0
			for _, one := range rows {
				now, found, err := t.get(one.key)
				if err != nil {
					return err
				}
				if !found || !bytes.Equal(now, one.old) {
					r.Missed++
					continue
				}
				t.batch.Put(one.key, one.fresh)
				r.Changed++
			}
			return nil
		})
	}
	return next, r, fail("meta.rewrap", "", err)
}

func rewrapPage(w *replica.View, at RewrapPlace, max int, see func(fam byte, key, row []byte) error) (next RewrapPlace, err error) {
	fam := rewrapFamilies[at.family]
	from := at.from
	if from == nil {
		from = []byte{fam}
	}
	next = RewrapPlace{family: at.family + 1, last: at.family+1 == len(rewrapFamilies)}
	err = w.Walk(from, []byte{fam + 1}, func(c replica.Cursor) error {
		for n := 0; c.Valid(); n++ {
			if n == max {
				next = RewrapPlace{family: at.family, from: bytes.Clone(c.Key())}
				return nil
			}
			row, err := c.Value()
			if err != nil {
				return err
			}
			if err := see(fam, c.Key(), row); err != nil {
				return err
			}
			c.Next()
		}
		return nil
	})
	return next, err
}

// rewrapOne makes a row with another encryption record, if rewrap wants one.
func rewrapOne(fam byte, row []byte, rewrap func(cairn.Encryption) (cairn.Encryption, bool, error)) (fresh []byte, changed bool, err error) {
	if fam == famUpload {
		u, err := decodeUpload(row)
		if err != nil || !u.Encryption.Sealed() {
			return nil, false, err
		}
		if u.Encryption, changed, err = rewrap(u.Encryption); err != nil || !changed {
			return nil, false, err
		}
		return encodeUpload(&u), true, nil
	}
	v, err := decodeVersion(row)
	if err != nil || !v.v.Encryption.Sealed() {
		return nil, false, err
	}
	if v.v.Encryption, changed, err = rewrap(v.v.Encryption); err != nil || !changed {
		return nil, false, err
	}
	return v.encode(), true, nil
}
