package sse

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cairn"
)

func testKeys(t testing.TB) *Keys {
	t.Helper()
	ring := NewRing(time.Now())
	if err := ring.Create("k1", time.Now()); err != nil {
		t.Fatal(err)
	}
	return &Keys{Store: ring, Service: ring, DefaultKey: "k1"}
}

func wish(scheme cairn.EncryptionScheme, key string) cairn.EncryptionWish {
	return cairn.EncryptionWish{EncryptionRule: cairn.EncryptionRule{Scheme: scheme, KeyID: key}}
}

func TestKeysOfEveryScheme(t *testing.T) {
	k := testKeys(t)
	customer := wish(cairn.SSEC, "")
	customer.CustomerKey = bytes.Repeat([]byte{3}, KeyBytes)
	inContext := wish(cairn.SSEKMS, "k1")
	inContext.Context = "eyJhIjoiYiJ9"
	for _, w := range []cairn.EncryptionWish{wish(cairn.SSES3, ""), wish(cairn.SSEKMS, ""), inContext, customer} {
		dataKey, rec, err := k.New(t.Context(), w)
		if err != nil {
			t.Fatalf("%s: %v", w.Scheme, err)
		}
		if bytes.Contains(rec.Wrapped, dataKey) {
			t.Errorf("%s: the data key is in the record", w.Scheme)
		}
		if got, err := k.Open(t.Context(), rec, w.CustomerKey); err != nil || !bytes.Equal(got, dataKey) {
			t.Errorf("%s: opened another key, %v", w.Scheme, err)
		}
		bad := rec
		bad.Context += "x"
		if _, err := k.Open(t.Context(), bad, w.CustomerKey); !errors.Is(err, ErrWrongKey) {
			t.Errorf("%s: another context: %v, want ErrWrongKey", w.Scheme, err)
		}
		bad = rec
		bad.Wrapped = bytes.Clone(rec.Wrapped)
		bad.Wrapped[len(bad.Wrapped)-1] ^= 1
		if _, err := k.Open(t.Context(), bad, w.CustomerKey); err == nil {
			t.Errorf("%s: a tampered record opens", w.Scheme)
		}
	}
}

