// Package roundtrip lets the product's card code and the simulated card meet. Neither shares a parser with the other, so
// what works here is understood the same way twice.
package roundtrip

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ktradv/hw/apdu"
	"ktradv/hw/c2c"
	"ktradv/hw/cos"
	"ktradv/hw/cvc"
	"ktradv/hw/egk"
	"ktradv/hw/sim/card"
	"ktradv/hw/sim/persona"
	"ktradv/hw/vsd"
	"ktradv/internal/brainpool"
	"ktradv/internal/redact"
	"ktradv/internal/testpki"
)

var (
	now      = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	terminal = [8]byte{'T', 'E', 'R', 'M', 0, 0, 0, 1}
)

// server is the identity of an insurer, with keys in memory as only a test may have them.
type server struct{ id testpki.KTRAdVIdentity }

func (s server) Certificates(_ context.Context, p c2c.Profile) (c2c.Certificates, error) {
	ee := s.id.Null.Certificate
	if p == c2c.ProfileKTRAdV {
		ee = s.id.AUTR.Certificate
	}
	return c2c.Certificates{EndEntity: ee, CA: s.id.CACVC}, nil
}

func (s server) SignRoleToken(_ context.Context, message []byte) ([]byte, error) {
	return s.id.AUTR.Key.Sign(nil, message)
}

func (s server) Agree(_ context.Context, peer *brainpool.PublicKey) (redact.Bytes, error) {
	x, err := s.id.Null.Key.ECDH(peer)
	return redact.NewBytes(x), err
}

// visit is a card in a reader and a server that may unlock it.
type visit struct {
	t     *testing.T
	card  *card.Card
	wire  apdu.Transmitter
	sent  int
	pki   *testpki.PKI
	roots cvc.Roots
	info  *egk.Info
}

func start(t *testing.T, id string) *visit {
	t.Helper()
	pki, err := testpki.New(testpki.Config{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	c, err := persona.Build(id, pki, now)
	if err != nil {
		t.Fatal(err)
	}
	v := &visit{t: t, card: c, pki: pki, roots: cvc.Roots{}}
	if err := v.roots.AddCertificate(pki.Root.Certificate); err != nil {
		t.Fatal(err)
	}
	c.Reset(false)
	v.wire = apdu.FromRaw(apdu.RawFunc(func(_ context.Context, cmd []byte) ([]byte, error) {
		v.sent++
		return c.Process(cmd), nil
	}))
	return v
}

func (v *visit) prove() error {
	var err error
	if v.info, err = egk.ReadInfo(v.t.Context(), v.wire); err != nil {
		return err
	}
	return egk.ProveAuthentic(v.t.Context(), v.wire, v.info, v.roots, terminal, nil, now)
}

// verify types the PIN as a pad does: into the template.
func (v *visit) verify(digits string) error {
	cmd := cos.VerifyTemplate(0x01)
	for i, d := range digits {
		if i%2 == 0 {
			cmd.Data[1+i/2] = byte(d-'0')<<4 | 0x0F
		} else {
			cmd.Data[1+i/2] = cmd.Data[1+i/2]&0xF0 | byte(d-'0')
		}
	}
	cmd.Data[0] = 0x20 | byte(len(digits))
	r, err := v.wire.Transmit(v.t.Context(), cmd)
	if err != nil {
		return err
	}
	return cos.Check(cmd, r.SW)
}

func (v *visit) unlock() error {
	v.t.Helper()
	id, err := v.pki.IssueKTRAdV("109500969", "Testkasse", "80276003110000000099")
	if err != nil {
		v.t.Fatal(err)
	}
	u, err := c2c.NewUnlock(v.t.Context(), c2c.Config{Identity: server{id}, CardCVC: v.info.AUTCVC, CardCACVC: v.info.AUTCACVC, Roots: v.roots, Now: now})
	if err != nil {
		return err
	}
	var responses []apdu.Response
	for {
		b, done, err := u.Next(v.t.Context(), responses)
		if err != nil || done {
			return err
		}
		responses = nil
		for _, c := range b.Commands {
			r, err := v.wire.Transmit(v.t.Context(), c.APDU)
			if err != nil {
				return err
			}
			responses = append(responses, r)
			if r.SW != apdu.SWOK {
				break
			}
		}
	}
}

func TestWholeVisit(t *testing.T) {
	t.Parallel()
	for id, generation := range map[string]egk.Generation{"healthy-g21": egk.G21, "healthy-g2": egk.G2} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			v := start(t, id)
			if err := v.prove(); err != nil {
				t.Fatal(err)
			}
			if v.info.Generation != generation || v.info.PINs[egk.PINCH] != (cos.PINStatus{State: cos.PINNotVerified, Left: 3}) || v.info.Apps[egk.HCA] != egk.AppAvailable {
				t.Errorf("information %+v", v.info)
			}
			if _, err := egk.ReadCertificate(t.Context(), v.wire, v.info.Generation, egk.CertAUT); err != nil {
				t.Error(err)
			}
			// Before the PIN nothing that is protected can be had.
			if _, err := vsd.Read(t.Context(), v.wire, true); !cos.IsResult(err, cos.ResultSecurityStatusNotSatisfied) {
				t.Errorf("protected data before the PIN: %v", err)
			}
			if err := v.unlock(); !errors.Is(err, c2c.ErrPINNotVerified) {
				t.Errorf("unlocked before the PIN: %v", err)
			}
			if err := v.verify("654321"); !cos.IsResult(err, cos.ResultWrongSecretWarning) {
				t.Errorf("wrong PIN: %v", err)
			}
			if err := v.verify("123456"); err != nil {
				t.Fatal(err)
			}
			if err := v.unlock(); err != nil {
				t.Fatal(err)
			}
			iccsn, err := redact.NewICCSN("80276003110000000099")
			if err != nil {
				t.Fatal(err)
			}
			if err := egk.AppendLog(t.Context(), v.wire, egk.LogEntry{Time: now, Data: egk.LogDataAdV, Access: egk.LogAccessGeneral, ActorICCSN: iccsn, ActorName: redact.NewString("Testkasse Süd")}); err != nil {
				t.Error(err)
			}
			record, err := cos.New(v.wire).ReadRecord(t.Context(), 0x06, 1)
			if err != nil {
				t.Fatal(err)
			}
			if e, used, err := egk.DecodeLog(record); err != nil || !used || e.ActorName.Reveal() != "Testkasse Süd" || !e.Time.Equal(now) {
				t.Errorf("entry on the card: %v %v", used, err)
			}
			if _, err := egk.ReadCertificate(t.Context(), v.wire, v.info.Generation, egk.CertAUTN); err != nil {
				t.Error(err)
			}
			d, err := vsd.Read(t.Context(), v.wire, true)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range d.Sections {
				for _, r := range s.Rows {
					if r.LabelID == "" || r.Kind == vsd.KindCode && r.ValueID == "" {
						t.Errorf("%s: a row that the tables do not know", s.ID)
					}
				}
			}
			if !vsd.ValidIK(d.IK) || d.KVNR.IsZero() {
				t.Errorf("IK %s", d.IK)
			}
			t.Logf("%d commands for the whole visit", v.sent)
			if err := egk.Reset(t.Context(), v.wire); err != nil {
				t.Error(err)
			}
			if _, err := vsd.Read(t.Context(), v.wire, true); !cos.IsResult(err, cos.ResultSecurityStatusNotSatisfied) {
				t.Errorf("protected data after the reset: %v", err)
			}
		})
	}
}

