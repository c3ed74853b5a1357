package repair

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"cairn"
	"cairn/erasure"
)

// Config configures a Repairer.
type Config struct {
	Meta   Meta
	Shards Shards
	Blobs  Blobs
	Drives Drives
	// Parallel is how many large blobs are rebuilt at once (small ones: smallPerLarge times as many); each holds two
	// pieces of 1 MiB per lacking shard, and what Reconstruct needs. Default 4.
	Parallel int
	// BlobTimeout bounds the rebuild of one blob; default 10 min, in which a throttle at its least floor lets one through.
	BlobTimeout time.Duration
	// Settle is what uploads have to commit, after their volume was sealed for its slots to move, before its epoch is raised,
	// which refuses them; default 30 s.
	Settle time.Duration
	// IdleEvery is how often the queue is looked at though nobody called Wake; default 2 s.
	IdleEvery time.Duration
	// Hazard tells how likely a drive is lost soon, beside a healthy one (1); default Hazard.
	Hazard func(cairn.Drive) float64
	// Trace is told of every blob that work begins on and ends with; nil for nobody. It must not block.
	Trace func(Step)
	// Paused: nothing is repaired before Pause(false).
	Paused bool
	Logger *slog.Logger // default: discard
}

// Step is an entry of the job log.
type Step struct {
	Volume cairn.VolumeID
	Blob   cairn.BlobID
	Slots  []uint8 // to be rebuilt
	Spare  int     // shards that the blob may still lose, as far as the plan knew
	Begun  bool    // else it has ended, with Err
	Err    error
}

// Hazard is how likely a drive is lost soon, judged by its state alone: one whose file system turned read-only has met
// errors, and most such drives do not recover.
func Hazard(d cairn.Drive) float64 {
	if d.State == cairn.DriveReadOnly {
		return readOnlyHazard
	}
	return 1
}

const (
	defaultParallel    = 4
	defaultBlobTimeout = 10 * time.Minute
	defaultIdleEvery   = 2 * time.Second
	smallPerLarge      = 8
	smallShard         = 256 << 10 // bytes; a shard up to this takes one share of the parallelism
	reportQueue        = 4096      // findings that wait to be recorded; more are dropped, scrub finds them again
	reportBatch        = 256       // findings in one commit
	rowsLoaded         = 65536     // rows of damage that one plan is made of
	slice              = 2 * time.Second
	pageBlobs          = 256 // blobs of a volume read at a time
	firstBackoff       = time.Second
	maxBackoff         = 5 * time.Minute
	readOnlyHazard     = 10
)

func (c *Config) setDefaults() error {
	if c.Meta == nil || c.Shards == nil || c.Blobs == nil || c.Drives == nil {
		return &cairn.Error{Op: "repair.new", Err: fmt.Errorf("Meta, Shards, Blobs and Drives are needed: %w", cairn.ErrInvalid)}
	}
	if c.Parallel == 0 {
		c.Parallel = defaultParallel
	}
	if c.BlobTimeout == 0 {
		c.BlobTimeout = defaultBlobTimeout
	}
	if c.Settle == 0 {
		c.Settle = drainSettle
	}
	if c.IdleEvery == 0 {
		c.IdleEvery = defaultIdleEvery
	}
	if c.Hazard == nil {
		c.Hazard = Hazard
	}
	if c.Trace == nil {
		c.Trace = func(Step) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Parallel < 0 || c.BlobTimeout < 0 || c.Settle < 0 || c.IdleEvery < 0 {
		return &cairn.Error{Op: "repair.new", Err: fmt.Errorf("negative limit: %w", cairn.ErrInvalid)}
	}
	return nil
}

// Repairer works on the queue of damage. Its methods are safe for concurrent use; one Run per cluster at a time is enough,
// more do no harm but double work.
type Repairer struct {
	cfg      Config
	room     *semaphore.Weighted // Parallel × smallPerLarge shares
	reports  chan cairn.Damage
	wake     chan struct{}
	progress *progress
	paused   atomic.Bool
	// queued holds the shards and slots that had rows at the last plan.
	queued atomic.Pointer[map[cairn.ShardID]bool]

	// The rest belongs to Run's work loop.
	notBefore map[cairn.ShardID]time.Time // back-off of rows that failed
	cursors   map[cairn.VolumeID]cursor
}

// New returns a Repairer; Run does its work.
func New(cfg Config) (*Repairer, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	r := &Repairer{cfg: cfg, room: semaphore.NewWeighted(int64(cfg.Parallel) * smallPerLarge),
		reports: make(chan cairn.Damage, reportQueue), wake: make(chan struct{}, 1), progress: newProgress(),
		notBefore: map[cairn.ShardID]time.Time{}, cursors: map[cairn.VolumeID]cursor{}}
	r.paused.Store(cfg.Paused)
	return r, nil
}

// Pause stops repair after what is under way (seconds), or lets it go on. Findings are recorded meanwhile.
func (r *Repairer) Pause(paused bool) {
	if r.paused.Swap(paused) && !paused {
		r.Wake()
	}
}

// Report hands in a finding. It never blocks: beyond the bounded queue findings are dropped, since scrub finds the same.
func (r *Repairer) Report(d cairn.Damage) {
	select {
	case r.reports <- d:
	default:
	}
}

// Wake makes the queue be looked at soon: rows were added, or a drive's state changed. It never blocks.
func (r *Repairer) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Status tells what is going on.
func (r *Repairer) Status() Status { return r.progress.snapshot() }

// Run records findings and repairs until ctx ends.
func (r *Repairer) Run(ctx context.Context) error {
	ctx = cairn.Background(ctx)
	var recording sync.WaitGroup
	recording.Go(func() { r.record(ctx) })
	defer recording.Wait()
	idle := time.NewTimer(0)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-idle.C:
		}
		for {
			if r.paused.Load() {
				break
			}
			more, err := r.round(ctx)
			if err != nil && ctx.Err() == nil {
				r.progress.failed(err)
				r.cfg.Logger.Warn("repair could not go on for now", "err", err)
			}
			if !more || err != nil || ctx.Err() != nil {
				break
			}
		}
		idle.Reset(r.cfg.IdleEvery)
	}
}

