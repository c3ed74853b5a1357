package meta

import (
	"fmt"
	"time"
	"unicode/utf8"

	"cairn"
	"cairn/events"
	"cairn/lifecycle"
	"cairn/meta/replica"
)

// maxKeyBytes is S3's limit of a key.
const maxKeyBytes = 1024

func validKey(key string) error {
	if len(key) == 0 || len(key) > maxKeyBytes {
		return invalid("a key has 1 to %d bytes, not %d", maxKeyBytes, len(key))
	}
	if !utf8.ValidString(key) {
		return invalid("a key is UTF-8")
	}
	return nil
}

// object is a key within a change: its current version, and what becomes of it.
type object struct {
	t       *txn
	bucket  cairn.Bucket
	key     string
	current *versionRow // nil: there is none, or a delete marker is newest
	row     []byte      // of current, as stored
	newest  cairn.VersionID
	rules   *lifecycle.Config
	moved   bool        // what is put comes from another key of the bucket
	bypass  bool        // whoever removes a version may lift a GOVERNANCE retention
	event   events.Kind // of what is put; "": as the caller has it
	expires bool        // a lifecycle rule removes or hides
	// Differences for the statistics.
	objects, versions, bytes int64
}

// object reads a key's current version and makes the change conflict with all others of the key.
func (t *txn) object(b cairn.Bucket, key string) (*object, error) {
	rules, err := t.rules.of(&b)
	if err != nil {
		return nil, err
	}
	o := &object{t: t, bucket: b, key: key, rules: rules}
	cur := objectKey(famCurrent, b.ID, key)
	row, found, err := t.get(cur)
	if err != nil {
		return nil, err
	}
	t.batch.Touch(cur)
	if found {
		r, err := decodeVersion(row)
		if err != nil {
			return nil, err
		}
		r.v.Bucket, r.v.Key = b.Name, key
		o.current, o.row, o.newest = &r, row, r.v.ID
		return o, nil
	}
	if b.Version == cairn.VersioningOff {
		return o, nil // an unversioned bucket has no older versions
	}
	older, err := o.newestOlder(0)
	if older != nil {
		o.newest = older.v.ID
	}
	return o, err
}

func (o *object) version() *cairn.Version {
	if o.current == nil {
		return nil
	}
	return &o.current.v
}

// nextID returns the ID of a version that is committed now: it orders behind all others of the key.
func (o *object) nextID() cairn.VersionID {
	return max(cairn.VersionID(o.t.now.UnixNano()), o.newest+1)
}

// done books the statistics.
func (o *object) done() { o.t.count(o.bucket.ID, o.objects, o.versions, o.bytes, 0) }

// put makes v the current version: the one before it is replaced or kept by the bucket's versioning state.
func (o *object) put(v *cairn.Version, upload string) error {
	v.ID = o.nextID()
	v.Null = o.bucket.Version != cairn.VersioningEnabled
	v.Modified = v.Modified.UTC()
	if v.Modified.IsZero() {
		v.Modified = o.t.now.Truncate(time.Millisecond)
	}
	if err := o.lock(v); err != nil {
		return err
	}
	if err := o.makeRoom(v.Null); err != nil {
		return err
	}
	if !o.moved {
		if err := o.t.fits(&o.bucket, v.Size+o.bytes); err != nil {
			return err
		}
	}
	v.Versioned = o.bucket.Version != cairn.VersioningOff
	r := versionRow{v: *v, upload: upload, tags: encodeTags(v.Tags)}
	r.detail, r.inline = encodeDetail(v)
	t := o.t
	if r.inline {
		t.batch.Put(versionKey(famInline, o.bucket.ID, o.key, v.ID), v.Layout.Inline)
	}
	if len(r.detail) > maxRowDetail {
		for rest := r.detail; len(rest) > 0; r.pages++ {
			n := min(len(rest), pageBytes)
			t.batch.Put(pageKey(o.bucket.ID, o.key, v.ID, r.pages), rest[:n])
			rest = rest[n:]
		}
		r.detail = nil
	}
	t.batch.Put(objectKey(famCurrent, o.bucket.ID, o.key), r.encode())
	o.objects++
	o.versions++
	o.bytes += v.Size
	if err := o.tell(o.created(), v); err != nil || o.rules == nil {
		return err
	}
	if err := o.schedule(&r); err != nil {
		return err
	}
	return o.t.rules.setExpiry(&o.bucket, v)
}

// makeRoom takes the current version out of its place: it is removed if the newcomer (null or not) replaces it, and else
// kept among the older ones. A null newcomer also replaces a null version among the older ones.
func (o *object) makeRoom(null bool) error {
	replaced, err := o.olderNull(null)
	if err != nil {
		return err
	}
	if replaced != nil {
		if err := o.removeOlder(replaced); err != nil {
			return err
		}
	}
	if o.current != nil {
		if null && o.current.v.Null {
			return o.removeCurrent()
		}
		o.t.batch.Put(olderKey(o.bucket.ID, o.key, o.current.v.ID), o.row)
		if o.current.v.Null {
			o.t.batch.Put(objectKey(famNull, o.bucket.ID, o.key), appendID(nil, uint64(o.current.v.ID)))
		}
		o.t.batch.Delete(objectKey(famCurrent, o.bucket.ID, o.key))
		o.objects--
	}
	return o.succeeded()
}

