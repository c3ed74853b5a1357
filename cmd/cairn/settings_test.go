package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSettingsPrecedence(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cairn.yaml")
	text := "data: /from/file\nprofile: 2+1\ns3-addr: 127.0.0.1:1\ndrive: [/mnt/a, /mnt/b]\nencrypt: true\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CAIRN_S3_ADDR", "127.0.0.1:2")
	t.Setenv("CAIRN_PROFILE", "4+2")
	t.Setenv("CAIRN_S3_DOMAIN", "a.example,b.example")
	t.Setenv("CAIRN_TOKEN", "hush")
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"config", "show", "-o", "json", "--config", path, "--profile", "8+4"}, nil, &out, &errs); code != 0 {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	var all []setting
	if err := json.Unmarshal(out.Bytes(), &all); err != nil {
		t.Fatal(err)
	}
	got := map[string]setting{}
	for _, s := range all {
		got[s.Name] = s
	}
	for _, want := range []setting{
		{"data", "/from/file", "file " + path},
		{"s3-addr", "127.0.0.1:2", "env CAIRN_S3_ADDR"},
		{"profile", "8+4", "flag"},
		{"drive", "[/mnt/a,/mnt/b]", "file " + path},
		{"s3-domain", "[a.example,b.example]", "env CAIRN_S3_DOMAIN"},
		{"encrypt", "true", "file " + path},
		{"admin-addr", "127.0.0.1:9001", "default"},
		{"token", "(set)", "env CAIRN_TOKEN"},
	} {
		if got[want.Name] != want {
			t.Errorf("got %+v, want %+v", got[want.Name], want)
		}
	}
	if strings.Contains(out.String(), "hush") {
		t.Error("the token is shown")
	}
}

func TestBadSettings(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"a slip", "s3-adr: x\n", `unknown setting "s3-adr"; did you mean "s3-addr"?`},
		{"nothing like it", "colour: red\n", "`cairn config show` lists them"},
		{"a bad number", "drives: many\n", "invalid argument"},
		{"a list for one value", "profile: [4+2, 2+1]\n", "one value, not a list"},
		{"a mapping", "data: {a: b}\n", "want a value or a list"},
		{"nested lists", "drive: [[a]]\n", "plain values"},
		{"no YAML", "\tx", "cairn.yaml"},
	} {
		path := filepath.Join(t.TempDir(), "cairn.yaml")
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, command := range []string{"config show", "server"} {
			var out, errs bytes.Buffer
			code := run(t.Context(), append(strings.Fields(command), "--config", path), nil, &out, &errs)
			if code != exitUsage || !strings.Contains(errs.String(), tt.want) {
				t.Errorf("%s, %s: exit code %d, %s, want %q", tt.name, command, code, errs.String(), tt.want)
			}
		}
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"config", "show", "--config", filepath.Join(t.TempDir(), "none.yaml")}, nil, &out, &errs); code == 0 {
		t.Error("a file that is not there was accepted")
	}
}
