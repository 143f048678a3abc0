package card_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ktradv/hw/sim/card"
	"ktradv/internal/brainpool"
	"ktradv/internal/testpki"
)

func day(y, m, d int) time.Time { return time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC) }

var (
	caCHR  = []byte{'K', 'T', 'S', 'I', 'M', 0x12, 0x02, 0x25}
	eeCHR  = append([]byte{0x00, 0x05}, unhexString("80276003110000900001")...)
	chat1F = [7]byte{0x00, 0xAE, 0x1A, 0xCD, 0xC1, 0xDC, 0x00}
	chat1C = [7]byte{0x80, 0xAE, 0x1A, 0xCD, 0xC1, 0xDC, 0x04}
)

func unhexString(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// chain is a sub-CA and a card below the root of a rig.
type chain struct {
	ca, ee       *brainpool.PrivateKey
	caCVC, eeCVC testpki.CVC
}

func newChain(t testing.TB) *chain {
	c := &chain{ca: key(t), ee: key(t)}
	c.caCVC = testpki.CVC{Profile: 0x70, CAR: rootCAR, PublicKey: c.ca.Public(), ForCA: true, CHR: caCHR, Flags: chat1C, CED: day(2025, 2, 1), CXD: day(2030, 1, 31)}
	c.eeCVC = testpki.CVC{Profile: 0x70, CAR: caCHR, PublicKey: c.ee.Public(), CHR: eeCHR, Flags: chat1F, CED: day(2025, 3, 1), CXD: day(2029, 1, 31)}
	return c
}

func write(t testing.TB, c testpki.CVC, issuer *brainpool.PrivateKey) []byte {
	t.Helper()
	b, err := testpki.WriteCVC(nil, c, issuer)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pso is PSO VERIFY CERTIFICATE for a certificate with its outer tag.
func pso(cvc []byte) string {
	v := cvc[3:]
	if cvc[2] == 0x81 {
		v = cvc[4:]
	}
	if cvc[2] == 0x82 {
		v = cvc[5:]
	}
	if len(v) > 255 {
		return fmt.Sprintf("002A00BE00%04X%X", len(v), v)
	}
	return fmt.Sprintf("002A00BE%02X%X", len(v), v)
}

func setIssuer(car []byte) string { return "002281B60A8308" + hex.EncodeToString(car) }

// load imports CA and card certificate.
func (c *chain) load(r *rig) {
	r.t.Helper()
	r.do(setIssuer(c.caCVC.CAR), "9000")
	r.do(pso(write(r.t, c.caCVC, r.root)), "9000")
	r.do(setIssuer(c.eeCVC.CAR), "9000")
	r.do(pso(write(r.t, c.eeCVC, c.ca)), "9000")
}

var fuzzKey = func() *brainpool.PrivateKey {
	k, err := brainpool.NewPrivateKey(brainpool.P256r1(), bytes.Repeat([]byte{1}, 32))
	if err != nil {
		panic(err)
	}
	return k
}()

var iccsn8 = []byte{0x00, 0x03, 0x11, 0, 0, 0, 0x12, 0x34}

func (c *chain) external(r *rig) string {
	r.t.Helper()
	r.do("002281A411830C"+hex.EncodeToString(c.eeCVC.CHR)+"800100", "9000")
	rnd := r.do("0084000010", "9000")
	sig, err := c.ee.Sign(nil, slices.Concat(rnd, iccsn8, []byte{0}))
	if err != nil {
		r.t.Fatal(err)
	}
	return "0082000040" + hex.EncodeToString(sig)
}

func TestImportAndRoleAuthentication(t *testing.T) {
	t.Parallel()
	r, c := insert(t, options{}), newChain(t)
	c.load(r)
	cmd := c.external(r)
	if len(r.Roles()) != 0 {
		t.Error("rights before the authentication")
	}
	r.do(cmd, "9000")
	if diff := cmp.Diff(map[card.FlagOID]card.Flags{card.FlagsTI: chat1F}, r.Roles()); diff != "" {
		t.Error(diff)
	}
	r.do(cmd, "6985") // the challenge is used up
	// The eGK's root object never grants flag 53, which the CA has.
	if diff := cmp.Diff([]string{"4B5453494D120225 80AE1ACDC1DC04 80AE1ACDC1DC00"}, r.masked); diff != "" {
		t.Errorf("masked: %s", diff)
	}
	if diff := cmp.Diff(card.Date{2, 5, 0, 3, 0, 1}, r.sys.PointInTime); diff != "" {
		t.Errorf("point in time: %s", diff)
	}
	// The keys survive a reset, the rights do not.
	r.Reset(true)
	if len(r.Roles()) != 0 {
		t.Error("rights after a reset")
	}
	r.do(c.external(r), "9000")

	for name, bad := range map[string]func(r *rig) string{
		"other key": func(r *rig) string {
			o := *c
			o.ee = key(t)
			return o.external(r)
		},
		"hashed":      func(r *rig) string { return c.forge(r, func(e []byte) []byte { return append(e, 0) }) },
		"other card":  func(r *rig) string { return c.forge(r, func(e []byte) []byte { e[20] ^= 1; return e }) },
		"other value": func(r *rig) string { return c.forge(r, func(e []byte) []byte { e[0] ^= 1; return e }) },
		"short":       func(r *rig) string { s := c.external(r); return "008200003F" + s[10:len(s)-2] },
		"empty":       func(r *rig) string { c.external(r); return "0082000001AA" },
	} {
		t.Run(name, func(t *testing.T) {
			r := insert(t, options{})
			c.load(r)
			r.do(bad(r), "6300")
			if len(r.Roles()) != 0 {
				t.Error("rights after a failure")
			}
		})
	}
	r = insert(t, options{})
	c.load(r)
	cmd = c.external(r)
	r.do("0084000008", "9000")
	r.do(cmd, "6985") // a challenge of the wrong length
	r.do("00820000", "6700")
	r.do("0082010040"+cmd[10:], "6A86")
	r.Reset(false)
	r.do(cmd, "6985") // no key chosen
}

func (c *chain) forge(r *rig, change func([]byte) []byte) string {
	r.do("002281A411830C"+hex.EncodeToString(c.eeCVC.CHR)+"800100", "9000")
	rnd := r.do("0084000010", "9000")
	sig, err := c.ee.Sign(nil, change(slices.Concat(rnd, iccsn8, []byte{0})))
	if err != nil {
		r.t.Fatal(err)
	}
	return "0082000040" + hex.EncodeToString(sig)
}

// A certificate gets no flag that its issuer or the root's mask lacks.
func TestFlagMasking(t *testing.T) {
	t.Parallel()
	all := [7]byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
	for name, tt := range map[string]struct {
		root   card.Flags
		ca, ee [7]byte
		want   card.Flags
		masked int
	}{
		"all fit":             {card.Flags(all), chat1C, chat1F, chat1F, 0},
		"CA lacks them":       {card.Flags(all), [7]byte{0x80}, chat1F, card.Flags{}, 1},
		"CA has some":         {card.Flags(all), [7]byte{0x80, 0x80, 0, 0, 0x40}, chat1F, card.Flags{0, 0x80, 0, 0, 0x40}, 1},
		"root lacks some":     {card.Flags{0xFF, 0x0F, 0xFF, 0xFF, 0xFF, 0xFF, 0xC3}, chat1C, chat1F, card.Flags{0, 0x0E, 0x1A, 0xCD, 0xC1, 0xDC, 0}, 2},
		"mask of the eGK":     {card.Flags{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xC3}, chat1C, [7]byte{0, 0xAE, 0x1A, 0xCD, 0xC1, 0xDC, 0x3C}, chat1F, 2}, // the CA's 04 is masked, too
		"EE asks for nothing": {card.Flags(all), chat1C, [7]byte{}, card.Flags{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := insert(t, options{prepare: func(s *card.System) {
				s.Root.Lookup("MF/PuK.RCA.CS.E256").(*card.PublicKey).CHAT.Flags = tt.root
			}})
			c := newChain(t)
			c.caCVC.Flags, c.eeCVC.Flags = tt.ca, tt.ee
			c.load(r)
			r.do(c.external(r), "9000")
			if diff := cmp.Diff(tt.want, r.Roles()[card.FlagsTI]); diff != "" {
				t.Error(diff)
			}
			if len(r.masked) != tt.masked {
				t.Errorf("told about %v", r.masked)
			}
		})
	}
}

func TestCertificatesRefused(t *testing.T) {
	t.Parallel()
	type change func(c *chain)
	for name, tt := range map[string]struct {
		ca, ee   change
		swCA, sw string
	}{
		"right":            {nil, nil, "9000", "9000"},
		"profile":          {func(c *chain) { c.caCVC.Profile = 0x71 }, nil, "6A80", ""},
		"signature":        {func(c *chain) { c.caCVC.PublicKey = key(t).Public() }, nil, "9000", "6A80"},
		"EE under root":    {func(c *chain) { c.caCVC.ForCA, c.caCVC.CHR, c.caCVC.Flags = false, eeCHR, chat1F }, nil, "6A80", ""},
		"CA with EE flags": {func(c *chain) { c.caCVC.Flags = chat1F }, nil, "6A80", ""},
		"EE with CA flags": {nil, func(c *chain) { c.eeCVC.Flags = chat1C }, "9000", "6A80"},
		"CA under CA":      {nil, func(c *chain) { c.eeCVC.ForCA, c.eeCVC.CHR, c.eeCVC.Flags = true, []byte("KTSIM123"), chat1C }, "9000", "6A80"},
		"CHR of a card":    {func(c *chain) { c.caCVC.CHR = eeCHR }, nil, "6A80", ""},
		"CHR of a CA":      {nil, func(c *chain) { c.eeCVC.CHR = caCHR }, "9000", "6A80"},
		"other flag list":  {nil, func(c *chain) { c.eeCVC.CMS = true }, "9000", "6A80"},
		"CA expired":       {func(c *chain) { c.caCVC.CXD = day(2024, 12, 31) }, nil, "6983", ""},
		"last day":         {func(c *chain) { c.caCVC.CXD = day(2025, 1, 1) }, nil, "9000", ""},
		"EE expired":       {nil, func(c *chain) { c.eeCVC.CXD = day(2025, 1, 31) }, "9000", "6983"},
		"other CAR":        {func(c *chain) { c.caCVC.CAR = []byte("OTHERCAR") }, nil, "6A88", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, c := insert(t, options{}), newChain(t)
			if tt.ca != nil {
				tt.ca(c)
			}
			if tt.ee != nil {
				tt.ee(c)
			}
			r.do(setIssuer(rootCAR), "9000")
			r.do(pso(write(t, c.caCVC, r.root)), tt.swCA)
			if tt.sw == "" {
				return
			}
			r.do(setIssuer(caCHR), "9000")
			r.do(pso(write(t, c.eeCVC, c.ca)), tt.sw)
			chosen := map[bool]string{true: "9000", false: "6A88"}[tt.sw == "9000"]
			r.do("002281A411830C"+hex.EncodeToString(eeCHR)+"800100", chosen)
		})
	}
	r, c := insert(t, options{}), newChain(t)
	good := write(t, c.caCVC, r.root)
	r.do(pso(good), "6985")
	r.do(setIssuer([]byte("NOBODYxx")), "6A88")
	r.do(setIssuer(rootCAR), "9000")
	for i := range good[4:] {
		bad := bytes.Clone(good)
		bad[4+i] ^= 0x10
		got := r.Process(unhexString(pso(bad)))
		if bytes.Equal(got, []byte{0x90, 0x00}) {
			t.Fatalf("octet %d changed and accepted", i)
		}
	}
	r.do("002A00BE05"+hex.EncodeToString(good[4:9]), "6A80")
	r.do("002A00BE", "6700")
	r.do("002A00BF01AA", "6A86")
	r.do(pso(append(bytes.Clone(good), 0)), "6A80")
	r.do(pso(good), "9000")
}

// Point in time: certificates move it forward, never back, and what has
// expired by then can neither issue nor authenticate.
func TestPointInTime(t *testing.T) {
	t.Parallel()
	r, c := insert(t, options{}), newChain(t)
	c.eeCVC.CXD = day(2026, 1, 1)
	c.load(r)
	cmd := c.external(r)
	later := newChain(t)
	later.caCVC.CHR, later.eeCVC.CAR = []byte("KTSIM999"), []byte("KTSIM999")
	later.eeCVC.CHR = append([]byte{0, 6}, eeCHR[2:]...)
	later.caCVC.CED = day(2026, 6, 1)
	later.load(r)
	if r.sys.PointInTime != (card.Date{2, 6, 0, 6, 0, 1}) {
		t.Errorf("point in time %v", r.sys.PointInTime)
	}
	r.do(cmd, "6983")
	r.do(c.external(r), "6983")
	r.do("002241A406840109800154", "9000")
	r.do("10860000107C0EC30C"+hex.EncodeToString(eeCHR)+"00", "6983")
	r.do(later.external(r), "9000")
	old := newChain(t)
	old.caCVC.CHR = []byte("KTSIM888")
	old.caCVC.CED = day(2024, 1, 1)
	r.do(setIssuer(rootCAR), "9000")
	r.do(pso(write(t, old.caCVC, r.root)), "9000")
	if r.sys.PointInTime != (card.Date{2, 6, 0, 6, 0, 1}) {
		t.Errorf("point in time went back to %v", r.sys.PointInTime)
	}
	r.View(func(s *card.System) { s.PointInTime = card.Date{3, 6, 0, 1, 0, 1} })
	r.do(pso(write(t, old.caCVC, r.root)), "6983") // the root has expired
}

// Imported keys have a limited number of places; the one used longest ago
// gives way, and CA keys do not push card keys out.
func TestKeyCache(t *testing.T) {
	t.Parallel()
	r, first := insert(t, options{}), newChain(t)
	first.load(r)
	name := func(i int) []byte { return append([]byte{0x00, byte(0x10 + i)}, eeCHR[2:]...) }
	for i := range 4 {
		first.eeCVC.CHR = name(i)
		r.do(pso(write(t, first.eeCVC, first.ca)), "9000")
	}
	if n := len(r.CachedKeys()); n != 6 {
		t.Fatalf("%d keys, want 1 CA and 5 cards", n)
	}
	first.eeCVC.CHR = eeCHR
	r.do(first.external(r), "9000") // now the key of name(0) was used longest ago
	first.eeCVC.CHR = name(9)
	r.do(pso(write(t, first.eeCVC, first.ca)), "9000")
	r.do("002281A411830C"+hex.EncodeToString(name(0))+"800100", "6A88")
	r.do("002281A411830C"+hex.EncodeToString(eeCHR)+"800100", "9000")
	r.do(setIssuer(caCHR), "9000")
	list := strings.ToUpper(hex.EncodeToString(r.do("80CA0100000000", "9000")))
	for _, want := range []string{
		"E0154F07D2760001448000B60A8308" + hex.EncodeToString(rootCAR), "B60A8308" + hex.EncodeToString(caCHR), "A40E830C" + hex.EncodeToString(eeCHR),
	} {
		if !strings.Contains(list, strings.ToUpper(want)) {
			t.Errorf("LIST PUBLIC KEY lacks %s: %s", want, list)
		}
	}
	if n := len(r.do("80CA010010", "6200")); n != 16 {
		t.Errorf("%d octets", n)
	}
	// A cached key has no life cycle of its own.
	r.do("004421000E830C"+hex.EncodeToString(eeCHR), "6982")
	// A certificate for the root's own name changes nothing.
	own := first.caCVC
	own.CHR, own.Flags = rootCAR, [7]byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
	r.do(setIssuer(rootCAR), "9000")
	r.do(pso(write(t, own, r.root)), "9000")
	r.do(setIssuer(rootCAR), "9000")
	r.do(pso(write(t, first.caCVC, r.root)), "9000")
}

// Link certificates lead from the card's root to another one.
func TestLinkCertificate(t *testing.T) {
	t.Parallel()
	r, c := insert(t, options{}), newChain(t)
	other := key(t)
	all := [7]byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
	link := testpki.CVC{Profile: 0x70, CAR: rootCAR, PublicKey: other.Public(), ForCA: true, CHR: []byte("KTSIM\x88\x02\x26"), Flags: all, CED: day(2025, 1, 1), CXD: day(2036, 1, 1)}
	r.do(setIssuer(rootCAR), "9000")
	r.do(pso(write(t, link, r.root)), "9000")
	c.caCVC.CAR = link.CHR
	r.root = other
	c.load(r)
	r.do(c.external(r), "9000")
	if len(r.masked) != 2 { // the link itself, and the CA below it
		t.Errorf("the mask of the root object did not reach the link: %v", r.masked)
	}
}

func TestLargerCurves(t *testing.T) {
	t.Parallel()
	for _, curve := range []*brainpool.Curve{brainpool.P384r1(), brainpool.P512r1()} {
		r, c := insert(t, options{}), newChain(t)
		ca, err := brainpool.GenerateKey(curve, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.ca, c.caCVC.PublicKey = ca, ca.Public()
		ee, err := brainpool.GenerateKey(curve, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.ee, c.eeCVC.PublicKey = ee, ee.Public()
		c.load(r)
		r.do("002241A406840109800154", "9000")
		r.do("10860000107C0EC30C"+hex.EncodeToString(eeCHR)+"00", "6400") // another curve than the card's key
	}
}

func TestTrustedChannel(t *testing.T) {
	t.Parallel()
	r, c := insert(t, options{}), newChain(t)
	c.eeCVC.Flags = [7]byte{}
	c.load(r)
	peer := key(t)
	r.do("0020000108"+pin, "9000")
	r.do("002241A406840109800154", "9000")
	step1 := "10860000107C0EC30C" + hex.EncodeToString(eeCHR) + "00"
	step2 := "00860000457C438541" + hex.EncodeToString(peer.Public().Bytes())

	r.do(step2, "6985")
	r.do(step1, "9000")
	r.do(selectMF, "9000")
	r.do(step2, "6985") // another command in between
	r.do("10860000107C0EC30C"+hex.EncodeToString(append([]byte{0, 5}, unhexString("80270003110000001234")...))+"00", "6A88")
	r.do("10860000107C0EC30D"+hex.EncodeToString(eeCHR)+"00", "6A80")
	r.do("108600000F7C0DC30C"+hex.EncodeToString(eeCHR), "6A80")
	r.do(step1[:len(step1)-2], "6700")
	r.do(step1, "9000")
	bad := peer.Public().Bytes()
	bad[64] ^= 1
	r.do("00860000457C438541"+hex.EncodeToString(bad), "6400")
	r.do(step2, "6985")

	answer := r.do(step1, "9000")
	ephemeral, err := brainpool.ParsePublicKey(brainpool.P256r1(), answer[4:])
	if err != nil {
		t.Fatal(err)
	}
	r.do(step2, "9000")
	// The server's side of the formulas.
	k1, err := peer.ECDH(r.own.Public())
	if err != nil {
		t.Fatal(err)
	}
	k2, err := c.ee.ECDH(ephemeral)
	if err != nil {
		t.Fatal(err)
	}
	kdf := func(n byte) []byte {
		s := sha1.Sum(slices.Concat(k1, k2, []byte{0, 0, 0, n}))
		return s[:16]
	}
	h := &host{t: t, enc: kdf(1), mac: kdf(2)}
	h.do(r, "80200001", nil, false, nil, "9000")
	h.do(r, "00A4040C", unhexString("D27600000102"), true, nil, "9000")
	// CHAT.0 is authenticated and has no rights.
	h.do(r, "00B08300", nil, false, []byte{0}, "6982")
	h.do(r, "00D68100", []byte{1}, true, nil, "6982")
	if data, hidden := h.do(r, "00B08100", nil, false, []byte{5}, "9000"); hidden || len(data) != 5 {
		t.Errorf("EF.PD: % X, enciphered %v", data, hidden)
	}
	// The role authentication ends the channel; the PIN stays.
	r.do(selectMF, "9000")
	if got := r.Process(h.wrap("80200001", nil, false, nil)); !bytes.Equal(got, []byte{0x69, 0x88}) {
		t.Errorf("% X", got)
	}
	r.do("80200001", "9000")

	// A card with another key than its certificate computes other keys.
	copied := insert(t, options{})
	cc := newChain(t)
	cc.eeCVC.Flags = [7]byte{}
	cc.load(copied)
	copied.do("002241A406840109800154", "9000")
	answer = copied.do(step1, "9000")
	if ephemeral, err = brainpool.ParsePublicKey(brainpool.P256r1(), answer[4:]); err != nil {
		t.Fatal(err)
	}
	copied.do(step2, "9000")
	if k1, err = peer.ECDH(r.own.Public()); err != nil { // the certificate says so
		t.Fatal(err)
	}
	if k2, err = cc.ee.ECDH(ephemeral); err != nil {
		t.Fatal(err)
	}
	h = &host{t: t, enc: kdf(1), mac: kdf(2)}
	if got := copied.Process(h.wrap("80200001", nil, false, nil)); !bytes.Equal(got, []byte{0x69, 0x88}) {
		t.Errorf("copied card: % X", got)
	}
}

func TestCertificateDates(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	cvc := write(t, c.eeCVC, c.ca)
	from, to, err := card.CertificateDates(cvc)
	if err != nil || from != (card.Date{2, 5, 0, 3, 0, 1}) || to != (card.Date{2, 9, 0, 1, 3, 1}) {
		t.Errorf("%v, %v, %v", from, to, err)
	}
	if _, _, err := card.CertificateDates(cvc[1:]); err == nil {
		t.Error("nonsense accepted")
	}
	for _, bad := range [][]byte{{2, 5, 0, 1, 0}, {2, 5, 1, 3, 0, 1}, {2, 5, 0, 0, 0, 1}, {2, 5, 0, 1, 3, 2}, {2, 5, 0, 1, 0, 10}} {
		if _, err := card.ParseDate(bad); err == nil {
			t.Errorf("date %v accepted", bad)
		}
	}
}
