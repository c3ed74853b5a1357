package peer

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"time"
)

// Client asks peers. Safe for concurrent use.
type Client struct {
	http   *http.Client
	scheme string
}

const connsPerPeer = 32

// NewClient makes a client; with a TLS configuration it speaks TLS only.
func NewClient(cfg *tls.Config) *Client {
	c := &Client{scheme: "http", http: &http.Client{Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: Silence}).DialContext,
		TLSClientConfig:     cfg,
		TLSHandshakeTimeout: Silence,
		MaxConnsPerHost:     connsPerPeer,
		MaxIdleConnsPerHost: connsPerPeer,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true,
		ReadBufferSize:      64 << 10,
	}}}
	if cfg != nil {
		c.scheme = "https"
	}
	return c
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Get asks a peer for bytes, puts them into buf, and tells arrived of every piece whose checksum is right. Errors: ErrSilent,
// ErrRefused, others of a broken answer; what arrived was told of is good all the same.
func (c *Client) Get(ctx context.Context, peer string, q Request, buf []byte, arrived func(n int)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(Silence, func() { cancel(ErrSilent) })
	defer silent.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.scheme+"://"+peer+Path+"?"+q.values().Encode(), nil)
	if err != nil {
		return err
	}
	req.Header.Set(proofHead, q.Proof)
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrSilent, peer, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return fmt.Errorf("%w: %s: %s: %s", ErrRefused, peer, resp.Status, text)
	}
	for done := int64(0); done < q.N; {
		n, err := readFrame(resp.Body, buf[done:q.N], func() { silent.Reset(Silence) })
		if err != nil {
			if cause := context.Cause(ctx); cause == ErrSilent {
				err = cause
			}
			return fmt.Errorf("%s: %w", peer, err)
		}
		if n > 0 {
			arrived(n)
		}
		done += int64(n)
	}
	return nil
}

// readFrame reads one frame into the begin of p. heard is called whenever something came.
func readFrame(r io.Reader, p []byte, heard func()) (int, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, err
	}
	heard()
	length := binary.LittleEndian.Uint32(head[:])
	if length&refusal != 0 {
		text, err := io.ReadAll(io.LimitReader(r, min(int64(length&^refusal), maxRefusal)))
		return 0, errors.Join(fmt.Errorf("%w: %s", ErrRefused, text), err)
	}
	n := int(length)
	if n > len(p) || n > FrameBytes {
		return 0, errFrame
	}
	for have := 0; have < n; {
		k, err := r.Read(p[have:n])
		if have += k; k > 0 {
			heard()
		}
		if err != nil && have < n {
			return 0, err
		}
	}
	if crc32.Checksum(p[:n], castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		return 0, errFrame
	}
	return n, nil
}
