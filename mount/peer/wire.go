package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// An answer is a row of frames: length u32, CRC32C of the bytes u32 (little-endian), bytes. A frame of no bytes says that the
// peer is there and waits for the store itself; one whose length has its top bit set says, in the bytes behind it, why the
// request is refused. An answer that ends before all bytes were sent has failed.
const (
	frameHead  = 8
	FrameBytes = 1 << 20 // the most that one frame has
	Path       = "/block"
	proofHead  = "Cairn-Proof"
	refusal    = 1 << 31
	maxRefusal = 200
	// Silence is how long a peer may say nothing at all before it is given up; it says something five times as often.
	Silence   = 2 * time.Second
	idleFrame = Silence / 5
)

// Errors that tell what a peer's answer means.
var (
	// ErrSilent tells that a peer does not answer.
	ErrSilent = errors.New("the peer does not answer")
	// ErrRefused tells that a peer answers, and does not serve this.
	ErrRefused = errors.New("the peer does not serve this")
	errFrame   = errors.New("a frame that is none, or does not match its checksum")
)

// Request asks for N bytes from Off on of a version of an object.
type Request struct {
	Store     string // which store and bucket, as the cache names it
	Key, ETag string
	Size      int64
	Off, N    int64
	Proof     string // that the one who asks may read the object: what, the store knows
}

func (q Request) values() url.Values {
	return url.Values{"store": {q.Store}, "key": {q.Key}, "etag": {q.ETag}, "size": {strconv.FormatInt(q.Size, 10)},
		"off": {strconv.FormatInt(q.Off, 10)}, "n": {strconv.FormatInt(q.N, 10)}}
}

// parse reads a request. The numbers are checked against each other.
func parse(r *http.Request) (q Request, err error) {
	v := r.URL.Query()
	number := func(name string) (n int64) {
		n, e := strconv.ParseInt(v.Get(name), 10, 64)
		err = errors.Join(err, e)
		return n
	}
	q = Request{Store: v.Get("store"), Key: v.Get("key"), ETag: v.Get("etag"), Size: number("size"), Off: number("off"), N: number("n"),
		Proof: r.Header.Get(proofHead)}
	if err == nil && (q.Key == "" || q.Off < 0 || q.N <= 0 || q.Off > q.Size || q.N > q.Size-q.Off) {
		err = fmt.Errorf("%d bytes at %d of %d", q.N, q.Off, q.Size)
	}
	return q, err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Blocks is what a mount serves to its peers. Safe for concurrent use.
type Blocks interface {
	// Open begins to serve a request, if the one who asks may read and the object is as he says.
	Open(ctx context.Context, q Request) (Block, error)
}

// Block is a request being served.
type Block interface {
	// Next hands the bytes from off on to send, one frame's worth at the most; it waits until they are there.
	Next(ctx context.Context, off int64, send func([]byte) error) (n int, err error)
	Close()
}

// Handler serves blocks; at most atOnce requests at a time, the others are told to go elsewhere.
func Handler(b Blocks, atOnce int) http.Handler {
	places := make(chan struct{}, atOnce)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, func(w http.ResponseWriter, r *http.Request) {
		q, err := parse(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		default:
			http.Error(w, "too many requests at once", http.StatusServiceUnavailable)
			return
		}
		if err := serve(r.Context(), w, b, q); err != nil {
			panic(http.ErrAbortHandler) // the only way to end an answer so that the other side sees it
		}
	})
	return mux
}

// serve opens what is asked for and writes frames, and frames of no bytes now and then, so that the one who asks knows that we are here.
func serve(ctx context.Context, w http.ResponseWriter, b Blocks, q Request) error {
	c := http.NewResponseController(w)
	var mu sync.Mutex // of w
	send := func(p []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if err := writeFrame(w, 0, p); err != nil {
			return err
		}
		return c.Flush()
	}
	ctx, cancel := context.WithCancel(ctx)
	var idle sync.WaitGroup
	defer idle.Wait()
	defer cancel()
	idle.Go(func() {
		tick := time.NewTicker(idleFrame)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if send(nil) != nil {
					cancel() // nobody listens: the wait for the store ends too
					return
				}
			}
		}
	})
	block, err := b.Open(ctx, q)
	if err != nil {
		mu.Lock()
		defer mu.Unlock()
		text := []byte(err.Error())
		return writeFrame(w, refusal, text[:min(len(text), maxRefusal)])
	}
	defer block.Close()
	for off := q.Off; off < q.Off+q.N; {
		n, err := block.Next(ctx, off, send)
		if err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

func writeFrame(w io.Writer, mark uint32, p []byte) error {
	head := binary.LittleEndian.AppendUint32(make([]byte, 0, frameHead), uint32(len(p))|mark)
	head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(p, castagnoli))
	if _, err := w.Write(head); err != nil {
		return err
	}
	_, err := w.Write(p)
	return err
}
