package replica

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"cairn"
	"cairn/internal/rpc"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A voter on another node is made there from a checkpoint that the leader streams: a tar of the state's files in frames
// that carry checksums and an end. What is cut off leaves a directory that is never opened, and the next try begins anew.

// Headers of a seed.
const (
	voterHeader = "Cairn-Meta-Voter"
	driveHeader = "Cairn-Meta-Drive"
	indexHeader = "Cairn-Meta-Index"
	termHeader  = "Cairn-Meta-Term"
)

const (
	seedLimit    = 30 * time.Minute // for all of one seed
	maxSeedFiles = 100_000
	seenPatience = 10 * time.Second // for a node that was seeded to tell of its voter
)

// seedFar begins to make a voter on a home of another node that carries none.
func (g *Group) seedFar(r *roster, node cairn.NodeID) {
	h := r.hellos[node]
	if h == nil {
		return
	}
	i := slices.IndexFunc(h.Homes, func(hh helloHome) bool {
		where := farHome(node, hh.Drive)
		return hh.Usable && hh.Voter == 0 && !hh.Busy && !g.beingSeeded(where) && time.Now().After(g.keeping.seedAfter[where])
	})
	if i < 0 {
		return
	}
	drive := h.Homes[i].Drive
	where := farHome(node, drive)
	g.beginSeed(r, where, node)
	g.seeders.Go(func() {
		id, err := g.sendSeed(r.lead, node, drive)
		if err == nil {
			g.awaitVoter(node, id)
		}
		g.keep.Lock()
		defer g.keep.Unlock()
		delete(g.keeping.seeding, where)
		if err != nil {
			g.keeping.seedAfter[where] = time.Now().Add(seedPause)
			g.logOnce(where, err)
		}
	})
}

func farHome(node cairn.NodeID, drive cairn.DriveID) string {
	return node.String() + "/" + drive.String()
}

// awaitVoter waits until a node tells of a voter that it was seeded with, or gives up.
func (g *Group) awaitVoter(node cairn.NodeID, id uint64) {
	for end := time.Now().Add(seenPatience); time.Now().Before(end); {
		if h := g.heardHellos()[node]; h != nil && slices.ContainsFunc(h.Homes, func(hh helloHome) bool { return hh.Voter == id }) {
			return
		}
		select {
		case <-g.stopTick:
			return
		case <-time.After(helloEvery / 10):
		}
	}
}

// sendSeed streams a checkpoint of a voter to a home of another node, as the state of a new voter.
func (g *Group) sendSeed(from *voter, node cairn.NodeID, drive cairn.DriveID) (id uint64, err error) {
	id = newVoterID()
	ctx, cancel := context.WithTimeout(context.Background(), seedLimit)
	defer cancel()
	defer context.AfterFunc(g.guests.ctx, cancel)() // Close does not wait for it
	err = g.withCheckpoint(from, id, func(point string, pos position) error {
		pr, pw := io.Pipe()
		sent := make(chan error, 1)
		go func() {
			err := packDir(g.cfg.FS, point, pw)
			pw.CloseWithError(err)
			sent <- err
		}()
		err := g.postSeed(ctx, node, pr, map[string]string{voterHeader: voterName(id), driveHeader: drive.String(), groupHeader: from.groupID,
			indexHeader: strconv.FormatUint(pos.index, 10), termHeader: strconv.FormatUint(pos.term, 10)})
		pr.CloseWithError(errClosed)
		if e := <-sent; err == nil {
			err = e
		}
		if err != nil {
			return &cairn.Error{Op: "meta.seed", Subject: node.String(), Err: err}
		}
		g.cfg.Logger.Info("meta voter seeded", "voter", voterName(id), "node", node, "drive", drive, "index", pos.index)
		return nil
	})
	return id, err
}

func (g *Group) postSeed(ctx context.Context, node cairn.NodeID, body io.Reader, header map[string]string) error {
	client, base, err := g.cfg.Peers.Peer(node)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+VotersPath+"seed", body)
	if err != nil {
		return err
	}
	req.ContentLength = -1
	g.sign(req.Header)
	for k, v := range header {
		req.Header.Set(k, v)
	}
	long := *client
	long.Timeout = 0
	resp, err := long.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", err, cairn.ErrUnavailable)
	}
	defer resp.Body.Close()
	return rpc.ReadError(resp)
}

// packDir writes the files of a flat directory.
func packDir(fs vfs.FS, dir string, w io.Writer) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	frames := rpc.NewFrameWriter(w)
	tw := tar.NewWriter(frames)
	for _, name := range names {
		if err := packFile(fs, fs.PathJoin(dir, name), name, tw); err != nil {
			return errors.Join(err, frames.Fail(err))
		}
	}
	if err := tw.Close(); err != nil {
		return err
	}
	return frames.End()
}

func packFile(fs vfs.FS, path, name string, tw *tar.Writer) error {
	f, err := fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Name: name, Size: st.Size(), Mode: 0o644}); err != nil {
		return err
	}
	_, err = io.CopyN(tw, f, st.Size())
	return err
}

