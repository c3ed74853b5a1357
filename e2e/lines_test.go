//go:build e2e

package e2e

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// lines keeps a process's output while it runs. Safe for concurrent use.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

// Write keeps p.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns all of it.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// after waits for a marker and returns the word behind it.
func (l *lines) after(t *testing.T, marker string) string {
	t.Helper()
	for range 600 {
		if _, rest, ok := strings.Cut(l.String(), marker); ok {
			if word := strings.Fields(rest + " ."); strings.ContainsAny(rest, " \n") {
				return word[0]
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%q was not printed: %s", marker, l)
	return ""
}