// record commits findings in batches. One that cannot be committed is dropped: scrub, or the next reader, finds it again.
func (r *Repairer) record(ctx context.Context) {
	for {
		var batch []cairn.Damage
		select {
		case <-ctx.Done():
			return
		case d := <-r.reports:
			batch = append(batch, d)
		}
		seen := map[cairn.ShardID]bool{batch[0].Shard: true}
		for len(batch) < reportBatch && len(r.reports) > 0 {
			if d := <-r.reports; !seen[d.Shard] {
				seen[d.Shard] = true
				batch = append(batch, d)
			}
		}
		if batch = r.news(batch); len(batch) == 0 {
			continue
		}
		for i := range batch {
			if batch[i].Found.IsZero() {
				batch[i].Found = time.Now()
			}
		}
		if err := r.cfg.Meta.AddDamage(ctx, batch); err != nil {
			if ctx.Err() == nil {
				r.cfg.Logger.Warn("findings were not recorded", "count", len(batch), "err", err)
			}
			continue
		}
		r.Wake()
	}
}

// news drops findings that tell nothing new: readers come by damaged shards, and those of a slot that is being rebuilt,
// again and again. What a drive said that cannot be read now is dropped too: then it was the drive that was bad.
func (r *Repairer) news(batch []cairn.Damage) []cairn.Damage {
	readable := map[cairn.DriveID]bool{{}: true} // a finding that names no drive
	for _, d := range r.cfg.Drives.Drives() {
		readable[d.ID] = d.State.Readable() && !d.Retired
	}
	var queued map[cairn.ShardID]bool
	if q := r.queued.Load(); q != nil {
		queued = *q
	}
	return slices.DeleteFunc(batch, func(d cairn.Damage) bool {
		return queued[d.Shard] || queued[cairn.ShardID{Volume: d.Shard.Volume, Slot: d.Shard.Slot}] || !readable[d.Drive]
	})
}

// round makes a plan and works on it for a time slice, so that what turns up meanwhile finds its place in the next plan.
// It reports whether anything was done that another round may follow up.
func (r *Repairer) round(ctx context.Context) (more bool, err error) {
	w, err := r.world(ctx)
	if err != nil {
		return false, err
	}
	p := makePlan(w)
	r.account(w, p)
	if len(p.jobs) == 0 {
		return false, nil
	}
	until := time.Now().Add(slice)
	jobs := p.urgent()
	for i := 0; i < len(jobs) && ctx.Err() == nil && (i == 0 || time.Now().Before(until)); {
		// Consecutive blobs to mend are worked on together, other jobs one by one.
		n := 1
		for jobs[i].do == mend && i+n < len(jobs) && jobs[i+n].do == mend {
			n++
		}
		i += r.work(ctx, jobs[i:i+n], until)
	}
	return true, nil
}

