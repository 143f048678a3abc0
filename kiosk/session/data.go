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
	if data == nil {
		return nil, fail("VSD-3011", err)
	}
	v := view.View{Screen: view.Data, Personal: true, CanEnd: true, CanBack: true, Data: sections(data)}
	if err != nil { // read, and the card warns that its memory may be damaged
		v.Notices = append(v.Notices, view.Notice{ID: "TAB_ADV_318.CorruptDataWarning", Severity: view.Warning})
	}
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

// kinds maps how the card's data are typed to how a view shows them.
var kinds = map[vsd.Kind]view.Kind{vsd.KindText: view.Text, vsd.KindDate: view.Date, vsd.KindTime: view.Time, vsd.KindCode: view.Code}

// sections hands the data to the view; they stay in types that do not print.
func sections(d *vsd.Data) []view.Section {
	out := make([]view.Section, 0, len(d.Sections))
	for _, s := range d.Sections {
		vs := view.Section{Title: s.ID}
		for _, r := range s.Rows {
			vs.Rows = append(vs.Rows, view.Row{
				Label: r.LabelID, LabelText: r.LabelText, Value: r.Value, ValueID: r.ValueID, Kind: kinds[r.Kind], At: r.At,
			})
		}
		out = append(out, vs)
	}
	return out
}
