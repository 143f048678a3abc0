package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"ktradv/hw/apdu"
	"ktradv/hw/cos"
	"ktradv/hw/egk"
	"ktradv/hw/reader"
	"ktradv/internal/advlog"
	"ktradv/internal/redact"
	"ktradv/internal/x509ti"
	"ktradv/kiosk/filter"
	"ktradv/kiosk/serverlink"
	"ktradv/kiosk/view"
	"ktradv/server/api"
)

// activity is one row of TAB_ADV_304. It returns what comes next; nil ends the flow in order.
type activity func(s *Session, ctx context.Context) (activity, error)

// serve walks the activities of TAB_ADV_304 and then the menu.
func (s *Session) serve(ctx context.Context) error {
	for next := activity((*Session).readCard); next != nil; {
		var err error
		if next, err = next(s, ctx); err != nil {
			return err
		}
	}
	return nil
}

// readCard is "Einlesen der Karte": type eGK, generation G2 or newer, genuine; otherwise the session ends. A card with
// a blocked PIN.CH goes on with unblocking.
func (s *Session) readCard(ctx context.Context) (next activity, err error) {
	done := s.span(ctx, advlog.L("card.read"))
	defer func() { done(err) }()
	reading := view.View{Screen: view.Reading, CanEnd: true, Steps: steps(1, "step.read", "step.authentic")}
	s.show(reading)

	if s.card, err = s.cfg.Slot.Connect(ctx); err != nil {
		return nil, fail("CARD-MUTE", err)
	}
	if s.info, err = egk.ReadInfo(ctx, s.card); err != nil {
		return nil, fail("CARD-READ-ERROR", err)
	}
	reading.Steps = steps(2, "step.read", "step.authentic")
	s.show(reading)
	if err = egk.ProveAuthentic(ctx, s.card, s.info, s.cfg.Roots, s.cfg.TerminalID, s.cfg.Rand, s.cfg.Now()); err != nil {
		return nil, fail("CARD-NOT-AUTHENTIC", err)
	}
	switch pin := s.info.PINs[egk.PINCH]; pin.State {
	case cos.PINVerified:
		return (*Session).unlock, nil // the activity may be left out when the PIN was entered already
	case cos.PINBlocked:
		return (*Session).askPUK, nil
	case cos.PINTransport, cos.PINEmpty:
		return nil, &Failure{Code: codeTransport}
	default:
		return askPIN(pin.Left, nil), nil
	}
}

// askPIN is "Einverständnis des Versicherten einholen": PIN.CH at the reader's pad. A wrong PIN may be tried again; a
// blocked one goes on with unblocking; everything else ends the session.
func askPIN(left int, notices []view.Notice) activity {
	return func(s *Session, ctx context.Context) (activity, error) {
		err := s.pinEntry(ctx, advlog.L("pin.verify"), reader.ActionVerify, cos.VerifyTemplate(s.refPINCH()), view.View{
			Screen: view.PIN, PadStage: "pin", TriesLeft: left, Notices: notices, CanEnd: true,
		})
		var sw *cos.StatusError
		switch {
		case err == nil:
			return (*Session).unlock, nil
		case errors.As(err, &sw) && sw.Result == cos.ResultWrongSecretWarning:
			s.logError(ctx, string(sw.Result), err, true)
			return s.retry(ctx, sw.Left, "WrongSecretWarning", err, askPIN(sw.Left, nil))
		case errors.As(err, &sw) && sw.Result == cos.ResultPasswordBlocked:
			s.logError(ctx, string(sw.Result), err, true)
			return (*Session).askPUK, nil
		case retryAtPad(err):
			return s.retry(ctx, left, codeOf(err, "PIN-CANCELLED"), err, askPIN(left, nil))
		}
		return nil, fail("ErrorUserVerification", err)
	}
}

