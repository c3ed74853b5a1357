package conformance

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"cairn/s3api/sigv4"
)

// answer is what came back.
type answer struct {
	status int
	code   string
	body   []byte
	header http.Header
}

// client sends requests byte by byte as a line has them, on one connection as long as the server keeps it.
type client struct {
	t       testing.TB
	addr    string
	secrets map[string][2]string // user → access key, secret
	conn    net.Conn
	br      *bufio.Reader
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// do sends one request and reads the answer.
func (c *client) do(user, method, target string, header [][2]string, body []byte) (answer, error) {
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.addr)
		if err != nil {
			return answer{}, err
		}
		c.conn, c.br = conn, bufio.NewReader(conn)
	}
	c.conn.SetDeadline(time.Now().Add(30 * time.Second))
	text, err := c.render(user, method, target, header, body)
	if err != nil {
		return answer{}, err
	}
	if _, err := c.conn.Write(text); err != nil {
		c.close()
		return answer{}, err
	}
	resp, err := http.ReadResponse(c.br, &http.Request{Method: method})
	if err != nil {
		c.close()
		return answer{}, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if resp.Close || err != nil {
		c.close()
	}
	a := answer{status: resp.StatusCode, body: got, header: resp.Header}
	if bytes.Contains(got, []byte("<Error><Code>")) {
		a.code = element(got, "Code")
	}
	return a, err
}

// render writes a request, signed as its user says.
func (c *client) render(user, method, target string, header [][2]string, body []byte) ([]byte, error) {
	user, mode, _ := strings.Cut(user, "+")
	h := http.Header{}
	for _, pair := range header {
		h[http.CanonicalHeaderKey(pair[0])] = append(h[http.CanonicalHeaderKey(pair[0])], pair[1])
	}
	if user != "anon" {
		keys, ok := c.secrets[user]
		if !ok {
			return nil, fmt.Errorf("no user %q", user)
		}
		if err := sign(h, keys, method, target, c.addr, body, mode == "unsigned"); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, target, c.addr)
	if mode != "nolength" && len(h["Transfer-Encoding"]) == 0 {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	for name, values := range h {
		for _, v := range values {
			fmt.Fprintf(&b, "%s: %s\r\n", name, v)
		}
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes(), nil
}

// sign adds the headers of a signature over everything that the request has.
func sign(h http.Header, keys [2]string, method, target, host string, body []byte, unsigned bool) error {
	if h.Get("X-Amz-Date") == "" {
		h.Set("X-Amz-Date", time.Now().UTC().Format("20060102T150405Z"))
	}
	if h.Get("X-Amz-Content-Sha256") == "" {
		sum := sha256.Sum256(body)
		h.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
		if unsigned {
			h.Set("X-Amz-Content-Sha256", sigv4.UnsignedPayload)
		}
	}
	names := []string{"host"}
	for name := range h {
		if name != "Transfer-Encoding" && name != "Expect" {
			names = append(names, strings.ToLower(name))
		}
	}
	slices.Sort(names)
	rawPath, rawQuery, _ := strings.Cut(target, "?")
	path, err := url.PathUnescape(rawPath)
	if err != nil {
		path = rawPath
	}
	var query []sigv4.Param
	for pair := range strings.SplitSeq(rawQuery, "&") {
		if pair == "" {
			continue
		}
		k, v, _ := strings.Cut(pair, "=")
		if k, err = url.QueryUnescape(k); err != nil {
			return err
		}
		if v, err = url.QueryUnescape(v); err != nil {
			return err
		}
		query = append(query, sigv4.Param{Key: k, Value: v})
	}
	signed, _ := sigv4.Sign(&sigv4.Message{Method: method, Path: path, RawPath: rawPath, Query: query, Header: h, Host: host},
		keys[0], keys[1], "us-east-1", strings.Join(names, ";"))
	for name, values := range signed {
		h[name] = values
	}
	return nil
}

// element is the text of a document's first element of a name, "" if there is none.
func element(doc []byte, name string) string {
	_, rest, found := strings.Cut(string(doc), "<"+name+">")
	if !found {
		return ""
	}
	text, _, _ := strings.Cut(rest, "</"+name+">")
	return unescapeXML.Replace(text)
}

var unescapeXML = strings.NewReplacer("&quot;", `"`, "&lt;", "<", "&gt;", ">", "&amp;", "&")
