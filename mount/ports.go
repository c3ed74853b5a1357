package mount

import (
	"context"
	"errors"
	"io"
	"time"
)

// Store is what a mount reads from. Safe for concurrent use.
type Store interface {
	// Endpoint names the store in the cache: the same for the same objects.
	Endpoint() string
	// List returns a page of the objects and common prefixes (up to the next "/") behind prefix, in order of their keys.
	// The page after it is asked for with its Next; "" begins.
	List(ctx context.Context, prefix, next string) (Page, error)
	// Head describes an object. Errors: ErrAbsent.
	Head(ctx context.Context, key string) (Object, error)
	// Read returns n bytes from off on, of exactly the object that o describes. Errors: ErrAbsent, ErrChanged.
	Read(ctx context.Context, o Object, off, n int64) (io.ReadCloser, error)
}

// Errors of a Store that mean more than "try again".
var (
	// ErrAbsent tells that there is no such object.
	ErrAbsent = errors.New("no such object")
	// ErrChanged tells that the object is not the one that was asked for any more.
	ErrChanged = errors.New("object has changed")
	// ErrRefused tells that the store does not let us.
	ErrRefused = errors.New("access denied")
	// ErrUnfit tells that the store does not take such a request at all.
	ErrUnfit = errors.New("not a request that the store takes")
)

// Object is one version of an object.
type Object struct {
	Key      string
	Size     int64
	ETag     string // without quotes
	Modified time.Time
}

// Page is a part of a listing.
type Page struct {
	Objects  []Object
	Prefixes []string // with their "/"
	Next     string   // "": this was the last page
}
