package c2c_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ktradv/hw/apdu"
	"ktradv/hw/c2c"
	"ktradv/hw/cos"
	"ktradv/hw/cvc"
	"ktradv/hw/egk"
	"ktradv/hw/internal/cardtest"
	"ktradv/hw/sm"
	"ktradv/internal/brainpool"
	"ktradv/internal/redact"
	"ktradv/internal/req"
	"ktradv/internal/testdata"
	"ktradv/internal/testpki"
)

// identity keeps the keys in memory, as only a test may.
type identity struct {
	certs    map[c2c.Profile]c2c.Certificates
	null     *brainpool.PrivateKey
	autr     *brainpool.PrivateKey
	signWith func([]byte) ([]byte, error)
}

func (i *identity) Certificates(_ context.Context, p c2c.Profile) (c2c.Certificates, error) {
	c, ok := i.certs[p]
	if !ok {
		return c, errors.New("no such profile")
	}
	return c, nil
}

func (i *identity) SignRoleToken(_ context.Context, message []byte) ([]byte, error) {
	if i.signWith != nil {
		return i.signWith(message)
	}
	return i.autr.Sign(nil, message)
}

func (i *identity) Agree(_ context.Context, peer *brainpool.PublicKey) (redact.Bytes, error) {
	x, err := i.null.ECDH(peer)
	return redact.NewBytes(x), err
}

