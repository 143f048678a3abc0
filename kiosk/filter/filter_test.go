package filter

import (
	"errors"
	"testing"

	"ktradv/hw/apdu"
	"ktradv/hw/cos"
	"ktradv/hw/cvc"
	"ktradv/internal/req"
	"ktradv/internal/testpki"
)

// fixture is a complete unlocking as an honest server sends it.
type fixture struct {
	chat0, chat1, ca, cms []byte // contents of 7F21
	chr0, chr1, ca1       []byte
	script                []apdu.Command
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	pki, err := testpki.New(testpki.Config{})
	if err != nil {
		t.Fatal(err)
	}
	id, err := pki.IssueKTRAdV("109500969", "Test GKV-SV", "80276003110000000001")
	if err != nil {
		t.Fatal(err)
	}
	content := func(raw []byte) []byte {
		c, err := cvc.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		return c.Content
	}
	cms, err := testpki.WriteCVC(nil, testpki.CVC{
		Profile: 0x70, CAR: pki.KTRAdVCA.CHR[:], PublicKey: id.Null.Key.Public(), CHR: id.Null.CHR[:], CMS: true,
		CED: pki.Now().AddDate(-1, 0, 0), CXD: pki.Now().AddDate(1, 0, 0),
	}, pki.KTRAdVCA.Key)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{
		chat0: content(id.Null.Certificate), chat1: content(id.AUTR.Certificate), ca: content(id.CACVC), cms: content(cms),
		chr0: id.Null.CHR[:], chr1: id.AUTR.CHR[:], ca1: pki.KTRAdVCA.CHR[:],
	}
	point := append([]byte{4}, make([]byte, 64)...)
	f.script = []apdu.Command{
		cos.SelectMF(),
		cos.MSEInternalAuth(0x09, 0x54),
		cos.MSEVerifyCert(id.RootCAR[:]), cos.PSOVerifyCertificate(f.ca),
		cos.MSEVerifyCert(f.ca1), cos.PSOVerifyCertificate(f.chat0),
		cos.GeneralAuthenticateChallenge(f.chr0),
		cos.GeneralAuthenticateKey(point),
		pinStatus(),
		cos.MSEVerifyCert(id.RootCAR[:]), cos.PSOVerifyCertificate(f.ca),
		cos.MSEVerifyCert(f.ca1), cos.PSOVerifyCertificate(f.chat1),
		cos.MSEExternalAuth(f.chr1, 0),
		cos.GetChallenge(16),
		cos.ExternalAuthenticate(make([]byte, 64)),
	}
	return f
}

func pinStatus() apdu.Command {
	return apdu.Command{CLA: 0x8C, INS: 0x20, P2: 0x01, Data: append([]byte{0x8E, 0x08}, make([]byte, 8)...), Ne: 256}
}

// after runs the first n commands of the honest server.
func (f *fixture) after(t *testing.T, n int) *Filter {
	t.Helper()
	fl := New()
	for _, c := range f.script[:n] {
		if err := fl.Check(c); err != nil {
			t.Fatalf("honest command %v refused: %v", c, err)
		}
		fl.Observe(apdu.Response{SW: 0x9000})
	}
	return fl
}

func TestHonestServerPasses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	fl := f.after(t, len(f.script))
	if fl.Phase() != Closed {
		t.Errorf("phase after unlocking = %v; want closed", fl.Phase())
	}
}

// A certificate that the card took after several attempts is taken (UpdateRetryWarning); the same answer to another command
// does not open the next phase.
func TestRetriesOfTheCard(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for sw, taken := range map[uint16]bool{0x63C0: false, 0x63C1: true, 0x63CF: true, 0x63D0: false, 0x6300: false, 0x6281: false} {
		fl := f.after(t, 5)
		if err := fl.Check(f.script[5]); err != nil {
			t.Fatal(err)
		}
		fl.Observe(apdu.Response{SW: sw})
		if err := fl.Check(f.script[6]); (err == nil) != taken {
			t.Errorf("%04X to the certificate, then its key: %v", sw, err)
		}
	}
	fl := f.after(t, 6)
	if err := fl.Check(f.script[6]); err != nil {
		t.Fatal(err)
	}
	fl.Observe(apdu.Response{SW: 0x63C1})
	if fl.Phase() != TrustedChannel {
		t.Error("63C1 to GENERAL AUTHENTICATE opened the next phase")
	}
}

