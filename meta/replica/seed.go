package replica

import (
	"fmt"
	"slices"
	"time"

	"cairn"

	"github.com/cockroachdb/pebble/v2"
)

// seedSpares begins to make up to need voters on homes that carry none.
func (g *Group) seedSpares(r *roster, homes []Home, need int) {
	for _, h := range g.spareHomes(homes) {
		if need == 0 {
			return
		}
		need--
		g.keeping.seeding[h.Dir] = true
		if g.hold.Load() == 0 {
			g.hold.Store(r.first)
			g.holdAt.Store(time.Now().UnixNano())
		}
		lead := r.lead
		g.seeders.Go(func() {
			id, err := g.seed(lead, h)
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
}

// seedPause is how long a home on which seeding failed is left alone.
const seedPause = 2 * time.Second

// spareHomes returns usable homes without a running voter, those that never held one first.
func (g *Group) spareHomes(homes []Home) []Home {
	var clean, used []Home
	for _, h := range homes {
		if !h.Usable || g.runsAt(h.Dir) || g.keeping.seeding[h.Dir] || time.Now().Before(g.keeping.seedAfter[h.Dir]) {
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
	if !from.acquire() {
		return 0, errClosed
	}
	defer from.release()
	fs := g.cfg.FS
	id = newVoterID()
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
		return 0, &cairn.Error{Op: "meta.seed", Subject: from.dir, Err: err}
	}
	pos, err := g.checkpointPosition(point)
	if err != nil {
		return 0, &cairn.Error{Op: "meta.seed", Subject: point, Err: err}
	}
	f := voterFile{Format: fileFormat, Cluster: g.cfg.Cluster, Group: from.groupID, Voter: voterName(id)}
	err = g.makeVoter(home, f, pos, func(dir string) error { return copyDir(fs, point, dir) })
	if err != nil {
		return 0, &cairn.Error{Op: "meta.seed", Subject: home.Dir, Err: err}
	}
	g.cfg.Logger.Info("meta voter seeded", "voter", voterName(id), "dir", home.Dir, "index", pos.index)
	return id, nil
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
