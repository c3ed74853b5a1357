package replica

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"cairn"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// votersOn waits until the voters live on exactly these nodes, one each, and nobody is on his way.
func (c *cluster) votersOn(want ...int) {
	c.t.Helper()
	var got []int
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		lead, _ := c.leader().group().leaderNow()
		if lead == nil {
			continue
		}
		conf := lead.conf.Load()
		got = got[:0]
		for _, id := range conf.GetVoters() {
			for _, n := range c.nodes {
				if g := n.group(); g != nil && g.voter(id) != nil {
					got = append(got, n.index)
				}
			}
		}
		slices.Sort(got)
		if slices.Equal(got, want) && len(conf.GetLearners()) == 0 && len(conf.GetVoters()) == len(want) && len(conf.GetVotersOutgoing()) == 0 {
			return
		}
	}
	c.t.Fatalf("voters run on nodes %v, want %v", got, want)
}

// firstNode prepares a cluster whose first node begins the group, and the others join it.
func firstNode(t testing.TB, nodes, homesEach, voters int) *cluster {
	c := newCluster(t, nodes, homesEach)
	for i, n := range c.nodes {
		n.cfg.Voters = voters
		n.cfg.ReplaceAfter = 500 * time.Millisecond
		if i > 0 {
			n.cfg.Seeds = []cairn.NodeID{c.nodes[0].id}
		}
	}
	c.nodes[0].start()
	return c
}

// A store of one process with five voters on its drives moves them to three nodes while clients write, and then survives
// the loss of its first node.
func TestVotersMoveToNodes(t *testing.T) {
	c := firstNode(t, 4, 5, 5)
	waitVoters(t, c.nodes[0].group(), 5)
	l := startLoad(t, c.nodes[0].group(), 2)
	c.nodes[1].start()
	c.nodes[2].start()
	c.votersOn(0, 1, 2)
	keys := l.finish()
	checkKeys(t, c.nodes[2].group(), keys)
	for held, end := 5, time.Now().Add(20*time.Second); held > 1; time.Sleep(10 * time.Millisecond) {
		held = 0
		for _, h := range c.nodes[0].homes {
			if found, _ := exists(vfs.Default, filepath.Join(h.Dir, voterDir)); found {
				held++
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%d homes of the first node still hold a voter", held)
		}
	}
	c.nodes[0].stop()
	put(t, c.nodes[1].group(), "without", "the first")
	checkKeys(t, c.nodes[2].group(), keys)
	c.nodes[3].start() // its seed is away: it must find the others by itself when that one is back
	c.nodes[0].start()
	if got, _ := mustGet(t, c.nodes[3].group(), "without"); got != "the first" {
		t.Errorf("the late node reads %q", got)
	}
}

// A voter whose node is away for long is replaced on a spare node; when it returns it is no member any more.
func TestLostNodeIsReplaced(t *testing.T) {
	c := firstNode(t, 4, 1, 3)
	c.nodes[1].start()
	c.nodes[2].start()
	c.votersOn(0, 1, 2)
	for i := range 50 {
		put(t, c.nodes[i%3].group(), fmt.Sprint("k", i), "v")
	}
	c.nodes[3].start()
	c.nodes[1].stop()
	c.votersOn(0, 2, 3)
	put(t, c.nodes[3].group(), "later", "v")
	c.nodes[1].start()
	if got, _ := mustGet(t, c.nodes[1].group(), "later"); got != "v" {
		t.Errorf("the returned node reads %q", got)
	}
	for end := time.Now().Add(20 * time.Second); len(*c.nodes[1].group().voters.Load()) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the replaced voter goes on running")
		}
	}
	c.votersOn(0, 2, 3)
}

