package membership

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cairn"
)

// Config configures a View.
type Config struct {
	Meta Meta
	// Node measures this process's drives, nil if it has none; NodeID is whose drives those are (zero: all drives are).
	Node   Node
	NodeID cairn.NodeID
	// Unit is the stripe unit of new volumes in bytes, a multiple of 64 KiB; default 256 KiB.
	Unit int64
	// OpenVolumes is how many volumes of a profile take writes at once; default 4.
	OpenVolumes int
	// LeaseIDs is how many blob IDs are reserved at a time; default 65,536.
	LeaseIDs uint64
	// LeaseAge is how long a range of blob IDs is used; it must stay far below the orphan grace. Default 1 h.
	LeaseAge time.Duration
	// PollEvery is how often Run looks at the node's measurements (from memory); default 250 ms.
	PollEvery time.Duration
	// RefreshEvery is how often Run reads what was committed; default 1 s.
	RefreshEvery time.Duration
	Logger       *slog.Logger // default: discard
}

const (
	defaultUnit        = 256 << 10
	defaultOpenVolumes = 4
	defaultLeaseIDs    = 65536
	defaultLeaseAge    = time.Hour
	volumePage         = 1000 // volumes read at a time
)

func (c *Config) setDefaults() error {
	if c.Meta == nil {
		return &cairn.Error{Op: "membership.new", Err: fmt.Errorf("Meta is needed: %w", cairn.ErrInvalid)}
	}
	if c.Node == nil {
		c.Node = driveless{}
	}
	setDefault(&c.PollEvery, defaultPollEvery)
	setDefault(&c.RefreshEvery, defaultRefreshEvery)
	if c.Unit == 0 {
		c.Unit = defaultUnit
	}
	if c.OpenVolumes == 0 {
		c.OpenVolumes = defaultOpenVolumes
	}
	if c.LeaseIDs == 0 {
		c.LeaseIDs = defaultLeaseIDs
	}
	if c.LeaseAge == 0 {
		c.LeaseAge = defaultLeaseAge
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Unit < 64<<10 || c.Unit%(64<<10) != 0 || c.OpenVolumes < 1 || c.LeaseAge < 0 || c.PollEvery < 0 || c.RefreshEvery < 0 {
		return &cairn.Error{Op: "membership.new", Err: fmt.Errorf("unit %d, %d open volumes, lease age %v, intervals %v and %v: %w",
			c.Unit, c.OpenVolumes, c.LeaseAge, c.PollEvery, c.RefreshEvery, cairn.ErrInvalid)}
	}
	return nil
}

// driveless is the Node of a process without drives.
type driveless struct{}

func (driveless) Statuses() []cairn.DriveStatus { return nil }

// View answers where blobs live and where new ones go. It is safe for concurrent use, and its hot calls (Volume of a known
// volume, Pick, DriveState) read one immutable snapshot without a lock.
type View struct {
	cfg   Config
	now   atomic.Pointer[snapshot]
	lease atomic.Pointer[lease]
	turn  atomic.Uint64
	// making admits one creator of volumes at a time, so that a thousand writers that find none do not make a thousand.
	making chan struct{}

	mu      sync.Mutex // guards what a new snapshot is made of
	volumes *table
	epoch   cairn.Epoch // of the cluster map that volumes, rows and nodes have reached
	loaded  bool        // all volumes were read once
	rows    []cairn.Drive
	nodes   []cairn.Node
	live    []cairn.DriveStatus
	wanted  map[cairn.Profile]bool // profiles that were asked for; Steward keeps volumes of them open
	leaseMu sync.Mutex             // one leaser at a time; held across the reservation, which Pick must wait for anyway
}

// New returns a View that is empty until Refresh has run once (Pick and Volume run it when they need it).
func New(cfg Config) (*View, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	v := &View{cfg: cfg, making: make(chan struct{}, 1), volumes: newTable(),
		wanted: map[cairn.Profile]bool{}}
	v.now.Store(newSnapshot(newTable(), map[cairn.DriveID]cairn.Drive{}, nil, cfg.NodeID))
	v.Poll()
	return v, nil
}

// Run keeps the View up to date until ctx ends. Measurements come in even while Meta has no leader (it may have been on the
// very drive that vanished), so the two loops are apart.
func (v *View) Run(ctx context.Context) error {
	var polling sync.WaitGroup
	polling.Go(func() {
		tick := time.NewTicker(v.cfg.PollEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				v.Poll()
			}
		}
	})
	defer polling.Wait()
	return rounds(ctx, v.cfg.RefreshEvery, nil, func(ctx context.Context) {
		if err := v.Refresh(ctx); err != nil && ctx.Err() == nil {
			v.cfg.Logger.Warn("the cluster map could not be refreshed", "err", err)
		}
	})
}

