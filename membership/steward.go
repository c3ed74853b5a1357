package membership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"cairn"
)

// StewardConfig configures a Steward.
type StewardConfig struct {
	View *View
	Meta Meta
	// Profile is the default profile: volumes of it are kept open from the start.
	Profile cairn.Profile
	// SealBytes and SealBlobs say when a volume takes no more blobs; defaults 64 GiB and one million.
	SealBytes, SealBlobs int64
	// OutDelay is how long a drive may be missing, failing, hung or read-only before its slots are rebuilt on another
	// drive, if there is one outside the volume. A retired drive is never waited for. Default 10 min.
	OutDelay time.Duration
	// RefreshEvery is how often the committed rows are looked at; default 1 s.
	RefreshEvery time.Duration
	// Damaged is called after damage was recorded. It must not block.
	Damaged func()
	Logger  *slog.Logger // default: discard
}

const (
	defaultSealBytes = 64 << 30
	defaultSealBlobs = 1 << 20
	defaultOutDelay  = 10 * time.Minute
	sealEvery        = 10 * time.Second // volume statistics move slowly
	repeatDamage     = 5 * time.Second  // while its cause lasts, a finding is recorded again this often
	damageBatch      = 256              // findings in one commit
)

func (c *StewardConfig) setDefaults() error {
	if c.View == nil || c.Meta == nil {
		return &cairn.Error{Op: "membership.steward", Err: fmt.Errorf("View and Meta are needed: %w", cairn.ErrInvalid)}
	}
	if err := c.Profile.Validate(); err != nil {
		return err
	}
	setDefault(&c.SealBytes, defaultSealBytes)
	setDefault(&c.SealBlobs, defaultSealBlobs)
	setDefault(&c.OutDelay, defaultOutDelay)
	setDefault(&c.RefreshEvery, defaultRefreshEvery)
	if c.Damaged == nil {
		c.Damaged = func() {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.RefreshEvery < 0 || c.OutDelay < 0 || c.SealBytes < 0 || c.SealBlobs < 0 {
		return &cairn.Error{Op: "membership.steward", Err: fmt.Errorf("negative interval or limit: %w", cairn.ErrInvalid)}
	}
	return nil
}

// Steward does for the cluster what only one process may do at a time: it keeps volumes open, seals full ones, and records
// the slots of drives that are gone as damage. It runs beside the leader of the metadata; that two run for a moment does no
// harm (a volume more is opened, a finding is recorded once).
type Steward struct {
	cfg      StewardConfig
	wake     chan struct{}
	recorded map[cairn.ShardID]time.Time // when a slot's damage was recorded last; used by Run alone
	sealed   time.Time                   // when sealing was last considered
}

// NewSteward returns a Steward; Run does its work.
func NewSteward(cfg StewardConfig) (*Steward, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	return &Steward{cfg: cfg, wake: make(chan struct{}, 1), recorded: map[cairn.ShardID]time.Time{}}, nil
}

// Wake makes Run look at once. It never blocks.
func (w *Steward) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends. It may be run again afterwards, never twice at once.
func (w *Steward) Run(ctx context.Context) error {
	return rounds(ctx, w.cfg.RefreshEvery, w.wake, func(ctx context.Context) {
		if err := w.round(ctx); err != nil && ctx.Err() == nil {
			w.cfg.Logger.Warn("volumes could not be brought up to date", "err", err)
		}
	})
}

// round brings the volumes in line with the drives once. A part that fails does not keep the others from trying.
func (w *Steward) round(ctx context.Context) error {
	if err := w.cfg.View.Refresh(ctx); err != nil {
		return err
	}
	return errors.Join(w.recordDamage(ctx), w.openVolumes(ctx), w.sealVolumes(ctx))
}

// recordDamage records slots whose drive is gone, again and again while that lasts: the row of an earlier finding may
// have been resolved just as the slot's next drive went too.
func (w *Steward) recordDamage(ctx context.Context) error {
	now := time.Now()
	found := slotDamage(now, w.cfg.OutDelay, w.cfg.View.now.Load())
	current := make(map[cairn.ShardID]time.Time, len(found))
	var fresh []cairn.Damage
	for _, d := range found {
		last, ok := w.recorded[d.Shard]
		if !ok || now.Sub(last) >= repeatDamage {
			fresh = append(fresh, d)
			continue
		}
		current[d.Shard] = last
	}
	w.recorded = current
	for batch := range slices.Chunk(fresh, damageBatch) {
		if err := w.cfg.Meta.AddDamage(ctx, batch); err != nil {
			return err
		}
		for _, d := range batch {
			w.recorded[d.Shard] = now
		}
	}
	if len(fresh) > 0 {
		w.cfg.Damaged()
	}
	return nil
}

// openVolumes keeps volumes of the default profile, and of those that were asked for, open.
func (w *Steward) openVolumes(ctx context.Context) error {
	v := w.cfg.View
	v.mu.Lock()
	profiles := maps.Clone(v.wanted)
	v.mu.Unlock()
	profiles[w.cfg.Profile] = true
	var errs []error
	for p := range profiles {
		errs = append(errs, v.topUp(ctx, p))
	}
	return errors.Join(errs...)
}

// sealVolumes closes volumes that are full.
func (w *Steward) sealVolumes(ctx context.Context) error {
	if time.Since(w.sealed) < sealEvery {
		return nil
	}
	w.sealed = time.Now()
	for _, vol := range w.cfg.View.now.Load().table.open {
		blobs, bytes, err := w.cfg.Meta.VolumeStats(ctx, vol.ID)
		if err != nil {
			return err
		}
		if blobs < w.cfg.SealBlobs && bytes < w.cfg.SealBytes {
			continue
		}
		if err := w.cfg.Meta.SealVolume(ctx, vol.ID); err != nil {
			return err
		}
		w.cfg.Logger.Info("volume sealed", "volume", vol.ID, "blobs", blobs, "bytes", bytes)
	}
	return nil
}
