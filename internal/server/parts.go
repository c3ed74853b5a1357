package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"

	"cairn"
	"cairn/admin"
	"cairn/blob"
	"cairn/datanode"
	"cairn/events"
	"cairn/iam"
	"cairn/jobs"
	"cairn/membership"
	"cairn/meta"
	"cairn/object"
	"cairn/repair"
	"cairn/s3api"
	"cairn/scrub"
)

// parts are what a process is made of, lowest first.
type parts struct {
	profile    cairn.Profile
	site       *site // nil: this process is the whole store
	node       *datanode.Node
	shards     shards // all drives that can be reached: node, or a router
	router     *router
	meta       *meta.Store
	view       *membership.View
	blobs      *blob.Store
	objects    *object.Store
	keys       *keysFile
	identities *iam.Store
	frontend   *s3api.Server
	keeper     *membership.Keeper  // of this process's drives
	steward    *membership.Steward // of the cluster's volumes
	watcher    *membership.Watcher // of the other nodes; nil: there are none
	findings   *findings
	repairer   *repair.Repairer
	scrubber   *scrub.Scrubber
	jobs       *jobs.Manager
	teller     *events.Deliverer
	metrics    *admin.Metrics
	wearing    *wearing // of all drives' health
	root       rootKeeper
	homes      homePlan
	logger     *slog.Logger
}

// openParts makes all parts, each with those below it.
func openParts(cfg Config) (p *parts, err error) {
	p = &parts{profile: cfg.Directory.State.Profile, metrics: admin.NewMetrics(), logger: cfg.Logger}
	opened := p // a return of nil must not keep it from being closed
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.close())
		}
	}()
	if err := p.openStorage(cfg); err != nil {
		return nil, err
	}
	if err := p.openObjects(cfg); err != nil {
		return nil, err
	}
	if err := p.openHealing(cfg); err != nil {
		return nil, err
	}
	if !knowsIdentities(cfg.Directory.State.Member) {
		return p, nil // it serves no clients, and has none of the keys that doing so takes
	}
	seal, err := cfg.Directory.sealKey()
	if err != nil {
		return nil, err
	}
	p.root = rootKeeper{p.meta, cfg.AccessKey, cfg.SecretKey, cfg.Logger.With("part", "root")}
	p.identities, err = iam.New(iam.Config{AccessKey: cfg.AccessKey, SecretKey: cfg.SecretKey, Rows: p.meta, Seal: seal,
		Logger: cfg.Logger.With("part", "iam")})
	if err != nil {
		return nil, err
	}
	var web s3api.WebIdentities
	if cfg.OIDC != (iam.OIDCConfig{}) {
		if web, err = iam.NewOIDC(cfg.OIDC); err != nil {
			return nil, err
		}
	}
	if p.teller, err = events.NewDeliverer(events.DelivererConfig{Queue: p.meta, Logger: cfg.Logger.With("part", "events")}); err != nil {
		return nil, err
	}
	secure, err := cfg.secure()
	if err != nil {
		return nil, err
	}
	p.frontend, err = s3api.New(s3api.Config{TLS: secure, Objects: p.objects, Identities: p.identities, Domains: cfg.S3Domains,
		EventTargets: p.meta, PlainSSEC: cfg.Encryption.PlainSSEC, ObjectOwnership: cfg.ObjectOwnership, WebIdentities: web, TrustedProxies: cfg.TrustedProxies,
		Observer: observer{p.metrics}, Logger: cfg.Logger.With("part", "s3api")})
	return p, err
}

