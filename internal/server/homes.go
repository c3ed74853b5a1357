package server

import (
	"context"
	"slices"
	"time"

	"cairn"
	"cairn/datanode"
	"cairn/meta"
)

// homesEvery is how often the drives are looked at for metadata voters: from memory, so often is cheap.
const homesEvery = 100 * time.Millisecond

// keepHomes tells meta which drives may carry voters, whenever that changes.
func keepHomes(ctx context.Context, node *datanode.Node, m *meta.Store) error {
	t := time.NewTicker(homesEvery)
	defer t.Stop()
	var last []meta.Home
	for {
		if now := homes(node.Statuses()); !slices.Equal(now, last) {
			m.SetHomes(now)
			last = now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// homes turns drives into homes of voters: pure. A full drive keeps the voter that it has room for (meta's rows are small
// and the data node leaves a reserve); a drive that cannot be written cannot hold one.
func homes(drives []cairn.DriveStatus) []meta.Home {
	var hs []meta.Home
	for _, d := range drives {
		if d.ID.IsZero() {
			continue // never seen: nobody knows yet whose it is
		}
		hs = append(hs, meta.Home{Drive: d.ID, Dir: d.Path, Usable: d.State == cairn.DriveOK || d.State == cairn.DriveFull})
	}
	return hs
}