// Refresh reads what changed of the committed volumes, drives and nodes since the last time, all of it the first time, and
// what the node measures now.
func (v *View) Refresh(ctx context.Context) error {
	v.mu.Lock()
	since, loaded := v.epoch, v.loaded
	v.mu.Unlock()
	at, err := v.cfg.Meta.MapEpoch(ctx)
	if err != nil {
		return err
	}
	if loaded && at == since {
		v.Poll()
		return nil
	}
	read := v.changes(since)
	if !loaded {
		read = v.everything()
	}
	for {
		page, more, err := read(ctx)
		if err != nil {
			return err
		}
		v.take(page)
		if !more {
			break
		}
	}
	nodes, err := v.cfg.Meta.Nodes(ctx)
	if err != nil {
		return err
	}
	rows, err := v.cfg.Meta.Drives(ctx)
	if err != nil {
		return err
	}
	live := v.cfg.Node.Statuses()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.loaded && v.epoch > at {
		return nil // another Refresh has seen more
	}
	// What was read may be newer than at: it is then read once more.
	v.epoch, v.loaded, v.rows, v.nodes, v.live = at, true, rows, nodes, live
	v.publishLocked()
	return nil
}

// everything returns a function that reads all volumes, a page with every call.
func (v *View) everything() func(context.Context) (page []cairn.Volume, more bool, err error) {
	after := cairn.VolumeID(0)
	return func(ctx context.Context) ([]cairn.Volume, bool, error) {
		page, err := v.cfg.Meta.Volumes(ctx, after, volumePage)
		if len(page) > 0 {
			after = page[len(page)-1].ID
		}
		return page, len(page) == volumePage, err
	}
}

// changes returns a function that reads the volumes that changed, a page with every call.
func (v *View) changes(since cairn.Epoch) func(context.Context) (page []cairn.Volume, more bool, err error) {
	return func(ctx context.Context) ([]cairn.Volume, bool, error) {
		page, at, err := v.cfg.Meta.ChangedVolumes(ctx, since, volumePage)
		since = at
		return page, len(page) == volumePage, err
	}
}

// take brings rows into the cache; they are seen with the next snapshot.
func (v *View) take(rows []cairn.Volume) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.volumes = v.volumes.with(rows)
}

// Poll takes in what the node measures now, from memory.
func (v *View) Poll() {
	if _, none := v.cfg.Node.(driveless); none {
		return
	}
	live := v.cfg.Node.Statuses()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.live = live
	v.publishLocked()
}

func (v *View) publishLocked() {
	v.now.Store(newSnapshot(v.volumes, overlay(v.rows, v.live, v.cfg.NodeID), v.nodes, v.cfg.NodeID))
}

// Volume returns the row of a volume. With fresh set it is read from Meta; otherwise it may come from the cache.
func (v *View) Volume(ctx context.Context, id cairn.VolumeID, fresh bool) (cairn.Volume, error) {
	if !fresh {
		if vol, ok := v.now.Load().table.get(id); ok {
			return vol, nil
		}
	}
	vol, err := v.cfg.Meta.Volume(ctx, id)
	if err != nil {
		return cairn.Volume{}, err
	}
	v.keep(vol)
	return vol, nil
}

// keep takes a row into the cache unless a newer one is there.
func (v *View) keep(vol cairn.Volume) {
	v.mu.Lock()
	defer v.mu.Unlock()
	have, ok := v.volumes.get(vol.ID)
	if ok && (have.Epoch > vol.Epoch || have.Epoch == vol.Epoch && have.State >= vol.State) {
		return
	}
	v.volumes = v.volumes.with([]cairn.Volume{vol})
	v.publishLocked()
}

// DriveState tells what is known of a drive now; a drive that nobody knows is missing.
func (v *View) DriveState(id cairn.DriveID) cairn.DriveState {
	d, ok := v.now.Load().drives[id]
	if !ok || d.Retired {
		return cairn.DriveMissing
	}
	return d.State
}

