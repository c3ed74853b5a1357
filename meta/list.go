package meta

import (
	"bytes"
	"context"
	"strings"

	"cairn"
	"cairn/meta/replica"
)

// maxListed is the most that one page of a listing holds.
const maxListed = 1000

// List returns one page of current versions. A page is one scan: a key costs a step, a common prefix one seek, however
// many keys it stands for. Errors: ErrNotFound (*BucketError).
func (s *Store) List(ctx context.Context, r List) (p Page, err error) {
	g := s.groups.of(0, r.Prefix)
	err = s.read(ctx, g, func(w *replica.View) error {
		b, err := readBucket(w, r.Bucket)
		if err != nil {
			return err
		}
		p, err = list(w, b, &r)
		return err
	})
	return p, fail("meta.list", r.Bucket, err)
}

func list(w *replica.View, b cairn.Bucket, r *List) (p Page, err error) {
	limit := min(r.Max, maxListed)
	if limit <= 0 {
		return p, nil
	}
	base := objectKey(famCurrent, b.ID, "")
	from := objectKey(famCurrent, b.ID, r.Prefix)
	start := listStart(r.Prefix, r.Delimiter, r.After)
	if start.key > r.Prefix || start.after {
		from = append(base[:9:9], start.key...)
		if start.after {
			from = append(from, 0) // the first key behind it
		}
	}
	if start.skip {
		if from = after(append(base[:9:9], start.key...)); from == nil {
			return p, nil
		}
	}
	to := after(objectKey(famCurrent, b.ID, r.Prefix))
	if strings.Compare(string(from), string(to)) >= 0 {
		return p, nil
	}
	err = w.Walk(from, to, func(c replica.Cursor) error {
		l := lister{page: &p}
		last := "" // the last common prefix, if it is the last name of the page
		for c.Valid() {
			key := c.Key()[9:]
			if len(p.Versions)+len(p.Prefixes) == limit {
				if p.More, p.Next = true, last; last == "" {
					p.Next = p.Versions[len(p.Versions)-1].Key
				}
				return nil
			}
			if n := rolledUp(key, r.Prefix, r.Delimiter); n > 0 {
				prefix := string(key[:n])
				p.Prefixes = append(p.Prefixes, prefix)
				last = prefix
				next := after(append(base[:9:9], prefix...))
				c.SeekGE(next)
				continue
			}
			row, err := c.Value()
			if err != nil {
				return err
			}
			if p.Versions == nil {
				p.Versions = make([]Listed, 0, limit)
			}
			if err := l.add(key, row); err != nil {
				return err
			}
			last = ""
			c.Next()
		}
		return nil
	})
	return p, err
}

// rolledUp is commonPrefix of a key that is not a string yet: the prefix's length, 0 for none.
func rolledUp(key []byte, prefix, delimiter string) int {
	if delimiter == "" {
		return 0
	}
	i := bytes.Index(key[len(prefix):], []byte(delimiter))
	if i < 0 {
		return 0
	}
	return len(prefix) + i + len(delimiter)
}

// commonPrefix returns what key is rolled up into: prefix and all up to the first delimiter behind it; "" if none.
func commonPrefix(key, prefix, delimiter string) string {
	if delimiter == "" {
		return ""
	}
	i := strings.Index(key[len(prefix):], delimiter)
	if i < 0 {
		return ""
	}
	return key[:len(prefix)+i+len(delimiter)]
}

// start is where a page begins: at key, behind it, or behind all that begins with it.
type start struct {
	key   string
	after bool
	skip  bool
}

// listStart works out where "after" leads: a marker that lies within a common prefix skips the whole prefix, since the
// page that ended there has told it.
func listStart(prefix, delimiter, after string) start {
	if after == "" || after < prefix {
		return start{key: prefix}
	}
	if strings.HasPrefix(after, prefix) {
		if p := commonPrefix(after, prefix, delimiter); p != "" {
			return start{key: p, skip: true}
		}
	}
	return start{key: after, after: true}
}
