package session

import (
	"os"
	"regexp"
	"testing"

	"ktradv/kiosk/view"
)

// Every screen that a session can show has its word in the debug log; only the technician's is shown without one.
func TestScreensHaveWords(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../view/view.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^\t\w+ +Screen = "(\w+)"`).FindAllSubmatch(b, -1)
	if len(found) < 10 {
		t.Fatalf("found %d screens in package view", len(found))
	}
	for _, f := range found {
		name := view.Screen(f[1])
		if got := screens[name].String(); got != string(name) && name != view.Fault {
			t.Errorf("screen %q is called %q", name, got)
		}
	}
}
