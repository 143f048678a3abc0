package visit

import (
	"testing"

	"ktradv/kiosk/view"
)

func TestHealthyVisit(t *testing.T) {
	t.Parallel()
	r := newRig(t, TerminalConfig{})
	r.toMenu("healthy-g21")
	t.Logf("start: %d APDUs", r.tap.Count())
	r.Choose("vsd.show")
	r.screen(view.Data)
	r.Choose(view.ChoiceBack)
	r.screen(view.Menu)
	r.Choose(view.ChoiceEnd)
	r.screen(view.TakeCard)
	r.leave()
	r.course(view.Neutral, view.Reading, view.PIN, view.Connecting, view.Menu, view.Reading, view.Data, view.Menu, view.Ending, view.TakeCard, view.Neutral)
}

func TestMeasureStart(t *testing.T) {
	t.Parallel()
	apdus, trips, err := MeasureStart(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("session start of a G2.1 card: %d APDUs, %d round trips", apdus, trips)
	if trips < 1 || trips > 6 {
		t.Errorf("%d round trips; want at most 6", trips)
	}
	if apdus < 20 || apdus > 45 {
		t.Errorf("%d APDUs; want at most 45", apdus)
	}
	g2, _, err := world.MeasureStart(t.Context(), "healthy-g2")
	if err != nil {
		t.Fatal(err)
	}
	if g2 != apdus+2 { // DF.HCA and one record of EF.Logging
		t.Errorf("G2: %d APDUs; want %d", g2, apdus+2)
	}
}
