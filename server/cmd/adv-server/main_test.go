package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const complete = `{"mode": "%s", "tls": {"certificate": "c", "key": "k"}, "identities": {"kind": "file", "dir": "i"},
		"trust": {"cvc_roots": "r", "egk_cas": "e"}, "log": {"dir": "l"}}`
	good := write("good.json", strings.Replace(complete, "%s", "test", 1))
	production := write("production.json", strings.Replace(complete, "%s", "production", 1))
	tests := []struct {
		name string
		args []string
		code int
		want string // in what is printed
	}{
		{"help", []string{"-help"}, 0, "-config"},
		{"unknown flag", []string{"-x"}, 2, "-x"},
		{"argument", []string{"-config", good, "start"}, 2, "start"},
		{"no file", []string{"-config", filepath.Join(dir, "missing.json")}, 2, "missing.json"},
		{"wrong file", []string{"-config", write("bad.json", `{"listn": ":1"}`)}, 2, "listn"},
		{"check", []string{"-config", good, "-check"}, 0, "complete"},
		{"keys in files in production", []string{"-config", production, "-check"}, 2, "for tests only"},
		{"nothing there", []string{"-config", good}, 1, "identities"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if code := run(context.Background(), tt.args, &out, &out); code != tt.code || !strings.Contains(out.String(), tt.want) {
				t.Errorf("exit status %d, output %q; want %d and %q", code, out.String(), tt.code, tt.want)
			}
		})
	}
}
