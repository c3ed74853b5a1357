package rpc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"cairn"
)

const (
	authorityLife = 20 * 365 * 24 * time.Hour
	// NodeLife is how long a node's certificate is valid; it is renewed after two thirds of it.
	NodeLife = 90 * 24 * time.Hour
	// backdate lets a certificate be used at once by nodes whose clocks are a little behind the signer's.
	backdate = 5 * time.Minute

	pemCert = "CERTIFICATE"
	pemKey  = "PRIVATE KEY"
)

// Fingerprint identifies an authority: SHA-256 of its public key in X.509's form (RFC 7469, section 2.4).
type Fingerprint [sha256.Size]byte

// FingerprintOf returns the fingerprint of a certificate's key.
func FingerprintOf(cert *x509.Certificate) Fingerprint {
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}

// Authority is a cluster's own certificate authority. It signs nothing but certificates of that cluster's nodes.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes the authority of a new cluster.
func NewAuthority(cluster cairn.ClusterID, now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Cairn cluster " + cluster.String()},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &Authority{cert: cert, key: key}, err
}

// LoadAuthority reads what CertPEM and KeyPEM printed. Errors: ErrCorrupt.
func LoadAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	cert, err := parseCert(certPEM)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("the authority's key is not its certificate's: %w", cairn.ErrCorrupt)
	}
	return &Authority{cert: cert, key: key}, nil
}

// CertPEM prints the certificate, which is no secret.
func (a *Authority) CertPEM() []byte { return encodePEM(pemCert, a.cert.Raw) }

// KeyPEM prints the key: whoever has it can add nodes to the cluster.
func (a *Authority) KeyPEM() ([]byte, error) { return encodeKey(a.key) }

// Fingerprint is what join tokens carry.
func (a *Authority) Fingerprint() Fingerprint { return FingerprintOf(a.cert) }

// Sign issues a node's certificate, valid for life from now, for the key of a certificate request. Nothing but the key is
// taken from the request. Errors: ErrInvalid (no request, or its signature is wrong).
func (a *Authority) Sign(request []byte, id Identity, now time.Time, life time.Duration) (certPEM []byte, err error) {
	csr, err := ParseRequest(request)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Cairn node " + id.Node.String()},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(life), URIs: []*url.URL{id.url()},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, csr.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	return encodePEM(pemCert, der), nil
}

// ParseRequest reads a certificate request that NewRequest made, and checks that its sender has the key.
func ParseRequest(request []byte) (*x509.CertificateRequest, error) {
	csr, err := x509.ParseCertificateRequest(request)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w: %w", err, cairn.ErrInvalid)
	}
	return csr, nil
}

// NewRequest makes a key and the request for its certificate.
func NewRequest() (request, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if keyPEM, err = encodeKey(key); err != nil {
		return nil, nil, err
	}
	request, err = RequestFor(keyPEM)
	return request, keyPEM, err
}

// RequestFor makes the request for a key that exists already.
func RequestFor(keyPEM []byte) ([]byte, error) {
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return encodePEM(pemKey, der), err
}

func parseCert(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemCert {
		return nil, fmt.Errorf("no certificate in PEM: %w", cairn.ErrCorrupt)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, cairn.ErrCorrupt)
	}
	return cert, nil
}

func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemKey {
		return nil, fmt.Errorf("no key in PEM: %w", cairn.ErrCorrupt)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, cairn.ErrCorrupt)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a key of type %T: %w", key, cairn.ErrCorrupt)
	}
	return ec, nil
}
