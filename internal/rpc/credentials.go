package rpc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"cairn"
)

// Credentials are a node's certificate and key, and the authority that it trusts. They can be replaced while they are in
// use: connections made afterwards use the new ones. Safe for concurrent use.
type Credentials struct {
	authority *x509.Certificate
	roots     *x509.CertPool
	current   atomic.Pointer[issued]

	mu      sync.RWMutex
	removed map[cairn.NodeID]bool // whose certificates are refused though they are valid
}

type issued struct {
	identity Identity
	cert     tls.Certificate
}

// NewCredentials checks that the certificate was signed by the authority for the key. Errors: ErrCorrupt, ErrForbidden.
func NewCredentials(authorityPEM, certPEM, keyPEM []byte) (*Credentials, error) {
	ca, err := parseCert(authorityPEM)
	if err != nil {
		return nil, err
	}
	c := &Credentials{authority: ca, roots: x509.NewCertPool()}
	c.roots.AddCert(ca)
	return c, c.Replace(certPEM, keyPEM)
}

// Replace puts a new certificate and key in force. It may have expired: then it is still the node's name, and what makes
// its peers refuse it says so.
func (c *Credentials) Replace(certPEM, keyPEM []byte) error {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return fmt.Errorf("certificate and key: %w: %w", err, cairn.ErrCorrupt)
	}
	id, err := identityOf(pair.Leaf)
	if err != nil {
		return err
	}
	if err := pair.Leaf.CheckSignatureFrom(c.authority); err != nil {
		return fmt.Errorf("the certificate is not of this cluster's authority: %w: %w", err, cairn.ErrForbidden)
	}
	// The authority's certificate goes along, so that a joining node can compare it with its token's fingerprint.
	pair.Certificate = append(pair.Certificate, c.authority.Raw)
	c.current.Store(&issued{identity: id, cert: pair})
	return nil
}

// Identity is the node's own.
func (c *Credentials) Identity() Identity { return c.current.Load().identity }

// Fingerprint is the authority's.
func (c *Credentials) Fingerprint() Fingerprint { return FingerprintOf(c.authority) }

// RenewAt is when two thirds of the certificate's life are over.
func (c *Credentials) RenewAt() time.Time {
	leaf := c.current.Load().cert.Leaf
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 3 * 2)
}

// Expires is when the certificate's life is over.
func (c *Credentials) Expires() time.Time { return c.current.Load().cert.Leaf.NotAfter }

// Refuse sets which nodes were removed: connections with their certificates fail from now on.
func (c *Credentials) Refuse(removed map[cairn.NodeID]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removed = removed
}

func (c *Credentials) isRemoved(id cairn.NodeID) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.removed[id]
}

// verify returns whose certificates these are, the leaf first. Errors: ErrForbidden, each with what to do.
func (c *Credentials) verify(certs []*x509.Certificate, now time.Time) (Identity, error) {
	id, err := verifyNode(certs, c.roots, now)
	if err != nil {
		return id, err
	}
	if own := c.Identity().Cluster; id.Cluster != own {
		return id, fmt.Errorf("node %s is of cluster %s, this is cluster %s: %w", id.Node, id.Cluster, own, cairn.ErrForbidden)
	}
	if c.isRemoved(id.Node) {
		return id, removedError(id.Node)
	}
	return id, nil
}

// stillGood checks what may have changed since the handshake verified the certificate: connections live long.
func (c *Credentials) stillGood(cert *x509.Certificate, now time.Time) (Identity, error) {
	id, err := identityOf(cert)
	switch {
	case err != nil:
		return id, err
	case now.After(cert.NotAfter):
		return id, fmt.Errorf("%w: %w", explain(x509.CertificateInvalidError{Cert: cert, Reason: x509.Expired}, cert, now), cairn.ErrForbidden)
	case c.isRemoved(id.Node):
		return id, removedError(id.Node)
	}
	return id, nil
}

func removedError(id cairn.NodeID) error {
	return fmt.Errorf("node %s was removed from this cluster; to bring the machine back, join it anew with an empty data directory: %w",
		id, cairn.ErrForbidden)
}

func verifyNode(certs []*x509.Certificate, roots *x509.CertPool, now time.Time) (id Identity, err error) {
	if len(certs) == 0 {
		return id, fmt.Errorf("no certificate: %w", cairn.ErrForbidden)
	}
	_, err = certs[0].Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return id, fmt.Errorf("%w: %w", explain(err, certs[0], now), cairn.ErrForbidden)
	}
	return identityOf(certs[0])
}

// explain says what a person can do about a certificate that does not verify.
func explain(err error, cert *x509.Certificate, now time.Time) error {
	var bad x509.CertificateInvalidError
	var stranger x509.UnknownAuthorityError
	const layout = time.RFC3339
	switch {
	case errors.As(err, &bad) && bad.Reason == x509.Expired && now.Before(cert.NotBefore):
		return fmt.Errorf("the certificate is valid from %s on, and the clock here says %s: set the clocks of both nodes (NTP)",
			cert.NotBefore.UTC().Format(layout), now.UTC().Format(layout))
	case errors.As(err, &bad) && bad.Reason == x509.Expired:
		return fmt.Errorf("the certificate expired at %s, and the clock here says %s: set the clocks of both nodes (NTP); if they are right, the node was off for too long: join it anew",
			cert.NotAfter.UTC().Format(layout), now.UTC().Format(layout))
	case errors.As(err, &stranger):
		return fmt.Errorf("the certificate is of another cluster: check the address")
	}
	return err
}

func baseTLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}
}

// serverTLS accepts nodes of this cluster, and callers without a certificate: what those may do is the Server's to decide.
func (c *Credentials) serverTLS() *tls.Config {
	t := baseTLS()
	t.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &c.current.Load().cert, nil }
	t.ClientAuth = tls.RequestClientCert // verified below: the standard check knows no removed nodes and explains nothing
	t.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return nil
		}
		_, err := c.verify(s.PeerCertificates, time.Now())
		return err
	}
	return t
}

// clientTLS accepts one node as the server, whatever its address.
func (c *Credentials) clientTLS(peer cairn.NodeID) *tls.Config {
	t := baseTLS()
	t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c.current.Load().cert, nil }
	t.InsecureSkipVerify = true // nodes have no host names: VerifyConnection compares what counts
	t.VerifyConnection = func(s tls.ConnectionState) error {
		id, err := c.verify(s.PeerCertificates, time.Now())
		if err == nil && id.Node != peer {
			err = fmt.Errorf("node %s answers where node %s should be: check the addresses that the two advertise: %w",
				id.Node, peer, cairn.ErrForbidden)
		}
		return err
	}
	return t
}

// VerifyPinned checks that certs, the leaf first, are of a node of the cluster whose authority has the fingerprint: what a
// node does that has no certificate of its own yet. Errors: ErrForbidden.
func VerifyPinned(certs []*x509.Certificate, authority Fingerprint, cluster cairn.ClusterID, now time.Time) error {
	roots := x509.NewCertPool()
	found := false
	for _, c := range certs {
		if c.IsCA && FingerprintOf(c) == authority {
			roots.AddCert(c)
			found = true
		}
	}
	if !found {
		return fmt.Errorf("the server is not of the token's cluster: check the address, and that the token is this cluster's: %w", cairn.ErrForbidden)
	}
	id, err := verifyNode(certs, roots, now)
	if err == nil && id.Cluster != cluster {
		err = fmt.Errorf("the server is of cluster %s, the token of %s: %w", id.Cluster, cluster, cairn.ErrForbidden)
	}
	return err
}
