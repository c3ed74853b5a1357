package sse

import (
	"context"
	"crypto/rand"
	"fmt"

	"cairn"
)

// What can be wrong with the key of a request. Each wraps a root kind.
var (
	// ErrWrongKey: the key is not the one that the object was stored under.
	ErrWrongKey = fmt.Errorf("the key does not open the object: %w", cairn.ErrForbidden)
	// ErrNeedsKey: the object is under a client's key, and the request brings none.
	ErrNeedsKey = fmt.Errorf("the object is stored under a client's key: %w", cairn.ErrInvalid)
	// ErrNotApplicable: the request brings a key, and the object is not under one.
	ErrNotApplicable = fmt.Errorf("the object is not stored under a client's key: %w", cairn.ErrInvalid)
	// ErrUnknownKey: the key service knows no such key.
	ErrUnknownKey = fmt.Errorf("no such master key: %w", cairn.ErrInvalid)
	// ErrNoKMS: there is no key service.
	ErrNoKMS = fmt.Errorf("no key service is configured: %w", cairn.ErrInvalid)
)

func unknownKey(name string) error { return fail("sse.key", name, ErrUnknownKey) }

// KMS wraps data keys under named master keys that never leave it. Context is bound to what is wrapped, and must be given
// again. Errors: ErrUnknownKey, ErrWrongKey, ErrUnavailable.
type KMS interface {
	Wrap(ctx context.Context, key string, dataKey, context []byte) ([]byte, error)
	Unwrap(ctx context.Context, key string, wrapped, context []byte) ([]byte, error)
}

// Keys makes, wraps and opens data keys under every scheme. Its methods are safe for concurrent use.
type Keys struct {
	Store *Ring // of SSE-S3; required
	// Service serves SSE-KMS; nil: such requests are ErrNoKMS.
	Service KMS
	// DefaultKey is the service's key for requests that name none; "": they are ErrUnknownKey.
	DefaultKey string
}

// New makes a data key, and the record that goes with what it will seal. The record has no salt yet.
func (k *Keys) New(ctx context.Context, want cairn.EncryptionWish) (dataKey []byte, rec cairn.Encryption, err error) {
	dataKey = make([]byte, KeyBytes)
	rand.Read(dataKey)
	rec, err = k.Wrap(ctx, want, dataKey)
	return dataKey, rec, err
}

// Wrap makes the record of a data key that exists, under another scheme or master key.
func (k *Keys) Wrap(ctx context.Context, want cairn.EncryptionWish, dataKey []byte) (rec cairn.Encryption, err error) {
	rec = cairn.Encryption{Scheme: want.Scheme}
	switch want.Scheme {
	case cairn.SSES3:
		rec.Wrapped, err = k.Store.Wrap(ctx, StoreKey, dataKey, wrapContext(&rec))
	case cairn.SSEKMS:
		if k.Service == nil {
			return rec, fail("sse.wrap", want.KeyID, ErrNoKMS)
		}
		if rec.KeyID = want.KeyID; rec.KeyID == "" {
			rec.KeyID = k.DefaultKey
		}
		if rec.KeyID == "" || rec.KeyID == StoreKey {
			return rec, unknownKey(rec.KeyID)
		}
		rec.Context, rec.BucketKey = want.Context, want.BucketKey
		rec.Wrapped, err = k.Service.Wrap(ctx, rec.KeyID, dataKey, wrapContext(&rec))
	case cairn.SSEC:
		if len(want.CustomerKey) != KeyBytes {
			return rec, fail("sse.wrap", "", ErrNeedsKey)
		}
		rec.Wrapped, err = wrap(want.CustomerKey, 1, dataKey, wrapContext(&rec))
	default:
		err = fail("sse.wrap", string(want.Scheme), cairn.ErrInvalid)
	}
	return rec, err
}

// Open returns the data key of a record. customerKey is needed for SSE-C, and for nothing else.
func (k *Keys) Open(ctx context.Context, rec cairn.Encryption, customerKey []byte) ([]byte, error) {
	if (rec.Scheme != cairn.SSEC) && customerKey != nil {
		return nil, fail("sse.open key", "", ErrNotApplicable)
	}
	switch rec.Scheme {
	case cairn.SSES3:
		return k.Store.Unwrap(ctx, StoreKey, rec.Wrapped, wrapContext(&rec))
	case cairn.SSEKMS:
		if k.Service == nil {
			return nil, fail("sse.open key", rec.KeyID, ErrNoKMS)
		}
		return k.Service.Unwrap(ctx, rec.KeyID, rec.Wrapped, wrapContext(&rec))
	case cairn.SSEC:
		if customerKey == nil {
			return nil, fail("sse.open key", "", ErrNeedsKey)
		}
		return unwrap(customerKey, rec.Wrapped, wrapContext(&rec))
	}
	return nil, fail("sse.open key", string(rec.Scheme), cairn.ErrCorrupt)
}

// Rewrap wraps a record's data key under the newest version of its master key. changed is false where there is nothing to do:
// the version is the newest already, or the key is a client's.
func (k *Keys) Rewrap(ctx context.Context, rec cairn.Encryption) (_ cairn.Encryption, changed bool, err error) {
	switch rec.Scheme {
	case cairn.SSES3:
		if !k.Store.Stale(StoreKey, rec.Wrapped) {
			return rec, false, nil
		}
	case cairn.SSEKMS:
		if ring, ok := k.Service.(*Ring); ok && !ring.Stale(rec.KeyID, rec.Wrapped) {
			return rec, false, nil
		}
	default:
		return rec, false, nil
	}
	dataKey, err := k.Open(ctx, rec, nil)
	if err != nil {
		return rec, false, err
	}
	fresh, err := k.Wrap(ctx, cairn.EncryptionWish{Context: rec.Context,
		EncryptionRule: cairn.EncryptionRule{Scheme: rec.Scheme, KeyID: rec.KeyID, BucketKey: rec.BucketKey}}, dataKey)
	fresh.Salt = rec.Salt
	return fresh, err == nil, err
}

// wrapContext binds a wrapped key to its scheme and the client's context.
func wrapContext(rec *cairn.Encryption) []byte {
	return []byte(string(rec.Scheme) + "\x00" + rec.Context)
}