// A node that is judged to be out loses its voter at once, however long a node may be away otherwise; below a quorum of
// live nodes nothing changes.
func TestVoterOfNodeThatIsOut(t *testing.T) {
	c := newCluster(t, 4, 1)
	var out atomic.Pointer[cairn.NodeID]
	for i, n := range c.nodes {
		n.cfg.Voters, n.cfg.ReplaceAfter = 3, time.Hour
		n.cfg.Gone = func(id cairn.NodeID) bool { return out.Load() != nil && *out.Load() == id }
		if i > 0 {
			n.cfg.Seeds = []cairn.NodeID{c.nodes[0].id}
		}
	}
	for _, n := range c.nodes[:3] {
		n.start()
	}
	c.votersOn(0, 1, 2)
	c.nodes[3].start()
	c.nodes[1].stop()
	put(t, c.nodes[0].group(), "k", "v")
	if n := len(*c.nodes[3].group().voters.Load()); n != 0 {
		t.Errorf("%d voters on the spare node though the other is only away", n)
	}
	out.Store(&c.nodes[1].id)
	c.votersOn(0, 2, 3)
}

// A node that comes back at its old address with empty drives gets a new voter, and has forgotten no vote: the old one is
// removed with all that it promised.
func TestReplacedMemberAtSameAddress(t *testing.T) {
	c := firstNode(t, 3, 1, 3)
	c.nodes[1].start()
	c.nodes[2].start()
	c.votersOn(0, 1, 2)
	put(t, c.nodes[0].group(), "k", "v")
	old := *c.nodes[1].group().voters.Load()
	c.nodes[1].stop()
	if err := os.RemoveAll(c.nodes[1].homes[0].Dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(c.nodes[1].homes[0].Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, c.nodes[2].group(), "k", "w")
	c.nodes[1].start()
	c.votersOn(0, 1, 2)
	for id := range *c.nodes[1].group().voters.Load() {
		if old[id] != nil {
			t.Errorf("voter %s lost its log and is back under its old name", voterName(id))
		}
	}
	if got, _ := mustGet(t, c.nodes[1].group(), "k"); got != "w" {
		t.Errorf("read %q", got)
	}
}

// Voters leave a node when they are told to, and not when too few nodes would be left.
func TestRemoveVoter(t *testing.T) {
	c := firstNode(t, 4, 1, 3)
	g := c.nodes[0].group()
	if err := g.RemoveVoter(t.Context(), c.nodes[0].id); !errors.Is(err, cairn.ErrPrecondition) {
		t.Errorf("removing the last voter: %v", err)
	}
	if err := g.AddVoter(t.Context(), c.nodes[1].id); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("adding a voter on a node that is not there: %v", err)
	}
	c.nodes[1].start()
	c.nodes[2].start()
	c.votersOn(0, 1, 2)
	far := c.nodes[1].group()
	if err := far.RemoveVoter(t.Context(), c.nodes[0].id); !errors.Is(err, cairn.ErrPrecondition) {
		t.Errorf("removing one of three: %v", err)
	}
	c.nodes[3].start()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := far.RemoveVoter(t.Context(), c.nodes[0].id)
		if err == nil {
			break
		}
		if !errors.Is(err, cairn.ErrPrecondition) || time.Now().After(end) {
			t.Fatal(err)
		}
	}
	c.votersOn(1, 2, 3)
	if err := far.AddVoter(t.Context(), c.nodes[0].id); err != nil {
		t.Error(err)
	}
	put(t, c.nodes[0].group(), "k", "v")
}

