package bench

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"cairn/erasure"
)

const limitTime = 700 * time.Millisecond // of each probe

// Limits are what this machine can do at best, measured in the same run as the store.
type Limits struct {
	MD5          float64 // bytes/s, one core
	CRC32C       float64 // bytes/s, one core
	Encode       float64 // bytes/s of data, 4+2, one core, in cache
	Loopback     float64 // bytes/s over one TCP connection
	SyncsPerSec  float64 // fdatasync of a 4 KiB append into preallocated space, one after another
	SyncsPerSec6 float64 // the same on six files at once, all together
	DirectWrite  float64 // bytes/s, O_DIRECT, 1 MiB pieces, six files that were written before
	// The bare HTTP server holds bodies in memory and does nothing with what it gets; by clients.
	BareGetSmall, BarePutSmall map[int]float64 // 4 KiB requests/s
	BareGetLarge, BarePutLarge map[int]float64 // bytes/s of 16 MiB bodies
}

// MeasureLimits runs all probes; files go below dir and are removed.
func MeasureLimits(ctx context.Context, dir string) (Limits, error) {
	var l Limits
	buf := make([]byte, 1<<20)
	rand.Read(buf)
	l.MD5 = rate(int64(len(buf)), func() { md5.Sum(buf) })
	l.CRC32C = rate(int64(len(buf)), func() { crc32.Checksum(buf, castagnoli) })
	var err1, err2, err3, err4, err5 error
	l.Encode, err1 = encodeRate()
	l.Loopback, err2 = loopbackRate()
	l.SyncsPerSec, err3 = syncRate(dir, 1)
	l.SyncsPerSec6, err4 = syncRate(dir, 6)
	l.DirectWrite, err5 = directRate(dir, 6)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return l, err
	}
	return l, l.measureBare(ctx)
}

// rate calls do for a while and returns bytes per second, with n bytes a call.
func rate(n int64, do func()) float64 {
	calls, start := int64(0), time.Now()
	for time.Since(start) < limitTime {
		do()
		calls++
	}
	return float64(calls*n) / time.Since(start).Seconds()
}

func encodeRate() (float64, error) {
	const k, m, unit = 4, 2, 64 << 10
	var codes erasure.Codes
	code, err := codes.Get(erasure.Scheme{K: k, M: m})
	if err != nil {
		return 0, err
	}
	units := make([][]byte, k+m)
	for i := range units {
		units[i] = make([]byte, unit)
		rand.Read(units[i])
	}
	r := rate(k*unit, func() { err = errors.Join(err, code.Encode(units)) })
	return r, err
}