// world reads what a plan is made of.
func (r *Repairer) world(ctx context.Context) (world, error) {
	rows, err := r.cfg.Meta.Damage(ctx, rowsLoaded)
	if err != nil {
		return world{}, err
	}
	w := world{rows: rows, volumes: map[cairn.VolumeID]cairn.Volume{}, stats: map[cairn.VolumeID]stats{},
		drives: map[cairn.DriveID]cairn.Drive{}, replace: r.cfg.Drives.Replace, blocked: r.backOff(rows),
		hazard: r.cfg.Hazard}
	for _, d := range r.cfg.Drives.Drives() {
		w.drives[d.ID] = d
	}
	queued := make(map[cairn.ShardID]bool, len(rows))
	for _, row := range rows {
		if err := r.addVolume(ctx, &w, row); err != nil {
			return world{}, err
		}
		queued[row.Shard] = true
	}
	r.queued.Store(&queued)
	return w, nil
}

// addVolume reads the volume of a row, and how much it holds, unless they are there already.
func (r *Repairer) addVolume(ctx context.Context, w *world, row cairn.Damage) error {
	id := row.Shard.Volume
	if _, ok := w.volumes[id]; ok {
		return nil
	}
	v, err := r.cfg.Meta.Volume(ctx, id)
	if errors.Is(err, cairn.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	w.volumes[id] = v
	blobs, bytes, err := r.cfg.Meta.VolumeStats(ctx, id)
	w.stats[id] = stats{blobs, bytes}
	return err
}

// backOff forgets rows that are gone, and tells of the others whether they are to be left alone for now.
func (r *Repairer) backOff(rows []cairn.Damage) func(cairn.Damage) bool {
	now, live := time.Now(), make(map[cairn.ShardID]time.Time, len(r.notBefore))
	for _, row := range rows {
		if t, ok := r.notBefore[row.Shard]; ok {
			live[row.Shard] = t
		}
	}
	r.notBefore = live
	return func(d cairn.Damage) bool { return now.Before(live[d.Shard]) || now.Before(d.RetryAt) }
}

// account counts what the plan's jobs have still to do.
func (r *Repairer) account(w world, p plan) {
	var left, heal work
	for _, j := range p.jobs {
		var n work
		all := w.stats[j.volume.ID]
		switch j.do {
		case mend: // its length is known once its turn has come
			n = work{1, nominal(j.volume.Profile, all.bytes/max(all.blobs, 1), len(j.rows))}
		case fill, move:
			c := r.cursor(&j)
			n = work{max(all.blobs-c.blobs, 0), nominal(j.volume.Profile, max(all.bytes-c.bytes, 0), len(j.rows))}
		}
		left = left.add(n)
		if j.spare != planned {
			heal = heal.add(n)
		}
	}
	r.progress.planned(time.Now(), w.rows, p, left, heal)
}

// nominal is what so many shards of blobs are counted as: without the padding, which is not known before a blob's turn.
func nominal(p cairn.Profile, blobBytes int64, shards int) int64 {
	return blobBytes * int64(shards) / int64(p.K)
}

// work does the first of the jobs, or several of them if they are blobs to mend, and returns how many it took on.
func (r *Repairer) work(ctx context.Context, jobs []job, until time.Time) int {
	j := &jobs[0]
	switch j.do {
	case mend:
		return r.mendAll(ctx, jobs, until)
	case swap:
		r.settle(ctx, j, r.swap(ctx, j.volume, j.rows[0].Shard.Slot, j.to))
	case fill:
		r.settle(ctx, j, r.fill(ctx, j, until))
	case move:
		r.settle(ctx, j, r.move(ctx, j, until))
	}
	return 1
}

// settle sets the rows of a failed job aside for a while. A job that ended because ctx did has not failed.
func (r *Repairer) settle(ctx context.Context, j *job, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	r.progress.failed(err)
	now := time.Now()
	for _, row := range j.rows {
		wait := backoff(row.Tries)
		row.RetryAt = now.Add(wait)
		r.notBefore[row.Shard] = row.RetryAt // should it not be recorded
		row.Tries++
		row.Note = err.Error()
		row.Pass = r.cursors[j.volume.ID].saved(j)
		if err := r.cfg.Meta.RetryDamage(ctx, row); err != nil && !errors.Is(err, cairn.ErrNotFound) {
			r.cfg.Logger.Warn("failed repair was not recorded", "shard", row.Shard, "err", err)
		}
		r.cfg.Logger.Info("repair is put off", "shard", row.Shard, "tries", row.Tries, "wait", wait, "err", err)
	}
}

// backoff is how long something is left alone that has failed before.
func backoff(tries int) time.Duration { return min(firstBackoff<<min(tries, 20), maxBackoff) }

// shardLength is the length of each shard of a blob in bytes.
func shardLength(p cairn.Profile, unit, length int64) int64 {
	return erasure.Geometry{K: p.K, M: p.M, Unit: unit, Length: length}.ShardLen()
}
