package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"cairn/admin"
)

// TestEveryRouteHasACommand runs the command line that each route of the admin API names against a server that writes down what
// it is asked: the command must make that very request.
func TestEveryRouteHasACommand(t *testing.T) {
	routes := admin.Routes()
	if len(routes) < 30 {
		t.Fatalf("only %d routes: are they all there?", len(routes))
	}
	for _, r := range routes {
		t.Run(r.Pattern, func(t *testing.T) {
			if !strings.HasPrefix(r.Action, "cairn:") || r.What == "" {
				t.Errorf("action %q, what %q: want an action of cairn's and a sentence", r.Action, r.What)
			}
			asked, out := askedBy(t, r.CLI)
			want := regexp.MustCompile("^" + r.Method() + " " + regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(regexp.QuoteMeta(r.Path()), ".+") + "$")
			for _, a := range asked {
				if want.MatchString(a) {
					return
				}
			}
			t.Errorf("`cairn %s` asked for %q, not for %s; it said: %s", r.CLI, asked, r.Pattern, out)
		})
	}
}

// askedBy runs a command line and returns the requests that it made.
func askedBy(t *testing.T, line string) (asked []string, said string) {
	t.Helper()
	var mu sync.Mutex
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Method+" "+r.URL.Path)
		switch r.URL.Path {
		case "/api/v1/nodes":
			io.WriteString(w, `[{"id":"00000000000000000000000000000001","name":"n1","roles":"meta","state":"up"}]`)
		case "/api/v1/events": // it ends at once, and `cairn top` with it
			http.Error(w, "enough", http.StatusTeapot)
		default:
			io.WriteString(w, "null") // whatever is read into stays zero
		}
	}))
	defer srv.Close()
	t.Setenv(envAdmin, srv.URL)
	t.Setenv(envAccessKey, "root")
	t.Setenv(envSecretKey, "secret-secret")
	args := strings.Fields(line)
	for i, a := range args {
		if a == "-" { // a document on the standard input
			args[i] = filepath.Join(t.TempDir(), "document.json")
			if err := os.WriteFile(args[i], []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}`), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	var out strings.Builder
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	run(ctx, args, strings.NewReader(""), &out, &out)
	mu.Lock()
	defer mu.Unlock()
	return asked, out.String()
}
