package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"cairn"
	"cairn/iam"
	"cairn/internal/server"
)

const (
	envS3Addr    = "127.0.0.1:9000"
	envAdminAddr = "127.0.0.1:9001"

	minScrubInterval = time.Minute
)

// serverFlags are the flags of `cairn server`.
type serverFlags struct {
	config                                     string
	data, profile, s3Addr, adminAddr, logLevel string
	drives, voters                             int
	named, domains                             []string
	encryption                                 server.Encryption
	tlsCert, tlsKey                            string
	ownership                                  string
	proxies                                    []string
	oidc                                       iam.OIDCConfig
	scrubInterval                              time.Duration
	failingDrives                              string
	memberFlags
}

func serverCommand() *cobra.Command {
	var f serverFlags
	c := &cobra.Command{
		Use:   "server",
		Short: "Start the whole store in one process, or a node of a cluster",
		Long: "Serve S3 from an erasure-coded store. --data DIR alone makes DIR/drive1 to DIR/drive6; --drive names real disks.\n\n" +
			"With --advertise the process is the first node of a cluster, with --join and --token a further one (see `cairn token\n" +
			"create`); a node makes one drive below --data unless told otherwise. A restart needs none of these flags.\n\n" +
			"The root credentials are $" + envAccessKey + " and $" + envSecretKey + ", the same on every node; they are kept in\n" +
			"DIR/credentials for the next start. Without them a pair is made on the first start, and nodes that join are given it,\n" +
			"but for those that only store data: these keep no secret, and take the cluster's.",
		Example: "  cairn server --data ./data\n  cairn server --data /var/lib/cairn --drive /mnt/a --drive /mnt/b --drive /mnt/c --profile 2+1\n" +
			"  cairn server --data /var/lib/cairn --advertise 10.0.0.1\n" +
			"  cairn server --data /var/lib/cairn --advertise 10.0.0.2 --join 10.0.0.1 --token TOKEN --roles data",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return runServer(c, &f) },
	}
	f.register(c.Flags())
	return c
}

// register adds the flags; each is a setting of the file and the environment too (settings.go).
func (f *serverFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&f.config, "config", "", "YAML file of settings, named like these flags; $"+settingEnv("NAME")+" counts for more, a flag for most (default $"+settingEnv("config")+")")
	fl.StringVar(&f.data, "data", defaultData, "directory of this process")
	fl.IntVar(&f.drives, "drives", 0, "drive directories to make below --data (default 6 on the first start)")
	fl.StringArrayVar(&f.named, "drive", nil, "path of a disk; repeat for each. An absent path is never created, an empty one is taken over")
	fl.StringVar(&f.profile, "profile", "", "data+parity shards of new volumes, or data+2+global, e.g. 12+2+2, for a locally repairable code (default 4+2 with six drives or more)")
	fl.StringVar(&f.s3Addr, "s3-addr", envS3Addr, "where S3 is served")
	fl.StringArrayVar(&f.domains, "s3-domain", nil, "serve BUCKET.DOMAIN as well as /BUCKET; repeat for each (always: localhost)")
	fl.StringVar(&f.ownership, "s3-object-ownership", "", "object ownership of buckets that set none: BucketOwnerEnforced (the default: no ACLs), BucketOwnerPreferred or ObjectWriter")
	fl.StringArrayVar(&f.proxies, "trusted-proxy", nil, "address or prefix of a proxy whose X-Forwarded-For is believed; repeat for each")
	fl.StringVar(&f.oidc.Issuer, "oidc-issuer", "", "OpenID Connect provider whose tokens AssumeRoleWithWebIdentity takes (URL)")
	fl.StringVar(&f.oidc.ClientID, "oidc-client-id", "", "client that those tokens must be for")
	fl.StringVar(&f.oidc.PolicyClaim, "oidc-policy-claim", "policy", "claim with the names of the bearer's policies")
	fl.StringVar(&f.adminAddr, "admin-addr", envAdminAddr, "where health, metrics and the admin API are served")
	fl.IntVar(&f.voters, "meta-voters", 0, "metadata voters, each on its own drive (default: twice the parity, and one)")
	fl.StringVar(&f.tlsCert, "tls-cert", "", "serve S3 over TLS and HTTP/2 with this certificate chain (PEM); a new file is taken without a restart")
	fl.StringVar(&f.tlsKey, "tls-key", "", "the certificate's key (PEM)")
	fl.BoolVar(&f.encryption.Default, "encrypt", false, "encrypt the objects of buckets without an encryption configuration (SSE-S3)")
	fl.StringVar(&f.encryption.KeysFile, "encryption-keys", "", "file of the master keys: back it up (default DATA/encryption-keys, made on the first start)")
	fl.BoolVar(&f.encryption.PlainSSEC, "sse-c-over-http", false, "take clients' encryption keys over plain HTTP too, where others may read them")
	fl.StringVar(&f.encryption.Vault.Address, "kms-vault", "", "serve SSE-KMS by the transit engine of this Vault (https://host:8200); its token is $"+envVaultToken)
	fl.StringVar(&f.encryption.Vault.Mount, "kms-vault-mount", "transit", "where that engine is mounted")
	fl.StringVar(&f.encryption.DefaultKey, "kms-default-key", "default", "key for SSE-KMS requests that name none")
	fl.StringVar(&f.failingDrives, "failing-drives", server.WearingTell, "what to do about a drive that wears out (see cairn drive show): tell, or drain: empty it, one drive a day at most")
	fl.DurationVar(&f.scrubInterval, "scrub-interval", 14*24*time.Hour, "how long the deep scrub may take to read every byte of every drive; at least "+minScrubInterval.String())
	f.memberFlags.register(fl)
	fl.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
}

