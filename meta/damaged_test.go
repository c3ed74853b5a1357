package meta_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cairn"
	"cairn/meta"
)

// noise returns bytes that do not compress.
func noise(seed int) string {
	b := make([]byte, 600)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return string(b)
}

// I2: damage in the tables of the leader's state is met by reads, never answered with, and ends that voter alone: reads go
// on at another one, and the lost one is made anew.
func TestDamagedTables(t *testing.T) {
	cfg := meta.Config{Homes: makeHomes(t, 3), Voters: 3}
	s, err := meta.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	mustBucket(t, s, "b", cairn.VersioningOff)
	for i := range 300 {
		mustPut(t, s, "b", fmt.Sprintf("key%03d", i), noise(i))
	}
	// Every start flushes what the log holds beyond the state, so that after some all is in tables.
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = meta.Open(cfg); err != nil {
			t.Fatal(err)
		}
		if err := s.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.FlushForTest()
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	damaged := 0
	tables, _ := filepath.Glob(filepath.Join(cfg.Homes[1].Dir, "meta/state/*.sst"))
	for _, path := range tables {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for at := 20000; at < len(b)-20000; at += 512 { // the first block, with the applied index, and the index stay whole
			b[at] ^= 0x10
			damaged++
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if damaged == 0 {
		t.Fatal("no table to damage")
	}
	s = openStore(t, cfg)
	old := voterAt(s, cfg.Homes[1].Dir)
	if old == 0 {
		t.Fatal("the damaged voter does not start: its damage is not where reads alone meet it")
	}
	deadline := time.Now().Add(10 * time.Second)
	for round := 0; ; round++ {
		for i := range 300 {
			v, err := s.Version(t.Context(), meta.VersionRef{Bucket: "b", Key: fmt.Sprintf("key%03d", i)})
			if err != nil || string(v.Layout.Inline) != noise(i) {
				t.Fatalf("round %d, key %d: %d bytes, %v", round, i, len(v.Layout.Inline), err)
			}
		}
		if now := voterAt(s, cfg.Homes[1].Dir); now != 0 && now != old {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the damaged voter was not replaced: %+v", s.Status().Voters)
		}
		s.LeadForTest(cfg.Homes[1].Dir) // so that reads meet the damage
		time.Sleep(50 * time.Millisecond)
	}
}

// voterAt returns the ID of the voter that runs at a home as a full member, 0 if none does.
func voterAt(s *meta.Store, dir string) uint64 {
	for _, v := range s.Status().Voters {
		if v.State == meta.VoterUp && filepath.Dir(v.Path) == dir {
			return v.ID
		}
	}
	return 0
}
