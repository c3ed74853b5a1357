package cairn

// EncryptionScheme says who keeps the key under which an object's data key is wrapped, under S3's names.
type EncryptionScheme string

// The schemes. The zero value is no encryption.
const (
	SSES3  EncryptionScheme = "AES256"  // the store keeps it
	SSEKMS EncryptionScheme = "aws:kms" // a key service keeps it, under a name that the client may choose
	SSEC   EncryptionScheme = "SSE-C"   // the client sends it with every request
)

// SealedBlockBytes is how many plain bytes one sealed block holds, and SealedTagBytes what each grows by.
const (
	SealedBlockBytes = 64 << 10
	SealedTagBytes   = 16
)

// SealedSize is how many bytes a body of size plain bytes takes when it is sealed.
func SealedSize(size int64) int64 {
	return size + (size+SealedBlockBytes-1)/SealedBlockBytes*SealedTagBytes
}

// Encryption is the committed record of how a version's bytes are sealed: all that is needed to open them, but for the key
// that Wrapped is wrapped under. The zero value means plain bytes. It is never changed in place, since versions share it.
type Encryption struct {
	Scheme  EncryptionScheme `json:"scheme,omitempty"`
	KeyID   string           `json:"key_id,omitempty"`  // which master key; none for SSE-C
	Wrapped []byte           `json:"wrapped,omitempty"` // the data key
	Salt    []byte           `json:"salt,omitempty"`    // of the bytes of a version that was not uploaded in parts
	Context string           `json:"context,omitempty"` // SSE-KMS: the client's encryption context, as received
	// BucketKey is S3's flag of that name: it is shown, and changes nothing here, where data keys are cheap.
	BucketKey bool `json:"bucket_key,omitempty"`
}

// Sealed tells whether the bytes are encrypted.
func (e *Encryption) Sealed() bool { return e.Scheme != "" }

// EncryptionRule is what a bucket, or the whole store, applies to objects whose request asks for nothing.
type EncryptionRule struct {
	Scheme    EncryptionScheme `json:"scheme,omitempty"`
	KeyID     string           `json:"key_id,omitempty"`
	BucketKey bool             `json:"bucket_key,omitempty"`
	// RefuseSSEC: objects under clients' own keys are refused (S3's BlockedEncryptionTypes).
	RefuseSSEC bool `json:"refuse_sse_c,omitempty"`
}

// EncryptionWish is what one request asks for. The zero value asks for nothing: the rule of the bucket applies.
type EncryptionWish struct {
	EncryptionRule
	Context     string
	CustomerKey []byte // SSE-C: 32 bytes, never stored
}

// StoredSize is how many bytes of a layout size plain bytes take under this record.
func (e *Encryption) StoredSize(size int64) int64 {
	if e.Sealed() {
		return SealedSize(size)
	}
	return size
}
