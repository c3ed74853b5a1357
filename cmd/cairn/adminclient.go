package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cairn/admin"
)

const (
	envAdmin       = "CAIRN_ADMIN"
	defaultAdmin   = "http://127.0.0.1:9001"
	defaultData    = "data"
	adminTimeout   = 30 * time.Second
	maxAnswerBytes = 256 << 20 // `object show` of the largest object: 800,000 blobs
)

// adminFlags are the flags of commands that ask a running server.
type adminFlags struct {
	admin string
	data  string
}

func (f *adminFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.admin, "admin", "", "admin URL of the server (default $"+envAdmin+" or "+defaultAdmin+")")
	c.Flags().StringVar(&f.data, "data", defaultData, "the server's directory, for its saved root credentials")
}

// adminClient asks the admin API of one server.
type adminClient struct {
	base string
	cred credentials
	http *http.Client
}

func (f *adminFlags) client() (*adminClient, error) {
	base := f.admin
	if base == "" {
		base = os.Getenv(envAdmin)
	}
	if base == "" {
		base = defaultAdmin
	}
	cred, err := clientCredentials(f.data, os.Getenv)
	if err != nil {
		return nil, err
	}
	return &adminClient{base: strings.TrimRight(base, "/"), cred: cred, http: &http.Client{Timeout: adminTimeout}}, nil
}

// call sends one request and decodes the answer into v.
func (a *adminClient) call(ctx context.Context, method, path string, v any) error {
	return a.request(ctx, method, path, nil, v)
}

// send is call with a document.
func (a *adminClient) send(ctx context.Context, method, path string, document, v any) error {
	b, err := json.Marshal(document)
	if err != nil {
		return err
	}
	return a.request(ctx, method, path, bytes.NewReader(b), v)
}

func (a *adminClient) request(ctx context.Context, method, path string, body io.Reader, v any) error {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return err
	}
	req.SetBasicAuth(a.cred.AccessKey, a.cred.SecretKey)
	resp, err := a.http.Do(req)
	if err != nil {
		return fmt.Errorf("no server answers at %s (is it running? see --admin): %w", a.base, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", a.base, problemText(b, resp.Status))
	}
	return json.Unmarshal(b, v)
}

// problemText is what a person is told of an answer other than 2xx.
func problemText(body []byte, status string) string {
	var p admin.Problem
	if json.Unmarshal(body, &p) != nil || p.Detail == "" {
		return status
	}
	text := p.Detail
	if p.Hint != "" {
		text += " (" + p.Hint + ")"
	}
	return text
}

// objectPath escapes bucket and key so that the server gets them byte for byte.
func objectPath(bucket, key, version string, verify bool) string {
	q := url.Values{}
	if version != "" {
		q.Set("version", version)
	}
	if verify {
		q.Set("verify", "1")
	}
	p := "/api/v1/objects/" + url.PathEscape(bucket) + "/" + strings.ReplaceAll(url.PathEscape(key), "%2F", "/") + "/shards"
	if len(q) > 0 {
		p += "?" + q.Encode()
	}
	return p
}
