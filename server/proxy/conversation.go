package proxy

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	"ktradv/hw/apdu"
	"ktradv/hw/c2c"
	"ktradv/hw/cvc"
	"ktradv/internal/advlog"
	"ktradv/internal/redact"
	"ktradv/server/api"
	"ktradv/server/identity"
)

// Names in the logs.
var (
	nameSession     = advlog.L("server.session")
	nameStart       = advlog.L("server.session_start")
	nameStep        = advlog.L("server.card_batch")
	nameCertificate = advlog.L("server.certificate_check")
	partProxy       = advlog.L("proxy")
	partCard        = advlog.L("card")
	partPKI         = advlog.L("pki")
)

// steps maps the batches of hw/c2c to the contract and to words for logs and metrics.
var steps = map[c2c.Step]struct {
	wire api.Step
	name advlog.Label
}{
	c2c.StepChannelOpen:      {api.Step_STEP_CHANNEL_OPEN, advlog.L("channel_open")},
	c2c.StepPINStatus:        {api.Step_STEP_PIN_STATUS, advlog.L("pin_status")},
	c2c.StepRoleImport:       {api.Step_STEP_ROLE_IMPORT, advlog.L("role_import")},
	c2c.StepRoleAuthenticate: {api.Step_STEP_ROLE_AUTHENTICATE, advlog.L("role_authenticate")},
}

// received is what came over the stream.
type received struct {
	msg *api.AppMessage
	err error
}

// conversation is the state of one session. Only receive runs beside run.
type conversation struct {
	proxy  *Proxy
	stream grpc.BidiStreamingServer[api.AppMessage, api.ServerMessage]
	in     chan received

	ik      string
	actor   identity.Actor
	iccsn   redact.ICCSN // for card-related errors
	trips   int          // messages that the app answered
	secrets [][]byte     // octets of the insured person, wiped at the end
}

// receive hands messages over one by one, until the stream or the session ends.
func (c *conversation) receive(ctx context.Context) {
	for {
		msg, err := c.stream.Recv()
		select {
		case c.in <- received{msg, err}:
		case <-ctx.Done():
			if msg != nil {
				for _, b := range personal(msg) {
					clear(b)
				}
			}
			return
		}
		if err != nil {
			return
		}
	}
}

// personal lists the octets of a message that belong to the insured person.
func personal(m *api.AppMessage) [][]byte {
	var list [][]byte
	if s := m.GetStart(); s != nil {
		list = append(list, s.CvcEgkAut, s.CvcEgkCa)
	}
	if r := m.GetResponses(); r != nil {
		list = append(list, r.Apdu...)
		list = append(list, r.GetCertificateCheck().GetCertAutn())
	}
	return list
}

// wipe overwrites what arrived.
func (c *conversation) wipe() {
	for _, b := range c.secrets {
		clear(b)
	}
	c.secrets, c.ik, c.iccsn = nil, "", redact.ICCSN{}
}

// next waits for the app's next message. io.EOF means that the app has closed the stream.
func (c *conversation) next(ctx context.Context, timeout time.Duration, drain <-chan struct{}) (*api.AppMessage, error) {
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case r := <-c.in:
		if r.err != nil {
			return nil, receiveError(ctx, r.err)
		}
		c.secrets = append(c.secrets, personal(r.msg)...)
		if err := api.CheckAppMessage(r.msg); err != nil {
			return nil, err
		}
		if a := r.msg.GetAbort(); a != nil {
			return nil, &abortError{a.Code}
		}
		return r.msg, nil
	case <-t.C:
		return nil, errTimeout
	case <-drain:
		return nil, errShutdown
	case <-ctx.Done():
		return nil, receiveError(ctx, ctx.Err())
	}
}

