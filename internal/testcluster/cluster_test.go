package testcluster

import (
	"flag"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts print now into them")

func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) { RunScript(t, path, *rewrite) })
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
