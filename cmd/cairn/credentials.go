package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cairn"
)

const (
	envAccessKey    = "CAIRN_ROOT_ACCESS_KEY"
	envSecretKey    = "CAIRN_ROOT_SECRET_KEY"
	envVaultToken   = "CAIRN_VAULT_TOKEN"
	credentialsName = "credentials"
)

// credentials are the root identity's keys.
type credentials struct {
	AccessKey string
	SecretKey string
}

// envCredentials reads the keys from the environment; ok tells whether both are set. One without the other is an error.
func envCredentials(getenv func(string) string) (c credentials, ok bool, err error) {
	c = credentials{AccessKey: getenv(envAccessKey), SecretKey: getenv(envSecretKey)}
	if (c.AccessKey == "") != (c.SecretKey == "") {
		return c, false, fmt.Errorf("set both %s and %s, or neither", envAccessKey, envSecretKey)
	}
	return c, c.AccessKey != "", nil
}

// loadCredentials reads DIR/credentials: lines of NAME=value, under the names of the environment's variables.
func loadCredentials(dir string) (credentials, error) {
	path := filepath.Join(dir, credentialsName)
	b, err := os.ReadFile(path)
	if err != nil {
		return credentials{}, err
	}
	var c credentials
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		name, value, _ := strings.Cut(strings.TrimSpace(s.Text()), "=")
		switch name {
		case envAccessKey:
			c.AccessKey = value
		case envSecretKey:
			c.SecretKey = value
		}
	}
	if c.AccessKey == "" || c.SecretKey == "" {
		return c, &cairn.Error{Op: "read credentials", Subject: path,
			Err: fmt.Errorf("want lines %s=… and %s=…: %w", envAccessKey, envSecretKey, cairn.ErrInvalid)}
	}
	return c, nil
}

// serverCredentials returns the keys that the server answers to: the environment's, or those of DIR/credentials, which is
// made on the first start (made tells that it was). The environment's are kept there too, so that a restart without them is
// no other store.
func serverCredentials(dir string, getenv func(string) string) (c credentials, made bool, err error) {
	c, ok, err := envCredentials(getenv)
	if err != nil {
		return c, false, err
	}
	kept, err := loadCredentials(dir)
	switch {
	case ok && err == nil && kept == c:
		return c, false, nil
	case ok:
		return c, false, saveCredentials(dir, c)
	case !errors.Is(err, fs.ErrNotExist):
		return kept, false, err
	}
	c = credentials{AccessKey: "CAIRN" + strings.ToUpper(randomText(15)), SecretKey: randomText(40)}
	return c, true, saveCredentials(dir, c)
}

// clientCredentials returns the keys for a command that talks to a server: the environment's or the saved ones of data.
func clientCredentials(data string, getenv func(string) string) (credentials, error) {
	c, ok, err := envCredentials(getenv)
	if err != nil || ok {
		return c, err
	}
	if c, err = loadCredentials(data); err != nil {
		return c, fmt.Errorf("no root credentials: set %s and %s, or name the server's directory with --data: %w",
			envAccessKey, envSecretKey, err)
	}
	return c, nil
}

// saveCredentials writes the file so that a crash leaves either none or a whole one.
func saveCredentials(dir string, c credentials) error {
	text := fmt.Sprintf("%s=%s\n%s=%s\n", envAccessKey, c.AccessKey, envSecretKey, c.SecretKey)
	tmp, err := os.CreateTemp(dir, credentialsName+".tmp") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, werr := tmp.WriteString(text)
	if err := errors.Join(werr, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), filepath.Join(dir, credentialsName))
}

// randomText returns n letters and digits from the system's random source.
func randomText(n int) string {
	b := make([]byte, 2*n)
	rand.Read(b)
	s := base64.RawURLEncoding.EncodeToString(b)
	s = strings.NewReplacer("-", "", "_", "").Replace(s)
	return s[:n]
}
