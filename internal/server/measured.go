package server

import (
	"context"
	"slices"
	"sync"
	"time"

	"cairn"
	"cairn/internal/rpc"
)

// measured is a drive as its own node measures it, or as it was committed if the node does not answer.
type measured struct {
	cairn.DriveStatus
	local bool
	node  string // name, in a cluster
}

func (m measured) name() string {
	if m.node == "" {
		return m.Path
	}
	return m.node + ":" + m.Path
}

const (
	measureTimeout = time.Second
	maxStatuses    = 1 << 20
)

// measured asks every data node for its drives, all at once, and does not wait for one that is not up.
func (f *facts) measured(ctx context.Context) (all []measured) {
	site := f.parts.site
	if site == nil {
		return named(f.parts.node.Statuses(), "", true)
	}
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	nodes := slices.DeleteFunc(site.known(), func(n cairn.Node) bool { return !n.Roles.Has(cairn.RoleData) })
	slices.SortFunc(nodes, func(a, b cairn.Node) int { return slices.Compare([]byte(a.Name), []byte(b.Name)) })
	parts := make([][]measured, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		if n.ID == site.id {
			parts[i] = named(f.parts.node.Statuses(), n.Name, true)
			continue
		}
		wg.Go(func() { parts[i] = f.ask(ctx, n) })
	}
	wg.Wait()
	return slices.Concat(parts...)
}

func named(list []cairn.DriveStatus, node string, local bool) []measured {
	all := make([]measured, 0, len(list))
	for _, d := range list {
		all = append(all, measured{d, local, node})
	}
	return all
}

// ask returns what a node measures; if it does not answer, the committed rows, as the view sees them.
func (f *facts) ask(ctx context.Context, n cairn.Node) []measured {
	var list []cairn.DriveStatus
	client, base, err := f.parts.site.dialer.Peer(n.ID)
	if err == nil && (n.State == cairn.NodeUp || n.State == cairn.NodeDraining || n.State == cairn.NodeJoining) {
		if rpc.GetJSON(ctx, client, base+"/data/v1/drives", maxStatuses, &list) == nil {
			return named(list, n.Name, false)
		}
	}
	for _, d := range f.parts.view.Drives() {
		if d.Node != n.ID || d.Retired {
			continue
		}
		list = append(list, cairn.DriveStatus{ID: d.ID, Path: d.Path, State: d.State, Since: d.StateSince, Reason: d.Reason,
			TotalBytes: d.TotalBytes, FreeBytes: d.FreeBytes})
	}
	return named(list, n.Name, false)
}
