package bench

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestHistogramQuantiles(t *testing.T) {
	var h histogram
	for i := 1; i <= 1000; i++ {
		h.add(time.Duration(i) * time.Millisecond)
	}
	for _, tt := range []struct {
		q    float64
		want time.Duration
	}{{0.5, 500 * time.Millisecond}, {0.99, 990 * time.Millisecond}} {
		got := h.quantile(tt.q)
		if got < tt.want || got > tt.want*103/100 {
			t.Errorf("quantile %g: got %v, want %v to 3%% more", tt.q, got, tt.want)
		}
	}
}

// TestWrongBytesAreErrors: a server that flips a bit in one answer of ten must not go unnoticed.
func TestWrongBytesAreErrors(t *testing.T) {
	const size = 8 << 10
	data := newPayload(size, 1)
	var mu sync.Mutex
	answers := 0
	good := bareHandler(data)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		answers++
		flip := answers%10 == 0
		mu.Unlock()
		if r.Method == http.MethodGet && flip {
			b := bytes.Clone(data.body(0, size))
			b[size/2] ^= 1
			w.Header().Set("Content-Length", "8192")
			w.Write(b)
			return
		}
		good.ServeHTTP(w, r)
	}))
	defer srv.Close()
	b := &Bench{cfg: Config{Endpoint: srv.URL, Bucket: "bare", MaxBytes: size, MaxObjects: 1}, data: data}
	w := workload{b: b, l: Load{Op: OpGet, Size: size, Clients: 2, For: 300 * time.Millisecond}, objects: 1}
	r, err := b.measure(t.Context(), &w)
	if err != nil {
		t.Fatal(err)
	}
	if r.Errors == 0 || !strings.Contains(r.LastError, "WRONG BYTES") {
		t.Errorf("got %d errors (%s), want wrong bytes found", r.Errors, r.LastError)
	}
	if r.Ops == 0 {
		t.Error("no right answer was counted")
	}
}

func TestConnReadsChunkedAndErrors(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/b/none" {
			http.Error(w, "<Code>NoSuchKey</Code>", http.StatusNotFound)
			return
		}
		for range 3 {
			w.Write([]byte(strings.Repeat("x", 100_000)))
			w.(http.Flusher).Flush()
		}
	}))
	defer srv.Close()
	c, err := newConn(srv.URL, Credentials{AccessKey: "a", SecretKey: "b"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for range 3 { // on one connection
		n := 0
		if err := c.do(context.Background(), request{method: "GET", path: "/b/k"}, func(p []byte) { n += len(p) }); err != nil || n != 300_000 {
			t.Fatalf("got %d bytes, %v, want 300000", n, err)
		}
		err := c.do(context.Background(), request{method: "GET", path: "/b/none"}, nil)
		if se, ok := err.(*statusError); !ok || se.Status != 404 || !strings.Contains(se.Body, "NoSuchKey") {
			t.Fatalf("got %v, want the 404 and its body", err)
		}
	}
}

// TestOnceReadsEachObjectOnce: a cold figure must not be made of repeated reads.
func TestOnceReadsEachObjectOnce(t *testing.T) {
	const size, objects = 4 << 10, 50
	data := newPayload(size, 1)
	var mu sync.Mutex
	reads := map[string]int{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		reads[r.URL.Path]++
		mu.Unlock()
		http.NotFound(w, r) // which key holds which bytes does not matter here
	}))
	defer srv.Close()
	b := &Bench{cfg: Config{Endpoint: srv.URL, Bucket: "bare", MaxBytes: size * objects, MaxObjects: objects}, data: data}
	w := workload{b: b, l: Load{Op: OpGet, Size: size, Clients: 4, For: time.Minute, Once: true}, objects: objects}
	r, err := b.measure(t.Context(), &w)
	if err != nil {
		t.Fatal(err)
	}
	if len(reads) != objects || r.Errors != objects {
		t.Errorf("got %d objects in %d reads, want each of %d once", len(reads), r.Errors, objects)
	}
}
