//go:build ui

package uitest

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"cairn/internal/process"
)

// start runs a server on a new directory and returns it with that directory.
func start(t *testing.T, args ...string) (*process.Server, string) {
	t.Helper()
	binary := os.Getenv("CAIRN_BINARY")
	if binary == "" {
		t.Fatal("CAIRN_BINARY does not name the binary: run make test-ui")
	}
	dir := filepath.Join(t.TempDir(), "data")
	s, err := process.Start(t.Context(), process.Options{Binary: binary, Args: append([]string{"--data", dir}, args...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s, dir
}

// login logs the tab in as root.
func (p *tab) login() {
	p.t.Helper()
	p.fill(`input[name="access"]`, process.AccessKey)
	p.fill(`input[name="secret"]`, process.SecretKey)
	p.click("Log in")
	p.until("the overview", `document.querySelector(".verdict")`)
}

// files writes the files that are uploaded, and returns their paths.
func files(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	var paths []string
	for name, size := range map[string]int{"config.json": 700, "tokenizer <b>&'\".bin": 300 << 10, "weights.safetensors": 24 << 20} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, bytes.Repeat([]byte{'w', 0, 7}, size/3), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// record keeps every value that an expression has from now on in the tab, without loading anew.
func (p *tab) record(expression string) {
	p.t.Helper()
	eval[bool](p, `(window.__seen = [], setInterval(() => { const v = String(`+expression+`); if (__seen.at(-1) !== v) __seen.push(v) }, 20), true)`)
}

// saw waits until one of the recorded values fits.
func (p *tab) saw(what, condition string) {
	p.t.Helper()
	p.until(what, `window.__seen && __seen.some(v => `+condition+`)`)
}

// TestWalk is what an operator does on the first day, in the real page.
func TestWalk(t *testing.T) {
	b := openBrowser(t)
	s, dir := start(t, "--drives", "7") // one more than the profile is wide, so that one can be emptied
	p := b.open(s.AdminURL() + "/")
	p.says("Log in")
	p.accessible("login")
	p.shot("login-light")
	p.login()
	p.says("All data safe.")

	t.Log("create a bucket, upload three files by the file input, browse")
	p.visit("#/buckets")
	p.click("Create the first one")
	p.fill(`input[name="bucket"]`, "models")
	p.click("Keep old versions of overwritten and deleted objects")
	p.click("Create")
	p.says("Bucket models is there.")
	p.click("models")
	p.says("Nothing here yet")
	paths := files(t)
	p.do(chromedp.SetUploadFiles("#files", paths))
	p.until("three files done", `document.body.innerText.includes("3 of 3 files done")`)
	p.until("three rows", `[...document.querySelectorAll("tbody a")].length === 3`)
	p.says("tokenizer <b>&'\".bin")
	p.do(chromedp.SetUploadFiles("#files", paths)) // new versions
	p.until("six files done", `document.body.innerText.includes("6 of 6 files done")`)

	t.Log("versions and shard map")
	p.click("weights.safetensors")
	p.until("two versions", `document.querySelectorAll("table[data-versions] tbody tr").length === 2`)
	p.until("the shard map", `document.querySelectorAll("[data-shards] tbody tr").length >= 6`)
	p.says("all shards are there")
	p.shot("object-light")
	p.accessible("object")

	watchRepair(t, b, s, dir)
	users(t, p, s)
	drain(t, p)
}

// watchRepair wipes a drive and watches verdict, heat map and repair change in three tabs that are not loaded anew.
func watchRepair(t *testing.T, b *browser, s *process.Server, dir string) {
	t.Log("wipe a drive and watch")
	throttle(t, s, "drive-floor=1048576&drive-ceiling=1048576") // else it is over before a person could see it
	overview, cluster, repair := b.open(s.AdminURL()+"/"), b.open(s.AdminURL()+"/#/cluster"), b.open(s.AdminURL()+"/#/repair")
	overview.until("the verdict", `document.querySelector(".verdict[data-health=ok]")`)
	cluster.until("seven tiles", `document.querySelectorAll(".tile[data-state=ok]").length === 7`)
	repair.until("the queue", `document.querySelector("[data-queued]")`)
	overview.record(`document.querySelector(".verdict").dataset.health + ": " + document.querySelector(".sentence").innerText + " / " + document.querySelector("[data-safe]").innerText`)
	cluster.record(`[...document.querySelectorAll(".tile")].map(e => e.dataset.state + " " + e.dataset.drive.slice(0, 6)).join(", ")`)
	repair.record(`document.querySelector("[data-queued]").innerText + "/" + document.querySelector("[data-rebuilt]").innerText`)
	if err := os.RemoveAll(filepath.Join(dir, "drive3")); err != nil {
		t.Fatal(err)
	}
	overview.saw("a verdict that is not ok", `!v.startsWith("ok")`)
	overview.shot("overview-healing-light")
	repair.saw("findings in the queue", `!v.startsWith("0/")`)
	repair.shot("repair-healing-light")
	repair.saw("rebuilt bytes that grow", `__seen.length > 2`)
	cluster.saw("a tile that is another drive's, or is not well", `v !== __seen[0]`)
	throttle(t, s, "default=1")
	overview.until("safe again", `document.querySelector(".verdict").dataset.health === "ok"`)
	for _, p := range []*tab{overview, cluster, repair} {
		t.Logf("seen: %.600s", strings.Join(eval[[]string](p, "__seen.slice(0, 12)"), " | ")) // gone if the page was loaded anew
	}
}

// throttle bounds repair through the API.
func throttle(t *testing.T, s *process.Server, limits string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.AdminURL()+"/api/v1/repair/throttle?"+limits, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(process.AccessKey, process.SecretKey)
	resp, err := http.DefaultClient.Do(r)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("throttle: %v, %v", resp, err)
	}
	resp.Body.Close()
}

// users makes a policy and a user with it, uses its key through S3, and asks the simulator.
func users(t *testing.T, p *tab, s *process.Server) {
	t.Log("a user with a policy, and its key through S3")
	p.visit("#/access/policies")
	p.click("Create policy")
	p.fill(`input[name="policy"]`, "read-models")
	p.click("Save")
	p.until("the policy", `[...document.querySelectorAll("tbody b")].some(e => e.innerText === "read-models")`)
	p.visit("#/access/users")
	p.click("Create user")
	p.until("its choice", `[...document.querySelectorAll("[role=dialog] label.check")].some(e => e.innerText === "read-models")`)
	p.fill(`input[name="user"]`, "ann")
	p.click("readwrite")
	p.click("read-models")
	p.click("Create")
	p.until("the secret", `document.querySelector("[data-secret]")`)
	access, secret := eval[string](p, `document.querySelector("[data-access]").innerText`), eval[string](p, `document.querySelector("[data-secret]").innerText`)
	p.click("I have stored it")
	c, err := minio.New(s.S3Addr, &minio.Options{Creds: credentials.NewStaticV4(access, secret, "")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.StatObject(t.Context(), "models", "config.json", minio.StatObjectOptions{}); err != nil {
		t.Errorf("the new key reads: %v", err)
	}
	if err := c.RemoveObject(context.Background(), "models", "config.json", minio.RemoveObjectOptions{}); minio.ToErrorResponse(err).Code != "AccessDenied" {
		t.Errorf("the new key deletes: got %v, want AccessDenied", err)
	}
	p.visit("#/access/simulator")
	p.until("the user", `[...document.querySelectorAll("select[name=user] option")].some(e => e.value === "ann")`)
	p.do(chromedp.SetValue(`select[name="user"]`, "ann"))
	eval[bool](p, `document.querySelector("select[name=user]").dispatchEvent(new Event("change", {bubbles: true}))`)
	p.fill(`input[name="action"]`, "s3:DeleteObject")
	p.fill(`input[name="bucket"]`, "models")
	p.fill(`input[name="key"]`, "config.json")
	p.click("Ask")
	p.until("the denial", `document.querySelector("[data-verdict=denied]")`)
}

// drain empties a drive: first the preview, then the job.
func drain(t *testing.T, p *tab) {
	t.Log("drain a drive")
	p.visit("#/cluster")
	p.until("seven tiles", `document.querySelectorAll(".tile[data-state=ok]").length === 7`)
	eval[bool](p, `document.querySelectorAll(".tile")[5].click() || true`)
	p.click("Drain…")
	p.until("the preview or why not", `document.querySelector("[role=dialog]") || document.querySelector(".toast.bad")`)
	if eval[bool](p, `!!document.querySelector(".toast.bad")`) {
		t.Fatalf("the drain was refused: %s", eval[string](p, `document.querySelector(".toast.bad").innerText`))
	}
	p.shot("drain-preview-light")
	p.click("Drain")
	p.until("a tile that is draining", `document.querySelector(".tile[data-state=draining]")`)
	p.visit("#/jobs")
	p.until("the job has ended well", `[...document.querySelectorAll("tbody tr")].some(r => /drain/.test(r.innerText) && /done/.test(r.innerText))`)
}

// TestPages looks at every page in light and dark, on a desk and on a phone.
func TestPages(t *testing.T) {
	b := openBrowser(t)
	s, _ := start(t)
	c, err := minio.New(s.S3Addr, &minio.Options{Creds: credentials.NewStaticV4(process.AccessKey, process.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MakeBucket(t.Context(), "datasets", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	for i, size := range []int{900, 12 << 10, 3 << 20} {
		if _, err := c.PutObject(t.Context(), "datasets", fmt.Sprintf("llama/part-%d.parquet", i), bytes.NewReader(make([]byte, size)), int64(size), minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	p := b.open(s.AdminURL() + "/")
	p.login()
	pages := []struct{ name, hash, ready string }{
		{"overview", "#/", `document.querySelector(".verdict")`},
		{"cluster", "#/cluster", `document.querySelectorAll(".tile").length === 6`},
		{"drive", "", `document.querySelector(".facts")`},
		{"repair", "#/repair", `document.querySelector("[data-queued]")`},
		{"jobs", "#/jobs", `document.querySelector("tbody tr")`},
		{"buckets", "#/buckets", `document.body.innerText.includes("datasets")`},
		{"bucket", "#/buckets/datasets", `document.body.innerText.includes("Open uploads")`},
		{"objects", "#/objects/datasets/llama%2F", `document.querySelectorAll("tbody tr").length === 3`},
		{"shards", "#/objects/datasets/llama%2F/llama%2Fpart-2.parquet", `document.querySelector("[data-shards]")`},
		{"access-users", "#/access/users", `document.body.innerText.includes("No users yet")`},
		{"access-keys", "#/access/keys", `document.body.innerText.includes("No keys yet")`},
		{"access-policies", "#/access/policies", `document.body.innerText.includes("writeonly")`},
		{"access-simulator", "#/access/simulator", `document.querySelector("input[name=action]")`},
		{"audit", "#/audit", `document.body.innerText.includes("cairn:Login")`},
		{"metrics", "#/metrics", `document.querySelector("canvas")`},
	}
	pages[2].hash = "#/cluster/" + eval[string](p, `fetch("/api/v1/status").then(r => r.json()).then(s => { window.__id = s.drives[2].id }) && ""`)
	p.until("a drive's ID", "window.__id")
	pages[2].hash += eval[string](p, "window.__id")
	for _, theme := range []string{"light", "dark"} {
		eval[bool](p, `(localStorage.setItem("theme", `+quote(theme)+`), true)`)
		for _, size := range [][2]int64{{1280, 800}, {390, 844}} {
			p.do(chromedp.EmulateViewport(size[0], size[1]), chromedp.Navigate(s.AdminURL()+"/"))
			p.until("the page", `document.querySelector(".verdict")`)
			for _, page := range pages {
				name := fmt.Sprintf("%s-%s-%d", page.name, theme, size[0])
				p.visit(page.hash)
				p.until(name, page.ready)
				p.accessible(name)
				if wide := eval[int64](p, "document.documentElement.scrollWidth"); wide > size[0] {
					t.Errorf("%s: %d pixels wide, the window has %d", name, wide, size[0])
				}
				p.shot(name)
			}
		}
	}
	p.do(chromedp.EmulateViewport(1280, 800))
	keyboard(t, p)
}

// keyboard goes about without a mouse.
func keyboard(t *testing.T, p *tab) {
	key := func(keys string, ctrl bool) {
		for _, k := range keys {
			eval[bool](p, fmt.Sprintf(`(document.activeElement || document.body).dispatchEvent(new KeyboardEvent("keydown", {key: %q, ctrlKey: %t, bubbles: true}))`, string(k), ctrl))
		}
	}
	eval[bool](p, "(document.activeElement.blur(), true)")
	key("gb", false)
	p.until("g b goes to the buckets", `location.hash === "#/buckets"`)
	p.until("a row", `document.querySelector("tbody tr")`)
	key("j", false)
	p.until("j marks a row", `document.querySelector("tr.at")`)
	key("/", false)
	p.until("/ filters", `document.activeElement.matches("input[data-filter]")`)
	eval[bool](p, "(document.activeElement.blur(), true)")
	key("k", true)
	p.until("Ctrl-K opens", `document.querySelector("[role=dialog] input[role=combobox]")`)
	p.accessible("palette")
	p.fill(`input[role="combobox"]`, "datas")
	p.until("it finds the bucket", `document.querySelector("[role=option]").innerText.includes("datasets")`)
	p.shot("palette-dark-1280")
}

// TestStreamSurvivesRestart: the page says that it is stale while the server is away, and goes on by itself when it is back.
func TestStreamSurvivesRestart(t *testing.T) {
	b := openBrowser(t)
	s, dir := start(t)
	p := b.open(s.AdminURL() + "/")
	p.login()
	eval[bool](p, "(window.__same = 1) === 1")
	binary := os.Getenv("CAIRN_BINARY")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	p.until("it says that it is stale", `document.querySelector(".stale")`)
	p.shot("stale-light")
	again, err := process.Start(t.Context(), process.Options{Binary: binary, Args: []string{"--data", dir, "--admin-addr", s.AdminAddr, "--s3-addr", s.S3Addr}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := again.Stop(); err != nil {
			t.Error(err)
		}
	})
	p.until("it goes on", `!document.querySelector(".stale") && document.querySelector(".verdict") && window.__same === 1`)
	p.forgive() // the browser says of every try that the server did not answer
}
