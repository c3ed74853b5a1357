package replica

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"cairn"

	"github.com/cockroachdb/pebble/v2/vfs"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// A home holds:
//
//	meta/voter.json   which voter this is (voterFile)
//	meta/log/         its log
//	meta/state/       its state
//	meta-group.json   that the group exists (on homes without a voter too), so that no second one is ever begun
const (
	voterDir   = "meta"
	newDir     = "meta.new" // a voter in the making; never opened
	voterJSON  = "voter.json"
	groupName  = "meta-group.json"
	fileFormat = 1
)

// voterFile is meta/voter.json.
type voterFile struct {
	Format  int             `json:"format"`
	Cluster cairn.ClusterID `json:"cluster"`
	Group   string          `json:"group"` // drawn when the group was begun
	Voter   string          `json:"voter"`
	// Doubtful: the log ended in a damaged record once. Whether that was acknowledged is not known, so the voter neither
	// votes nor stands for election until a leader has brought it up to date.
	Doubtful bool `json:"doubtful,omitempty"`
}

// groupFile is meta-group.json.
type groupFile struct {
	Format  int             `json:"format"`
	Cluster cairn.ClusterID `json:"cluster"`
	Group   string          `json:"group"`
}

// firstPosition is where a new group's log begins: index 1 holds the initial members.
var firstPosition = position{index: 1, term: 1}

// makeVoter lays a new voter into home's meta.new, by fill for the state, and moves it into place.
func (g *Group) makeVoter(home Home, f voterFile, pos position, fill func(stateDir string) error) error {
	fs := g.cfg.FS
	tmp, final := fs.PathJoin(home.Dir, newDir), fs.PathJoin(home.Dir, voterDir)
	for _, dir := range []string{tmp, final} {
		if err := fs.RemoveAll(dir); err != nil && !isNotExist(err) {
			return err
		}
	}
	if err := fs.MkdirAll(tmp, 0o755); err != nil {
		return err
	}
	if err := fill(fs.PathJoin(tmp, "state")); err != nil {
		return err
	}
	log, err := newLog(fs, fs.PathJoin(tmp, "log"), g.cfg.SegmentBytes, pos.index, pos.term)
	if err != nil {
		return err
	}
	if err := log.Close(); err != nil {
		return err
	}
	if err := writeJSON(fs, tmp, voterJSON, f); err != nil {
		return err
	}
	// All of it is synced before its name says that it is a voter.
	if err := fs.Rename(tmp, final); err != nil {
		return err
	}
	return syncDir(fs, home.Dir)
}

var errCondemned = errors.New("failed before")

// openVoter starts the voter that a home holds.
func (g *Group) openVoter(home Home) (*voter, error) {
	fs := g.cfg.FS
	dir := fs.PathJoin(home.Dir, voterDir)
	var f voterFile
	if err := readJSON(fs, dir, voterJSON, &f); err != nil {
		return nil, err
	}
	if f.Cluster != g.cfg.Cluster {
		return nil, &cairn.Error{Op: "meta.voter", Subject: dir, Err: fmt.Errorf("belongs to cluster %s: %w", f.Cluster, cairn.ErrInvalid)}
	}
	v := &voter{home: home, dir: dir, group: g, cfg: &g.cfg, groupID: f.Group,
		in: newQueue[event](), appends: newQueue[*pb.Message](), applies: newQueue[*pb.Message](), dense: make(chan span, 1), stopped: make(chan struct{})}
	if _, err := fmt.Sscanf(f.Voter, "%x", &v.id); err != nil || v.id == 0 || v.id >= raft.LocalApplyThread {
		return nil, &cairn.Error{Op: "meta.voter", Subject: dir, Err: corrupt("voter id " + f.Voter)}
	}
	if g.keeping.condemned[v.id] {
		return nil, errCondemned
	}
	if err := v.openStores(fs, f); err != nil {
		return nil, &cairn.Error{Op: "meta.voter", Subject: dir, Err: err}
	}
	if v.st.table != nil {
		g.learnMembers(v.st.at.index, v.st.table)
	}
	if err := v.start(); err != nil {
		v.closeStores()
		return nil, err
	}
	return v, nil
}

func (v *voter) openStores(fs vfs.FS, f voterFile) (err error) {
	if v.log, err = openLog(fs, fs.PathJoin(v.dir, "log"), v.cfg.SegmentBytes); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	if v.log.dirty && !f.Doubtful {
		f.Doubtful = true
		if err = writeJSON(fs, v.dir, voterJSON, f); err != nil {
			v.log.Close()
			return err
		}
	}
	v.doubtful.Store(f.Doubtful)
	if err = v.log.begin(); err == nil {
		v.st, err = openState(v.cfg, v.group.shared, fs.PathJoin(v.dir, "state"), v.fail)
	}
	if err != nil {
		v.log.Close()
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

// closeStores closes what was opened of a voter that is given up because of another error.
func (v *voter) closeStores() {
	_ = v.log.Close()
	_ = v.st.close()
}

// trust ends a voter's doubt, durably first.
func (v *voter) trust() error {
	f := voterFile{}
	if err := readJSON(v.cfg.FS, v.dir, voterJSON, &f); err != nil {
		return err
	}
	f.Doubtful = false
	if err := writeJSON(v.cfg.FS, v.dir, voterJSON, f); err != nil {
		return err
	}
	v.doubtful.Store(false)
	return nil
}

// writeJSON replaces a file: the old or the whole new one is there after a crash.
func writeJSON(fs vfs.FS, dir, name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	tmp := fs.PathJoin(dir, name+".tmp")
	f, err := fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = fs.Rename(tmp, fs.PathJoin(dir, name))
	}
	if err != nil {
		return err
	}
	return syncDir(fs, dir)
}

func readJSON(fs vfs.FS, dir, name string, v any) error {
	path := fs.PathJoin(dir, name)
	f, err := fs.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return &cairn.Error{Op: "meta.voter", Subject: path, Err: fmt.Errorf("%w: %w", err, cairn.ErrCorrupt)}
	}
	return nil
}

func isNotExist(err error) bool { return errors.Is(err, os.ErrNotExist) }

func exists(fs vfs.FS, path string) (bool, error) {
	_, err := fs.Stat(path)
	if isNotExist(err) {
		return false, nil
	}
	return err == nil, err
}

func votersConf(ids []uint64) *pb.ConfState { return &pb.ConfState{Voters: ids} }
