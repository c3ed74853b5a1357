package bench

import (
	"context"
	"fmt"
	"time"
)

// matrixSizes are the object sizes of the table.
var matrixSizes = [...]int{4 << 10, 64 << 10, 1 << 20, 16 << 20, 128 << 20}

// aims of the loads with 16 clients: operations or MiB per second, by load and size.
var aims = map[string]float64{
	"put_4KiB": 4000, "put_64KiB": 2000, "put_1MiB": 450, "put_16MiB": 800,
	"get_4KiB": 6000, "get_1MiB": 1500, "get_16MiB": 2400, "range_1MiB": 1500,
}

// matrix measures puts and gets of all sizes, ranges, lists and deletes.
func (s *suite) matrix(ctx context.Context) error {
	if err := s.running(ctx); err != nil {
		return err
	}
	for _, size := range matrixSizes {
		if s.cfg.Short && size == 128<<20 {
			continue
		}
		if err := s.size(ctx, size); err != nil {
			return err
		}
	}
	if err := s.cell(ctx, Load{Op: OpRange, Size: 1 << 20, Clients: 16, For: s.cellTime()}); err != nil {
		return err
	}
	if err := s.keys(ctx); err != nil {
		return err
	}
	rss, err := s.server.PeakRSS()
	if err != nil {
		return err
	}
	s.add("peak_rss", float64(rss)/mib, "MiB", 512, 512)
	return nil
}

// size measures puts and then gets of one object size. Nothing is measured while the garbage of what went before is still
// being deleted: that would be charged to the wrong load.
func (s *suite) size(ctx context.Context, size int) error {
	clients := []int{1, 16}
	if s.cfg.Short && size != 4<<10 {
		clients = clients[1:]
	}
	for _, op := range []Op{OpPut, OpGet} {
		if op == OpGet { // prepares the objects, and keeps them for all cells
			first := Load{Op: op, Size: size, Clients: 16, For: time.Millisecond, Keep: true}
			if _, err := s.load(ctx, first); err != nil {
				return err
			}
		}
		if err := s.settle(ctx); err != nil {
			return err
		}
		if op == OpGet { // the objects were written past the page cache: the first read of each is a figure of its own
			if err := s.cell(ctx, Load{Op: op, Size: size, Clients: 16, For: coldLimit, Keep: true, Reuse: true, Once: true}); err != nil {
				return err
			}
		}
		for _, n := range clients {
			if err := s.cell(ctx, Load{Op: op, Size: size, Clients: n, For: s.cellTime(), Keep: true, Reuse: true}); err != nil {
				return err
			}
		}
	}
	return s.bench.Clean(ctx, Load{Op: OpGet, Size: size, Clients: 16})
}

const (
	coldLimit   = 30 * time.Second // for reading every object once
	garbageAge  = 6 * time.Second  // after a release, the server begins to delete
	settleLimit = 10 * time.Second
	idlePart    = 10 // the server is idle if it uses less than one part in this many of a core
)

// settle waits until the server has dealt with garbage and is idle, for a limited time.
func (s *suite) settle(ctx context.Context) error {
	if s.cfg.Short {
		return nil
	}
	pause := func(d time.Duration) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
			return nil
		}
	}
	if err := pause(garbageAge); err != nil {
		return err
	}
	const look = 300 * time.Millisecond
	for began := time.Now(); time.Since(began) < settleLimit; {
		before, err := s.server.CPU()
		if err != nil {
			return err
		}
		if err := pause(look); err != nil {
			return err
		}
		after, err := s.server.CPU()
		if err != nil || after-before < look/idlePart {
			return err
		}
	}
	return nil
}

// cell measures one load and adds its rows: rate, p50, p99, processor time per GiB or operation.
func (s *suite) cell(ctx context.Context, l Load) error {
	m, err := s.measured(ctx, l)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s_%s", l.Op, SizeText(l.Size))
	aim := 0.0
	if l.Clients == 16 && !l.Once {
		aim = aims[name]
	}
	name += fmt.Sprintf("_%d", l.Clients)
	if l.Once {
		name += "_cold"
	}
	if l.Size >= 1<<20 && l.Op != OpRange {
		s.add(name, m.MiBPerSec, "MiB/s", s.limitOf(l)/mib, aim)
	} else {
		s.add(name, m.OpsPerSec, "1/s", s.limitOf(l), aim)
	}
	s.add(name+"_p50", ms(m.P50), "ms", 0, 0)
	s.add(name+"_p99", ms(m.P99), "ms", 0, 0)
	if m.Bytes > 0 && l.Size >= 1<<20 {
		s.add(name+"_cpu", m.cpu.Seconds()/(float64(m.Bytes)/(1<<30)), "s/GiB", 0, 0)
	} else if m.Ops > 0 {
		s.add(name+"_cpu", ms(m.cpu)/float64(m.Ops), "ms/op", 0, 0)
	}
	return nil
}

// measurement is a Result with what the server process spent on it.
type measurement struct {
	Result
	cpu time.Duration
}

// measured runs a load, with its objects prepared and settled before the processor time is read.
func (s *suite) measured(ctx context.Context, l Load) (m measurement, err error) {
	if !l.Reuse {
		first := l
		first.For, first.Keep = time.Millisecond, true
		if _, err := s.load(ctx, first); err != nil {
			return m, err
		}
		if err := s.settle(ctx); err != nil {
			return m, err
		}
		l.Reuse = true
	}
	keep := l.Keep
	l.Keep = true // cleaning up is not part of what is measured
	before, err := s.server.CPU()
	if err != nil {
		return m, err
	}
	if m.Result, err = s.load(ctx, l); err != nil {
		return m, err
	}
	after, err := s.server.CPU()
	m.cpu = after - before
	if err != nil || keep {
		return m, err
	}
	return m, s.bench.Clean(ctx, l)
}

// limitOf is what the machine does at best for a load, in bytes or operations per second.
func (s *suite) limitOf(l Load) float64 {
	switch {
	case l.Op == OpPut && l.Size < 1<<20:
		// Nothing is acknowledged before a sync; one sync may serve all who wait for it.
		return min(s.limits.SyncsPerSec*float64(l.Clients), s.limits.BarePutSmall[l.Clients])
	case l.Op == OpPut:
		return min(s.limits.DirectWrite*4/6, s.limits.BarePutLarge[l.Clients])
	case l.Op == OpGet && l.Size < 1<<20:
		return s.limits.BareGetSmall[l.Clients]
	case l.Op == OpRange:
		return s.limits.BareGetLarge[l.Clients] / float64(l.Size)
	case l.Op == OpGet:
		return s.limits.BareGetLarge[l.Clients]
	}
	return 0
}

// keys measures lists and deletes, in keys per second.
func (s *suite) keys(ctx context.Context) error {
	for _, clients := range []int{1, 16} {
		aim := 0.0
		if clients == 16 {
			aim = 150_000
		}
		m, err := s.measured(ctx, Load{Op: OpList, Clients: clients, For: s.cellTime()})
		if err != nil {
			return err
		}
		s.add(fmt.Sprintf("list_%d", clients), m.OpsPerSec, "keys/s", 0, aim)
		s.add(fmt.Sprintf("list_%d_p99", clients), ms(m.P99), "ms", 0, 0)
	}
	r, err := s.load(ctx, Load{Op: OpDelete, Clients: 4, For: time.Minute}) // ends when all keys are gone
	if err != nil {
		return err
	}
	s.add("delete_4", r.OpsPerSec, "keys/s", 0, 15_000)
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
