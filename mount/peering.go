package mount

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"cairn/mount/cache"
	"cairn/mount/peer"
)

// Prover is a Store that can show others that it may read, and judge whether others may.
type Prover interface {
	// Prove returns what shows another mount of this store that we may read an object, for proofLife at the least.
	Prove(ctx context.Context, key string) (string, error)
	// Admit shows a proof to the store and returns the object as the store describes it. Errors: ErrRefused, ErrAbsent,
	// others of the network.
	Admit(ctx context.Context, key, proof string) (Object, error)
}

// PeerConfig says which mounts fetch blocks from each other. The zero value: there are none.
type PeerConfig struct {
	Self     string       // host:port of this mount, as it stands in the others' lists
	Peers    []string     // host:port of all of them; this one may be among them
	Listener net.Listener // where Self leads; the mount closes it
	// TLS with certificates for both sides. Nil: the peers speak in the clear.
	TLS *tls.Config
}

const (
	proofLife    = time.Minute // for which a judgement of the store is believed
	maxProofs    = 4096        // that are remembered
	servedAtOnce = 256         // requests of peers
	diskBuffers  = 16          // of one frame each, for what peers get from the disk
)

// peering is a mount's part in a ring of mounts.
type peering struct {
	ring    *peer.Ring
	client  *peer.Client
	prover  Prover
	sources *sources
	log     *slog.Logger
	disk    chan []byte // diskBuffers of them, made when first used
	limit   int         // fetches that may wait for peers at once: the others go to the store, so that no circle of waits can close

	mu       sync.Mutex
	waits    int
	ours     map[string]proof   // by key: what we show
	admitted map[[32]byte]proof // by what was shown
}

type proof struct {
	text  string
	until time.Time
}

func newPeering(cfg PeerConfig, s *sources, limit int) (*peering, error) {
	p, ok := s.fetch.store.(Prover)
	if !ok {
		return nil, errors.New("peers: this store has no way to prove to others who may read")
	}
	g := &peering{ring: peer.NewRing(cfg.Self, cfg.Peers), client: peer.NewClient(cfg.TLS), prover: p, sources: s, log: s.fetch.log,
		disk: make(chan []byte, diskBuffers), limit: limit, ours: map[string]proof{}, admitted: map[[32]byte]proof{}}
	for range diskBuffers {
		g.disk <- nil
	}
	return g, nil
}

// serve answers peers on l until ctx ends.
func (p *peering) serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: peer.Handler(p, servedAtOnce), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		srv.Close()
	}()
	err := srv.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	<-ended
	return err
}

// home returns the peer that a chunk is to be fetched from, "" for the store. The caller must call left if it is a peer.
func (p *peering) home(fl *flight) string {
	home := p.ring.Home(fl.src.id.Name()+strconv.Itoa(fl.chunk), time.Now())
	if home == "" {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waits >= p.limit {
		return ""
	}
	p.waits++
	return home
}

func (p *peering) left() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waits--
}

// get fetches the n bytes from off of a chunk on from a peer.
func (p *peering) get(ctx context.Context, from string, fl *flight, off, n int) error {
	text, err := p.prove(ctx, fl.src.object.Key)
	if err != nil {
		return err
	}
	q := peer.Request{Store: fl.src.id.Endpoint, Key: fl.src.object.Key, ETag: fl.src.object.ETag, Size: fl.src.object.Size,
		Off: int64(fl.chunk)*cache.ChunkBytes + int64(off), N: int64(n), Proof: text}
	err = p.client.Get(ctx, from, q, fl.buf[off:off+n], func(n int) {
		p.sources.fetch.counts.fromPeers.Add(int64(n))
		fl.arrived(n)
	})
	switch {
	case err == nil:
		p.ring.Answered(from)
	case ctx.Err() == nil:
		p.ring.Failed(from, time.Now())
		p.sources.fetch.counts.peerFailures.Add(1)
		p.log.Info("a peer did not serve a block, it is fetched from the store", "peer", from, "key", q.Key, "err", err)
	}
	return err
}

// prove returns what shows that we may read a key.
func (p *peering) prove(ctx context.Context, key string) (string, error) {
	now := time.Now()
	p.mu.Lock()
	have := p.ours[key]
	p.mu.Unlock()
	if now.Before(have.until) {
		return have.text, nil
	}
	text, err := p.prover.Prove(ctx, key)
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ours) >= maxProofs {
		clear(p.ours)
	}
	p.ours[key] = proof{text, now.Add(proofLife)}
	return text, nil
}

// Open lets a peer read what the store would let it read.
func (p *peering) Open(ctx context.Context, q peer.Request) (peer.Block, error) {
	if err := p.admit(ctx, q); err != nil {
		return nil, err
	}
	src, err := p.sources.acquire(Object{Key: q.Key, ETag: q.ETag, Size: q.Size})
	if err != nil {
		return nil, err
	}
	src.serves(p.ring.Size())
	return &served{p, src, q.Off + q.N}, nil
}

// admit asks the store, once a minute for each object and peer, whether the one who asks may read.
func (p *peering) admit(ctx context.Context, q peer.Request) error {
	if want := p.sources.fetch.store.Endpoint(); q.Store != want {
		return fmt.Errorf("this is a mount of %s", want)
	}
	shown := sha256.Sum256(fmt.Appendf(nil, "%q %q %d %q", q.Key, q.ETag, q.Size, q.Proof))
	now := time.Now()
	p.mu.Lock()
	until := p.admitted[shown].until
	p.mu.Unlock()
	if now.Before(until) {
		return nil
	}
	o, err := p.prover.Admit(ctx, q.Key, q.Proof)
	if err != nil {
		return fmt.Errorf("the store does not let you: %w", err)
	}
	if o.ETag != q.ETag || o.Size != q.Size {
		return ErrChanged
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.admitted) >= maxProofs {
		clear(p.admitted)
	}
	p.admitted[shown] = proof{until: now.Add(proofLife)}
	return nil
}

// served is a request of a peer under way.
type served struct {
	p   *peering
	src *source
	end int64
}

// Next serves from memory, the cache, or the store; never from a third mount.
func (s *served) Next(ctx context.Context, off int64, send func([]byte) error) (int, error) {
	n := int(min(peer.FrameBytes, s.end-off, cache.ChunkBytes-off%cache.ChunkBytes))
	fl, err := s.src.have(ctx, off, n, fromStore)
	if err != nil {
		return 0, err
	}
	fetch := s.p.sources.fetch
	fetch.counts.toPeers.Add(int64(n))
	if fl != nil {
		defer fetch.leave(fl, n)
		return n, send(fl.bytes(off, n))
	}
	var b []byte
	select {
	case b = <-s.p.disk:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if b == nil {
		b = make([]byte, peer.FrameBytes)
	}
	defer func() { s.p.disk <- b }()
	if _, err := s.src.cached.Data().ReadAt(b[:n], off); err != nil {
		return 0, err
	}
	return n, send(b[:n])
}

// Close lets the version go.
func (s *served) Close() { s.src.drop() }
