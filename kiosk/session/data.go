package session

import (
	"context"
	"errors"

	"ktradv/hw/apdu"
	"ktradv/hw/vsd"
	"ktradv/internal/advlog"
	"ktradv/kiosk/view"
)

// showVSD is "VSD von eGK anzeigen" (TAB_ADV_314, TAB_ADV_315): all contents of PD, VD and GVD, and when they were
// updated. With a locked health application there are no data to show, and the person is told to ask the insurer
// (code 114).
func (s *Session) showVSD(ctx context.Context) (next activity, err error) {
	s.begin(advlog.L("vsd.show"))
	done := s.span(ctx, advlog.L("vsd.show"))
	if !s.hca {
		done(nil)
		v := view.View{Screen: view.Data, CanEnd: true, CanBack: true, Notices: []view.Notice{{ID: "VSD.NOTICE.114", Severity: view.Alert}}}
		return s.back(ctx, v)
	}
	s.show(view.View{Screen: view.Reading, CanEnd: true, Steps: steps(1, "step.data")})
	data, err := vsd.Read(ctx, s.card, true)
	done(err)
	if err != nil {
		return nil, fail("VSD-3011", err)
	}
	v := view.View{Screen: view.Data, Personal: true, CanEnd: true, CanBack: true, Data: sections(data)}
	if s.valid.Online == "revoked" {
		v.Notices = append(v.Notices, view.Notice{ID: "VSD.NOTICE.106", Severity: view.Warning})
	}
	return s.back(ctx, v)
}

// back shows v until the person goes back to the menu.
func (s *Session) back(ctx context.Context, v view.View) (activity, error) {
	if _, err := s.ask(ctx, v, view.ChoiceBack); err != nil {
		if errors.Is(err, apdu.ErrCardRemoved) {
			err = atRest(err)
		}
		return nil, err
	}
	return (*Session).mainMenu, nil
}
