package join

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/time/rate"

	"cairn"
	"cairn/internal/rpc"
)

// Rows are the cluster's committed nodes and tokens. CheckToken tells whether Join would take the token, without using it up.
type Rows interface {
	CheckToken(ctx context.Context, secret, key [sha256.Size]byte, n cairn.Node) error
	Join(ctx context.Context, secret, key [sha256.Size]byte, n cairn.Node) (cairn.Node, error)
	Nodes(ctx context.Context) ([]cairn.Node, error)
}

// Door lets nodes in. It is the handler of Path.
type Door struct {
	cfg   DoorConfig
	limit *rate.Limiter
}

// DoorConfig is what a Door needs; Logger alone may be nil.
type DoorConfig struct {
	Cluster   cairn.ClusterID
	Authority *rpc.Authority
	Rows      Rows
	// Settings are read for each node that joins: files change.
	Settings func() (Settings, error)
	Logger   *slog.Logger
}

const (
	// A stranger can make the cluster look a token up this often, and no oftener; a person adds nodes one by one.
	joinsPerSecond = 5
	joinsAtOnce    = 20
	callBackTime   = 5 * time.Second
)

// NewDoor returns a Door.
func NewDoor(cfg DoorConfig) *Door {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Door{cfg: cfg, limit: rate.NewLimiter(joinsPerSecond, joinsAtOnce)}
}

// ServeHTTP answers one node that wants in.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !d.limit.Allow() {
		rpc.WriteError(w, fmt.Errorf("too many nodes join at once; try again in a second: %w", cairn.ErrOverloaded))
		return
	}
	var q Request
	err := decode(w, r, &q)
	var a Answer
	if err == nil {
		a, err = d.admit(r.Context(), q, time.Now())
	}
	if err != nil {
		d.cfg.Logger.Warn("a node was refused", "from", r.RemoteAddr, "node", q.Node.ID, "addr", q.Node.Addr, "err", err)
		rpc.WriteError(w, err)
		return
	}
	d.cfg.Logger.Info("a node joined", "node", a.Node.ID, "name", a.Node.Name, "addr", a.Node.Addr, "roles", a.Node.Roles)
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(a) // a node that is gone asks again
}

func decode(w http.ResponseWriter, r *http.Request, into any) error {
	if r.Method != http.MethodPost {
		return fmt.Errorf("%s is no POST: %w", r.Method, cairn.ErrInvalid)
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(into); err != nil {
		return fmt.Errorf("body: %w: %w", err, cairn.ErrInvalid)
	}
	return nil
}

// admit checks what is cheap first, what costs a connection later, and commits last.
func (d *Door) admit(ctx context.Context, q Request, now time.Time) (a Answer, err error) {
	if skew := q.Time.Sub(now); skew.Abs() > MaxSkew {
		return a, fmt.Errorf("the node's clock is %s the cluster's (%s against %s): set it (NTP), then join again: %w",
			offBy(skew), q.Time.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339), cairn.ErrInvalid)
	}
	if f := q.Node.Format; f > cairn.FormatVersion || f < cairn.FormatVersion-1 {
		return a, fmt.Errorf("the node speaks format %d, the cluster %d: install the same release of cairn on both: %w",
			f, cairn.FormatVersion, cairn.ErrInvalid)
	}
	key, err := keyHash(q.CSR)
	if err != nil {
		return a, err
	}
	n := q.Node
	n.Epoch, n.State, n.StateSince, n.JoinedAt, n.Reason = 0, cairn.NodeJoining, now.UTC(), now.UTC(), "joined with a token"
	secret := SecretHash(q.Secret)
	if err := d.cfg.Rows.CheckToken(ctx, secret, key, n); err != nil {
		return a, err
	}
	if err := callBack(ctx, n.Addr, key); err != nil {
		return a, err
	}
	if n, err = d.cfg.Rows.Join(ctx, secret, key, n); err != nil {
		return a, err
	}
	return d.answer(ctx, n, q.CSR, now)
}

func offBy(skew time.Duration) string {
	if skew > 0 {
		return skew.Round(time.Second).String() + " ahead of"
	}
	return (-skew).Round(time.Second).String() + " behind"
}

// answer signs and collects what the node needs. The node's row is committed by now.
func (d *Door) answer(ctx context.Context, n cairn.Node, csr []byte, now time.Time) (a Answer, err error) {
	id := rpc.Identity{Cluster: d.cfg.Cluster, Node: n.ID, Roles: n.Roles}
	a = Answer{Authority: d.cfg.Authority.CertPEM(), Node: n}
	if a.Settings, err = d.cfg.Settings(); err != nil {
		return Answer{}, err
	}
	if a.Cert, err = d.cfg.Authority.Sign(csr, id, now, rpc.NodeLife); err != nil {
		return Answer{}, err
	}
	if a.Nodes, err = d.cfg.Rows.Nodes(ctx); err != nil {
		return Answer{}, err
	}
	if n.Roles.Has(cairn.RoleMeta) {
		if a.AuthorityKey, err = d.cfg.Authority.KeyPEM(); err != nil {
			return Answer{}, err
		}
	}
	if n.Roles&(cairn.RoleMeta|cairn.RoleGateway) == 0 {
		a.Settings.AccessKey, a.Settings.SecretKey, a.Settings.Files = "", "", nil
	}
	return a, nil
}

// callBack connects to where the node says that it can be reached, and compares the key that it shows there.
func callBack(ctx context.Context, addr string, key [sha256.Size]byte) error {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return fmt.Errorf("the advertised address %q: %w: %w", addr, err, cairn.ErrInvalid)
	}
	ctx, cancel := context.WithTimeout(ctx, callBackTime)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}} // the key is compared below
	c, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("the cluster cannot reach the node at %s, which it advertises (%w): check --advertise, and that firewalls let the port through: %w",
			addr, errors.Unwrap(err), cairn.ErrUnavailable)
	}
	defer c.Close()
	leaf := c.(*tls.Conn).ConnectionState().PeerCertificates[0]
	if sha256.Sum256(leaf.RawSubjectPublicKeyInfo) != key {
		return fmt.Errorf("at %s, which the node advertises, somebody else answers: check --advertise: %w", addr, cairn.ErrUnavailable)
	}
	return nil
}

// Elsewhere is the handler of Path on a node without the meta role: it says whom to ask. nodes returns those known.
func Elsewhere(nodes func() []cairn.Node) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		list := ""
		for _, n := range nodes() {
			if n.Roles.Has(cairn.RoleMeta) && n.State != cairn.NodeRemoved {
				list += " " + n.Addr
			}
		}
		rpc.WriteError(w, fmt.Errorf("this node has no meta role and lets nobody in; give one of these to --join:%s: %w", list, cairn.ErrInvalid))
	})
}
