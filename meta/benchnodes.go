package meta

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"cairn"
)

// benchNodes are stores that reach each other over plain HTTP on the loopback.
type benchNodes struct {
	nodes   map[cairn.NodeID]*benchNode
	clients *http.Client
}

type benchNode struct {
	peers *benchNodes
	id    cairn.NodeID
	url   string
	home  string
	store *Store
	end   []func() error
}

const benchNodeHeader = "Cairn-Bench-Node"

// Peer makes a node the Peers of its store.
func (n *benchNode) Peer(id cairn.NodeID) (*http.Client, string, error) {
	o := n.peers.nodes[id]
	if o == nil {
		return nil, "", cairn.ErrNotFound
	}
	return &http.Client{Transport: benchCaller{n.peers.clients.Transport, n.id}}, o.url, nil
}

type benchCaller struct {
	next http.RoundTripper
	id   cairn.NodeID
}

// RoundTrip says who asks.
func (c benchCaller) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(benchNodeHeader, c.id.String())
	return c.next.RoundTrip(r)
}

// BenchmarkNodeCommits is BenchmarkCommits with each voter in a store of its own, as on that many nodes, and HTTP without
// TLS between them. The clients are at the leader, as a gateway beside it would be.
func BenchmarkNodeCommits(ctx context.Context, dirs []string, voters, clients, valueBytes int, d time.Duration) (res CommitBench, err error) {
	const op = "meta.bench nodes"
	if voters > len(dirs) || voters < 1 || clients < 1 || valueBytes < 0 {
		return res, fail(op, "", invalid("%d voters in %d directories, %d clients", voters, len(dirs), clients))
	}
	b := &benchNodes{nodes: make(map[cairn.NodeID]*benchNode), clients: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2 * clients}}}
	defer b.clients.CloseIdleConnections()
	defer func() {
		for _, n := range b.nodes {
			for _, f := range n.end {
				err = errors.Join(err, f())
			}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, d+time.Minute)
	defer cancel()
	var first *benchNode
	listeners := make(map[cairn.NodeID]net.Listener)
	for _, dir := range dirs[:voters] {
		n := &benchNode{peers: b, id: cairn.NewID()}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return res, fail(op, "", err)
		}
		n.end = append(n.end, func() error { // Serve closes it as well
			_ = l.Close()
			return nil
		})
		n.url, listeners[n.id] = "http://"+l.Addr().String(), l
		b.nodes[n.id] = n
		if n.home, err = os.MkdirTemp(dir, "cairn-bench-"); err != nil {
			return res, fail(op, dir, err)
		}
		n.end = append(n.end, func() error { return os.RemoveAll(n.home) })
		if first == nil {
			first = n
		}
	}
	cluster := cairn.ClusterID(cairn.NewID())
	if err := first.open(cluster, voters, nil, listeners[first.id]); err != nil {
		return res, fail(op, first.home, err)
	}
	for _, n := range b.nodes {
		if n != first {
			if err := n.open(cluster, voters, []cairn.NodeID{first.id}, listeners[n.id]); err != nil {
				return res, fail(op, n.home, err)
			}
		}
	}
	if err := first.awaitVoters(ctx, voters); err != nil {
		return res, fail(op, "", err)
	}
	if _, err = first.store.CreateBucket(ctx, cairn.Bucket{Name: "bench"}); err != nil {
		return res, err
	}
	res = CommitBench{Voters: voters, Clients: clients, ValueBytes: valueBytes}
	return res, first.store.benchClients(ctx, &res, d)
}

// open starts the node's store and serves it.
func (n *benchNode) open(cluster cairn.ClusterID, voters int, seeds []cairn.NodeID, l net.Listener) (err error) {
	n.store, err = Open(Config{Cluster: cluster, Voters: voters, Homes: []Home{{Drive: cairn.NewID(), Dir: n.home, Usable: true}},
		Node: n.id, Peers: n, Seeds: seeds, Caller: func(r *http.Request) (id cairn.NodeID, err error) {
			return id, id.UnmarshalText([]byte(r.Header.Get(benchNodeHeader)))
		}})
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: n.store.Handler()}
	served, ran := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background()) // ended below
	go func() {
		defer close(served)
		_ = srv.Serve(l) // it ends by Close
	}()
	go func() {
		defer close(ran)
		_ = n.store.Run(ctx) // it ends by cancel
	}()
	stop := func() error {
		cancel()
		<-ran
		err := n.store.Close()
		_ = srv.Close()
		<-served
		return err
	}
	n.end = append([]func() error{stop}, n.end...)
	return nil
}

func (n *benchNode) awaitVoters(ctx context.Context, want int) error {
	for {
		st := n.store.Status()
		up := 0
		for _, v := range st.Voters {
			if v.State == VoterUp && v.Match > 0 {
				up++
			}
		}
		if up == want {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d voters are up: %w: %w", up, want, ctx.Err(), cairn.ErrCanceled)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
