package replica

import (
	"context"
	"errors"
	"fmt"

	"cairn"
)

// farView reads from a voter on another node. Its state is fixed by its first read: later ones are of that state or of a
// later one, as for a voter of this process.
type farView struct {
	g     *Group
	ctx   context.Context // of View: reading has none of its own
	node  cairn.NodeID
	index uint64
}

// farViewOf returns a view at the leader's node, or at any that carries a voter while the leader does not answer.
func (g *Group) farViewOf(ctx context.Context) (*View, error) {
	if n, _ := g.compass.leaderNow(); n.IsZero() {
		if any := g.compass.anyVoter(); !any.IsZero() && any != g.cfg.Node {
			return &View{far: &farView{g: g, ctx: ctx, node: any}}, nil
		}
	}
	r, err := g.route(ctx)
	if err != nil {
		return nil, err
	}
	if r.v != nil {
		return nil, errNotLeader // it has become one just now: look again
	}
	return &View{far: &farView{g: g, ctx: ctx, node: r.node}}, nil
}

// saw notes the state of the first read: a decision is checked against that one, whatever later reads saw.
func (f *farView) saw(index uint64) {
	if f.index == 0 {
		f.index = index
	}
}

func (f *farView) get(key, buf []byte) (value []byte, found bool, err error) {
	reply, err := f.call("read", encodeRead(f.index, key))
	if err != nil {
		return nil, false, err
	}
	index, found, value, err := decodeRow(reply)
	if err != nil || !found {
		f.saw(index)
		return nil, false, err
	}
	f.saw(index)
	return append(buf, value...), true, nil
}

// call asks the view's node; when that fails another one has the rows (ErrMoved).
func (f *farView) call(what string, body []byte) ([]byte, error) {
	reply, err := f.g.call(f.ctx, f.node, what, body)
	switch {
	case err == nil:
		return reply, nil
	case f.ctx.Err() != nil:
		return nil, fmt.Errorf("%w: %w", f.ctx.Err(), cairn.ErrCanceled)
	case errors.Is(err, ErrMoved) && what == "walk":
		return nil, err // the walk ended, the node is well
	case cairn.Kind(err) == cairn.ErrOverloaded, cairn.Kind(err) == cairn.ErrForbidden, cairn.Kind(err) == cairn.ErrInvalid:
		return nil, err
	}
	f.g.compass.shun(f.node)
	return nil, fmt.Errorf("%w: %w", ErrMoved, err)
}
