package sigv4

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// The examples that the Amazon S3 API Reference publishes with their signatures.
const (
	docKey    = "AKIAIOSFODNN7EXAMPLE"
	docSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	docDate   = "20130524T000000Z"
	docScope  = docKey + "/20130524/us-east-1/s3/aws4_request"
)

func headers(kv ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(kv); i += 2 {
		h.Set(kv[i], kv[i+1])
	}
	return h
}

func TestPublishedHeaderExamples(t *testing.T) {
	const host = "examplebucket.s3.amazonaws.com"
	for _, c := range []struct {
		name, method, path, signed, signature string
		query                                 []Param
		header                                http.Header
	}{
		{"get", "GET", "/test.txt", "host;range;x-amz-content-sha256;x-amz-date",
			"f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41", nil,
			headers("Range", "bytes=0-9", "X-Amz-Date", docDate, "X-Amz-Content-Sha256", EmptySHA256)},
		{"put", "PUT", "/test$file.text", "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
			"98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd", nil,
			headers("Date", "Fri, 24 May 2013 00:00:00 GMT", "X-Amz-Date", docDate, "X-Amz-Storage-Class", "REDUCED_REDUNDANCY",
				"X-Amz-Content-Sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072")},
		{"sub-resource", "GET", "/", "host;x-amz-content-sha256;x-amz-date",
			"fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543", []Param{{"lifecycle", ""}},
			headers("X-Amz-Date", docDate, "X-Amz-Content-Sha256", EmptySHA256)},
		{"list", "GET", "/", "host;x-amz-content-sha256;x-amz-date",
			"34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7", []Param{{"prefix", "J"}, {"max-keys", "2"}},
			headers("X-Amz-Date", docDate, "X-Amz-Content-Sha256", EmptySHA256)},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+docScope+",SignedHeaders="+c.signed+",Signature="+c.signature)
			m := &Message{Method: c.method, Path: c.path, RawPath: c.path, Query: c.query, Header: c.header, Host: host}
			a, err := FromHeader(c.header, "us-east-1")
			if err != nil {
				t.Fatal(err)
			}
			v := NewVerifier()
			for range 2 { // the second time with a cached key
				if _, err := v.Verify(&a, docSecret, m); err != nil {
					t.Errorf("got %v, want a match", err)
				}
			}
			if _, err := v.Verify(&a, docSecret+"x", m); reasonOf(err) != Mismatch {
				t.Errorf("another secret: got %v, want a mismatch", err)
			}
			for what, change := range map[string]func(*Message){
				"method": func(m *Message) { m.Method = "POST" },
				"path":   func(m *Message) { m.Path += "x"; m.RawPath += "x" },
				"query":  func(m *Message) { m.Query = append(slices.Clone(m.Query), Param{"a", ""}) },
				"host":   func(m *Message) { m.Host = "other" },
				"header": func(m *Message) { m.Header = m.Header.Clone(); m.Header.Set("X-Amz-Date", "20130524T000001Z") },
			} {
				changed := *m
				change(&changed)
				if _, err := v.Verify(&a, docSecret, &changed); reasonOf(err) != Mismatch {
					t.Errorf("changed %s: got %v, want a mismatch", what, err)
				}
			}
			a.Payload = UnsignedPayload
			if _, err := v.Verify(&a, docSecret, m); reasonOf(err) != Mismatch {
				t.Errorf("changed payload hash: got %v, want a mismatch", err)
			}
		})
	}
}

func reasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return 255
}

