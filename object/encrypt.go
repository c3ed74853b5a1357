package object

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"cairn"
	"cairn/meta"
	"cairn/sse"
)

// EncryptionConfig is the name under which a bucket's record keeps its rule, a cairn.EncryptionRule in JSON.
const EncryptionConfig = "encryption"

// ErrNoEncryption: encryption was asked for, or is needed to read, and the store has no keys.
var ErrNoEncryption = rule(cairn.ErrInvalid, "the store has no encryption keys")

// ErrSSECRefused: the bucket takes no objects under clients' own keys.
var ErrSSECRefused = rule(cairn.ErrForbidden, "the bucket refuses SSE-C")

// Rule returns the encryption that applies to objects of a bucket whose request asks for nothing: its own rule, or the
// store's. The zero rule is plain bytes.
func (s *Store) Rule(b cairn.Bucket) (cairn.EncryptionRule, error) { return s.bucketRule(b) }

func (s *Store) bucketRule(b cairn.Bucket) (r cairn.EncryptionRule, err error) {
	text, ok := b.Configs[EncryptionConfig]
	if !ok {
		return s.cfg.Encryption, nil
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		// Plain bytes would be a broken promise: nothing is stored until the rule can be read.
		return r, fail("object.bucket rule", b.Name, fmt.Errorf("encryption: %v: %w", err, cairn.ErrCorrupt))
	}
	return r, nil
}

// seal is how one body is sealed on its way to the drives; a nil one leaves it plain.
type seal struct {
	dataKey []byte
	salt    []byte
	rec     cairn.Encryption
}

// newSeal makes the seal of a new object: what its client wishes, or what the bucket's rule says.
func (s *Store) newSeal(ctx context.Context, bucket string, want cairn.EncryptionWish) (*seal, error) {
	want, err := s.resolve(ctx, bucket, want)
	if err != nil || want.Scheme == "" {
		return nil, err
	}
	dataKey, rec, err := s.cfg.Keys.New(ctx, want)
	if err != nil {
		return nil, err
	}
	return sealWith(dataKey, rec), nil
}

func sealWith(dataKey []byte, rec cairn.Encryption) *seal {
	rec.Salt = sse.NewSalt()
	return &seal{dataKey: dataKey, salt: rec.Salt, rec: rec}
}

// resolve fills a wish that leaves things to the bucket.
func (s *Store) resolve(ctx context.Context, bucket string, want cairn.EncryptionWish) (cairn.EncryptionWish, error) {
	if s.cfg.Keys == nil {
		if want.Scheme != "" {
			return want, fail("object.encrypt", bucket, ErrNoEncryption)
		}
	}
	l, err := s.layoutOf(ctx, bucket)
	if err != nil {
		return want, err
	}
	switch {
	case want.Scheme == "":
		want.EncryptionRule = l.encryption
	case want.Scheme == cairn.SSEC && l.encryption.RefuseSSEC:
		return want, fail("object.encrypt", bucket, ErrSSECRefused)
	case want.Scheme == cairn.SSEKMS && want.KeyID == "" && l.encryption.Scheme == cairn.SSEKMS:
		want.KeyID = l.encryption.KeyID
	}
	if want.Scheme != "" && s.cfg.Keys == nil {
		return want, fail("object.encrypt", bucket, ErrNoEncryption)
	}
	return want, nil
}

// partSeal makes the seal of a part: its upload's data key, a salt of its own.
func (s *Store) partSeal(ctx context.Context, u cairn.Upload, customerKey []byte) (*seal, error) {
	if !u.Encryption.Sealed() {
		if customerKey != nil {
			return nil, fail("object.put part", u.Bucket+"/"+u.Key, sse.ErrNotApplicable)
		}
		return nil, nil
	}
	dataKey, err := s.openKey(ctx, u.Encryption, customerKey)
	if err != nil {
		return nil, err
	}
	return sealWith(dataKey, u.Encryption), nil
}

func (s *Store) openKey(ctx context.Context, rec cairn.Encryption, customerKey []byte) ([]byte, error) {
	if s.cfg.Keys == nil {
		return nil, fail("object.decrypt", "", ErrNoEncryption)
	}
	return s.cfg.Keys.Open(ctx, rec, customerKey)
}

func (s *seal) record() cairn.Encryption {
	if s == nil {
		return cairn.Encryption{}
	}
	return s.rec
}

func (s *seal) saltOf() []byte {
	if s == nil {
		return nil
	}
	return s.salt
}

