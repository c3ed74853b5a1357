//go:build e2e

package e2e

import (
	"math/rand/v2"
	"net/url"
	"os/exec"
	"testing"
	"time"

	"cairn/admin"
)

const healWithin = 2 * time.Minute

// TestRealFilesSurviveDeletedDrives (I1, I2, I6): the Go toolchain's files are stored while two drives are deleted; every
// byte is there; the store heals without a person; two other drives go, and every byte is there again.
func TestRealFilesSurviveDeletedDrives(t *testing.T) {
	t.Parallel()
	files := goTree(t)
	s := start(t)
	order := rand.Perm(6)
	t.Logf("drives go in the order %v", order)
	lose := func(a, b int) {
		before := s.status()
		pa, pb := s.drive(order[a]+1), s.drive(order[b]+1)
		removeAll(t, pa)
		removeAll(t, pb)
		s.waitNoticed(before, pa, pb)
	}
	began := time.Now()
	s.traffic(files, func() { lose(0, 1) })
	t.Logf("%d files stored in %v", len(files), time.Since(began).Round(time.Millisecond))
	each(t, files, s.check)
	s.waitHealthy(healWithin)
	s.verifySample(files)
	lose(2, 3)
	each(t, files, s.check)
	s.waitHealthy(healWithin)
	s.verifySample(files)
	each(t, files, s.check)
	if found := s.scrub(); found.Findings > 0 {
		s.waitHealthy(healWithin)
	}
	each(t, files, s.check)
}

// verifySample reads every shard of some objects: "ok" must mean that they are all there, and right.
func (s *store) verifySample(files []file) {
	s.t.Helper()
	shards := 0
	for _, f := range subset(files, max(1, len(files)/100)) {
		var o admin.Object
		path := "/api/v1/objects/" + bucket + "/" + (&url.URL{Path: f.key}).EscapedPath() + "/shards?verify=1"
		if err := s.ask(s.t.Context(), "GET", path, &o); err != nil {
			s.t.Fatal(err)
		}
		for _, b := range o.Blobs {
			for _, sh := range b.Shards {
				shards++
				if sh.State != "ok" {
					s.t.Errorf("healthy, but shard %d of %s is %s: %s", sh.Slot, f.key, sh.State, sh.Error)
				}
			}
		}
	}
	if shards == 0 {
		s.t.Error("no shard was looked at")
	}
}

// TestRealWeightsSurviveDeletedDrives does the same with published model weights, which come from the npm registry.
func TestRealWeightsSurviveDeletedDrives(t *testing.T) {
	t.Parallel()
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Skip("SKIPPED: no npm on this machine, so no real weights can be had")
	}
	dir := t.TempDir()
	pack := exec.Command(npm, "pack", "--silent", "@vladmandic/face-api@1.7.15")
	pack.Dir = dir
	if out, err := pack.CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: the npm registry cannot be reached (%v): %s", err, out)
	}
	untar := exec.Command("sh", "-c", "tar xzf *.tgz")
	untar.Dir = dir
	if out, err := untar.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	files := tree(t, dir+"/package/model", "face-api/")
	if len(files) < 10 {
		t.Fatalf("the package holds %d model files", len(files))
	}
	s := start(t)
	s.traffic(files, func() {
		before := s.status()
		removeAll(t, s.drive(1))
		removeAll(t, s.drive(4))
		s.waitNoticed(before, s.drive(1), s.drive(4))
	})
	each(t, files, s.check)
	s.waitHealthy(healWithin)
	removeAll(t, s.drive(2))
	removeAll(t, s.drive(3))
	each(t, files, s.check)
	s.waitHealthy(healWithin)
	each(t, files, s.check)
}
