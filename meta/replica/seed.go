package replica

import (
	"fmt"
	"slices"
	"time"

	"cairn"

	"github.com/cockroachdb/pebble/v2"
)

// seedOn begins to make a voter on a home that carries none: on this node, or on another.
func (g *Group) seedOn(r *roster, homes []Home, node cairn.NodeID) {
	if node != g.cfg.Node {
		g.seedFar(r, node)
		return
	}
	spare := g.spareHomes(homes)
	if len(spare) == 0 {
		return
	}
	h := spare[0]
	g.beginSeed(r, h.Dir, node)
	g.seeders.Go(func() {
		id, err := g.seed(r.lead, h)
		g.keep.Lock()
		defer g.keep.Unlock()
		delete(g.keeping.seeding, h.Dir)
		if err != nil {
			g.keeping.seedAfter[h.Dir] = time.Now().Add(seedPause)
			g.logOnce(h.Dir, err)
			return
		}
		g.keeping.seeded[id] = true
		delete(g.keeping.openAfter, h.Dir)
		g.changed()
	})
}

// beginSeed notes that a voter is being made, and keeps the log that it will need. g.keep is held.
func (g *Group) beginSeed(r *roster, where string, node cairn.NodeID) {
	g.keeping.seeding[where] = node
	if g.hold.Load() == 0 {
		g.hold.Store(r.first)
		g.holdAt.Store(time.Now().UnixNano())
	}
}

// seedPause is how long a home on which seeding failed is left alone.
const seedPause = 2 * time.Second

func (g *Group) beingSeeded(dir string) bool {
	_, busy := g.keeping.seeding[dir]
	return busy
}

// spareHomes returns usable homes without a running voter, those that never held one first.
func (g *Group) spareHomes(homes []Home) []Home {
	var clean, used []Home
	for _, h := range homes {
		if !h.Usable || g.runsAt(h.Dir) || g.beingSeeded(h.Dir) || time.Now().Before(g.keeping.seedAfter[h.Dir]) {
			continue
		}
		if found, err := exists(g.cfg.FS, g.cfg.FS.PathJoin(h.Dir, voterDir)); err != nil || found {
			used = append(used, h)
		} else {
			clean = append(clean, h)
		}
	}
	return slices.Concat(clean, used)
}

// seed makes a voter on home from a checkpoint of a healthy one. It has a new ID, so it has promised nothing to anybody; it
// joins as a learner and votes once it has caught up.
func (g *Group) seed(from *voter, home Home) (id uint64, err error) {
	id = newVoterID()
	f := voterFile{Format: fileFormat, Cluster: g.cfg.Cluster, Group: from.groupID, Voter: voterName(id)}
	err = g.withCheckpoint(from, id, func(point string, pos position) error {
		err := g.makeVoter(home, f, pos, func(dir string) error { return copyDir(g.cfg.FS, point, dir) })
		if err != nil {
			return &cairn.Error{Op: "meta.seed", Subject: home.Dir, Err: err}
		}
		g.cfg.Logger.Info("meta voter seeded", "voter", voterName(id), "dir", home.Dir, "index", pos.index)
		return nil
	})
	return id, err
}

// withCheckpoint calls f with a copy of a voter's state, made for voter id, which is gone afterwards.
func (g *Group) withCheckpoint(from *voter, id uint64, f func(point string, pos position) error) (err error) {
	if !from.acquire() {
		return errClosed
	}
	defer from.release()
	fs := g.cfg.FS
	point := fs.PathJoin(from.dir, "seed-"+voterName(id))
	defer func() {
		if e := fs.RemoveAll(point); err == nil && !isNotExist(e) {
			err = e
		}
	}()
	err = from.st.fuse.run(func() error {
		if err := from.st.db.Flush(); err != nil {
			return err
		}
		return from.st.db.Checkpoint(point)
	})
	if err != nil {
		return &cairn.Error{Op: "meta.seed", Subject: from.dir, Err: err}
	}
	pos, err := g.checkpointPosition(point)
	if err != nil {
		return &cairn.Error{Op: "meta.seed", Subject: point, Err: err}
	}
	return f(point, pos)
}

// checkpointPosition reads which log index a checkpoint stands at.
func (g *Group) checkpointPosition(dir string) (pos position, err error) {
	f := newFuse()
	o := stateOptions(&g.cfg, g.shared, f.blow)
	o.ReadOnly = true
	err = f.run(func() error {
		db, err := pebble.Open(dir, o)
		if err != nil {
			return err
		}
		row, closer, err := db.Get(appliedKey)
		if err == nil {
			pos, _, err = decodeApplied(row)
			closer.Close()
		}
		if e := db.Close(); err == nil {
			err = e
		}
		return err
	})
	if err != nil {
		return pos, fmt.Errorf("checkpoint: %w", err)
	}
	return pos, nil
}
