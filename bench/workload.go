package bench

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	deleteBatch    = 1000 // keys per DeleteObjects, and rows per page: S3's maximum
	prepareClients = 16
	tinyBytes      = 64 // size of the objects that list and delete work on
	errorPause     = 20 * time.Millisecond
)

// workload is a load that is being run: which keys it has, and how one operation of it is made.
type workload struct {
	b       *Bench
	l       Load
	objects int          // number of different keys
	whole   int          // OpRange: bytes of the objects that ranges are taken from
	next    atomic.Int64 // OpDelete and Once: the first key that nobody has taken yet
}

// client is one goroutine's share of a load.
type client struct {
	conn    *conn
	number  int
	w       *workload
	times   histogram
	ops     int64
	bytes   int64
	errors  int64
	lastErr error
	scratch []byte
	seed    uint64
}

func (w *workload) objectBytes() int {
	switch w.l.Op {
	case OpRange:
		return w.whole
	case OpList, OpDelete:
		return tinyBytes
	}
	return w.l.Size
}

func (w *workload) path(i int) string {
	return "/" + w.b.cfg.Bucket + "/" + w.key(i)
}

func (w *workload) key(i int) string {
	return "s" + strconv.Itoa(w.objectBytes()) + "/" + fmt.Sprintf("%08d", i)
}

// prepare stores what the load reads, lists or deletes.
func (w *workload) prepare(ctx context.Context) error {
	if w.l.Op == OpPut || w.l.Reuse {
		return nil
	}
	return w.each(ctx, w.objects, func(c *conn, i int) error {
		size := w.objectBytes()
		return retry(ctx, func() error {
			return c.do(ctx, request{method: "PUT", path: w.path(i), body: w.b.data.body(i, size)}, nil)
		})
	})
}

// clean deletes the load's objects.
func (w *workload) clean(ctx context.Context) error {
	batches := (w.objects + deleteBatch - 1) / deleteBatch
	return w.each(ctx, batches, func(c *conn, i int) error {
		return retry(ctx, func() error { return c.do(ctx, w.deleteRequest(i*deleteBatch), nil) })
	})
}