func TestPublishedPresignedExample(t *testing.T) {
	query := []Param{{"X-Amz-Algorithm", "AWS4-HMAC-SHA256"}, {"X-Amz-Credential", docScope}, {"X-Amz-Date", docDate},
		{"X-Amz-Expires", "86400"}, {"X-Amz-SignedHeaders", "host"},
		{"X-Amz-Signature", "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"}}
	m := &Message{Method: "GET", Path: "/test.txt", RawPath: "/test.txt", Query: query, Header: http.Header{}, Host: "examplebucket.s3.amazonaws.com"}
	a, err := FromQuery(query, m.Header, "us-east-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewVerifier().Verify(&a, docSecret, m); err != nil {
		t.Error(err)
	}
	start := time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		now  time.Time
		want Reason
	}{{start, 255}, {start.Add(24 * time.Hour), 255}, {start.Add(24*time.Hour + time.Second), Expired},
		{start.Add(-MaxSkew - time.Second), NotYetValid}, {start.Add(-MaxSkew), 255}} {
		if got := reasonOf(a.CheckTime(c.now)); got != c.want {
			t.Errorf("at %v: got %v, want %v", c.now, got, c.want)
		}
	}
	m.Header.Set("X-Amz-Acl", "public-read")
	if _, err := NewVerifier().Verify(&a, docSecret, m); reasonOf(err) != NotSigned {
		t.Errorf("unsigned x-amz header: got %v, want NotSigned", err)
	}
}

// chunkedExample returns the published streaming upload: 65 KiB of "a" in chunks of 64 KiB, 1 KiB, 0.
func chunkedExample(t *testing.T, trailer bool) (ChunkConfig, string) {
	t.Helper()
	h := headers("X-Amz-Date", docDate, "X-Amz-Storage-Class", "REDUCED_REDUNDANCY", "Content-Encoding", "aws-chunked",
		"X-Amz-Decoded-Content-Length", "66560")
	cfg := ChunkConfig{Length: 66560, Payload: SignedChunks}
	signed := "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class"
	signature := "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
	sigs := []string{"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
		"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
		"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"}
	tail := "\r\n"
	if trailer {
		cfg.Payload, cfg.Trailer = SignedTrailer, "x-amz-checksum-crc32c"
		h.Set("X-Amz-Trailer", cfg.Trailer)
		signed = "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer"
		signature = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
		sigs = []string{"b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
			"1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
			"2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"}
		tail = "x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:" +
			"d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
	} else {
		h.Set("Content-Length", "66824")
	}
	h.Set("X-Amz-Content-Sha256", cfg.Payload)
	h.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+docScope+", SignedHeaders="+signed+", Signature="+signature)
	a, err := FromHeader(h, "us-east-1")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Seed, err = NewVerifier().Verify(&a, docSecret, &Message{Method: "PUT", Path: "/examplebucket/chunkObject.txt",
		RawPath: "/examplebucket/chunkObject.txt", Header: h, Host: "s3.amazonaws.com"})
	if err != nil {
		t.Fatal(err)
	}
	body := "10000;chunk-signature=" + sigs[0] + "\r\n" + strings.Repeat("a", 65536) + "\r\n400;chunk-signature=" + sigs[1] + "\r\n" +
		strings.Repeat("a", 1024) + "\r\n0;chunk-signature=" + sigs[2] + "\r\n" + tail
	return cfg, body
}

// decode reads all of an aws-chunked body as a caller does that knows its length: never past the last byte.
func decode(cfg ChunkConfig, body io.Reader) ([]byte, []Param, error) {
	cfg.Body = bufio.NewReaderSize(body, 4096)
	r := NewChunkReader(cfg)
	out := make([]byte, cfg.Length)
	if _, err := io.ReadFull(r, out); err != nil {
		return nil, nil, err
	}
	trailer, err := r.Trailer()
	return out, trailer, err
}

func TestPublishedStreamingExamples(t *testing.T) {
	for _, trailer := range []bool{false, true} {
		cfg, body := chunkedExample(t, trailer)
		for name, in := range map[string]io.Reader{"whole": strings.NewReader(body),
			"byte by byte": iotest.OneByteReader(strings.NewReader(body)), "data with EOF": iotest.DataErrReader(strings.NewReader(body))} {
			got, params, err := decode(cfg, in)
			if err != nil || !bytes.Equal(got, bytes.Repeat([]byte("a"), 66560)) {
				t.Errorf("trailer %v, %s: got %d bytes, %v", trailer, name, len(got), err)
			}
			if trailer && (len(params) != 1 || params[0] != Param{"x-amz-checksum-crc32c", "sOO8/Q=="}) {
				t.Errorf("trailer: got %v", params)
			}
		}
	}
}

