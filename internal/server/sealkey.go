package server

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cairn"
)

// sealKeyName is the file in the process's directory with the key that users' secrets are sealed with in the metadata. All
// processes of a cluster need the same one; without it no user can sign in, while root and all objects are as they were.
const sealKeyName = "identity.key"

// sealKey reads the key, or makes it on the first start, readable by its owner only.
func (d *Directory) sealKey() (key [32]byte, err error) {
	path := filepath.Join(d.Path, sealKeyName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return d.makeSealKey(path)
	}
	if err != nil {
		return key, err
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(b) != len(key) {
		return key, &cairn.Error{Op: "server.identity key", Subject: path, Err: fmt.Errorf("want 64 hexadecimal digits: %w", cairn.ErrCorrupt)}
	}
	return [32]byte(b), nil
}

func (d *Directory) makeSealKey(path string) (key [32]byte, err error) {
	rand.Read(key[:])
	tmp, err := os.CreateTemp(d.Path, sealKeyName+".tmp") // mode 0600
	if err != nil {
		return key, err
	}
	defer os.Remove(tmp.Name())
	// Synced before it is used: secrets that are sealed with a key that a crash takes away are lost.
	_, werr := fmt.Fprintln(tmp, hex.EncodeToString(key[:]))
	if err := errors.Join(werr, tmp.Sync(), tmp.Close()); err != nil {
		return key, err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return key, err
	}
	dir, err := os.Open(d.Path)
	if err != nil {
		return key, err
	}
	return key, errors.Join(dir.Sync(), dir.Close())
}
