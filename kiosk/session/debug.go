package session

import (
	"context"

	"ktradv/internal/advlog"
	"ktradv/kiosk/view"
)

// screens are the words for the screens of a session in the debug log.
var screens = map[view.Screen]advlog.Label{
	view.Neutral: advlog.L("neutral"), view.Reading: advlog.L("reading"), view.PIN: advlog.L("pin"), view.PINWrong: advlog.L("pin_wrong"),
	view.PINBlocked: advlog.L("pin_blocked"), view.PUK: advlog.L("puk"), view.Connecting: advlog.L("connecting"), view.Menu: advlog.L("menu"),
	view.Data: advlog.L("data"), view.Idle: advlog.L("idle"), view.Blanked: advlog.L("blanked"), view.Ending: advlog.L("ending"),
	view.TakeCard: advlog.L("take_card"), view.Problem: advlog.L("problem"), view.OutOfOrder: advlog.L("out_of_order"),
}

// note writes into the debug log that another screen than before is shown: a test lead sees where a person was, and for how
// long. Only a terminal in test operation keeps it (AdV-A_2433). s.mu is held.
func (s *Session) note(shown view.Screen) {
	if shown == s.noted {
		return
	}
	s.noted = shown
	s.cfg.Log.Debug(s.logContext(context.Background()), advlog.DebugEvent{
		Name: advlog.L("screen"), Values: []advlog.Value{advlog.Word("shown", screens[shown])},
	})
}