// Drives returns all drives, committed rows overlaid with what is measured now and with the states of their nodes, ordered
// by path.
func (v *View) Drives() []cairn.Drive {
	ds := slices.Collect(maps.Values(v.now.Load().drives))
	slices.SortFunc(ds, func(a, b cairn.Drive) int {
		if a.Path != b.Path {
			if a.Path < b.Path {
				return -1
			}
			return 1
		}
		return slices.Compare(a.ID[:], b.ID[:])
	})
	return ds
}

// Nodes returns the committed nodes, ordered by ID.
func (v *View) Nodes() []cairn.Node { return slices.Clone(v.now.Load().nodes) }

// Holds tells whether a volume has a slot on one of a node's drives.
func (v *View) Holds(node cairn.NodeID) bool {
	s := v.now.Load()
	on, some := s.table.marks(func(id cairn.DriveID) bool { return s.drives[id].Node == node })
	if !some {
		return false
	}
	for range s.table.on(on) {
		return true
	}
	return false
}

// Volumes walks the cached volumes in the order of their IDs, as they were when it was called.
func (v *View) Volumes() iter.Seq[cairn.Volume] { return v.now.Load().table.all() }

// Replace chooses another drive for a slot of a volume; see the function Replace. It reports false if no writable drive
// outside the volume exists.
func (v *View) Replace(vol cairn.Volume, slot uint8) (cairn.DriveID, bool) {
	s := v.now.Load()
	return s.placer().Replace(s.drives, vol, slot)
}

// create makes up to n volumes of a profile on writable drives and takes them into the cache.
func (v *View) create(ctx context.Context, p cairn.Profile, n int) error {
	for range n {
		if _, err := v.createOn(ctx, v.now.Load(), p); err != nil {
			return err
		}
	}
	return nil
}

// createOn makes a volume on drives that are writable in a snapshot.
func (v *View) createOn(ctx context.Context, s *snapshot, p cairn.Profile) (cairn.Volume, error) {
	slots, err := s.placer().Place(p.Width(), rand.Uint64())
	if err != nil {
		return cairn.Volume{}, err
	}
	vol, err := v.cfg.Meta.CreateVolume(ctx, cairn.Volume{Profile: p, Unit: v.cfg.Unit, State: cairn.VolumeOpen, Slots: slots})
	if err != nil {
		return cairn.Volume{}, err
	}
	v.keep(vol)
	v.cfg.Logger.Info("volume opened", "volume", vol.ID, "profile", p.String())
	return vol, nil
}

// ensure makes one volume of the widest profile that fits, unless there is one by now that is not to be avoided.
func (v *View) ensure(ctx context.Context, want cairn.Profile, avoid []cairn.VolumeID) error {
	select {
	case v.making <- struct{}{}:
		defer func() { <-v.making }()
	case <-ctx.Done():
		return &cairn.Error{Op: "membership.open", Subject: want.String(), Err: errors.Join(cairn.ErrCanceled, ctx.Err())}
	}
	if _, ok := v.choose(v.now.Load(), want, avoid); ok {
		return nil // another caller made it
	}
	// Read before making: after a start the cache is empty though volumes exist, and a state may just have changed.
	if err := v.Refresh(ctx); err != nil {
		return err
	}
	s := v.now.Load()
	fit, ok := Width(want, len(s.writable))
	if !ok || len(s.shelf(fit).whole) > 0 {
		return nil
	}
	return v.create(ctx, fit, 1)
}

// topUp makes volumes of a profile until OpenVolumes are open. Sick ones count, and narrower ones are not made here: a
// drive that is away for a minute should not leave a row of volumes behind, and a writer that finds no whole volume has
// one made at once (ensure).
func (v *View) topUp(ctx context.Context, want cairn.Profile) error {
	select {
	case v.making <- struct{}{}:
		defer func() { <-v.making }()
	case <-ctx.Done():
		return &cairn.Error{Op: "membership.open", Subject: want.String(), Err: errors.Join(cairn.ErrCanceled, ctx.Err())}
	}
	s := v.now.Load()
	if len(s.writable) < want.Width() {
		return nil
	}
	return v.create(ctx, want, v.cfg.OpenVolumes-s.shelf(want).open)
}
