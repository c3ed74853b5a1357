package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"cairn"
	"cairn/admin"
	"cairn/internal/join"
	"cairn/membership"
	"cairn/meta"
)

// Nodes returns the committed nodes; of a store of one process, the one that it is.
func (f *facts) Nodes(ctx context.Context) ([]cairn.Node, error) {
	if f.parts.site != nil {
		return f.parts.meta.Nodes(ctx)
	}
	s := f.server
	return []cairn.Node{{ID: s.state.Node, Roles: cairn.AllRoles, State: cairn.NodeUp, StateSince: s.started, Version: Version(), Format: cairn.FormatVersion}}, nil
}

// Drives returns all drives that are known.
func (f *facts) Drives(context.Context) ([]cairn.Drive, error) { return f.parts.view.Drives(), nil }

// Volumes returns a page of volumes.
func (f *facts) Volumes(ctx context.Context, after cairn.VolumeID, max int) ([]cairn.Volume, error) {
	list, err := f.parts.meta.Volumes(ctx, after, max)
	if list == nil {
		list = []cairn.Volume{}
	}
	return list, err
}

// Volume returns one volume with what it holds and where.
func (f *facts) Volume(ctx context.Context, id cairn.VolumeID) (d admin.VolumeDetail, err error) {
	if d.Volume, err = f.parts.meta.Volume(ctx, id); err != nil {
		return d, err
	}
	if d.Blobs, d.Bytes, err = f.parts.meta.VolumeStats(ctx, id); err != nil {
		return d, err
	}
	all := f.parts.view.Drives()
	for _, slot := range d.Slots {
		row := cairn.Drive{ID: slot, State: cairn.DriveMissing, Reason: "nobody knows this drive"}
		if i := slices.IndexFunc(all, func(d cairn.Drive) bool { return d.ID == slot }); i >= 0 {
			row = all[i]
		}
		d.Drives = append(d.Drives, row)
	}
	return d, nil
}

// CreateToken commits a new token's hash and returns the token.
func (f *facts) CreateToken(ctx context.Context, roles cairn.Roles, life time.Duration) (admin.NewToken, error) {
	site := f.parts.site
	if site == nil {
		return admin.NewToken{}, &cairn.Error{Op: "server.token",
			Err: fmt.Errorf("this store is one process; start it with --advertise HOST to make it the first node of a cluster: %w", cairn.ErrInvalid)}
	}
	now := time.Now().UTC()
	k := join.NewToken(f.server.state.Cluster, site.creds.Fingerprint())
	row := meta.Token{Hash: join.SecretHash(k.Secret[:]), Roles: roles, Created: now, Expires: now.Add(life)}
	if err := f.parts.meta.CreateToken(ctx, row); err != nil {
		return admin.NewToken{}, err
	}
	return admin.NewToken{Token: k.Reveal(), Roles: roles, Expires: row.Expires, Join: site.doorAddr()}, nil
}

// AddVoter lets a node carry metadata voters.
func (f *facts) AddVoter(ctx context.Context, node cairn.NodeID) error {
	return f.parts.meta.AddVoter(ctx, node)
}

// RemoveVoter moves the metadata away from a node.
func (f *facts) RemoveVoter(ctx context.Context, node cairn.NodeID) error {
	return f.parts.meta.RemoveVoter(ctx, node)
}

// outTries bounds how often NodeOut begins anew because the watcher changed the row meanwhile.
const outTries = 5

// NodeOut commits that a node is out because an operator says so.
func (f *facts) NodeOut(ctx context.Context, id cairn.NodeID) (n cairn.Node, err error) {
	for range outTries {
		nodes, err := f.Nodes(ctx)
		if err != nil {
			return n, err
		}
		i := slices.IndexFunc(nodes, func(n cairn.Node) bool { return n.ID == id })
		if i < 0 {
			return n, &cairn.Error{Op: "server.node out", Subject: id.String(), Err: fmt.Errorf("no such node: %w", cairn.ErrNotFound)}
		}
		n, err = membership.DeclareOut(time.Now(), nodes[i])
		if err != nil || nodes[i].State == cairn.NodeOut {
			return n, err
		}
		n, err = f.parts.meta.PutNode(ctx, n)
		if !errors.Is(err, cairn.ErrPrecondition) {
			return n, err
		}
	}
	return n, &cairn.Error{Op: "server.node out", Subject: id.String(), Err: fmt.Errorf("the node's state keeps changing; ask again: %w", cairn.ErrUnavailable)}
}

// Tokens lists tokens without their secrets.
func (f *facts) Tokens(ctx context.Context) ([]admin.Token, error) {
	rows, err := f.parts.meta.Tokens(ctx)
	list := make([]admin.Token, 0, len(rows))
	for _, k := range rows {
		list = append(list, admin.Token{ID: hex.EncodeToString(k.Hash[:4]), Roles: k.Roles, Created: k.Created, Expires: k.Expires, Used: k.Used, Node: k.Node})
	}
	return list, err
}

// doorAddr is where a node can join: here, or at another node that lets nodes in.
func (s *site) doorAddr() string {
	if s.authority != nil {
		return s.member.Addr
	}
	for _, n := range s.known() {
		if n.Roles.Has(cairn.RoleMeta) {
			return n.Addr
		}
	}
	return ""
}

var _ admin.Topology = (*facts)(nil)
