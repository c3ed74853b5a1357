package join

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"cairn"
	"cairn/internal/rpc"
)

// Renewals is the handler of RenewPath: it signs a new certificate for the caller, with the roles of its row.
type Renewals struct {
	Cluster   cairn.ClusterID
	Authority *rpc.Authority
	Rows      interface {
		Nodes(ctx context.Context) ([]cairn.Node, error)
	}
}

type renewal struct {
	CSR  []byte `json:"csr,omitempty"`
	Cert []byte `json:"cert,omitempty"`
}

// ServeHTTP answers one node.
func (n *Renewals) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q renewal
	caller, err := rpc.Caller(r)
	if err == nil {
		err = decode(w, r, &q)
	}
	var cert []byte
	if err == nil {
		cert, err = n.Sign(r.Context(), caller.Node, q.CSR)
	}
	if err != nil {
		rpc.WriteError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(renewal{Cert: cert}) // a node that is gone asks again
}

// Sign issues a certificate for a node that is a member.
func (n *Renewals) Sign(ctx context.Context, node cairn.NodeID, csr []byte) ([]byte, error) {
	rows, err := n.Rows.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if row.ID == node && row.State != cairn.NodeRemoved {
			return n.Authority.Sign(csr, rpc.Identity{Cluster: n.Cluster, Node: node, Roles: row.Roles}, time.Now(), rpc.NodeLife)
		}
	}
	return nil, fmt.Errorf("node %s is no member of the cluster: %w", node, cairn.ErrForbidden)
}

// Renewer keeps a node's certificate valid.
type Renewer struct {
	Credentials *rpc.Credentials
	// Sign gets a certificate for a request from somebody who has the authority.
	Sign func(ctx context.Context, csr []byte) (certPEM []byte, err error)
	// Save writes certificate and key down before they are used.
	Save   func(certPEM, keyPEM []byte) error
	Logger *slog.Logger
}

// retryRenewal is how long a renewal that failed waits. A third of the certificate's life is left when the first is due.
const retryRenewal = time.Minute

// Run renews until ctx ends.
func (n *Renewer) Run(ctx context.Context) error {
	for wait := time.Until(n.Credentials.RenewAt()); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		if err := n.renew(ctx); err != nil {
			n.Logger.Warn("the node's certificate could not be renewed", "expires", n.Credentials.Expires(), "err", err)
			wait = retryRenewal
			continue
		}
		n.Logger.Info("the node's certificate was renewed", "expires", n.Credentials.Expires())
		wait = max(time.Until(n.Credentials.RenewAt()), retryRenewal)
	}
}

func (n *Renewer) renew(ctx context.Context) error {
	csr, key, err := rpc.NewRequest()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	cert, err := n.Sign(ctx, csr)
	if err != nil {
		return err
	}
	// Saved first: a crash between the two must not leave a certificate on disk whose key is gone.
	if err := n.Save(cert, key); err != nil {
		return err
	}
	return n.Credentials.Replace(cert, key)
}

// Peers reaches nodes. *rpc.Dialer is one.
type Peers interface {
	Peer(node cairn.NodeID) (*http.Client, string, error)
}

// SignAt asks nodes for a certificate, one after the other.
func SignAt(ctx context.Context, peers Peers, nodes []cairn.NodeID, csr []byte) ([]byte, error) {
	errs := []error{fmt.Errorf("no node of the meta role signs: %w", cairn.ErrUnavailable)}
	for _, id := range nodes {
		cert, err := signAt(ctx, peers, id, csr)
		if err == nil {
			return cert, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func signAt(ctx context.Context, peers Peers, node cairn.NodeID, csr []byte) ([]byte, error) {
	client, base, err := peers.Peer(node)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(renewal{CSR: csr})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+RenewPath, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, cairn.ErrUnavailable)
	}
	defer r.Body.Close()
	if err := rpc.ReadError(r); err != nil {
		return nil, err
	}
	var a renewal
	if err := json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(&a); err != nil {
		return nil, fmt.Errorf("answer: %w: %w", err, cairn.ErrUnavailable)
	}
	return a.Cert, nil
}