// run is the whole conversation.
func (c *conversation) run(ctx context.Context) error {
	p := c.proxy
	begin := p.cfg.Clock()
	ctx, err := c.start(ctx)
	span := p.cfg.Log.Begin(ctx, nameSession)
	if err == nil {
		p.cfg.Metrics.startSeconds.Observe(p.cfg.Clock().Sub(begin).Seconds())
		err = c.idle(ctx)
	}
	if err == nil {
		p.cfg.Metrics.sessions.WithLabelValues(advlog.ResultOK.String()).Inc()
		span.End(advlog.ResultOK, advlog.Code{}, advlog.Int("round_trips", int64(c.trips)))
		return nil
	}
	f := classify(err)
	p.cfg.Metrics.sessions.WithLabelValues(f.result.String()).Inc()
	p.cfg.Metrics.failures.WithLabelValues(fmt.Sprint(f.log.Number())).Inc()
	c.logFailure(ctx, f)
	span.End(f.result, f.log, advlog.Int("round_trips", int64(c.trips)))
	if f.code == 0 {
		return nil
	}
	// A client that does not read must not hold the session: the stream's context ends with the session at the latest.
	return c.stream.Send(failureMessage(f))
}

func (c *conversation) logFailure(ctx context.Context, f failure) {
	e := advlog.ErrorEvent{Code: f.log, Severity: f.severity, Type: f.kind, Name: nameSession, Part: partProxy,
		Result: f.result, Remote: f.remote, SW: f.sw}
	if f.card {
		e.Part, e.ICCSN = partCard, c.iccsn
	}
	if f.log == codeIdentity {
		e.Values = []advlog.Value{advlog.Insurer(c.ik)} // whose SM-B is missing
	}
	c.proxy.cfg.Log.Error(ctx, e)
	if f.kind == advlog.Security {
		c.proxy.cfg.Log.Security(ctx, advlog.SecurityEvent{Name: nameSession, Severity: f.severity, Result: f.result, Code: f.log})
	}
}

// start takes the first message and unlocks the card. The context it returns carries the operation id.
func (c *conversation) start(ctx context.Context) (context.Context, error) {
	p := c.proxy
	msg, err := c.next(ctx, startTimeout, p.draining)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errGone
		}
		return ctx, err
	}
	s := msg.GetStart()
	if s == nil {
		return ctx, fmt.Errorf("%w: want start", errProtocol)
	}
	op, err := advlog.ParseOperation(s.OperationId)
	if err != nil {
		return ctx, fmt.Errorf("%w: %w", errProtocol, err)
	}
	ctx = advlog.WithOperation(ctx, op)
	span := p.cfg.Log.Begin(ctx, nameStart)
	if err := c.unlock(ctx, s); err != nil {
		f := classify(err)
		span.End(f.result, f.log)
		return ctx, err
	}
	span.End(advlog.ResultOK, advlog.Code{}, append(version(s.AppVersion), advlog.Int("round_trips", int64(c.trips)),
		advlog.Int("generation", int64(s.Generation)))...)
	return ctx, nil
}

// version is the app's version as numbers, major.minor.patch; another spelling gives nothing, because text from outside
// is not logged.
func version(s string) []advlog.Value {
	var major, minor, patch uint16
	if n, err := fmt.Sscanf(s, "%d.%d.%d", &major, &minor, &patch); n != 3 || err != nil {
		return nil
	}
	return []advlog.Value{advlog.Int("app_major", int64(major)), advlog.Int("app_minor", int64(minor)), advlog.Int("app_patch", int64(patch))}
}

