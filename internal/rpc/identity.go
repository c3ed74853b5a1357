package rpc

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"cairn"
)

// Identity is who a node is, as its certificate says: a URI among the alternative names,
// cairn://CLUSTER/NODE?roles=ROLES.
type Identity struct {
	Cluster cairn.ClusterID
	Node    cairn.NodeID
	Roles   cairn.Roles
}

const identityScheme = "cairn"

func (id Identity) url() *url.URL {
	q := url.Values{"roles": {id.Roles.String()}}
	return &url.URL{Scheme: identityScheme, Host: id.Cluster.String(), Path: "/" + id.Node.String(), RawQuery: q.Encode()}
}

// String prints the URI.
func (id Identity) String() string { return id.url().String() }

// identityOf reads the identity in a certificate that the caller has verified, or is about to.
func identityOf(cert *x509.Certificate) (id Identity, err error) {
	for _, u := range cert.URIs {
		if u.Scheme != identityScheme {
			continue
		}
		cluster, err1 := cairn.ParseID(u.Host)
		node, err2 := cairn.ParseID(strings.TrimPrefix(u.Path, "/"))
		roles, err3 := cairn.ParseRoles(u.Query().Get("roles"))
		if err1 != nil || err2 != nil || err3 != nil {
			break
		}
		return Identity{Cluster: cluster, Node: node, Roles: roles}, nil
	}
	return id, fmt.Errorf("the certificate names no node of a cluster: %w", cairn.ErrForbidden)
}

type callerKey struct{}

// Caller returns the node that sent a request: what a Server found in its certificate. Errors: ErrForbidden for a request
// that came without one.
func Caller(r *http.Request) (Identity, error) {
	id, ok := r.Context().Value(callerKey{}).(Identity)
	if !ok {
		return id, fmt.Errorf("the request comes from no node of this cluster: %w", cairn.ErrForbidden)
	}
	return id, nil
}

// WithCaller makes id the caller of requests under ctx: for tests of handlers, and for calls within a process.
func WithCaller(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, callerKey{}, id)
}
