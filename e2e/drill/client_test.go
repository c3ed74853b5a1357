//go:build e2e

package drill

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"cairn/internal/process"
)

const (
	bucket = "drill"

	// An SDK's standard retries, told apart by what was retried: backoff doubles from retryFirst to retryMax, with jitter.
	maxAttempts = 6
	retryFirst  = 100 * time.Millisecond
	retryMax    = time.Second
	// opTimeout ends an operation that would otherwise be waited for for ever: by then it has failed the drill.
	opTimeout = 30 * time.Second
)

// client makes single attempts at one gateway, with no retry inside.
func (n *node) client(t *testing.T) *minio.Core {
	t.Helper()
	dial := net.Dialer{Timeout: opTimeout}
	c, err := minio.NewCore(n.addr(s3Port), &minio.Options{MaxRetries: 1, Region: "us-east-1",
		Creds: credentials.NewStaticV4(process.AccessKey, process.SecretKey, ""),
		Transport: &http.Transport{DialContext: dial.DialContext, MaxIdleConnsPerHost: 64, DisableCompression: true,
			ResponseHeaderTimeout: opTimeout}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// verdict is what an attempt came to.
type verdict int

const (
	fine     verdict = iota
	slowDown         // 503: the client is to come back, and that counts as fine
	failed           // anything else that is no answer: another status, a broken connection, no answer in time
)

func judge(err error) verdict {
	switch {
	case err == nil:
		return fine
	case minio.ToErrorResponse(err).StatusCode == http.StatusServiceUnavailable:
		return slowDown
	}
	return failed
}

// isAbsent tells whether the answer was that there is no such object.
func isAbsent(err error) bool { return minio.ToErrorResponse(err).StatusCode == http.StatusNotFound }

// tries is how an operation went.
type tries struct {
	began, ended time.Time
	slowDowns    int
	errs         []error // of attempts, other than 503
	err          error   // of the last attempt, if none succeeded
}

// retry makes attempts until one succeeds, as an SDK does.
func retry(ctx context.Context, attempt func(context.Context) error) (r tries) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	r.began = time.Now()
	defer func() { r.ended = time.Now() }()
	wait := retryFirst
	for i := 1; ; i++ {
		r.err = attempt(ctx)
		switch judge(r.err) {
		case fine:
			return r
		case slowDown:
			r.slowDowns++
		case failed:
			r.errs = append(r.errs, r.err)
		}
		if i == maxAttempts || ctx.Err() != nil {
			return r
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
		wait = min(2*wait, retryMax)
	}
}

// content is the object's bytes: the same for the same seed.
func content(seed uint64, size int) []byte {
	b := make([]byte, size)
	var s [32]byte
	for i := range 8 {
		s[i] = byte(seed >> (8 * i))
	}
	rand.NewChaCha8(s).Read(b)
	return b
}

func putObject(ctx context.Context, c *minio.Core, key string, body []byte) error {
	return putWith(ctx, c, key, body, minio.PutObjectOptions{})
}

func putWith(ctx context.Context, c *minio.Core, key string, body []byte, o minio.PutObjectOptions) error {
	_, err := c.PutObject(ctx, bucket, key, bytes.NewReader(body), int64(len(body)), "", "", o)
	return err
}

// readObject writes what is served to h.
func readObject(ctx context.Context, c *minio.Core, key string, h io.Writer) error {
	r, _, _, err := c.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(h, r)
	return err
}

// getObject returns the hash of what is served.
func getObject(ctx context.Context, c *minio.Core, key string) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	err = readObject(ctx, c, key, h)
	return [sha256.Size]byte(h.Sum(nil)), err
}

// md5Of returns the MD5 of what is served, as an ETag has it.
func md5Of(ctx context.Context, c *minio.Core, key string) (string, error) {
	h := md5.New()
	err := readObject(ctx, c, key, h)
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

// listETags returns the ETags of up to a page of keys below a prefix.
func listETags(c *minio.Core, prefix string) (map[string]string, error) {
	page, err := c.ListObjectsV2(bucket, prefix, "", "", "", 1000)
	if err != nil {
		return nil, err
	}
	if page.IsTruncated {
		return nil, errors.New("a listing of a few keys is cut off")
	}
	found := map[string]string{}
	for _, o := range page.Contents {
		found[o.Key] = strings.Trim(o.ETag, `"`)
	}
	return found, nil
}
