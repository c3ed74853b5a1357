package s3api

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"cairn"
	"cairn/object"
	"cairn/sse"
)

// The headers of server-side encryption, in canonical form; customerPrefix comes with Algorithm, Key and Key-Md5.
const (
	ssePrefix       = "X-Amz-Server-Side-Encryption"
	sseKMSKey       = ssePrefix + "-Aws-Kms-Key-Id"
	sseContext      = ssePrefix + "-Context"
	sseBucketKey    = ssePrefix + "-Bucket-Key-Enabled"
	customerPrefix  = ssePrefix + "-Customer-"
	sourceKeyPrefix = "X-Amz-Copy-Source-Server-Side-Encryption-Customer-"
)

func badEncryption(message, name, value string) error {
	return errInvalidArgument.with(message, field{"ArgumentName", strings.ToLower(name)}, field{"ArgumentValue", value})
}

// encryptionWish reads what a request that stores an object asks for.
func (c *call) encryptionWish() (want cairn.EncryptionWish, err error) {
	if want.CustomerKey, err = c.customerKey(customerPrefix); err != nil {
		return want, err
	}
	algo, keyID := c.header(ssePrefix), c.header(sseKMSKey)
	if want.CustomerKey != nil {
		if algo != "" || keyID != "" {
			return want, badEncryption("Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
				ssePrefix, algo)
		}
		want.Scheme = cairn.SSEC
		return want, nil
	}
	_, given := c.r.Header[ssePrefix]
	switch cairn.EncryptionScheme(algo) {
	case "":
		if given {
			return want, badEncryption("The encryption method specified is not supported", ssePrefix, algo)
		}
	case cairn.SSES3, cairn.SSEKMS:
		want.Scheme = cairn.EncryptionScheme(algo)
	case "aws:kms:dsse":
		return want, errNotImplemented.with("Dual-layer encryption is not available: nothing was stored.", field{"Header", "x-amz-server-side-encryption"})
	default:
		return want, badEncryption("The encryption method specified is not supported", ssePrefix, algo)
	}
	return want, c.kmsWish(&want, keyID)
}

// kmsWish reads the headers that belong to SSE-KMS only.
func (c *call) kmsWish(want *cairn.EncryptionWish, keyID string) error {
	encoded, bucketKey := c.header(sseContext), c.header(sseBucketKey)
	if want.Scheme != cairn.SSEKMS {
		for name, value := range map[string]string{sseKMSKey: keyID, sseContext: encoded} {
			if value != "" {
				return badEncryption("Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms",
					name, value)
			}
		}
		return nil
	}
	want.KeyID = keyID
	if encoded != "" {
		text, err := base64.StdEncoding.DecodeString(encoded)
		var pairs map[string]string
		if err == nil {
			err = json.Unmarshal(text, &pairs)
		}
		if err != nil {
			return badEncryption("The header 'x-amz-server-side-encryption-context' shall be Base64-encoded UTF-8 string holding JSON "+
				"with the encryption context key-value pairs", sseContext, encoded)
		}
		want.Context = encoded
	}
	switch strings.ToLower(bucketKey) {
	case "", "false":
	case "true":
		want.BucketKey = true
	default:
		return badEncryption("Bucket key enabled must be true or false.", sseBucketKey, bucketKey)
	}
	return nil
}

// customerKey reads a client's own key: nil if the request brings none. The key is never logged or stored.
func (c *call) customerKey(prefix string) ([]byte, error) {
	algo, key, sum := c.header(prefix+"Algorithm"), c.header(prefix+"Key"), c.header(prefix+"Key-Md5")
	const requests = "Requests specifying Server Side Encryption with Customer provided keys must "
	switch {
	case algo == "" && key == "" && sum == "":
		return nil, nil
	case c.r.TLS == nil && !c.srv.cfg.PlainSSEC:
		return nil, errInvalidRequest.with(requests + "be made over a secure connection.")
	case algo == "":
		return nil, badEncryption(requests+"provide a valid encryption algorithm.", prefix+"Algorithm", "")
	case algo != string(cairn.SSES3):
		return nil, newError(http.StatusBadRequest, "InvalidEncryptionAlgorithmError",
			"The Encryption request you specified is not valid. The valid value is AES256.")
	case key == "":
		return nil, badEncryption(requests+"provide an appropriate secret key.", prefix+"Key", "")
	case sum == "":
		return nil, badEncryption(requests+"provide the client calculated MD5 of the secret key.", prefix+"Key-MD5", "")
	}
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(raw) != sse.KeyBytes {
		return nil, errInvalidArgument.with("The secret key was invalid for the specified algorithm.",
			field{"ArgumentName", strings.ToLower(prefix) + "key"})
	}
	if got := md5.Sum(raw); base64String(got[:]) != sum {
		return nil, badEncryption("The calculated MD5 hash of the key did not match the hash that was provided.", prefix+"Key-MD5", sum)
	}
	return raw, nil
}

