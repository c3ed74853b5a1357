package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"cairn"
)

// certificate is what S3 is served with over TLS. It looks at its files when a client comes, at most once a second, and takes
// new ones without a restart; files that do not fit together (one is replaced before the other) leave the old pair in place.
type certificate struct {
	certFile, keyFile string
	logger            *slog.Logger

	mu     sync.Mutex
	looked time.Time
	stamp  [2]time.Time // of the files that pair was read from
	pair   *tls.Certificate
}

// certificateLook is the pause between looks at the files.
const certificateLook = time.Second

// openCertificate reads the files. ErrInvalid if they are no pair.
func openCertificate(certFile, keyFile string, logger *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, logger: logger}
	if err := c.load(); err != nil {
		return nil, &cairn.Error{Op: "server.tls", Subject: certFile, Err: fmt.Errorf("%w: %w", err, cairn.ErrInvalid)}
	}
	return c, nil
}

// secure is the TLS configuration of the S3 frontend, nil for plain HTTP.
func (c *Config) secure() (*tls.Config, error) {
	if c.TLSCert == "" && c.TLSKey == "" {
		return nil, nil
	}
	cert, err := openCertificate(c.TLSCert, c.TLSKey, c.Logger.With("part", "tls"))
	if err != nil {
		return nil, err
	}
	return cert.config(), nil
}

// config is the TLS configuration of the S3 frontend.
func (c *certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return c.current(time.Now()), nil
	}}
}

// current returns the pair that the files hold now, or the last one that was whole.
func (c *certificate) current(now time.Time) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.looked) < certificateLook {
		return c.pair
	}
	c.looked = now
	stamp, err := c.stamps()
	if err == nil && stamp == c.stamp {
		return c.pair
	}
	if err == nil {
		err = c.load()
	}
	if err != nil {
		c.logger.Warn("the TLS certificate was not renewed: the old one stays", "file", c.certFile, "err", err)
	} else {
		c.logger.Info("the TLS certificate was renewed", "file", c.certFile)
	}
	return c.pair
}

func (c *certificate) stamps() (s [2]time.Time, err error) {
	for i, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return s, err
		}
		s[i] = info.ModTime()
	}
	return s, nil
}

// load reads the pair. The stamps are taken first: a file that changes meanwhile is read again at the next look.
func (c *certificate) load() error {
	stamp, err := c.stamps()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.stamp, c.pair = stamp, &pair
	return nil
}