func loopbackRate() (float64, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 1<<20)
		for {
			if _, err := c.Write(buf); err != nil {
				return // the reader has had enough
			}
		}
	})
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	buf, n, start := make([]byte, 1<<20), int64(0), time.Now()
	for time.Since(start) < limitTime {
		m, err := c.Read(buf)
		if err != nil {
			return 0, err
		}
		n += int64(m)
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// syncRate appends 4 KiB and syncs, on several files at once, and returns syncs per second in all.
func syncRate(dir string, files int) (float64, error) {
	const space = 64 << 20
	return onFiles(dir, files, syscall.O_WRONLY, space, func(f *os.File, deadline time.Time) (n float64, err error) {
		buf := make([]byte, 4096)
		for off := int64(0); time.Now().Before(deadline); off = (off + 4096) % space {
			if _, err := f.WriteAt(buf, off); err != nil {
				return n, err
			}
			if err := syscall.Fdatasync(int(f.Fd())); err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	})
}

// directRate rewrites files past the page cache, as a store with recycled segments does.
func directRate(dir string, files int) (float64, error) {
	const space = 64 << 20
	return onFiles(dir, files, syscall.O_WRONLY|syscall.O_DIRECT, space, func(f *os.File, deadline time.Time) (n float64, err error) {
		buf := alignedBuffer(1 << 20)
		fill := time.Time{} // the first round allocates, and does not count
		for off := int64(0); fill.IsZero() || time.Now().Before(deadline); {
			if _, err := f.WriteAt(buf, off); err != nil {
				return n, err
			}
			n += float64(len(buf))
			if off += int64(len(buf)); off == space {
				off = 0
				if fill.IsZero() {
					fill, n = time.Now(), 0
					deadline = fill.Add(limitTime)
				}
			}
		}
		return n, syscall.Fdatasync(int(f.Fd()))
	})
}

// onFiles runs work on n preallocated files at once and sums up what they count per second.
func onFiles(dir string, n, flags int, space int64, work func(f *os.File, deadline time.Time) (float64, error)) (float64, error) {
	var wg sync.WaitGroup
	counts, errs := make([]float64, n), make([]error, n)
	for i := range n {
		path := filepath.Join(dir, "limit"+strconv.Itoa(i))
		f, err := os.OpenFile(path, flags|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return 0, err
		}
		defer os.Remove(path)
		defer f.Close()
		if err := syscall.Fallocate(int(f.Fd()), 0, 0, space); err != nil {
			return 0, fmt.Errorf("fallocate %s: %w", path, err)
		}
		wg.Go(func() { counts[i], errs[i] = work(f, time.Now().Add(limitTime)) })
	}
	wg.Wait()
	total := 0.0
	for _, c := range counts {
		total += c
	}
	return total / limitTime.Seconds(), errors.Join(errs...)
}

// alignedBuffer returns n bytes that begin on a page, as O_DIRECT wants them.
func alignedBuffer(n int) []byte {
	b := make([]byte, n+4096)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & 4095
	return b[skip : skip+n]
}

// measureBare loads an HTTP server that does nothing with the loads' own client: the ceiling for any store measured so.
func (l *Limits) measureBare(ctx context.Context) error {
	const small, large = 4 << 10, 16 << 20
	data := newPayload(large, 1)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: bareHandler(data)}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer srv.Close()
	wg.Go(func() { srv.Serve(ln) }) // ends with ErrServerClosed
	b := &Bench{cfg: Config{Endpoint: "http://" + ln.Addr().String(), Bucket: "bare", MaxBytes: 64 << 20,
		MaxObjects: 64, MaxObjectBytes: large}, data: data}
	l.BareGetSmall, l.BarePutSmall = map[int]float64{}, map[int]float64{}
	l.BareGetLarge, l.BarePutLarge = map[int]float64{}, map[int]float64{}
	for _, clients := range []int{1, 16} {
		for _, p := range []struct {
			op   Op
			size int
			into map[int]float64
			unit float64
		}{{OpGet, small, l.BareGetSmall, 1}, {OpPut, small, l.BarePutSmall, 1},
			{OpGet, large, l.BareGetLarge, large}, {OpPut, large, l.BarePutLarge, large}} {
			w := workload{b: b, l: Load{Op: p.op, Size: p.size, Clients: clients, For: limitTime}, objects: b.objects(p.size)}
			r, err := b.measure(ctx, &w)
			if err == nil && r.Errors > 0 {
				err = errors.New(r.LastError)
			}
			if err != nil {
				return fmt.Errorf("bare %s: %w", p.op, err)
			}
			p.into[clients] = r.OpsPerSec * p.unit
		}
	}
	return nil
}

// bareHandler answers the keys of a workload ("/bare/s4096/00000017") from memory.
func bareHandler(data *payload) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			io.Copy(io.Discard, r.Body)
			return
		}
		parts := strings.Split(r.URL.Path, "/")
		size, err1 := strconv.Atoi(strings.TrimPrefix(parts[len(parts)-2], "s"))
		i, err2 := strconv.Atoi(parts[len(parts)-1])
		if err1 != nil || err2 != nil || size > len(data.pool)-payloadStarts*payloadStep {
			http.Error(w, "no such key", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(size))
		w.Write(data.body(i, size))
	})
}
