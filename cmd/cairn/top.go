package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"cairn"
	"cairn/admin"
)

func topCommand() *cobra.Command {
	var once bool
	var flags adminFlags
	c := &cobra.Command{Use: "top", Short: "Watch the store live: verdict, rates, drives, jobs",
		Long: "Watch the store live, from the same stream of events as the dashboard. On a terminal the view is redrawn as things\n" +
			"change; elsewhere each change of the verdict is a line. A stream that breaks off is taken up again. Ctrl-C ends it.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := flags.client()
			if err != nil {
				return err
			}
			a.http = &http.Client{} // a stream has no end
			t := &top{out: c.OutOrStdout(), members: map[string]json.RawMessage{}}
			if f, ok := t.out.(*os.File); ok {
				t.tty = term.IsTerminal(int(f.Fd()))
			}
			for {
				err := t.follow(c.Context(), a, once)
				switch {
				case c.Context().Err() != nil || err == nil:
					return nil
				case t.id == "":
					return err
				}
				fmt.Fprintln(c.ErrOrStderr(), "stale: "+err.Error())
				select {
				case <-c.Context().Done():
					return nil
				case <-time.After(topRetry):
				}
			}
		}}
	flags.register(c)
	c.Flags().BoolVar(&once, "once", false, "show what is there now, and end")
	return c
}

const (
	topRetry      = 2 * time.Second
	maxEventBytes = 64 << 20
)

// top is the state as the events tell it.
type top struct {
	out     io.Writer
	tty     bool
	id      string // of the last event
	members map[string]json.RawMessage
	verdict string // that was printed last
}

// follow reads one stream; nil if it has shown what it should.
func (t *top) follow(ctx context.Context, a *adminClient, once bool) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+"/api/v1/events", nil)
	if err != nil {
		return err
	}
	req.SetBasicAuth(a.cred.AccessKey, a.cred.SecretKey)
	if t.id != "" {
		req.Header.Set("Last-Event-ID", t.id)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return fmt.Errorf("no server answers at %s (is it running? see --admin): %w", a.base, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return fmt.Errorf("%s: %s", a.base, problemText(b, resp.Status))
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEventBytes)
	for event := ""; lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "event":
			event = value
		case "id":
			t.id = value
		case "data":
			if err := t.take(event, []byte(value)); err != nil {
				return err
			}
			if once && len(t.members) > 0 {
				return nil
			}
		}
	}
	return fmt.Errorf("the stream broke off: %w", firstError(lines.Err(), io.ErrUnexpectedEOF))
}

func firstError(err, fallback error) error {
	if err == nil {
		return fallback
	}
	return err
}

// take applies one event and shows what it changed.
func (t *top) take(event string, data []byte) error {
	var c admin.Change
	switch event {
	case "snapshot":
		t.members = map[string]json.RawMessage{}
	case "delta":
	default:
		return nil
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	maps.Copy(t.members, c.Set)
	for _, name := range c.Gone {
		delete(t.members, name)
	}
	return t.show()
}

// status puts the members together again.
func (t *top) status() (st admin.Status, last admin.Sample, err error) {
	text, err := json.Marshal(t.members)
	if err == nil {
		err = json.Unmarshal(text, &st)
	}
	for _, name := range slices.Sorted(maps.Keys(t.members)) {
		kind, _, _ := strings.Cut(name, "/")
		switch kind {
		case "drives":
			var d admin.Drive
			err = firstError(json.Unmarshal(t.members[name], &d), err)
			st.Drives = append(st.Drives, d)
		case "jobs":
			var j cairn.Job
			err = firstError(json.Unmarshal(t.members[name], &j), err)
			st.Jobs = append(st.Jobs, j)
		case "sample":
			err = firstError(json.Unmarshal(t.members[name], &last), err)
		}
	}
	st.Now = time.Now()
	return st, last, err
}

func (t *top) show() error {
	st, last, err := t.status()
	if err != nil {
		return err
	}
	verdict := string(st.Health) + " " + strings.Join(st.Reasons, " ")
	if !t.tty {
		if verdict != t.verdict {
			t.verdict = verdict
			fmt.Fprintf(t.out, "%s %s\n", st.Now.Format(time.RFC3339), verdict)
		}
		return nil
	}
	var b strings.Builder
	b.WriteString("\x1b[H\x1b[J")
	b.WriteString(statusText(st))
	fmt.Fprintf(&b, "\nrequests  %.1f/s, %.1f/s failed; in %s/s, out %s/s; p50 %.1f ms, p99 %.1f ms\n", last.RequestsPerSec, last.ErrorsPerSec,
		bytesText(int64(last.InBytesPerSec)), bytesText(int64(last.OutBytesPerSec)), last.P50*1000, last.P99*1000)
	for _, j := range st.Jobs {
		if !j.Ended() {
			fmt.Fprintf(&b, "job %-5s %s %s: %s\n", j.ID, j.Kind, j.Subject, progressText(j.Progress))
		}
	}
	_, err = io.WriteString(t.out, b.String())
	return err
}
