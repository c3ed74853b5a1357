package object

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"cairn"
)

// Limits of S3 (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html; the object size is the one in force
// since December 2025).
const (
	MaxKeyBytes    = 1024
	MaxPutBytes    = 5 << 30  // one PUT or one part
	MinPartBytes   = 5 << 20  // every part of an upload but the last
	MaxParts       = 10_000   // of one upload
	MaxObjectBytes = 50 << 40 // of one object, however it was uploaded
)

// checkBucketName applies the naming rules of general purpose buckets
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html), and asks that every label between dots
// be a DNS label, since buckets are also reached as host names.
func checkBucketName(op, name string) error {
	if validBucketName(name) {
		return nil
	}
	return fail(op, name, ErrBucketName)
}

func validBucketName(name string) bool {
	if len(name) < 3 || len(name) > 63 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return false
	}
	return !reservedBucketName(name)
}

// reservedBucketName knows the prefixes and suffixes that S3 keeps for its own names.
func reservedBucketName(name string) bool {
	for _, prefix := range []string{"xn--", "sthree-", "amzn-s3-demo-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	for _, suffix := range []string{"-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// checkKey refuses what S3 cannot name. Everything else is a key as it stands: no cleaning of slashes or dots.
func checkKey(op, bucket, key string) error {
	switch {
	case len(key) > MaxKeyBytes:
		return fail(op, bucket, ErrKeyTooLong)
	case key == "" || !utf8.ValidString(key) || strings.IndexByte(key, 0) >= 0:
		return fail(op, bucket, ErrKey)
	}
	return nil
}

func checkPartNumber(op, subject string, n int) error {
	if n < 1 || n > MaxParts {
		return fail(op, subject, ErrPartNumber)
	}
	return nil
}

// checkSize refuses bodies that S3 would refuse; -1 means unknown, and is checked while the body is read.
func checkSize(op, subject string, size int64) error {
	if size > MaxPutBytes {
		return fail(op, subject, ErrEntityTooLarge)
	}
	if size < -1 {
		return fail(op, subject, cairn.ErrInvalid)
	}
	return nil
}
