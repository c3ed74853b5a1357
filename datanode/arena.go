package datanode

import "context"

const maxArenaBytes = 1 << 20

// arena is a stretch of the active segment that small records fill one after another, so that a group commit is one
// write however many streams reserve extents at the same time. In a segment that was never written the arena is filled
// with zeros first: the file system then turns its blocks from reserved to written once, and not with every sync, which
// makes a sync a third cheaper on ext4.
//
// While it is in use it is pending as a whole: a recovery looks for records in all of it. It is guarded by the store's
// mutex.
type arena struct {
	segment        *segment // nil for none
	start, at, end int64
}

// reserveSmall takes n bytes for a record of the committer; the extent is pending until it is settled.
func (s *store) reserveSmall(ctx context.Context, n int64, privileged bool) (*segment, int64, error) {
	for {
		s.mu.Lock()
		if a := &s.arena; a.segment != nil && a.at+n <= a.end {
			g, at := a.segment, a.at
			a.at += n
			g.hold(at)
			s.mu.Unlock()
			return g, at, nil
		}
		s.mu.Unlock()
		if err := s.nextArena(ctx, n, privileged); err != nil {
			return nil, 0, err
		}
	}
}

// nextArena replaces the arena by one with room for n bytes. Only the committer calls it.
func (s *store) nextArena(ctx context.Context, n int64, privileged bool) error {
	size := max(n, min(maxArenaBytes, s.segmentBytes/16/pageSize*pageSize))
	g, at, got, err := s.reserveUpTo(ctx, n, size, privileged)
	if err != nil {
		return err
	}
	if g.generation == 1 {
		err = s.writeZeros(g, at, got)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		g.settle(at)
		return s.writeFailed(err)
	}
	s.dropArena()
	s.arena = arena{segment: g, start: at, at: at, end: at + got}
	return nil
}

// dropArena gives up what is left of the arena. The caller holds mu.
func (s *store) dropArena() {
	if s.arena.segment != nil {
		s.arena.segment.settle(s.arena.start)
		s.arena = arena{}
	}
}

func (s *store) writeZeros(g *segment, at, n int64) error {
	buf := s.buffers.get()
	defer s.buffers.put(buf)
	zeros := buf[:min(n, int64(len(buf)))]
	clear(zeros)
	for ; n > 0; n -= int64(len(zeros)) {
		zeros = zeros[:min(n, int64(len(zeros)))]
		if _, err := g.direct.WriteAt(zeros, at); err != nil {
			return err
		}
		at += int64(len(zeros))
	}
	return nil
}