func TestKeysRefuse(t *testing.T) {
	k := testKeys(t)
	customer := wish(cairn.SSEC, "")
	customer.CustomerKey = bytes.Repeat([]byte{3}, KeyBytes)
	_, rec, err := k.New(t.Context(), customer)
	if err != nil {
		t.Fatal(err)
	}
	_, plain, err := k.New(t.Context(), wish(cairn.SSES3, ""))
	if err != nil {
		t.Fatal(err)
	}
	wrong := bytes.Repeat([]byte{4}, KeyBytes)
	for _, c := range []struct {
		name string
		do   func() error
		want error
	}{
		{"another customer's key", func() error { _, err := k.Open(t.Context(), rec, wrong); return err }, ErrWrongKey},
		{"no customer's key", func() error { _, err := k.Open(t.Context(), rec, nil); return err }, ErrNeedsKey},
		{"a key that is not asked for", func() error { _, err := k.Open(t.Context(), plain, wrong); return err }, ErrNotApplicable},
		{"an unknown KMS key", func() error { _, _, err := k.New(t.Context(), wish(cairn.SSEKMS, "nobody")); return err }, ErrUnknownKey},
		{"the store's own key", func() error { _, _, err := k.New(t.Context(), wish(cairn.SSEKMS, StoreKey)); return err }, ErrUnknownKey},
		{"no service", func() error {
			_, _, err := (&Keys{Store: k.Store}).New(t.Context(), wish(cairn.SSEKMS, "k1"))
			return err
		}, ErrNoKMS},
		{"an unknown scheme", func() error { _, _, err := k.New(t.Context(), wish("rot13", "")); return err }, cairn.ErrInvalid},
	} {
		if err := c.do(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// rotate gives a key of the ring a new version.
func rotate(t *testing.T, r *Ring, name string) {
	t.Helper()
	was := r.Version(name)
	next, err := r.Rotated(name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if r.Version(name) != was || next.Version(name) != was+1 {
		t.Errorf("%s: version %d in the ring, %d in the next one, want %d and %d", name, r.Version(name), next.Version(name), was, was+1)
	}
	r.Adopt(next)
}

func TestRotationRewraps(t *testing.T) {
	k := testKeys(t)
	for _, w := range []cairn.EncryptionWish{wish(cairn.SSES3, ""), wish(cairn.SSEKMS, "k1")} {
		dataKey, rec, err := k.New(t.Context(), w)
		if err != nil {
			t.Fatal(err)
		}
		rec.Salt = testSalt
		if _, changed, err := k.Rewrap(t.Context(), rec); changed || err != nil {
			t.Errorf("%s: rewrapped under the key that it has: %v", w.Scheme, err)
		}
		name := rec.KeyID
		if name == "" {
			name = StoreKey
		}
		rotate(t, k.Store, name)
		if got, err := k.Open(t.Context(), rec, nil); err != nil || !bytes.Equal(got, dataKey) {
			t.Errorf("%s: what was wrapped before the rotation does not open: %v", w.Scheme, err)
		}
		fresh, changed, err := k.Rewrap(t.Context(), rec)
		if err != nil || !changed || bytes.Equal(fresh.Wrapped, rec.Wrapped) || !bytes.Equal(fresh.Salt, rec.Salt) {
			t.Fatalf("%s: rewrapped %v, %v", w.Scheme, changed, err)
		}
		if got, err := k.Open(t.Context(), fresh, nil); err != nil || !bytes.Equal(got, dataKey) {
			t.Errorf("%s: the rewrapped key is another one: %v", w.Scheme, err)
		}
	}
}

func TestRingAtRest(t *testing.T) {
	k := testKeys(t)
	rotate(t, k.Store, "k1")
	dataKey, rec, err := k.New(t.Context(), wish(cairn.SSEKMS, "k1"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := k.Store.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseRing(text)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Unwrap(t.Context(), "k1", rec.Wrapped, wrapContext(&rec)); err != nil || !bytes.Equal(got, dataKey) {
		t.Errorf("after a restart: %v", err)
	}
	if names := again.Names(); len(names) != 1 || names[0] != "k1" {
		t.Errorf("names %q", names)
	}
	if err := again.Create("k1", time.Now()); !errors.Is(err, cairn.ErrExists) {
		t.Errorf("made twice: %v", err)
	}
	for _, bad := range []string{"", "{}", `{"keys":{"sse-s3":[]}}`, `{"keys":{"sse-s3":[{"version":1,"key":"AAAA"}]}}`,
		strings.Replace(string(text), `"version": 2`, `"version": 1`, 1), string(text[:len(text)/2])} {
		if _, err := ParseRing([]byte(bad)); !errors.Is(err, cairn.ErrInvalid) {
			t.Errorf("%.40q: %v, want ErrInvalid", bad, err)
		}
	}
}

// FuzzUnwrap unwraps arbitrary bytes: no panic, and no key out of what was never wrapped.
func FuzzUnwrap(f *testing.F) {
	ring := NewRing(time.Now())
	whole, err := ring.Wrap(f.Context(), StoreKey, testKey, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole[1:])
	f.Add([]byte{wrapFormat})
	f.Fuzz(func(t *testing.T, wrapped []byte) {
		if key, err := ring.Unwrap(t.Context(), StoreKey, wrapped, nil); err == nil && !bytes.Equal(wrapped, whole) {
			t.Errorf("%x opened to %x", wrapped, key)
		}
	})
}

// transit answers as Vault's transit engine does, for one key, k1.
func transit(t *testing.T) *httptest.Server {
	t.Helper()
	ring := NewRing(time.Now())
	if err := ring.Create("k1", time.Now()); err != nil {
		t.Fatal(err)
	}
	refuse := func(w http.ResponseWriter, status int, why string) {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string][]string{"errors": {why}})
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Plaintext, AssociatedData []byte
			Ciphertext                string
		}
		var raw map[string]string
		json.NewDecoder(r.Body).Decode(&raw)
		in.Plaintext, _ = base64.StdEncoding.DecodeString(raw["plaintext"])
		in.AssociatedData, _ = base64.StdEncoding.DecodeString(raw["associated_data"])
		out := map[string]any{}
		switch {
		case r.Header.Get("X-Vault-Token") != "token":
			refuse(w, http.StatusForbidden, "permission denied")
			return
		case r.URL.Path == "/v1/transit/encrypt/k1":
			b, err := ring.Wrap(r.Context(), "k1", in.Plaintext, in.AssociatedData)
			if err != nil {
				t.Error(err)
			}
			out["ciphertext"] = "vault:v1:" + base64.StdEncoding.EncodeToString(b)
		case r.URL.Path == "/v1/transit/decrypt/k1":
			b, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(raw["ciphertext"], "vault:v1:"))
			plain, err := ring.Unwrap(r.Context(), "k1", b, in.AssociatedData)
			if err != nil {
				refuse(w, http.StatusBadRequest, "cipher: message authentication failed")
				return
			}
			out["plaintext"] = plain
		default:
			refuse(w, http.StatusBadRequest, "encryption key not found")
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"data": out})
	}))
	t.Cleanup(srv.Close)
	return srv
}

func TestVault(t *testing.T) {
	srv := transit(t)
	v := &Vault{Address: srv.URL + "/", Token: "token"}
	k := testKeys(t)
	k.Service = v
	dataKey, rec, err := k.New(t.Context(), wish(cairn.SSEKMS, ""))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(rec.Wrapped, []byte("vault:v1:")) {
		t.Errorf("wrapped as %q", rec.Wrapped)
	}
	if got, err := k.Open(t.Context(), rec, nil); err != nil || !bytes.Equal(got, dataKey) {
		t.Errorf("opened another key, %v", err)
	}
	if _, changed, err := k.Rewrap(t.Context(), rec); !changed || err != nil {
		t.Errorf("rewrap: %v %v", changed, err)
	}
	bad := rec
	bad.Context = "another"
	if _, err := k.Open(t.Context(), bad, nil); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another context: %v", err)
	}
	if _, _, err := k.New(t.Context(), wish(cairn.SSEKMS, "nobody")); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("an unknown key: %v", err)
	}
	v.Token = "stolen"
	if _, _, err := k.New(t.Context(), wish(cairn.SSEKMS, "k1")); !errors.Is(err, cairn.ErrUnavailable) {
		t.Errorf("a wrong token: %v", err)
	}
	srv.Close()
	if _, err := k.Open(t.Context(), rec, nil); !errors.Is(err, cairn.ErrUnavailable) {
		t.Errorf("a service that is away: %v", err)
	}
}
