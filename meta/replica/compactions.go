package replica

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// compactions decides when one state's Pebble may compact: as many at a time as Pebble itself allows (one, see
// stateOptions). It stands in for Pebble's own scheduler because that one keeps a goroutine which only a regular Close
// ends: an Open that fails late, and a store that is abandoned after a fatal error, leave it behind with all that it holds,
// and it would go on granting compactions to such a store. This one has no goroutine, and grants nothing once ended. What
// Pebble's polls for, a limit that rises by itself, does not happen under a fixed limit.
type compactions struct {
	db pebble.DBForCompaction // set once, by Register

	mu       sync.Mutex
	running  int
	granting int // calls of grant under way
	idle     *sync.Cond
	ended    bool
}

func newCompactions() *compactions {
	c := &compactions{}
	c.idle = sync.NewCond(&c.mu)
	return c
}

// Register implements pebble.CompactionScheduler.
func (c *compactions) Register(_ int, db pebble.DBForCompaction) { c.db = db }

// Unregister implements pebble.CompactionScheduler: when it returns, no call to the DB is under way, and none follows.
func (c *compactions) Unregister() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for c.granting > 0 {
		c.idle.Wait()
	}
}

// end lets no further compaction begin. Unlike Unregister it does not wait: the caller may hold Pebble's locks.
func (c *compactions) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
}

// TrySchedule implements pebble.CompactionScheduler. Pebble remembers a refusal, and Done makes up for it.
func (c *compactions) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	if !c.take() {
		return false, nil
	}
	return true, turn{c}
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler.
func (c *compactions) UpdateGetAllowedWithoutPermission() {}

func (c *compactions) take() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.running >= c.db.GetAllowedWithoutPermission() {
		return false
	}
	c.running++
	return true
}

// grant gives the turns that are free to compactions that were refused. Pebble's locks must not be held.
func (c *compactions) grant() {
	c.mu.Lock()
	c.granting++
	c.mu.Unlock()
	for c.take() {
		waiting, _ := c.db.GetWaitingCompaction()
		if !waiting || !c.db.Schedule(turn{c}) {
			c.giveBack()
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.granting--
	c.idle.Broadcast()
}

func (c *compactions) giveBack() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
}

// turn is the permission for one compaction.
type turn struct{ of *compactions }

// Done implements pebble.CompactionGrantHandle.
func (t turn) Done() {
	t.of.giveBack()
	t.of.grant()
}

// Started implements pebble.CompactionGrantHandle, as do the two below: nothing is measured here.
func (t turn) Started() {}

// MeasureCPU implements pebble.CompactionGrantHandle.
func (t turn) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats implements pebble.CompactionGrantHandle.
func (t turn) CumulativeStats(pebble.CompactionGrantHandleStats) {}

var _ pebble.CompactionScheduler = (*compactions)(nil)
