package membership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"cairn"
)

// KeeperConfig configures a Keeper.
type KeeperConfig struct {
	View *View
	Meta Meta
	Node Node
	// NodeID and Domains (failure domains, widest first, ending with the node) go into the rows of new drives.
	NodeID  cairn.NodeID
	Domains []string
	// Profile is the default profile: volumes of it are kept open from the start.
	Profile cairn.Profile
	// SealBytes and SealBlobs say when a volume takes no more blobs; defaults 64 GiB and one million.
	SealBytes, SealBlobs int64
	// OutDelay is how long a drive may be missing, failing, hung or read-only before its slots are rebuilt on another
	// drive, if there is one outside the volume. A retired drive is never waited for. Default 10 min.
	OutDelay time.Duration
	// PollEvery is how often the node's measurements are looked at (from memory); default 250 ms.
	PollEvery time.Duration
	// RefreshEvery is how often committed rows are read again; default 1 s.
	RefreshEvery time.Duration
	// Damaged is called after damage was recorded; Returned for every drive that became writable. They must not block.
	Damaged  func()
	Returned func(cairn.DriveID)
	Logger   *slog.Logger // default: discard
}

const (
	defaultSealBytes    = 64 << 30
	defaultSealBlobs    = 1 << 20
	defaultOutDelay     = 10 * time.Minute
	defaultPollEvery    = 250 * time.Millisecond
	defaultRefreshEvery = time.Second
	sealEvery           = 10 * time.Second // volume statistics move slowly
	repeatDamage        = 5 * time.Second  // while its cause lasts, a finding is recorded again this often
	commitTimeout       = 5 * time.Second  // of one round of reads or commits
	damageBatch         = 256              // findings in one commit
)

func (c *KeeperConfig) setDefaults() error {
	if c.View == nil || c.Meta == nil || c.Node == nil {
		return &cairn.Error{Op: "membership.keeper", Err: fmt.Errorf("View, Meta and Node are needed: %w", cairn.ErrInvalid)}
	}
	if err := c.Profile.Validate(); err != nil {
		return err
	}
	setDefault(&c.SealBytes, defaultSealBytes)
	setDefault(&c.SealBlobs, defaultSealBlobs)
	setDefault(&c.OutDelay, defaultOutDelay)
	setDefault(&c.PollEvery, defaultPollEvery)
	setDefault(&c.RefreshEvery, defaultRefreshEvery)
	if c.Damaged == nil {
		c.Damaged = func() {}
	}
	if c.Returned == nil {
		c.Returned = func(cairn.DriveID) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.PollEvery < 0 || c.RefreshEvery < 0 || c.OutDelay < 0 || c.SealBytes < 0 || c.SealBlobs < 0 {
		return &cairn.Error{Op: "membership.keeper", Err: fmt.Errorf("negative interval or limit: %w", cairn.ErrInvalid)}
	}
	return nil
}

func setDefault[T comparable](p *T, d T) {
	var zero T
	if *p == zero {
		*p = d
	}
}

// Keeper commits what the node measures and keeps volumes open. One runs per process.
type Keeper struct {
	cfg      KeeperConfig
	recorded map[cairn.ShardID]time.Time // when a slot's damage was recorded last; used by Run's commit loop alone
	sealed   time.Time                   // when sealing was last considered
}

// NewKeeper returns a Keeper; Run does its work.
func NewKeeper(cfg KeeperConfig) (*Keeper, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	return &Keeper{cfg: cfg, recorded: map[cairn.ShardID]time.Time{}}, nil
}

// Run polls and commits until ctx ends. Measurements reach the View even while Meta has no leader (it may have been on
// the very drive that vanished), so the two loops are apart.
func (k *Keeper) Run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	var polling sync.WaitGroup
	polling.Go(func() { k.poll(ctx, changed) })
	defer polling.Wait()
	refresh := time.NewTimer(0)
	defer refresh.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-refresh.C:
		case <-changed:
		}
		if err := k.round(ctx); err != nil && ctx.Err() == nil {
			k.cfg.Logger.Warn("drives and volumes could not be brought up to date", "err", err)
		}
		refresh.Reset(k.cfg.RefreshEvery)
	}
}

// poll feeds the View and signals when a drive's identity or state differs from the last look.
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
		k.cfg.View.Poll()
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

// round brings committed rows in line with the measurements once. A part that fails does not keep the others from trying.
func (k *Keeper) round(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	if err := k.commitDrives(ctx); err != nil {
		return err
	}
	if err := k.cfg.View.Refresh(ctx); err != nil {
		return err
	}
	return errors.Join(k.recordDamage(ctx), k.openVolumes(ctx), k.sealVolumes(ctx))
}

func (k *Keeper) commitDrives(ctx context.Context) error {
	rows, err := k.cfg.Meta.Drives(ctx)
	if err != nil {
		return err
	}
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
	for _, id := range returned {
		k.cfg.Returned(id)
	}
	return nil
}

// recordDamage records slots whose drive is gone, again and again while that lasts: the row of an earlier finding may
// have been resolved just as the slot's next drive went too.
func (k *Keeper) recordDamage(ctx context.Context) error {
	now := time.Now()
	found := slotDamage(now, k.cfg.OutDelay, k.cfg.View.now.Load())
	current := make(map[cairn.ShardID]time.Time, len(found))
	var fresh []cairn.Damage
	for _, d := range found {
		last, ok := k.recorded[d.Shard]
		if !ok || now.Sub(last) >= repeatDamage {
			fresh = append(fresh, d)
			continue
		}
		current[d.Shard] = last
	}
	k.recorded = current
	for batch := range slices.Chunk(fresh, damageBatch) {
		if err := k.cfg.Meta.AddDamage(ctx, batch); err != nil {
			return err
		}
		for _, d := range batch {
			k.recorded[d.Shard] = now
		}
	}
	if len(fresh) > 0 {
		k.cfg.Damaged()
	}
	return nil
}

// openVolumes keeps volumes of the default profile, and of those that were asked for, open.
func (k *Keeper) openVolumes(ctx context.Context) error {
	v := k.cfg.View
	v.mu.Lock()
	profiles := maps.Clone(v.wanted)
	v.mu.Unlock()
	profiles[k.cfg.Profile] = true
	var errs []error
	for p := range profiles {
		errs = append(errs, v.topUp(ctx, p))
	}
	return errors.Join(errs...)
}

// sealVolumes closes volumes that are full.
func (k *Keeper) sealVolumes(ctx context.Context) error {
	if time.Since(k.sealed) < sealEvery {
		return nil
	}
	k.sealed = time.Now()
	for _, vol := range k.cfg.View.now.Load().volumes {
		if vol.State != cairn.VolumeOpen {
			continue
		}
		blobs, bytes, err := k.cfg.Meta.VolumeStats(ctx, vol.ID)
		if err != nil {
			return err
		}
		if blobs < k.cfg.SealBlobs && bytes < k.cfg.SealBytes {
			continue
		}
		if err := k.cfg.Meta.SealVolume(ctx, vol.ID); err != nil {
			return err
		}
		k.cfg.Logger.Info("volume sealed", "volume", vol.ID, "blobs", blobs, "bytes", bytes)
	}
	return nil
}
