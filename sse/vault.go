package sse

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"cairn"
)

// Vault is a KMS over the transit secrets engine of HashiCorp Vault
// (https://developer.hashicorp.com/vault/api-docs/secret/transit): its "encrypt" and "decrypt" operations with associated data.
// Safe for concurrent use.
type Vault struct {
	Address string // https://host:8200
	Token   string
	Mount   string       // default "transit"
	Client  *http.Client // default: one with VaultTimeout
}

const (
	// VaultTimeout bounds one call.
	VaultTimeout = 10 * time.Second

	maxVaultAnswer = 64 << 10
)

// Wrap implements KMS. What it returns is Vault's own ciphertext, "vault:v1:…".
func (v *Vault) Wrap(ctx context.Context, key string, dataKey, context []byte) ([]byte, error) {
	var out struct {
		Ciphertext string `json:"ciphertext"`
	}
	err := v.call(ctx, "encrypt", key, map[string][]byte{"plaintext": dataKey, "associated_data": context}, nil, &out)
	if err == nil && out.Ciphertext == "" {
		err = fail("sse.vault", key, fmt.Errorf("an answer without ciphertext: %w", cairn.ErrUnavailable))
	}
	return []byte(out.Ciphertext), err
}

// Unwrap implements KMS.
func (v *Vault) Unwrap(ctx context.Context, key string, wrapped, context []byte) ([]byte, error) {
	var out struct {
		Plaintext []byte `json:"plaintext"`
	}
	err := v.call(ctx, "decrypt", key, map[string][]byte{"associated_data": context}, wrapped, &out)
	if err == nil && len(out.Plaintext) != KeyBytes {
		err = fail("sse.vault", key, fmt.Errorf("a data key of %d bytes: %w", len(out.Plaintext), cairn.ErrCorrupt))
	}
	return out.Plaintext, err
}

// call posts one operation. The values of raw travel as base64, which is how encoding/json writes bytes.
func (v *Vault) call(ctx context.Context, op, key string, raw map[string][]byte, ciphertext []byte, out any) error {
	body := make(map[string]any, len(raw)+1)
	for name, value := range raw {
		body[name] = value
	}
	if ciphertext != nil {
		body["ciphertext"] = string(ciphertext)
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	mount := v.Mount
	if mount == "" {
		mount = "transit"
	}
	target := strings.TrimRight(v.Address, "/") + "/v1/" + mount + "/" + op + "/" + url.PathEscape(key)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(text))
	if err != nil {
		return fail("sse.vault", key, fmt.Errorf("%v: %w", err, cairn.ErrInvalid))
	}
	req.Header.Set("X-Vault-Token", v.Token)
	req.Header.Set("Content-Type", "application/json")
	client := v.Client
	if client == nil {
		client = &http.Client{Timeout: VaultTimeout}
	}
	resp, err := client.Do(req)
	if err != nil {
		return fail("sse.vault", key, fmt.Errorf("%v: %w", err, cairn.ErrUnavailable))
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxVaultAnswer))
	if err != nil {
		return fail("sse.vault", key, fmt.Errorf("%v: %w", err, cairn.ErrUnavailable))
	}
	if resp.StatusCode != http.StatusOK {
		return vaultError(key, resp.StatusCode, answer)
	}
	envelope := struct {
		Data any `json:"data"`
	}{out}
	if err := json.Unmarshal(answer, &envelope); err != nil {
		return fail("sse.vault", key, fmt.Errorf("%v: %w", err, cairn.ErrUnavailable))
	}
	return nil
}

// vaultError tells a key that is not there and a ciphertext of another key or context from a service that cannot answer.
func vaultError(key string, status int, answer []byte) error {
	var e struct {
		Errors []string `json:"errors"`
	}
	json.Unmarshal(answer, &e) // not an error document: the status has to do
	why := strings.Join(e.Errors, "; ")
	switch {
	case status == http.StatusNotFound, strings.Contains(why, "key not found"):
		return unknownKey(key)
	case status == http.StatusBadRequest && strings.Contains(why, "message authentication failed"):
		return fail("sse.vault", key, ErrWrongKey)
	}
	return fail("sse.vault", key, fmt.Errorf("HTTP %d %s: %w", status, why, cairn.ErrUnavailable))
}
