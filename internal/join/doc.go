// Package join lets a new node into a cluster, and renews the certificates of those that are in.
//
// A token (token.go) is shown once to a person, who carries it to the new machine. It names the cluster, the fingerprint of
// the cluster's authority, and a secret of which the cluster keeps the hash. The new node (ask.go) connects to a node of the
// cluster, which must present a certificate of that authority, before it shows the secret. The cluster's node (admit.go) checks
// clock, format, token, and that the new node can be reached where it says, by a connection back on which the new node proves
// that it has the key of its request; it then uses the token up and commits the node's row in one commit, and signs.
//
// Invariants: nothing secret is sent to a server that has not proven to be of the token's cluster; a token admits one node;
// a refused node leaves no row; a node that did not get its answer can ask again with the same key.
package join

import (
	"crypto/sha256"
	"time"

	"cairn"
	"cairn/internal/rpc"
)

const (
	// Path is where a node of the meta role answers those that join: to anybody.
	Path = "/join"
	// RenewPath is where it renews certificates: to nodes alone.
	RenewPath = "/renew"

	// MaxSkew is how far a joining node's clock may be off.
	MaxSkew = time.Minute

	maxBody = 64 << 10
)

// Request is what a new node sends. Its ID, address and roles are its own choice, within the token.
type Request struct {
	Secret []byte     `json:"secret"`
	Node   cairn.Node `json:"node"`
	// CSR is the certificate request, whose key the node shows again when it is called back.
	CSR  []byte    `json:"csr"`
	Time time.Time `json:"time"` // by the node's clock
}

// Answer is what the cluster sends to a node that it has let in.
type Answer struct {
	Authority []byte `json:"authority"` // its certificate in PEM
	Cert      []byte `json:"cert"`      // the node's, in PEM
	// AuthorityKey goes to nodes of the meta role alone: they let others in.
	AuthorityKey []byte       `json:"authority_key,omitempty"`
	Settings     Settings     `json:"settings"`
	Node         cairn.Node   `json:"node"`
	Nodes        []cairn.Node `json:"nodes"`
}

// Settings are what all nodes of a cluster share.
type Settings struct {
	Profile cairn.Profile `json:"profile"` // of new volumes
	// GossipKey encrypts gossip between the nodes: 32 bytes.
	GossipKey []byte `json:"gossip_key,omitempty"`
	// AccessKey and SecretKey are the root identity's; nodes that serve no clients do not get them.
	AccessKey string `json:"access_key,omitempty"`
	SecretKey string `json:"secret_key,omitempty"`
	// Files are what all nodes that serve clients keep alike in their directories, by name: keys that seal identities and
	// objects. Nodes that serve no clients do not get them.
	Files map[string][]byte `json:"files,omitempty"`
}

// keyHash identifies a request's key.
func keyHash(csr []byte) (hash [sha256.Size]byte, err error) {
	r, err := rpc.ParseRequest(csr)
	if err != nil {
		return hash, err
	}
	return sha256.Sum256(r.RawSubjectPublicKeyInfo), nil
}
