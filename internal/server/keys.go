package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"cairn"
	"cairn/sse"
)

// Encryption configures what wraps the data keys of encrypted objects.
type Encryption struct {
	// KeysFile holds the master keys; default encryption-keys in the process's directory, made on the first start. Without it
	// no encrypted object can ever be read again: it belongs in a backup, apart from the data.
	KeysFile string
	// Default seals every object of buckets without a rule of their own, under SSE-S3.
	Default bool
	// PlainSSEC takes clients' keys over plain HTTP.
	PlainSSEC bool
	// Vault serves SSE-KMS if it has an address; otherwise the keys file does.
	Vault sse.Vault
	// DefaultKey is the key of SSE-KMS requests that name none; default "default", which the keys file has.
	DefaultKey string
}

const (
	keysName       = "encryption-keys"
	defaultKMSKey  = "default"
	keysPermission = 0o600
)

// openKeys reads the keys file, or makes it.
func openKeys(dir string, cfg Encryption) (*sse.Keys, *keysFile, error) {
	file := &keysFile{path: cfg.KeysFile}
	if file.path == "" {
		file.path = filepath.Join(dir, keysName)
	}
	if err := file.load(); err != nil {
		return nil, nil, err
	}
	keys := &sse.Keys{Store: file.ring, Service: file.ring, DefaultKey: cfg.DefaultKey}
	if keys.DefaultKey == "" {
		keys.DefaultKey = defaultKMSKey
	}
	if cfg.Vault.Address != "" {
		keys.Service = &cfg.Vault
	}
	file.keys, file.service = keys, keys.Service
	return keys, file, nil
}

// keysFile is the ring of master keys and where it is kept.
type keysFile struct {
	path    string
	ring    *sse.Ring
	keys    *sse.Keys
	service sse.KMS

	mu sync.Mutex // one rotation at a time
}

func (f *keysFile) load() error {
	text, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		f.ring = sse.NewRing(time.Now())
		if err := f.ring.Create(defaultKMSKey, time.Now()); err != nil {
			return err
		}
		return f.save(f.ring)
	}
	if err == nil {
		f.ring, err = sse.ParseRing(text)
	}
	if err != nil {
		return &cairn.Error{Op: "server.encryption keys", Subject: f.path, Err: err}
	}
	return nil
}

// save writes a ring so that a crash leaves the old file or the new one, and never none.
func (f *keysFile) save(ring *sse.Ring) (err error) {
	text, err := ring.Marshal()
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(f.path), filepath.Base(f.path)+".tmp")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, werr := tmp.Write(text)
	if err := errors.Join(werr, tmp.Chmod(keysPermission), tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("save encryption keys: %w", err)
	}
	if err := os.Rename(tmp.Name(), f.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close()) // a key that was used must not be lost with the rename
}
