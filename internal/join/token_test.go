package join_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cairn"
	"cairn/internal/join"
	"cairn/internal/rpc"
)

func TestTokenText(t *testing.T) {
	want := join.NewToken(cairn.NewID(), rpc.Fingerprint{1, 2, 3})
	text := want.Reveal()
	if got, err := join.ParseToken(" " + text + "\n"); err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	bad := []string{"", "x", text[:len(text)-1], text + "A", strings.ToUpper(text), "cairn-join-2-" + text[len("cairn-join-1-"):]}
	for i := len("cairn-join-1-"); i < len(text); i += 7 {
		c := byte('A')
		if text[i] == c {
			c = 'B'
		}
		bad = append(bad, text[:i]+string(c)+text[i+1:])
	}
	for _, s := range bad {
		_, err := join.ParseToken(s)
		if !errors.Is(err, cairn.ErrInvalid) {
			t.Errorf("%q: got %v", s, err)
		}
		if len(s) > 20 && strings.Contains(err.Error(), s[20:]) {
			t.Errorf("the error repeats the token: %v", err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(join.NewToken(cairn.ClusterID{1}, rpc.Fingerprint{2}).Reveal())
	f.Add("cairn-join-1-")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := join.ParseToken(text)
		if err != nil {
			return
		}
		if again, err := join.ParseToken(k.Reveal()); err != nil || again != k {
			t.Errorf("%q reads as %v, and then as %v, %v", text, k, again, err)
		}
	})
}

// The certificate is renewed when two thirds of its life are over, tried again when that fails, and written down first.
func TestRenewerRenewsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id := rpc.Identity{Cluster: cairn.ClusterID{1}, Node: cairn.NodeID{2}, Roles: cairn.RoleData}
		a, err := rpc.NewAuthority(id.Cluster, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		sign := func(csr []byte) []byte {
			cert, err := a.Sign(csr, id, time.Now(), rpc.NodeLife)
			if err != nil {
				t.Fatal(err)
			}
			return cert
		}
		csr, key, err := rpc.NewRequest()
		if err != nil {
			t.Fatal(err)
		}
		creds, err := rpc.NewCredentials(a.CertPEM(), sign(csr), key)
		if err != nil {
			t.Fatal(err)
		}
		due, expires := creds.RenewAt(), creds.Expires()
		var tries, saved atomic.Int64
		r := join.Renewer{Credentials: creds, Logger: slog.New(slog.DiscardHandler),
			Sign: func(_ context.Context, csr []byte) ([]byte, error) {
				if tries.Add(1) < 3 {
					return nil, cairn.ErrUnavailable
				}
				return sign(csr), nil
			},
			Save: func(_, _ []byte) error {
				if creds.Expires() != expires {
					t.Error("used before it was saved")
				}
				saved.Add(1)
				return nil
			}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(time.Until(due) - time.Second)
		synctest.Wait()
		if tries.Load() != 0 {
			t.Error("renewed too early")
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if tries.Load() != 3 || saved.Load() != 1 || !creds.Expires().After(expires) {
			t.Errorf("%d tries, saved %d times, expires %v, before %v", tries.Load(), saved.Load(), creds.Expires(), expires)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
