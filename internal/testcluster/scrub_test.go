package testcluster_test

import (
	"bytes"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"cairn"
	"cairn/admin"
	"cairn/internal/testcluster"
)

// check runs one scrub job to its end.
func check(t *testing.T, c *testcluster.Cluster, query url.Values) cairn.Job {
	t.Helper()
	var s admin.Scrubbing
	if err := c.Admin(http.MethodPost, "/api/v1/scrub?"+query.Encode(), &s); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		var j cairn.Job
		if err := c.Admin(http.MethodGet, "/api/v1/jobs/"+s.Job.ID.String(), &j); err != nil {
			t.Fatal(err)
		}
		if j.Ended() {
			return j
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("the check does not end: %+v", j)
		}
	}
}

// Scrubs on demand are jobs that say whether all is clean; what is not there is refused; what was found stays known.
func TestScrubOnDemand(t *testing.T) {
	c := testcluster.Start(t, testcluster.Config{})
	ctx := t.Context()
	for _, b := range []string{"one", "two"} {
		if err := c.S3.MakeBucket(ctx, b, minio.MakeBucketOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"a", "b c/d?e"} {
			if _, err := c.S3.PutObject(ctx, b, key, bytes.NewReader(make([]byte, 3<<20)), 3<<20, minio.PutObjectOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		query  url.Values
		status string
		says   string
	}{
		{url.Values{"bucket": {"absent"}}, "404", "no such bucket"},
		{url.Values{"bucket": {"one"}, "key": {"absent"}}, "404", "no such object"},
		{url.Values{"drive": {"/nowhere"}}, "404", "no such drive"},
		{url.Values{"bucket": {"one"}, "drive": {c.Drive(1)}}, "400", "want a bucket"},
	} {
		err := c.Admin(http.MethodPost, "/api/v1/scrub?"+tt.query.Encode(), &struct{}{})
		if err == nil || !strings.Contains(err.Error(), tt.status) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%v: %v, want %s and %q", tt.query, err, tt.status, tt.says)
		}
	}
	one := url.Values{"bucket": {"one"}, "key": {"b c/d?e"}}
	for _, q := range []url.Values{{}, one, {"bucket": {"two"}}, {"drive": {c.Drive(2)}}} {
		if j := check(t, c, q); j.State != cairn.JobDone || j.Found+j.Unchecked != 0 || j.DoneBytes == 0 || j.DoneBytes != j.TotalBytes {
			t.Errorf("%v of a whole store: %+v", q, j)
		}
	}
	var j cairn.Job
	if err := c.Admin(http.MethodPost, "/api/v1/jobs/1/pause", &j); err != nil || j.Kind != cairn.JobRepair { // so that the damage stays to be seen
		t.Fatalf("pausing repair: %+v, %v", j, err)
	}
	waitJob(t, c, "1", cairn.JobPaused)
	flip(t, c, "one", "b c/d?e")
	for _, tt := range []struct {
		query url.Values
		want  int64
	}{{one, 1}, {url.Values{"bucket": {"one"}}, 1}, {url.Values{}, 1}, {url.Values{"bucket": {"two"}}, 0}, {url.Values{"bucket": {"one"}, "key": {"a"}}, 0}} {
		if j := check(t, c, tt.query); j.State != cairn.JobDone || j.Found != tt.want {
			t.Errorf("%v: %+v, want %d found", tt.query, j, tt.want)
		}
	}
	outcome := func() cairn.Outcome {
		var list []cairn.Finding
		if err := c.Admin(http.MethodGet, "/api/v1/findings", &list); err != nil || len(list) != 1 || list[0].Kind != "corrupt" || list[0].By != "scrub" {
			t.Fatalf("findings: %+v, %v", list, err)
		}
		return list[0].Outcome
	}
	if got := outcome(); got != cairn.OutcomeOpen {
		t.Errorf("before the repair it is %s", got)
	}
	if err := c.Admin(http.MethodPost, "/api/v1/jobs/1/resume", &j); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); outcome() != cairn.OutcomeRepaired; time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatalf("after a minute it is %s", outcome())
		}
	}
	if j := check(t, c, one); j.Found != 0 {
		t.Errorf("after the repair: %+v", j)
	}
	var ended cairn.Job
	if err := c.Admin(http.MethodPost, "/api/v1/jobs/2/cancel", &ended); err == nil || !strings.Contains(err.Error(), "409") {
		t.Errorf("cancel of a job that has ended: %v", err)
	}
}

func waitJob(t *testing.T, c *testcluster.Cluster, id, state string) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		var j cairn.Job
		if err := c.Admin(http.MethodGet, "/api/v1/jobs/"+id, &j); err != nil {
			t.Fatal(err)
		}
		if j.State == state {
			return
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("job is %+v, want %s", j, state)
		}
	}
}

// flip changes one bit of the first shard of an object, on disk.
func flip(t *testing.T, c *testcluster.Cluster, bucket, key string) {
	t.Helper()
	var o admin.Object
	if err := c.Admin(http.MethodGet, "/api/v1/objects/"+bucket+"/"+strings.ReplaceAll(url.PathEscape(key), "%2F", "/")+"/shards", &o); err != nil {
		t.Fatal(err)
	}
	s := o.Blobs[0].Shards[0]
	f, err := os.OpenFile(s.Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], s.Offset+s.Length/2); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b[:], s.Offset+s.Length/2); err != nil {
		t.Fatal(err)
	}
}
