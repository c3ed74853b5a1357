package peer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cairn/mount/peer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func names(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("10.0.0.%d:9100", i+1))
	}
	return out
}

// homes asks each mount of a ring where the blocks are at home.
func homes(rings map[string]*peer.Ring, blocks int, now time.Time) (all []string, agree bool) {
	agree = true
	for b := range blocks {
		home := ""
		for self, r := range rings {
			h := r.Home(fmt.Sprint("block", b), now)
			if h == "" {
				h = self
			}
			if home == "" {
				home = h
			}
			agree = agree && h == home
		}
		all = append(all, home)
	}
	return all, agree
}

// All mounts name the same home for a block, each is home to about its share, and one that fails moves its own share only,
// until its rest is over.
func TestRing(t *testing.T) {
	const mounts, blocks = 8, 4000
	now := time.Unix(1700000000, 0)
	rings := map[string]*peer.Ring{}
	for _, n := range names(mounts) {
		rings[n] = peer.NewRing(n, names(mounts))
		if got := rings[n].Size(); got != mounts {
			t.Errorf("size %d, want %d", got, mounts)
		}
	}
	before, agree := homes(rings, blocks, now)
	if !agree {
		t.Error("the mounts disagree")
	}
	share := map[string]int{}
	for _, h := range before {
		share[h]++
	}
	for _, n := range names(mounts) {
		if s := share[n]; s < blocks/mounts*8/10 || s > blocks/mounts*12/10 {
			t.Errorf("%s is home to %d of %d blocks", n, s, blocks)
		}
	}
	gone := names(mounts)[3]
	delete(rings, gone)
	for _, r := range rings {
		r.Failed(gone, now)
	}
	after, agree := homes(rings, blocks, now)
	if !agree {
		t.Error("the mounts disagree on what is left")
	}
	for b := range after {
		if after[b] == gone || before[b] != gone && after[b] != before[b] {
			t.Fatalf("block %d moved from %s to %s", b, before[b], after[b])
		}
	}
	for _, r := range rings {
		r.Failed(gone, now.Add(time.Second)) // the same failure, told twice: it does not make the rest longer
	}
	if again, _ := homes(rings, blocks, now.Add(2*time.Second)); fmt.Sprint(again) != fmt.Sprint(before) {
		t.Error("the peer was not asked again when its rest was over")
	}
	for _, r := range rings {
		r.Failed(gone, now.Add(3*time.Second))
	}
	if still, _ := homes(rings, blocks, now.Add(6*time.Second)); fmt.Sprint(still) != fmt.Sprint(after) {
		t.Error("the second rest is not longer than the first")
	}
}

// blocks serves bytes, and fails as it is told.
type blocks struct {
	data   []byte
	refuse error
	wait   func(ctx context.Context, off int64) error
}

func (b *blocks) Open(_ context.Context, q peer.Request) (peer.Block, error) {
	if b.refuse != nil {
		return nil, b.refuse
	}
	return &block{b, q.Off + q.N}, nil
}

type block struct {
	b   *blocks
	end int64
}

func (k *block) Next(ctx context.Context, off int64, send func([]byte) error) (int, error) {
	if k.b.wait != nil {
		if err := k.b.wait(ctx, off); err != nil {
			return 0, err
		}
	}
	p := k.b.data[off:min(off+peer.FrameBytes, k.end)]
	return len(p), send(p)
}

func (k *block) Close() {}

// get asks a handler, and returns what arrived.
func get(t *testing.T, h http.Handler, off, n int64) ([]byte, error) {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	c := peer.NewClient(nil)
	defer c.Close()
	buf, have := make([]byte, n), 0
	err := c.Get(t.Context(), strings.TrimPrefix(srv.URL, "http://"), peer.Request{Key: "k", Size: 5 << 20, Off: off, N: n}, buf,
		func(n int) { have += n })
	return buf[:have], err
}

