package meta

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"cairn"
	"cairn/meta/replica"
)

// PutNode commits a node's row and returns it under its new epoch. The committed row must be at n.Epoch; zero means that
// there must be none. The state's history is the row's own, whatever n says. A name belongs to one node that is not removed, and a removed node stays so. Errors: ErrInvalid,
// ErrExists (the name), ErrPrecondition (another epoch, removed).
func (s *Store) PutNode(ctx context.Context, n cairn.Node) (put cairn.Node, err error) {
	if err := n.Validate(); err != nil {
		return cairn.Node{}, fail("meta.put node", n.ID.String(), err)
	}
	_, err = s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		put, err = t.putNode(n)
		return err
	})
	return put, fail("meta.put node", n.ID.String(), err)
}

// RemoveNode marks a node as removed for good: its row stays, so that its certificate can be told from one that nobody
// knows. Errors: ErrNotFound, ErrPrecondition (the row is not at epoch).
func (s *Store) RemoveNode(ctx context.Context, id cairn.NodeID, epoch cairn.Epoch, reason string) (put cairn.Node, err error) {
	_, err = s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		n, found, err := t.node(id)
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("no such node: %w", cairn.ErrNotFound)
		}
		n.State, n.StateSince, n.Reason, n.Epoch = cairn.NodeRemoved, t.now, reason, epoch
		put, err = t.putNode(n)
		return err
	})
	return put, fail("meta.remove node", id.String(), err)
}

// Nodes returns all nodes' rows, those of removed nodes too, ordered by ID.
func (s *Store) Nodes(ctx context.Context) (list []cairn.Node, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		list = nil
		return w.Walk([]byte{famNode}, []byte{famNode + 1}, func(c replica.Cursor) error {
			for ; c.Valid(); c.Next() {
				row, err := c.Value()
				if err != nil {
					return err
				}
				if len(c.Key()) != 17 {
					return corruptRow("node's key")
				}
				n, err := decodeNode(cairn.NodeID(c.Key()[1:]), row)
				if err != nil {
					return err
				}
				list = append(list, n)
			}
			return nil
		})
	})
	return list, fail("meta.nodes", "", err)
}

// node reads a node's row for a decision.
func (t *txn) node(id cairn.NodeID) (n cairn.Node, found bool, err error) {
	row, found, err := t.get(nodeKey(id))
	if err == nil && found {
		n, err = decodeNode(id, row)
	}
	return n, found, err
}

// putNode checks the row against the committed one and puts it with its epoch raised.
func (t *txn) putNode(n cairn.Node) (cairn.Node, error) {
	old, found, err := t.node(n.ID)
	if err != nil {
		return n, err
	}
	switch {
	case found && old.State == cairn.NodeRemoved:
		return n, fmt.Errorf("the node was removed, and its ID never comes back: %w", cairn.ErrPrecondition)
	case old.Epoch != n.Epoch:
		return n, fmt.Errorf("the row is at epoch %d, not %d: %w", old.Epoch, n.Epoch, cairn.ErrPrecondition)
	}
	if err := t.moveNodeName(old, n); err != nil {
		return n, err
	}
	n.Epoch++
	n.History = old.History
	if !found || n.State != old.State {
		n.History = append(n.History, cairn.NodeChange{State: n.State, At: n.StateSince, Reason: n.Reason})
		n.History = n.History[max(0, len(n.History)-cairn.MaxNodeHistory):]
	}
	t.batch.Put(nodeKey(n.ID), encodeNode(&n))
	_, err = t.mapChanged()
	return n, err
}

// moveNodeName takes the new row's name, and lets go of the old one's.
func (t *txn) moveNodeName(old, n cairn.Node) error {
	if n.State == cairn.NodeRemoved {
		n.Name = ""
	}
	if old.Name == n.Name {
		return nil
	}
	if old.Name != "" {
		t.batch.Delete(keyName(famNodeName, old.Name))
	}
	if n.Name == "" {
		return nil
	}
	key := keyName(famNodeName, n.Name)
	owner, found, err := t.get(key)
	if err != nil {
		return err
	}
	if found {
		return fmt.Errorf("node %x has the name %q: %w", owner, n.Name, cairn.ErrExists)
	}
	t.batch.Put(key, n.ID[:])
	return nil
}

func nodeKey(id cairn.NodeID) []byte { return append([]byte{famNode}, id[:]...) }

func encodeNode(n *cairn.Node) []byte {
	row := putBytes(nil, 1, n.Name)
	row = putBytes(row, 2, n.Addr)
	row = putUint(row, 3, uint64(n.Roles))
	row = putBytes(row, 4, n.Zone)
	row = putBytes(row, 5, n.Rack)
	row = putUint(row, 6, uint64(n.Epoch))
	row = putUint(row, 7, uint64(n.State))
	row = putTime(row, 8, n.StateSince)
	row = putBytes(row, 9, n.Reason)
	row = putTime(row, 10, n.JoinedAt)
	row = putBytes(row, 11, n.Version)
	row = putUint(row, 12, uint64(n.Format))
	row = putBytes(row, 14, n.Gossip)
	for _, c := range n.History {
		change := putUint(nil, 1, uint64(c.State))
		change = putTime(change, 2, c.At)
		change = putBytes(change, 3, c.Reason)
		row = putMessage(row, 13, change)
	}
	return row
}

func decodeNodeChange(row []byte) (c cairn.NodeChange, err error) {
	err = eachField(row, func(number protowire.Number, f field) error {
		switch number {
		case 1:
			c.State = cairn.NodeState(f.num)
		case 2:
			c.At = f.time()
		case 3:
			c.Reason = string(f.bytes)
		}
		return nil
	})
	return c, err
}

func decodeNode(id cairn.NodeID, row []byte) (n cairn.Node, err error) {
	n.ID = id
	err = eachField(row, func(number protowire.Number, f field) error {
		switch number {
		case 1:
			n.Name = string(f.bytes)
		case 2:
			n.Addr = string(f.bytes)
		case 3:
			n.Roles = cairn.Roles(f.num)
		case 4:
			n.Zone = string(f.bytes)
		case 5:
			n.Rack = string(f.bytes)
		case 6:
			n.Epoch = cairn.Epoch(f.num)
		case 7:
			n.State = cairn.NodeState(f.num)
		case 8:
			n.StateSince = f.time()
		case 9:
			n.Reason = string(f.bytes)
		case 10:
			n.JoinedAt = f.time()
		case 11:
			n.Version = string(f.bytes)
		case 12:
			n.Format = int(f.num)
		case 14:
			n.Gossip = string(f.bytes)
		case 13:
			change, err := decodeNodeChange(f.bytes)
			if err != nil {
				return err
			}
			n.History = append(n.History, change)
		}
		return nil
	})
	return n, err
}
