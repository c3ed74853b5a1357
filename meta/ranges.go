package meta

import (
	"bytes"
	"slices"

	"cairn/meta/replica"
)

// ranges routes every request to the group of voters that holds its rows: by bucket and key for what belongs to an
// object, to group zero for what belongs to the cluster. There is one group today; no row's key names its group, so a
// split changes this map alone.
type ranges struct {
	starts []rangeStart // sorted; the first covers everything from the beginning
	groups []*replica.Group
}

// rangeStart is where a group's part of the keys begins; it ends where the next begins.
type rangeStart struct {
	bucket uint64
	key    []byte
	group  int
}

func oneRange(g *replica.Group) *ranges {
	return &ranges{starts: []rangeStart{{}}, groups: []*replica.Group{g}}
}

func (r *ranges) all() []*replica.Group { return r.groups }

// system is the group of volumes, drives, damage, settings, and the names of buckets.
func (r *ranges) system() *replica.Group { return r.groups[0] }

// of returns the group of an object's rows.
func (r *ranges) of(bucket uint64, key string) *replica.Group {
	i, found := slices.BinarySearchFunc(r.starts, rangeStart{bucket: bucket, key: []byte(key)}, func(a, b rangeStart) int {
		switch {
		case a.bucket < b.bucket:
			return -1
		case a.bucket > b.bucket:
			return 1
		}
		return bytes.Compare(a.key, b.key)
	})
	if !found {
		i--
	}
	return r.groups[r.starts[i].group]
}