func content() []byte {
	b := make([]byte, 5<<20)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func TestGet(t *testing.T) {
	data := content()
	for _, r := range [][2]int64{{0, 1}, {0, 5 << 20}, {1<<20 - 1, 2}, {3<<20 + 5, 1<<20 + 7}} {
		got, err := get(t, peer.Handler(&blocks{data: data}, 4), r[0], r[1])
		if err != nil || !bytes.Equal(got, data[r[0]:r[0]+r[1]]) {
			t.Errorf("%v: %d bytes, %v", r, len(got), err)
		}
	}
}

// A peer that waits for the store says so for as long as it takes; one that says nothing is given up.
func TestWaitingIsNotSilence(t *testing.T) {
	data := content()
	got, err := get(t, peer.Handler(&blocks{data: data, wait: func(ctx context.Context, off int64) error {
		if off > 0 {
			return nil
		}
		select {
		case <-time.After(peer.Silence + peer.Silence/2):
		case <-ctx.Done():
		}
		return ctx.Err()
	}}, 4), 0, 2<<20)
	if err != nil || !bytes.Equal(got, data[:2<<20]) {
		t.Errorf("a peer that waited: %d bytes, %v", len(got), err)
	}
	silent := make(chan struct{})
	_, err = get(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(silent)
		<-r.Context().Done() // the one who asked has hung up
	}), 0, 100)
	if <-silent; !errors.Is(err, peer.ErrSilent) {
		t.Errorf("a silent peer: %v, want ErrSilent", err)
	}
}

// What is wrong with an answer is an error, and what was told to have arrived before it is right.
func TestBadAnswers(t *testing.T) {
	data := content()
	good := httptest.NewRecorder()
	peer.Handler(&blocks{data: data}, 4).ServeHTTP(good, httptest.NewRequest("GET", peer.Path+"?key=k&size=5242880&off=0&n=3145728", nil))
	answer := good.Body.Bytes()
	serve := func(b []byte) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(b) })
	}
	if got, err := get(t, serve(answer), 0, 3<<20); err != nil || !bytes.Equal(got, data[:3<<20]) {
		t.Fatalf("the untouched answer: %d bytes, %v", len(got), err)
	}
	flip := func(at int) []byte {
		b := bytes.Clone(answer)
		b[at] ^= 1
		return b
	}
	for name, h := range map[string]http.Handler{
		"a flip in the data":       serve(flip(1<<20 + 100)),
		"a flip in a length":       serve(flip(1)),
		"a flip in a checksum":     serve(flip(1<<20 + 8 + 5)),
		"cut in a frame":           serve(answer[:2<<20]),
		"cut between frames":       serve(answer[:1<<20+8]),
		"nothing":                  serve(nil),
		"a frame beyond the end":   serve(append(bytes.Clone(answer[:1<<20+8]), 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0)),
		"it failed in the middle":  peer.Handler(&blocks{data: data, wait: func(_ context.Context, off int64) error { return errAt(off, 2<<20) }}, 4),
		"refused":                  peer.Handler(&blocks{refuse: errors.New("no")}, 4),
		"no place for one request": peer.Handler(&blocks{data: data}, 0),
	} {
		got, err := get(t, h, 0, 3<<20)
		if err == nil || !bytes.Equal(got, data[:len(got)]) {
			t.Errorf("%s: %v, and %d bytes arrived, right: %v", name, err, len(got), bytes.Equal(got, data[:len(got)]))
		}
		if refused := name == "refused" || name == "no place for one request"; refused != errors.Is(err, peer.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func errAt(off, at int64) error {
	if off >= at {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// Requests that make no sense are refused before anything is opened.
func TestBadRequests(t *testing.T) {
	for _, q := range []string{"", "key=k", "key=k&size=10&off=5&n=6", "key=k&size=10&off=-1&n=2", "key=k&size=10&off=0&n=0",
		"key=k&size=9223372036854775807&off=9223372036854775807&n=9", "key=&size=10&off=0&n=1", "key=k&size=x&off=0&n=1"} {
		w := httptest.NewRecorder()
		peer.Handler(&blocks{refuse: errors.New("opened")}, 4).ServeHTTP(w, httptest.NewRequest("GET", peer.Path+"?"+q, nil))
		if w.Code != http.StatusBadRequest {
			t.Errorf("%q: %d %s", q, w.Code, w.Body)
		}
	}
}