// each calls do for 0 … n-1 on a few connections.
func (w *workload) each(ctx context.Context, n int, do func(c *conn, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(prepareClients, n) {
		g.Go(func() error {
			c, err := newConn(w.b.cfg.Endpoint, w.b.cfg.Credentials)
			if err != nil {
				return err
			}
			defer c.close()
			for {
				i := int(next.Add(1)) - 1
				if i >= n || ctx.Err() != nil {
					return ctx.Err()
				}
				if err := do(c, i); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// retry tries preparations again for a while, as S3 clients do after 503.
func retry(ctx context.Context, do func() error) error {
	var err error
	for pause := 10 * time.Millisecond; pause < 5*time.Second; pause *= 2 {
		if err = do(); err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(pause)
	}
	return err
}

// deleteRequest deletes the keys from first on, one batch.
func (w *workload) deleteRequest(first int) request {
	var b bytes.Buffer
	b.WriteString(`<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Quiet>true</Quiet>`)
	for i := first; i < min(first+deleteBatch, w.objects); i++ {
		b.WriteString("<Object><Key>" + w.key(i) + "</Key></Object>")
	}
	b.WriteString("</Delete>")
	sum := md5.Sum(b.Bytes())
	return request{method: "POST", path: "/" + w.b.cfg.Bucket, query: "delete=", body: b.Bytes(),
		header: "Content-MD5: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n"}
}

func (c *client) loop(ctx context.Context, end time.Time) {
	c.seed = uint64(c.number)*0x9e3779b97f4a7c15 + 1
	for n := 0; ctx.Err() == nil; n++ {
		start := time.Now()
		if !start.Before(end) {
			return
		}
		ops, size, err := c.one(ctx, n)
		if ops == 0 && err == nil {
			return // nothing left to do
		}
		if err != nil {
			c.errors++
			c.lastErr = err
			time.Sleep(errorPause)
			continue
		}
		c.times.add(time.Since(start))
		c.ops += int64(ops)
		c.bytes += int64(size)
	}
}

// one makes the client's n-th operation and tells how many objects or keys, and bytes, it moved.
func (c *client) one(ctx context.Context, n int) (ops, size int, err error) {
	w := c.w
	i := (c.number + n*w.l.Clients) % w.objects
	switch w.l.Op {
	case OpPut:
		return 1, w.l.Size, c.put(ctx, i)
	case OpGet:
		if i = c.pick(); i < 0 {
			return 0, 0, nil
		}
		return 1, w.l.Size, c.get(ctx, i)
	case OpRange:
		return 1, w.l.Size, c.getRange(ctx, int(c.random()%uint64(w.objects)))
	case OpList:
		return c.list(ctx)
	case OpDelete:
		first := int(w.next.Add(deleteBatch)) - deleteBatch
		if first >= w.objects {
			return 0, 0, nil
		}
		return min(deleteBatch, w.objects-first), 0, c.conn.do(ctx, w.deleteRequest(first), nil)
	}
	switch r := c.random() % 100; { // OpMixed
	case r < 60:
		return 1, w.l.Size, allow(404, c.get(ctx, int(c.random()%uint64(w.objects))))
	case r < 85:
		return 1, w.l.Size, c.put(ctx, i)
	case r < 95:
		return 1, 0, allow(404, c.conn.do(ctx, request{method: "HEAD", path: w.path(i)}, nil))
	default:
		return 1, 0, c.conn.do(ctx, request{method: "DELETE", path: w.path(i)}, nil)
	}
}

// pick chooses the object to read: the next one of a load that reads each once (-1 after the last), any one otherwise.
func (c *client) pick() int {
	if !c.w.l.Once {
		return int(c.random() % uint64(c.w.objects))
	}
	if i := int(c.w.next.Add(1)) - 1; i < c.w.objects {
		return i
	}
	return -1
}

// allow drops a statusError of the given status: under OpMixed a key may be deleted already.
func allow(status int, err error) error {
	if se, ok := err.(*statusError); ok && se.Status == status {
		return nil
	}
	return err
}

func (c *client) put(ctx context.Context, i int) error {
	return c.conn.do(ctx, request{method: "PUT", path: c.w.path(i), body: c.w.b.data.body(i, c.w.l.Size)}, nil)
}

func (c *client) get(ctx context.Context, i int) error {
	return c.fetch(ctx, request{method: "GET", path: c.w.path(i)}, c.w.l.Size, c.w.b.data.sum(i, c.w.l.Size))
}

func (c *client) getRange(ctx context.Context, i int) error {
	off := 0
	if spare := c.w.whole - c.w.l.Size; spare > 0 {
		off = int(c.random()%uint64(spare+1)) &^ 4095
	}
	want := crc32.Checksum(c.w.b.data.body(i, c.w.whole)[off:off+c.w.l.Size], castagnoli)
	header := fmt.Sprintf("Range: bytes=%d-%d\r\n", off, off+c.w.l.Size-1)
	return c.fetch(ctx, request{method: "GET", path: c.w.path(i), header: header}, c.w.l.Size, want)
}

// fetch reads a body and checks it.
func (c *client) fetch(ctx context.Context, r request, size int, want uint32) error {
	got, n := uint32(0), 0
	err := c.conn.do(ctx, r, func(p []byte) {
		got = crc32.Update(got, castagnoli, p)
		n += len(p)
	})
	if err != nil {
		return err
	}
	if n != size || got != want {
		return fmt.Errorf("WRONG BYTES: %s: %d of %d bytes, crc32c %08x, want %08x", r.path, n, size, got, want)
	}
	return nil
}

// list reads one page from a random place and counts its keys.
func (c *client) list(ctx context.Context) (keys, size int, err error) {
	after := c.w.key(int(c.random() % uint64(max(1, c.w.objects-deleteBatch))))
	query := "list-type=2&max-keys=" + strconv.Itoa(deleteBatch) + "&prefix=s" + strconv.Itoa(tinyBytes) +
		"%2F&start-after=" + string(bytes.ReplaceAll([]byte(after), []byte("/"), []byte("%2F")))
	c.scratch = c.scratch[:0]
	err = c.conn.do(ctx, request{method: "GET", path: "/" + c.w.b.cfg.Bucket, query: query}, func(p []byte) {
		c.scratch = append(c.scratch, p...)
	})
	if err != nil {
		return 0, 0, err
	}
	keys = bytes.Count(c.scratch, []byte("<Key>"))
	if want := min(deleteBatch, c.w.objects-1); keys != want {
		return 0, 0, fmt.Errorf("WRONG LIST: %d keys after %s, want %d", keys, after, want)
	}
	return keys, len(c.scratch), nil
}

// random is SplitMix64: cheap, and its own for each client.
func (c *client) random() uint64 {
	c.seed += 0x9e3779b97f4a7c15
	z := c.seed
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
