package datanode_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"cairn"
	"cairn/blob/blobtest"
	"cairn/datanode"
	"cairn/internal/rpc"
)

// Whatever a node does with a request's body, every piece comes back to its owner exactly once, and the commit has one
// outcome: a writer's buffers must be neither lost nor given back while they are read.
func TestPiecesComeBackOnce(t *testing.T) {
	const piece = 256 << 10
	handlers := map[string]http.HandlerFunc{
		"an answer before the body": func(w http.ResponseWriter, r *http.Request) { rpc.WriteError(w, cairn.ErrStaleEpoch) },
		"an answer amid the body": func(w http.ResponseWriter, r *http.Request) {
			r.Body.Read(make([]byte, 1000))
			rpc.WriteError(w, cairn.ErrFull)
		},
		"success without the body": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"a connection that breaks": func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
	}
	for name, h := range handlers {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(h)
			defer s.Close()
			c, err := datanode.NewClient(datanode.ClientConfig{URL: s.URL})
			if err != nil {
				t.Fatal(err)
			}
			const n = 40
			w, err := c.Create(context.Background(), cairn.DriveID{1}, blobtest.Header(1, 1, 0, 1), n*piece)
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			var back sync.WaitGroup
			times := make([]int, n)
			for i := range n {
				buf := make([]byte, piece)
				back.Add(1)
				w.Write(buf, func(error) {
					buf[0]++ // the race detector sees who still reads it
					mu.Lock()
					defer mu.Unlock()
					if times[i]++; times[i] == 1 {
						back.Done()
					}
				})
			}
			outcome := make(chan error, 2)
			w.Commit(func(err error) { outcome <- err })
			select {
			case err = <-outcome:
			case <-time.After(time.Minute):
				t.Fatal("no outcome")
			}
			if err == nil {
				t.Error("committed what the node did not take")
			}
			back.Wait()
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			for i, n := range times {
				if n != 1 {
					t.Errorf("piece %d came back %d times", i, n)
				}
			}
		})
	}
}