// unlock runs the batches of card-to-card and ends with the certificate check.
func (c *conversation) unlock(ctx context.Context, s *api.Start) error {
	p := c.proxy
	c.ik = s.Ik
	c.iccsn = statedICCSN(s.CvcEgkAut)
	id, err := p.cfg.Identities.Lookup(ctx, s.Ik)
	if err != nil {
		return fmt.Errorf("choose identity: %w", err)
	}
	c.actor = id.Actor()
	u, err := c2c.NewUnlock(ctx, c2c.Config{Identity: id, CardCVC: s.CvcEgkAut, CardCACVC: s.CvcEgkCa, Roots: p.cfg.Roots,
		Rand: p.cfg.Rand, Now: p.cfg.Clock(), Verified: &p.verified})
	if err != nil {
		return err
	}
	var responses []apdu.Response
	var check *api.CertificateCheck
	for {
		batch, done, err := u.Next(ctx, responses)
		if err != nil {
			return err
		}
		if done {
			break
		}
		if responses, check, err = c.runBatch(ctx, batch); err != nil {
			return err
		}
	}
	result, err := c.checkCertificate(ctx, check.GetCertAutn())
	if err != nil {
		return err
	}
	return c.stream.Send(&api.ServerMessage{Body: &api.ServerMessage_Unlocked{Unlocked: &api.Unlocked{Certificate: result}}})
}

// runBatch sends commands and waits for the card's answers.
func (c *conversation) runBatch(ctx context.Context, b c2c.Batch) ([]apdu.Response, *api.CertificateCheck, error) {
	p := c.proxy
	step := steps[b.Step]
	out := &api.Commands{Step: step.wire}
	for _, cmd := range b.Commands {
		raw, err := cmd.APDU.Bytes()
		if err != nil {
			return nil, nil, fmt.Errorf("encode command: %w", err)
		}
		w := &api.Command{Apdu: raw}
		for _, sw := range cmd.Expected {
			w.ExpectedSw = append(w.ExpectedSw, uint32(sw))
		}
		out.Command = append(out.Command, w)
	}
	if b.Step == c2c.StepRoleAuthenticate {
		out.Actor = &api.Actor{Name: c.actor.Name, Iccsn: c.actor.ICCSN}
	}
	begin := p.cfg.Clock()
	if err := c.stream.Send(&api.ServerMessage{Body: &api.ServerMessage_Commands{Commands: out}}); err != nil {
		return nil, nil, receiveError(ctx, err)
	}
	msg, err := c.next(ctx, p.cfg.StepTimeout, nil)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errGone
		}
		return nil, nil, err
	}
	took := p.cfg.Clock().Sub(begin)
	p.cfg.Metrics.stepSeconds.WithLabelValues(step.name.String()).Observe(took.Seconds())
	p.cfg.Log.Perf(ctx, advlog.PerfEvent{Name: nameStep, Start: begin, Duration: took, Values: []advlog.Value{
		advlog.Word("step", step.name), advlog.Int("commands", int64(len(b.Commands)))}})
	c.trips++

	r := msg.GetResponses()
	if r == nil {
		return nil, nil, fmt.Errorf("%w: want responses", errProtocol)
	}
	if r.CertificateCheck != nil && b.Step != c2c.StepRoleAuthenticate {
		return nil, nil, fmt.Errorf("%w: certificate before the card is unlocked", errProtocol)
	}
	responses := make([]apdu.Response, len(r.Apdu))
	for i, raw := range r.Apdu {
		if responses[i], err = apdu.ParseResponse(raw); err != nil {
			return nil, nil, err
		}
	}
	return responses, r.CertificateCheck, nil
}

// idle waits until the app closes the stream. Nothing else may come.
func (c *conversation) idle(ctx context.Context) error {
	_, err := c.next(ctx, c.proxy.cfg.SessionTimeout, c.proxy.draining)
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, errTimeout):
		return errSessionEnd
	case err != nil:
		return err
	}
	return fmt.Errorf("%w: message after the card is unlocked", errProtocol)
}

// statedICCSN is the card number in the card's certificate, which nobody has verified yet; for error logs only.
func statedICCSN(raw []byte) redact.ICCSN {
	c, err := cvc.Parse(raw)
	if err != nil {
		return redact.ICCSN{}
	}
	n, err := redact.NewICCSN(hex.EncodeToString(c.ICCSN()))
	if err != nil {
		return redact.ICCSN{}
	}
	return n
}