func (s *seal) storedSize(size int64) int64 {
	if s == nil {
		return size
	}
	return cairn.SealedSize(size)
}

// small seals a body in memory, and hands the plain bytes to h.
func (s *seal) small(plain []byte, h io.Writer) ([]byte, error) {
	if _, err := h.Write(plain); err != nil || s == nil || len(plain) == 0 {
		return plain, err
	}
	return sse.Seal(s.dataKey, s.salt, plain)
}

// blobs puts the sealing into a put of blobs: between the body, whose plain bytes go to the tee, and the encoding.
func (s *seal) blobs(put cairn.BlobPut) (cairn.BlobPut, error) {
	if s == nil {
		return put, nil
	}
	sealer, err := sse.NewSealer(s.dataKey, s.salt, put.Body, put.Tee)
	if err != nil {
		return put, err
	}
	put.Body, put.Tee = sealer, nil
	if put.Size >= 0 {
		put.Size = cairn.SealedSize(put.Size)
	}
	return put, nil
}

// etag turns the MD5 of a body into its ETag. Under SSE-KMS and SSE-C it is not the MD5, as in S3: whoever may list must
// not be able to tell which known bytes a sealed object holds.
func (s *seal) etag(sum []byte) []byte {
	if s == nil || s.rec.Scheme == cairn.SSES3 {
		return sum
	}
	h := hmac.New(sha256.New, s.dataKey)
	h.Write([]byte("cairn etag 1\x00"))
	h.Write(sum)
	return h.Sum(nil)[:md5.Size]
}

// Unlock opens the data key of a sealed version, for the reads that follow; customerKey is the client's key, nil for none.
// Without it the first read opens the key. Errors: those of package sse, ErrNoEncryption.
func (o *Object) Unlock(ctx context.Context, customerKey []byte) error {
	rec := o.Version.Encryption
	if !rec.Sealed() {
		if customerKey != nil {
			return fail("object.unlock", o.Version.Bucket+"/"+o.Version.Key, sse.ErrNotApplicable)
		}
		return nil
	}
	if o.dataKey != nil && customerKey == nil {
		return nil
	}
	dataKey, err := o.store.openKey(ctx, rec, customerKey)
	o.dataKey = dataKey
	return err
}

// writeSealed opens a range body by body: a version that was uploaded in parts is one sealed body behind another.
func (o *Object) writeSealed(ctx context.Context, w io.Writer, rng byteRange) error {
	if err := o.Unlock(ctx, nil); err != nil {
		return err
	}
	v := &o.Version
	bodies := v.Parts
	if len(bodies) == 0 {
		bodies = []cairn.PartInfo{{Size: v.Size, Salt: v.Encryption.Salt}}
	}
	var plainAt, storedAt int64
	for i := range bodies {
		b := &bodies[i]
		from, to := max(rng.off, plainAt)-plainAt, min(rng.off+rng.length, plainAt+b.Size)-plainAt
		if from < to {
			if err := o.writeBody(ctx, w, b, storedAt, byteRange{from, to - from}); err != nil {
				return err
			}
		}
		plainAt += b.Size
		storedAt += cairn.SealedSize(b.Size)
	}
	return nil
}

// writeBody opens a range of one sealed body that begins at storedAt.
func (o *Object) writeBody(ctx context.Context, w io.Writer, b *cairn.PartInfo, storedAt int64, rng byteRange) error {
	opener, err := sse.NewOpener(o.dataKey, b.Salt, b.Size, rng.off, rng.length, w)
	if err != nil {
		return err
	}
	off, length := sse.Range(b.Size, rng.off, rng.length)
	if err := o.writeStored(ctx, opener, byteRange{storedAt + off, length}); err != nil {
		return err
	}
	return opener.Close()
}

// pipe reads a range of an object as a stream, for a body that is to be stored anew. stop must be called.
func (o *Object) pipe(ctx context.Context, rng byteRange) (r io.Reader, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pw.CloseWithError(o.WriteRange(ctx, pw, rng.off, rng.length)) // nil is the end of the stream
	}()
	return pr, func() {
		cancel()
		pr.CloseWithError(io.ErrClosedPipe)
		<-done
	}
}

// copyPartBytes is CopyPart where source or upload is sealed: the bytes are opened and sealed anew.
func (s *Store) copyPartBytes(ctx context.Context, r CopyPart, u cairn.Upload, src *Object, rng byteRange) (cairn.Part, error) {
	if err := src.Unlock(ctx, r.SourceKey); err != nil {
		return cairn.Part{}, sourceKeyError{err}
	}
	body, stop := src.pipe(ctx, rng)
	defer stop()
	return s.PutPart(ctx, PutPart{Bucket: r.Bucket, Key: r.Key, Upload: u.ID, Number: r.Number, Body: body, Size: rng.length,
		CustomerKey: r.CustomerKey})
}