// noEncryptionHeaders refuses what only requests that store an object may ask for.
func (c *call) noEncryptionHeaders() error {
	for _, name := range [...]string{ssePrefix, sseKMSKey, sseContext} {
		if v := c.header(name); v != "" {
			return badEncryption(strings.ToLower(name)+" header is not supported for this operation.", name, v)
		}
	}
	return nil
}

// unlock checks the key of a read, before anything is told of the object.
func (c *call) unlock(o *object.Object) error {
	if err := c.noEncryptionHeaders(); err != nil {
		return err
	}
	key, err := c.customerKey(customerPrefix)
	if err != nil {
		return err
	}
	if key == nil && o.Version.Encryption.Scheme != cairn.SSEC {
		return nil // the first byte that is read opens what is sealed
	}
	return o.Unlock(c.r.Context(), key)
}

// unlockVersion is unlock for operations that tell of a version without reading it.
func (c *call) unlockVersion(v *cairn.Version) error {
	key, err := c.customerKey(customerPrefix)
	switch {
	case err != nil:
		return err
	case key == nil && v.Encryption.Scheme == cairn.SSEC:
		return sse.ErrNeedsKey
	case key == nil:
		return nil
	}
	return c.srv.cfg.Objects.CheckKey(c.r.Context(), v.Encryption, key)
}

// showEncryption sets the headers that tell how an object is sealed.
func (c *call) showEncryption(e *cairn.Encryption) {
	switch e.Scheme {
	case "":
	case cairn.SSEC:
		c.set(customerPrefix+"Algorithm", string(cairn.SSES3))
		c.set(customerPrefix+"Key-Md5", c.header(customerPrefix+"Key-Md5"))
	default:
		c.set(ssePrefix, string(e.Scheme))
		if e.KeyID != "" {
			c.set(sseKMSKey, e.KeyID)
		}
		if e.Context != "" {
			c.set(sseContext, e.Context)
		}
		if e.BucketKey {
			c.set(sseBucketKey, "true")
		}
	}
}

// encryptionError turns what package sse says into S3's words.
func encryptionError(err error) *apiError {
	switch {
	case errors.Is(err, sse.ErrWrongKey):
		return errAccessDenied
	case errors.Is(err, sse.ErrNeedsKey):
		return errInvalidRequest.with("The object was stored using a form of Server Side Encryption. The correct parameters must be " +
			"provided to retrieve the object.")
	case errors.Is(err, sse.ErrNotApplicable):
		return errInvalidRequest.with("The encryption parameters are not applicable to this object.")
	case errors.Is(err, sse.ErrUnknownKey):
		return newError(http.StatusBadRequest, "KMS.NotFoundException", "The key that the request or the bucket names does not exist in the key service.")
	case errors.Is(err, sse.ErrNoKMS):
		return errNotImplemented.with("No key service is configured, so SSE-KMS is not available.", field{"Header", "x-amz-server-side-encryption"})
	case errors.Is(err, object.ErrNoEncryption):
		return errNotImplemented.with("Server-side encryption is not available: this store has no keys.")
	case errors.Is(err, object.ErrSSECRefused):
		return errAccessDenied.with("The bucket blocks server-side encryption with customer-provided keys (SSE-C).")
	}
	return nil
}

// partKeyError is encryptionError for the key of an upload, which every part must bring again.
func partKeyError(err error) error {
	switch {
	case object.IsSourceKey(err):
		return err
	case errors.Is(err, sse.ErrNeedsKey), errors.Is(err, sse.ErrNotApplicable):
		return errInvalidRequest.with("The multipart upload initiate requested encryption. Subsequent part requests must include the " +
			"appropriate encryption parameters.")
	case errors.Is(err, sse.ErrWrongKey):
		return errInvalidRequest.with("The provided encryption parameters did not match the ones used originally.")
	}
	return err
}

// EncryptionStore is the part of Objects that knows rules and keys.
type EncryptionStore interface {
	// Rule is what applies to a bucket's objects whose request asks for nothing.
	Rule(b cairn.Bucket) (cairn.EncryptionRule, error)
	// CheckRule tells whether a rule can be served: ErrNoEncryption, and what package sse says.
	CheckRule(ctx context.Context, r cairn.EncryptionRule) error
	// CheckKey tells whether a client's key opens a version.
	CheckKey(ctx context.Context, rec cairn.Encryption, customerKey []byte) error
}
