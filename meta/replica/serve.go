package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cairn"
	"cairn/internal/rpc"
	"cairn/meta/replica/link"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// Paths that Handler serves. What is below VotersPath is between nodes that may carry voters, and has to be refused to others
// by whoever mounts it; the rest is for all nodes of the cluster.
const (
	pathPrefix = "/meta/"
	VotersPath = pathPrefix + votersPart
	votersPart = "voters/"
)

const (
	// maxServed bounds the requests of other nodes that are served at once.
	maxServed = 2048
	// streamSilence is how long a stream of messages may say nothing, not even that it lives.
	streamSilence = 10 * time.Second
	readPatience  = time.Second
)

// callHandler answers a call of another node.
type callHandler = func(ctx context.Context, from cairn.NodeID, body []byte) ([]byte, error)

// Handler serves the group to other nodes, under /meta/. Every caller must be a node of the cluster: Config.Caller tells.
func (g *Group) Handler() http.Handler {
	if g.links == nil {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, fmt.Errorf("metadata of one process: %w", errNoVoter))
		})
	}
	calls := map[string]callHandler{
		"where": g.serveWhere, "commit": g.serveCommit, "seen": g.serveSeen,
		votersPart + "hello": g.serveHello, votersPart + "standings": g.serveStandings, "tidings": g.serveTidings, "bar": g.serveBar, "maybar": g.serveMayBar,
		"read": g.serveRead, "walk": g.serveWalk, "unwalk": g.serveUnwalk,
	}
	streams := map[string]func(w http.ResponseWriter, r *http.Request, from cairn.NodeID) error{
		votersPart + "raft": g.serveRaft, votersPart + "seed": g.serveSeed,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what := strings.TrimPrefix(r.URL.Path, pathPrefix)
		from, err := g.admit(r)
		if err != nil {
			refuse(w, err)
			return
		}
		if f := streams[what]; f != nil {
			if err := f(w, r, from); err != nil {
				refuse(w, err)
			}
			return
		}
		f := calls[what]
		if f == nil {
			refuse(w, fmt.Errorf("%s: %w", r.URL.Path, cairn.ErrNotFound))
			return
		}
		reply, err := g.serveCall(w, r, from, f)
		if err != nil {
			refuse(w, err)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(reply)))
		w.Write(reply) // a caller that is gone needs no answer
	})
}

// admit refuses who is not of this cluster, or speaks another format.
func (g *Group) admit(r *http.Request) (cairn.NodeID, error) {
	from, err := g.cfg.Caller(r)
	if err != nil {
		return from, err
	}
	if r.Method != http.MethodPost {
		return from, fmt.Errorf("method %s: %w", r.Method, cairn.ErrInvalid)
	}
	if c := r.Header.Get(clusterHeader); c != g.cfg.Cluster.String() {
		return from, fmt.Errorf("node %s is of cluster %q, this is cluster %s: %w", from, c, g.cfg.Cluster, cairn.ErrForbidden)
	}
	if f := r.Header.Get(formatHeader); f != wireFormat {
		return from, fmt.Errorf("node %s speaks format %q of metadata, this node %s: upgrade the older one: %w", from, f, wireFormat, cairn.ErrInvalid)
	}
	return from, nil
}

func (g *Group) serveCall(w http.ResponseWriter, r *http.Request, from cairn.NodeID,
	f func(ctx context.Context, from cairn.NodeID, body []byte) ([]byte, error)) ([]byte, error) {
	if g.served.Add(1) > maxServed {
		g.served.Add(-1)
		return nil, fmt.Errorf("other nodes' requests wait: %w", cairn.ErrOverloaded)
	}
	defer g.served.Add(-1)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBatchBytes+(1<<20)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, cairn.ErrInvalid)
	}
	return f(r.Context(), from, body)
}

// refuse answers with an error, by its name if callers tell it apart.
func refuse(w http.ResponseWriter, err error) {
	for name, e := range wireErrors {
		if errors.Is(err, e) {
			w.Header().Set(outcomeHeader, name)
		}
	}
	rpc.WriteError(w, err)
}

