// Command build bundles the dashboard: web/src and web/vendor into web/dist. With -check it writes nothing, and fails if what is
// there is not what it would write. It is a module of its own, so that the bundler is no dependency of cairn.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/evanw/esbuild/pkg/api"
)

func main() {
	check := flag.Bool("check", false, "only compare")
	web := flag.String("web", "..", "the folder web")
	flag.Parse()
	if err := run(*web, *check); err != nil {
		fmt.Fprintln(os.Stderr, "build: "+err.Error())
		os.Exit(1)
	}
}

func run(web string, check bool) error {
	web, err := filepath.Abs(web)
	if err != nil {
		return err
	}
	files, err := bundle(web)
	if err != nil {
		return err
	}
	for name, want := range files {
		path := filepath.Join(web, "dist", name)
		if !check {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				return err
			}
			continue
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			return fmt.Errorf("web/dist/%s is not what the sources make: run `make web` and commit it", name)
		}
	}
	return nil
}

// bundle returns the files of dist by name.
func bundle(web string) (map[string][]byte, error) {
	vendor := func(name string) string { return filepath.Join(web, "vendor", filepath.FromSlash(name)) }
	result := api.Build(api.BuildOptions{
		AbsWorkingDir:       web,
		EntryPointsAdvanced: []api.EntryPoint{{InputPath: "src/main.tsx", OutputPath: "app"}, {InputPath: "src/app.css", OutputPath: "app"}},
		Outdir:              "dist",
		Bundle:              true,
		MinifyWhitespace:    true,
		MinifyIdentifiers:   true,
		MinifySyntax:        true,
		LegalComments:       api.LegalCommentsNone, // licenses.txt has the licences whole
		Target:              api.ES2022,
		Format:              api.FormatESModule,
		JSX:                 api.JSXAutomatic,
		JSXImportSource:     "preact",
		TsconfigRaw:         `{"compilerOptions":{"jsx":"react-jsx","jsxImportSource":"preact"}}`,
		Alias: map[string]string{
			"preact":               vendor("preact/preact.mjs"),
			"preact/hooks":         vendor("preact/hooks.mjs"),
			"preact/jsx-runtime":   vendor("preact/jsxRuntime.mjs"),
			"@preact/signals":      vendor("signals/signals.mjs"),
			"@preact/signals-core": vendor("signals-core/signals-core.mjs"),
			"uplot":                vendor("uplot/uPlot.esm.js"),
		},
		Charset:  api.CharsetUTF8,
		LogLevel: api.LogLevelSilent,
	})
	var errs []error
	for _, m := range append(result.Errors, result.Warnings...) {
		where := ""
		if m.Location != nil {
			where = fmt.Sprintf("%s:%d:%d: ", m.Location.File, m.Location.Line, m.Location.Column)
		}
		errs = append(errs, errors.New(where+m.Text))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	files := map[string][]byte{}
	for _, f := range result.OutputFiles {
		files[filepath.Base(f.Path)] = f.Contents
	}
	page, err := os.ReadFile(filepath.Join(web, "src", "index.html"))
	if err != nil {
		return nil, err
	}
	files["index.html"] = page
	files["licenses.txt"], err = licences(web)
	return files, err
}

// licences gathers those of the libraries in the bundle.
func licences(web string) ([]byte, error) {
	var all bytes.Buffer
	for _, name := range []string{"preact", "signals", "signals-core", "uplot"} {
		b, err := os.ReadFile(filepath.Join(web, "vendor", name, "LICENSE"))
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&all, "%s\n\n%s\n\n", name, bytes.TrimSpace(b))
	}
	return all.Bytes(), nil
}
