// Package uitest drives the dashboard with a real browser (Debian's chromium, through chromedp) against the real binary: what a
// person clicks, types and sees. The tests carry the build tag ui and find the binary in CAIRN_BINARY; `make test-ui` installs
// what they need and runs them.
//
// Every page is checked by axe-core in light and dark, at 1280x800 and at 390x844, and a message on the browser's console is
// a failure. Screenshots of each stay in bin/ui.
package uitest
