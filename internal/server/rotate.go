package server

import (
	"context"
	"fmt"
	"time"

	"cairn"
	"cairn/admin"
	"cairn/meta"
	"cairn/sse"
)

// RotateKey gives a master key a new version and begins the job that wraps data keys anew under it. What was wrapped under older
// versions opens as before, so nothing waits for the job.
func (f *facts) RotateKey(ctx context.Context, name string) (r admin.Rotated, err error) {
	p := f.parts
	all, err := p.meta.Jobs(ctx)
	if err != nil {
		return r, err
	}
	for _, j := range all {
		if j.Kind == cairn.JobRewrap && j.Subject == name && !j.Ended() {
			return r, &cairn.Error{Op: "server.rotate key", Subject: name, Err: fmt.Errorf("job %s still wraps data keys anew: %w", j.ID, cairn.ErrExists)}
		}
	}
	if _, inFile := p.keys.service.(*sse.Ring); name == sse.StoreKey || inFile {
		if err := p.oneCopyOfKeys(ctx); err != nil {
			return r, err
		}
		if err := p.keys.rotate(name); err != nil {
			return r, err
		}
		r.Version = p.keys.ring.Version(name)
	} // else the service has rotated its key by itself, or will: only the wrapping anew is ours
	r.Key = name
	r.Job, err = p.meta.CreateJob(ctx, cairn.JobRewrap, name)
	return r, err
}

// oneCopyOfKeys refuses a rotation where other nodes have copies of the keys file: they could not open what is wrapped under the
// new version.
func (p *parts) oneCopyOfKeys(ctx context.Context) error {
	if p.site == nil {
		return nil
	}
	nodes, err := p.meta.Nodes(ctx)
	if err != nil {
		return err
	}
	if len(nodes) > 1 {
		return &cairn.Error{Op: "server.rotate key", Err: fmt.Errorf("each of the %d nodes has a copy of %s, and a new version cannot be handed to all of "+
			"them yet: keys of Vault's transit engine can be rotated: %w", len(nodes), keysName, cairn.ErrPrecondition)}
	}
	return nil
}

// rotate saves the ring with a key's new version before anything is wrapped under it.
func (f *keysFile) rotate(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock() // held across the save: rotations follow one another, and nothing else waits for it
	next, err := f.ring.Rotated(name, time.Now())
	if err != nil {
		return err
	}
	if err := f.save(next); err != nil {
		return err
	}
	f.ring.Adopt(next)
	return nil
}

const (
	rewrapPage = 500
	// rewrapPause lets clients' commits go before the next page.
	rewrapPause = 5 * time.Millisecond
	// maxRewrapPasses bounds the passes of one job: each after the first is for what changed its place during the one before.
	maxRewrapPasses = 5
)

// rewrapRunner wraps data keys anew.
type rewrapRunner struct{ p *parts }

// Run goes over all versions and uploads until a pass finds nothing to do. It may stop anywhere: the next run begins anew.
func (r rewrapRunner) Run(ctx context.Context, j cairn.Job, report func(cairn.Progress)) error {
	total, err := r.versions(ctx)
	if err != nil {
		return err
	}
	_, tellsOld := r.p.keys.service.(*sse.Ring)
	changed := 0
	for range maxRewrapPasses {
		again, looked := false, 0
		for at := (meta.RewrapPlace{}); !at.Done(); {
			next, page, err := r.p.meta.Rewrap(ctx, at, rewrapPage, func(rec cairn.Encryption) (cairn.Encryption, bool, error) {
				return r.rewrap(ctx, j.Subject, rec)
			})
			if err != nil {
				return err
			}
			at, looked, changed = next, looked+page.Looked, changed+page.Changed
			again = again || page.Changed+page.Missed > 0
			report(cairn.Progress{Reason: fmt.Sprintf("%d of %d versions looked at, %d data keys wrapped anew", min(looked, total), total, changed)})
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(rewrapPause):
			}
		}
		if !again || !tellsOld && j.Subject != sse.StoreKey { // of another service's key nobody can tell what is old: once is enough
			break
		}
	}
	return nil
}

// rewrap is about the records of one master key only.
func (r rewrapRunner) rewrap(ctx context.Context, key string, rec cairn.Encryption) (cairn.Encryption, bool, error) {
	if rec.Scheme == cairn.SSES3 && key == sse.StoreKey || rec.Scheme == cairn.SSEKMS && rec.KeyID == key {
		return r.p.keys.keys.Rewrap(ctx, rec)
	}
	return rec, false, nil
}

func (r rewrapRunner) versions(ctx context.Context) (n int, err error) {
	buckets, err := r.p.meta.Buckets(ctx)
	for _, b := range buckets {
		st, err := r.p.meta.Stats(ctx, b.Name)
		if err != nil {
			return 0, err
		}
		n += int(st.Versions + st.Uploads)
	}
	return n, err
}

// Cancel has nothing to undo: what is wrapped under an older version stays so, and opens.
func (r rewrapRunner) Cancel(context.Context, cairn.Job) error { return nil }
