package server

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"cairn"
	"cairn/admin"
)

const (
	throttleRow   = "background.throttle" // JSON of cairn.Throttle
	throttleEvery = 2 * time.Second       // between looks whether it has changed
)

// committedThrottle is what was set last, wherever that was; the default if nothing ever was.
func (p *parts) committedThrottle(ctx context.Context) (cairn.Throttle, error) {
	b, err := p.meta.Config(ctx, throttleRow)
	if errors.Is(err, cairn.ErrNotFound) {
		return cairn.DefaultThrottle(), nil
	}
	var t cairn.Throttle
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	return t, err
}

// followThrottle lets this process's drives keep to what was committed, until ctx ends.
func (p *parts) followThrottle(ctx context.Context) error {
	tick := time.NewTicker(throttleEvery)
	defer tick.Stop()
	for {
		// Without an answer the limits stay; what was committed had been checked.
		if t, err := p.committedThrottle(ctx); err == nil && t != p.node.Throttle() {
			_ = p.node.SetThrottle(t)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Throttle shows the limits of background work, and how fast it goes everywhere.
func (f *facts) Throttle(ctx context.Context) (admin.Throttle, error) {
	limits, err := f.parts.committedThrottle(ctx)
	if err != nil {
		return admin.Throttle{}, err
	}
	t := admin.Throttle{Throttle: limits, Drives: []admin.DrivePace{}, Nodes: []admin.NodePace{}}
	for _, d := range f.measured(ctx) {
		if d.Background.Ceiling == 0 {
			continue // its node does not answer
		}
		t.Drives = append(t.Drives, admin.DrivePace{Node: d.node, Path: d.Path, Drive: d.ID, Pace: d.Background})
		if !slices.ContainsFunc(t.Nodes, func(n admin.NodePace) bool { return n.Node == d.node }) {
			t.Nodes = append(t.Nodes, admin.NodePace{Node: d.node, Pace: d.NodeBackground})
		}
	}
	slices.SortFunc(t.Nodes, func(a, b admin.NodePace) int { return strings.Compare(a.Node, b.Node) })
	return t, nil
}

// SetThrottle commits limits; the other processes take them over within seconds.
func (f *facts) SetThrottle(ctx context.Context, t cairn.Throttle) error {
	if err := t.Validate(); err != nil {
		return err
	}
	b, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if err := f.parts.meta.PutConfig(ctx, throttleRow, b); err != nil {
		return err
	}
	return f.parts.node.SetThrottle(t)
}

var _ admin.Throttling = (*facts)(nil)