// Two nodes that both began a cluster do not mix: neither serves the other, and a seed of another group is refused.
func TestTwoBeginnings(t *testing.T) {
	c := firstNode(t, 2, 1, 1)
	other := c.nodes[1]
	other.cfg.Seeds, other.cfg.Cluster = nil, cairn.ClusterID{2}
	other.start()
	put(t, c.nodes[0].group(), "k", "one")
	put(t, other.group(), "k", "two")
	if _, err := other.group().call(t.Context(), c.nodes[0].id, "where", nil); !errors.Is(err, cairn.ErrForbidden) {
		t.Errorf("a node of another cluster asks: %v", err)
	}
	if _, err := c.nodes[0].group().offerHome(c.nodes[0].homes[0].Drive, "another group"); !errors.Is(err, cairn.ErrForbidden) {
		t.Errorf("a seed of another group: %v", err)
	}
	other.stop()
	other.cfg.Cluster, other.cfg.Seeds = c.nodes[0].cfg.Cluster, []cairn.NodeID{c.nodes[0].id}
	if g, err := Open(other.cfg, other.homes); !errors.Is(err, cairn.ErrInvalid) {
		t.Errorf("a store of another cluster opens as if it were of this one: %v, %v", g, err)
	}
	if got, _ := mustGet(t, c.nodes[0].group(), "k"); got != "one" {
		t.Errorf("read %q", got)
	}
}

// A seed that is cut off or damaged anywhere makes no voter, and the next try does.
func TestSeedCutOff(t *testing.T) {
	c := firstNode(t, 1, 2, 1)
	g := c.nodes[0].group()
	put(t, g, "k", "v")
	lead, _ := g.leaderNow()
	id := newVoterID()
	var whole bytes.Buffer
	var pos position
	err := g.withCheckpoint(lead, id, func(point string, at position) error {
		pos = at
		return packDir(g.cfg.FS, point, &whole)
	})
	if err != nil {
		t.Fatal(err)
	}
	home := c.nodes[0].homes[1]
	f := voterFile{Format: fileFormat, Cluster: g.cfg.Cluster, Group: lead.groupID, Voter: voterName(id)}
	try := func(body []byte) error {
		return g.makeVoter(home, f, pos, func(dir string) error { return unpackDir(g.cfg.FS, dir, bytes.NewReader(body)) })
	}
	for i := 0; i < whole.Len(); i += whole.Len()/23 + 1 {
		if err := try(whole.Bytes()[:i]); err == nil {
			t.Fatalf("cut off after %d of %d bytes: no error", i, whole.Len())
		}
		bad := bytes.Clone(whole.Bytes())
		bad[i] ^= 1
		if err := try(bad); err == nil {
			t.Fatalf("byte %d flipped: no error", i)
		}
		if found, _ := exists(g.cfg.FS, filepath.Join(home.Dir, voterDir)); found {
			t.Fatalf("cut off after %d bytes: a voter is there", i)
		}
	}
	if err := try(whole.Bytes()[:whole.Len()-1]); err == nil {
		t.Error("without its last byte: no error")
	}
	if err := try(whole.Bytes()); err != nil {
		t.Error(err)
	}
}

// A seed whose stream breaks on the way begins again.
func TestSeedStreamBreaks(t *testing.T) {
	c := firstNode(t, 3, 1, 3)
	b := &Batch{}
	for i := range 200 {
		b.Put(fmt.Appendf(nil, "k%d", i), bytes.Repeat([]byte{1}, 4000))
	}
	if _, err := c.nodes[0].group().Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	breaker := &seedBreaker{next: c.nodes[0].conns}
	breaker.left.Store(2)
	c.nodes[0].wrap(breaker)
	c.nodes[1].start()
	c.nodes[2].start()
	c.votersOn(0, 1, 2)
	if n := breaker.left.Load(); n > 0 {
		t.Errorf("%d streams were still to break", n)
	}
	checkKeys(t, c.nodes[2].group(), nil)
	if got, _ := mustGet(t, c.nodes[2].group(), "k199"); len(got) != 4000 {
		t.Errorf("read %d bytes", len(got))
	}
}

// seedBreaker cuts the first seeds off in the middle.
type seedBreaker struct {
	next http.RoundTripper
	left atomic.Int64
}

func (b *seedBreaker) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == VotersPath+"seed" && b.left.Add(-1) >= 0 {
		r.Body = io.NopCloser(io.LimitReader(r.Body, 100_000))
	}
	return b.next.RoundTrip(r)
}
