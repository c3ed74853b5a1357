package rpc_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"cairn"
	"cairn/internal/rpc"
)

// counted counts the writes of the connections that a listener accepts.
type counted struct {
	net.Listener
	writes atomic.Int64
}

type countedConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c *counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countedConn{conn, &c.writes}, nil
}

func (c countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// What is gathered arrives whole and in order, with few system calls, and the connection goes on to serve.
func TestGather(t *testing.T) {
	site := newSite(t)
	data := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)
	creds := site.node(cairn.RoleData)
	s := rpc.NewServer(creds, nil)
	s.Mount("/data/", cairn.RoleGateway, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		write := func() error {
			f := rpc.NewFrameWriter(w)
			f.Write(data)
			return f.End()
		}
		var err error
		if r.URL.Path == "/data/gathered" {
			err = rpc.Gather(r.Context(), write)
		} else {
			err = write()
		}
		if err != nil {
			t.Error(err)
		}
	}))
	inner, err := rpc.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &counted{Listener: inner}
	addr := serveOn(t, s, l)
	d := rpc.NewDialer(site.node(cairn.RoleGateway))
	defer d.Close()
	d.SetNodes([]cairn.Node{{ID: creds.Identity().Node, Addr: addr}})
	client, base, err := d.Peer(creds.Identity().Node)
	if err != nil {
		t.Fatal(err)
	}
	writes := map[string]int64{}
	for _, path := range []string{"gathered", "single", "gathered"} {
		before := l.writes.Load()
		r, err := client.Get(base + "/data/" + path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(rpc.NewFrameReader(r.Body))
		r.Body.Close()
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%s: %d bytes, %v", path, len(got), err)
		}
		writes[path] = l.writes.Load() - before
	}
	if writes["gathered"] > 10 || writes["single"] < 64 {
		t.Errorf("1 MiB took %d writes gathered and %d not, want at most 10, and a record each", writes["gathered"], writes["single"])
	}
}
