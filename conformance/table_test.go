package conformance

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/crc64nvme"
	"go.uber.org/goleak"

	"cairn"
	"cairn/events"
	"cairn/iam"
	"cairn/object/objecttest"
	"cairn/s3api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// leastCases is how many lines the tables have at the least, so that none goes missing unnoticed.
const leastCases = 600

// world is the server that all groups share.
type world struct {
	addr    string
	secrets map[string][2]string
	ids     map[string]string // user → canonical ID
}

// open serves S3 until the test ends.
func open(t *testing.T) *world {
	t.Helper()
	stack := objecttest.Open(t, objecttest.Config{Run: true})
	ids, err := iam.New(iam.Config{AccessKey: "rootkey", SecretKey: "a secret of root", Rows: stack.Meta, Seal: [32]byte{1}})
	check(t, err)
	w := &world{ids: map[string]string{"root": iam.DefaultAccount}, secrets: map[string][2]string{"root": {"rootkey", "a secret of root"},
		"alice-forged": {"key-of-alice", "not the secret of alice"}, "nobody": {"key-of-nobody", "a secret of nobody"}}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	check(t, stack.Meta.PutEventTarget(t.Context(), events.Target{Name: "hook", URL: "https://hook.invalid/"}))
	srv, err := s3api.New(s3api.Config{Objects: stack.Objects, Identities: ids, PlainSSEC: true, EventTargets: stack.Meta})
	check(t, err)
	w.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := ids.Run(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("identities: %v", err)
		}
	})
	wg.Go(func() {
		if err := srv.Serve(ctx, l); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	for _, name := range []string{"alice", "bob"} {
		u, cred, err := ids.CreateUser(t.Context(), iam.NewUser{Name: name, AccessKey: "key-of-" + name, SecretKey: "a secret of " + name})
		check(t, err)
		w.secrets[name] = [2]string{cred.AccessKey, cred.SecretKey}
		w.ids[name] = u.ID
	}
	return w
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	check(t, err)
	w := open(t)
	total := 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) { total += w.runGroup(t, name, file) })
	}
	t.Logf("%d cases in %d groups", total, len(files))
	if total < leastCases {
		t.Errorf("%d cases, want %d at the least", total, leastCases)
	}
}

// group is one file under way.
type group struct {
	t      *testing.T
	client *client
	vars   map[string]string
}

func (w *world) runGroup(t *testing.T, name, file string) (cases int) {
	text, err := os.ReadFile(file)
	check(t, err)
	g := &group{t: t, client: &client{t: t, addr: w.addr, secrets: w.secrets}, vars: map[string]string{
		"b": name + "-one", "b2": name + "-two", "addr": w.addr}}
	defer g.client.close()
	for user, id := range w.ids {
		g.vars[user] = id
	}
	for i, line := range strings.Split(string(text), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		cases++
		if err := g.run(line); err != nil {
			t.Errorf("%s:%d: %v\n\t%s", file, i+1, err, line)
		}
	}
	return cases
}

// run sends a line's request and compares the answer.
func (g *group) run(line string) error {
	columns := strings.Split(line, " | ")
	for len(columns) < 6 {
		columns = append(columns, "")
	}
	for i := range columns {
		if columns[i] = strings.TrimSpace(columns[i]); columns[i] == "-" {
			columns[i] = ""
		}
	}
	body, err := g.expand(columns[3], nil)
	if err != nil {
		return err
	}
	request, err := g.expand(columns[1], nil)
	if err != nil {
		return err
	}
	words := strings.Fields(request)
	if len(words) != 3 || len(columns) > 6 {
		return fmt.Errorf("malformed line: request %q, %d columns", request, len(columns))
	}
	var header [][2]string
	for _, h := range items(columns[2]) {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return fmt.Errorf("malformed header %q", h)
		}
		if value, err = g.expand(strings.TrimSpace(value), []byte(body)); err != nil {
			return err
		}
		header = append(header, [2]string{name, value})
	}
	a, err := g.client.do(words[0], words[1], words[2], header, []byte(body))
	if err != nil {
		return err
	}
	wantStatus, wantCode, _ := strings.Cut(columns[4], " ")
	if strconv.Itoa(a.status) != wantStatus || a.code != strings.TrimSpace(wantCode) {
		return fmt.Errorf("got %d %s, want %s: %.400s", a.status, a.code, columns[4], a.body)
	}
	if words[1] == "HEAD" && len(a.body) > 0 {
		return fmt.Errorf("a body of %d bytes to HEAD", len(a.body))
	}
	for _, item := range items(columns[5]) {
		if err := g.expect(&a, item, []byte(body)); err != nil {
			return err
		}
	}
	return nil
}

