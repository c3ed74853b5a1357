package server

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"
	"time"

	"cairn"
	"cairn/meta"

	"github.com/minio/minio-go/v7"
)

// Garbage of a cluster goes within seconds, but not what another gateway still reads: that reader gets every byte.
func TestGarbageWaitsForReadersElsewhere(t *testing.T) {
	root := t.TempDir()
	first := mustStart(t, filepath.Join(root, "first"), Enlist{Name: "first", Drives: Wish{Profile: cairn.Profile{K: 1}}})
	gateway := first.join("gateway", cairn.RoleGateway).waitReady()
	if err := first.s3().MakeBucket(t.Context(), "bucket", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	body, other := randomBytes(1, 5<<20), randomBytes(2, 1<<20)
	put(t, first, "read", body)
	put(t, first, "unread", other)
	o, err := gateway.srv.parts.objects.Open(t.Context(), meta.VersionRef{Bucket: "bucket", Key: "read"})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"read", "unread"} {
		if err := first.s3().RemoveObject(t.Context(), "bucket", key, minio.RemoveObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	first.garbage(1) // the other blob goes though its gateway is another process
	if st := first.srv.parts.objects.Status(); st.GCDeferred == 0 {
		t.Errorf("nothing was deferred: %+v", st)
	}
	var got bytes.Buffer
	if err := o.WriteRange(t.Context(), &got, 0, o.Version.Size); err != nil || !bytes.Equal(got.Bytes(), body) {
		t.Errorf("the reader on the other gateway got %d bytes, %v, want %d", got.Len(), err, len(body))
	}
	o.Close()
	first.garbage(0)
}

// garbage waits until so many blobs are in the outbox.
func (n *testNode) garbage(want int) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	for {
		rows, err := n.srv.parts.meta.Garbage(ctx, cairn.BlobRef{}, time.Now().Add(time.Hour), 1000)
		if err == nil && len(rows) == want {
			return
		}
		if ctx.Err() != nil {
			n.t.Fatalf("%d blobs wait to be deleted, %v, want %d", len(rows), err, want)
		}
		time.Sleep(50 * time.Millisecond) // a poll: the collector runs by itself
	}
}

func TestMayRead(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name  string
		roles cairn.Roles
		state cairn.NodeState
		since time.Duration
		want  bool
	}{
		{"a gateway", cairn.RoleGateway, cairn.NodeUp, 0, true},
		{"one that may be gone", cairn.RoleGateway, cairn.NodeSuspect, 2 * farReadAge, true},
		{"one that has just gone", cairn.AllRoles, cairn.NodeDown, farReadAge / 2, true},
		{"one that is gone for long", cairn.AllRoles, cairn.NodeOut, 2 * farReadAge, false},
		{"one that was removed", cairn.AllRoles, cairn.NodeRemoved, 0, false},
		{"a node that serves nobody", cairn.RoleData | cairn.RoleMeta, cairn.NodeUp, 0, false},
	} {
		n := cairn.Node{Roles: tt.roles, State: tt.state, StateSince: now.Add(-tt.since)}
		if got := mayRead(n, now); got != tt.want {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
}
