package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"cairn"
	"cairn/admin"
	"cairn/internal/testcluster"
)

// While a throttled repair runs, the admin API, the metrics and every command tell the same numbers.
func TestRepairIsToldAlikeEverywhere(t *testing.T) {
	c := testcluster.Start(t, testcluster.Config{Drives: 6})
	access, secret := c.Credentials()
	t.Setenv(envAccessKey, access)
	t.Setenv(envSecretKey, secret)
	t.Setenv(envAdmin, c.AdminURL())
	command := func(into any, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if into != nil {
			args = append(args, "-o", "json")
		}
		if code := run(t.Context(), args, nil, &out, &errs); code != 0 && code != exitRisk {
			t.Fatalf("%v: %d %s", args, code, errs.String())
		}
		if into != nil {
			if err := json.Unmarshal(out.Bytes(), into); err != nil {
				t.Fatal(err)
			}
		}
		return out.String()
	}
	if err := c.S3.MakeBucket(t.Context(), "told", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 16<<20)
	rand.NewChaCha8([32]byte{}).Read(data)
	for i := range 4 {
		if _, err := c.S3.PutObject(t.Context(), "told", fmt.Sprint(i), bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// 16 MiB are rebuilt, and read back once: at 2 MiB/s on the drive that takes a quarter of a minute.
	var set admin.Throttle
	command(&set, "repair", "throttle", "--drive-floor", "2MiB", "--drive-ceiling", "2MiB")
	if want := (cairn.Band{Floor: 2 << 20, Ceiling: 2 << 20}); set.Drive != want || len(set.Drives) != 6 || len(set.Nodes) != 1 {
		t.Fatalf("the throttle is %+v", set)
	}
	if err := os.RemoveAll(c.Drive(3)); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(2 * time.Minute)
	for {
		if time.Now().After(deadline) {
			t.Fatal("no moment was found at which the record stood still with an ETA")
		}
		var before, after, st admin.Status
		var job cairn.Job
		command(&before, "status")
		if before.Repair.ETA == 0 || before.Repair.DoneBytes == 0 {
			if before.Health == admin.HealthOK && before.Repair.DoneBytes > 0 {
				t.Fatalf("the repair ended before anybody could look: it was not throttled: %+v", before.Repair)
			}
			time.Sleep(50 * time.Millisecond)
			continue
		}
		number := ""
		for _, j := range before.Jobs {
			if j.Kind == cairn.JobRepair {
				number = j.ID.String()
			}
		}
		command(&job, "job", "show", number)
		var repair admin.Repair
		command(&repair, "repair", "status")
		text := command(nil, "status")
		metrics := scrape(t, c.AdminURL()+"/metrics")
		command(&st, "status")
		command(&after, "status")
		if before.Repair.Progress != after.Repair.Progress {
			continue // the record was renewed meanwhile
		}
		p := before.Repair.Progress
		for name, got := range map[string]cairn.Progress{"job show": job.Progress, "repair status": repair.Progress, "status": st.Repair.Progress} {
			if got != p {
				t.Errorf("%s tells %+v, want %+v", name, got, p)
			}
		}
		for name, want := range map[string]float64{"cairn_repair_done_bytes": float64(p.DoneBytes), "cairn_repair_total_bytes": float64(p.TotalBytes),
			"cairn_repair_rate_bytes_per_second": p.RateBytesPerSec, "cairn_repair_eta_seconds": p.ETA.Seconds()} {
			if got := metric(t, metrics, name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		labels := fmt.Sprintf(`{job="%s",kind="repair",subject=""}`, number)
		if got := metric(t, metrics, "cairn_jobs_eta_seconds"+labels); got != p.ETA.Seconds() {
			t.Errorf("the job's ETA is %v in the metrics, want %v", got, p.ETA)
		}
		if want := progressText(p); !strings.Contains(text, want) {
			t.Errorf("status prints\n%s\nwant %q in it", text, want)
		}
		if metric(t, metrics, "cairn_repair_oldest_damage_seconds") <= 0 || st.Repair.Oldest.IsZero() || len(st.Safety.Outlook) == 0 {
			t.Errorf("nothing is told of the oldest damage (%v) or the outlook (%v)", st.Repair.Oldest, st.Safety.Outlook)
		}
		break
	}
	command(&set, "repair", "throttle", "--default")
	if set.Throttle != cairn.DefaultThrottle() {
		t.Errorf("the throttle is %+v after --default", set.Throttle)
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"repair", "throttle", "--drive-floor", "0"}, nil, &out, &errs); code == 0 || !strings.Contains(errs.String(), "pause") {
		t.Errorf("a throttle of 0: %d %s", code, errs.String())
	}
}

func scrape(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// metric finds a series by its name and labels.
func metric(t *testing.T, text, series string) float64 {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in the metrics", series)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
