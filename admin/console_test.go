package admin

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cairn"
	"cairn/iam"
	"cairn/meta"
)

// rows keep identities, sessions and audit records in memory.
type rows struct {
	mu         sync.Mutex
	identities map[string][]byte
	version    uint64
	sessions   map[[32]byte][]byte
	journal    []meta.AuditRow
}

func (r *rows) Identities(context.Context) (map[string][]byte, uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.identities), r.version, nil
}

func (r *rows) IdentityVersion(context.Context) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.version, nil
}

func (r *rows) ChangeIdentities(_ context.Context, change func(rows map[string][]byte) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version++
	return change(r.identities)
}

func (r *rows) PutSession(_ context.Context, hash [sha256.Size]byte, record []byte, _ time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sessions[hash] = record
	return nil
}

func (r *rows) Session(_ context.Context, hash [sha256.Size]byte) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b, ok := r.sessions[hash]; ok {
		return b, nil
	}
	return nil, cairn.ErrNotFound
}

func (r *rows) DeleteSession(_ context.Context, hash [sha256.Size]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, hash)
	return nil
}

func (r *rows) AppendAudit(_ context.Context, record []byte, _ uint64) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := uint64(len(r.journal) + 1)
	r.journal = append(r.journal, meta.AuditRow{Number: n, Record: record})
	return n, nil
}

func (r *rows) Audit(_ context.Context, before uint64, max int) ([]meta.AuditRow, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []meta.AuditRow
	for _, row := range slices.Backward(r.journal) {
		if (before == 0 || row.Number < before) && len(out) < max {
			out = append(out, row)
		}
	}
	return out, nil
}

// s3 remembers what it was asked, and as whom.
type s3 struct {
	target string
	who    iam.Identity
	header http.Header
}

func (f *s3) ServeAs(w http.ResponseWriter, r *http.Request, who iam.Identity) {
	f.target, f.who, f.header = r.RequestURI, who, r.Header
	io.WriteString(w, "<script>alert(1)</script>")
}

// console is a server with everything that the dashboard asks.
type console struct {
	*Server
	cluster *cluster
	rows    *rows
	s3      *s3
	ids     *iam.Store
}

