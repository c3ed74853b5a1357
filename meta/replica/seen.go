package replica

import (
	"context"
	"errors"

	"go.etcd.io/raft/v3"
)

// Seen tells whether a request ID was committed before, and with what outcome; it waits for one that is under way.
func (g *Group) Seen(ctx context.Context, id uint64) (o Outcome, found bool, err error) {
	for {
		r, err := g.route(ctx)
		if err != nil {
			return o, false, err
		}
		if r.v == nil {
			o, found, err = g.seenAt(ctx, r, id)
			if err == nil || ctx.Err() != nil || !errors.Is(err, errUnknown) && !errors.Is(err, errNotLeader) {
				return o, found, err
			}
		} else if o, found, ok, err := g.seenHere(ctx, r.v, r.term, id); ok || err != nil {
			return o, found, err
		}
		if err := g.unconfirmed(ctx); err != nil {
			return o, false, err
		}
	}
}

// seenHere asks the voter that leads in term; not ok if it does not, or not any more, or has not applied the request yet.
func (g *Group) seenHere(ctx context.Context, v *voter, term, id uint64) (o Outcome, found, ok bool, err error) {
	known := false
	called := v.call(func(*raft.RawNode) {
		known = v.ready.Load() == term
		if known {
			o.Index, o.Result, found = v.seen.find(id)
		}
	})
	if !called || !known || found && v.applied.Load() < o.Index {
		return o, false, false, nil
	}
	o.Repeat = found
	if g.confirm(v, term) {
		return o, found, true, nil
	}
	if g.links == nil || v.readIndex(ctx, readPatience) != nil || v.ready.Load() != term {
		return o, false, false, nil // asked again
	}
	return o, found, true, nil
}
