package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "cairn"

// anything in the table allows every import of ours.
const anything = "*"

// table says which of our packages a folder may import besides the root package and its own subfolders. It is the import
// table of ARCHITECTURE.md; "." is the root package itself, which imports the standard library only.
var table = map[string][]string{
	".":                    {},
	"erasure":              {},
	"internal/vfs":         {},
	"internal/rpc":         {},
	"internal/join":        {"internal/rpc"},
	"membership":           {"internal/rpc"},
	"datanode":             {"internal/vfs", "internal/rpc"},
	"lifecycle":            {},
	"events":               {},
	"meta":                 {"internal/vfs", "internal/rpc", "lifecycle", "events"},
	"blob":                 {"erasure"},
	"repair":               {"erasure"},
	"jobs":                 {},
	"durability":           {},
	"health":               {},
	"scrub":                {},
	"sse":                  {},
	"object":               {"meta", "sse"},
	"iam":                  {},
	"s3api":                {"object", "iam", "meta", "lifecycle", "sse", "events"}, // of meta the requests that object passes on
	"hub":                  {"object", "iam", "meta"},
	"mount":                {}, // any S3 endpoint, this store too, through minio-go
	"admin":                {"object", "iam", "membership", "meta", "events", "durability", "health", "web"},
	"web":                  {},
	"bench":                {"erasure", "meta", "admin", "internal/process"},
	"cmd/cairn":            {anything},
	"internal/server":      {anything},
	"internal/testcluster": {anything},
	"internal/simcluster":  {"meta"},
	"e2e":                  {anything}, // tests of the real binary only
	"conformance":          {"s3api", "object", "iam", "events"},
	"clients":              {"internal/process"},
	"uitest":               {"internal/process"}, // the dashboard in a real browser, against the real binary
	"internal/process":     {},
	"internal/arch":        {},
}

// strangers may not even import the root package.
var strangers = []string{".", "erasure", "internal/vfs"}

// assemblies put a whole process together; only other assemblies import them.
var assemblies = []string{"cmd/cairn", "internal/server", "internal/testcluster"}

// forbidden are modules under licences that bind their users (AGPL). The text before the version suffix is compared.
var forbidden = []string{
	"github.com/minio/minio",
	"github.com/minio/pkg",
	"github.com/minio/madmin-go",
	"github.com/minio/kes",
	"github.com/minio/kes-go",
	"github.com/minio/kms-go",
}

// vague are folder names that say nothing of what is in them.
var vague = []string{"util", "utils", "common", "helpers", "types", "misc"}

// file is one Go file of the module with its imports.
type file struct {
	name    string // relative to the module's root, slashes
	folder  string // "." for the root
	test    bool
	imports []string
}

func TestImportTable(t *testing.T) {
	files := moduleFiles(t, root(t))
	for _, f := range files {
		for _, why := range violations(f) {
			t.Error(why)
		}
	}
	// Were the walk broken, nothing above could fail.
	if !slices.ContainsFunc(files, func(f file) bool {
		return f.folder == "object" && !f.test && slices.Contains(f.imports, module+"/meta")
	}) {
		t.Error("the walk did not see that object imports meta")
	}
}

// TestTableCatches checks the check: each of these must be found wrong, or right.
func TestTableCatches(t *testing.T) {
	for _, c := range []struct {
		folder, imports string
		test            bool
		want            int
	}{
		{"object", "cairn/meta", false, 0},
		{"object", "cairn/meta/replica", false, 0},
		{"object", "cairn/blob", false, 1},
		{"object", "cairn/blob", true, 0},
		{"object/objecttest", "cairn/blob", false, 0},
		{"meta/replica", "cairn/internal/vfs", false, 0},
		{"meta/replica", "cairn/meta", false, 0},
		{"meta", "cairn/object", false, 1},
		{"erasure", "cairn", false, 1},
		{".", "cairn/meta", false, 1},
		{".", "github.com/klauspost/reedsolomon", false, 1},
		{"scrub", "cairn/meta", false, 1},
		{"cmd/cairn", "cairn/blob", false, 0},
		{"admin", "cairn/internal/server", false, 1},
		{"s3api", "cairn/cmd/cairn", true, 1},
		{"elsewhere", "fmt", false, 1},
		{"object/util", "fmt", false, 1},
		{"s3api", "github.com/minio/pkg/v3/policy", false, 1},
		{"s3api", "github.com/minio/pkg/v3/policy", true, 1},
		{"s3api", "github.com/minio/minio/cmd", false, 1},
		{"s3api", "github.com/minio/minio-go/v7", false, 0},
	} {
		f := file{name: c.folder + "/x.go", folder: c.folder, test: c.test, imports: []string{c.imports}}
		if got := violations(f); len(got) != c.want {
			t.Errorf("%s imports %s (test %t): got %q, want %d violations", c.folder, c.imports, c.test, got, c.want)
		}
	}
}

