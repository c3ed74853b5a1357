package s3api

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// secure gives a frontend a certificate, and returns the pool that trusts it.
func secure(t *testing.T, c *Config) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	c.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return pool
}

// protocols notes which protocols answers came over.
type protocols struct {
	http.RoundTripper
	mu   sync.Mutex
	seen map[string]int
}

func (p *protocols) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := p.RoundTripper.RoundTrip(r)
	if err == nil {
		p.mu.Lock()
		p.seen[resp.Proto]++
		p.mu.Unlock()
	}
	return resp, err
}

func TestHTTP2(t *testing.T) {
	var pool *x509.CertPool
	r := newRig(t, func(c *Config) { pool = secure(t, c) })
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(tr.CloseIdleConnections)
	seen := &protocols{RoundTripper: tr, seen: map[string]int{}}
	c := s3.New(s3.Options{BaseEndpoint: aws.String("https://" + r.addr), Region: "us-east-1", UsePathStyle: true,
		HTTPClient: &http.Client{Transport: seen},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, nil
		})})
	var wg sync.WaitGroup
	for i := range 60 { // streams of one connection, some with more than a stream's buffer
		wg.Go(func() {
			key, body := "k"+itoa(int64(i))+"//../ +%", testBytes(i*i*900)
			if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: &key, Body: bytes.NewReader(body)}); err != nil {
				t.Errorf("%s: put: %v", key, err)
				return
			}
			out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: &key})
			if err != nil {
				t.Errorf("%s: get: %v", key, err)
				return
			}
			defer out.Body.Close()
			if got, err := io.ReadAll(out.Body); err != nil || !bytes.Equal(got, body) {
				t.Errorf("%s: got %d bytes of %d, %v", key, len(got), len(body), err)
			}
		})
	}
	wg.Wait()
	// Over TLS a client's own key needs no flag.
	k := customerOf(5)
	if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: aws.String("sse-c"), Body: strings.NewReader("x"),
		SSECustomerAlgorithm: k.algo, SSECustomerKey: k.key, SSECustomerKeyMD5: k.sum}); err != nil {
		t.Errorf("SSE-C over TLS: %v", err)
	}
	if len(seen.seen) != 1 || seen.seen["HTTP/2.0"] == 0 {
		t.Errorf("answers came over %v, want HTTP/2.0 only", seen.seen)
	}
	if _, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String("absent")}); sdkCode(err) != "NoSuchKey" {
		t.Errorf("an error over HTTP/2: %v", err)
	}
}

// Below TLS nobody sees the framing, so a chunked request is the last one of its connection.
func TestChunkedOverTLSClosesItsConnection(t *testing.T) {
	var pool *x509.CertPool
	r := newRig(t, func(c *Config) { pool = secure(t, c) })
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, NextProtos: []string{"http/1.1"}}}
	t.Cleanup(tr.CloseIdleConnections)
	for _, chunked := range []bool{false, true} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://"+r.addr+"/bucket/k", io.LimitReader(strings.NewReader("x"), 1))
		if err != nil {
			t.Fatal(err)
		}
		if !chunked {
			req.ContentLength = 1
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden || resp.Close != chunked {
			t.Errorf("chunked %v: status %d, connection closed %v", chunked, resp.StatusCode, resp.Close)
		}
	}
}

func TestSSECNeedsTLS(t *testing.T) {
	r := newRig(t, nil)
	s := schemes[4]
	if err := s.put(t.Context(), r.sdk(), "k", []byte("x")); sdkCode(err) != "InvalidRequest" {
		t.Errorf("a client's key over plain HTTP: %v, want InvalidRequest", err)
	}
	if keys := r.keys("bucket"); len(keys) != 0 {
		t.Errorf("stored all the same: %q", keys)
	}
}
