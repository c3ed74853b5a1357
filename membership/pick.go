package membership

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"cairn"
)

// Pick returns an open volume for a new blob and a blob ID that was never used. Volumes of the profile asked for come
// first, as long as all their slots can be written; with too few healthy drives for it, volumes of the widest profile
// that is as safe and fits (made on the spot if there is none); then any narrower whole one; a volume with a sick slot
// but a write quorum comes last. Among equals it goes round. ErrUnavailable when nothing of these is left.
func (v *View) Pick(ctx context.Context, want cairn.Profile, avoid []cairn.VolumeID) (cairn.Volume, cairn.BlobID, error) {
	vol, ok := v.choose(v.now.Load(), want, avoid)
	if !ok {
		var err error
		if vol, err = v.pickSlow(ctx, want, avoid); err != nil {
			return cairn.Volume{}, 0, err
		}
	}
	id, err := v.blobID(ctx)
	return vol, id, err
}

// PickAround is Pick as if the drives that are sick could not be written: a writer has seen that before it was measured or
// committed. It finds a whole volume without them, or makes one, as narrow as it has to be. ErrUnavailable when too few are left.
func (v *View) PickAround(ctx context.Context, want cairn.Profile, sick []cairn.DriveID) (cairn.Volume, cairn.BlobID, error) {
	vol, err := v.around(ctx, want, sick)
	if err != nil {
		return cairn.Volume{}, 0, err
	}
	id, err := v.blobID(ctx)
	return vol, id, err
}

func (v *View) around(ctx context.Context, want cairn.Profile, sick []cairn.DriveID) (cairn.Volume, error) {
	select {
	case v.making <- struct{}{}: // others who need the same volume find the one that is made here
		defer func() { <-v.making }()
	case <-ctx.Done():
		return cairn.Volume{}, &cairn.Error{Op: "membership.pick around", Subject: want.String(), Err: errors.Join(cairn.ErrCanceled, ctx.Err())}
	}
	s := v.now.Load().without(sick, v.cfg.NodeID)
	if vol, ok := v.choose(s, want, nil); ok {
		return vol, nil
	}
	fit, ok := Width(want, len(s.writable))
	if !ok {
		return cairn.Volume{}, &cairn.Error{Op: "membership.pick around", Subject: want.String(), Err: s.refusal(want, 0)}
	}
	return v.createOn(ctx, s, fit)
}

// choose finds a volume of the very profile that fits now.
func (v *View) choose(s *snapshot, want cairn.Profile, avoid []cairn.VolumeID) (cairn.Volume, bool) {
	fit, ok := Width(want, len(s.writable))
	if !ok {
		return cairn.Volume{}, false
	}
	return v.next(s.shelf(fit).whole, avoid)
}

func (v *View) next(from []cairn.Volume, avoid []cairn.VolumeID) (cairn.Volume, bool) {
	if len(from) == 0 {
		return cairn.Volume{}, false
	}
	at := v.turn.Add(1)
	for i := range uint64(len(from)) {
		if vol := from[(at+i)%uint64(len(from))]; !slices.Contains(avoid, vol.ID) {
			return vol, true
		}
	}
	return cairn.Volume{}, false
}

// pickSlow makes a volume if there is none of the profile that fits, and falls back to what there is.
func (v *View) pickSlow(ctx context.Context, want cairn.Profile, avoid []cairn.VolumeID) (cairn.Volume, error) {
	if err := want.Validate(); err != nil {
		return cairn.Volume{}, err
	}
	v.mu.Lock()
	v.wanted[want] = true
	v.mu.Unlock()
	err := v.ensure(ctx, want, avoid)
	s := v.now.Load()
	if vol, ok := v.choose(s, want, avoid); ok {
		return vol, nil
	}
	fits := narrowing(want)
	for _, p := range fits {
		if vol, ok := v.next(s.shelf(p).whole, avoid); ok {
			return vol, nil
		}
	}
	for _, p := range fits {
		if vol, ok := v.next(s.shelf(p).partial, avoid); ok {
			return vol, nil
		}
	}
	if err == nil {
		err = s.refusal(want, len(avoid))
	}
	return cairn.Volume{}, &cairn.Error{Op: "membership.pick", Subject: want.String(), Err: err}
}

// refusal says why no volume can be written: the drives are full, or too few are healthy.
func (s *snapshot) refusal(want cairn.Profile, tried int) error {
	full, kind := 0, cairn.ErrUnavailable
	for _, d := range s.drives {
		if d.State == cairn.DriveFull && !d.Retired {
			full++
		}
	}
	if _, ok := Width(want, len(s.writable)+full); ok && full > 0 {
		kind = cairn.ErrFull
	}
	return fmt.Errorf("no volume can be written: of %d drives %d can be written and %d are full; %d volumes were tried: %w",
		len(s.drives), len(s.writable), full, tried, kind)
}

// lease is a range of blob IDs that this process may hand out until it expires.
type lease struct {
	next    atomic.Uint64
	end     uint64 // exclusive
	expires time.Time
}

// blobID hands out the next leased ID; a new range is reserved when the old one is used up or too old: the orphan
// watermark may pass an old range, and commits of blobs below it are refused.
func (v *View) blobID(ctx context.Context) (cairn.BlobID, error) {
	if id, ok := v.lease.Load().take(); ok {
		return id, nil
	}
	v.leaseMu.Lock()
	defer v.leaseMu.Unlock()
	if id, ok := v.lease.Load().take(); ok {
		return id, nil
	}
	// The age counts from before the reservation, so that it is never thought younger than Meta thinks.
	expires := time.Now().Add(v.cfg.LeaseAge)
	first, err := v.cfg.Meta.ReserveBlobIDs(ctx, v.cfg.LeaseIDs)
	if err != nil {
		return 0, err
	}
	l := &lease{end: uint64(first) + v.cfg.LeaseIDs, expires: expires}
	l.next.Store(uint64(first) + 1)
	v.lease.Store(l)
	return first, nil
}

func (l *lease) take() (cairn.BlobID, bool) {
	if l == nil || time.Now().After(l.expires) {
		return 0, false
	}
	id := l.next.Add(1) - 1
	return cairn.BlobID(id), id < l.end
}
