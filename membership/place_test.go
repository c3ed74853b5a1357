package membership

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cairn"
)

// testDrive has an identity that depends on n alone, in the given domains.
func testDrive(n int, free int64, domains ...string) cairn.Drive {
	id := cairn.DriveID{0: byte(n), 1: byte(n >> 8), 15: 1}
	return cairn.Drive{ID: id, Path: fmt.Sprintf("drive%d", n), FreeBytes: free, Domains: domains}
}

func TestWidth(t *testing.T) {
	for _, tt := range []struct {
		want    string
		domains int
		fits    string // "" if nothing does
	}{
		{"4+2", 9, "4+2"}, {"4+2", 6, "4+2"}, {"4+2", 5, "3+2"}, {"4+2", 4, "2+2"}, {"4+2", 3, "1+2"}, {"4+2", 2, ""},
		{"2+1", 3, "2+1"}, {"2+1", 2, "1+1"}, {"2+1", 1, ""}, {"1+0", 1, "1+0"}, {"1+0", 0, ""}, {"12+4", 9, "5+4"},
		{"12+2+2", 16, "12+2+2"}, {"12+2+2", 15, "12+3"}, {"12+2+2", 10, "7+3"}, {"12+2+2", 3, ""},
	} {
		want, err := cairn.ParseProfile(tt.want)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := Width(want, tt.domains)
		if ok != (tt.fits != "") || ok && got.String() != tt.fits {
			t.Errorf("Width(%s, %d) = %s, %v, want %q", tt.want, tt.domains, got, ok, tt.fits)
		}
	}
}

func TestPlaceSpreadsOverDomains(t *testing.T) {
	var drives []cairn.Drive
	for zone := range 2 {
		for node := range 3 {
			for range 4 {
				n := len(drives)
				// Free space differs much: the spread comes first all the same.
				drives = append(drives, testDrive(n, int64(1+n*n*1000), fmt.Sprintf("z%d", zone), "r", fmt.Sprintf("n%d%d", zone, node)))
			}
		}
	}
	for seed := range uint64(500) {
		ids, err := Place(drives, 6, seed)
		if err != nil {
			t.Fatal(err)
		}
		zones, nodes := map[string]int{}, map[string]int{}
		for _, id := range ids {
			d := drives[slices.IndexFunc(drives, func(d cairn.Drive) bool { return d.ID == id })]
			zones[d.Domains[0]]++
			nodes[d.Domains[2]]++
		}
		if len(zones) != 2 || zones["z0"] != 3 || len(nodes) != 6 {
			t.Fatalf("seed %d: zones %v, nodes %v; want three slots in each zone, each on a node of its own", seed, zones, nodes)
		}
	}
}

func TestPlaceProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var drives []cairn.Drive
		for n := range rapid.IntRange(0, 20).Draw(t, "drives") {
			drives = append(drives, testDrive(n, rapid.Int64Range(0, 1<<40).Draw(t, "free"), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "node")))
		}
		n, seed := rapid.IntRange(1, 12).Draw(t, "slots"), rapid.Uint64().Draw(t, "seed")
		ids, err := Place(drives, n, seed)
		if len(drives) < n {
			if !errors.Is(err, cairn.ErrUnavailable) {
				t.Fatalf("%d drives for %d slots: %v, want ErrUnavailable", len(drives), n, err)
			}
			return
		}
		if err != nil || len(ids) != n {
			t.Fatalf("got %d drives, %v", len(ids), err)
		}
		used, nodes := map[cairn.DriveID]bool{}, map[string]int{}
		for _, id := range ids {
			if used[id] {
				t.Fatal("a drive has two slots")
			}
			used[id] = true
			nodes[drives[slices.IndexFunc(drives, func(d cairn.Drive) bool { return d.ID == id })].Domains[0]]++
		}
		for _, d := range drives { // a free drive on an emptier node would have been the better choice
			for node, used1 := range nodes {
				if !used[d.ID] && nodes[d.Domains[0]]+1 < used1 {
					t.Fatalf("node %s has %d slots though %s has %d and a free drive", node, used1, d.Domains[0], nodes[d.Domains[0]])
				}
			}
		}
		again, _ := Place(drives, n, seed)
		if !slices.Equal(ids, again) {
			t.Fatal("the same input gave another answer")
		}
	})
}

// Over many volumes, a drive's share of the slots follows its share of the free space.
func TestPlaceFollowsFreeSpace(t *testing.T) {
	var drives []cairn.Drive
	for n := range 20 {
		free := int64(1 << 40)
		if n < 10 {
			free = 2 << 40
		}
		drives = append(drives, testDrive(n, free))
	}
	big := 0
	const rounds = 20000
	for seed := range uint64(rounds) {
		ids, err := Place(drives, 1, seed)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(drives[:10], func(d cairn.Drive) bool { return d.ID == ids[0] }) {
			big++
		}
	}
	if share := float64(big) / rounds; share < 0.64 || share > 0.69 {
		t.Errorf("drives with two thirds of the space got %.3f of the slots", share)
	}
}

// A drive that takes part in many open volumes gets fewer new ones.
func TestPlaceAgainstLoad(t *testing.T) {
	var drives []cairn.Drive
	for n := range 10 {
		drives = append(drives, testDrive(n, 1<<40))
	}
	p := NewPlacer(drives, map[cairn.DriveID]int{drives[0].ID: 3})
	busy := 0
	const rounds = 20000
	for seed := range uint64(rounds) {
		ids, err := p.Place(1, seed)
		if err != nil {
			t.Fatal(err)
		}
		if ids[0] == drives[0].ID {
			busy++
		}
	}
	if share := float64(busy) / rounds; share < 0.02 || share > 0.035 { // a quarter of a share: 0.25/9.25
		t.Errorf("a drive with three open volumes got %.3f of the slots", share)
	}
}

func TestReplace(t *testing.T) {
	known := map[cairn.DriveID]cairn.Drive{}
	var drives []cairn.Drive
	for n := range 8 {
		d := testDrive(n, 1<<30, fmt.Sprintf("n%d", n%4))
		known[d.ID] = d
		drives = append(drives, d)
	}
	v := cairn.Volume{ID: 5, Slots: []cairn.DriveID{drives[0].ID, drives[1].ID, drives[2].ID}} // on n0, n1, n2
	if got, ok := Replace(drives, known, v, 1); !ok || known[got].Domains[0] == "n0" || known[got].Domains[0] == "n2" {
		t.Errorf("slot 1 goes to %v on %v, want a drive of n1 or n3", known[got].Path, known[got].Domains)
	}
	successor := testDrive(99, 1, "n0")
	successor.Path = drives[1].Path
	if got, ok := Replace(append(drives, successor), known, v, 1); !ok || got != successor.ID {
		t.Errorf("slot 1 goes to %v, want the drive that took the path", known[got].Path)
	}
	if got, ok := Replace(drives[:3], known, v, 1); ok {
		t.Errorf("slot 1 goes to %v though every drive is in the volume", got)
	}
}