func runServer(c *cobra.Command, f *serverFlags) (err error) {
	if _, err := applySettings(c.Flags(), f.config, os.Getenv); err != nil {
		return usageError(c, err)
	}
	wish, level, err := f.parse()
	if err != nil {
		return usageError(c, err)
	}
	oidc := f.oidc
	if oidc.Issuer == "" && oidc.ClientID == "" {
		oidc = iam.OIDCConfig{} // the claim's default alone asks for nothing
	}
	proxies, err := parsePrefixes(f.proxies)
	if err != nil {
		return usageError(c, err)
	}
	logger := slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
	dir, err := server.OpenDirectory(f.data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	enlisted, err := f.settle(c.Context(), dir, wish)
	if err != nil {
		return err
	}
	tuneProcessors(len(dir.State.Drives(dir.Path)))
	var cred credentials
	made := false
	if dir.State.KeepsRoot() {
		if cred, made, err = serverCredentials(dir.Path, os.Getenv); err != nil {
			return err
		}
	}
	f.encryption.Vault.Token = os.Getenv(envVaultToken)
	s, err := server.Open(server.Config{
		Encryption: f.encryption, TLSCert: f.tlsCert, TLSKey: f.tlsKey,
		Directory: dir, MetaVoters: f.voters, S3Addr: f.s3Addr, S3Domains: f.domains, AdminAddr: f.adminAddr,
		ObjectOwnership: f.ownership, TrustedProxies: proxies, OIDC: oidc,
		AccessKey: cred.AccessKey, SecretKey: cred.SecretKey, Logger: logger, Interconnect: enlisted.Listener,
		ScrubInterval: f.scrubInterval, FailingDrives: f.failingDrives,
	})
	if err != nil {
		return err
	}
	return serve(c.Context(), c.OutOrStdout(), s, func() string { return greeting(s, dir.Path, cred, made) })
}

// serve runs s until ctx ends, and prints the greeting as soon as it takes writes.
func serve(ctx context.Context, out io.Writer, s *server.Server, text func() string) error {
	greeted := make(chan struct{})
	wait, cancel := context.WithCancel(ctx)
	var tuning sync.WaitGroup
	tuning.Go(func() { keepMemoryLimit(wait) })
	defer tuning.Wait()
	go func() {
		defer close(greeted)
		if s.WaitReady(wait) == nil {
			fmt.Fprint(out, text())
		}
	}()
	err := s.Run(ctx)
	cancel()
	<-greeted
	return err
}

func (f serverFlags) parse() (w server.Wish, level slog.Level, err error) {
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return w, level, err
	}
	if f.scrubInterval < minScrubInterval {
		return w, level, fmt.Errorf("--scrub-interval %v: want %v or more; scrub cannot be turned off", f.scrubInterval, minScrubInterval)
	}
	if f.failingDrives != server.WearingTell && f.failingDrives != server.WearingDrain {
		return w, level, fmt.Errorf("--failing-drives %s: want tell or drain", f.failingDrives)
	}
	w.Drives = f.drives
	for _, path := range f.named {
		abs, err := filepath.Abs(path)
		if err != nil {
			return w, level, err
		}
		w.Named = append(w.Named, abs)
	}
	if f.profile != "" {
		w.Profile, err = cairn.ParseProfile(f.profile)
	}
	return w, level, err
}

// parsePrefixes reads "10.0.0.0/8" and "10.0.0.1".
func parsePrefixes(list []string) (out []netip.Prefix, err error) {
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, err := netip.ParseAddr(s)
			if err != nil {
				return nil, fmt.Errorf("--trusted-proxy %s: want an address or a prefix", s)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, p.Masked())
	}
	return out, nil
}
