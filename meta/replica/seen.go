package replica

import (
	"context"

	"go.etcd.io/raft/v3"
)

// Seen tells whether a request ID was committed before, and with what outcome; it waits for one that is under way.
func (g *Group) Seen(ctx context.Context, id uint64) (o Outcome, found bool, err error) {
	for {
		v, term, err := g.leader(ctx)
		if err != nil {
			return o, false, err
		}
		known := false
		ok := v.call(func(*raft.RawNode) {
			known = v.ready.Load() == term
			if known {
				o.Index, o.Result, found = v.seen.find(id)
			}
		})
		if ok && known && (!found || v.applied.Load() >= o.Index) && g.confirm(v, term) {
			o.Repeat = found
			return o, found, nil
		}
		if err := g.unconfirmed(ctx); err != nil {
			return o, false, err
		}
	}
}
