package s3api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"cairn"
	"cairn/object/objecttest"
)

// benchClients is how many connections a benchmark keeps busy.
const benchClients = 16

// benchRig is a frontend over real directories: six drives, 4+2, five voters.
func benchRig(b *testing.B) *rig {
	b.Helper()
	return newRigOn(b, objecttest.Config{Profile: cairn.Profile{K: 4, M: 2}, Volumes: 4, Voters: 5, Dir: b.TempDir(), Run: true}, nil)
}

// drive sends b.N requests, made by next, over benchClients connections, and reads the answers as cheaply as can be.
func (r *rig) drive(b *testing.B, next func(i int) []byte) {
	var wg sync.WaitGroup
	var turn atomic.Int64
	b.ResetTimer()
	for range benchClients {
		wg.Go(func() {
			c, err := net.Dial("tcp", r.addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			br := bufio.NewReaderSize(c, 64<<10)
			for {
				i := int(turn.Add(1)) - 1
				if i >= b.N {
					return
				}
				if _, err := c.Write(next(i)); err != nil {
					b.Error(err)
					return
				}
				if err := skipAnswer(br); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

// skipAnswer reads one answer and throws it away.
func skipAnswer(br *bufio.Reader) error {
	length := 0
	for first := true; ; first = false {
		line, err := br.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && string(line[9:12]) >= "300" {
			return fmt.Errorf("answer %q", line)
		}
		if len(line) == 2 {
			break
		}
		if v, ok := strings.CutPrefix(string(line), "Content-Length: "); ok {
			fmt.Sscan(v, &length)
		}
	}
	_, err := io.CopyN(io.Discard, br, int64(length))
	return err
}

func BenchmarkGet4KiB(b *testing.B) {
	r := benchRig(b)
	r.do(req{path: "/bucket/k", body: strings.Repeat("x", 4096)}).want(b, "put", 200, "")
	get := []byte(r.raw(req{method: "GET", path: "/bucket/k"}))
	b.ReportAllocs()
	r.drive(b, func(int) []byte { return get })
}

func BenchmarkHead(b *testing.B) {
	r := benchRig(b)
	head := []byte(r.raw(req{method: "GET", path: "/bucket?location"}))
	b.ReportAllocs()
	r.drive(b, func(int) []byte { return head })
}

func BenchmarkPut4KiB(b *testing.B) {
	r := benchRig(b)
	body := strings.Repeat("x", 4096)
	puts := make([][]byte, 2000)
	for i := range puts {
		puts[i] = []byte(r.raw(req{path: fmt.Sprintf("/bucket/k%d", i), body: body, payload: "UNSIGNED-PAYLOAD"}))
	}
	b.ReportAllocs()
	r.drive(b, func(i int) []byte { return puts[i%len(puts)] })
}

// discard is a ResponseWriter that costs nothing.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

// BenchmarkFrontend is a GET of 4 KiB without network and HTTP parsing: authentication, routing, look-up, headers.
func BenchmarkFrontend(b *testing.B) {
	r := newRig(b, nil)
	r.do(req{path: "/bucket/k", body: strings.Repeat("x", 4096)}).want(b, "put", 200, "")
	rq, err := http.ReadRequest(bufio.NewReader(strings.NewReader(r.raw(req{method: "GET", path: "/bucket/k"}))))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r.srv.ServeHTTP(&discard{h: http.Header{}}, rq)
	}
}
