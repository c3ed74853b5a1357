package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cairn"
)

// writePair writes a self-signed certificate of a serial number and its key, dated so that a change is a new date.
func writePair(t *testing.T, certFile, keyFile string, serial int64, date time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, date, date); err != nil {
			t.Fatal(err)
		}
	}
}

func serialOf(t *testing.T, pair *tls.Certificate) int64 {
	t.Helper()
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return cert.SerialNumber.Int64()
}

func TestCertificateIsRenewed(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	now := time.Now()
	if _, err := openCertificate(certFile, keyFile, slog.New(slog.DiscardHandler)); !errors.Is(err, cairn.ErrInvalid) {
		t.Errorf("no files: %v, want ErrInvalid", err)
	}
	writePair(t, certFile, keyFile, 1, now.Add(-3*time.Hour))
	c, err := openCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if got := serialOf(t, c.current(now)); got != 1 {
		t.Errorf("first: %d", got)
	}
	writePair(t, certFile, keyFile, 2, now.Add(-2*time.Hour))
	if got := serialOf(t, c.current(now.Add(certificateLook/2))); got != 1 {
		t.Errorf("looked again after half the pause: %d", got)
	}
	if got := serialOf(t, c.current(now.Add(2*certificateLook))); got != 2 {
		t.Errorf("renewed: %d", got)
	}
	// Only the certificate was replaced yet: it does not fit the key.
	writePair(t, certFile, filepath.Join(dir, "other.pem"), 3, now.Add(-time.Hour))
	if got := serialOf(t, c.current(now.Add(4*certificateLook))); got != 2 {
		t.Errorf("half a pair: %d", got)
	}
	if err := os.Rename(filepath.Join(dir, "other.pem"), keyFile); err != nil {
		t.Fatal(err)
	}
	if got := serialOf(t, c.current(now.Add(6*certificateLook))); got != 3 {
		t.Errorf("the whole pair: %d", got)
	}
	if err := os.Remove(certFile); err != nil {
		t.Fatal(err)
	}
	if got := serialOf(t, c.current(now.Add(8*certificateLook))); got != 3 {
		t.Errorf("files that went away: %d", got)
	}
}
