//go:build e2e

package e2e

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fleet mounts the bucket n times, each with a cache of its own; all know each other.
func (s *store) fleet(n int) (mounts []*cacheMount) {
	s.t.Helper()
	var addrs []string
	for range n {
		addrs = append(addrs, freeAddr(s.t))
	}
	for _, a := range addrs {
		mounts = append(mounts, s.mount("--memory", "64MiB", "--peer-addr", a, "--peers", strings.Join(addrs, ",")))
	}
	return mounts
}

// loadAll reads an object through all mounts at once and compares it. begun is called when each has read some.
func loadAll(t *testing.T, mounts []*cacheMount, key string, want [sha256.Size]byte, begun func()) {
	t.Helper()
	type result struct {
		sum [sha256.Size]byte
		err error
	}
	results, some := make(chan result, len(mounts)), make(chan struct{}, len(mounts))
	for _, m := range mounts {
		go func() {
			f, err := os.Open(filepath.Join(m.dir, key))
			if err != nil {
				some <- struct{}{}
				results <- result{err: err}
				return
			}
			defer f.Close()
			h, b, first := sha256.New(), make([]byte, 1<<20), true
			for err == nil {
				var n int
				n, err = f.Read(b)
				h.Write(b[:n])
				if first {
					some <- struct{}{}
					first = false
				}
			}
			results <- result{[sha256.Size]byte(h.Sum(nil)), err}
		}()
	}
	for range mounts {
		<-some
	}
	begun()
	for range mounts {
		if r := <-results; r.sum != want {
			t.Errorf("wrong bytes: %v", r.err)
		}
	}
}

// TestMountFleet: eight mounts that load one model at once fetch it from the store about once.
func TestMountFleet(t *testing.T) {
	s := start(t)
	want := content(88, bigBytes)
	s.putObject(big, want)
	mounts := s.fleet(8)
	loadAll(t, mounts, big, sha256.Sum256(want), func() {})
	var fetched, moved int64
	for _, m := range mounts {
		st := m.status()
		fetched, moved = fetched+st.FromStore, moved+st.FromPeers
		t.Logf("from the store %d, from peers %d, %d failures", st.FromStore, st.FromPeers, st.PeerFails)
	}
	t.Logf("%d bytes from the store, %d from each other, of %d", fetched, moved, len(want))
	if fetched*10 > int64(len(want))*13 || moved == 0 {
		t.Errorf("%d bytes came from the store for a model of %d, want 1.3 times that at the most; %d from peers", fetched, len(want), moved)
	}
}

// TestMountFleetLosesOne: a mount is killed while the others load through it: none of them sees an error or a wrong byte.
func TestMountFleetLosesOne(t *testing.T) {
	s := start(t)
	want := content(89, bigBytes)
	s.putObject(big, want)
	mounts := s.fleet(4)
	loadAll(t, mounts[:3], big, sha256.Sum256(want), mounts[3].kill)
}
