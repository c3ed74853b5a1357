package membershiptest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"cairn"
)

// Node is a set of drives as a data node reports them. Safe for concurrent use.
type Node struct {
	mu     sync.Mutex
	drives []cairn.DriveStatus
}

// NewNode returns a node with n healthy drives at paths drive1 … driveN.
func NewNode(n int) *Node {
	node := &Node{}
	for i := range n {
		node.drives = append(node.drives, cairn.DriveStatus{ID: cairn.NewID(), Path: fmt.Sprintf("drive%d", i+1),
			Since: time.Now(), TotalBytes: 1 << 40, FreeBytes: 1 << 39})
	}
	return node
}

// Statuses reports all drives.
func (n *Node) Statuses() []cairn.DriveStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.drives)
}

// Set changes the state of drive i, counted from 0.
func (n *Node) Set(i int, state cairn.DriveState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drives[i].State, n.drives[i].Since, n.drives[i].Reason = state, time.Now(), "set by the test"
}

// Replace puts a new, empty drive at the path of drive i and returns its identity.
func (n *Node) Replace(i int) cairn.DriveID {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := &n.drives[i]
	d.Replaced = append(slices.Clone(d.Replaced), d.ID)
	d.ID, d.State, d.Since, d.Reason = cairn.NewID(), cairn.DriveOK, time.Now(), ""
	return d.ID
}

// ID returns the identity of drive i.
func (n *Node) ID(i int) cairn.DriveID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.drives[i].ID
}

// State returns the state of the drive with an identity, missing if no path has it.
func (n *Node) State(id cairn.DriveID) cairn.DriveState {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, d := range n.drives {
		if d.ID == id {
			return d.State
		}
	}
	return cairn.DriveMissing
}

// Restore puts drives back as they were reported before, by path.
func (n *Node) Restore(was ...cairn.DriveStatus) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range was {
		i := slices.IndexFunc(n.drives, func(d cairn.DriveStatus) bool { return d.Path == w.Path })
		n.drives[i] = w
	}
}
