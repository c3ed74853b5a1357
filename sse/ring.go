package sse

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"cairn"
)

// StoreKey is the name of the ring's key for SSE-S3. Clients cannot name it.
const StoreKey = "sse-s3"

// Ring holds master keys by name, each in versions of which the newest wraps and all unwrap. It is a KMS. Safe for
// concurrent use.
type Ring struct {
	mu   sync.RWMutex
	keys map[string][]masterKey // versions in order, the newest last
}

type masterKey struct {
	Version uint32    `json:"version"`
	Key     []byte    `json:"key"`
	Created time.Time `json:"created"`
}

// ringFile is what a ring looks like at rest.
type ringFile struct {
	Keys map[string][]masterKey `json:"keys"`
}

// NewRing returns a ring with a fresh StoreKey.
func NewRing(now time.Time) *Ring {
	r := &Ring{keys: map[string][]masterKey{}}
	r.add(StoreKey, now)
	return r
}

// ParseRing reads what Marshal made. ErrInvalid for anything else: a ring that is not whole must not be taken for an empty one.
func ParseRing(text []byte) (*Ring, error) {
	var f ringFile
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fail("sse.parse ring", "", fmt.Errorf("%v: %w", err, cairn.ErrInvalid))
	}
	if len(f.Keys[StoreKey]) == 0 {
		return nil, fail("sse.parse ring", StoreKey, fmt.Errorf("the key is missing: %w", cairn.ErrInvalid))
	}
	for name, versions := range f.Keys {
		for i, k := range versions {
			if len(k.Key) != KeyBytes || k.Version == 0 || (i > 0 && k.Version <= versions[i-1].Version) {
				return nil, fail("sse.parse ring", name, fmt.Errorf("version %d is malformed: %w", k.Version, cairn.ErrInvalid))
			}
		}
		if len(versions) == 0 || !validKeyName(name) {
			return nil, fail("sse.parse ring", name, fmt.Errorf("no versions, or a bad name: %w", cairn.ErrInvalid))
		}
	}
	return &Ring{keys: f.Keys}, nil
}

// Marshal renders the ring, secrets included, for ParseRing.
func (r *Ring) Marshal() ([]byte, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return json.MarshalIndent(ringFile{r.keys}, "", "  ")
}

// maxKeyName is the length of AWS's longest key ARNs, roughly.
const maxKeyName = 256

func validKeyName(name string) bool {
	return name != "" && len(name) <= maxKeyName && !strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' })
}

// Create adds a key. ErrExists, ErrInvalid for a bad name.
func (r *Ring) Create(name string, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !validKeyName(name) {
		return fail("sse.create key", name, cairn.ErrInvalid)
	}
	if len(r.keys[name]) > 0 {
		return fail("sse.create key", name, cairn.ErrExists)
	}
	r.add(name, now)
	return nil
}

// Rotated returns a ring in which a key has a new version; what was wrapped under older ones still opens. The ring itself does not
// change: save the new one first, then let this one Adopt it, for what is wrapped under a version that is lost is lost. ErrUnknownKey.
func (r *Ring) Rotated(name string, now time.Time) (*Ring, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.keys[name]) == 0 {
		return nil, unknownKey(name)
	}
	next := &Ring{keys: maps.Clone(r.keys)}
	next.add(name, now)
	return next, nil
}

// Adopt takes over another ring's keys.
func (r *Ring) Adopt(next *Ring) {
	next.mu.RLock()
	keys := maps.Clone(next.keys)
	next.mu.RUnlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = keys
}

// Version is the number of a key's newest version, 0 if there is no such key.
func (r *Ring) Version(name string) uint32 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if versions := r.keys[name]; len(versions) > 0 {
		return versions[len(versions)-1].Version
	}
	return 0
}

func (r *Ring) add(name string, now time.Time) {
	k := masterKey{Version: 1, Key: make([]byte, KeyBytes), Created: now.UTC()}
	rand.Read(k.Key)
	if old := r.keys[name]; len(old) > 0 {
		k.Version = old[len(old)-1].Version + 1
	}
	r.keys[name] = append(slices.Clip(r.keys[name]), k)
}

// Names lists the keys that clients may name, sorted.
func (r *Ring) Names() (names []string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for name := range r.keys {
		if name != StoreKey {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// wrapped is format, key version, salt, sealed data key.
const (
	wrapFormat  = 1
	wrapHead    = 1 + 4 + SaltBytes
	wrapLabel   = "cairn wrapped key 1"
	wrappedSize = wrapHead + KeyBytes + cairn.SealedTagBytes
)

// Wrap implements KMS.
func (r *Ring) Wrap(_ context.Context, name string, dataKey, context []byte) ([]byte, error) {
	r.mu.RLock()
	versions := r.keys[name]
	r.mu.RUnlock()
	if len(versions) == 0 {
		return nil, unknownKey(name)
	}
	k := versions[len(versions)-1]
	return wrap(k.Key, k.Version, dataKey, context)
}

// Unwrap implements KMS.
func (r *Ring) Unwrap(_ context.Context, name string, wrapped, context []byte) ([]byte, error) {
	version, err := wrapVersion(wrapped)
	if err != nil {
		return nil, err
	}
	r.mu.RLock()
	versions := r.keys[name]
	r.mu.RUnlock()
	for _, k := range versions {
		if k.Version == version {
			return unwrap(k.Key, wrapped, context)
		}
	}
	return nil, unknownKey(fmt.Sprintf("%s version %d", name, version))
}

// Stale tells whether something was wrapped under an older version of a key than the newest.
func (r *Ring) Stale(name string, wrapped []byte) bool {
	version, err := wrapVersion(wrapped)
	r.mu.RLock()
	defer r.mu.RUnlock()
	versions := r.keys[name]
	return err == nil && len(versions) > 0 && version < versions[len(versions)-1].Version
}

// wrap seals a data key. The key that seals it is derived with a random salt, so that no number of data keys wears out a
// master key (a random nonce of 96 bits would, after some 2^32).
func wrap(master []byte, version uint32, dataKey, context []byte) ([]byte, error) {
	out := make([]byte, wrapHead, wrappedSize)
	out[0] = wrapFormat
	binary.BigEndian.PutUint32(out[1:], version)
	rand.Read(out[5:])
	aead, err := newAEAD(derive(master, wrapLabel, out[5:wrapHead]))
	if err != nil {
		return nil, err
	}
	return aead.Seal(out, make([]byte, nonceBytes), dataKey, context), nil
}

func wrapVersion(wrapped []byte) (uint32, error) {
	if len(wrapped) != wrappedSize || wrapped[0] != wrapFormat {
		return 0, fail("sse.unwrap", "", fmt.Errorf("not a wrapped key: %w", cairn.ErrCorrupt))
	}
	return binary.BigEndian.Uint32(wrapped[1:]), nil
}

// unwrap opens what wrap made. ErrForbidden if the key or the context is another one.
func unwrap(master, wrapped, context []byte) ([]byte, error) {
	if _, err := wrapVersion(wrapped); err != nil {
		return nil, err
	}
	aead, err := newAEAD(derive(master, wrapLabel, wrapped[5:wrapHead]))
	if err != nil {
		return nil, err
	}
	key, err := aead.Open(nil, make([]byte, nonceBytes), wrapped[wrapHead:], context)
	if err != nil {
		return nil, fail("sse.unwrap", "", ErrWrongKey)
	}
	return key, nil
}
