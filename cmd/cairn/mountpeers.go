package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"cairn/mount"
)

// peerFlags say which mounts fetch from each other.
type peerFlags struct {
	self          string
	peers         []string
	cert, key, ca string
}

func (f *peerFlags) register(c *cobra.Command) {
	c.Flags().StringSliceVar(&f.peers, "peers", nil, "HOST:PORT of the mounts of this bucket that fetch blocks from each other; the same list may be given to all")
	c.Flags().StringVar(&f.self, "peer-addr", "", "HOST:PORT of this mount in the others' --peers; it listens there")
	c.Flags().StringVar(&f.cert, "peer-cert", "", "certificate (PEM) of this mount, for mutual TLS between peers")
	c.Flags().StringVar(&f.key, "peer-key", "", "its key (PEM)")
	c.Flags().StringVar(&f.ca, "peer-ca", "", "authority (PEM) that signed the peers' certificates")
}

// config checks the flags and opens the port. Peers in the clear are for stores in the clear.
func (f *peerFlags) config(endpoint string) (cfg mount.PeerConfig, err error) {
	tlsFlags := 0
	for _, v := range []string{f.cert, f.key, f.ca} {
		if v != "" {
			tlsFlags++
		}
	}
	switch {
	case f.self == "" && len(f.peers) == 0 && tlsFlags == 0:
		return cfg, nil
	case f.self == "" || len(f.peers) == 0:
		return cfg, errors.New("--peers and --peer-addr go together")
	case tlsFlags != 0 && tlsFlags != 3:
		return cfg, errors.New("--peer-cert, --peer-key and --peer-ca go together")
	case tlsFlags == 0 && strings.HasPrefix(endpoint, "https:"):
		return cfg, errors.New("the store speaks TLS, so its peers must: give --peer-cert, --peer-key and --peer-ca")
	}
	for _, p := range slices.Concat([]string{f.self}, f.peers) {
		if _, _, err := net.SplitHostPort(p); err != nil {
			return cfg, fmt.Errorf("peer %q: want HOST:PORT", p)
		}
	}
	cfg = mount.PeerConfig{Self: f.self, Peers: f.peers}
	if tlsFlags > 0 {
		if cfg.TLS, err = mutualTLS(f.cert, f.key, f.ca); err != nil {
			return cfg, err
		}
	}
	if cfg.Listener, err = net.Listen("tcp", f.self); err != nil {
		return cfg, fmt.Errorf("--peer-addr: %w", err)
	}
	return cfg, nil
}

// mutualTLS shows a certificate and demands one, both ways, of one authority.
func mutualTLS(cert, key, ca string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("--peer-cert, --peer-key: %w", err)
	}
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("--peer-ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--peer-ca: no certificate in %s", ca)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}, nil
}

func closeListener(l net.Listener) error {
	if l == nil {
		return nil
	}
	return l.Close()
}