func TestForbiddenCommands(t *testing.T) {
	t.Parallel()
	req.Covers(t, "A_15113", "A_15117")
	f := newFixture(t)
	const (
		atStart      = 0
		beforeKey    = 6 // GENERAL AUTHENTICATE step 1 comes next
		beforeAgree  = 7
		beforePIN    = 8
		beforeRole   = 9
		beforeMSE    = 13
		beforeAuth   = 15
		afterwards   = 16
		aidHCA       = "\xD2\x76\x00\x00\x01\x02"
		otherPurpose = 0xF4
	)
	with := func(c apdu.Command, change func(*apdu.Command)) apdu.Command {
		c.Data = append([]byte(nil), c.Data...)
		change(&c)
		return c
	}
	for _, c := range []struct {
		name string
		at   int
		cmd  apdu.Command
	}{
		{"select the health application", atStart, cos.SelectAID([]byte(aidHCA))},
		{"read personal data", atStart, cos.ReadBinary(1, 0, 256)},
		{"read a record of the access log", atStart, cos.ReadRecord(6, 1, 256)},
		{"read the card's number", atStart, cos.ReadBinary(2, 0, 256)},
		{"verify the PIN", atStart, apdu.Command{INS: 0x20, P2: 1, Data: make([]byte, 8)}},
		{"unblock the PIN", atStart, apdu.Command{INS: 0x2C, P2: 1, Data: make([]byte, 16)}},
		{"PIN status in the clear", atStart, cos.GetPINStatus(1)},
		{"PIN status before the channel", atStart, pinStatus()},
		{"challenge before the PIN status", atStart, cos.GetChallenge(16)},
		{"internal authentication", atStart, cos.InternalAuthenticate(make([]byte, 24))},
		{"key for another purpose", atStart, cos.MSEInternalAuth(0x09, otherPurpose)},
		{"CHAT.1 certificate for the channel", atStart, cos.PSOVerifyCertificate(f.chat1)},
		{"certificate of card management", atStart, cos.PSOVerifyCertificate(f.cms)},
		{"rubbish as certificate", atStart, cos.PSOVerifyCertificate([]byte{0x7F, 0x4E, 0x01, 0x00})},
		{"empty certificate", atStart, apdu.Command{INS: 0x2A, P2: 0xBE}},
		{"MSE with a longer reference", atStart, cos.MSEVerifyCert(make([]byte, 9))},
		{"select with data", atStart, with(cos.SelectMF(), func(c *apdu.Command) { c.Data = []byte{1} })},
		{"select with a file control answer", atStart, with(cos.SelectMF(), func(c *apdu.Command) { c.P2, c.Ne = 4, 256 })},
		{"other logical channel", atStart, with(cos.SelectMF(), func(c *apdu.Command) { c.CLA = 1 })},
		{"key that was never imported", atStart, cos.GeneralAuthenticateChallenge(f.chr0)},
		{"cached key of another certificate", beforeKey, cos.GeneralAuthenticateChallenge(f.chr1)},
		{"authority as partner", beforeKey, apdu.Command{CLA: 0x10, INS: 0x86, Data: append([]byte{0x7C, 0x0A, 0xC3, 0x08}, f.ca1...), Ne: 256}},
		{"another command inside the agreement", beforeAgree, cos.SelectMF()},
		{"point of the wrong form", beforeAgree, cos.GeneralAuthenticateKey(append([]byte{2}, make([]byte, 64)...))},
		{"secured read inside the channel", beforePIN, apdu.Command{CLA: 0x0C, INS: 0xB0, P1: 0x81, Data: make([]byte, 13), Ne: 256}},
		{"secured PIN status of another PIN", beforePIN, with(pinStatus(), func(c *apdu.Command) { c.P2 = 2 })},
		{"secured PIN status with hidden data", beforePIN, with(pinStatus(), func(c *apdu.Command) { c.Data = append([]byte{0x87, 0x11}, make([]byte, 17)...) })},
		{"plain command instead of the PIN status", beforePIN, cos.GetChallenge(16)},
		{"second PIN status", beforeRole, pinStatus()},
		{"CHAT.0 certificate for the role", beforeRole, cos.PSOVerifyCertificate(f.chat0)},
		{"role key of the phase before", beforeRole, cos.MSEExternalAuth(f.chr0, 0)},
		{"role with another algorithm", beforeMSE, cos.MSEExternalAuth(f.chr1, 0x54)},
		{"symmetric challenge", beforeMSE, cos.GetChallenge(8)},
		{"short signature", beforeAuth, cos.ExternalAuthenticate(make([]byte, 63))},
		{"mutual authentication", beforeAuth, with(cos.ExternalAuthenticate(make([]byte, 64)), func(c *apdu.Command) { c.Ne = 256 })},
		{"anything afterwards", afterwards, cos.SelectMF()},
		{"log entry of the server's own", afterwards, cos.AppendRecord(6, make([]byte, 46))},
		{"hide an application", afterwards, cos.Deactivate()},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			fl := f.after(t, c.at)
			var forbidden *Forbidden
			if err := fl.Check(c.cmd); !errors.As(err, &forbidden) {
				t.Fatalf("Check = %v; want refused", err)
			}
			// One refusal ends everything: the next honest command is refused too.
			if c.at < len(f.script) {
				if err := fl.Check(f.script[c.at]); !errors.As(err, &forbidden) {
					t.Errorf("after a refusal: %v; want refused for good", err)
				}
			}
		})
	}
}

