package main

import (
	"io"
	"strings"
	"testing"
)

const (
	passing = `{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0.1}
{"Action":"pass","Package":"p","Elapsed":0.2}
`
	skipping = `{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:12: testdata: no public test data beside the project\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"--- SKIP: TestB (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
`
	failing = `{"Action":"output","Package":"p","Test":"TestC","Output":"    c_test.go:3: boom\n"}
{"Action":"fail","Package":"p","Test":"TestC"}
{"Action":"fail","Package":"p"}
`
	brokenBuild = `{"ImportPath":"q","Action":"build-output","Output":"q.go:1: syntax error\n"}
{"ImportPath":"q","Action":"build-fail"}
{"Action":"fail","Package":"q","Elapsed":0}
`
)

func TestReport(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, in string
		shared   bool
		ok       bool
		want     string
	}{
		{"all pass", passing, true, true, "1 passed, 0 failed, 0 skipped"},
		{"skip without data", passing + skipping, false, true, "testdata: no public test data"},
		{"skip although the data is there", passing + skipping, true, false, "these may not skip: p.TestB"},
		{"failure", passing + failing, false, false, "boom"},
		{"package that does not build", brokenBuild, false, false, "failed: q"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, err := read(strings.NewReader(c.in), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			if got := r.print(&out, c.shared); got != c.ok {
				t.Errorf("ok = %v; want %v\n%s", got, c.ok, out.String())
			}
			if !strings.Contains(out.String(), c.want) {
				t.Errorf("report lacks %q:\n%s", c.want, out.String())
			}
		})
	}
}
