package rpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cairn"
)

const (
	dialTimeout      = 3 * time.Second
	handshakeTimeout = 5 * time.Second
	// unackedTimeout ends a connection whose peer's machine acknowledges nothing any more.
	unackedTimeout = 10 * time.Second
	idleTimeout    = 90 * time.Second
	maxIdleConns   = 64  // of one peer
	maxConns       = 512 // of one peer
)

// Dialer reaches the other nodes of a cluster by their IDs. Safe for concurrent use.
type Dialer struct {
	creds *Credentials

	mu    sync.RWMutex
	peers map[cairn.NodeID]*peer
}

// peer is a node that can be reached.
type peer struct {
	addr   string
	client *http.Client
}

// NewDialer returns a Dialer that knows nobody until SetNodes.
func NewDialer(creds *Credentials) *Dialer {
	return &Dialer{creds: creds, peers: map[cairn.NodeID]*peer{}}
}

// SetNodes makes the committed nodes the ones that can be reached. Removed ones are refused from now on, as callers too.
func (d *Dialer) SetNodes(nodes []cairn.Node) {
	removed := map[cairn.NodeID]bool{}
	var gone []*peer
	d.mu.Lock()
	had := d.peers
	d.peers = make(map[cairn.NodeID]*peer, len(nodes))
	for _, n := range nodes {
		switch p, ok := had[n.ID]; {
		case n.State == cairn.NodeRemoved:
			removed[n.ID] = true
		case n.Addr == "":
		case ok && p.addr == n.Addr:
			d.peers[n.ID] = p
			delete(had, n.ID)
		default:
			d.peers[n.ID] = &peer{addr: n.Addr, client: newClient(d.creds.clientTLS(n.ID))}
		}
	}
	for _, p := range had {
		gone = append(gone, p)
	}
	d.mu.Unlock()
	d.creds.Refuse(removed)
	for _, p := range gone {
		p.client.CloseIdleConnections()
	}
}

// Peer returns a client that talks to one node and nobody else, and the node's base URL. Errors: ErrNotFound.
func (d *Dialer) Peer(node cairn.NodeID) (*http.Client, string, error) {
	d.mu.RLock()
	p, ok := d.peers[node]
	d.mu.RUnlock()
	if !ok {
		return nil, "", &cairn.Error{Op: "rpc.peer", Subject: node.String(), Err: fmt.Errorf("no address is known: %w", cairn.ErrNotFound)}
	}
	return p.client, "https://" + p.addr, nil
}

// Close lets the connections go that are not in use.
func (d *Dialer) Close() error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, p := range d.peers {
		p.client.CloseIdleConnections()
	}
	return nil
}

func newClient(conf *tls.Config) *http.Client {
	d := &net.Dialer{Timeout: dialTimeout, KeepAliveConfig: keepAlive, Control: limitUnacked}
	return &http.Client{Transport: &http.Transport{
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := d.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			w := newWire(c)
			t := tls.Client(w, conf)
			ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
			defer cancel()
			if err := t.HandshakeContext(ctx); err != nil {
				c.Close()
				return nil, err
			}
			return &gathered{Conn: t, wire: w}, nil
		},
		MaxConnsPerHost: maxConns, MaxIdleConnsPerHost: maxIdleConns, IdleConnTimeout: idleTimeout,
		// Reads are not buffered here: large ones go straight from a record to where they are wanted.
		DisableCompression: true, WriteBufferSize: connBuffer,
	}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}

// limitUnacked bounds how long written bytes may stay unacknowledged before the connection fails: otherwise a machine
// that lost its power holds writers for a quarter of an hour.
func limitUnacked(_, _ string, c syscall.RawConn) (err error) {
	cerr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unackedTimeout.Milliseconds()))
	})
	if cerr != nil {
		return cerr
	}
	return err
}