// items splits a column.
func items(column string) (out []string) {
	for item := range strings.SplitSeq(column, " ;; ") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

// expect checks one expectation, or remembers something.
func (g *group) expect(a *answer, item string, body []byte) error {
	if name, from, ok := strings.Cut(item, " = "); ok && strings.HasPrefix(name, "$") {
		return g.remember(name[1:], a.header.Get(from))
	}
	if name, from, ok := strings.Cut(item, " < "); ok && strings.HasPrefix(name, "$") {
		return g.remember(name[1:], element(a.body, from))
	}
	item, err := g.expand(item, body)
	if err != nil {
		return err
	}
	got := string(a.body)
	switch kind, text := item[0], strings.TrimSpace(item[1:]); kind {
	case '~':
		if !strings.Contains(got, text) {
			return fmt.Errorf("the body lacks %q: %.600s", text, got)
		}
		return nil
	case '!':
		if strings.Contains(got, text) {
			return fmt.Errorf("the body holds %q: %.600s", text, got)
		}
		return nil
	case '=':
		if got != text {
			return fmt.Errorf("the body is %.100q (%d bytes), want %.100q (%d bytes)", got, len(got), text, len(text))
		}
		return nil
	}
	return expectHeader(a, item)
}

func expectHeader(a *answer, item string) error {
	at := strings.IndexAny(item, ":!")
	if at < 0 {
		return fmt.Errorf("malformed expectation %q", item)
	}
	name, want := item[:at], strings.TrimSpace(item[at+1:])
	got, have := strings.Join(a.header.Values(name), ", "), len(a.header.Values(name)) > 0
	switch {
	case item[at] == '!' && (want == "" && have || want != "" && strings.Contains(got, want)):
		return fmt.Errorf("%s is %q", name, got)
	case item[at] == '!':
	case !have, want != "*" && got != want:
		return fmt.Errorf("%s is %q, want %q", name, got, want)
	}
	return nil
}

func (g *group) remember(name, value string) error {
	if value == "" {
		return fmt.Errorf("nothing to remember as %s", name)
	}
	g.vars[name] = value
	return nil
}

// expand replaces what stands in %(…).
func (g *group) expand(s string, body []byte) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(s, "%(")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		name, after, closed := strings.Cut(rest, ")")
		if !closed {
			return "", fmt.Errorf("an open %%( in %q", s)
		}
		value, err := g.value(name, body)
		if err != nil {
			return "", err
		}
		out.WriteString(value)
		s = after
	}
}

// value is what one %(…) stands for.
func (g *group) value(name string, body []byte) (string, error) {
	if v, ok := g.vars[name]; ok {
		return v, nil
	}
	word, arg, _ := strings.Cut(name, " ")
	switch word {
	case "fill", "key":
		n, err := strconv.Atoi(arg)
		return strings.Repeat("x", max(n, 0)), err
	case "br":
		return "\n", nil
	case "crlf":
		return "\r\n", nil
	case "signed": // a form's policy: its base64, signed by a user
		user, text, _ := strings.Cut(arg, " ")
		mac := hmac.New(sha1.New, []byte(g.client.secrets[user][1]))
		mac.Write([]byte(base64.StdEncoding.EncodeToString([]byte(text))))
		return base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
	case "b64":
		return base64.StdEncoding.EncodeToString([]byte(arg)), nil
	case "http", "iso":
		d, err := time.ParseDuration(arg)
		if word == "iso" {
			return time.Now().UTC().Add(d).Format("2006-01-02T15:04:05Z"), err
		}
		return time.Now().UTC().Add(d).Format(http.TimeFormat), err
	case "md5":
		if text, ok := strings.CutPrefix(arg, "of "); ok {
			return fmt.Sprintf("%x", md5.Sum([]byte(text))), nil
		}
	}
	sum, err := checksum(word, body)
	return base64.StdEncoding.EncodeToString(sum), err
}

func checksum(name string, body []byte) ([]byte, error) {
	switch cairn.ChecksumAlgo(strings.ToUpper(name)) {
	case "MD5":
		sum := md5.Sum(body)
		return sum[:], nil
	case cairn.CRC32:
		return binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(body)), nil
	case cairn.CRC32C:
		return binary.BigEndian.AppendUint32(nil, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))), nil
	case cairn.CRC64NVME:
		return binary.BigEndian.AppendUint64(nil, crc64nvme.Checksum(body)), nil
	case cairn.SHA1:
		sum := sha1.Sum(body)
		return sum[:], nil
	case cairn.SHA256:
		sum := sha256.Sum256(body)
		return sum[:], nil
	}
	return nil, fmt.Errorf("what is %%(%s)?", name)
}
