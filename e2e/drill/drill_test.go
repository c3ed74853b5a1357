//go:build e2e

package drill

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

const (
	quietFor = 6 * time.Second  // of load before a fault, and after it is mended, whose latencies are compared
	holdFor  = 12 * time.Second // that a fault lasts at the least
	seenMax  = 20 * time.Second // that a fault lasts when nothing notices it

	countEvery = time.Second // reading all drives' headers takes a part of it

	stallLimit   = 5 * time.Second
	successLimit = 99.9 // percent, after retries
)

// outcome is one line of the table: what clients noticed of a fault, in the span from its beginning until every body was
// whole again on the drives.
type outcome struct {
	Fault      string    `json:"fault"`
	Operations int       `json:"operations"`
	SlowDowns  int       `json:"slow_downs"`    // attempts answered with 503
	Errors     int       `json:"client_errors"` // attempts that failed otherwise
	Failed     int       `json:"failed"`        // operations that failed after all retries
	Success    float64   `json:"success_percent"`
	Detected   float64   `json:"detected_seconds"` // -1: not noticed, and need not be
	StallWrite float64   `json:"longest_write_seconds"`
	StallRead  float64   `json:"longest_read_seconds"`
	Write      latencies `json:"write_ms"`
	Read       latencies `json:"read_ms"`
	Lasted     float64   `json:"fault_lasted_seconds"`
	Redundant  float64   `json:"full_redundancy_after_mending_seconds"`
	Rebuilt    float64   `json:"rebuilt_meanwhile_seconds,omitempty"` // on the nodes that were left
	Bodies     int       `json:"bodies_counted"`
	Slowest    []string  `json:"slowest"`
	Problems   []string  `json:"problems"`
}

// latencies are percentiles in milliseconds before, during and after a fault.
type latencies struct {
	P50 [3]float64 `json:"p50"`
	P99 [3]float64 `json:"p99"`
}

func (o *outcome) problem(format string, args ...any) {
	o.Problems = append(o.Problems, fmt.Sprintf(format, args...))
}

// TestDrill breaks a cluster of 3 meta, 7 data and 2 gateway nodes in every way that the package knows, one after the other.
func TestDrill(t *testing.T) {
	disks := map[int]string{}
	d, err := newDisk(t)
	if err == nil {
		disks[6] = d.path
	} else {
		t.Logf("SKIPPED: the faults of a disk cannot be made here: %v", err)
	}
	c := newCluster(t, shape{meta: 3, data: 7, gateways: 2, profile: "4+2"}, disks)
	c.makeBucket()
	l := startLoad(t, c.gateways)
	l.settle()
	var table []*outcome
	for _, f := range c.faults(d) {
		t.Run(strings.ReplaceAll(f.name, " ", "-"), func(t *testing.T) {
			o := c.suffer(t, l, f)
			table = append(table, o)
			for _, p := range o.Problems {
				t.Error(p)
			}
		})
	}
	l.end()
	checked, unread := l.checkAll()
	t.Logf("%d keys were read back at the end", checked)
	for _, err := range unread {
		t.Errorf("at the end: %v", err)
	}
	if short, n, err := c.census(l, nil, true); err != nil || len(short) > 0 {
		t.Errorf("at the end %d of %d bodies are short of shards with every byte right: %v, %v", len(short), n, short[:min(5, len(short))], err)
	}
	if err := l.verdicts(); err != nil {
		t.Error(err)
	}
	report(t, table)
}