// openStorage opens the drives, the way to the other nodes, and the metadata.
func (p *parts) openStorage(cfg Config) (err error) {
	state := cfg.Directory.State
	nc := datanode.Config{Cluster: state.Cluster, Node: state.Node, Log: cfg.Logger.With("part", "datanode")}
	for _, d := range state.Drives(cfg.Directory.Path) {
		nc.Drives = append(nc.Drives, datanode.DriveConfig{Path: d.Path, Create: d.Make})
	}
	if p.node, err = datanode.Open(nc); err != nil {
		return err
	}
	p.homes = homesOf(*state, cfg.Directory.Path)
	if err := p.homes.prepare(); err != nil {
		return err
	}
	mc := meta.Config{Cluster: state.Cluster, Voters: cfg.MetaVoters, MustExist: state.Formatted,
		Homes: p.homes.list(p.node.Statuses()), FS: homeFS{FS: vfs.Default, drives: p.homes.dirs}, Logger: cfg.Logger.With("part", "meta")}
	if state.Member != nil {
		if p.site, err = openSite(cfg.Directory, cfg.Interconnect, cfg.Logger.With("part", "site")); err != nil {
			return err
		}
		mc.Gone = p.site.gone
		mc.Node, mc.Peers, mc.Caller, mc.Seeds = state.Node, p.site.dialer, caller, p.site.metaNodes()
		// Only the founder begins metadata, and only while it knows of no other node that may have it.
		mc.MustExist = mc.MustExist || !state.Member.Founded
	}
	p.meta, err = meta.Open(mc)
	return err
}

// openObjects makes the path of a client's bytes.
func (p *parts) openObjects(cfg Config) (err error) {
	p.view, err = membership.New(membership.Config{Meta: p.meta, Node: p.node, NodeID: cfg.Directory.State.Node,
		Logger: cfg.Logger.With("part", "membership")})
	if err != nil {
		return err
	}
	p.shards = p.node
	if p.site != nil {
		p.router = newRouter(p.node, cfg.Directory.State.Node, p.view, p.site.dialer)
		p.shards = p.router
	}
	p.blobs, err = blob.New(blob.Config{Shards: p.shards, Volumes: p.view, Damage: reporter{p},
		Logger: cfg.Logger.With("part", "blob")})
	if err != nil {
		return err
	}
	keys, file, err := openKeys(cfg.Directory.Path, cfg.Encryption)
	if err != nil {
		return err
	}
	p.keys = file
	var rule cairn.EncryptionRule
	if cfg.Encryption.Default {
		rule.Scheme = cairn.SSES3
	}
	oc := object.Config{Meta: p.meta, Blobs: p.blobs, DefaultProfile: cfg.Directory.State.Profile,
		Keys: keys, Encryption: rule, Logger: cfg.Logger.With("part", "object")}
	if p.site != nil {
		oc.Collects, oc.Elsewhere, oc.GCFarAge = p.meta.Leads, readers{p.site}.elsewhere, farReadAge
	}
	p.objects, err = object.New(oc)
	return err
}

// openHealing makes what finds damage and mends it.
func (p *parts) openHealing(cfg Config) (err error) {
	p.repairer, err = repair.New(repair.Config{Meta: p.meta, Shards: p.shards, Blobs: p.blobs, Drives: p.view, Paused: true, Settle: cfg.Settle,
		Logger: cfg.Logger.With("part", "repair")})
	if err != nil {
		return err
	}
	p.jobs, err = jobs.New(jobs.Config{Rows: p.meta, Kinds: p.runners(), Logger: cfg.Logger.With("part", "jobs")})
	if err != nil {
		return err
	}
	p.findings = newFindings(p.meta, cfg.Logger.With("part", "findings"))
	var drives scrub.Drives = p.node
	if p.router != nil {
		drives = p.router
	}
	p.scrubber, err = scrub.New(scrub.Config{Meta: p.meta, Drives: drives, Orphans: p.shards, Held: p.objects.Pinned,
		Cycle: cfg.ScrubInterval, Damaged: p.repairer.Wake, Logger: cfg.Logger.With("part", "scrub")})
	if err != nil {
		return err
	}
	p.steward, err = membership.NewSteward(membership.StewardConfig{View: p.view, Meta: p.meta, Profile: cfg.Directory.State.Profile,
		Damaged: p.repairer.Wake, Logger: cfg.Logger.With("part", "steward")})
	if err != nil {
		return err
	}
	p.keeper, err = membership.NewKeeper(membership.KeeperConfig{Meta: p.meta, Node: p.node, NodeID: cfg.Directory.State.Node,
		Domains: domains(*cfg.Directory.State), Changed: p.steward.Wake, Returned: p.returned,
		Logger: cfg.Logger.With("part", "keeper")})
	if err != nil || p.site == nil {
		return err
	}
	wc := membership.WatcherConfig{Nodes: p.meta, Prober: prober{p.site.dialer}, Self: cfg.Directory.State.Node,
		Holds: p.view.Holds, Changed: p.steward.Wake, Logger: cfg.Logger.With("part", "watcher")}
	if p.site.gossip != nil {
		wc.Gossip = p.site.gossip
	}
	p.watcher, err = membership.NewWatcher(wc)
	return err
}

