package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"cairn"
	"cairn/admin"
	"cairn/blob"
	"cairn/datanode"
	"cairn/iam"
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
	keys       *keysFile
	node       *datanode.Node
	meta       *meta.Store
	view       *membership.View
	blobs      *blob.Store
	objects    *object.Store
	identities *iam.Store
	frontend   *s3api.Server
	keeper     *membership.Keeper  // of this process's drives
	steward    *membership.Steward // of the cluster's volumes
	repairer   *repair.Repairer
	scrubber   *scrub.Scrubber
	metrics    *admin.Metrics
}

// openParts makes all parts, each with those below it.
func openParts(cfg Config) (p *parts, err error) {
	p = &parts{profile: cfg.Directory.State.Profile, metrics: admin.NewMetrics()}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
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
	seal, err := cfg.Directory.sealKey()
	if err != nil {
		return nil, err
	}
	p.identities, err = iam.New(iam.Config{AccessKey: cfg.AccessKey, SecretKey: cfg.SecretKey, Rows: p.meta, Seal: seal,
		Logger: cfg.Logger.With("part", "iam")})
	if err != nil {
		return nil, err
	}
	p.frontend, err = s3api.New(s3api.Config{Objects: p.objects, Identities: p.identities, Domains: cfg.S3Domains,
		PlainSSEC: cfg.Encryption.PlainSSEC, ObjectOwnership: cfg.ObjectOwnership, TrustedProxies: cfg.TrustedProxies,
		Observer: observer{p.metrics}, Logger: cfg.Logger.With("part", "s3api")})
	return p, err
}

// openStorage opens the drives and the metadata voters on them.
func (p *parts) openStorage(cfg Config) (err error) {
	state := cfg.Directory.State
	voters := homeFS{FS: vfs.Default}
	nc := datanode.Config{Cluster: state.Cluster, Node: state.Node, Log: cfg.Logger.With("part", "datanode")}
	for _, d := range state.Drives(cfg.Directory.Path) {
		voters.drives = append(voters.drives, d.Path)
		nc.Drives = append(nc.Drives, datanode.DriveConfig{Path: d.Path, Create: d.Make})
	}
	if p.node, err = datanode.Open(nc); err != nil {
		return err
	}
	p.meta, err = meta.Open(meta.Config{Cluster: state.Cluster, Voters: cfg.MetaVoters, MustExist: state.Formatted,
		Homes: homes(p.node.Statuses()), FS: voters, Logger: cfg.Logger.With("part", "meta")})
	return err
}

// openObjects makes the path of a client's bytes.
func (p *parts) openObjects(cfg Config) (err error) {
	p.view, err = membership.New(membership.Config{Meta: p.meta, Node: p.node, NodeID: cfg.Directory.State.Node,
		Logger: cfg.Logger.With("part", "membership")})
	if err != nil {
		return err
	}
	p.blobs, err = blob.New(blob.Config{Shards: p.node, Volumes: p.view, Damage: reporter{p},
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
	p.objects, err = object.New(object.Config{Meta: p.meta, Blobs: p.blobs, DefaultProfile: cfg.Directory.State.Profile,
		Keys: keys, Encryption: rule,
		Logger: cfg.Logger.With("part", "object")})
	return err
}

// openHealing makes what finds damage and mends it.
func (p *parts) openHealing(cfg Config) (err error) {
	p.repairer, err = repair.New(repair.Config{Meta: p.meta, Shards: p.node, Blobs: p.blobs, Drives: p.view,
		Logger: cfg.Logger.With("part", "repair")})
	if err != nil {
		return err
	}
	p.scrubber, err = scrub.New(scrub.Config{Meta: p.meta, Drives: p.node, Orphans: p.node, Held: p.objects.Pinned,
		Damaged: p.repairer.Wake, Logger: cfg.Logger.With("part", "scrub")})
	if err != nil {
		return err
	}
	p.steward, err = membership.NewSteward(membership.StewardConfig{View: p.view, Meta: p.meta, Profile: cfg.Directory.State.Profile,
		Damaged: p.repairer.Wake, Logger: cfg.Logger.With("part", "steward")})
	if err != nil {
		return err
	}
	p.keeper, err = membership.NewKeeper(membership.KeeperConfig{Meta: p.meta, Node: p.node, NodeID: cfg.Directory.State.Node,
		Domains: []string{cfg.Directory.State.Node.String()}, Changed: p.steward.Wake, Returned: p.returned,
		Logger: cfg.Logger.With("part", "keeper")})
	return err
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

func (p *parts) loops() []loop {
	return []loop{
		{"datanode", p.node.Run},
		{"homes", func(ctx context.Context) error { return keepHomes(ctx, p.node, p.meta) }},
		{"meta", p.meta.Run},
		{"membership", p.view.Run},
		{"keeper", p.keeper.Run},
		{"steward", p.steward.Run},
		{"object", p.objects.Run},
		{"iam", p.identities.Run},
		{"repair", p.repairer.Run},
		{"scrub", p.scrubber.Run},
	}
}

// close ends metadata before the drives that it lives on.
func (p *parts) close() error {
	var errs []error
	if p.meta != nil {
		errs = append(errs, p.meta.Close())
	}
	if p.node != nil {
		errs = append(errs, p.node.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// reporter hands blob's findings to the repairer, which is made after it.
type reporter struct{ p *parts }

// Report never blocks.
func (r reporter) Report(d cairn.Damage) { r.p.repairer.Report(d) }

// observer turns finished S3 requests into metrics.
type observer struct{ m *admin.Metrics }

// Observe counts one request.
func (o observer) Observe(r s3api.Observation) {
	o.m.Observe(r.Operation, r.Code, r.BytesIn, r.BytesOut, r.Duration)
}
