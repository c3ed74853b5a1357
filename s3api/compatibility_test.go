package s3api

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docs/s3-compatibility.md names every route, and only tests that exist.
func TestCompatibilityPage(t *testing.T) {
	text, err := os.ReadFile("../docs/s3-compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	for _, op := range (&Server{}).operations() {
		if !strings.Contains(page, "| "+op.name+" |") {
			t.Errorf("the page has no row for %s", op.name)
		}
	}
	tests := goTests(t, "..")
	rows := 0
	for line := range strings.Lines(page) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || strings.HasPrefix(line, "|---") || strings.Contains(line, "| Shown by |") {
			continue
		}
		rows++
		names := regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[3], -1)
		if len(names) == 0 {
			t.Errorf("no test is named: %s", line)
		}
		for _, m := range names {
			if tests[m[1]] {
				continue
			}
			if _, err := os.Stat(filepath.Join("../conformance/testdata", m[1]+".txt")); err != nil {
				t.Errorf("there is no test and no group %q: %s", m[1], line)
			}
		}
	}
	if rows < len((&Server{}).operations())/2 {
		t.Errorf("%d rows were read: the page's form is not what this test expects", rows)
	}
}

// goTests returns the names of all Go tests below a folder.
func goTests(t *testing.T, root string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	name := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range name.FindAllSubmatch(text, -1) {
			found[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