// succeeded has the lifecycle rules know that the newest version so far is so no more.
func (o *object) succeeded() error {
	switch {
	case o.rules == nil || o.newest == 0:
		return nil
	case o.current == nil:
		o.succeed(&lifecycle.Version{Marker: true})
		return nil
	}
	f, err := o.current.facts()
	if err != nil {
		return err
	}
	o.succeed(&f)
	return o.unschedule(o.current)
}

// olderNull returns the null version among the older ones, if a null newcomer is to replace it.
func (o *object) olderNull(null bool) (*versionRow, error) {
	if !null || o.bucket.Version == cairn.VersioningOff || o.current != nil && o.current.v.Null {
		return nil, nil
	}
	id, found, err := o.nullID()
	if err != nil || !found {
		return nil, err
	}
	return o.older(id)
}

// nullID returns the ID of the null version among the older ones.
func (o *object) nullID() (cairn.VersionID, bool, error) {
	row, found, err := o.t.get(objectKey(famNull, o.bucket.ID, o.key))
	if err != nil || !found {
		return 0, false, err
	}
	id, err := decodeNumber(row)
	return cairn.VersionID(id), true, err
}

// older reads one older version; nil if there is none.
func (o *object) older(id cairn.VersionID) (*versionRow, error) {
	row, found, err := o.t.get(olderKey(o.bucket.ID, o.key, id))
	if err != nil || !found {
		return nil, err
	}
	r, err := decodeVersion(row)
	r.v.Bucket, r.v.Key = o.bucket.Name, o.key
	return &r, err
}

// newestOlder returns the newest of the older versions but for the one that is being removed; nil if there is none.
func (o *object) newestOlder(but cairn.VersionID) (found *versionRow, err error) {
	return newestOlder(o.t.view, o.bucket.ID, o.key, but)
}

func newestOlder(w *replica.View, bucket uint64, key string, but cairn.VersionID) (found *versionRow, err error) {
	prefix := escapedKey(famOlder, bucket, key)
	err = w.Walk(prefix, after(prefix), func(c replica.Cursor) error {
		for ; c.Valid(); c.Next() {
			row, err := c.Value()
			if err != nil {
				return err
			}
			r, err := decodeVersion(append([]byte(nil), row...))
			if err != nil {
				return err
			}
			if r.v.ID != but {
				found = &r
				return nil
			}
		}
		return nil
	})
	return found, err
}

// removeCurrent removes the current version for good; nothing takes its place yet.
func (o *object) removeCurrent() error {
	if err := o.guard(o.current); err != nil {
		return err
	}
	o.t.batch.Delete(objectKey(famCurrent, o.bucket.ID, o.key))
	o.objects--
	if err := o.unschedule(o.current); err != nil {
		return err
	}
	return o.release(o.current)
}

// removeOlder removes an older version or a delete marker for good.
func (o *object) removeOlder(r *versionRow) error {
	if err := o.guard(r); err != nil {
		return err
	}
	o.t.batch.Delete(olderKey(o.bucket.ID, o.key, r.v.ID))
	if r.v.Null {
		o.t.batch.Delete(objectKey(famNull, o.bucket.ID, o.key))
	}
	return o.release(r)
}

// release lets go of a version's body and extra rows.
func (o *object) release(r *versionRow) error {
	o.versions--
	o.bytes -= r.v.Size
	v := r.v
	if err := readDetail(o.t.view, o.bucket.ID, o.key, r, &v); err != nil {
		return err
	}
	o.t.unlink(v.Layout.Blobs)
	if r.inline {
		o.t.batch.Delete(versionKey(famInline, o.bucket.ID, o.key, v.ID))
	}
	for page := range r.pages {
		o.t.batch.Delete(pageKey(o.bucket.ID, o.key, v.ID, page))
	}
	return nil
}

// promote makes the newest remaining version current, unless it is a delete marker. but is the older version that the
// change removes, 0 for none.
func (o *object) promote(but cairn.VersionID) error {
	if o.bucket.Version == cairn.VersioningOff {
		return nil
	}
	r, err := o.newestOlder(but)
	if err != nil || r == nil || r.v.DeleteMarker {
		return err
	}
	o.t.batch.Delete(olderKey(o.bucket.ID, o.key, r.v.ID))
	if r.v.Null {
		o.t.batch.Delete(objectKey(famNull, o.bucket.ID, o.key))
	}
	o.t.batch.Put(objectKey(famCurrent, o.bucket.ID, o.key), r.encode())
	o.objects++
	return o.schedule(r)
}

// readDetail decodes a row's detail into v, from its pages if it has any. A page may be gone because the version was
// removed since its row was read: ErrNotFound.
func readDetail(w *replica.View, bucket uint64, key string, r *versionRow, v *cairn.Version) error {
	detail := r.detail
	for page := range r.pages {
		var found bool
		var err error
		if detail, found, err = w.Get(pageKey(bucket, key, r.v.ID, page), detail); err != nil {
			return err
		}
		if !found {
			return errVanished
		}
	}
	return decodeDetail(detail, v)
}

var errVanished = fmt.Errorf("version was removed meanwhile: %w", cairn.ErrNotFound)