// TestChunkedTampering changes every part of the published uploads in turn: none may yield a whole body.
func TestChunkedTampering(t *testing.T) {
	for _, trailer := range []bool{false, true} {
		cfg, body := chunkedExample(t, trailer)
		tail := len("0;chunk-signature=") + 64 + 4
		for _, at := range []int{0, 4, 20, 60, 90, 5000, 65536 + 80, 65536 + 90, 65536 + 150, len(body) - tail, len(body) - tail + 1, len(body) - 40} {
			b := []byte(body)
			b[at] ^= 1
			if got, _, err := decode(cfg, bytes.NewReader(b)); err == nil {
				t.Errorf("trailer %v: flipped bit at %d passed, %d bytes", trailer, at, len(got))
			}
		}
		for _, cut := range []int{0, 1, 50, 88, 1000, len(body) - 1500, len(body) - 200, len(body) - 60} {
			if _, _, err := decode(cfg, strings.NewReader(body[:cut])); err == nil {
				t.Errorf("trailer %v: body cut at %d passed", trailer, cut)
			}
		}
		if _, _, err := decode(cfg, strings.NewReader(body+"more")); err == nil {
			t.Errorf("trailer %v: bytes behind the end passed", trailer)
		}
		swapped := strings.Replace(body, "10000;", "010000;", 1) // the same number written otherwise is the same chunk
		if _, _, err := decode(cfg, strings.NewReader(swapped)); err != nil {
			t.Errorf("leading zero: %v", err)
		}
		for _, length := range []int64{0, 1, 66559, 66561} {
			other := cfg
			other.Length = length
			if _, _, err := decode(other, strings.NewReader(body)); err == nil {
				t.Errorf("trailer %v: declared length %d passed", trailer, length)
			}
		}
	}
}

func TestUnsignedTrailer(t *testing.T) {
	const good = "5\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n"
	cfg := ChunkConfig{Length: 11, Payload: UnsignedTrailer, Trailer: "x-amz-checksum-crc32"}
	got, trailer, err := decode(cfg, strings.NewReader(good))
	if err != nil || string(got) != "hello world" || len(trailer) != 1 || trailer[0].Value != "DUoRhQ==" {
		t.Errorf("got %q, %v, %v", got, trailer, err)
	}
	lf := strings.Replace(good, "==\r\n\r\n", "==\n\r\n\r\n", 1)
	if _, _, err := decode(cfg, strings.NewReader(lf)); err != nil {
		t.Errorf("trailer line ended by LF: %v", err)
	}
	for name, c := range map[string]struct {
		body string
		want Reason
	}{
		"no trailer":            {"b\r\nhello world\r\n0\r\n\r\n", BadTrailer},
		"not announced":         {"b\r\nhello world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\nx-amz-other:1\r\n\r\n", BadTrailer},
		"twice":                 {"b\r\nhello world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n", BadTrailer},
		"long trailer":          {"b\r\nhello world\r\n0\r\nx-amz-checksum-crc32:" + strings.Repeat("A", 5000) + "\r\n\r\n", BadTrailer},
		"signed chunk":          {"b;chunk-signature=" + strings.Repeat("0", 64) + "\r\nhello world\r\n0\r\n\r\n", BadChunk},
		"endless header":        {strings.Repeat("0", 5000), BadChunk},
		"number too big":        {"7fffffffffffffff\r\nhello", BadChunk},
		"negative":              {"-5\r\nhello", BadChunk},
		"chunk larger than all": {"c\r\nhello world!\r\n0\r\n\r\n", WrongLength},
		"ends early":            {"5\r\nhello\r\n0\r\n\r\n", WrongLength},
		"more chunks":           {"b\r\nhello world\r\n1\r\n!\r\n0\r\n\r\n", WrongLength},
		"chunk longer":          {"5\r\nhello world\r\n0\r\n\r\n", BadChunk},
	} {
		if _, _, err := decode(cfg, strings.NewReader(c.body)); reasonOf(err) != c.want {
			t.Errorf("%s: got %v, want reason %d", name, err, c.want)
		}
	}
	if _, _, err := decode(cfg, strings.NewReader("b\r\nhello wor")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: got %v, want ErrUnexpectedEOF", err)
	}
}

