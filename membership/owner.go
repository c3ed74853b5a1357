package membership

import "cairn"

// Owner tells on which node a drive is, as committed; false if nobody knows the drive.
func (v *View) Owner(id cairn.DriveID) (cairn.NodeID, bool) {
	d, ok := v.now.Load().drives[id]
	return d.Node, ok && !d.Node.IsZero()
}
