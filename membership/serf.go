package membership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"cairn"
)

// SerfConfig configures a Serf.
type SerfConfig struct {
	Cluster cairn.ClusterID // packets of other clusters are dropped
	// Self is this process's node; its ID, name, roles and interconnect address travel in tags.
	Self cairn.Node
	// Key encrypts what is said: 32 bytes that the cluster's nodes share.
	Key []byte
	// Bind is where to listen, TCP and UDP, IP:port; port 0 takes a free one. Advertise is where others reach it, host:port;
	// default: the same.
	Bind, Advertise string
	// Peers returns the advertised gossip addresses of other nodes as far as they are known now. It is asked again and
	// again, and must not block.
	Peers func() []string
	// Snapshot is a file in which the members are remembered over a restart; "": none.
	Snapshot string
	Logger   *slog.Logger // default: discard
}

const (
	serfKeyBytes  = 32
	serfTagBytes  = 512 // Serf's own limit for all tags together
	serfEvents    = 1024
	serfRejoin    = 10 * time.Second // how often nodes that are not heard are looked for
	serfGoodbye   = time.Second
	serfPropagate = 200 * time.Millisecond
	// suspicionMult is how soon a suspected member is called failed, in probe intervals. Hasty is good: it is a hint, and the
	// direct probe must agree.
	suspicionMult = 3
)

func (c *SerfConfig) setDefaults() error {
	refuse := func(format string, args ...any) error {
		return &cairn.Error{Op: "membership.serf", Err: fmt.Errorf(format+": %w", append(args, cairn.ErrInvalid)...)}
	}
	switch {
	case c.Cluster.IsZero() || c.Self.ID.IsZero():
		return refuse("cluster and node are needed")
	case len(c.Key) != serfKeyBytes:
		return refuse("the gossip key has %d bytes, want %d", len(c.Key), serfKeyBytes)
	}
	if c.Advertise == "" {
		c.Advertise = c.Bind
	}
	if c.Peers == nil {
		c.Peers = func() []string { return nil }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	size := 0
	for k, v := range c.tags() {
		size += len(k) + len(v) + 4
	}
	if size > serfTagBytes {
		return refuse("name, roles and address take %d bytes of tags, at most %d fit", size, serfTagBytes)
	}
	return nil
}

// tags are short, since they travel in packets.
func (c *SerfConfig) tags() map[string]string {
	return map[string]string{"n": c.Self.Name, "r": c.Self.Roles.String(), "a": c.Self.Addr, "f": strconv.Itoa(c.Self.Format)}
}

// Serf is this node's part in the gossip: it tells others that it lives, and knows whom they hear. What it says is a hint
// only (see Watcher). Members are named by their node's ID.
type Serf struct {
	cfg     SerfConfig
	serf    *serf.Serf
	events  chan serf.Event
	changed chan struct{}
}

// OpenSerf listens and takes part; nobody is looked for before Run. Close it, or end Run.
func OpenSerf(cfg SerfConfig) (*Serf, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	s := &Serf{cfg: cfg, events: make(chan serf.Event, serfEvents), changed: make(chan struct{}, 1)}
	list, err := s.memberlist()
	if err != nil {
		return nil, &cairn.Error{Op: "membership.serf", Subject: cfg.Bind, Err: err}
	}
	sc := serf.DefaultConfig()
	sc.NodeName, sc.Tags, sc.EventCh, sc.MemberlistConfig = cfg.Self.ID.String(), cfg.tags(), s.events, list
	sc.SnapshotPath, sc.RejoinAfterLeave = cfg.Snapshot, true
	sc.Logger = list.Logger
	sc.BroadcastTimeout, sc.LeavePropagateDelay = serfGoodbye, serfPropagate
	// A node that was dead for a day and comes back with its ID and another address is the same node.
	sc.EnableNameConflictResolution = false
	if s.serf, err = serf.Create(sc); err != nil {
		return nil, &cairn.Error{Op: "membership.serf", Subject: cfg.Bind, Err: fmt.Errorf("%w: %w", err, cairn.ErrUnavailable)}
	}
	return s, nil
}

// memberlist configures the layer below: encryption, the cluster's label, and where to listen. Its defaults for local
// networks include Lifeguard (Dadgar, Phillips and Currey, 2017).
func (s *Serf) memberlist() (*memberlist.Config, error) {
	c := memberlist.DefaultLANConfig()
	var err error
	if c.BindAddr, c.BindPort, err = hostPort(s.cfg.Bind); err != nil {
		return nil, err
	}
	if c.AdvertiseAddr, c.AdvertisePort, err = hostPort(s.cfg.Advertise); err != nil {
		return nil, err
	}
	if ip := net.ParseIP(c.AdvertiseAddr); ip != nil && ip.IsUnspecified() {
		return nil, fmt.Errorf("%s is no address that others can reach: name one to advertise: %w", s.cfg.Advertise, cairn.ErrInvalid)
	} else if ip == nil { // memberlist wants an address, people may give a name
		found, err := net.LookupIP(c.AdvertiseAddr)
		if err != nil || len(found) == 0 {
			return nil, fmt.Errorf("%s: %w: %w", c.AdvertiseAddr, err, cairn.ErrInvalid)
		}
		c.AdvertiseAddr = found[0].String()
	}
	c.SuspicionMult = suspicionMult
	c.SecretKey, c.Label = s.cfg.Key, s.cfg.Cluster.String()
	c.LogOutput, c.Logger = nil, slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug)
	return c, nil
}