func TestFromHeaderRefusals(t *testing.T) {
	const fields = "AWS4-HMAC-SHA256 Credential=" + docScope + ", SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=" + EmptySHA256
	for _, c := range []struct {
		name string
		old  string
		new  string
		date string
		sum  string
		want Reason
	}{
		{"good", "", "", docDate, EmptySHA256, 255},
		{"version 2", "AWS4-HMAC-SHA256 ", "AWS AKIA:sig ", docDate, EmptySHA256, Unsupported},
		{"no signature", ", Signature=" + EmptySHA256, "", docDate, EmptySHA256, Malformed},
		{"signature twice", ", Signature=" + EmptySHA256, ", Signature=" + EmptySHA256 + ", Signature=" + EmptySHA256, docDate, EmptySHA256, Malformed},
		{"short signature", EmptySHA256, "abc", docDate, EmptySHA256, Malformed},
		{"other field", "SignedHeaders", "Signed", docDate, EmptySHA256, Malformed},
		{"short scope", "/20130524/us-east-1", "", docDate, EmptySHA256, Malformed},
		{"no key", docKey, "", docDate, EmptySHA256, Malformed},
		{"other service", "/s3/", "/ec2/", docDate, EmptySHA256, Malformed},
		{"other region", "us-east-1", "eu-west-1", docDate, EmptySHA256, WrongRegion},
		{"no date", "", "", "", EmptySHA256, BadDate},
		{"strange date", "", "", "2013-05-24", EmptySHA256, BadDate},
		{"date of another day", "", "", "20130525T000000Z", EmptySHA256, Malformed},
		{"no payload hash", "", "", docDate, "", BadPayload},
		{"strange payload hash", "", "", docDate, "STREAMING-SOMETHING", BadPayload},
		{"upper-case payload hash", "", "", docDate, strings.ToUpper(EmptySHA256), BadPayload},
	} {
		h := headers("Authorization", strings.Replace(fields, c.old, c.new, 1))
		if c.date != "" {
			h.Set("X-Amz-Date", c.date)
		}
		if c.sum != "" {
			h.Set("X-Amz-Content-Sha256", c.sum)
		}
		if _, err := FromHeader(h, "us-east-1"); reasonOf(err) != c.want {
			t.Errorf("%s: got %v, want reason %d", c.name, err, c.want)
		}
	}
}

func TestFromQueryRefusals(t *testing.T) {
	good := []Param{{"X-Amz-Algorithm", "AWS4-HMAC-SHA256"}, {"X-Amz-Credential", docScope}, {"X-Amz-Date", docDate},
		{"X-Amz-Expires", "86400"}, {"X-Amz-SignedHeaders", "host"}, {"X-Amz-Signature", EmptySHA256}}
	for i := range good {
		missing := slices.Delete(slices.Clone(good), i, i+1)
		if _, err := FromQuery(missing, nil, "us-east-1"); reasonOf(err) != MalformedQuery {
			t.Errorf("without %s: got %v", good[i].Key, err)
		}
		twice := append(slices.Clone(good), good[i])
		if _, err := FromQuery(twice, nil, "us-east-1"); reasonOf(err) != MalformedQuery {
			t.Errorf("%s twice: got %v", good[i].Key, err)
		}
	}
	for _, c := range []struct {
		i     int
		value string
		want  Reason
	}{{0, "AWS4-ECDSA-P256-SHA256", MalformedQuery}, {3, "604800", 255}, {3, "604801", MalformedQuery}, {3, "-1", MalformedQuery},
		{3, "x", MalformedQuery}, {3, "99999999999999999999", MalformedQuery}, {2, "yesterday", MalformedQuery}, {2, "20130525T000000Z", MalformedQuery}} {
		q := slices.Clone(good)
		q[c.i].Value = c.value
		if _, err := FromQuery(q, nil, "us-east-1"); reasonOf(err) != c.want {
			t.Errorf("%s=%s: got %v, want reason %d", q[c.i].Key, c.value, err, c.want)
		}
	}
}

