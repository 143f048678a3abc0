package catalogue

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ktradv/internal/req"
	"ktradv/internal/testdata"
)

func TestCatalogueIsTheSharedOne(t *testing.T) {
	t.Parallel()
	dir := testdata.Dir(t, ".")
	want, err := os.ReadFile(filepath.Join(dir, "..", "requirements", "requirements.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(requirementsCSV, want) {
		t.Error("requirements.csv differs from the catalogue it was taken from")
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	rows, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 729 {
		t.Errorf("rows = %d; want 729", len(rows))
	}
}

func TestDocumentsExist(t *testing.T) {
	t.Parallel()
	docs, err := Documented()
	if err != nil {
		t.Fatal(err)
	}
	for id, files := range docs {
		for _, f := range files {
			b, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(f)))
			if err != nil {
				t.Errorf("%s: %v", id, err)
				continue
			}
			if !strings.Contains(string(b), id) {
				t.Errorf("%s does not name %s, which it is said to answer", f, id)
			}
		}
	}
}

func TestTrace(t *testing.T) {
	t.Parallel()
	rows, err := Trace([]req.Record{
		{ID: "AdV-A_2410", Test: "TestIdle", Package: "kiosk/session", Result: "pass"},
		{ID: "AdV-A_2411", Test: "TestLog", Package: "internal/advlog", Result: "skip"},
	})
	if err != nil {
		t.Fatal(err)
	}
	status := map[string]string{}
	for _, r := range rows {
		status[r.ID] = r.Status
	}
	if status["AdV-A_2410"] != Covered || status["AdV-A_2411"] != Open {
		t.Errorf("status = %q, %q; want covered, open", status["AdV-A_2410"], status["AdV-A_2411"])
	}
	for _, bad := range []req.Record{
		{ID: "AdV-A_9999", Test: "T", Result: "pass"}, // no such requirement
		{ID: "AdV-A_2410", Test: "T", Result: "fail"}, // a failed proof
	} {
		if _, err := Trace([]req.Record{bad}); err == nil {
			t.Errorf("Trace(%+v) accepted", bad)
		}
	}
}
