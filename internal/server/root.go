package server

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"cairn"
	"cairn/meta"
)

// The root credentials are the cluster's: a node that joins is given them, unless it only stores data. Such a node keeps no
// secret, and knows the root identity by a row that the metadata leader's process keeps: the access key, and what PBKDF2
// (RFC 8018) makes of the secret.

const (
	rootRowName    = "root"
	rootIterations = 100_000
	rootHashBytes  = 32
	rootPoll       = time.Second
	rootTimeout    = 3 * time.Second
	rootFresh      = 10 * time.Second // how long a data node relies on the row that it has read
)

// rootRow is what everybody in the cluster may know of the root credentials.
type rootRow struct {
	AccessKey  string `json:"access_key"`
	Salt       []byte `json:"salt"`
	Iterations int    `json:"iterations"`
	Hash       []byte `json:"hash"`
}

func newRootRow(access, secret string) (r rootRow, err error) {
	r = rootRow{AccessKey: access, Salt: make([]byte, 16), Iterations: rootIterations}
	rand.Read(r.Salt) // never fails since Go 1.24
	r.Hash, err = pbkdf2.Key(sha256.New, secret, r.Salt, r.Iterations, rootHashBytes)
	return r, err
}

// matches tells whether these are the root credentials.
func (r rootRow) matches(access, secret string) bool {
	hash, err := pbkdf2.Key(sha256.New, secret, r.Salt, r.Iterations, rootHashBytes)
	return err == nil && subtle.ConstantTimeCompare([]byte(access), []byte(r.AccessKey))&subtle.ConstantTimeCompare(hash, r.Hash) == 1
}

func readRoot(ctx context.Context, m *meta.Store) (r rootRow, err error) {
	ctx, cancel := context.WithTimeout(ctx, rootTimeout)
	defer cancel()
	b, err := m.Config(ctx, rootRowName)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil || r.Iterations < 1 || len(r.Hash) != rootHashBytes {
		return r, &cairn.Error{Op: "server.root", Err: fmt.Errorf("row %q: %w: %w", rootRowName, err, cairn.ErrCorrupt)}
	}
	return r, nil
}

// rootKeeper keeps the row on nodes that have the credentials.
type rootKeeper struct {
	meta           *meta.Store
	access, secret string
	logger         *slog.Logger
}

// publish makes the row that of this process's credentials. The process beside the metadata's leader does it.
func (k rootKeeper) publish(ctx context.Context) error {
	return untilDone(ctx, func() error {
		have, err := readRoot(ctx, k.meta)
		if err == nil && have.matches(k.access, k.secret) {
			return nil
		}
		if err != nil && !errors.Is(err, cairn.ErrNotFound) && !errors.Is(err, cairn.ErrCorrupt) {
			return err
		}
		row, err := newRootRow(k.access, k.secret)
		if err != nil {
			return err
		}
		b, err := json.Marshal(row)
		if err != nil {
			return err
		}
		return k.meta.PutConfig(ctx, rootRowName, b)
	})
}

// check tells people that this process answers to other root credentials than the cluster, if it does.
func (k rootKeeper) check(ctx context.Context) error {
	return untilDone(ctx, func() error {
		have, err := readRoot(ctx, k.meta)
		if err == nil && !have.matches(k.access, k.secret) && !k.meta.Leads() {
			k.logger.Warn("this node's root credentials are not those of the cluster: start every node with the same",
				"here", k.access, "cluster", have.AccessKey)
		}
		return err
	})
}

// untilDone tries again and again until it has succeeded or ctx ends.
func untilDone(ctx context.Context, try func() error) error {
	for try() != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rootPoll):
		}
	}
	return nil
}

// rootKnower checks root credentials on a node that has none.
type rootKnower struct {
	meta *meta.Store
	turn chan struct{} // one check at a time, since each costs tens of milliseconds; who holds it has what follows
	row  rootRow
	at   time.Time         // when row was read
	good [sha256.Size]byte // of the last credentials that matched row
}

func newRootKnower(m *meta.Store) *rootKnower {
	return &rootKnower{meta: m, turn: make(chan struct{}, 1)}
}

// root tells whether these are the cluster's root credentials. While metadata does not answer, the row that was read last
// counts.
func (k *rootKnower) root(ctx context.Context, access, secret string) bool {
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return false
	}
	if time.Since(k.at) > rootFresh {
		if now, err := readRoot(ctx, k.meta); err == nil {
			k.row, k.at, k.good = now, time.Now(), [sha256.Size]byte{}
		}
	}
	sum := sha256.Sum256([]byte(access + "\x00" + secret))
	if subtle.ConstantTimeCompare(sum[:], k.good[:]) == 1 {
		return true
	}
	if len(k.row.Hash) == 0 || !k.row.matches(access, secret) {
		return false
	}
	k.good = sum
	return true
}
