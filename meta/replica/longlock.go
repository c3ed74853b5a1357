package replica

// longLock is a lock that is held across I/O. It is a channel, so that simulated time sees whoever waits for it wait; for
// those who wait for a mutex it stands still.
type longLock chan struct{}

func newLongLock() longLock { return make(longLock, 1) }

// Lock waits for the lock.
func (l longLock) Lock() { l <- struct{}{} }

// Unlock gives it back.
func (l longLock) Unlock() { <-l }
