package app_test

import (
	"testing"

	"ktradv/kiosk/control"
	"ktradv/kiosk/view"
)

// A terminal that waits for its card service or for the place of its logs says that it still starts, and not that it has no
// reader: nobody has looked for one. When it may look, it says what it finds.
func TestStarting(t *testing.T) {
	t.Parallel()
	for slot, first := range map[control.Slot]view.Screen{control.SlotFirst: view.Neutral, control.SlotUnknown: view.OutOfOrder} {
		t.Run("slot "+string(slot), func(t *testing.T) {
			t.Parallel()
			p := prepare(t)
			p.start()
			p.activateWith(control.Message{Kind: control.Activate, Slot: slot, Wait: true})
			v := p.screen(first)
			if first != view.OutOfOrder {
				v = p.screen(view.OutOfOrder)
			}
			if v.Problem == nil || v.Problem.Code != "TERMINAL-STARTING" || v.Problem.Next == "" {
				t.Errorf("problem %+v", v.Problem)
			}
			p.tell(control.Message{Kind: control.Cards})
			p.screen(view.Neutral)
		})
	}
}