// serveRaft takes the messages of another node's voters.
func (g *Group) serveRaft(w http.ResponseWriter, r *http.Request, from cairn.NodeID) error {
	if id := g.id.Load(); id == nil || r.Header.Get(groupHeader) != *id {
		return fmt.Errorf("group %q is not known here: %w", r.Header.Get(groupHeader), errNoVoter)
	}
	done, ok := g.guests.enter()
	if !ok {
		return errClosed
	}
	defer done()
	rc := http.NewResponseController(w)
	stop := context.AfterFunc(g.guests.ctx, func() { _ = rc.SetReadDeadline(time.Now()) }) // a stream that cannot be cut ends by itself
	defer stop()
	var extended time.Time
	return link.Receive(r.Body, func(m *pb.Message) error {
		if err := g.guests.ctx.Err(); err != nil {
			return errClosed
		}
		if now := time.Now(); now.Sub(extended) > streamSilence/20 {
			extended = now
			_ = rc.SetReadDeadline(now.Add(streamSilence)) // as above
			g.links.Heard(from)
		}
		if m == nil {
			return nil
		}
		return g.accept(from, m)
	})
}

// accept hands a message of another node's voter to one that runs here.
func (g *Group) accept(from cairn.NodeID, m *pb.Message) error {
	if raft.IsLocalMsg(m.GetType()) || m.GetSnapshot() != nil && !raft.IsEmptySnap(m.GetSnapshot()) {
		return fmt.Errorf("message %v from another node: %w", m.GetType(), cairn.ErrForbidden)
	}
	if err := g.learnOrigin(m.GetFrom(), from); err != nil {
		if m.GetType() == pb.MsgReadIndex {
			return nil // passed on by a follower that was taken for the leader: its reader asks again
		}
		return err
	}
	if v := g.voter(m.GetTo()); v != nil {
		v.in.put(event{msg: m})
	}
	return nil
}

func (g *Group) serveWhere(context.Context, cairn.NodeID, []byte) ([]byte, error) {
	if len(*g.voters.Load()) == 0 {
		return nil, errNoVoter
	}
	r := g.routeNow()
	return json.Marshal(bearing{Leader: r.node, Term: r.term, Voters: g.table.Load().carriers()})
}

func (g *Group) serveCommit(ctx context.Context, _ cairn.NodeID, body []byte) ([]byte, error) {
	b, term, err := decodeCommit(body)
	if err != nil {
		return nil, err
	}
	v, now := g.leaderNow()
	if v == nil || now != term {
		return nil, errNotLeader
	}
	release, err := g.enqueue(b)
	if err != nil {
		return nil, err
	}
	defer release()
	o, err := v.commit(ctx, b)
	if err != nil {
		return nil, err
	}
	return encodeOutcome(o), nil
}

func (g *Group) serveSeen(ctx context.Context, _ cairn.NodeID, body []byte) ([]byte, error) {
	id, err := strconv.ParseUint(string(body), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, cairn.ErrInvalid)
	}
	v, term := g.leaderNow()
	if v == nil {
		return nil, errNotLeader
	}
	o, found, ok, err := g.seenHere(ctx, v, term, id)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, errNotLeader
	case !found:
		return nil, nil
	}
	return encodeOutcome(o), nil
}

// viewHere returns a state of a voter of this node: one that holds index, or all that was acknowledged by now.
func (g *Group) viewHere(ctx context.Context, index uint64) (*View, error) {
	v, term := g.leaderNow()
	if v == nil {
		v = g.follower()
	}
	if v == nil {
		return nil, errNoVoter
	}
	var err error
	switch {
	case index > 0:
		err = v.reach(ctx, index, readPatience)
	case term == 0 || !g.confirm(v, term):
		err = v.readIndex(ctx, readPatience)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMoved, err)
	}
	if !v.acquire() {
		return nil, ErrMoved
	}
	return &View{Index: v.applied.Load(), v: v}, nil
}

func (g *Group) serveRead(ctx context.Context, _ cairn.NodeID, body []byte) ([]byte, error) {
	index, key, err := decodeRead(body)
	if err != nil {
		return nil, err
	}
	w, err := g.viewHere(ctx, index)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	if len(key) == 0 {
		return encodeRow(w.Index, false, nil), nil
	}
	value, found, err := w.Get(key, nil)
	if err != nil {
		return nil, err
	}
	return encodeRow(w.Index, found, value), nil
}