// unpackDir makes a flat directory of what packDir wrote, synced, or fails.
func unpackDir(fs vfs.FS, dir string, r io.Reader) error {
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	frames := rpc.NewFrameReader(r)
	tr := tar.NewReader(frames)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if n == maxSeedFiles || h.Typeflag != tar.TypeReg || h.Name != fs.PathBase(h.Name) || h.Name == ".." || h.Name == "." {
			return fmt.Errorf("seed holds %q: %w", h.Name, cairn.ErrInvalid)
		}
		if err := unpackFile(fs, fs.PathJoin(dir, h.Name), tr); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, frames); err != nil { // the frame that says that this was all
		return err
	}
	return syncDir(fs, dir)
}

func unpackFile(fs vfs.FS, path string, r io.Reader) error {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// serveSeed makes a voter on a home of this node from what the leader streams.
func (g *Group) serveSeed(w http.ResponseWriter, r *http.Request, from cairn.NodeID) error {
	f, drive, pos, err := g.seedRequest(r)
	if err != nil {
		return err
	}
	done, ok := g.guests.enter()
	if !ok {
		return errClosed
	}
	defer done()
	home, err := g.offerHome(drive, f.Group)
	if err != nil {
		return err
	}
	rc := http.NewResponseController(w)
	defer context.AfterFunc(g.guests.ctx, func() { _ = rc.SetReadDeadline(time.Now()) })()
	body := &patientReader{r: r.Body, rc: rc}
	err = g.makeVoter(home, f, pos, func(dir string) error { return unpackDir(g.cfg.FS, dir, body) })
	g.keep.Lock()
	defer g.keep.Unlock()
	delete(g.keeping.seeding, home.Dir)
	if err == nil && g.keeping.groupID == "" {
		err = g.markHome(home, f.Group)
	}
	if err != nil {
		return &cairn.Error{Op: "meta.seed", Subject: home.Dir, Err: err}
	}
	var id uint64
	fmt.Sscanf(f.Voter, "%x", &id)
	g.keeping.seeded[id] = true
	delete(g.keeping.openAfter, home.Dir)
	g.changed()
	g.cfg.Logger.Info("meta voter seeded by the leader", "voter", f.Voter, "dir", home.Dir, "node", from, "index", pos.index)
	return nil
}

func (g *Group) seedRequest(r *http.Request) (f voterFile, drive cairn.DriveID, pos position, err error) {
	f = voterFile{Format: fileFormat, Cluster: g.cfg.Cluster, Group: r.Header.Get(groupHeader), Voter: r.Header.Get(voterHeader)}
	id, err := strconv.ParseUint(f.Voter, 16, 64)
	if err == nil && (id == 0 || voterName(id) != f.Voter || f.Group == "") {
		err = errors.New("voter and group are needed")
	}
	if err == nil {
		err = drive.UnmarshalText([]byte(r.Header.Get(driveHeader)))
	}
	if err == nil {
		pos.index, err = strconv.ParseUint(r.Header.Get(indexHeader), 10, 64)
	}
	if err == nil {
		pos.term, err = strconv.ParseUint(r.Header.Get(termHeader), 10, 64)
	}
	if err != nil {
		return f, drive, pos, fmt.Errorf("seed: %w: %w", err, cairn.ErrInvalid)
	}
	return f, drive, pos, nil
}

// offerHome reserves the home on a drive for a new voter of a group.
func (g *Group) offerHome(drive cairn.DriveID, group string) (Home, error) {
	g.keep.Lock()
	defer g.keep.Unlock()
	if own := g.keeping.groupID; own != "" && own != group {
		return Home{}, fmt.Errorf("this node holds metadata of group %s, not of %s: %w", own, group, cairn.ErrForbidden)
	}
	for _, h := range g.homesNow() {
		if h.Drive != drive {
			continue
		}
		if !h.Usable || g.runsAt(h.Dir) || g.beingSeeded(h.Dir) {
			return Home{}, fmt.Errorf("home %s takes no voter now: %w", h.Dir, cairn.ErrUnavailable)
		}
		g.keeping.seeding[h.Dir] = g.cfg.Node
		return h, nil
	}
	return Home{}, fmt.Errorf("drive %s is not here: %w", drive, cairn.ErrNotFound)
}

// markHome writes the group's mark onto the first home that holds anything of it.
func (g *Group) markHome(home Home, group string) error {
	return writeJSON(g.cfg.FS, home.Dir, groupName, groupFile{Format: fileFormat, Cluster: g.cfg.Cluster, Group: group})
}

// patientReader lets a stream take as long as it needs, but not fall silent.
type patientReader struct {
	r  io.Reader
	rc *http.ResponseController
	at time.Time
}

func (p *patientReader) Read(b []byte) (int, error) {
	if now := time.Now(); now.Sub(p.at) > streamSilence/20 {
		p.at = now
		_ = p.rc.SetReadDeadline(now.Add(streamSilence)) // where it cannot be set, the connection's own limit holds
	}
	return p.r.Read(b)
}
