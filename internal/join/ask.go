package join

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"

	"cairn"
	"cairn/internal/rpc"
)

// Ask is what a new node does to get in.
type Ask struct {
	Addr  string // of a node of the cluster, host:port
	Token Token
	Node  cairn.Node
	// KeyPEM is the node's key. It was written down before, so that the node can ask again.
	KeyPEM []byte
	// Listener is where the node is called back: at the address that it advertises. Do leaves it open.
	Listener net.Listener
	Now      func() time.Time // default: time.Now
}

const (
	askTime       = 30 * time.Second
	maxAnswer     = 16 << 20 // ten thousand nodes
	handshakeTime = 5 * time.Second
)

// Do asks, and returns the answer with its certificate checked. Errors: what the cluster says, with its kind; ErrForbidden
// if the server is not of the token's cluster; ErrUnavailable.
func (a Ask) Do(ctx context.Context) (answer Answer, err error) {
	if a.Now == nil {
		a.Now = time.Now
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	csr, err := rpc.RequestFor(a.KeyPEM)
	if err != nil {
		return answer, err
	}
	own, err := selfSigned(a.KeyPEM, a.Now())
	if err != nil {
		return answer, err
	}
	stop := beCalledBack(a.Listener, own)
	defer stop()
	body, err := json.Marshal(Request{Secret: a.Token.Secret[:], Node: a.Node, CSR: csr, Time: a.Now()})
	if err != nil {
		return answer, err
	}
	if answer, err = a.post(ctx, body); err != nil {
		return answer, &cairn.Error{Op: "join", Subject: a.Addr, Err: err}
	}
	if _, err := rpc.NewCredentials(answer.Authority, answer.Cert, a.KeyPEM); err != nil {
		return Answer{}, &cairn.Error{Op: "join", Subject: a.Addr, Err: fmt.Errorf("the answer: %w", err)}
	}
	return answer, nil
}

func (a Ask) post(ctx context.Context, body []byte) (answer Answer, err error) {
	transport := &http.Transport{TLSClientConfig: a.pinned(), DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+a.Addr+Path, bytes.NewReader(body))
	if err != nil {
		return answer, fmt.Errorf("%w: %w", err, cairn.ErrInvalid)
	}
	r, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		if errors.Is(err, cairn.ErrForbidden) {
			return answer, err
		}
		return answer, fmt.Errorf("%w; check --join, and that a node of the cluster runs there: %w", err, cairn.ErrUnavailable)
	}
	defer r.Body.Close()
	if err := rpc.ReadError(r); err != nil {
		return answer, err
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, maxAnswer)).Decode(&answer); err != nil {
		return answer, fmt.Errorf("answer: %w: %w", err, cairn.ErrUnavailable)
	}
	return answer, nil
}

// pinned trusts the authority whose fingerprint is in the token, and nobody else: before that is proven nothing is sent.
func (a Ask) pinned() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
		InsecureSkipVerify: true, // nodes have no host names, and the authority is not known yet: VerifyConnection does it all
		VerifyConnection: func(s tls.ConnectionState) error {
			return rpc.VerifyPinned(s.PeerCertificates, a.Token.Authority, a.Token.Cluster, a.Now())
		}}
}

// selfSigned is a certificate for the short time in which the node has none of the cluster's: it shows the key.
func selfSigned(keyPEM []byte, now time.Time) (cert tls.Certificate, err error) {
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return cert, fmt.Errorf("no key in PEM: %w", cairn.ErrCorrupt)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return cert, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return cert, fmt.Errorf("a key of type %T: %w", key, cairn.ErrCorrupt)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, ec.Public(), ec)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: ec}, err
}

// beCalledBack answers TLS handshakes on l until stop, which leaves l open.
func beCalledBack(l net.Listener, cert tls.Certificate) (stop func()) {
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
	stopping := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				select {
				case <-stopping:
					return
				default:
					continue
				}
			}
			// One after the other: only the cluster's node has a reason to call.
			c.SetDeadline(time.Now().Add(handshakeTime))
			tls.Server(c, conf).Handshake() // who fails it learns nothing
			c.Close()
		}
	})
	return func() {
		close(stopping)
		d, ok := l.(interface{ SetDeadline(time.Time) error })
		if !ok {
			l.Close()
		} else {
			d.SetDeadline(time.Unix(1, 0))
		}
		wg.Wait()
		if ok {
			d.SetDeadline(time.Time{})
		}
	}
}
