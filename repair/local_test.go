package repair_test

import (
	"testing"
	"testing/synctest"
	"time"

	"cairn"
)

// Drives of a locally repairable store are wiped, one and then three at once; all comes back as it was.
func TestLocalVolumesAreRebuilt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := cairn.Profile{K: 12, M: 4, Local: 2}
		c := newCluster(t, p.Width())
		defer c.run()()
		c.settled()
		for _, size := range sizes {
			c.putAs(p, size)
		}
		whole := func() bool {
			by, err := c.rep.BlobsBySpare(t.Context())
			must(t, err)
			return len(c.damage()) == 0 && by[p.Tolerance()] == int64(len(sizes))
		}
		c.until("whole", time.Minute, whole)
		before := c.snapshot()
		for _, drives := range [][]int{{3}, {0, 5, 12}} {
			for _, i := range drives {
				c.disk.Wipe(c.node.ID(i))
				c.node.Replace(i)
			}
			c.settled()
			c.until("whole again", 5*time.Minute, whole)
			c.checkIdentical(before)
			c.checkData()
		}
	})
}