// suffer makes one fault and measures it.
func (c *cluster) suffer(t *testing.T, l *load, f fault) *outcome {
	o := &outcome{Fault: f.name, Detected: -1, Redundant: -1}
	quiet := time.Now()
	time.Sleep(quietFor) // the load goes on: this is what the fault is compared with
	began := time.Now()
	if err := f.begin(); err != nil {
		o.problem("it could not be made: %v", err)
	}
	c.notice(o, f, began)
	if f.meanwhile != nil {
		c.handle(o, l, f)
	}
	time.Sleep(time.Until(began.Add(holdFor)))
	if err := f.end(); err != nil {
		o.problem("it could not be mended: %v", err)
	}
	mended := time.Now()
	o.Lasted = mended.Sub(began).Seconds()
	c.redundant(o, l, mended)
	l.settle()
	whole := time.Now()
	time.Sleep(quietFor)
	o.measure(l, quiet, began, mended, whole, time.Now())
	if err := l.verdicts(); err != nil {
		o.problem("%v", err)
	}
	if err := c.tryFor(patience, c.whole); err != nil {
		o.problem("the cluster is not whole again: %v", err)
	}
	t.Logf("%s: %+v", f.name, *o)
	return o
}

// notice waits until the cluster has noticed, or need not.
func (c *cluster) notice(o *outcome, f fault, began time.Time) {
	if f.seen == nil {
		return
	}
	limit := seenMax
	if f.within > 0 {
		limit = max(limit, f.within)
	}
	err := c.tryFor(limit, f.seen)
	took := time.Since(began)
	if err == nil {
		o.Detected = took.Seconds()
	}
	if f.within > 0 && (err != nil || took > f.within) {
		o.problem("it was not noticed within %v but %v: %v", f.within, took.Round(pollEvery), err)
	}
}

// handle does what an operator does meanwhile, and waits until what can be rebuilt on the nodes that are left has been.
func (c *cluster) handle(o *outcome, l *load, f fault) {
	began := time.Now()
	if err := f.meanwhile(); err != nil {
		o.problem("meanwhile: %v", err)
		return
	}
	err := c.tryEvery(countEvery, patience, func(context.Context) error { return c.full(o, l, c.gone()) })
	if err != nil {
		o.problem("not rebuilt on the nodes that are left: %v", err)
		return
	}
	o.Rebuilt = time.Since(began).Seconds()
}

// gone are the nodes whose process has ended: their drives cannot be counted on.
func (c *cluster) gone() map[*node]bool {
	list := map[*node]bool{}
	for _, n := range c.data {
		select {
		case <-n.server.Exited():
			list[n] = true
		default:
		}
	}
	return list
}

// census counts the bodies that are short of shards on the drives of the nodes that are not gone.
func (c *cluster) census(l *load, gone map[*node]bool, verify bool) (short []string, bodies int, err error) {
	want := l.certainKeys(time.Now())
	var dirs []string
	for _, n := range c.data {
		if !gone[n] {
			dirs = append(dirs, n.drive)
		}
	}
	have, err := count(dirs, verify)
	if err != nil {
		return nil, 0, err
	}
	now := l.certainKeys(time.Now()) // a body that was replaced or deleted meanwhile need not be there
	for key, v := range want {
		if now[key].mark != v.mark {
			delete(want, key)
		}
	}
	return have.short(want, len(dirs)), len(want), nil
}

// full returns nil if no body is short of shards.
func (c *cluster) full(o *outcome, l *load, gone map[*node]bool) error {
	short, n, err := c.census(l, gone, false)
	if err == nil && len(short) > 0 {
		err = fmt.Errorf("%d of %d bodies are short: %s", len(short), n, strings.Join(short[:min(3, len(short))], "; "))
	}
	o.Bodies = n
	return err
}

// redundant waits until every acknowledged body has all its shards again.
func (c *cluster) redundant(o *outcome, l *load, mended time.Time) {
	err := c.tryEvery(countEvery, patience, func(context.Context) error { return c.full(o, l, nil) })
	if err != nil {
		o.problem("redundancy is not restored: %v", err)
		return
	}
	o.Redundant = time.Since(mended).Seconds()
}

