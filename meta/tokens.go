package meta

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"cairn"
	"cairn/meta/replica"
)

// Token is a permission to join the cluster, once. Its secret is known to whoever it was shown to; here is its hash.
type Token struct {
	Hash    [sha256.Size]byte // of the secret; the row's key
	Roles   cairn.Roles       // that the new node may have
	Created time.Time
	Expires time.Time
	// Used is when a node joined with it, zero while it is unused; then Node tells which, and Key is the SHA-256 of its
	// public key: the same node may ask again if it did not get the answer.
	Used time.Time
	Node cairn.NodeID
	Key  [sha256.Size]byte
}

const (
	// maxTokens bounds the tokens that exist at once; expired ones go when new ones are made.
	maxTokens = 1000
	// tokenMemory is how long an expired token is kept, so that who tries it learns why it does not work.
	tokenMemory = 24 * time.Hour
)

// CreateToken commits a token, and forgets those that expired a day ago. Errors: ErrInvalid, ErrOverloaded (too many).
func (s *Store) CreateToken(ctx context.Context, k Token) error {
	if k.Roles == 0 || k.Roles&^cairn.AllRoles != 0 || !k.Expires.After(k.Created) {
		return fail("meta.create token", "", invalid("roles %q until %v", k.Roles, k.Expires))
	}
	had, err := s.Tokens(ctx)
	if err != nil {
		return fail("meta.create token", "", err)
	}
	_, err = s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		kept := 0
		for i := range had {
			if t.now.Sub(had[i].Expires) > tokenMemory {
				t.batch.Delete(tokenKey(had[i].Hash))
				continue
			}
			kept++
		}
		if kept >= maxTokens {
			return fmt.Errorf("%d tokens exist; they expire: %w", kept, cairn.ErrOverloaded)
		}
		t.batch.Put(tokenKey(k.Hash), encodeToken(&k))
		return nil
	})
	return fail("meta.create token", "", err)
}

// Token returns the row of a secret's hash, expired and used ones too. Errors: ErrNotFound.
func (s *Store) Token(ctx context.Context, hash [sha256.Size]byte) (k Token, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		row, err := getRow(w, tokenKey(hash))
		if err == nil {
			k, err = decodeToken(hash, row)
		}
		return err
	})
	return k, fail("meta.token", "", err)
}

// Tokens lists all tokens.
func (s *Store) Tokens(ctx context.Context) (list []Token, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		list = nil
		return w.Walk([]byte{famToken}, []byte{famToken + 1}, func(c replica.Cursor) error {
			for ; c.Valid(); c.Next() {
				row, err := c.Value()
				if err != nil {
					return err
				}
				if len(c.Key()) != 1+sha256.Size {
					return corruptRow("token's key")
				}
				k, err := decodeToken([sha256.Size]byte(c.Key()[1:]), row)
				if err != nil {
					return err
				}
				list = append(list, k)
			}
			return nil
		})
	})
	return list, fail("meta.tokens", "", err)
}

// Join uses a token up and commits the row of the node that joins with it, in one commit: of many that try, one succeeds.
// key is the SHA-256 of the node's public key. The node that used the token gets its row again if it asks again with the same
// key. Errors: ErrForbidden (no such token, expired, used by another node, roles beyond it), and PutNode's.
func (s *Store) Join(ctx context.Context, hash, key [sha256.Size]byte, n cairn.Node) (put cairn.Node, err error) {
	if err := n.Validate(); err != nil {
		return cairn.Node{}, fail("meta.join", n.ID.String(), err)
	}
	_, err = s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		row, found, err := t.get(tokenKey(hash))
		if err != nil {
			return err
		}
		var k Token
		if found {
			if k, err = decodeToken(hash, row); err != nil {
				return err
			}
		}
		if err := k.Allows(found, n.ID, key, n.Roles, t.now); err != nil {
			return err
		}
		if !k.Used.IsZero() {
			put, found, err = t.node(n.ID)
			if err == nil && !found {
				err = fmt.Errorf("the token was used, and the node's row is not there: %w", cairn.ErrCorrupt)
			}
			return err
		}
		if put, err = t.putNode(n); err != nil {
			return err
		}
		k.Used, k.Node, k.Key = t.now, n.ID, key
		t.batch.Put(tokenKey(hash), encodeToken(&k))
		return nil
	})
	return put, fail("meta.join", n.ID.String(), err)
}

// CheckToken tells whether Join would let the node in now, without using the token up. Errors: those of Join.
func (s *Store) CheckToken(ctx context.Context, hash, key [sha256.Size]byte, n cairn.Node) error {
	if err := n.Validate(); err != nil {
		return fail("meta.check token", n.ID.String(), err)
	}
	k, err := s.Token(ctx, hash)
	found := !isNotFound(err)
	if err != nil && found {
		return fail("meta.check token", n.ID.String(), err)
	}
	return fail("meta.check token", n.ID.String(), k.Allows(found, n.ID, key, n.Roles, time.Now()))
}

// Allows tells whether a node may join with the token now; found tells whether there is such a token at all. Errors:
// ErrForbidden, which says what to do.
func (k *Token) Allows(found bool, node cairn.NodeID, key [sha256.Size]byte, roles cairn.Roles, now time.Time) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf(format+"; make a new one with `cairn token create`: %w", append(args, cairn.ErrForbidden)...)
	}
	switch {
	case !found:
		return refuse("the cluster knows no such token, or it expired long ago")
	case !k.Used.IsZero() && (k.Node != node || k.Key != key):
		return refuse("the token was used by node %s at %s, and works once", k.Node, k.Used.Format(time.RFC3339))
	case now.After(k.Expires) && k.Used.IsZero():
		return refuse("the token expired at %s", k.Expires.Format(time.RFC3339))
	case !k.Roles.Has(roles):
		return refuse("the token is for the roles %s, and the node asks for %s", k.Roles, roles)
	}
	return nil
}

func tokenKey(hash [sha256.Size]byte) []byte { return append([]byte{famToken}, hash[:]...) }

func encodeToken(k *Token) []byte {
	row := putUint(nil, 1, uint64(k.Roles))
	row = putTime(row, 2, k.Created)
	row = putTime(row, 3, k.Expires)
	if k.Used.IsZero() {
		return row
	}
	row = putTime(row, 4, k.Used)
	row = putBytes(row, 5, k.Node[:])
	return putBytes(row, 6, k.Key[:])
}

func decodeToken(hash [sha256.Size]byte, row []byte) (k Token, err error) {
	k.Hash = hash
	err = eachField(row, func(n protowire.Number, f field) error {
		switch n {
		case 1:
			k.Roles = cairn.Roles(f.num)
		case 2:
			k.Created = f.time()
		case 3:
			k.Expires = f.time()
		case 4:
			k.Used = f.time()
		case 5:
			if len(f.bytes) != len(k.Node) {
				return corruptRow("token's node")
			}
			k.Node = cairn.NodeID(f.bytes)
		case 6:
			if len(f.bytes) != len(k.Key) {
				return corruptRow("token's key")
			}
			k.Key = [sha256.Size]byte(f.bytes)
		}
		return nil
	})
	return k, err
}
