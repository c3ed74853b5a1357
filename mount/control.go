package mount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cairn/mount/cache"
)

// SocketName is the control socket's name in the cache directory: the process that owns the directory answers there.
const SocketName = "control.sock"

// Status is what a mount tells about itself.
type Status struct {
	Dir         string      `json:"dir"`
	Name        string      `json:"name"`
	PID         int         `json:"pid"`
	Since       time.Time   `json:"since"`
	Passthrough bool        `json:"passthrough"` // the kernel can open cached files itself
	OpenFiles   int         `json:"open_files"`
	FromStore   int64       `json:"from_store_bytes"`  // fetched
	FromCache   int64       `json:"from_cache_bytes"`  // read from the disk by this process; what the kernel reads itself is not counted
	FromMemory  int64       `json:"from_memory_bytes"` // handed to readers who waited for a fetch
	FromPeers   int64       `json:"from_peers_bytes"`  // fetched from other mounts
	ToPeers     int64       `json:"to_peers_bytes"`
	Peers       int         `json:"peers"` // other mounts that it knows
	PeerFails   int64       `json:"peer_failures"`
	Fetches     int64       `json:"fetches"`
	Retries     int64       `json:"retries"`
	Failures    int64       `json:"failures"`
	Cache       cache.Stats `json:"cache"`
}

// Status describes the mount now.
func (m *Mount) Status() Status {
	m.sources.mu.Lock()
	open := len(m.sources.open)
	m.sources.mu.Unlock()
	peers := 0
	if m.fetch.peers != nil {
		peers = m.fetch.peers.ring.Size() - 1
	}
	return Status{FromPeers: m.counts.fromPeers.Load(), ToPeers: m.counts.toPeers.Load(), Peers: peers,
		PeerFails: m.counts.peerFailures.Load(), Dir: m.cfg.Dir, Name: m.cfg.Name, PID: os.Getpid(), Since: m.started, Passthrough: m.passthrough,
		OpenFiles: open, FromStore: m.counts.fromStore.Load(), FromCache: m.counts.fromCache.Load(),
		FromMemory: m.counts.fromMemory.Load(), Fetches: m.counts.fetches.Load(), Retries: m.counts.retries.Load(),
		Failures: m.counts.failures.Load(), Cache: m.cache.Stats()}
}

// Control is what can be asked of the owner of a cache directory. Mount is nil where nothing is mounted.
type Control struct {
	Cache *cache.Cache
	Mount *Mount
}

// Line is one file in the answer to an operation.
type Line struct {
	cache.Item
	Result string `json:"result,omitempty"` // what was done to it
	Error  string `json:"error,omitempty"`  // why it was not done
}

// Ops are the operations on cached files.
var Ops = []string{"ls", "verify", "evict", "pin", "unpin"}

// Do runs an operation on every cached file of a bucket (any, if empty) whose key begins with prefix, and hands each to
// emit. It fails when emit does, or when the operation is unknown; a file that fails has an Error in its line.
func (c *Control) Do(ctx context.Context, op, bucket, prefix string, emit func(Line) error) error {
	act, ok := map[string]func(cache.ID) (string, error){
		"ls": func(cache.ID) (string, error) { return "", nil },
		"verify": func(id cache.ID) (string, error) {
			n, err := c.Cache.Verify(id)
			if n > 0 {
				return fmt.Sprintf("%d damaged chunks, they are fetched again when they are read", n), err
			}
			return "good", err
		},
		"evict": func(id cache.ID) (string, error) { return "evicted", c.Cache.Evict(id) },
		"pin":   func(id cache.ID) (string, error) { return "pinned", c.Cache.Pin(id, true) },
		"unpin": func(id cache.ID) (string, error) { return "unpinned", c.Cache.Pin(id, false) },
	}[op]
	if !ok {
		return fmt.Errorf("unknown operation %q: want one of %s", op, strings.Join(Ops, ", "))
	}
	for _, it := range c.Cache.List() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if bucket != "" && !strings.HasSuffix(it.Endpoint, "/"+bucket) || !strings.HasPrefix(it.Key, prefix) {
			continue
		}
		line := Line{Item: it}
		result, err := act(it.ID)
		if errors.Is(err, cache.ErrNotCached) {
			continue // evicted meanwhile
		}
		if line.Result = result; err != nil {
			line.Result, line.Error = "", err.Error()
		}
		if err := emit(line); err != nil {
			return err
		}
	}
	return nil
}

// Serve answers on the control socket until ctx ends. Only this user may connect: the directory is closed to others.
func (c *Control) Serve(ctx context.Context, cacheDir string) error {
	path := filepath.Join(cacheDir, SocketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	srv := &http.Server{Handler: c.handler(), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		srv.Close()
	}()
	err = srv.Serve(l)
	<-ended
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (c *Control) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		if c.Mount == nil {
			http.Error(w, "nothing is mounted", http.StatusNotFound)
			return
		}
		json.NewEncoder(w).Encode(c.Mount.Status()) // an error is the reader's
	})
	stream := func(w http.ResponseWriter, run func(emit func(any) error) error) {
		enc := json.NewEncoder(w)
		err := run(func(v any) error {
			if err := enc.Encode(v); err != nil {
				return err
			}
			return http.NewResponseController(w).Flush()
		})
		if err != nil {
			enc.Encode(ended{Error: err.Error()})
			return
		}
		enc.Encode(ended{Done: true})
	}
	mux.HandleFunc("POST /cache/{op}", func(w http.ResponseWriter, r *http.Request) {
		stream(w, func(emit func(any) error) error {
			return c.Do(r.Context(), r.PathValue("op"), r.FormValue("bucket"), r.FormValue("prefix"),
				func(l Line) error { return emit(l) })
		})
	})
	mux.HandleFunc("POST /warm", func(w http.ResponseWriter, r *http.Request) {
		stream(w, func(emit func(any) error) error {
			if c.Mount == nil {
				return errors.New("nothing is mounted")
			}
			if want := "/" + r.FormValue("bucket"); !strings.HasSuffix(c.Mount.store.Endpoint(), want) {
				return fmt.Errorf("this mount shows %s: mount the other bucket, or name another cache", c.Mount.store.Endpoint())
			}
			return warm(r.Context(), c.Mount.sources, r.FormValue("prefix"), func(p WarmProgress) error { return emit(p) })
		})
	})
	return mux
}

// ended is the last line of a stream: without one, the stream was cut off.
type ended struct {
	Done  bool   `json:"done,omitempty"`
	Error string `json:"error,omitempty"`
}