// measure sums up the operations of the three spans.
func (o *outcome) measure(l *load, quiet, began, mended, whole, end time.Time) {
	spans := [3][]sample{l.between(quiet, began), l.between(began, mended), l.between(whole, end)}
	for i, list := range spans {
		for _, s := range list {
			if i != 1 && s.ended.Sub(s.began) > stallLimit {
				o.problem("a %s took %v outside of the fault", opNames[s.kind], s.ended.Sub(s.began).Round(time.Millisecond))
			}
		}
		o.Write.P50[i], o.Write.P99[i] = percentiles(list, true)
		o.Read.P50[i], o.Read.P99[i] = percentiles(list, false)
	}
	var errs []error
	all := l.between(began, whole)
	slices.SortFunc(all, func(a, b sample) int { return cmp.Compare(b.ended.Sub(b.began), a.ended.Sub(a.began)) })
	for _, s := range all[:min(5, len(all))] {
		o.Slowest = append(o.Slowest, fmt.Sprintf("%s took %v, begun %v after the fault", opNames[s.kind], s.ended.Sub(s.began).Round(time.Millisecond),
			s.began.Sub(began).Round(time.Millisecond)))
	}
	for _, s := range all {
		o.Operations++
		o.SlowDowns += s.slowDowns
		o.Errors += len(s.errs)
		took := s.ended.Sub(s.began).Seconds()
		if s.kind.writes() {
			o.StallWrite = max(o.StallWrite, took)
		} else {
			o.StallRead = max(o.StallRead, took)
		}
		if s.err != nil {
			o.Failed++
		}
		errs = append(errs, s.errs...)
	}
	o.judge(errs)
}

func (o *outcome) judge(errs []error) {
	o.Success = 100 * float64(o.Operations-o.Failed) / float64(max(1, o.Operations))
	if o.Success < successLimit {
		o.problem("%.2f%% of %d operations succeeded after retries, want %.1f%%: %v", o.Success, o.Operations, successLimit,
			errors.Join(errs[:min(3, len(errs))]...))
	}
	for what, took := range map[string]float64{"write": o.StallWrite, "read": o.StallRead} {
		if took > stallLimit.Seconds() {
			o.problem("a %s stalled for %.1f s", what, took)
		}
	}
}

func (k opKind) writes() bool { return k == opPut || k == opDelete }

// percentiles returns the median and the 99th percentile in milliseconds.
func percentiles(list []sample, writes bool) (p50, p99 float64) {
	var ms []float64
	for _, s := range list {
		if s.kind.writes() == writes {
			ms = append(ms, float64(s.ended.Sub(s.began).Microseconds())/1000)
		}
	}
	if len(ms) == 0 {
		return 0, 0
	}
	slices.Sort(ms)
	return ms[len(ms)/2], ms[len(ms)*99/100]
}

// report prints the table, and writes it as JSON to where CAIRN_DRILL_JSON says.
func report(t *testing.T, table []*outcome) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "fault\tops\t503\terrors\tfailed\tnoticed\tlongest write\tlongest read\twrite p99 before/during/after\tread p99 before/during/after\tfull redundancy\t")
	for _, o := range table {
		noticed := "-"
		if o.Detected >= 0 {
			noticed = fmt.Sprintf("%.1f s", o.Detected)
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\t%.2f s\t%.2f s\t%s\t%s\t%.1f s\t\n", o.Fault, o.Operations, o.SlowDowns, o.Errors, o.Failed,
			noticed, o.StallWrite, o.StallRead, o.Write.text(), o.Read.text(), o.Redundant)
	}
	w.Flush()
	fmt.Print(b.String())
	path := os.Getenv("CAIRN_DRILL_JSON")
	if path == "" {
		return
	}
	out, err := json.MarshalIndent(table, "", "  ")
	if err == nil {
		err = os.WriteFile(path, append(out, '\n'), 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}

func (l latencies) text() string {
	return fmt.Sprintf("%.0f/%.0f/%.0f ms", l.P99[0], l.P99[1], l.P99[2])
}