// domains are the failure domains of the process's drives. In a store of one process there is one, the node.
func domains(s State) []string {
	if s.Member == nil {
		return []string{s.Node.String()}
	}
	return s.Member.node(s.Node).Domains()
}

// returned is told of every drive that became writable.
func (p *parts) returned(id cairn.DriveID) {
	p.scrubber.Reconcile(id)
	p.repairer.Wake()
}

// loop is one thing that runs as long as the process does.
type loop struct {
	name string
	run  func(context.Context) error
}

func (p *parts) loops(state State) []loop {
	always := []loop{
		{"datanode", p.node.Run},
		{"homes", func(ctx context.Context) error { return keepHomes(ctx, p.node, p.homes, p.meta) }},
		{"meta", p.meta.Run},
		{"membership", p.view.Run},
		{"keeper", p.keeper.Run},
		{"object", p.objects.Run},
		{"throttle", p.followThrottle},
	}
	if knowsIdentities(state.Member) {
		always = append(always, loop{"iam", p.identities.Run})
	}
	once := []loop{
		{"steward", p.steward.Run},
		{"repair", p.repairer.Run},
		{"scrub", p.scrubber.Run},
		{"health", p.wearing.Run},
		{"jobs", p.jobs.Run},
		{"events", p.teller.Run},
		{"history", p.keepHistory},
	}
	if p.site == nil {
		return append(always, once...)
	}
	if knowsIdentities(state.Member) {
		always = append(always, loop{"root check", p.root.check})
		once = append(once, loop{"root", p.root.publish}) // who leads carries a voter, so it has the credentials
	}
	once = append(once, loop{"watcher", p.watcher.Run}, loop{"returned", func(ctx context.Context) error { return p.watchReturns(ctx, state.Node) }})
	always = append(always, loop{"findings", p.findings.Run},
		loop{"leading", func(ctx context.Context) error { return whileLeading(ctx, p.meta, once) }})
	return append(always, p.site.loops(state, p.meta)...)
}

// close ends metadata before the drives that it lives on.
func (p *parts) close() error {
	var errs []error
	if p.router != nil {
		errs = append(errs, p.router.Close())
	}
	if p.meta != nil {
		errs = append(errs, p.meta.Close())
	}
	if p.site != nil {
		errs = append(errs, p.site.close())
	}
	if p.node != nil {
		errs = append(errs, p.node.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// reporter hands blob's findings to the repairer, which is made after it, or to the cluster's queue if repair runs elsewhere.
type reporter struct{ p *parts }

// Report never blocks.
func (r reporter) Report(d cairn.Damage) {
	if r.p.site != nil && !r.p.meta.Leads() {
		r.p.findings.Report(d)
		return
	}
	r.p.repairer.Report(d)
}

// observer turns finished S3 requests into metrics.
type observer struct{ m *admin.Metrics }

// Observe counts one request.
func (o observer) Observe(r s3api.Observation) {
	o.m.Observe(r.Operation, r.Code, r.BytesIn, r.BytesOut, r.Duration)
}