// A certificate that the card did not accept opens nothing, and neither does a phase that the card refused.
func TestOnlyWhatTheCardAcceptedCounts(t *testing.T) {
	t.Parallel()
	req.Covers(t, "A_15117")
	f := newFixture(t)
	fl := f.after(t, 5)
	if err := fl.Check(f.script[5]); err != nil {
		t.Fatal(err)
	}
	fl.Observe(apdu.Response{SW: 0x6A80}) // the card refuses the signature
	if err := fl.Check(cos.GeneralAuthenticateChallenge(f.chr0)); err == nil {
		t.Error("a key that the card refused may be named")
	}
	fl = f.after(t, 6)
	if err := fl.Check(f.script[6]); err != nil {
		t.Fatal(err)
	}
	fl.Observe(apdu.Response{SW: 0x6A88})
	if fl.Phase() != TrustedChannel {
		t.Errorf("phase = %v although the card refused", fl.Phase())
	}
	// Two commands without an answer in between: the first one's fate is not known.
	fl = f.after(t, 0)
	if err := fl.Check(f.script[0]); err != nil {
		t.Fatal(err)
	}
	if err := fl.Check(f.script[1]); err == nil {
		t.Error("a second command passed before the first was answered")
	}
}

func FuzzCheck(f *testing.F) {
	fx := newFixture(f)
	for _, c := range fx.script {
		b, err := c.Bytes()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := apdu.Parse(b)
		if err != nil {
			return
		}
		fl := New()
		if fl.Check(c) == nil {
			// Whatever passes first is one of the few harmless beginnings.
			switch [2]byte{c.CLA, c.INS} {
			case [2]byte{0x00, 0xA4}, [2]byte{0x80, 0xCA}, [2]byte{0x00, 0x22}, [2]byte{0x00, 0x2A}:
			default:
				t.Errorf("%v passed", c)
			}
		}
	})
}
