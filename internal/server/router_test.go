package server

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"cairn"
	"cairn/blob"
	"cairn/blob/blobtest"
	"cairn/datanode"
	"cairn/internal/rpc"
)

// ownerTable is what a view would say.
type ownerTable map[cairn.DriveID]cairn.NodeID

func (o ownerTable) Drives() (list []cairn.Drive) {
	for id, node := range o {
		list = append(list, cairn.Drive{ID: id, Node: node})
	}
	return list
}

func (o ownerTable) Owner(id cairn.DriveID) (cairn.NodeID, bool) {
	node, ok := o[id]
	return node, ok
}

// twoNodes is a router on one node and a drive on another, with mutual TLS between them.
func twoNodes(t *testing.T) (*router, cairn.DriveID) {
	t.Helper()
	cluster := cairn.ClusterID(cairn.NewID())
	authority, err := rpc.NewAuthority(cluster, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	creds := func(roles cairn.Roles) *rpc.Credentials {
		csr, key, err := rpc.NewRequest()
		if err != nil {
			t.Fatal(err)
		}
		cert, err := authority.Sign(csr, rpc.Identity{Cluster: cluster, Node: cairn.NewID(), Roles: roles}, time.Now(), rpc.NodeLife)
		if err != nil {
			t.Fatal(err)
		}
		c, err := rpc.NewCredentials(authority.CertPEM(), cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	open := func(drives ...datanode.DriveConfig) *datanode.Node {
		n, err := datanode.Open(datanode.Config{Cluster: cluster, Drives: drives, SegmentBytes: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		return n
	}
	remote, far := creds(cairn.RoleData), open(datanode.DriveConfig{Path: t.TempDir()})
	s := rpc.NewServer(remote, nil)
	s.Mount(dataPath, cairn.AllRoles, http.StripPrefix("/data", datanode.NewServer(far)))
	l, err := rpc.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	own := creds(cairn.RoleGateway)
	d := rpc.NewDialer(own)
	id := remote.Identity().Node
	d.SetNodes([]cairn.Node{{ID: id, Addr: l.Addr().String()}})
	drive := far.Statuses()[0].ID
	r := newRouter(open(), own.Identity().Node, ownerTable{drive: id}, d)
	t.Cleanup(func() {
		if err := errors.Join(r.Close(), d.Close()); err != nil {
			t.Error(err)
		}
	})
	return r, drive
}

// The router passes the conformance suite of shards with the drive on another node.
func TestRouterConformance(t *testing.T) {
	blobtest.Shards(t, func(t *testing.T) (blob.Shards, cairn.DriveID) { return twoNodes(t) })
}

// A copy of another node's drive is left alone: whatever is for the drive goes to the node that has it, or nowhere.
func TestRouterLeavesCopiesAlone(t *testing.T) {
	r, _ := twoNodes(t)
	local, err := datanode.Open(datanode.Config{Cluster: cairn.NewID(), Drives: []datanode.DriveConfig{{Path: t.TempDir()}}, SegmentBytes: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	r.local = local
	drive := local.Statuses()[0].ID
	id := cairn.ShardID{Volume: 1, Blob: 1}
	h := cairn.ShardHeader{ID: id, Epoch: 1, Profile: cairn.Profile{K: 1}, Unit: 64 << 10, BlobLen: 1}
	write := func(owners ownerTable) error {
		r.owners = owners
		done := make(chan error, 1)
		r.Append(t.Context(), drive, &h, []byte{7}, func(err error) { done <- err })
		return <-done
	}
	if err := write(ownerTable{drive: cairn.NodeID{9}}); !errors.Is(err, cairn.ErrUnavailable) {
		t.Errorf("a write to a drive of a node that cannot be reached: got %v", err)
	}
	if _, err := local.Stat(t.Context(), drive, id); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("the copy took the shard: %v", err)
	}
	for name, owners := range map[string]ownerTable{"not committed yet": {}, "our own": {drive: r.self}} {
		h.ID.Blob++
		if err := write(owners); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Unknown is not absent: whatever cannot be reached is unavailable, and never a drive without the shard.
func TestRouterOfUnknownDrives(t *testing.T) {
	r, drive := twoNodes(t)
	stranger, orphan := cairn.DriveID{1}, cairn.DriveID{2}
	r.owners = ownerTable{drive: cairn.NodeID{9}, orphan: r.self} // a node without an address; a drive that should be here
	for name, id := range map[string]cairn.DriveID{"nobody's drive": stranger, "an unknown node's drive": drive, "our drive, which is not there": orphan} {
		err := r.ReadAt(t.Context(), id, cairn.ShardID{Volume: 1, Blob: 1}, make([]byte, 1), 0)
		if !errors.Is(err, cairn.ErrUnavailable) || errors.Is(err, cairn.ErrNotFound) {
			t.Errorf("%s: got %v, want unavailable", name, err)
		}
		if _, err := r.Slots(t.Context(), id); !errors.Is(err, cairn.ErrUnavailable) {
			t.Errorf("%s: slots: got %v, want unavailable", name, err)
		}
	}
}
