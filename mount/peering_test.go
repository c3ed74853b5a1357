package mount_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"testing"

	"cairn/mount"
	"cairn/mount/cache"
	"cairn/mount/peer"
)

// The bucket under test lets those read who show its name.
const goodProof = "signed by one who may read"

func (b *bucket) Prove(context.Context, string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.proof, nil
}

func (b *bucket) Admit(_ context.Context, key, proof string) (mount.Object, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	if _, ok := b.objects[key]; !ok || proof != goodProof {
		return mount.Object{}, mount.ErrRefused
	}
	return b.object(key), nil
}

// fleet mounts a bucket several times; each mount has a view of it of its own, which counts what it fetched.
func fleet(t *testing.T, b *bucket, n int, cfg *tls.Config) (views []*bucket, mounts []*mounted) {
	t.Helper()
	var addrs []string
	var listeners []net.Listener
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners, addrs = append(listeners, l), append(addrs, l.Addr().String())
	}
	for i := range n {
		view := newBucket()
		view.objects, view.times, view.etags, view.proof = b.objects, b.times, b.etags, goodProof
		views = append(views, view)
		mounts = append(mounts, mountAt(t, view, t.TempDir(), func(m *mount.Config, _ *cache.Config) {
			m.MemoryBytes = 64 << 20
			m.Peers = mount.PeerConfig{Self: addrs[i], Peers: addrs, Listener: listeners[i], TLS: cfg}
		}))
	}
	return views, mounts
}

func fetched(views []*bucket) (sum int64) {
	for _, v := range views {
		sum += v.bytes.Load()
	}
	return sum
}

// Mounts that load the same model at once fetch each block from the store about once.
func TestFleetFetchesOnce(t *testing.T) {
	b := newBucket()
	want := random(21, 6*cache.ChunkBytes+999)
	b.put("m.safetensors", want)
	views, mounts := fleet(t, b, 4, nil)
	done := make(chan struct{})
	for _, m := range mounts {
		go func() {
			defer func() { done <- struct{}{} }()
			m.same("m.safetensors", want)
		}()
	}
	for range mounts {
		<-done
	}
	if got := fetched(views); got > int64(len(want))*13/10 {
		t.Errorf("%d bytes came from the store for %d mounts, want 1.3 times %d at the most", got, len(mounts), len(want))
	}
	var from, to int64
	for _, m := range mounts {
		s := m.m.Status()
		from, to = from+s.FromPeers, to+s.ToPeers
	}
	if least := int64(len(mounts)-1) * int64(len(want)) * 9 / 10; from < least || to < from {
		t.Errorf("%d bytes came from peers, who served %d; want %d at least", from, to, least)
	}
	asked := 0
	for _, v := range views {
		asked += v.asked
	}
	if asked > 4*3 {
		t.Errorf("the store was asked %d times whether one may read, want once for each pair", asked)
	}
}

// A peer that is gone costs its blocks a fetch from the store, and no reader an error.
func TestFleetWithoutOne(t *testing.T) {
	b := newBucket()
	want := random(22, 5*cache.ChunkBytes+1)
	b.put("m.safetensors", want)
	views, mounts := fleet(t, b, 3, nil)
	mounts[2].stop()
	mounts[0].same("m.safetensors", want)
	mounts[1].same("m.safetensors", want)
	if got := fetched(views); got > int64(len(want))*13/10 {
		t.Errorf("%d bytes came from the store for %d", got, len(want))
	}
}

// Who may not read at the store gets nothing from a mount that may: not with a wrong proof, not with none, and no version
// but the one that the store has now.
func TestPeersAskTheStore(t *testing.T) {
	b := newBucket()
	want := random(23, cache.ChunkBytes)
	b.put("secret.bin", want)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	md := mountAt(t, b, t.TempDir(), func(m *mount.Config, _ *cache.Config) {
		m.Peers = mount.PeerConfig{Self: l.Addr().String(), Peers: []string{l.Addr().String()}, Listener: l}
	})
	md.same("secret.bin", want)
	md.published("secret.bin")
	etag := b.object("secret.bin").ETag
	for _, c := range []struct {
		name, store, etag, proof string
		served                   bool
	}{
		{"a good proof", "memory", etag, goodProof, true},
		{"a wrong proof", "memory", etag, "forged", false},
		{"no proof", "memory", etag, "", false},
		{"another version", "memory", "0", goodProof, false},
		{"another store", "elsewhere", etag, goodProof, false},
	} {
		client := peer.NewClient(nil)
		buf, n := make([]byte, 100), 0
		err := client.Get(t.Context(), l.Addr().String(), peer.Request{Store: c.store, Key: "secret.bin", ETag: c.etag, Size: int64(len(want)),
			N: 100, Proof: c.proof}, buf, func(k int) { n += k })
		client.Close()
		if c.served && (err != nil || !bytes.Equal(buf, want[:100])) || !c.served && (!errors.Is(err, peer.ErrRefused) || n > 0) {
			t.Errorf("%s: %d bytes, %v", c.name, n, err)
		}
	}
}