func TestCheckTimeSkew(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]Reason{0: 255, MaxSkew: 255, -MaxSkew: 255, MaxSkew + time.Second: Skewed, -MaxSkew - time.Second: Skewed} {
		if got := reasonOf((&Auth{Time: now.Add(d)}).CheckTime(now)); got != want {
			t.Errorf("skew %v: got %d, want %d", d, got, want)
		}
	}
}

func TestNotSigned(t *testing.T) {
	h := headers("X-Amz-Date", docDate, "X-Amz-Meta-A", "1", "X-Amzn-Trace-Id", "1")
	for list, want := range map[string]bool{"host;x-amz-date;x-amz-meta-a": true, "host;x-amz-date": false, "x-amz-date;x-amz-meta-a": false,
		"": false, "host;x-amz-date;x-amz-meta-ab": false} {
		if got := checkSigned(list, h) == nil; got != want {
			t.Errorf("%q: got %v, want %v", list, got, want)
		}
	}
}

func TestKeyCacheIsBounded(t *testing.T) {
	v := NewVerifier()
	for i := range 3 * maxKeys {
		v.signingKey(&Auth{AccessKey: string(rune('a'+i%26)) + strings.Repeat("x", i/26), Day: "20260101", Region: "r"}, "secret")
	}
	if n := len(v.keys); n > maxKeys {
		t.Errorf("got %d cached keys, want %d at most", n, maxKeys)
	}
}

func BenchmarkVerifyHeader(b *testing.B) {
	h := headers("X-Amz-Date", docDate, "X-Amz-Content-Sha256", EmptySHA256, "Content-Type", "application/octet-stream")
	m := &Message{Method: "PUT", Path: "/bucket/some/key/of/ordinary/length.bin", RawPath: "/bucket/some/key/of/ordinary/length.bin",
		Header: h, Host: "127.0.0.1:9000"}
	Sign(m, docKey, docSecret, "us-east-1", "content-type;host;x-amz-content-sha256;x-amz-date")
	v := NewVerifier()
	b.ReportAllocs()
	for b.Loop() {
		a, err := FromHeader(h, "us-east-1")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := v.Verify(&a, docSecret, m); err != nil {
			b.Fatal(err)
		}
	}
}

// TestLastByteIsVerified reads exactly the declared bytes and never asks for the trailer: a broken end must show even so.
func TestLastByteIsVerified(t *testing.T) {
	cfg, body := chunkedExample(t, true)
	for name, tampered := range map[string]string{
		"final chunk":  strings.Replace(body, "0;chunk-signature=2ca2", "0;chunk-signature=0000", 1),
		"trailer":      strings.Replace(body, "sOO8/Q==", "AAAAAA==", 1),
		"nothing left": body[:strings.LastIndex(body, "0;chunk")],
	} {
		cfg.Body = bufio.NewReaderSize(strings.NewReader(tampered), 4096)
		if n, err := io.ReadFull(NewChunkReader(cfg), make([]byte, cfg.Length)); err == nil {
			t.Errorf("%s: got %d bytes and no error", name, n)
		}
	}
}
