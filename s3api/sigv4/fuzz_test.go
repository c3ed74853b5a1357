package sigv4

import (
	"bufio"
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func FuzzAuthorization(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential="+docScope+", SignedHeaders=host;x-amz-date, Signature="+EmptySHA256, docDate, EmptySHA256)
	f.Add("AWS4-HMAC-SHA256 ,,,=;", "x", "")
	f.Fuzz(func(t *testing.T, auth, date, payload string) {
		h := http.Header{"Authorization": {auth}, "X-Amz-Date": {date}, "X-Amz-Content-Sha256": {payload}}
		a, err := FromHeader(h, "us-east-1")
		if err != nil {
			return
		}
		if a.AccessKey == "" || len(a.Signature) != 64 || a.Date[:8] != a.Day || !strings.HasPrefix(a.Scope, a.Day+"/us-east-1/") {
			t.Errorf("accepted %+v", a)
		}
		m := &Message{Method: "GET", Path: "/", RawPath: "/", Header: h, Host: "h"}
		if _, err := NewVerifier().Verify(&a, "another secret", m); err == nil {
			t.Error("a guessed signature passed")
		}
	})
}

func FuzzQueryCanonical(f *testing.F) {
	f.Add("prefix", "a b+c", "max-keys", "2")
	f.Add("a", "", "a-", "=")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		one := string(appendQuery(nil, []Param{{k1, v1}, {k2, v2}}, false))
		other := string(appendQuery(nil, []Param{{k2, v2}, {k1, v1}}, false))
		if one != other {
			t.Errorf("order matters: %q and %q", one, other)
		}
		back, err := url.ParseQuery(one)
		if err != nil {
			t.Fatalf("%q: %v", one, err)
		}
		if k1 != k2 && (back.Get(k1) != v1 || back.Get(k2) != v2) {
			t.Errorf("%q does not decode to what it was made of", one)
		}
	})
}

func FuzzChunks(f *testing.F) {
	f.Add([]byte("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"), int64(5), false)
	f.Add([]byte("5;chunk-signature="+EmptySHA256+"\r\nhello\r\n0;chunk-signature="+EmptySHA256+"\r\n\r\n"), int64(5), true)
	f.Fuzz(func(t *testing.T, body []byte, length int64, signed bool) {
		if length < 0 || length > 1<<20 {
			return
		}
		cfg := ChunkConfig{Length: length, Payload: UnsignedTrailer, Trailer: "x-amz-checksum-crc32"}
		if signed {
			cfg.Payload, cfg.Trailer = SignedChunks, ""
			cfg.Seed = Seed{key: derive("secret", "20260101", "r", "s3"), date: docDate, scope: docScope}
		}
		got, _, err := decode(cfg, bytes.NewReader(body))
		if err != nil {
			return
		}
		if signed {
			t.Error("guessed signatures passed")
		}
		if int64(len(got)) != length || !strings.Contains(string(body), "0\r\n") {
			t.Errorf("got %d bytes of %d", len(got), length)
		}
		small := NewChunkReader(ChunkConfig{Body: bufio.NewReader(bytes.NewReader(body)), Length: length, Payload: cfg.Payload, Trailer: cfg.Trailer})
		var again []byte
		for p := make([]byte, 3); ; {
			n, err := small.Read(p)
			if again = append(again, p[:n]...); err != nil {
				break
			}
		}
		if !bytes.Equal(got, again) {
			t.Error("small reads decode otherwise than large ones")
		}
	})
}
