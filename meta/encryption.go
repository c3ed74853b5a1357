package meta

import (
	"slices"

	"cairn"

	"google.golang.org/protobuf/encoding/protowire"
)

// Where a row keeps how bytes are sealed.
const (
	uploadEncryption protowire.Number = 41
	partSalt         protowire.Number = 42
	verEncryption    protowire.Number = 43
)

// putEncryption writes a record as a nested message; plain bytes have none.
func putEncryption(b []byte, field protowire.Number, e *cairn.Encryption) []byte {
	if !e.Sealed() {
		return b
	}
	msg := putBytes(nil, 1, string(e.Scheme))
	msg = putBytes(msg, 2, e.KeyID)
	msg = putBytes(msg, 3, e.Wrapped)
	msg = putBytes(msg, 4, e.Salt)
	msg = putBytes(msg, 5, e.Context)
	return putMessage(b, field, putBool(msg, 6, e.BucketKey))
}

func getEncryption(row []byte) (e cairn.Encryption, err error) {
	err = eachField(row, func(n protowire.Number, f field) error {
		switch n {
		case 1:
			e.Scheme = cairn.EncryptionScheme(f.bytes)
		case 2:
			e.KeyID = string(f.bytes)
		case 3:
			e.Wrapped = slices.Clone(f.bytes)
		case 4:
			e.Salt = slices.Clone(f.bytes)
		case 5:
			e.Context = string(f.bytes)
		case 6:
			e.BucketKey = f.num != 0
		}
		return nil
	})
	if err == nil && !e.Sealed() {
		err = corruptRow("encryption")
	}
	return e, err
}

// storedSize is how many bytes the layout of a version must hold: each part of a sealed one is a sealed body of its own.
func storedSize(v *cairn.Version) (size int64) {
	if len(v.Parts) == 0 || !v.Encryption.Sealed() {
		return v.Encryption.StoredSize(v.Size)
	}
	for i := range v.Parts {
		size += v.Encryption.StoredSize(v.Parts[i].Size)
	}
	return size
}
