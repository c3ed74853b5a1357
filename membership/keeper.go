package membership

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"cairn"
)

// KeeperConfig configures a Keeper.
type KeeperConfig struct {
	Meta KeeperRows
	Node Node
	// NodeID and Domains (failure domains, widest first, ending with the node) go into the rows of the node's drives.
	NodeID  cairn.NodeID
	Domains []string
	// PollEvery is how often the node's measurements are looked at (from memory); default 250 ms.
	PollEvery time.Duration
	// CommitEvery is how often they are compared with the committed rows though nothing seemed to change; default 1 s.
	CommitEvery time.Duration
	// Changed is called after rows were committed; Returned for every drive that became writable. They must not block.
	Changed  func()
	Returned func(cairn.DriveID)
	Logger   *slog.Logger // default: discard
}

// KeeperRows is what a Keeper needs of the metadata service.
type KeeperRows interface {
	DriveRows
	NodeRows
}

const (
	defaultPollEvery    = 250 * time.Millisecond
	defaultRefreshEvery = time.Second
	commitTimeout       = 5 * time.Second // of one round of reads or commits
)

func (c *KeeperConfig) setDefaults() error {
	if c.Meta == nil || c.Node == nil {
		return &cairn.Error{Op: "membership.keeper", Err: fmt.Errorf("Meta and Node are needed: %w", cairn.ErrInvalid)}
	}
	setDefault(&c.PollEvery, defaultPollEvery)
	setDefault(&c.CommitEvery, defaultRefreshEvery)
	if c.Changed == nil {
		c.Changed = func() {}
	}
	if c.Returned == nil {
		c.Returned = func(cairn.DriveID) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.PollEvery < 0 || c.CommitEvery < 0 {
		return &cairn.Error{Op: "membership.keeper", Err: fmt.Errorf("negative interval: %w", cairn.ErrInvalid)}
	}
	return nil
}

func setDefault[T comparable](p *T, d T) {
	var zero T
	if *p == zero {
		*p = d
	}
}

// Keeper commits what a data node measures of its own drives. One runs in every process that has drives.
type Keeper struct {
	cfg  KeeperConfig
	told map[cairn.DriveID]bool // copies that a person was told of; Run's
}

// NewKeeper returns a Keeper; Run does its work.
func NewKeeper(cfg KeeperConfig) (*Keeper, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	return &Keeper{cfg: cfg}, nil
}

// Run polls and commits until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	var polling sync.WaitGroup
	polling.Go(func() { k.poll(ctx, changed) })
	defer polling.Wait()
	return rounds(ctx, k.cfg.CommitEvery, changed, func(ctx context.Context) {
		if err := k.commitDrives(ctx); err != nil && ctx.Err() == nil {
			k.cfg.Logger.Warn("what the drives can do could not be committed", "err", err)
		}
	})
}

// rounds runs one round after the other until ctx ends: at once, whenever it is woken, and every so often in any case.
func rounds(ctx context.Context, every time.Duration, wake <-chan struct{}, round func(context.Context)) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-wake:
		}
		bounded, cancel := context.WithTimeout(ctx, commitTimeout)
		round(bounded)
		cancel()
		timer.Reset(every)
	}
}

// poll signals when a drive's identity or state differs from the last look.
func (k *Keeper) poll(ctx context.Context, changed chan<- struct{}) {
	tick := time.NewTicker(k.cfg.PollEvery)
	defer tick.Stop()
	var last []cairn.DriveStatus
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := k.cfg.Node.Statuses()
		if !slices.EqualFunc(now, last, func(a, b cairn.DriveStatus) bool {
			return a.ID == b.ID && a.State == b.State && a.Path == b.Path && slices.Equal(a.Replaced, b.Replaced)
		}) {
			select {
			case changed <- struct{}{}:
			default:
			}
		}
		last = now
	}
}

func (k *Keeper) commitDrives(ctx context.Context) error {
	rows, err := k.cfg.Meta.Drives(ctx)
	if err != nil {
		return err
	}
	nodes, err := k.cfg.Meta.Nodes(ctx)
	if err != nil {
		return err
	}
	letGo(rows, nodes, k.cfg.NodeID)
	k.tellCopies(rows)
	changed, returned := transitions(time.Now(), k.cfg.NodeID, k.cfg.Domains, rows, k.cfg.Node.Statuses())
	if len(changed) > 0 {
		if err := k.cfg.Meta.PutDrives(ctx, changed); err != nil {
			return err
		}
		before := map[cairn.DriveID]cairn.Drive{}
		for _, d := range rows {
			before[d.ID] = d
		}
		for _, d := range changed {
			if old, ok := before[d.ID]; !ok || old.State != d.State || old.Retired != d.Retired {
				k.cfg.Logger.Info("drive changed", "drive", d.ID, "path", d.Path, "state", d.State,
					"retired", d.Retired, "reason", d.Reason)
			}
		}
	}
	if len(changed) > 0 {
		k.cfg.Changed()
	}
	for _, id := range returned {
		k.cfg.Returned(id)
	}
	return nil
}

// tellCopies tells a person, once, of drives here that another node has too.
func (k *Keeper) tellCopies(rows []cairn.Drive) {
	now := map[cairn.DriveID]bool{}
	for _, d := range copies(k.cfg.NodeID, rows, k.cfg.Node.Statuses()) {
		if now[d.ID] = true; !k.told[d.ID] {
			k.cfg.Logger.Error("this drive is another node's, and is not used here: one of the two is a copy; stop that node first if the disk was moved, "+
				"or give an empty directory", "drive", d.ID, "path", d.Path, "node", d.Node)
		}
	}
	k.told = now
}

// letGo marks the drives of other nodes that are gone as missing: a disk of a dead machine may be put into another one.
func letGo(rows []cairn.Drive, nodes []cairn.Node, self cairn.NodeID) {
	gone := map[cairn.NodeID]bool{}
	for _, n := range nodes {
		if n.State == cairn.NodeDown || n.State == cairn.NodeOut || n.State == cairn.NodeRemoved {
			gone[n.ID] = true
		}
	}
	for i := range rows {
		if rows[i].Node != self && gone[rows[i].Node] {
			rows[i].State = cairn.DriveMissing
		}
	}
}
