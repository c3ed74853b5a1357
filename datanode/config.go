package datanode

import (
	"fmt"
	"log/slog"
	"time"

	"cairn"
	"cairn/internal/vfs"
)

// Config describes a data node. Zero fields take the defaults that their comments name.
type Config struct {
	Cluster cairn.ClusterID // drives of another cluster are refused
	Node    cairn.NodeID
	Drives  []DriveConfig

	FS  vfs.FS       // vfs.OS{}
	Log *slog.Logger // slog.Default()

	// OnChange, if set, is called after the state or identity of a drive changed. It must not block.
	OnChange func(cairn.DriveStatus)

	SegmentBytes int64 // size of a segment file: 256 MiB, less on drives under 16 GiB
	// ReserveBytes of every file system stay free of shards, for metadata, deletes and compaction: 1 GiB, but at most a
	// twentieth of the file system.
	ReserveBytes int64

	QueueBytes    int64 // unwritten data that one drive accepts before it answers ErrOverloaded: 256 MiB
	QueueOps      int   // unwritten appends, deletes and pieces: 16,384
	MaxStreams    int   // shards being streamed to one drive: 1,024
	StreamWriters int   // threads that write pieces, per drive: 4
	Reads         int   // reads of one drive that wait for the disk at once, each with up to 1 MiB of memory: 16
	ReadQueue     int   // reads of one drive that wait for their turn: 1,024
	Background    int   // background reads and writes at once, per drive: 2

	HungAfter       time.Duration // an operation that takes longer makes its drive hung: 5 s
	PollEvery       time.Duration // how often a drive's identity is looked at: 500 ms
	ProbeEvery      time.Duration // how often an idle drive's disk is written to: 2 s
	CheckpointEvery time.Duration // how often a changed index is written: 30 s

	CompactBytesPerSec int64   // of live data copied, per drive: 64 MiB/s
	CompactDead        float64 // share of a segment that must be dead before it is compacted: 0.5
	FreeSegments       int     // recycled segments that a drive keeps for reuse: 8

	trustDisk    bool          // tests of the tests: a planted bug, no checksum is compared
	janitorEvery time.Duration // 1 s; tests keep it from running by itself
}

// DriveConfig names one drive.
type DriveConfig struct {
	Path string
	// Create makes an absent directory, as a new drive with an identity of its own. Without it an absent path may be an
	// unmounted disk: the drive is missing until the path appears.
	Create bool
}

const (
	minSegmentBytes = 64 << 10
	maxSegmentBytes = 256 << 20
)

func (c Config) withDefaults() (Config, error) {
	if c.FS == nil {
		c.FS = vfs.OS{}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	setDefault(&c.QueueBytes, 256<<20)
	setDefault(&c.QueueOps, 16384)
	setDefault(&c.MaxStreams, 1024)
	setDefault(&c.StreamWriters, 4)
	setDefault(&c.Reads, 16)
	setDefault(&c.ReadQueue, 1024)
	setDefault(&c.Background, 2)
	setDefault(&c.HungAfter, 5*time.Second)
	setDefault(&c.PollEvery, 500*time.Millisecond)
	setDefault(&c.ProbeEvery, 2*time.Second)
	setDefault(&c.CheckpointEvery, 30*time.Second)
	setDefault(&c.CompactBytesPerSec, 64<<20)
	setDefault(&c.CompactDead, 0.5)
	setDefault(&c.FreeSegments, 8)
	setDefault(&c.janitorEvery, time.Second)
	return c, c.validate()
}

func setDefault[T int | int64 | float64 | time.Duration](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}

func (c Config) validate() error {
	bad := func(what string) error {
		return &cairn.Error{Op: "datanode.config", Err: fmt.Errorf("%s: %w", what, cairn.ErrInvalid)}
	}
	switch {
	case c.SegmentBytes != 0 && (c.SegmentBytes < minSegmentBytes || c.SegmentBytes > maxRecordBytes || c.SegmentBytes%pageSize != 0):
		return bad(fmt.Sprintf("SegmentBytes must be a multiple of %d between %d and %d", pageSize, minSegmentBytes, maxRecordBytes))
	case c.QueueBytes < 0 || c.QueueOps < 0 || c.MaxStreams < 0 || c.StreamWriters < 0 || c.Reads < 0 || c.ReadQueue < 0 || c.Background < 0:
		return bad("queues cannot be negative")
	case c.HungAfter < 0 || c.PollEvery < 0 || c.ProbeEvery < 0 || c.CheckpointEvery < 0:
		return bad("intervals cannot be negative")
	case c.ReserveBytes < 0 || c.CompactBytesPerSec < 0 || c.FreeSegments < 0 || c.CompactDead < 0 || c.CompactDead > 1:
		return bad("ReserveBytes, CompactBytesPerSec and FreeSegments cannot be negative, CompactDead is between 0 and 1")
	}
	seen := map[string]bool{}
	for _, d := range c.Drives {
		if d.Path == "" || seen[d.Path] {
			return bad(fmt.Sprintf("drive path %q is empty or named twice", d.Path))
		}
		seen[d.Path] = true
	}
	return nil
}