func TestPersonas(t *testing.T) {
	t.Parallel()
	is := func(want error) func(*visit, error) string {
		return func(_ *visit, err error) string {
			if !errors.Is(err, want) {
				return fmt.Sprintf("%v, want %v", err, want)
			}
			return ""
		}
	}
	for id, check := range map[string]func(*visit, error) string{
		"copied-card":  is(egk.ErrNotAuthentic),
		"foreign-root": is(egk.ErrForeignRoot),
		"not-an-egk":   is(egk.ErrNotEGK),
		"pin-blocked": func(v *visit, err error) string {
			if err != nil || v.info.PINs[egk.PINCH].State != cos.PINBlocked {
				return fmt.Sprint("not blocked: ", err)
			}
			if err := v.verify("123456"); !cos.IsResult(err, cos.ResultPasswordBlocked) {
				return fmt.Sprint("VERIFY: ", err)
			}
			return ""
		},
		"transport-pin": func(v *visit, err error) string {
			if err != nil || !v.info.PINs[egk.PINCH].Transport() {
				return fmt.Sprint("no transport state: ", err)
			}
			return ""
		},
		"health-app-locked": func(v *visit, err error) string {
			if err != nil || v.info.Apps[egk.HCA] != egk.AppHidden {
				return fmt.Sprint("DF.HCA is not hidden: ", err)
			}
			if _, err := vsd.Read(v.t.Context(), v.wire, false); !errors.Is(err, vsd.ErrInactive) {
				return fmt.Sprint("data: ", err)
			}
			return ""
		},
		"damaged-vsd": func(v *visit, err error) string {
			if err != nil {
				return err.Error()
			}
			if _, err := vsd.Read(v.t.Context(), v.wire, false); !errors.Is(err, vsd.ErrUnreadable) && !errors.Is(err, vsd.ErrInconsistent) {
				return fmt.Sprint("data: ", err)
			}
			return ""
		},
	} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			v := start(t, id)
			if problem := check(v, v.prove()); problem != "" {
				t.Error(problem)
			}
		})
	}
	// Whoever pulls the card loses what it granted.
	v := start(t, "healthy-g21")
	if err := errors.Join(v.prove(), v.verify("123456"), v.unlock()); err != nil {
		t.Fatal(err)
	}
	v.card.Reset(false)
	if _, err := vsd.Read(t.Context(), v.wire, true); err == nil || !strings.Contains(err.Error(), "SecurityStatusNotSatisfied") {
		t.Errorf("protected data after the card was pulled: %v", err)
	}
}