func hostPort(addr string) (string, int, error) {
	host, text, err := net.SplitHostPort(addr)
	port, err2 := strconv.Atoi(text)
	if err = errors.Join(err, err2); err != nil {
		return "", 0, fmt.Errorf("%q is no host:port: %w: %w", addr, err, cairn.ErrInvalid)
	}
	return host, port, nil
}

// Addr is where this node listens, IP:port.
func (s *Serf) Addr() string {
	m := s.serf.Memberlist().LocalNode()
	return net.JoinHostPort(m.Addr.String(), strconv.Itoa(int(m.Port)))
}

// Run looks for the others until ctx ends; then it says goodbye and closes.
func (s *Serf) Run(ctx context.Context) error {
	joining, stop := context.WithCancel(ctx)
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		s.join(joining)
	}()
	defer func() { stop(); <-joined }()
	for {
		select {
		case <-ctx.Done():
			return s.leave()
		case <-s.serf.ShutdownCh():
			return &cairn.Error{Op: "membership.serf", Err: fmt.Errorf("gossip has ended by itself: %w", cairn.ErrUnavailable)}
		case <-s.events: // what happened is asked for by Hint; this only says when
			select {
			case s.changed <- struct{}{}:
			default:
			}
		}
	}
}

// leave says goodbye while the events it causes are still drained.
func (s *Serf) leave() error {
	left := make(chan error, 1)
	go func() { left <- s.serf.Leave() }()
	for {
		select {
		case err := <-left:
			if err != nil {
				s.cfg.Logger.Debug("gossip could not say goodbye", "err", err)
			}
			return s.Close()
		case <-s.events:
		}
	}
}

// join looks for nodes that are not heard, until ctx ends.
func (s *Serf) join(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if peers := s.cfg.Peers(); len(peers) > 0 && s.alive() <= len(peers) {
			if _, err := s.serf.Join(peers, true); err != nil {
				s.cfg.Logger.Debug("not all nodes were reached by gossip", "err", err)
			}
		}
		timer.Reset(serfRejoin)
	}
}

// alive counts the members that are heard, this node among them.
func (s *Serf) alive() (n int) {
	for _, m := range s.serf.Members() {
		if m.Status == serf.StatusAlive {
			n++
		}
	}
	return n
}

// Close ends without a goodbye: to the others it is as if the process had died.
func (s *Serf) Close() error {
	if err := s.serf.Shutdown(); err != nil {
		return &cairn.Error{Op: "membership.serf", Err: err}
	}
	return nil
}

// Hint is what the other nodes think of a node.
func (s *Serf) Hint(node cairn.NodeID) Hint {
	name := node.String()
	for _, m := range s.serf.Members() {
		if m.Name != name {
			continue
		}
		switch m.Status {
		case serf.StatusAlive:
			return HintAlive
		case serf.StatusFailed:
			return HintFailed
		case serf.StatusLeaving, serf.StatusLeft:
			return HintLeft
		}
	}
	return HintNone
}

// Changed gets a value, now and then, after hints changed.
func (s *Serf) Changed() <-chan struct{} { return s.changed }