func newConsole(t *testing.T) *console {
	t.Helper()
	c := &console{cluster: &cluster{status: Status{Health: HealthOK, Reasons: []string{}}}, s3: &s3{},
		rows: &rows{identities: map[string][]byte{}, sessions: map[[32]byte][]byte{}}}
	var err error
	if c.ids, err = iam.New(iam.Config{AccessKey: "root", SecretKey: "root-secret", Rows: c.rows, Seal: [32]byte{1}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ids.Users(t.Context()); err != nil { // loads them
		t.Fatal(err)
	}
	c.Server, err = New(Config{Cluster: c.cluster, Topology: c.cluster, Metrics: NewMetrics(), AccessKey: "root", SecretKey: "root-secret",
		Identities: c.ids, Sessions: c.rows, Journal: c.rows, Objects: c.s3})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// user makes a user with a policy, and its key "NAME-key" with the secret "NAME-secret".
func (c *console) user(t *testing.T, name, statement string) {
	t.Helper()
	doc := `{"Version":"2012-10-17","Statement":[` + statement + `]}`
	if err := c.ids.PutPolicy(t.Context(), name+"-policy", []byte(doc)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.ids.CreateUser(t.Context(), iam.NewUser{Name: name, AccessKey: name + "-key", SecretKey: name + "-secret", Policies: []string{name + "-policy"}}); err != nil {
		t.Fatal(err)
	}
}

// send makes a request with a body and headers ("Name: value").
func (c *console) send(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.RemoteAddr = outside
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	return w
}

// login returns the session's cookie as a header.
func (c *console) login(t *testing.T, access, secret string, headers ...string) string {
	t.Helper()
	w := c.send("POST", "/login", fmt.Sprintf(`{"access_key":%q,"secret_key":%q}`, access, secret), headers...)
	if w.Code != 200 {
		t.Fatalf("login: %d %s", w.Code, w.Body)
	}
	cookies := w.Result().Cookies()
	if len(cookies) != 1 {
		t.Fatalf("%d cookies", len(cookies))
	}
	if k := cookies[0]; k.Name != "__Host-cairn-session" || !k.Secure || !k.HttpOnly || k.SameSite != http.SameSiteStrictMode || k.Path != "/" || k.Domain != "" {
		t.Errorf("a cookie that is not kept to this host and away from scripts: %+v", k)
	}
	return "Cookie: " + cookies[0].Name + "=" + cookies[0].Value
}

func as(access string) string {
	r := httptest.NewRequest("GET", "/", nil)
	secret := access + "-secret"
	if name, ok := strings.CutSuffix(access, "-key"); ok {
		secret = name + "-secret"
	}
	r.SetBasicAuth(access, secret)
	return "Authorization: " + r.Header.Get("Authorization")
}

func TestPoliciesDecideAboutEveryRoute(t *testing.T) {
	c := newConsole(t)
	c.user(t, "viewer", `{"Effect":"Allow","Action":["cairn:Get*","cairn:List*"],"Resource":"*"}`)
	c.user(t, "starter", `{"Effect":"Allow","Action":"cairn:StartScrub","Resource":"*"}`)
	c.user(t, "s3only", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::*"}`)
	c.user(t, "giver", `{"Effect":"Allow","Action":"cairn:*","Resource":"*"}`)
	for _, tt := range []struct {
		who, method, target string
		want                int
	}{
		{"viewer-key", "GET", "/api/v1/status", 200},
		{"viewer-key", "GET", "/api/v1/users", 200},
		{"viewer-key", "POST", "/api/v1/scrub", 403},
		{"viewer-key", "DELETE", "/api/v1/users/giver", 403},
		{"starter-key", "POST", "/api/v1/scrub", 202},
		{"starter-key", "GET", "/api/v1/status", 403},
		{"s3only-key", "GET", "/api/v1/status", 403},
		{"giver-key", "GET", "/api/v1/status", 200},
		{"giver-key", "DELETE", "/api/v1/users/viewer", 403}, // it would be a way to more rights: administrators only
		{"root", "GET", "/api/v1/status", 200},
		{"root", "DELETE", "/api/v1/users/nobody", 404},
		{"root", "GET", "/api/v1/nothing", 404},
	} {
		if w := c.send(tt.method, tt.target, "", as(tt.who)); w.Code != tt.want {
			t.Errorf("%s %s as %s: got %d %s, want %d", tt.method, tt.target, tt.who, w.Code, w.Body, tt.want)
		}
	}
}

func TestNobodyGivesThemselvesMore(t *testing.T) {
	c := newConsole(t)
	if _, _, err := c.ids.CreateUser(t.Context(), iam.NewUser{Name: "boss", AccessKey: "boss-key", SecretKey: "boss-secret", Policies: []string{iam.AdminPolicy}}); err != nil {
		t.Fatal(err)
	}
	// A service account of an administrator, which may do all of the store's actions and nothing of S3's.
	if _, err := c.ids.CreateKey(t.Context(), iam.NewKey{User: "boss", AccessKey: "robot-key", SecretKey: "robot-secret",
		Policy: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"cairn:*","Resource":"*"}]}`}); err != nil {
		t.Fatal(err)
	}
	for target, body := range map[string]string{
		"POST /api/v1/keys":          `{"user":"boss"}`,
		"POST /api/v1/users":         `{"name":"mine","policies":["admin"]}`,
		"PUT /api/v1/policies/p":     `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`,
		"PUT /api/v1/groups/g":       `{"policies":["admin"]}`,
		"PATCH /api/v1/users/boss":   `{"disabled":true}`,
		"POST /api/v1/keys/k/rotate": "",
	} {
		method, path, _ := strings.Cut(target, " ")
		if w := c.send(method, path, body, as("robot-key")); w.Code != 403 {
			t.Errorf("%s as a limited key of an administrator: got %d %s, want 403", target, w.Code, w.Body)
		}
	}
	if w := c.send("POST", "/api/v1/users", `{"name":"mine","policies":["admin"]}`, as("boss-key")); w.Code != 200 {
		t.Errorf("the administrator itself: got %d %s", w.Code, w.Body)
	}
}

func TestEveryChangeIsAudited(t *testing.T) {
	c := newConsole(t)
	c.user(t, "viewer", `{"Effect":"Allow","Action":"cairn:Get*","Resource":"*"}`)
	changes := 0
	for _, r := range c.table {
		before := len(c.rows.journal)
		path := strings.NewReplacer("{id}", "1", "{node}", "x", "{name}", "nobody", "{key}", "nokey", "{bucket}", "b").Replace(r.Path())
		if strings.HasSuffix(path, "/events") {
			continue // it does not end
		}
		w := c.send(r.Method(), path, "{}", as("root"))
		recorded := c.rows.journal[before:]
		if !r.Changes() {
			if len(recorded) != 0 {
				t.Errorf("%s changes nothing and left %s", r.Pattern, recorded[0].Record)
			}
			continue
		}
		changes++
		var rec AuditRecord
		if len(recorded) != 1 || json.Unmarshal(recorded[0].Record, &rec) != nil {
			t.Errorf("%s: %d records", r.Pattern, len(recorded))
			continue
		}
		if rec.Who != "root" || rec.From != "192.0.2.7" || rec.Action != r.Action || !strings.Contains(rec.Subject, path) ||
			(rec.Result == "ok") != (w.Code/100 == 2) || rec.RequestID != w.Header().Get(requestIDHeader) || rec.Time.IsZero() {
			t.Errorf("%s answered %d and left %+v", r.Pattern, w.Code, rec)
		}
	}
	if changes < 10 {
		t.Errorf("only %d routes change something: are they all there?", changes)
	}
	// A refusal is recorded too, with who was refused.
	c.send("POST", "/api/v1/scrub", "", as("viewer-key"))
	var page AuditPage
	w := c.send("GET", "/api/v1/audit?failed=1&who=viewer", "", as("root"))
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || len(page.Records) != 1 || page.Records[0].Action != "cairn:StartScrub" {
		t.Errorf("refusals of viewer: %v %s", err, w.Body)
	}
}

func TestAuditPages(t *testing.T) {
	c := newConsole(t)
	for range 25 {
		c.send("POST", "/api/v1/scrub", "", as("root"))
	}
	var numbers []uint64
	for next := uint64(0); ; {
		var page AuditPage
		w := c.send("GET", fmt.Sprintf("/api/v1/audit?max=10&before=%d", next), "", as("root"))
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Records {
			numbers = append(numbers, r.Number)
		}
		if next = page.Next; next == 0 {
			break
		}
	}
	if len(numbers) != 25 || numbers[0] != 25 || numbers[24] != 1 {
		t.Errorf("got %v, want 25 down to 1", numbers)
	}
	for _, q := range []string{"max=0", "max=1001", "max=x", "before=-1"} {
		if w := c.send("GET", "/api/v1/audit?"+q, "", as("root")); w.Code != 400 || !strings.Contains(w.Body.String(), `"field"`) {
			t.Errorf("%s: got %d %s, want 400 with the field", q, w.Code, w.Body)
		}
	}
}

func TestSessions(t *testing.T) {
	c := newConsole(t)
	c.user(t, "viewer", `{"Effect":"Allow","Action":["cairn:Console","cairn:Get*"],"Resource":"*"}`)
	c.user(t, "other", `{"Effect":"Allow","Action":"cairn:Get*","Resource":"*"}`)
	cookie := c.login(t, "viewer-key", "viewer-secret")
	if w := c.send("GET", "/api/v1/me", "", cookie); w.Code != 200 || !strings.Contains(w.Body.String(), `"viewer"`) {
		t.Errorf("me: %d %s", w.Code, w.Body)
	}
	if w := c.send("POST", "/api/v1/scrub", "", cookie); w.Code != 403 {
		t.Errorf("what the policy does not allow: got %d", w.Code)
	}
	if w := c.send("POST", "/login", `{"access_key":"other-key","secret_key":"other-secret"}`); w.Code != 403 {
		t.Errorf("a user without cairn:Console: got %d, want 403", w.Code)
	}
	for _, body := range []string{`{"access_key":"viewer-key","secret_key":"wrong"}`, `{"access_key":"nobody","secret_key":""}`, `{}`} {
		if w := c.send("POST", "/login", body); w.Code != 401 || len(w.Result().Cookies()) != 0 {
			t.Errorf("%s: got %d with %d cookies, want 401 and none", body, w.Code, len(w.Result().Cookies()))
		}
	}
	// Whoever knows a session's cookie before the login knows nothing after it (session fixation).
	if again := c.login(t, "viewer-key", "viewer-secret", "Cookie: __Host-cairn-session=known-to-another"); strings.Contains(again, "known-to-another") || again == cookie {
		t.Errorf("the login took a session that was there: %s", again)
	}
	if w := c.send("GET", "/api/v1/me", "", "Cookie: __Host-cairn-session=known-to-another"); w.Code != 401 {
		t.Errorf("a session that was never begun: got %d", w.Code)
	}
	// Rights that end, end at once: nothing of them is in the session.
	if err := c.ids.DisableKey(t.Context(), "viewer-key", true); err != nil {
		t.Fatal(err)
	}
	if w := c.send("GET", "/api/v1/me", "", cookie); w.Code != 401 {
		t.Errorf("after its key was disabled: got %d, want 401", w.Code)
	}
	if err := c.ids.DisableKey(t.Context(), "viewer-key", false); err != nil {
		t.Fatal(err)
	}
	if w := c.send("POST", "/logout", "", cookie); w.Code != 200 {
		t.Errorf("logout: %d", w.Code)
	}
	if w := c.send("GET", "/api/v1/me", "", cookie); w.Code != 401 {
		t.Errorf("after the logout: got %d, want 401", w.Code)
	}
}

func TestGuessingIsBounded(t *testing.T) {
	c := newConsole(t)
	codes := map[int]int{}
	for range triesAtOnce + 10 {
		codes[c.send("POST", "/login", `{"access_key":"root","secret_key":"guess"}`).Code]++
	}
	if codes[429] < 5 || codes[401] < triesAtOnce {
		t.Errorf("got %v, want 401 up to a bound and 429 behind it", codes)
	}
	if w := c.send("POST", "/login", `{"access_key":"root","secret_key":"root-secret"}`); w.Code != 429 {
		t.Errorf("the right secret from there: got %d, want 429: else guessing would go on", w.Code)
	}
}

func TestOtherOriginsChangeNothing(t *testing.T) {
	c := newConsole(t)
	cookie := c.login(t, "root", "root-secret")
	for _, target := range []string{"POST /api/v1/scrub", "DELETE /s3/bucket", "PUT /s3/bucket/key", "POST /logout", "POST /login"} {
		method, path, _ := strings.Cut(target, " ")
		for _, header := range []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "Origin: https://evil.example"} {
			if w := c.send(method, path, "", cookie, header); w.Code != 403 {
				t.Errorf("%s with %s: got %d, want 403", target, header, w.Code)
			}
		}
	}
	if len(c.cluster.scopes) != 0 || c.s3.target != "" {
		t.Error("a request of another origin came through")
	}
	if w := c.send("POST", "/api/v1/scrub", "", cookie, "Sec-Fetch-Site: same-origin"); w.Code != 202 {
		t.Errorf("the page itself: got %d", w.Code)
	}
}

func TestObjectsOfClientsAreNoPages(t *testing.T) {
	c := newConsole(t)
	c.user(t, "viewer", `{"Effect":"Allow","Action":"cairn:Console","Resource":"*"}`)
	cookie := c.login(t, "viewer-key", "viewer-secret")
	w := c.send("GET", "/s3/bucket/a%2F..//x.html?versionId=null", "", cookie, "X-Amz-Meta-A: b")
	if w.Code != 200 || c.s3.target != "/bucket/a%2F..//x.html?versionId=null" || c.s3.who.Name != "viewer" || c.s3.header.Get("X-Amz-Meta-A") != "b" {
		t.Errorf("got %d, target %q as %q", w.Code, c.s3.target, c.s3.who.Name)
	}
	if c.s3.header.Get("Cookie") != "" || c.s3.header.Get("Authorization") != "" {
		t.Error("the credentials went on with the request")
	}
	h := w.Header()
	if p := h.Get("Content-Security-Policy"); !strings.Contains(p, "sandbox") || !strings.Contains(p, "default-src 'none'") || h.Get("X-Content-Type-Options") != "nosniff" ||
		!strings.HasPrefix(h.Get("Content-Disposition"), "attachment") {
		t.Errorf("an object could run as a page: %v", h)
	}
	c.s3.target = ""
	if w := c.send("GET", "/s3/bucket/key", ""); w.Code != 401 || c.s3.target != "" {
		t.Errorf("without a login: got %d", w.Code)
	}
	r := httptest.NewRequest("PUT", "/s3/b/k", io.MultiReader(strings.NewReader("x")))
	r.TransferEncoding = []string{"chunked"}
	r.Header.Set("Cookie", strings.TrimPrefix(cookie, "Cookie: "))
	rec := httptest.NewRecorder()
	if c.ServeHTTP(rec, r); rec.Code != 400 || c.s3.target != "" {
		t.Errorf("a chunked body: got %d", rec.Code)
	}
}

func TestNoAnswerCanBeFramed(t *testing.T) {
	c := newConsole(t)
	cookie := c.login(t, "root", "root-secret")
	for _, path := range []string{"/", "/assets/app.js", "/api/v1/status", "/s3/b/k", "/nothing"} {
		h := c.send("GET", path, "", cookie).Header()
		if !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") || h.Get("X-Frame-Options") != "DENY" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, h)
		}
	}
	page := c.send("GET", "/", "")
	policy := page.Header().Get("Content-Security-Policy")
	if page.Code != 200 || strings.Contains(policy, "unsafe") || !strings.Contains(policy, "script-src 'self'") {
		t.Errorf("the page: %d %s", page.Code, policy)
	}
}

func TestOpenAPIDescribesEveryRoute(t *testing.T) {
	c := newConsole(t)
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string `json:"operationId"`
			Action      string `json:"x-cairn-action"`
		}
		Components struct {
			Schemas map[string]struct {
				Properties map[string]any
			}
		}
	}
	w := c.send("GET", "/api/v1/openapi.json", "", as("root"))
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || doc.OpenAPI != "3.1.0" {
		t.Fatalf("%v %.200s", err, w.Body)
	}
	ids := map[string]bool{}
	for _, r := range Routes() {
		op, ok := doc.Paths[r.Path()][strings.ToLower(r.Method())]
		if !ok || op.Action != r.Action || ids[op.OperationID] {
			t.Errorf("%s: %+v", r.Pattern, op)
		}
		ids[op.OperationID] = true
	}
	// The schemas are the JSON that is sent: each member of a status is described.
	var status map[string]any
	if err := json.Unmarshal(c.send("GET", "/api/v1/status", "", as("root")).Body.Bytes(), &status); err != nil {
		t.Fatal(err)
	}
	for name := range status {
		if _, ok := doc.Components.Schemas["Status"].Properties[name]; !ok {
			t.Errorf("the status has %q, its schema has not", name)
		}
	}
}

// events reads a stream's next events: name, ID and data of each.
func nextEvent(t *testing.T, lines *bufio.Scanner) (event, id, data string) {
	t.Helper()
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "event":
			event = value
		case "id":
			id = value
		case "data":
			data = value
		case "":
			return event, id, data
		}
	}
	t.Fatalf("the stream ended: %v", lines.Err())
	return
}

func TestEventsAreASnapshotAndDifferences(t *testing.T) {
	c := newConsole(t)
	c.cluster.status.Drives = []Drive{{ID: "d1", Path: "/d1"}, {ID: "d2", Path: "/d2"}}
	srv := httptest.NewServer(c)
	t.Cleanup(srv.Close) // after the streams, which end first
	open := func(last string) *bufio.Scanner {
		r, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/api/v1/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("root", "root-secret")
		r.Header.Set("Last-Event-ID", last)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return bufio.NewScanner(resp.Body)
	}
	var change Change
	first := open("")
	event, id, data := nextEvent(t, first)
	if err := json.Unmarshal([]byte(data), &change); err != nil || event != "snapshot" || string(change.Set["health"]) != `"ok"` || change.Set["drives/d2"] == nil {
		t.Fatalf("got %s %s, want a snapshot", event, data)
	}
	c.cluster.mu.Lock()
	c.cluster.status.Health, c.cluster.status.Drives = HealthHealing, []Drive{{ID: "d1", Path: "/d1"}}
	c.cluster.mu.Unlock()
	for event = "tick"; event == "tick"; {
		event, _, data = nextEvent(t, first)
	}
	if change = (Change{}); json.Unmarshal([]byte(data), &change) != nil || event != "delta" || len(change.Set) != 1 || string(change.Set["health"]) != `"healing"` ||
		!slices.Equal(change.Gone, []string{"drives/d2"}) {
		t.Fatalf("got %s %s, want the difference", event, data)
	}
	// Who comes back with the last ID gets what changed since; who comes back to another process gets everything.
	if event, _, data = nextEvent(t, open(id)); event != "delta" || strings.Contains(data, "drives/d1") {
		t.Errorf("after a break: %s %s, want a delta", event, data)
	}
	if event, _, _ = nextEvent(t, open("0123456789ab-1")); event != "snapshot" {
		t.Errorf("after a restart of the server: %s, want a snapshot", event)
	}
	c.cluster.mu.Lock()
	c.cluster.err = cairn.ErrQuorum
	c.cluster.mu.Unlock()
	for event = "tick"; event == "tick" || event == "delta"; {
		event, _, data = nextEvent(t, first)
	}
	if event != "trouble" || !strings.Contains(data, "quorum") {
		t.Errorf("a status that cannot be had: %s %s", event, data)
	}
}

func TestHistoryIsOfTheLastDay(t *testing.T) {
	var r ring
	for i := range samplesKept + 5 {
		r.add(Sample{UsedBytes: int64(i)})
	}
	h := r.history()
	if len(h.Samples) != samplesKept || h.Samples[0].UsedBytes != 5 || r.last().UsedBytes != int64(samplesKept+4) || h.Samples[samplesKept-1] != *r.last() {
		t.Errorf("%d samples, from %d to %d", len(h.Samples), h.Samples[0].UsedBytes, r.last().UsedBytes)
	}
	m := NewMetrics()
	before := m.totals()
	for i := range 100 {
		code := ""
		if i == 0 {
			code = "SlowDown"
		}
		m.Observe("GetObject", code, 10, 1000, time.Millisecond*time.Duration(i+1))
	}
	s := m.totals().since(before, 10*time.Second)
	if s.RequestsPerSec != 10 || s.ErrorsPerSec != 0.1 || s.OutBytesPerSec != 10_000 || s.P50 < 0.032 || s.P50 > 0.064 || s.P99 < 0.064 || s.P99 > 0.128 {
		t.Errorf("got %+v", s)
	}
}