// retryAtPad tells whether the entry ended at the reader without the card having seen a PIN, so that trying again costs
// nothing.
func retryAtPad(err error) bool {
	for _, e := range []error{reader.ErrPINCancelled, reader.ErrPINTimeout, reader.ErrPINMismatch, reader.ErrPINLength} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// pinEntry shows v, mirrors the prompt on it, has the reader's pad complete cmd for PIN.CH, and judges the card's answer.
func (s *Session) pinEntry(ctx context.Context, name advlog.Label, action string, cmd apdu.Command, v view.View) error {
	done := s.span(ctx, name)
	prompt, _ := reader.PromptFor("PIN.CH", action)
	v.Prompt, v.ReaderShowsPrompt = prompt.ID, s.freeText()
	s.show(v)
	resp, res, err := s.enterSecret(ctx, action, cmd)
	s.activity()
	if err == nil {
		err = cos.Check(cmd, resp.SW)
	}
	s.logPrompt(ctx, res)
	done(err)
	return err
}

// retry explains why an entry failed and lets the person choose: again, or end.
func (s *Session) retry(ctx context.Context, left int, code string, err error, again activity) (activity, error) {
	p := problemInfo(code, err)
	p.CanRetry = true
	if _, err := s.ask(ctx, view.View{Screen: view.PINWrong, TriesLeft: left, Problem: p, CanEnd: true}, view.ChoiceRetry); err != nil {
		return nil, err
	}
	return again, nil
}

// askPUK is "Versicherten-PIN entsperren" (TAB_ADV_353, TAB_ADV_354): the person is asked first whether the PUK is
// known (AdV-A_2466).
func (s *Session) askPUK(ctx context.Context) (activity, error) {
	choice, err := s.ask(ctx, view.View{Screen: view.PINBlocked, CanEnd: true, Problem: problemInfo("PasswordBlocked", nil)},
		view.ChoicePUKKnown, view.ChoicePUKUnknown)
	if err != nil {
		return nil, err
	}
	if choice == view.ChoicePUKUnknown {
		return nil, &Failure{Code: codePUKUnknown}
	}
	return (*Session).unblock, nil
}

// unblock takes PUK and new PIN at the pad. After success the PIN is asked for; anything else ends the session
// (AdV-A_2467), except an entry that never reached the card.
func (s *Session) unblock(ctx context.Context) (activity, error) {
	err := s.pinEntry(ctx, advlog.L("pin.unblock"), reader.ActionUnblock, cos.UnblockTemplate(s.refPINCH()), view.View{
		Screen: view.PUK, PadStage: "puk", TriesLeft: -1, KeepCard: true, CanEnd: true,
	})
	var sw *cos.StatusError
	switch {
	case err == nil:
		return askPIN(-1, []view.Notice{{ID: "notice.pin_unblocked", Severity: view.Info}}), nil
	case errors.As(err, &sw) && sw.Result == cos.ResultPasswordBlocked:
		return nil, &Failure{Code: codePUKUsedUp, Err: err}
	case retryAtPad(err):
		return s.retry(ctx, -1, codeOf(err, "PIN-CANCELLED"), err, (*Session).unblock)
	}
	return nil, fail("ErrorUserVerification", err)
}

// enterSecret is ENV_TUC_SECRET_INPUT for PIN.CH. The command holds placeholders; the reader's pad fills them. An entry
// cannot be called off from here: when the session ends meanwhile, the screen says to press cancel at the reader, and
// this call waits for it or for the reader's own time limit. Without card or reader there is nothing to wait for.
func (s *Session) enterSecret(ctx context.Context, action string, cmd apdu.Command) (apdu.Response, reader.PINResult, error) {
	type result struct {
		resp apdu.Response
		res  reader.PINResult
		err  error
	}
	done := make(chan result, 1)
	entry, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	go func() {
		resp, res, err := reader.EnterSecret(entry, s.card, reader.SecretInput{
			Identifier: "PIN.CH", Action: action, MinLength: egk.PINMinDigits, MaxLength: egk.PINMaxDigits, CommandAPDUPart: cmd, Timeout: s.cfg.PINTimeout,
		})
		done <- result{resp, res, err}
	}()
	select {
	case r := <-done:
		return r.resp, r.res, r.err
	case <-ctx.Done():
	}
	cause := context.Cause(ctx)
	if cardGone(cause) {
		abandon()
	} else {
		s.show(view.View{Screen: view.Ending, PadStage: "cancel", Steps: steps(1, "step.finish", "step.reset", "step.disconnect")})
	}
	r := <-done
	return r.resp, r.res, cause
}

// refPINCH is the reference of PIN.CH in the object system of the card.
func (s *Session) refPINCH() cos.PasswordRef {
	p, _ := s.info.Objects().Password(egk.PINCH) // both generations have it (object system tables)
	return p.Ref
}

func (s *Session) freeText() bool {
	f, ok := s.cfg.Slot.(interface{ Features() reader.Features })
	return ok && f.Features().FreeText
}

// unlock is "Verbindungsaufbau zum AdV-Server und Freischaltung eGK" (5.1.3). Any failure ends the session (A_15116).
func (s *Session) unlock(ctx context.Context) (next activity, err error) {
	done := s.span(ctx, advlog.L("session.unlock"))
	defer func() { done(err) }()
	s.connecting(1)
	cert, err := egk.ReadCertificate(ctx, s.card, s.info.Generation, egk.CertAUT)
	if err != nil {
		return nil, fail("CARD-READ-ERROR", err)
	}
	aut, err := x509ti.Parse(cert)
	if err != nil {
		return nil, fail("CARD-READ-ERROR", fmt.Errorf("read C.CH.AUT: %w", err))
	}
	ik, err := aut.IK()
	if err != nil {
		return nil, fail("CARD-READ-ERROR", fmt.Errorf("read C.CH.AUT: %w", err))
	}
	server, err := s.cfg.Dial(ctx)
	if err != nil { // server may be a nil pointer in an interface: it must not be kept
		return nil, fail("SERVER-UNREACHABLE", err)
	}
	s.server = server
	s.connecting(2)
	start := serverlink.Start{
		OperationID: s.opID.String(), IK: ik, AppVersion: s.cfg.Version,
		AUTCVC: s.info.AUTCVC, CACVC: s.info.AUTCACVC, G2: s.info.Generation == egk.G2,
	}
	if s.actor, err = s.server.Unlock(ctx, start, s.runner()); err != nil {
		return nil, fail("ErrorAuthentication", err)
	}
	return (*Session).protocolEntry, nil
}

// runner passes the server's commands through the session's filter to the card (A_15113, A_15117).
func (s *Session) runner() serverlink.Run {
	f := filter.New()
	return func(ctx context.Context, batch []serverlink.Command) ([]apdu.Response, error) {
		var out []apdu.Response
		for _, c := range batch {
			if err := f.Check(c.APDU); err != nil {
				return nil, err
			}
			r, err := s.card.Transmit(ctx, c.APDU)
			if err != nil {
				return nil, err
			}
			f.Observe(r)
			out = append(out, r)
			if !c.Expects(r) {
				break
			}
			s.retried(ctx, cos.Check(c.APDU, r.SW))
		}
		return out, nil
	}
}

// protocolEntry is "Protokollieren des eGK-Zugriffs": exactly one entry v/Z on an eGK G2, none on newer ones, where
// the use cases write their own. The card must stay in while it is written (AdV-A_2446), and a session that ends
// meanwhile waits for it (AdV-A_2449).
func (s *Session) protocolEntry(ctx context.Context) (next activity, err error) {
	if s.info.Generation != egk.G2 {
		return (*Session).validity, nil
	}
	done := s.span(ctx, advlog.L("card.log"))
	defer func() { done(err) }()
	s.connecting(3)
	wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err = egk.AppendLog(wctx, s.card, egk.LogEntry{
		Time: s.cfg.Now(), Data: egk.LogDataAdV, Access: egk.LogAccessGeneral,
		ActorICCSN: s.actor.ICCSN, ActorName: redact.NewString(s.actor.Name),
	})
	if s.retried(ctx, err) {
		err = nil
	}
	if err != nil {
		return nil, fail(codeLogEntry, fmt.Errorf("%w: %w", errLogEntry, err))
	}
	return (*Session).validity, nil
}

// retried tells whether err is the warning UpdateRetryWarning: the card has written, after several attempts. The warning is
// logged, and the menu tells the person (TAB_ADV_318).
func (s *Session) retried(ctx context.Context, err error) bool {
	if !cos.IsWarning(err) || !cos.IsResult(err, cos.ResultUpdateRetryWarning) {
		return false
	}
	s.worn = true
	s.logError(ctx, string(cos.ResultUpdateRetryWarning), err, true)
	return true
}

// validity is "Online-Gültigkeitsprüfung der eGK" (PL_TUC_EGK_STATUS): the state of the health application on the card,
// and C.CH.AUTN through the server. An invalid certificate does not end the session; the person is told. Failing to
// find out the state of the health application does.
func (s *Session) validity(ctx context.Context) (next activity, err error) {
	done := s.span(ctx, advlog.L("card.validity"))
	defer func() { done(err) }()
	s.connecting(4)
	autn, err := egk.ReadCertificate(ctx, s.card, s.info.Generation, egk.CertAUTN)
	var refused *cos.StatusError
	switch {
	case errors.Is(err, egk.ErrMalformed), errors.Is(err, egk.ErrNoCertificate), errors.As(err, &refused):
		// A check error (Prüffehler): the server learns that there is nothing to check.
		s.logError(ctx, codeOf(err, "CARD-READ-ERROR"), err, true)
		autn = nil
	case err != nil:
		return nil, fail("CARD-READ-ERROR", err)
	}
	v, err := s.server.CheckCertificate(ctx, autn)
	if err != nil {
		return nil, fail("SERVER-LOST", err)
	}
	gone := s.server.Gone()
	s.watch.Go(func() { s.watchServer(ctx, gone) })
	s.valid = view.Validity{MathValid: v.MathValid, TimeValid: v.TimeValid, Online: "unknown"}
	if word, ok := onlineWords[v.Online]; ok {
		s.valid.Online = word
	}
	switch s.info.Apps[egk.HCA] {
	case egk.AppAvailable:
		s.hca = true
	case egk.AppHidden:
		s.hca = false
	default:
		return nil, &Failure{Code: codeHCACheck}
	}
	return (*Session).mainMenu, nil
}

// onlineWords are the certain answers about a certificate; every other is "unknown".
var onlineWords = map[api.OnlineStatus]string{
	api.OnlineStatus_ONLINE_STATUS_GOOD: "good", api.OnlineStatus_ONLINE_STATUS_REVOKED: "revoked",
}

func (s *Session) connecting(step int) {
	ids := []string{"step.connect", "step.unlock"}
	if s.info.Generation == egk.G2 {
		ids = append(ids, "step.log")
	} else if step > 3 {
		step--
	}
	ids = append(ids, "step.validity")
	s.show(view.View{Screen: view.Connecting, Steps: steps(step, ids...), KeepCard: true, CanEnd: true})
}

// conditions are K1 to K6 of TAB_ADV_384 for the use cases around PIN.CH.
func (s *Session) conditions() Conditions {
	c := Conditions{Genuine: "nein", HCA: "nicht aktiv", InTime: "FALSE", Online: "UNKOWN", App: "AVAILABLE", PIN: "OK"}
	if s.valid.MathValid {
		c.Genuine = "ja" // the card itself was proved genuine before the PIN
	}
	if s.hca {
		c.HCA = "aktiv"
	} else {
		c.App = "HIDDEN"
	}
	if s.valid.TimeValid {
		c.InTime = "TRUE"
	}
	switch s.valid.Online {
	case "good":
		c.Online = "OK"
	case "revoked":
		c.Online = "REVOKED"
	}
	return c
}

// notices tells what the checks gave, in the order of their weight.
func (s *Session) notices() []view.Notice {
	var out []view.Notice
	add := func(when bool, id string, sev view.Severity) {
		if when {
			out = append(out, view.Notice{ID: id, Severity: sev})
		}
	}
	add(!s.valid.MathValid, "notice.cert_invalid", view.Alert)
	add(s.valid.MathValid && s.valid.Online == "revoked", "notice.cert_revoked", view.Alert)
	add(!s.valid.TimeValid, "notice.cert_expired", view.Warning)
	add(s.valid.Online == "unknown", "notice.online_unknown", view.Warning)
	add(!s.hca, "notice.hca_inactive", view.Warning)
	add(s.worn, "TAB_ADV_318.UpdateRetryWarning", view.Warning)
	return out
}

var appNames = []struct {
	app egk.App
	id  string
}{{egk.HCA, "hca"}, {egk.NFD, "nfd"}, {egk.DPE, "dpe"}, {egk.AMTS, "amts"}}

// mainMenu is "Verfügbare Anwendungen anzeigen" and what follows: the person chooses until the session ends.
func (s *Session) mainMenu(ctx context.Context) (activity, error) {
	t, err := loadTable(admissibilityCSV)
	if err != nil {
		return nil, err
	}
	items := t.menu(s.conditions())
	valid := s.valid
	v := view.View{Screen: view.Menu, Menu: items, Notices: s.notices(), Validity: &valid, CanEnd: true}
	for _, a := range appNames {
		v.Apps = append(v.Apps, view.AppStatus{App: a.id, State: strings.ToLower(s.info.Apps[a.app].String())})
	}
	var choices []string
	for _, i := range items {
		choices = append(choices, i.UseCase)
	}
	choice, err := s.ask(ctx, v, choices...)
	if err != nil {
		return nil, atRest(err)
	}
	switch choice {
	case "vsd.show":
		return (*Session).showVSD, nil
	}
	return nil, fmt.Errorf("menu: no use case %q", choice)
}

// atRest marks that the card was pulled while nothing was running.
func atRest(err error) error {
	if errors.Is(err, apdu.ErrCardRemoved) {
		return fmt.Errorf("%w: %w", errPulledAtRest, err)
	}
	return err
}

// logPrompt records by which way the prompt reached the person at the reader.
func (s *Session) logPrompt(ctx context.Context, res reader.PINResult) {
	way := advlog.OneOf(res.PromptShown.String(), "free_text", "reader_text", "none")
	s.cfg.Log.Perf(s.logContext(ctx), advlog.PerfEvent{
		Name: advlog.L("pin.prompt"), Start: s.cfg.Now(), Values: []advlog.Value{advlog.Word("shown", way), advlog.Flag("cut", res.PromptCut)},
	})
}
