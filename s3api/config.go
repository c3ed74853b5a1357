package s3api

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"cairn"
)

// Config of a Server. Objects and Identities are required; other zero values mean the defaults named here.
type Config struct {
	Objects    Objects
	Identities Identities
	// TLS, if set, serves over TLS, HTTP/2 included. Default: plain HTTP/1.1.
	TLS *tls.Config
	// PlainSSEC takes customers' encryption keys over plain HTTP too, where whoever listens can read them.
	PlainSSEC bool
	// Region is the one that signatures must name. Default us-east-1.
	Region string
	// Domains are the names under which buckets are reached as hosts ("s3.example.com": bucket.s3.example.com).
	// "localhost" is always one.
	Domains []string
	// WebIdentities verifies tokens of identity providers, for AssumeRoleWithWebIdentity. nil: there is none.
	WebIdentities WebIdentities
	// EventTargets knows whom buckets may tell of events. nil: nobody.
	EventTargets EventTargets
	// ObjectOwnership is that of buckets which have no ownership controls. Default BucketOwnerEnforced: no ACLs.
	ObjectOwnership string
	// TrustedProxies are the addresses whose X-Forwarded-For is believed, for aws:SourceIp. Default: none.
	TrustedProxies []netip.Prefix
	// MaxRequests bounds the requests under way. Default 512.
	MaxRequests int
	// MaxWaiting bounds the requests that wait for one of them to end, each for QueueWait at the most. Defaults 1,024, 5 s.
	MaxWaiting int
	QueueWait  time.Duration
	// MaxConns bounds open connections: further ones wait in the kernel's queue. Default 4,096.
	MaxConns int
	// MaxHeaderBytes bounds a request's line and headers. Default 32 KiB.
	MaxHeaderBytes int
	// HeaderTimeout bounds the time that headers may take, IdleTimeout the pause between requests. Defaults 15 s, 2 min.
	HeaderTimeout, IdleTimeout time.Duration
	// StallTimeout bounds the time in which no byte of a body moves, in or out; MinRateBytesPerSec is the least average rate
	// of a request's body after its first StallTimeout. Defaults 30 s, 1 KiB/s.
	StallTimeout       time.Duration
	MinRateBytesPerSec int64
	// BodyMemoryBytes bounds the XML bodies held in memory at once. Default 64 MiB.
	BodyMemoryBytes int64
	// DrainTimeout bounds how long Serve waits for requests under way when it ends. Default 20 s.
	DrainTimeout time.Duration
	Observer     Observer     // default: none
	Logger       *slog.Logger // default: none
}

const defaultDomain = "localhost"

func (c *Config) setDefaults() error {
	if c.Objects == nil || c.Identities == nil {
		return &cairn.Error{Op: "s3api.new", Err: fmt.Errorf("no objects or identities: %w", cairn.ErrInvalid)}
	}
	if c.ObjectOwnership == "" {
		c.ObjectOwnership = ownerEnforced
	}
	if !validOwnership(c.ObjectOwnership) {
		return &cairn.Error{Op: "s3api.new", Subject: c.ObjectOwnership, Err: fmt.Errorf("no such object ownership: %w", cairn.ErrInvalid)}
	}
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	c.Domains = append(append([]string{}, c.Domains...), defaultDomain)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Observer == nil {
		c.Observer = noObserver{}
	}
	orDefault(&c.MaxRequests, 512)
	orDefault(&c.MaxWaiting, 1024)
	orDefault(&c.MaxConns, 4096)
	orDefault(&c.MaxHeaderBytes, 32<<10)
	orDefault(&c.QueueWait, 5*time.Second)
	orDefault(&c.HeaderTimeout, 15*time.Second)
	orDefault(&c.IdleTimeout, 2*time.Minute)
	orDefault(&c.StallTimeout, 30*time.Second)
	orDefault(&c.DrainTimeout, 20*time.Second)
	orDefault(&c.MinRateBytesPerSec, 1<<10)
	orDefault(&c.BodyMemoryBytes, 64<<20)
	if c.MaxRequests < 1 || c.MaxWaiting < 1 || c.MaxConns < 1 || c.MaxHeaderBytes < 1 || c.QueueWait < 0 ||
		c.HeaderTimeout < 0 || c.IdleTimeout < 0 || c.StallTimeout < 0 || c.DrainTimeout < 0 ||
		c.MinRateBytesPerSec < 0 || c.BodyMemoryBytes < maxXMLBody {
		return &cairn.Error{Op: "s3api.new", Err: fmt.Errorf("a limit is negative or too small: %w", cairn.ErrInvalid)}
	}
	return nil
}

func orDefault[T ~int | ~int64](v *T, fallback T) {
	if *v == 0 {
		*v = fallback
	}
}

type noObserver struct{}

func (noObserver) Observe(Observation) {}
