package ui

import (
	"testing"

	"ktradv/kiosk/view"
)

// A still page draws one frame. A touch that comes right after it must count.
func TestFirstTouchAfterOneFrameCounts(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.show(view.View{Screen: view.Neutral})
	h.u.SetView(view.View{Screen: view.PINWrong, TriesLeft: 2, CanEnd: true, Problem: retryable("WrongSecretWarning")})
	h.frame() // exactly one
	got := h.tap("PIN noch einmal eingeben")
	for _, ev := range got {
		if ev.Kind == view.Choose && ev.Choice == view.ChoiceRetry {
			return
		}
	}
	t.Errorf("events = %v; want the choice %q", got, view.ChoiceRetry)
}
