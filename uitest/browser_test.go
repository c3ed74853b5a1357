//go:build ui

package uitest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience bounds every wait for the page; on a busy machine a browser takes seconds for what takes it milliseconds.
const patience = 60 * time.Second

// browser is one chromium.
type browser struct {
	t   *testing.T
	ctx context.Context
	axe string
	out string // folder of the screenshots
}

// openBrowser starts chromium, or skips the test and says why.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("SKIPPED: there is no chromium on this machine, so nothing of the dashboard was tested")
	}
	found, _ := filepath.Glob("../bin/ui/axe-*.js")
	if len(found) == 0 {
		t.Skip("SKIPPED: axe-core is not in bin/ui, so nothing of the dashboard was tested: run make test-ui")
	}
	axe, err := os.ReadFile(found[len(found)-1])
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.Flag("headless", "new"),
		chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.WindowSize(1280, 800))
	t.Cleanup(cancel)
	b := &browser{t: t, axe: string(axe), out: "../bin/ui/screens"}
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		t.Fatal(err)
	}
	first, stop := chromedp.NewContext(ctx)
	t.Cleanup(stop)
	b.ctx = first
	if _, err := chromedp.Run(first, chromedp.Evaluate[int]("1")); err != nil {
		t.Fatalf("chromium does not start: %v", err)
	}
	return b
}

// tab is one page of the browser, with what it said on its console.
type tab struct {
	t   *testing.T
	b   *browser
	ctx context.Context

	mu   sync.Mutex
	said []string
}

// open opens a tab. At the end of the test its console must have been silent.
func (b *browser) open(url string) *tab {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	b.t.Cleanup(cancel)
	p := &tab{t: b.t, b: b, ctx: ctx}
	// The first action makes the tab, which lives as long as the context of that action.
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[int]("1")); err != nil {
		b.t.Fatal(err)
	}
	err := chromedp.Listen(ctx, func(ev any) {
		switch e := ev.(type) {
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
				p.hear(fmt.Sprint(e.Type, " ", len(e.Args), " ", string(e.Args[0].Value)))
			}
		case *runtime.EventExceptionThrown:
			text := e.ExceptionDetails.Text
			if x := e.ExceptionDetails.Exception; x != nil {
				text += " " + x.Description
			}
			p.hear("exception " + text)
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError {
				p.hear(e.Entry.Text + " " + e.Entry.URL)
			}
		}
	})
	if err != nil {
		b.t.Fatal(err)
	}
	p.do(chromedp.EmulateViewport(1280, 800), chromedp.Navigate(url))
	b.t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, s := range p.said[:min(len(p.said), 5)] {
			b.t.Errorf("on the console of %s: %s", url, s)
		}
	})
	return p
}

func (p *tab) hear(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = append(p.said, text)
}

// forgive forgets what the console said: after a test that makes errors on purpose.
func (p *tab) forgive() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = nil
}

func (p *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	for i, a := range actions {
		if err := chromedp.Do(ctx, a); err != nil {
			p.shot("failed")
			p.t.Fatalf("action %d: %v; the page says: %s", i, err, p.text())
		}
	}
}

func (p *tab) text() string {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	s, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body ? document.body.innerText.slice(0, 1500) : ""`))
	return s
}

// eval returns what an expression is.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits for an expression to be true.
func (p *tab) until(what, expression string) {
	p.t.Helper()
	end := time.Now().Add(patience)
	for !eval[bool](p, "!!("+expression+")") {
		if time.Now().After(end) {
			p.shot("failed")
			p.t.Fatalf("waited for %s; the page says: %s", what, p.text())
		}
		select {
		case <-p.ctx.Done():
			p.t.Fatal(p.ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// says waits for a text on the page.
func (p *tab) says(text string) {
	p.t.Helper()
	p.until(fmt.Sprintf("%q", text), "document.body.innerText.includes("+quote(text)+")")
}

// click presses the first visible button or link with a text or a label.
func (p *tab) click(name string) {
	p.t.Helper()
	find := `[...document.querySelectorAll("button,a,label")].filter(e => (e.innerText.trim() === ` + quote(name) + ` || e.getAttribute("aria-label") === ` + quote(name) +
		`) && !e.disabled && e.getClientRects().length).at(-1)`
	p.until("something to press called "+name, find)
	eval[bool](p, "("+find+").click() || true")
}

// fill types into a field as a person does.
func (p *tab) fill(selector, text string) {
	p.t.Helper()
	p.until(selector, "document.querySelector("+quote(selector)+")")
	eval[bool](p, `(e => { e.focus(); e.select && e.select(); return true })(document.querySelector(`+quote(selector)+`))`)
	p.do(chromedp.SendKeys(selector, text))
}

// visit goes to a page without loading anew.
func (p *tab) visit(hash string) {
	p.t.Helper()
	eval[bool](p, "(location.hash = "+quote(hash)+") && true")
}

func quote(s string) string {
	b, _ := json.Marshal(s) // a string always can be
	return string(b)
}

// shot keeps a picture of the page.
func (p *tab) shot(name string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(p.b.out, name+".png"), png, 0o644)
	}
	if err != nil {
		p.t.Logf("screenshot %s: %v", name, err)
	}
}

// accessible runs axe-core on the page as it is.
func (p *tab) accessible(name string) {
	p.t.Helper()
	if !eval[bool](p, "!!window.axe") {
		eval[bool](p, p.b.axe+"; !!window.axe")
	}
	eval[bool](p, `(window.__axe = "", axe.run(document, {resultTypes: ["violations"]}).then(r => window.__axe = JSON.stringify(r.violations.map(v => v.id + ": " + v.nodes.slice(0, 4).map(n => n.html.slice(0, 160) + " " + (n.any[0] || n.all[0] || n.none[0] || {}).message).join(" | "))), e => window.__axe = JSON.stringify(["" + e])), true)`)
	p.until("axe-core", `window.__axe !== ""`)
	var violations []string
	if err := json.Unmarshal([]byte(eval[string](p, "window.__axe")), &violations); err != nil {
		p.t.Fatal(err)
	}
	if len(violations) > 0 {
		p.t.Errorf("%s: axe-core finds %s", name, strings.Join(violations, "\n\t"))
	}
}
