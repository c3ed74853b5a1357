package object

import (
	"context"
	"sync"

	md5simd "github.com/minio/md5-simd"
)

const (
	// laneMinBytes is the smallest body that is worth a lane: the hand-over to the lanes' goroutine costs more than it
	// saves on less.
	laneMinBytes = 64 << 10
	// laneMinStreams is the number of such bodies under way from which lanes win: two of them share a core in lanes but
	// have one each without.
	laneMinStreams = 3
	// maxLaneServers bounds the goroutines and buffers (1.5 MiB each) of the lanes; streams beyond all lanes hash by
	// themselves.
	maxLaneServers = 4
	// lanesPerServer is md5simd.Lanes, which exists on amd64 alone.
	lanesPerServer = 16
)

// lanes computes the MD5s of up to 16 streams at once on one core, which is several times faster than one after another
// (a single stream gains nothing, and loses next to nothing). They are there while run runs; before and after it, take
// returns nil, and streams hash by themselves.
type lanes struct {
	mu      sync.Mutex
	open    bool
	servers []*laneServer
	taken   int
	streams int           // bodies under way that are large enough for a lane
	idle    chan struct{} // closed when the last lane comes back after the end
}

// laneServer is one goroutine of md5simd with its hashers. A hasher that waits in free keeps its place in the server.
type laneServer struct {
	server md5simd.Server
	free   []md5simd.Hasher
	taken  int
}

// lane is one stream's place.
type lane struct {
	md5simd.Hasher
	from *laneServer
}

// run keeps the lanes open until ctx ends, and then waits until the streams that hold one have given it back: closing
// md5simd under a stream would leave the stream waiting for ever.
func (l *lanes) run(ctx context.Context) {
	l.mu.Lock()
	l.open, l.idle = true, make(chan struct{})
	l.mu.Unlock()
	<-ctx.Done()
	l.mu.Lock()
	l.open = false
	if l.taken == 0 {
		close(l.idle)
	}
	idle := l.idle
	l.mu.Unlock()
	<-idle
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.servers {
		for _, h := range s.free {
			h.Close()
		}
		s.server.Close()
	}
	l.servers = nil
}

// take returns a lane for a body of size bytes (-1 if unknown), nil when a plain MD5 serves it better or none is free.
// Every take is followed by a give with the same size. (A stream cannot change over later: md5simd neither takes nor gives
// a state.)
func (l *lanes) take(size int64) *lane {
	if tooSmall(size) {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams++
	if l.streams < laneMinStreams {
		return nil
	}
	s := l.roomy()
	if s == nil {
		return nil
	}
	s.taken++
	l.taken++
	if n := len(s.free); n > 0 {
		h := s.free[n-1]
		s.free = s.free[:n-1]
		return &lane{h, s}
	}
	return &lane{s.server.NewHash(), s}
}

func tooSmall(size int64) bool { return size >= 0 && size < laneMinBytes }

// roomy returns the first server with a lane to spare, so that streams share as few servers as they can: full lanes are
// what makes them fast. The caller holds mu.
func (l *lanes) roomy() *laneServer {
	if !l.open {
		return nil
	}
	for _, s := range l.servers {
		if s.taken < lanesPerServer {
			return s
		}
	}
	if len(l.servers) == maxLaneServers {
		return nil
	}
	s := &laneServer{server: md5simd.NewServer()}
	l.servers = append(l.servers, s)
	return s
}

// give ends a body of size bytes, and takes its lane back if it had one.
func (l *lanes) give(ln *lane, size int64) {
	if tooSmall(size) {
		return
	}
	if ln != nil {
		ln.Reset()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams--
	if ln == nil {
		return
	}
	ln.from.free = append(ln.from.free, ln.Hasher)
	ln.from.taken--
	l.taken--
	if !l.open && l.taken == 0 {
		close(l.idle)
	}
}
