package admin

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"cairn"
)

// scrapeTimeout bounds the gathering of a status for one scrape of the metrics.
const scrapeTimeout = 5 * time.Second

// Metrics is the registry of one process. It is the S3 frontend's observer (Observe), and a collector of the same Status
// record that the API answers, so that dashboard, command line and metrics never disagree. Safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry

	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	in, out  prometheus.Counter

	mu    sync.Mutex
	count totals // the same, for the history
}

// NewMetrics returns a registry that holds the metrics of the Go runtime, the process and the S3 frontend.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "cairn_s3api_requests_total",
			Help: "S3 requests by operation and S3 error code (empty: success)."}, []string{"operation", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "cairn_s3api_request_seconds",
			Help:    "Time from the request's head to the end of its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16)}, []string{"operation"}),
		in: prometheus.NewCounter(prometheus.CounterOpts{Name: "cairn_s3api_received_bytes_total",
			Help: "Bytes of request bodies."}),
		out: prometheus.NewCounter(prometheus.CounterOpts{Name: "cairn_s3api_sent_bytes_total",
			Help: "Bytes of answers' bodies."}),
	}
	m.registry.MustRegister(m.requests, m.seconds, m.in, m.out,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Observe counts one finished S3 request. code is the S3 error code, "" for success.
func (m *Metrics) Observe(operation, code string, in, out int64, took time.Duration) {
	m.requests.WithLabelValues(operation, code).Inc()
	m.seconds.WithLabelValues(operation).Observe(took.Seconds())
	m.in.Add(float64(in))
	m.out.Add(float64(out))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count.requests++
	switch code {
	case "":
	case "InternalError", "ServiceUnavailable", "SlowDown":
		m.count.errors++
	default:
		m.count.refused++
	}
	m.count.in += in
	m.count.out += out
	m.count.took[bucketOf(took)]++
}

func (m *Metrics) totals() totals {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}

// Watch adds the cluster's status to every scrape from now on. It is called once.
func (m *Metrics) Watch(c Cluster) error { return m.registry.Register(&statusCollector{cluster: c}) }

var (
	descHealth     = desc("cairn_admin_health_state", "1 for the verdict that is in force.", "health")
	descScrapeErr  = desc("cairn_admin_status_errors", "1 if the last status could not be gathered.")
	descSpare      = desc("cairn_repair_blobs_by_spare", "Blobs by the shards that each may still lose.", "spare")
	descDriveState = desc("cairn_datanode_drive_state", "1 for the state that the drive is in.", "path", "drive", "state")
	descDriveFree  = desc("cairn_datanode_drive_free_bytes", "What new shards may still take.", "path", "drive")
	descDriveTotal = desc("cairn_datanode_drive_total_bytes", "Size of the drive's file system.", "path", "drive")
	descDriveLive  = desc("cairn_datanode_drive_live_bytes", "Bytes of live shards.", "path", "drive")
	descDriveDead  = desc("cairn_datanode_drive_dead_bytes", "Bytes that wait for compaction.", "path", "drive")
	descDriveErr   = desc("cairn_datanode_drive_errors_total", "Read and write errors and checksum mismatches.", "path", "drive")
	descScore      = desc("cairn_datanode_drive_health_score", "100 for a healthy drive, less the more speaks for its wearing out.", "path", "drive")
	descShards     = desc("cairn_datanode_drive_shards_count", "Shards on the drive.", "path", "drive")
	descVoter      = desc("cairn_meta_voter_up_state", "1 if the voter is up.", "voter", "path")
	descLeader     = desc("cairn_meta_voter_leader_state", "1 if the voter leads.", "voter", "path")
	descQueued     = desc("cairn_repair_queue_count", "Damage rows that wait for repair.")
	descRepaired   = desc("cairn_repair_done_bytes", "Bytes rebuilt in the current run.")
	descRepairLeft = desc("cairn_repair_total_bytes", "Bytes that the current run rebuilds in all.")
	descRepairETA  = desc("cairn_repair_eta_seconds", "When the current run is expected to end, from now; 0 if that is not known.")
	descSafeIn     = desc("cairn_repair_safe_seconds", "When all damage is healed that can be, from now; 0 if there is none or that is not known.")
	descOldest     = desc("cairn_repair_oldest_damage_seconds", "Age of the oldest damage that is not healed; 0 if there is none.")
	descFailures   = desc("cairn_durability_failure_rate_per_year", "Measured failures per drive and year.", "class")
	descMTTR       = desc("cairn_durability_repair_seconds", "Measured mean time until a lost drive's shards were whole again.", "class")
	descUpRead     = desc("cairn_durability_read_availability_ratio", "Modelled share of the time in which a stripe can be read.", "profile")
	descUpWrite    = desc("cairn_durability_write_availability_ratio", "Modelled share of the time in which a stripe can be written.", "profile")
	descMTTDL      = desc("cairn_durability_data_loss_years", "Modelled mean time until a stripe is lost.", "profile", "failures")
	descUpMeta     = desc("cairn_durability_metadata_availability_ratio", "Modelled share of the time in which the metadata has a majority.")
	descRepairRate = desc("cairn_repair_rate_bytes_per_second", "Moving average of the rebuilding rate.")
	descJobDone    = desc("cairn_jobs_done_bytes", "Bytes that a job has done.", "job", "kind", "subject")
	descJobTotal   = desc("cairn_jobs_total_bytes", "Bytes that a job has to do in all.", "job", "kind", "subject")
	descJobRate    = desc("cairn_jobs_rate_bytes_per_second", "How fast a job goes on.", "job", "kind", "subject")
	descJobETA     = desc("cairn_jobs_eta_seconds", "When a job is expected to end, from now; 0 if that is not known.", "job", "kind", "subject")
	descJobState   = desc("cairn_jobs_state", "1 for the state that a job is in.", "job", "kind", "subject", "state")
	descFrozen     = desc("cairn_membership_frozen_state", "1 while no node's shards are rebuilt elsewhere by themselves, since too many are away at once.")
	descScrubbed   = desc("cairn_scrub_done_bytes", "Bytes checked in the current pass.")
	descScrubTotal = desc("cairn_scrub_total_bytes", "Bytes that the current pass has to check.")
	descFindings   = desc("cairn_scrub_findings_total", "Damage that scrub has reported.")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// statusCollector turns a Status into metrics whenever they are scraped.
type statusCollector struct{ cluster Cluster }

// Describe leaves the collector unchecked: which series there are depends on the drives.
func (c *statusCollector) Describe(chan<- *prometheus.Desc) {}

// Collect gathers one status.
func (c *statusCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	st, err := c.cluster.Status(ctx)
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descScrapeErr, truth(err != nil))
	if err != nil {
		return
	}
	for _, h := range []Health{HealthOK, HealthHealing, HealthAtRisk, HealthLost} {
		gauge(descHealth, truth(h == st.Health), string(h))
	}
	for spare, n := range st.BlobsBySpare {
		gauge(descSpare, float64(n), strconv.Itoa(spare))
	}
	collectDrives(st.Drives, gauge)
	for _, v := range st.Voters {
		id := strconv.FormatUint(v.ID, 10)
		gauge(descVoter, truth(v.State == VoterUp), id, v.Path)
		gauge(descLeader, truth(v.Leader), id, v.Path)
	}
	gauge(descFrozen, truth(st.Frozen != ""))
	gauge(descQueued, float64(st.Repair.Queued))
	gauge(descRepaired, float64(st.Repair.DoneBytes))
	gauge(descRepairRate, st.Repair.RateBytesPerSec)
	collectSafety(st, gauge)
	for _, j := range st.Jobs {
		labels := []string{j.ID.String(), string(j.Kind), j.Subject}
		gauge(descJobDone, float64(j.DoneBytes), labels...)
		gauge(descJobTotal, float64(j.TotalBytes), labels...)
		gauge(descJobRate, j.RateBytesPerSec, labels...)
		gauge(descJobETA, j.ETA.Seconds(), labels...)
		gauge(descJobState, 1, append(labels, j.State)...)
	}
	gauge(descScrubbed, float64(st.Scrub.DoneBytes))
	gauge(descScrubTotal, float64(st.Scrub.TotalBytes))
	gauge(descFindings, float64(st.Scrub.Findings))
}

func collectSafety(st Status, gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	gauge(descRepairLeft, float64(st.Repair.TotalBytes))
	gauge(descRepairETA, st.Repair.ETA.Seconds())
	gauge(descSafeIn, st.Repair.SafeIn.Seconds())
	age := 0.0
	if !st.Repair.Oldest.IsZero() {
		age = st.Now.Sub(st.Repair.Oldest).Seconds()
	}
	gauge(descOldest, age)
	for _, c := range st.Safety.Classes {
		gauge(descFailures, c.Lambda, c.Class)
		gauge(descMTTR, c.MTTR.Seconds(), c.Class)
	}
	for _, o := range st.Safety.Outlook {
		p := o.Profile.String()
		gauge(descUpRead, o.Read, p)
		gauge(descUpWrite, o.Write, p)
		gauge(descMTTDL, o.MTTDLYears, p, "independent")
		gauge(descMTTDL, o.Correlated, p, "correlated")
	}
	gauge(descUpMeta, st.Safety.Metadata)
}

func collectDrives(drives []Drive, gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	for _, d := range drives {
		for s := cairn.DriveOK; s <= cairn.DriveMissing; s++ {
			gauge(descDriveState, truth(s == d.State), d.Path, d.ID, s.String())
		}
		gauge(descDriveFree, float64(d.FreeBytes), d.Path, d.ID)
		gauge(descDriveTotal, float64(d.TotalBytes), d.Path, d.ID)
		gauge(descDriveLive, float64(d.LiveBytes), d.Path, d.ID)
		gauge(descDriveDead, float64(d.DeadBytes), d.Path, d.ID)
		gauge(descDriveErr, float64(d.Errors), d.Path, d.ID)
		gauge(descShards, float64(d.Shards), d.Path, d.ID)
		if d.Health != nil {
			gauge(descScore, float64(d.Health.Score), d.Path, d.ID)
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
