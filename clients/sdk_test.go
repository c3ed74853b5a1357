//go:build clients

package clients

import (
	"bytes"
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/minio-go/v7"
	miniocreds "github.com/minio/minio-go/v7/pkg/credentials"

	"cairn/internal/process"
)

func TestGoSDK(t *testing.T) {
	b := newBench(t, "aws-sdk-go-v2")
	ctx, bucket := t.Context(), aws.String("bucket")
	c := s3.New(s3.Options{BaseEndpoint: aws.String(b.server.Endpoint()), Region: region, UsePathStyle: true,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: process.AccessKey, SecretAccessKey: process.SecretKey}, nil
		})})
	if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	get := func(key, rng string) ([]byte, error) {
		in := &s3.GetObjectInput{Bucket: bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled}
		if rng != "" {
			in.Range = &rng
		}
		out, err := c.GetObject(ctx, in)
		if err != nil {
			return nil, err
		}
		defer out.Body.Close()
		return io.ReadAll(out.Body)
	}
	for _, key := range keys(t) {
		b.check("key "+brief(key), func() error {
			if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: strings.NewReader(key)}); err != nil {
				return err
			}
			return equalBytes(get(key, ""))([]byte(key))
		})
	}
	tm := transfermanager.New(c)
	for _, n := range sizes {
		b.check(fmt.Sprintf("transfer manager, %d bytes", n), func() error {
			want := body(n)
			if _, err := tm.UploadObject(ctx, &transfermanager.UploadObjectInput{Bucket: bucket, Key: aws.String("sized"), Body: bytes.NewReader(want)}); err != nil {
				return err
			}
			out, err := tm.GetObject(ctx, &transfermanager.GetObjectInput{Bucket: bucket, Key: aws.String("sized")})
			if err != nil {
				return err
			}
			return equalBytes(io.ReadAll(out.Body))(want)
		})
	}
	b.check("ranges", func() error {
		want := body(10_000)
		if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("ranges"), Body: bytes.NewReader(want)}); err != nil {
			return err
		}
		for header, part := range map[string][]byte{"bytes=0-0": want[:1], "bytes=10-19": want[10:20], "bytes=9990-": want[9990:],
			"bytes=-7": want[9993:], "bytes=9000-99999": want[9000:], "bytes=-99999": want} {
			if err := equalBytes(get("ranges", header))(part); err != nil {
				return fmt.Errorf("%s: %w", header, err)
			}
		}
		return nil
	})
	b.check("what is listed comes parsed and sorted", func() error {
		var got []string
		for p := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: bucket, MaxKeys: aws.Int32(5)}); p.HasMorePages(); {
			page, err := p.NextPage(ctx)
			if err != nil {
				return err
			}
			for _, o := range page.Contents {
				got = append(got, *o.Key)
			}
		}
		want := append(keys(t), "sized", "ranges")
		if slices.Sort(want); !slices.Equal(got, want) {
			return fmt.Errorf("got %d keys %.200q, want %d", len(got), got, len(want))
		}
		return nil
	})
}

func TestMinioGo(t *testing.T) {
	b := newBench(t, "minio-go")
	ctx := t.Context()
	c, err := minio.New(b.server.S3Addr, &minio.Options{Creds: miniocreds.NewStaticV4(process.AccessKey, process.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MakeBucket(ctx, "bucket", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	get := func(key string) ([]byte, error) {
		o, err := c.GetObject(ctx, "bucket", key, minio.GetObjectOptions{})
		if err != nil {
			return nil, err
		}
		defer o.Close()
		return io.ReadAll(o)
	}
	for _, key := range keys(t) {
		b.check("key "+brief(key), func() error {
			if _, err := c.PutObject(ctx, "bucket", key, strings.NewReader(key), int64(len(key)), minio.PutObjectOptions{}); err != nil {
				return err
			}
			return equalBytes(get(key))([]byte(key))
		})
	}
	for _, n := range sizes {
		for _, size := range []int64{int64(n), -1} {
			b.check(fmt.Sprintf("%d bytes, told as %d", n, size), func() error {
				want := body(n)
				if _, err := c.PutObject(ctx, "bucket", "sized", bytes.NewReader(want), size, minio.PutObjectOptions{PartSize: 16 << 20}); err != nil {
					return err
				}
				return equalBytes(get("sized"))(want)
			})
		}
	}
	b.check("compose, copy, stat, tags, remove", func() error {
		if _, err := c.ComposeObject(ctx, minio.CopyDestOptions{Bucket: "bucket", Object: "composed"},
			minio.CopySrcOptions{Bucket: "bucket", Object: "sized"}, minio.CopySrcOptions{Bucket: "bucket", Object: "plain"}); err != nil {
			return err
		}
		st, err := c.StatObject(ctx, "bucket", "composed", minio.StatObjectOptions{})
		if err != nil || st.Size != 64<<20+1+5 {
			return fmt.Errorf("composed object of %d bytes, %v", st.Size, err)
		}
		gone := make(chan minio.ObjectInfo, 100)
		for o := range c.ListObjects(ctx, "bucket", minio.ListObjectsOptions{Recursive: true}) {
			if o.Err != nil {
				return o.Err
			}
			gone <- o
		}
		close(gone)
		for e := range c.RemoveObjects(ctx, "bucket", gone, minio.RemoveObjectsOptions{}) {
			return e.Err
		}
		return c.RemoveBucket(ctx, "bucket")
	})
}

// equalBytes compares what a read returned with what was wanted.
func equalBytes(got []byte, err error) func(want []byte) error {
	return func(want []byte) error {
		if err == nil && md5.Sum(got) != md5.Sum(want) {
			err = fmt.Errorf("got %d bytes that differ from the %d wanted", len(got), len(want))
		}
		return err
	}
}
