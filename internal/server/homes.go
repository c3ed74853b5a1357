package server

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"cairn"
	"cairn/datanode"
	"cairn/meta"
)

// homesEvery is how often the drives are looked at for metadata voters: from memory, so often is cheap.
const homesEvery = 100 * time.Millisecond

// keepHomes tells meta which drives may carry voters, whenever that changes.
func keepHomes(ctx context.Context, node *datanode.Node, plan homePlan, m *meta.Store) error {
	t := time.NewTicker(homesEvery)
	defer t.Stop()
	var last []meta.Home
	for {
		if now := plan.list(node.Statuses()); !slices.Equal(now, last) {
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

// homePlan says where a process's voters may live: on its drives, in a directory of its own if it has the meta role and no
// drives, nowhere without the role.
type homePlan struct {
	dirs  []string // that voters may write below
	alone *meta.Home
	none  bool
}

// voterName is the directory of a node that has the meta role and no drives.
const voterName = "voter"

func homesOf(s State, dir string) homePlan {
	var p homePlan
	for _, d := range s.Drives(dir) {
		p.dirs = append(p.dirs, d.Path)
	}
	switch {
	case s.Member == nil:
	case !s.Member.Roles.Has(cairn.RoleMeta):
		return homePlan{none: true}
	case len(p.dirs) == 0:
		home := filepath.Join(dir, voterName)
		p.dirs = []string{home}
		p.alone = &meta.Home{Drive: cairn.DriveID(s.Node), Dir: home, Usable: true}
	}
	return p
}

// prepare makes the directory that is no drive.
func (p homePlan) prepare() error {
	if p.alone == nil {
		return nil
	}
	return os.MkdirAll(p.alone.Dir, 0o755)
}

func (p homePlan) list(drives []cairn.DriveStatus) []meta.Home {
	switch {
	case p.none:
		return nil
	case p.alone != nil:
		return []meta.Home{*p.alone}
	}
	return homes(drives)
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