func TestNoForbiddenModules(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	required := 0
	for line := range strings.Lines(string(text)) {
		for _, word := range strings.Fields(line) {
			if !strings.Contains(word, ".") {
				continue
			}
			required++
			if isForbidden(word) {
				t.Errorf("go.mod: %s is under a licence that we do not take", word)
			}
		}
	}
	if required == 0 {
		t.Error("go.mod names no module: is it read at all?")
	}
}

// violations lists what is wrong with a file's place and imports.
func violations(f file) (out []string) {
	if slices.ContainsFunc(strings.Split(f.folder, "/"), func(s string) bool { return slices.Contains(vague, s) }) {
		return append(out, f.name+": the folder's name says nothing of what is in it")
	}
	owner, allowed, ok := row(f.folder)
	if !ok {
		return append(out, f.name+": "+f.folder+" is not in the import table")
	}
	for _, imp := range f.imports {
		if why := refuse(f, owner, allowed, imp); why != "" {
			out = append(out, f.name+" imports "+imp+": "+why)
		}
	}
	return out
}

// refuse tells why a file may not import imp, "" if it may.
func refuse(f file, owner string, allowed []string, imp string) string {
	if isForbidden(imp) {
		return "its licence is not ours to take"
	}
	rest, ours := strings.CutPrefix(imp+"/", module+"/")
	if !ours {
		if owner == "." && !f.test && strings.Contains(strings.Split(imp, "/")[0], ".") {
			return "the root package uses the standard library only"
		}
		return ""
	}
	target := strings.TrimSuffix(rest, "/")
	if target == "" {
		target = "."
	}
	targetOwner, _, known := row(target)
	switch {
	case !known:
		return "it is not in the import table"
	case targetOwner == owner:
		return ""
	case slices.Contains(assemblies, targetOwner) && !slices.Contains(assemblies, owner) && !f.test:
		return "only whole processes may import it"
	case targetOwner == "cmd/cairn":
		return "a command is not a library"
	case f.test || isTestPackage(f.folder):
		return ""
	case targetOwner == "." && !slices.Contains(strangers, owner):
		return ""
	case slices.Contains(allowed, anything) || slices.Contains(allowed, targetOwner):
		return ""
	}
	return "the import table does not allow it"
}

// row finds the line of the table for a folder: its own, or that of the nearest folder above.
func row(folder string) (owner string, allowed []string, ok bool) {
	for at := folder; ; at = path.Dir(at) {
		if allowed, ok = table[at]; ok {
			return at, allowed, at != "." || folder == "."
		}
	}
}

// isTestPackage knows the packages that ship test helpers beside the package they are for: object/objecttest.
func isTestPackage(folder string) bool {
	return path.Base(folder) == path.Base(path.Dir(folder))+"test"
}

func isForbidden(imp string) bool {
	return slices.ContainsFunc(forbidden, func(m string) bool { return imp == m || strings.HasPrefix(imp, m+"/") })
}

// moduleFiles parses the imports of every Go file of the module.
func moduleFiles(t *testing.T, dir string) (out []file) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() && name != dir && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") ||
			slices.Contains([]string{"testdata", "node_modules", "data", "bin"}, base)) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(base, ".go") {
			return nil
		}
		f, err := parse(dir, name)
		out = append(out, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func parse(dir, name string) (file, error) {
	rel, err := filepath.Rel(dir, name)
	if err != nil {
		return file{}, err
	}
	rel = filepath.ToSlash(rel)
	f := file{name: rel, folder: path.Dir(rel), test: strings.HasSuffix(rel, "_test.go")}
	tree, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
	if err != nil {
		return f, err
	}
	for _, spec := range tree.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return f, err
		}
		f.imports = append(f.imports, imp)
	}
	return f, nil
}

// root is the module's directory: the one above with go.mod.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = up
	}
}