// sourceKeyError marks an error about the key of a copy's source, not of its target.
type sourceKeyError struct{ error }

// Unwrap returns the error.
func (e sourceKeyError) Unwrap() error { return e.error }

// IsSourceKey tells whether an error of Copy or CopyPart is about the source's key.
func IsSourceKey(err error) bool {
	var e sourceKeyError
	return errors.As(err, &e)
}

// recast gives the copy of a sealed version its record, without moving bytes: the source's own if target and source are
// sealed alike, else the data key wrapped anew. moved is true if the bytes must be written anew: one of both is plain.
func (s *Store) recast(ctx context.Context, r Copy, src *Object) (rec cairn.Encryption, moved bool, err error) {
	from := src.Version.Encryption
	want, err := s.resolve(ctx, r.Bucket, r.Encrypt)
	if err != nil {
		return rec, false, err
	}
	if err := src.Unlock(ctx, r.SourceKey); err != nil && (from.Scheme == cairn.SSEC || r.SourceKey != nil || want.Scheme != from.Scheme) {
		return rec, false, sourceKeyError{err}
	}
	if (want.Scheme == "") != !from.Sealed() {
		return rec, true, nil
	}
	alike := want.Scheme == from.Scheme && want.Scheme != cairn.SSEC && want.Context == from.Context &&
		want.BucketKey == from.BucketKey && (want.Scheme != cairn.SSEKMS || want.KeyID == from.KeyID)
	if alike || want.Scheme == "" {
		return from, false, nil
	}
	if src.dataKey == nil {
		return rec, false, fail("object.copy", r.From.Bucket+"/"+r.From.Key, cairn.ErrUnavailable)
	}
	rec, err = s.cfg.Keys.Wrap(ctx, want, src.dataKey)
	rec.Salt = from.Salt
	return rec, false, err
}

// copyBytes is a Copy that opens or seals: the bytes are read and stored anew as one body, as a put of them would be.
func (s *Store) copyBytes(ctx context.Context, r Copy, src *Object, what Attributes) (cairn.Version, error) {
	seal, err := s.newSeal(ctx, r.Bucket, r.Encrypt)
	if err != nil {
		return cairn.Version{}, err
	}
	from := &src.Version
	algo := r.Checksum
	if algo == "" && len(from.Checksums) > 0 {
		algo = from.Checksums[0].Algo
	}
	body1, stop := src.pipe(ctx, byteRange{0, from.Size})
	defer stop()
	st, err := s.ingest(ctx, body{r: body1, size: from.Size, want: Digests{Checksum: cairn.Checksum{Algo: algo}}, seal: seal,
		owner: cairn.Owner{Bucket: r.Bucket, Key: r.Key}, inlineMax: s.cfg.InlineMax})
	if err != nil {
		return cairn.Version{}, err
	}
	v, err := s.commit(ctx, meta.PutVersion{
		Version: cairn.Version{
			Bucket: r.Bucket, Key: r.Key, Owner: r.Owner,
			Size: st.size, ETag: st.etag, Checksums: []cairn.Checksum{st.checksum},
			Headers: what.Headers, Tags: what.Tags, Class: what.Class, Lock: what.Lock, ACL: what.ACL,
			Encryption: seal.record(), Layout: st.layout,
		},
		NewBlobs: st.newBlobs,
		If:       r.If,
	})
	if err == nil {
		s.counters.copies.Add(1)
	}
	return v, err
}

// CheckRule tells whether a rule can be served, by making a data key under it. Errors: ErrNoEncryption, those of package sse.
func (s *Store) CheckRule(ctx context.Context, r cairn.EncryptionRule) error {
	if s.cfg.Keys == nil {
		return fail("object.check rule", "", ErrNoEncryption)
	}
	_, _, err := s.cfg.Keys.New(ctx, cairn.EncryptionWish{EncryptionRule: r})
	return err
}

// CheckKey tells whether a client's key opens a version: ErrWrongKey and ErrNotApplicable of package sse.
func (s *Store) CheckKey(ctx context.Context, rec cairn.Encryption, customerKey []byte) error {
	if !rec.Sealed() {
		return fail("object.check key", "", sse.ErrNotApplicable)
	}
	_, err := s.openKey(ctx, rec, customerKey)
	return err
}
