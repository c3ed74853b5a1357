package server

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"cairn"
	"cairn/internal/rpc"
)

// papers are what a node of a cluster keeps in DIR/tls: who it is, and who lets others in.
//
//	ca.pem    the authority's certificate
//	ca.key    its key, on nodes of the meta role alone
//	node.pem  the node's certificate and key in one file, so that a crash never leaves one without the other
//	node.key  a key whose certificate the cluster has not been seen to issue yet
//
// DIR/nodes.json holds the nodes that were known last: a node that starts finds the others by it.
type papers struct{ dir string }

const (
	papersName    = "tls"
	nodesName     = "nodes.json"
	authorityFile = "ca.pem"
	authorityKey  = "ca.key"
	nodeFile      = "node.pem"
	pendingKey    = "node.key"
)

func (d *Directory) papers() papers { return papers{dir: d.Path} }

func (p papers) path(name string) string { return filepath.Join(p.dir, papersName, name) }

// write replaces a file that nobody else may read. A crash leaves the old or the new one.
func (p papers) write(name string, content []byte) error {
	if err := os.MkdirAll(filepath.Join(p.dir, papersName), 0o700); err != nil {
		return err
	}
	return replaceFile(p.path(name), content)
}

func (p papers) read(name string) ([]byte, error) {
	b, err := os.ReadFile(p.path(name))
	if err != nil {
		return nil, &cairn.Error{Op: "server.identity", Subject: p.path(name), Err: err}
	}
	return b, nil
}

// key returns the key that waits for its certificate, and makes it on the first call: a node that asks again asks with it.
func (p papers) key() ([]byte, error) {
	b, err := os.ReadFile(p.path(pendingKey))
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	_, key, err := rpc.NewRequest()
	if err != nil {
		return nil, err
	}
	return key, p.write(pendingKey, key)
}

// keep writes what makes the node a member; authorityKeyPEM may be nil.
func (p papers) keep(authorityPEM, authorityKeyPEM, certPEM, keyPEM []byte) error {
	if authorityKeyPEM != nil {
		if err := p.write(authorityKey, authorityKeyPEM); err != nil {
			return err
		}
	}
	if err := p.write(authorityFile, authorityPEM); err != nil {
		return err
	}
	return p.renew(certPEM, keyPEM)
}

// renew replaces the node's certificate and key.
func (p papers) renew(certPEM, keyPEM []byte) error {
	if err := p.write(nodeFile, bytes.Join([][]byte{certPEM, keyPEM}, nil)); err != nil {
		return err
	}
	if err := os.Remove(p.path(pendingKey)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// credentials reads what keep wrote.
func (p papers) credentials() (*rpc.Credentials, error) {
	ca, err := p.read(authorityFile)
	if err != nil {
		return nil, err
	}
	both, err := p.read(nodeFile)
	if err != nil {
		return nil, err
	}
	block, key := pem.Decode(both)
	if block == nil {
		return nil, &cairn.Error{Op: "server.identity", Subject: p.path(nodeFile), Err: cairn.ErrCorrupt}
	}
	creds, err := rpc.NewCredentials(ca, pem.EncodeToMemory(block), key)
	if err != nil {
		return nil, &cairn.Error{Op: "server.identity", Subject: p.path(nodeFile), Err: err}
	}
	return creds, nil
}

// authority reads the authority of a node that may let others in.
func (p papers) authority() (*rpc.Authority, error) {
	ca, err := p.read(authorityFile)
	if err != nil {
		return nil, err
	}
	key, err := p.read(authorityKey)
	if err != nil {
		return nil, err
	}
	a, err := rpc.LoadAuthority(ca, key)
	if err != nil {
		return nil, &cairn.Error{Op: "server.identity", Subject: p.path(authorityKey), Err: err}
	}
	return a, nil
}

// saveNodes notes the nodes that are known.
func (p papers) saveNodes(nodes []cairn.Node) error {
	b, err := json.MarshalIndent(nodes, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(p.dir, nodesName), append(b, '\n'))
}

// nodes reads what saveNodes wrote; none if nothing was.
func (p papers) nodes() (nodes []cairn.Node, err error) {
	path := filepath.Join(p.dir, nodesName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &nodes)
	}
	if err != nil {
		return nil, &cairn.Error{Op: "server.nodes", Subject: path, Err: fmt.Errorf("%w: %w", err, cairn.ErrCorrupt)}
	}
	return nodes, nil
}

// replaceFile writes a file that only its owner may read, whole or not at all.
func replaceFile(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, werr := tmp.Write(content)
	// Sync before rename: the name must never point at an empty file after a power loss.
	if err := errors.Join(werr, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
