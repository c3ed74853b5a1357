package meta_test

import (
	"testing"
	"time"

	"cairn"
)

// What was found stays known: open while it waits in the queue, then with what became of it, up to a bound.
func TestFindings(t *testing.T) {
	s := newStore(t, 1)
	ctx := t.Context()
	shard := cairn.Damage{Shard: cairn.ShardID{Volume: 1, Blob: 2, Slot: 3}, Kind: cairn.DamageCorrupt, Drive: cairn.DriveID{9}, By: "scrub",
		Note: "block 4", Found: time.Unix(100, 0).UTC()}
	slot := cairn.Damage{Shard: cairn.ShardID{Volume: 1, Slot: 4}, Kind: cairn.DamageSlot, By: "drive"}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.AddDamage(ctx, []cairn.Damage{shard, slot}))
	shard.Tries = 2
	must(s.RetryDamage(ctx, shard))
	list, err := s.Findings(ctx, 10)
	must(err)
	if len(list) != 2 || list[0].Outcome != cairn.OutcomeOpen || !list[0].Resolved.IsZero() || list[0].Shard != shard.Shard {
		t.Fatalf("open findings: %+v", list)
	}
	must(s.ResolveDamage(ctx, cairn.OutcomeRepaired, []cairn.ShardID{shard.Shard, {Volume: 7}})) // the second is not there
	orphans := cairn.Finding{Kind: cairn.FindingOrphan, Shard: cairn.ShardID{Volume: 5, Blob: 6, Slot: 1}, Drive: cairn.DriveID{8}, Count: 12,
		By: "scrub", Outcome: cairn.OutcomeRemoved}
	must(s.AddFindings(ctx, []cairn.Finding{orphans}))
	list, err = s.Findings(ctx, 10)
	must(err)
	if len(list) != 3 || list[0].Outcome != cairn.OutcomeOpen || list[0].Kind != "slot" {
		t.Fatalf("findings: %+v", list)
	}
	got := list[2]
	if got.Resolved.IsZero() {
		t.Error("no time of resolution")
	}
	got.Resolved = time.Time{}
	want := cairn.Finding{Found: shard.Found, Kind: "corrupt", Shard: shard.Shard, Drive: shard.Drive, Count: 1, By: "scrub", Note: "block 4",
		Tries: 2, Outcome: cairn.OutcomeRepaired}
	if got != want {
		t.Errorf("resolved: got %+v, want %+v", got, want)
	}
	if o := list[1]; o.Kind != cairn.FindingOrphan || o.Count != 12 || o.Drive != orphans.Drive || o.Shard != orphans.Shard || o.Found.IsZero() {
		t.Errorf("orphans: %+v", o)
	}
	if list, err := s.Findings(ctx, 2); err != nil || len(list) != 2 {
		t.Errorf("two at most: %+v, %v", list, err)
	}
	for i := range 20 {
		orphans.Resolved = time.Unix(int64(1000+i), 0)
		must(s.AddFindings(ctx, []cairn.Finding{orphans}))
	}
	must(s.TrimFindings(ctx, 5))
	list, err = s.Findings(ctx, 100)
	must(err)
	if len(list) != 6 || list[5].Resolved.Unix() != 1017 {
		t.Errorf("%d findings after the history was cut to five, the oldest %+v", len(list), list[len(list)-1])
	}
}
