package figures

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSet(t *testing.T) {
	t.Parallel()
	s := Set{}
	s.Add("b.rate", 2.5, "1/s", "2")
	s.Add("a.time", 1, "ms", "")
	var out bytes.Buffer
	s.Print(&out)
	lines := strings.Split(out.String(), "\n")
	if !strings.Contains(lines[0], "a.time") || strings.Contains(lines[0], "goal") || !strings.Contains(lines[1], "goal 2") {
		t.Errorf("printed:\n%s", out.String())
	}
	file := filepath.Join(t.TempDir(), "new", "figures.json")
	if err := s.Write(file); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]any{"a.time": {"value": 1.0, "unit": "ms"}, "b.rate": {"value": 2.5, "unit": "1/s"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if err := s.Write(file + "/below-a-file"); err == nil {
		t.Error("a file that cannot be written gives no error")
	}
}