func bytesOf(t testing.TB, c apdu.Command) string {
	t.Helper()
	b, err := c.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

// The computed vector: the published G2.1 image against the published CHAT.0 key, both ephemeral keys fixed. Every
// command of the trusted channel has to come out octet by octet.
func TestComputedVector(t *testing.T) {
	t.Parallel()
	dir := testdata.Dir(t, "cards")
	read := func(parts ...string) []byte {
		b, err := os.ReadFile(filepath.Join(append([]string{dir}, parts...)...))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var v struct {
		ServerEphemeral string                                               `json:"server_ephemeral_private"`
		ServerStatic    string                                               `json:"server_static_private"`
		GA1             string                                               `json:"ga_step1_command"`
		GA1Answer       string                                               `json:"ga_step1_response"`
		GA2             string                                               `json:"ga_step2_command"`
		Frames          []struct{ Secured_command, Secured_response string } `json:"secure_messaging"`
		Role            struct {
			RND       string `json:"rnd_icc"`
			ICCSN8    string `json:"iccsn8_of_challenger"`
			E         string `json:"e_value_hex"`
			Signature string `json:"signature_r_s"`
			External  string `json:"external_authenticate_command"`
		} `json:"role_authentication"`
	}
	if err := json.Unmarshal(read("apdu", "c2c-trusted-channel-vector.computed.json"), &v); err != nil {
		t.Fatal(err)
	}
	key, err := brainpool.NewPrivateKey(brainpool.P256r1(), cardtest.Unhex(t, v.ServerStatic))
	if err != nil {
		t.Fatal(err)
	}
	roots := cvc.Roots{}
	if err := roots.AddCertificate(read("cvc", "chain", "DEGXX870222.crt")); err != nil {
		t.Fatal(err)
	}
	img := cardtest.LoadImage(t, cardtest.ImageG21)
	ee, ca := read("cvc", "chain", "80276001011699902101-cvc-flag0.crt"), read("cvc", "chain", "DEGXX120223.crt")
	tc, err := c2c.NewTrustedChannel(t.Context(), c2c.Config{
		Identity: &identity{null: key, certs: map[c2c.Profile]c2c.Certificates{c2c.ProfileNull: {EndEntity: ee, CA: ca}}},
		CardCVC:  img.Body("EF.C.eGK.AUT_CVC.E256"), CardCACVC: img.Body("EF.C.CA_eGK.CS.E256"), Roots: roots,
		Rand: bytes.NewReader(cardtest.Unhex(t, v.ServerEphemeral)), Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	})
	if err != nil {
		t.Fatal(err)
	}
	compare := func(b c2c.Batch, want ...string) {
		t.Helper()
		if len(b.Commands) != len(want) {
			t.Fatalf("step %d: %d commands, want %d", b.Step, len(b.Commands), len(want))
		}
		for i, c := range b.Commands {
			if got := bytesOf(t, c.APDU); got != want[i] {
				t.Errorf("step %d, command %d: %s, want %s", b.Step, i, got, want[i])
			}
		}
	}
	b, done, err := tc.Next(t.Context(), nil)
	if err != nil || done {
		t.Fatal(done, err)
	}
	compare(b, "00a4040c", "002241a406840109800154",
		"002281b60a83084445475858870222", "002a00bed8"+hex.EncodeToString(ca[4:]),
		"002281b60a83084445475858120223", "002a00beda"+hex.EncodeToString(ee[4:]), v.GA1)
	ok := apdu.Response{SW: apdu.SWOK}
	ga1, err := apdu.ParseResponse(cardtest.Unhex(t, v.GA1Answer))
	if err != nil {
		t.Fatal(err)
	}
	b, done, err = tc.Next(t.Context(), []apdu.Response{ok, ok, ok, ok, ok, ok, ga1})
	if err != nil || done {
		t.Fatal(done, err)
	}
	compare(b, v.GA2, v.Frames[0].Secured_command)
	verified, err := apdu.ParseResponse(cardtest.Unhex(t, v.Frames[0].Secured_response))
	if err != nil {
		t.Fatal(err)
	}
	if _, done, err = tc.Next(t.Context(), []apdu.Response{ok, verified}); err != nil || !done {
		t.Errorf("done %v, %v", done, err)
	}
	if n, err := tc.CardICCSN(); err != nil || n.Reveal() != "80276883110000152715" {
		t.Errorf("card number %v", err)
	}

	message := c2c.RoleMessage(cardtest.Unhex(t, v.Role.RND), [8]byte(cardtest.Unhex(t, v.Role.ICCSN8)))
	if hex.EncodeToString(message) != v.Role.E || !key.Public().Verify(message, cardtest.Unhex(t, v.Role.Signature)) {
		t.Errorf("role message %x, or its signature does not verify", message)
	}
	if got := bytesOf(t, cos.ExternalAuthenticate(cardtest.Unhex(t, v.Role.Signature))); got != v.Role.External {
		t.Errorf("EXTERNAL AUTHENTICATE %s", got)
	}
}

// The published private key file holds the key of the vector (PKCS #8 with the brainpool curve's OID).
func TestPublishedKeyFile(t *testing.T) {
	t.Parallel()
	der, err := os.ReadFile(filepath.Join(testdata.Dir(t, "cards"), "cvc", "chain", "80276001011699902101-cvc-flag0.prv"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		t.Skip("the library reads brainpool keys now")
	}
	var outer struct {
		Version   int
		Algorithm asn1.RawValue
		Key       []byte
	}
	if _, err := asn1.Unmarshal(der, &outer); err != nil || !bytes.Contains(outer.Key, cardtest.Unhex(t, "6aeee72ee36b166b73e5f6ab027b91e7778949919249d4565df6489a6f587714")) {
		t.Errorf("the file holds another key (%v)", err)
	}
}

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// bench is a server identity and a card under one test hierarchy.
type bench struct {
	pki  *testpki.PKI
	egk  testpki.EGKIdentity
	ktr  testpki.KTRAdVIdentity
	srv  *identity
	cfg  c2c.Config
	card *card
}

func newBench(t testing.TB) *bench {
	t.Helper()
	pki, err := testpki.New(testpki.Config{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{pki: pki}
	if b.egk, err = pki.IssueEGK(testpki.EGK{ICCSN: "80276003110000000017", KVNR: "X000000017", IK: "109500969", InsurerName: "Test", GivenName: "A", Surname: "B"}); err != nil {
		t.Fatal(err)
	}
	if b.ktr, err = pki.IssueKTRAdV("109500969", "Test", "80276003110000000099"); err != nil {
		t.Fatal(err)
	}
	b.srv = &identity{null: b.ktr.Null.Key, autr: b.ktr.AUTR.Key, certs: map[c2c.Profile]c2c.Certificates{
		c2c.ProfileNull:   {EndEntity: b.ktr.Null.Certificate, CA: b.ktr.CACVC},
		c2c.ProfileKTRAdV: {EndEntity: b.ktr.AUTR.Certificate, CA: b.ktr.CACVC},
	}}
	roots := cvc.Roots{}
	if err := roots.AddCertificate(pki.Root.Certificate); err != nil {
		t.Fatal(err)
	}
	b.cfg = c2c.Config{Identity: b.srv, CardCVC: b.egk.CVC.Certificate, CardCACVC: b.egk.CACVC, Roots: roots, Now: now}
	b.card = &card{t: t, key: b.egk.CVC.Key, iccsn8: [8]byte(b.egk.CVC.CHR[4:]), keys: map[string]*cvc.Certificate{}, pin: 0x9000}
	b.card.trust(t, pki.Root.Certificate)
	return b
}

// card is a fake with just the cryptography of card-to-card; the card that thinks is the simulator. pin is the status
// word of GET PIN STATUS.
type card struct {
	t         testing.TB
	key       *brainpool.PrivateKey
	iccsn8    [8]byte
	keys      map[string]*cvc.Certificate
	issuer    *cvc.Certificate
	peer      *cvc.Certificate
	ephemeral *brainpool.PrivateKey
	kmac      []byte
	challenge []byte
	granted   cvc.Flags
	pin       uint16
	forge     func(cmd apdu.Command, r apdu.Response) apdu.Response
	sent      []string
}

func (c *card) trust(t testing.TB, raw []byte) {
	root, err := cvc.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	c.keys[string(root.CHR)] = root
}

// mac8 is the card's own MAC over whole blocks.
func (c *card) mac8(ssc byte, padded []byte) []byte {
	block, err := aes.NewCipher(c.kmac)
	if err != nil {
		c.t.Fatal(err)
	}
	k1 := make([]byte, 16)
	block.Encrypt(k1, k1)
	msb := k1[0]
	for i := range k1 {
		k1[i] <<= 1
		if i < 15 {
			k1[i] |= k1[i+1] >> 7
		}
	}
	if msb&0x80 != 0 {
		k1[15] ^= 0x87
	}
	input := append(append(make([]byte, 15), ssc), padded...)
	state := make([]byte, 16)
	for i := 0; i < len(input); i += 16 {
		for k := range 16 {
			state[k] ^= input[i+k]
			if i+16 == len(input) {
				state[k] ^= k1[k]
			}
		}
		block.Encrypt(state, state)
	}
	return state[:8]
}

func iso(b ...byte) []byte {
	b = append(b, 0x80)
	for len(b)%16 != 0 {
		b = append(b, 0)
	}
	return b
}

func (c *card) process(cmd apdu.Command) apdu.Response {
	c.sent = append(c.sent, cos.Name(cmd))
	r := c.answer(cmd)
	if c.forge != nil {
		r = c.forge(cmd, r)
	}
	return r
}

func (c *card) answer(cmd apdu.Command) apdu.Response {
	sw := func(v uint16) apdu.Response { return apdu.Response{SW: v} }
	switch header := fmt.Sprintf("%02X%02X%02X%02X", cmd.CLA, cmd.INS, cmd.P1, cmd.P2); header {
	case "00A4040C", "002241A4":
		return sw(0x9000)
	case "002281B6":
		if c.issuer = c.keys[string(cmd.Data[2:])]; c.issuer == nil {
			return sw(0x6A88)
		}
		return sw(0x9000)
	case "002A00BE":
		cert, err := cvc.ParseContent(cmd.Data)
		if err != nil || c.issuer == nil || cert.CheckSignature(c.issuer.Key) != nil {
			return sw(0x6A80)
		}
		c.keys[string(cert.CHR)] = cert
		return sw(0x9000)
	case "10860000":
		if c.peer = c.keys[string(cmd.Data[4:])]; c.peer == nil {
			return sw(0x6A88)
		}
		var err error
		if c.ephemeral, err = brainpool.GenerateKey(brainpool.P256r1(), nil); err != nil {
			c.t.Fatal(err)
		}
		return apdu.Response{Data: append([]byte{0x7C, 0x43, 0x85, 0x41}, c.ephemeral.Public().Bytes()...), SW: 0x9000}
	case "00860000":
		pk, err := brainpool.ParsePublicKey(brainpool.P256r1(), cmd.Data[4:])
		if err != nil {
			return sw(0x6A80)
		}
		k1, err1 := c.key.ECDH(pk)
		k2, err2 := c.ephemeral.ECDH(c.peer.Key)
		if err1 != nil || err2 != nil {
			return sw(0x6400)
		}
		h := sha1.Sum(append(append(k1, k2...), 0, 0, 0, 2))
		c.kmac = h[:16]
		return sw(0x9000)
	case "8C200001":
		if !bytes.Equal(cmd.Data[2:], c.mac8(1, iso(0x8C, 0x20, 0x00, 0x01))) {
			return sw(0x6988)
		}
		do := []byte{0x99, 0x02, byte(c.pin >> 8), byte(c.pin)}
		return apdu.Response{Data: append(append(do, 0x8E, 8), c.mac8(2, iso(do...))...), SW: c.pin}
	case "002281A4":
		if c.peer = c.keys[string(cmd.Data[2:14])]; c.peer == nil {
			return sw(0x6A88)
		}
		return sw(0x9000)
	case "00840000":
		c.challenge = bytes.Repeat([]byte{byte(len(c.sent))}, 16)
		return apdu.Response{Data: c.challenge, SW: 0x9000}
	case "00820000":
		if c.challenge == nil || !c.peer.Key.Verify(append(append(bytes.Clone(c.challenge), c.iccsn8[:]...), 0), cmd.Data) {
			return sw(0x6300)
		}
		c.challenge, c.granted = nil, c.peer.Flags
		return sw(0x9000)
	}
	return sw(0x6D00)
}

type machine interface {
	Next(context.Context, []apdu.Response) (c2c.Batch, bool, error)
}

// play runs the batches as the app does: it stops at the first unexpected status word.
func play(t testing.TB, m machine, c *card) (steps []c2c.Step, err error) {
	t.Helper()
	var responses []apdu.Response
	for range 10 {
		b, done, err := m.Next(context.Background(), responses)
		if err != nil || done {
			return steps, err
		}
		steps = append(steps, b.Step)
		responses = nil
		for _, cmd := range b.Commands {
			r := c.process(cmd.APDU)
			responses = append(responses, r)
			if !contains(cmd.Expected, r.SW) {
				break
			}
		}
	}
	t.Fatal("no end")
	return nil, nil
}

func contains(list []uint16, v uint16) bool {
	for _, x := range list {
		if x == v {
			return true
		}
	}
	return false
}

func TestUnlock(t *testing.T) {
	t.Parallel()
	req.Covers(t, "A_15112", "A_15115", "AdV-A_2532")
	b := newBench(t)
	u, err := c2c.NewUnlock(t.Context(), b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := play(t, u, b.card)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(steps); got != "[1 2 3 4]" {
		t.Errorf("steps %s", got)
	}
	if b.card.granted != cvc.FlagsKTRAdV {
		t.Errorf("the card grants %v", b.card.granted)
	}
	if len(b.card.sent) != 14 {
		t.Errorf("%d commands: %s", len(b.card.sent), strings.Join(b.card.sent, ", "))
	}
	if n, err := u.CardICCSN(); err != nil || n.Reveal() != b.egk.ICCSN {
		t.Errorf("card number %v", err)
	}
	// The end is the end.
	if _, _, err := u.Next(t.Context(), nil); !errors.Is(err, c2c.ErrProtocol) {
		t.Errorf("after the end: %v", err)
	}
}

func TestPINNotVerified(t *testing.T) {
	t.Parallel()
	req.Covers(t, "A_15114")
	for sw, want := range map[uint16]cos.PINStatus{
		0x63C3: {State: cos.PINNotVerified, Left: 3}, 0x63C0: {State: cos.PINBlocked}, 0x62C1: {State: cos.PINTransport},
		0x62C7: {State: cos.PINEmpty}, 0x62D0: {State: cos.PINDisabled}, 0x6A88: {State: cos.PINAbsent},
	} {
		b := newBench(t)
		b.card.pin = sw
		u, err := c2c.NewUnlock(t.Context(), b.cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, err = play(t, u, b.card)
		var state *c2c.PINStateError
		if !errors.Is(err, c2c.ErrPINNotVerified) || !errors.As(err, &state) || state.Status != want {
			t.Errorf("%04X: %v", sw, err)
		}
		if b.card.granted != cvc.FlagsNone || strings.Contains(strings.Join(b.card.sent, " "), "EXTERNAL") {
			t.Errorf("%04X: the card was unlocked", sw)
		}
	}
}

// Whoever stands between card and server can change nothing to his advantage.
func TestForgedAnswers(t *testing.T) {
	t.Parallel()
	forgeries := map[string]struct {
		pin   uint16
		forge func(*bench) func(apdu.Command, apdu.Response) apdu.Response
		want  error
	}{
		"PIN status changed to verified": {0x63C3, func(*bench) func(apdu.Command, apdu.Response) apdu.Response {
			return func(c apdu.Command, r apdu.Response) apdu.Response {
				if c.CLA == 0x8C {
					data := bytes.Clone(r.Data)
					data[2], data[3] = 0x90, 0x00
					return apdu.Response{Data: data, SW: 0x9000}
				}
				return r
			}
		}, sm.ErrMAC},
		"PIN status without secure messaging": {0x63C3, func(*bench) func(apdu.Command, apdu.Response) apdu.Response {
			return func(c apdu.Command, r apdu.Response) apdu.Response {
				if c.CLA == 0x8C {
					return apdu.Response{SW: 0x9000}
				}
				return r
			}
		}, sm.ErrLost},
		"PIN status of the channel's error": {0x9000, func(*bench) func(apdu.Command, apdu.Response) apdu.Response {
			return func(c apdu.Command, r apdu.Response) apdu.Response {
				if c.CLA == 0x8C {
					return apdu.Response{SW: 0x6988}
				}
				return r
			}
		}, sm.ErrLost},
		"copied card: certificate without key": {0x9000, func(b *bench) func(apdu.Command, apdu.Response) apdu.Response {
			other, err := brainpool.GenerateKey(brainpool.P256r1(), nil)
			if err != nil {
				t.Fatal(err)
			}
			b.card.key = other
			return nil
		}, c2c.ErrChannel},
		"ephemeral key off the curve": {0x9000, func(*bench) func(apdu.Command, apdu.Response) apdu.Response {
			return func(c apdu.Command, r apdu.Response) apdu.Response {
				if c.CLA == 0x10 {
					r.Data = bytes.Clone(r.Data)
					r.Data[68] ^= 1
				}
				return r
			}
		}, c2c.ErrProtocol},
		"GENERAL AUTHENTICATE without key": {0x9000, func(*bench) func(apdu.Command, apdu.Response) apdu.Response {
			return func(c apdu.Command, r apdu.Response) apdu.Response {
				if c.CLA == 0x10 {
					return apdu.Response{SW: 0x9000}
				}
				return r
			}
		}, c2c.ErrProtocol},
		"short challenge": {0x9000, func(*bench) func(apdu.Command, apdu.Response) apdu.Response {
			return func(c apdu.Command, r apdu.Response) apdu.Response {
				if c.INS == 0x84 {
					r.Data = r.Data[:8]
				}
				return r
			}
		}, c2c.ErrProtocol},
	}
	for name, f := range forgeries {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.card.pin = f.pin
			b.card.forge = f.forge(b)
			u, err := c2c.NewUnlock(t.Context(), b.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := play(t, u, b.card); !errors.Is(err, f.want) {
				t.Errorf("%v, want %v", err, f.want)
			}
			if b.card.granted != cvc.FlagsNone {
				t.Error("the card was unlocked")
			}
		})
	}
}

// A card that refuses a command ends the protocol with its status word and the platform's result.
func TestCardRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ins, p2 byte
		nth     int
		sw      uint16
		want    cos.Result
	}{
		"SELECT":                   {0xA4, 0x0C, 1, 0x6285, cos.ResultObjectTerminated},
		"MSE of the key":           {0x22, 0xA4, 1, 0x6A88, cos.ResultErrorAuthentication},
		"import of the CA":         {0x2A, 0xBE, 1, 0x6A80, cos.ResultErrorImportCVC},
		"import of CHAT.0":         {0x2A, 0xBE, 2, 0x6983, cos.ResultErrorImportCVC},
		"GENERAL AUTHENTICATE 1":   {0x86, 0x00, 1, 0x6A88, cos.ResultErrorAuthentication},
		"GENERAL AUTHENTICATE 2":   {0x86, 0x00, 2, 0x6400, cos.ResultErrorAuthentication},
		"import of CHAT.1":         {0x2A, 0xBE, 3, 0x6A80, cos.ResultErrorImportCVC},
		"MSE of the role":          {0x22, 0xA4, 2, 0x6A88, cos.ResultErrorAuthentication},
		"EXTERNAL AUTHENTICATE":    {0x82, 0x00, 1, 0x6300, cos.ResultErrorAuthentication},
		"card pulled and replaced": {0x84, 0x00, 1, 0x6982, cos.ResultSecurityStatusNotSatisfied},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			n := 0
			b.card.forge = func(cmd apdu.Command, r apdu.Response) apdu.Response {
				if cmd.INS == c.ins && cmd.P2 == c.p2 && (cmd.INS != 0x22 || cmd.P1 != 0x81 || cmd.P2 == 0xA4) {
					if n++; n == c.nth {
						return apdu.Response{SW: c.sw}
					}
				}
				return r
			}
			u, err := c2c.NewUnlock(t.Context(), b.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := play(t, u, b.card); !cos.IsResult(err, c.want) {
				t.Errorf("%v, want result %s", err, c.want)
			}
		})
	}
	// Retries of the card's memory do not end anything.
	b := newBench(t)
	b.card.forge = func(cmd apdu.Command, r apdu.Response) apdu.Response {
		if cmd.INS == 0x2A {
			r.SW = 0x63C2
		}
		return r
	}
	u, err := c2c.NewUnlock(t.Context(), b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := play(t, u, b.card); err != nil {
		t.Errorf("import after retries: %v", err)
	}
}

func TestResponsesThatDoNotFit(t *testing.T) {
	t.Parallel()
	ok := apdu.Response{SW: apdu.SWOK}
	for name, responses := range map[string][]apdu.Response{
		"none":                    {},
		"too few":                 {ok, ok},
		"too many":                {ok, ok, ok, ok, ok, ok, ok, ok},
		"more after a failed one": {ok, {SW: 0x6A88}, ok},
	} {
		b := newBench(t)
		u, err := c2c.NewUnlock(t.Context(), b.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := u.Next(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if _, _, err := u.Next(t.Context(), responses); !errors.Is(err, c2c.ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := u.Next(t.Context(), []apdu.Response{ok}); !errors.Is(err, c2c.ErrProtocol) {
			t.Errorf("%s: goes on after the error: %v", name, err)
		}
	}
	b := newBench(t)
	u, err := c2c.NewUnlock(t.Context(), b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := u.Next(t.Context(), []apdu.Response{ok}); !errors.Is(err, c2c.ErrProtocol) {
		t.Errorf("response before the first command: %v", err)
	}
}

func TestCertificatesAreCheckedFirst(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2532")
	for name, tc := range map[string]struct {
		change func(*testing.T, *bench)
		want   error
	}{
		"card under a foreign root": {func(t *testing.T, b *bench) {
			id, err := b.pki.IssueEGK(testpki.EGK{ICCSN: "80276003110000000018", KVNR: "X000000018", IK: "109500969", InsurerName: "T", GivenName: "A", Surname: "B", Foreign: true})
			if err != nil {
				t.Fatal(err)
			}
			b.cfg.CardCVC, b.cfg.CardCACVC = id.CVC.Certificate, id.CACVC
		}, egk.ErrForeignRoot},
		"card certificate expired":             {func(_ *testing.T, b *bench) { b.cfg.Now = now.AddDate(4, 6, 0) }, egk.ErrCertificateTime},
		"card certificate is that of a server": {func(_ *testing.T, b *bench) { b.cfg.CardCVC, b.cfg.CardCACVC = b.ktr.AUTR.Certificate, b.ktr.CACVC }, egk.ErrNotAuthentic},
		"card certificate spoiled": {func(_ *testing.T, b *bench) {
			b.cfg.CardCVC = bytes.Clone(b.cfg.CardCVC)
			b.cfg.CardCVC[len(b.cfg.CardCVC)-1] ^= 1
		}, egk.ErrNotAuthentic},
		"no card certificate": {func(_ *testing.T, b *bench) { b.cfg.CardCVC = nil }, egk.ErrMalformed},
		"profiles swapped": {func(_ *testing.T, b *bench) {
			c := b.srv.certs
			c[c2c.ProfileNull], c[c2c.ProfileKTRAdV] = c[c2c.ProfileKTRAdV], c[c2c.ProfileNull]
		}, c2c.ErrIdentity},
		"unlocking with CHAT.0": {func(_ *testing.T, b *bench) { b.srv.certs[c2c.ProfileKTRAdV] = b.srv.certs[c2c.ProfileNull] }, c2c.ErrIdentity},
		"own certificate spoiled": {func(_ *testing.T, b *bench) {
			c := b.srv.certs[c2c.ProfileKTRAdV]
			c.EndEntity = c.EndEntity[:100]
			b.srv.certs[c2c.ProfileKTRAdV] = c
		}, c2c.ErrIdentity},
		"own CA of another hierarchy": {func(_ *testing.T, b *bench) {
			c := b.srv.certs[c2c.ProfileNull]
			c.CA = b.pki.ForeignCA.Certificate
			b.srv.certs[c2c.ProfileNull] = c
		}, c2c.ErrIdentity},
		"own link certificate spoiled": {func(_ *testing.T, b *bench) {
			c := b.srv.certs[c2c.ProfileNull]
			c.Links = [][]byte{{1, 2, 3}}
			b.srv.certs[c2c.ProfileNull] = c
		}, c2c.ErrIdentity},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			// What was verified before changes nothing about what is wrong now.
			b.cfg.Verified = new(c2c.Verified)
			if _, err := c2c.NewUnlock(t.Context(), b.cfg); err != nil {
				t.Fatal(err)
			}
			tc.change(t, b)
			for _, v := range []*c2c.Verified{nil, b.cfg.Verified} {
				b.cfg.Verified = v
				if u, err := c2c.NewUnlock(t.Context(), b.cfg); !errors.Is(err, tc.want) || u != nil {
					t.Errorf("%v, want %v", err, tc.want)
				}
			}
		})
	}
	b := newBench(t)
	delete(b.srv.certs, c2c.ProfileKTRAdV)
	if _, err := c2c.NewUnlock(t.Context(), b.cfg); err == nil {
		t.Error("an identity without CHAT.1 was taken")
	}
}

// A chain that was verified once is not verified again, and only as long as its certificates are valid.
func TestVerifiedOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.cfg.Verified = new(c2c.Verified)
	if _, err := c2c.NewUnlock(t.Context(), b.cfg); err != nil {
		t.Fatal(err)
	}
	// A card of the same roots that is valid longer than the server's own certificates.
	card, err := b.pki.IssueEGK(testpki.EGK{ICCSN: "80276003110000000018", KVNR: "X000000018", IK: "109500969", InsurerName: "T",
		GivenName: "A", Surname: "B", CVCNotAfter: now.AddDate(6, 0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	b.cfg.CardCVC = card.CVC.Certificate
	for at, want := range map[time.Time]error{now: nil, now.AddDate(4, 1, 0): c2c.ErrIdentity, now.AddDate(3, 11, 0): nil} {
		b.cfg.Now = at
		if _, err := c2c.NewUnlock(t.Context(), b.cfg); !errors.Is(err, want) {
			t.Errorf("at %v: %v; want %v", at.Format(time.DateOnly), err, want)
		}
	}
	// One bit of the signature makes it another chain.
	b.cfg.Now = now
	c := b.srv.certs[c2c.ProfileKTRAdV]
	c.EndEntity = bytes.Clone(c.EndEntity)
	c.EndEntity[len(c.EndEntity)-1] ^= 1
	b.srv.certs[c2c.ProfileKTRAdV] = c
	if _, err := c2c.NewUnlock(t.Context(), b.cfg); !errors.Is(err, c2c.ErrIdentity) {
		t.Errorf("spoiled signature: %v", err)
	}
}

func BenchmarkNewUnlock(b *testing.B) {
	for name, v := range map[string]*c2c.Verified{"each time": nil, "verified": new(c2c.Verified)} {
		bench := newBench(b)
		bench.cfg.Verified = v
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := c2c.NewUnlock(b.Context(), bench.cfg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestKeysThatFail(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.srv.signWith = func([]byte) ([]byte, error) { return make([]byte, 63), nil }
	u, err := c2c.NewUnlock(t.Context(), b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := play(t, u, b.card); !errors.Is(err, c2c.ErrIdentity) {
		t.Errorf("short signature: %v", err)
	}
	// The right certificate with another key does not unlock.
	b = newBench(t)
	b.srv.autr = b.srv.null
	if u, err = c2c.NewUnlock(t.Context(), b.cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := play(t, u, b.card); !cos.IsResult(err, cos.ResultErrorAuthentication) || b.card.granted != cvc.FlagsNone {
		t.Errorf("wrong key: %v", err)
	}
	b = newBench(t)
	b.cfg.Rand = bytes.NewReader(nil)
	if u, err = c2c.NewUnlock(t.Context(), b.cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := play(t, u, b.card); err == nil {
		t.Error("went on without random numbers")
	}
}

// A card personalised under another root of the same hierarchy is reached with link certificates.
func TestLinkCertificates(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	root := b.pki.Root
	oldKey, err := brainpool.GenerateKey(brainpool.P256r1(), nil)
	if err != nil {
		t.Fatal(err)
	}
	oldName := [8]byte{'D', 'E', 'A', 'L', 'T', 0x81, 0x02, 0x20}
	write := func(c testpki.CVC, issuer *brainpool.PrivateKey) []byte {
		c.Profile, c.CED, c.CXD = 0x70, now.AddDate(-1, 0, 0), now.AddDate(3, 0, 0)
		raw, err := testpki.WriteCVC(nil, c, issuer)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	old := write(testpki.CVC{CAR: oldName[:], CHR: oldName[:], PublicKey: oldKey.Public(), ForCA: true, Flags: cvc.FlagsAll}, oldKey)
	link := write(testpki.CVC{CAR: oldName[:], CHR: root.CHR[:], PublicKey: root.Key.Public(), ForCA: true, Flags: cvc.FlagsAll}, oldKey)
	back := write(testpki.CVC{CAR: root.CHR[:], CHR: oldName[:], PublicKey: oldKey.Public(), ForCA: true, Flags: cvc.FlagsAll}, root.Key)
	caKey, err := brainpool.GenerateKey(brainpool.P256r1(), nil)
	if err != nil {
		t.Fatal(err)
	}
	caName := []byte{'D', 'E', 'A', 'L', 'T', 0x11, 0x02, 0x20}
	b.cfg.CardCACVC = write(testpki.CVC{CAR: oldName[:], CHR: caName, PublicKey: caKey.Public(), ForCA: true, Flags: cvc.Flags{0x80}}, oldKey)
	b.cfg.CardCVC = write(testpki.CVC{CAR: caName, CHR: b.egk.CVC.CHR[:], PublicKey: b.egk.CVC.Key.Public()}, caKey)
	if err := b.cfg.Roots.AddCertificate(old); err != nil {
		t.Fatal(err)
	}
	newCard := func() *card {
		c := &card{t: t, key: b.egk.CVC.Key, iccsn8: b.card.iccsn8, keys: map[string]*cvc.Certificate{}, pin: 0x9000}
		c.trust(t, old)
		return c
	}
	run := func(c *card) error {
		u, err := c2c.NewUnlock(t.Context(), b.cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, err = play(t, u, c)
		return err
	}
	if err := run(newCard()); !errors.Is(err, c2c.ErrRootUnknown) || !cos.IsResult(err, cos.ResultErrorImportCVC) {
		t.Errorf("without link: %v", err)
	}
	for p, c := range b.srv.certs {
		c.Links = [][]byte{back, link}
		b.srv.certs[p] = c
	}
	c := newCard()
	if err := run(c); err != nil || c.granted != cvc.FlagsKTRAdV || len(c.sent) != 16 {
		t.Errorf("with link: %v, %d commands", err, len(c.sent))
	}
}

// Role authentication alone, towards a card about which the server knows the number and the root only.
func TestRoleAuthAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	cfg := c2c.Config{Identity: b.srv, Roots: b.cfg.Roots, Now: now}
	r, err := c2c.NewRoleAuth(t.Context(), cfg, b.card.iccsn8, b.egk.RootCAR)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := play(t, r, b.card)
	if err != nil || len(steps) != 2 || b.card.granted != cvc.FlagsKTRAdV || b.card.sent[0] != "SELECT" {
		t.Errorf("%v, %v, %v", steps, err, b.card.sent)
	}
	// A signature made for another card is worth nothing.
	b.card.granted = cvc.FlagsNone
	if r, err = c2c.NewRoleAuth(t.Context(), cfg, [8]byte{1}, b.egk.RootCAR); err != nil {
		t.Fatal(err)
	}
	if _, err := play(t, r, b.card); !cos.IsResult(err, cos.ResultErrorAuthentication) || b.card.granted != cvc.FlagsNone {
		t.Errorf("signature for another card: %v", err)
	}
	if _, _, err := r.Next(t.Context(), nil); !errors.Is(err, c2c.ErrProtocol) {
		t.Errorf("after the end: %v", err)
	}
	if r, err = c2c.NewRoleAuth(t.Context(), cfg, b.card.iccsn8, b.egk.RootCAR); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Next(t.Context(), []apdu.Response{{SW: 0x9000}}); !errors.Is(err, c2c.ErrProtocol) {
		t.Errorf("response before the first command: %v", err)
	}
}

// FuzzResponses lets anybody answer in the card's place.
func FuzzResponses(f *testing.F) {
	b := newBench(f)
	f.Add([]byte{0x90, 0x00}, []byte{0x90, 0x00}, 7)
	f.Add(append(append([]byte{0x7C, 0x43, 0x85, 0x41}, b.egk.CVC.Key.Public().Bytes()...), 0x90, 0x00), cardtest.Unhex(f, "990290008e08fc4a5ec20a5cb2dc9000"), 7)
	f.Fuzz(func(t *testing.T, first, second []byte, n int) {
		u, err := c2c.NewUnlock(t.Context(), b.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := u.Next(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		ok := apdu.Response{SW: 0x9000}
		r1, err1 := apdu.ParseResponse(first)
		r2, err2 := apdu.ParseResponse(second)
		if err1 != nil || err2 != nil || n < 0 || n > 10 {
			return
		}
		var responses []apdu.Response
		for range n {
			responses = append(responses, ok)
		}
		if n > 0 {
			responses[n-1] = r1
		}
		if _, _, err := u.Next(t.Context(), responses); err != nil {
			return
		}
		if _, _, err := u.Next(t.Context(), []apdu.Response{ok, r2}); err == nil {
			t.Fatalf("%x %x opens the channel", first, second)
		}
	})
}

func BenchmarkUnlock(b *testing.B) {
	x := newBench(b)
	for b.Loop() {
		u, err := c2c.NewUnlock(b.Context(), x.cfg)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := play(b, u, x.card); err != nil {
			b.Fatal(err)
		}
	}
}
