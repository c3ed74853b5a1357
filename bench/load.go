package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"cairn"
)

// Op is one kind of load.
type Op string

// The loads. Get, Range, List and Delete first put what they need; Mixed is 60% get, 25% put, 10% head, 5% delete.
const (
	OpPut    Op = "put"
	OpGet    Op = "get"
	OpRange  Op = "range"
	OpList   Op = "list"
	OpDelete Op = "delete"
	OpMixed  Op = "mixed"
)

// ParseOp reads an operation's name.
func ParseOp(s string) (Op, error) {
	switch op := Op(s); op {
	case OpPut, OpGet, OpRange, OpList, OpDelete, OpMixed:
		return op, nil
	}
	return "", &cairn.Error{Op: "bench", Subject: s, Err: fmt.Errorf("want put, get, range, list, delete or mixed: %w", cairn.ErrInvalid)}
}

// Config describes a load's target.
type Config struct {
	Endpoint    string // http://host:port
	Credentials Credentials
	Bucket      string // made if absent; default "bench"
	// MaxBytes bounds the object bytes that one load keeps stored: keys repeat beyond it. Default 1 GiB.
	MaxBytes int64
	// MaxObjects bounds the objects that one load prepares. Default 20,000.
	MaxObjects int
	// MaxObjectBytes is the largest size that will be asked for (the payload pool's size). Default 128 MiB.
	MaxObjectBytes int
}

// Load is one measurement.
type Load struct {
	Op      Op
	Size    int // bytes per object, or per range (from objects of 16 times the size)
	Clients int
	For     time.Duration
	// Keep leaves the objects behind, for a later load of the same size that sets Reuse.
	Keep  bool
	Reuse bool
	// Once ends a load of gets when every object was asked for once: objects that were just written are then read
	// from the disk, not from the page cache.
	Once bool
}

// Result is what a load measured. Ops of list and delete count keys.
type Result struct {
	Op        Op            `json:"op"`
	Size      int           `json:"size_bytes"`
	Clients   int           `json:"clients"`
	Ops       int64         `json:"ops"`
	Bytes     int64         `json:"bytes"`
	Errors    int64         `json:"errors"`
	Elapsed   time.Duration `json:"elapsed_ns"`
	OpsPerSec float64       `json:"ops_per_sec"`
	MiBPerSec float64       `json:"mib_per_sec"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
	LastError string        `json:"last_error,omitempty"`
}

// Bench runs loads against one endpoint. Its methods are for one goroutine.
type Bench struct {
	cfg  Config
	data *payload
}

// New prepares loads and makes the bucket.
func New(ctx context.Context, cfg Config) (*Bench, error) {
	if cfg.Bucket == "" {
		cfg.Bucket = "bench"
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 1 << 30
	}
	if cfg.MaxObjects == 0 {
		cfg.MaxObjects = 20_000
	}
	if cfg.MaxObjectBytes == 0 {
		cfg.MaxObjectBytes = 128 << 20
	}
	b := &Bench{cfg: cfg, data: newPayload(cfg.MaxObjectBytes, 1)}
	c, err := newConn(cfg.Endpoint, cfg.Credentials)
	if err != nil {
		return nil, &cairn.Error{Op: "bench", Subject: cfg.Endpoint, Err: fmt.Errorf("%w: %w", err, cairn.ErrInvalid)}
	}
	defer c.close()
	err = c.do(ctx, request{method: "PUT", path: "/" + cfg.Bucket}, nil)
	var se *statusError
	if err != nil && !(errors.As(err, &se) && se.Status == 409) {
		return nil, &cairn.Error{Op: "bench.make bucket", Subject: cfg.Bucket, Err: err}
	}
	return b, nil
}

// objects is how many different keys a load of this size uses.
func (b *Bench) objects(size int) int {
	return max(1, min(b.cfg.MaxObjects, int(b.cfg.MaxBytes/int64(max(size, 1)))))
}

// Run measures one load. The error tells that the load could not be prepared; failed operations are counted in the Result.
func (b *Bench) Run(ctx context.Context, l Load) (Result, error) {
	if l.Clients < 1 || l.Size < 0 || l.For <= 0 {
		return Result{}, &cairn.Error{Op: "bench", Subject: string(l.Op),
			Err: fmt.Errorf("want clients, a duration and a size: %w", cairn.ErrInvalid)}
	}
	if l.Size > b.cfg.MaxObjectBytes {
		return Result{}, &cairn.Error{Op: "bench", Subject: string(l.Op), Err: fmt.Errorf("size %d: %w", l.Size, cairn.ErrTooLarge)}
	}
	w := b.workload(l)
	if err := w.prepare(ctx); err != nil {
		return Result{}, &cairn.Error{Op: "bench.prepare", Subject: string(l.Op), Err: err}
	}
	r, err := b.measure(ctx, w)
	if !l.Keep {
		if cerr := w.clean(ctx); err == nil {
			err = cerr
		}
	}
	return r, err
}

// Clean removes the objects that a load with Keep left behind.
func (b *Bench) Clean(ctx context.Context, l Load) error {
	w := b.workload(l)
	return w.clean(ctx)
}

func (b *Bench) workload(l Load) *workload {
	// At least one key a client: two that overwrite one key all the time would measure their conflicts.
	w := &workload{b: b, l: l, objects: max(b.objects(l.Size), l.Clients)}
	switch l.Op {
	case OpRange:
		w.whole = min(16*l.Size, b.cfg.MaxObjectBytes)
		w.objects = max(b.objects(w.whole), l.Clients)
	case OpList, OpDelete:
		w.objects = b.cfg.MaxObjects
	}
	return w
}

// measure runs the clients until the time is over.
func (b *Bench) measure(ctx context.Context, w *workload) (Result, error) {
	clients := make([]*client, w.l.Clients)
	for i := range clients {
		c, err := newConn(b.cfg.Endpoint, b.cfg.Credentials)
		if err != nil {
			return Result{}, err
		}
		defer c.close()
		clients[i] = &client{conn: c, number: i, w: w}
	}
	var wg sync.WaitGroup
	start := time.Now()
	end := start.Add(w.l.For)
	for _, c := range clients {
		wg.Go(func() { c.loop(ctx, end) })
	}
	wg.Wait()
	elapsed := time.Since(start)
	r := Result{Op: w.l.Op, Size: w.l.Size, Clients: w.l.Clients, Elapsed: elapsed}
	var h histogram
	for _, c := range clients {
		h.merge(&c.times)
		r.Ops += c.ops
		r.Bytes += c.bytes
		r.Errors += c.errors
		if c.lastErr != nil {
			r.LastError = c.lastErr.Error()
		}
	}
	r.OpsPerSec = float64(r.Ops) / elapsed.Seconds()
	r.MiBPerSec = float64(r.Bytes) / elapsed.Seconds() / (1 << 20)
	r.P50, r.P99 = h.quantile(0.50), h.quantile(0.99)
	return r, ctx.Err()
}
