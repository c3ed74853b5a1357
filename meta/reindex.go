package meta

import (
	"bytes"
	"context"
	"time"

	"cairn"
	"cairn/lifecycle"
	"cairn/meta/replica"

	"google.golang.org/protobuf/encoding/protowire"
)

// reindex is the job that makes due rows of what was in a bucket before its rules changed: one row per bucket, written by
// the commit that changes the rules, and carried on commit by commit until it is through. It can stop anywhere.
type reindex struct {
	bucket string
	id     uint64
	family int    // index in reindexFamilies
	from   []byte // where to go on in it, nil for its beginning
}

var reindexFamilies = [...]byte{famCurrent, famOlder, famUpload}

func (j *reindex) encode() []byte {
	b := putBytes(nil, 1, j.bucket)
	return putBytes(putUint(b, 2, uint64(j.family)), 3, j.from)
}

func decodeReindex(id uint64, row []byte) (j reindex, err error) {
	j.id = id
	err = eachField(row, func(n protowire.Number, f field) error {
		switch n {
		case 1:
			j.bucket = string(f.bytes)
		case 2:
			j.family = int(f.num)
		case 3:
			j.from = bytes.Clone(f.bytes)
		}
		return nil
	})
	if err == nil && (j.family < 0 || j.family >= len(reindexFamilies)) {
		err = corruptRow("reindex job")
	}
	return j, err
}

// rulesChanged begins or ends the job when a bucket's rules become others.
func (t *txn) rulesChanged(before, after *cairn.Bucket) error {
	if before.Configs[LifecycleConfig] == after.Configs[LifecycleConfig] {
		return nil
	}
	rules, err := t.rules.of(after)
	if err != nil {
		return err
	}
	key := key1(famReindex, after.ID)
	if rules == nil {
		t.batch.Delete(key)
		return nil
	}
	j := reindex{bucket: after.Name}
	t.batch.Put(key, j.encode())
	return nil
}

// Reindex carries on one of the jobs that changed lifecycle rules have left: it reads at most max rows and makes due rows
// of them in one commit. more tells whether there is more to do.
func (s *Store) Reindex(ctx context.Context, max int) (more bool, err error) {
	_, err = s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		more = false
		j, err := t.firstJob()
		if err != nil || j == nil {
			return err
		}
		more = true
		key := key1(famReindex, j.id)
		b, err := t.bucket(j.bucket)
		if isNotFound(err) || err == nil && b.ID != j.id {
			t.batch.Delete(key)
			return nil
		}
		if err != nil {
			return err
		}
		if err := t.reindexPage(b, j, max); err != nil {
			return err
		}
		if j.family == len(reindexFamilies) {
			t.batch.Delete(key)
		} else {
			t.batch.Put(key, j.encode())
		}
		return nil
	})
	return more, fail("meta.reindex", "", err)
}

func (t *txn) firstJob() (j *reindex, err error) {
	err = t.view.Walk([]byte{famReindex}, []byte{famReindex + 1}, func(c replica.Cursor) error {
		if !c.Valid() {
			return nil
		}
		row, err := c.Value()
		if err != nil {
			return err
		}
		if len(c.Key()) != 9 {
			return corruptRow("reindex job's key")
		}
		t.batch.Check(c.Key())
		id, _ := decodeNumber(c.Key()[1:])
		job, err := decodeReindex(id, row)
		j = &job
		return err
	})
	return j, err
}

// reindexPage makes due rows of one page of a family, and moves the job on. It rests on no version row: what changes
// meanwhile makes its own due rows, and one too many does no harm.
func (t *txn) reindexPage(b cairn.Bucket, j *reindex, max int) error {
	rules, err := t.rules.of(&b)
	if err != nil {
		return err
	}
	fam := reindexFamilies[j.family]
	start := key1(fam, b.ID)
	from := start
	if j.from != nil {
		from = j.from
	}
	return t.view.Walk(from, after(start), func(c replica.Cursor) error {
		last := ""
		for n := 0; c.Valid(); n++ {
			if n == max {
				j.from = bytes.Clone(c.Key())
				return nil
			}
			row, err := c.Value()
			if err != nil {
				return err
			}
			if last, err = t.reindexRow(b, rules, fam, c.Key()[9:], row, last); err != nil {
				return err
			}
			c.Next()
		}
		j.family, j.from = j.family+1, nil
		return nil
	})
}

// reindexRow makes the due row of one row. A key with older versions is looked at as a whole, once.
func (t *txn) reindexRow(b cairn.Bucket, rules *lifecycle.Config, fam byte, key, row []byte, last string) (string, error) {
	put := func(at time.Time, key string, kind byte, upload string) {
		if !at.IsZero() {
			t.batch.Put(dueRow(at, b.ID, key, kind, upload), []byte(b.Name))
		}
	}
	if fam == famCurrent {
		r, err := decodeVersion(row)
		if err != nil {
			return "", err
		}
		f, err := r.facts()
		due, _ := rules.Expiry(string(key), &f)
		put(due, string(key), dueCurrent, "")
		return "", err
	}
	name, rest, ok := cutEscaped(key)
	switch {
	case !ok:
		return "", corruptRow("key")
	case fam == famUpload:
		u, err := decodeUpload(row)
		due, _ := rules.AbortDue(name, u.Created)
		put(due, name, dueUpload, string(rest))
		return "", err
	case name != last:
		put(t.now, name, dueKey, "")
	}
	return name, nil
}
