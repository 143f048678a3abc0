package cvc_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"ktradv/hw/cvc"
	"ktradv/hw/internal/cardtest"
	"ktradv/hw/tlv"
	"ktradv/internal/brainpool"
	"ktradv/internal/testdata"
	"ktradv/internal/testpki"
)

// The worked example of egk-card.md 3.4: a published end-entity certificate with profile CHAT.0.
const sample = "7F2181DA7F4E81935F2901704208444547585812022" + "37F494B06062B24030503018641048F3EED7A9475CCC776CDC2D748D4B1A217FED1335132572202FBFA5D1F12351B" +
	"443B32408B22461F369620102BE4F922D1AC6B4D174AC12B0FB30276CBF0E24E5F200C000A802760010116999021017F4C1306082A8214004C0481185307" +
	"000000000000005F25060204000202085F24060209000202075F374066011BFECEF9439194BD04438F61334BA2DB58DC5E5A470A2F6CAB58FCB0F8DC" +
	"21EAE8B5E8DAA30D82C88B85EB2C236DCC6DB4812521BE5BF0E61CA4AA056778"

func TestParseSample(t *testing.T) {
	t.Parallel()
	raw := cardtest.Unhex(t, sample)
	c, err := cvc.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%v|%x|%v|%v|%v|%s|%s|%x|%d", c.CAR, c.CHR, c.Level, c.List == cvc.ListTI, c.Flags, c.From.Format(time.DateOnly), c.Until.Format(time.DateOnly), c.ICCSN(), len(c.Signature))
	if want := "DEGXX 1-2-02-23|000a80276001011699902101|end entity|true|00000000000000|2024-02-28|2029-02-28|80276001011699902101|64"; got != want {
		t.Errorf("have %s\nwant %s", got, want)
	}
	if !bytes.Equal(c.Raw, raw) || !bytes.Equal(c.Content, raw[4:]) || !bytes.HasPrefix(c.Body, []byte{0x7F, 0x4E}) {
		t.Error("Raw, Content or Body are not the octets of the certificate")
	}
	again, err := cvc.ParseContent(c.Content)
	if err != nil || !bytes.Equal(again.Raw, raw) {
		t.Errorf("ParseContent: %v", err)
	}
	for _, verb := range []string{"%v", "%+v", "%s", "%x"} {
		if out := fmt.Sprintf(verb, c); strings.Contains(out, "1699902101") || strings.Contains(out, "8f3eed") {
			t.Errorf("%s prints the card's number: %s", verb, out)
		}
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	for _, n := range []int{8, 10, 12, 13, 14, 19, 20, 22, 24, 25, 28, 29, 31, 32, 33, 39, 40, 41, 43, 44, 45} {
		if !cvc.FlagsKTRAdV.Has(n) {
			t.Errorf("CHAT.1 has no flag %d", n)
		}
	}
	for _, n := range []int{-1, 0, 1, 9, 15, 17, 18, 27, 30, 46, 47, 55, 56} {
		if cvc.FlagsKTRAdV.Has(n) {
			t.Errorf("CHAT.1 has flag %d", n)
		}
	}
	if !cvc.FlagsNone.Within(cvc.FlagsKTRAdV) || cvc.FlagsKTRAdV.Within(cvc.FlagsNone) || !cvc.FlagsKTRAdV.Within(cvc.FlagsAll) {
		t.Error("Within is wrong")
	}
	if got := cvc.FlagsKTRAdV.String(); got != "00ae1acdc1dc00" {
		t.Errorf("CHAT.1 is %s", got)
	}
	if got := (cvc.CAR{0, 0, 0, 0, 0, 0, 0, 0x13}).String(); got != "0000000000000013" {
		t.Errorf("name without letters prints %s", got)
	}
	if got := cvc.Level(7).String(); got != "unknown level" {
		t.Errorf("level 7 prints %s", got)
	}
}

// field is one data object of the sample that a twin changes.
func replace(t *testing.T, from, to string) []byte {
	t.Helper()
	if strings.Count(sample, from) != 1 {
		t.Fatalf("%s stands %d times in the sample", from, strings.Count(sample, from))
	}
	changed := strings.Replace(sample, from, to, 1)
	raw := cardtest.Unhex(t, changed)
	if len(to) != len(from) { // lengths anew
		content := raw[4:]
		rest := content[3:]
		body := rest[:len(rest)-67]
		content = append(tlv.Append(nil, 0x7F4E, body[1:]), rest[len(rest)-67:]...)
		raw = tlv.Append(nil, 0x7F21, content)
	}
	return raw
}

func TestEveryFieldIsChecked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string][2]string{
		"profile identifier":           {"5F290170", "5F290171"},
		"short issuer name":            {"42084445475858120223", "420744454758581202"},
		"unknown key use":              {"2B2403050301", "2B2403050304"},
		"key for certificates":         {"06062B2403050301", "06082A8648CE3D040302"},
		"point not on the curve":       {"0E24E5F200C", "0E24F5F200C"},
		"compressed point":             {"8641048F3E", "8641028F3E"},
		"holder name of an authority":  {"5F200C000A80276001011699902101", "5F20084445475858120223"},
		"holder name of 10 octets":     {"5F200C000A80276001011699902101", "5F200A80276001011699902101"},
		"unknown list of rights":       {"2A8214004C048118", "2A8214004C04811A"},
		"level of a sub-CA":            {"530700000000000000", "530780000000000000"},
		"level that does not exist":    {"530700000000000000", "530740000000000000"},
		"six octets of flags":          {"530700000000000000", "5306000000000000"},
		"month 13":                     {"5F2506020400020208", "5F2506020401030208"},
		"day 30 of February":           {"5F2506020400020208", "5F2506020400020300"},
		"digit A":                      {"5F2506020400020208", "5F25060204000202" + "0A"},
		"date of five digits":          {"5F2506020400020208", "5F25050204000202"},
		"expires before effect":        {"5F2406020900020207", "5F2406020300020207"},
		"other tag for the expiration": {"5F2406020900020207", "5F2306020900020207"},
	} {
		raw := replace(t, c[0], c[1])
		if got, err := cvc.Parse(raw); !errors.Is(err, cvc.ErrMalformed) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	raw := cardtest.Unhex(t, sample)
	for name, b := range map[string][]byte{
		"nothing":               {},
		"cut off":               raw[:len(raw)-1],
		"octet behind":          append(bytes.Clone(raw), 0),
		"body only":             raw[4:],
		"long form of a length": append([]byte{0x7F, 0x21, 0x82, 0x00, 0xDA}, raw[4:]...),
		"long form inside":      tlv.Append(nil, 0x7F21, append(append([]byte{0x7F, 0x4E, 0x82, 0x00, 0x93}, raw[7:7+0x93]...), raw[7+0x93:]...)),
		"short signature":       tlv.Append(nil, 0x7F21, raw[4:7+0x93], tlv.Append(nil, 0x5F37, make([]byte, 63))),
	} {
		if c, err := cvc.Parse(b); !errors.Is(err, cvc.ErrMalformed) {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
}

func chainFile(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(testdata.Dir(t, "cards"), "cvc", "chain", name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Each octet of a certificate, changed, must break it: either the parser or the signature notices.
func TestEveryOctetCounts(t *testing.T) {
	t.Parallel()
	roots := cvc.Roots{}
	if err := roots.AddCertificate(chainFile(t, "DEGXX870222.crt")); err != nil {
		t.Fatal(err)
	}
	raw := chainFile(t, "DEGXX120223.crt")
	now := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	good, err := cvc.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := roots.Verify(good, nil, now); err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		b := bytes.Clone(raw)
		b[i] ^= 0x01
		c, err := cvc.Parse(b)
		if err == nil {
			_, err = roots.Verify(c, nil, now)
		}
		if err == nil {
			t.Errorf("octet %d changed and the certificate still holds", i)
		}
	}
}

func TestPublishedCertificates(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(testdata.Dir(t, "cards"), "cvc")
	roots := cvc.Roots{}
	var above, all []*cvc.Certificate
	names := map[*cvc.Certificate]string{}
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if ext := filepath.Ext(f); ext != ".cvc" && ext != ".crt" {
			continue
		}
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		c, err := cvc.Parse(raw)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(f), err)
			continue
		}
		names[c] = filepath.Base(f)
		all = append(all, c)
		if c.Level != cvc.EndEntity {
			above = append(above, c)
		}
	}
	// Only one root of each hierarchy is pinned by its key; the others are reached through link certificates.
	for name, file := range map[cvc.CAR]string{
		{0x44, 0x45, 0x47, 0x58, 0x58, 0x82, 0x02, 0x14}: "4445475858820214_ELC-PublicKey.der",
		{0x44, 0x45, 0x5A, 0x47, 0x57, 0x82, 0x02, 0x16}: "44455a4757820216_ELC-PublicKey.der",
	} {
		raw, err := os.ReadFile(filepath.Join(dir, "roots", file))
		if err != nil {
			t.Fatal(err)
		}
		if err := roots.AddKey(name, raw); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"DEGXX870222.cvc", "DEZGW850222.cvc", "DEZGW830218.cvc", "DEZGW840220.cvc", "DEZGW860224.cvc", "DEGXX880224.cvc"} {
		raw, err := os.ReadFile(filepath.Join(dir, "roots", f))
		if err != nil {
			t.Fatal(err)
		}
		if err := roots.AddCertificate(raw); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
	signatures, chains, excess := 0, 0, 0
	missing := map[string]bool{}
	for _, c := range all {
		// The signature, by any published key of the issuer's name.
		var signed error = cvc.ErrUnknownIssuer
		for _, issuer := range above {
			if bytes.Equal(issuer.CHR, c.CAR[:]) {
				if signed = c.CheckSignature(issuer.Key); signed == nil {
					break
				}
			}
		}
		switch {
		case signed == nil:
			signatures++
		case errors.Is(signed, cvc.ErrUnknownIssuer):
			missing[c.CAR.String()] = true
		default:
			t.Errorf("%s: %v", names[c], signed)
		}
		// The whole chain, at a time at which the certificate was valid.
		path, err := roots.Verify(c, above, c.From.AddDate(0, 0, 1))
		switch {
		case err == nil && len(path) > 0 && path[0] == c:
			chains++
		case errors.Is(err, cvc.ErrUnknownIssuer), errors.Is(err, cvc.ErrNotYetValid):
			// Its CA is not published here, or its root is reached only through link certificates of a later day.
		case errors.Is(err, cvc.ErrRights) && strings.HasPrefix(names[c], "DEGXX_1-1-02-23__0006_"):
			// A doctor's certificate below a CA without any right: a known fault of the published material, and a
			// certificate that must not pass.
			excess++
		default:
			t.Errorf("%s: path of %d, %v", names[c], len(path), err)
		}
	}
	t.Logf("%d certificates, %d signatures and %d chains verified, issuers not published: %v", len(all), signatures, chains, missing)
	if len(all) != 77 || signatures != 66 || chains < 50 || excess != 1 || len(missing) != 4 {
		t.Errorf("%d certificates, %d signatures, %d chains, %d with too many rights, %d issuers missing", len(all), signatures, chains, excess, len(missing))
	}
}

var now = time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)

// authority is a root or CA made for a test.
type authority struct {
	key  *brainpool.PrivateKey
	name [8]byte
	cert *cvc.Certificate
}

type maker struct {
	testing.TB
	serial byte
}

func (m *maker) key() *brainpool.PrivateKey {
	m.Helper()
	k, err := brainpool.GenerateKey(brainpool.P256r1(), nil)
	if err != nil {
		m.Fatal(err)
	}
	return k
}

// write signs a certificate; change may spoil it before.
func (m *maker) write(c testpki.CVC, issuer *authority, change func(*testpki.CVC)) *cvc.Certificate {
	m.Helper()
	c.Profile, c.CAR = 0x70, issuer.name[:]
	c.CED, c.CXD = now.AddDate(-1, 0, 0), now.AddDate(4, 0, 0)
	if change != nil {
		change(&c)
	}
	raw, err := testpki.WriteCVC(nil, c, issuer.key)
	if err != nil {
		m.Fatal(err)
	}
	cert, err := cvc.Parse(raw)
	if err != nil {
		m.Fatal(err)
	}
	return cert
}

// authority makes a root (issuer nil), a link certificate of another root, or a sub-CA.
func (m *maker) authority(issuer *authority, flags cvc.Flags, change func(*testpki.CVC)) *authority {
	m.Helper()
	m.serial++
	a := &authority{key: m.key(), name: [8]byte{'D', 'E', 'T', 'S', 'T', 0x80, 0x02, m.serial}}
	if issuer == nil {
		issuer = a
	}
	a.cert = m.write(testpki.CVC{PublicKey: a.key.Public(), ForCA: true, CHR: a.name[:], Flags: flags}, issuer, change)
	return a
}

func (m *maker) card(issuer *authority, flags cvc.Flags, change func(*testpki.CVC)) *cvc.Certificate {
	m.Helper()
	chr := []byte{0, 9, 0x80, 0x27, 0x60, 0x03, 0x11, 0, 0, 0, 0, 1}
	return m.write(testpki.CVC{PublicKey: m.key().Public(), CHR: chr, Flags: flags}, issuer, change)
}

var flagsCA = cvc.Flags{0x80, 0xAE, 0x1A, 0xCD, 0xC1, 0xDC, 0x04}

func TestVerify(t *testing.T) {
	t.Parallel()
	m := &maker{TB: t}
	root := m.authority(nil, cvc.FlagsAll, nil)
	ca := m.authority(root, flagsCA, nil)
	foreign := m.authority(nil, cvc.FlagsAll, nil)
	foreignCA := m.authority(foreign, flagsCA, nil)
	roots := cvc.Roots{}
	if err := roots.AddCertificate(root.cert.Raw); err != nil {
		t.Fatal(err)
	}
	good := m.card(ca, cvc.FlagsKTRAdV, nil)
	expired := func(c *testpki.CVC) { c.CXD = now.AddDate(0, 0, -1) }
	future := func(c *testpki.CVC) { c.CED = now.AddDate(0, 0, 1) }
	cms := func(c *testpki.CVC) { c.CMS = true }
	small := m.authority(root, cvc.Flags{0x80}, nil)
	expiredCA := m.authority(root, flagsCA, expired)
	cmsCA := m.authority(root, flagsCA, cms)
	impostor := &authority{key: m.key(), name: ca.name}
	subSub := m.authority(ca, cvc.Flags{0x80}, nil)
	tests := map[string]struct {
		cert  *cvc.Certificate
		above []*cvc.Certificate
		want  error
	}{
		"good":                         {good, []*cvc.Certificate{foreignCA.cert, ca.cert}, nil},
		"no right at all":              {m.card(ca, cvc.FlagsNone, nil), []*cvc.Certificate{ca.cert}, nil},
		"valid on its last day":        {m.card(ca, cvc.FlagsNone, func(c *testpki.CVC) { c.CXD = now }), []*cvc.Certificate{ca.cert}, nil},
		"CA missing":                   {good, nil, cvc.ErrUnknownIssuer},
		"foreign root":                 {m.card(foreignCA, cvc.FlagsNone, nil), []*cvc.Certificate{foreignCA.cert, foreign.cert}, cvc.ErrUnknownIssuer},
		"expired":                      {m.card(ca, cvc.FlagsNone, expired), []*cvc.Certificate{ca.cert}, cvc.ErrExpired},
		"not yet valid":                {m.card(ca, cvc.FlagsNone, future), []*cvc.Certificate{ca.cert}, cvc.ErrNotYetValid},
		"expired CA":                   {m.card(expiredCA, cvc.FlagsNone, nil), []*cvc.Certificate{expiredCA.cert}, cvc.ErrExpired},
		"more rights than the CA":      {m.card(small, cvc.FlagsKTRAdV, nil), []*cvc.Certificate{small.cert}, cvc.ErrRights},
		"other list than the CA":       {m.card(ca, cvc.FlagsNone, cms), []*cvc.Certificate{ca.cert}, cvc.ErrRights},
		"other list than the root":     {m.card(cmsCA, cvc.FlagsNone, cms), []*cvc.Certificate{cmsCA.cert}, cvc.ErrRights},
		"signed by an impostor":        {m.card(impostor, cvc.FlagsNone, nil), []*cvc.Certificate{ca.cert}, cvc.ErrSignature},
		"card signed by the root":      {m.card(root, cvc.FlagsNone, nil), nil, cvc.ErrLevel},
		"CA signed by a CA":            {m.card(subSub, cvc.FlagsNone, nil), []*cvc.Certificate{subSub.cert, ca.cert}, cvc.ErrLevel},
		"the CA itself":                {ca.cert, nil, nil},
		"the CA signed by an impostor": {m.authority(&authority{key: m.key(), name: root.name}, flagsCA, nil).cert, nil, cvc.ErrSignature},
	}
	for name, tc := range tests {
		path, err := roots.Verify(tc.cert, tc.above, now)
		if !errors.Is(err, tc.want) || (tc.want == nil) != (err == nil) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
		if err == nil && path[0] != tc.cert {
			t.Errorf("%s: path starts with %v", name, path[0])
		}
	}
	if _, err := roots.Verify(good, []*cvc.Certificate{ca.cert}, now.AddDate(10, 0, 0)); !errors.Is(err, cvc.ErrExpired) {
		t.Errorf("in ten years: %v", err)
	}
	old := cvc.Roots{}
	pinned := roots[root.name]
	pinned.Until = now
	old[root.name] = pinned
	if _, err := old.Verify(ca.cert, nil, now); !errors.Is(err, cvc.ErrExpired) {
		t.Errorf("expired root: %v", err)
	}
	narrow := roots[root.name]
	narrow.Flags = cvc.Flags{0xC0}
	if _, err := (cvc.Roots{root.name: narrow}).Verify(ca.cert, nil, now); !errors.Is(err, cvc.ErrRights) {
		t.Errorf("root that grants less: %v", err)
	}
}

func TestLinkCertificates(t *testing.T) {
	t.Parallel()
	m := &maker{TB: t}
	root := m.authority(nil, cvc.FlagsAll, nil)
	next := m.authority(nil, cvc.FlagsAll, nil)
	third := m.authority(nil, cvc.FlagsAll, nil)
	link := func(issuer, subject *authority, change func(*testpki.CVC)) *cvc.Certificate {
		return m.write(testpki.CVC{PublicKey: subject.key.Public(), ForCA: true, CHR: subject.name[:], Flags: cvc.FlagsAll}, issuer, change)
	}
	ca := m.authority(third, flagsCA, nil)
	card := m.card(ca, cvc.FlagsNone, nil)
	roots := cvc.Roots{}
	if err := roots.AddCertificate(root.cert.Raw); err != nil {
		t.Fatal(err)
	}
	links := []*cvc.Certificate{next.cert, third.cert, ca.cert, link(next, third, nil), link(root, next, nil)}
	path, err := roots.Verify(card, links, now)
	if err != nil || len(path) != 4 {
		t.Errorf("path of %d, %v", len(path), err)
	}
	for name, above := range map[string][]*cvc.Certificate{
		"one link missing":  {ca.cert, link(next, third, nil)},
		"self-signed only":  {ca.cert, third.cert, next.cert},
		"links in a circle": {ca.cert, link(next, third, nil), link(third, next, nil)},
	} {
		if _, err := roots.Verify(card, above, now); !errors.Is(err, cvc.ErrUnknownIssuer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	spent := link(root, next, func(c *testpki.CVC) { c.CXD = now.AddDate(0, 0, -2) })
	if _, err := roots.Verify(card, []*cvc.Certificate{ca.cert, link(next, third, nil), spent}, now); !errors.Is(err, cvc.ErrExpired) {
		t.Errorf("expired link: %v", err)
	}
}

func TestRoots(t *testing.T) {
	t.Parallel()
	m := &maker{TB: t}
	root := m.authority(nil, cvc.FlagsAll, nil)
	other := m.authority(nil, cvc.FlagsAll, nil)
	ca := m.authority(root, flagsCA, nil)
	point := other.key.Public().Bytes()
	keyFile := tlv.Append(nil, 0x7F49, tlv.Append(nil, 0x06, cardtest.Unhex(t, "2B2403030208010107")), tlv.Append(nil, 0x86, point))
	keyName := hex.EncodeToString(other.name[:]) + "_ELC-PublicKey.der"
	file := func(b []byte) *fstest.MapFile { return &fstest.MapFile{Data: b} }
	roots, err := cvc.ReadRoots(fstest.MapFS{"r/a.cvc": file(root.cert.Raw), "r/" + keyName: file(keyFile), "r/README": file(nil)}, "r")
	if err != nil || len(roots) != 2 || !roots[other.name].Key.Equal(other.key.Public()) || roots[root.name].From.IsZero() {
		t.Fatalf("%v, %v", roots, err)
	}
	spoiled := bytes.Clone(root.cert.Raw)
	spoiled[len(spoiled)-1] ^= 1
	for name, c := range map[string]struct {
		fs   fstest.MapFS
		want error
	}{
		"sub-CA as root":         {fstest.MapFS{"r/a.cvc": file(ca.cert.Raw)}, cvc.ErrLevel},
		"wrong signature":        {fstest.MapFS{"r/a.cvc": file(spoiled)}, cvc.ErrSignature},
		"no certificate":         {fstest.MapFS{"r/a.cvc": file([]byte("x"))}, cvc.ErrMalformed},
		"key with a wrong curve": {fstest.MapFS{"r/" + keyName: file(bytes.Replace(keyFile, cardtest.Unhex(t, "0107"), cardtest.Unhex(t, "0108"), 1))}, cvc.ErrMalformed},
		"key cut off":            {fstest.MapFS{"r/" + keyName: file(keyFile[:40])}, cvc.ErrMalformed},
		"key off the curve":      {fstest.MapFS{"r/" + keyName: file(append(bytes.Clone(keyFile[:len(keyFile)-1]), keyFile[len(keyFile)-1]^1))}, cvc.ErrMalformed},
		"name too short":         {fstest.MapFS{"r/4445_ELC-PublicKey.der": file(keyFile)}, cvc.ErrMalformed},
	} {
		if _, err := cvc.ReadRoots(c.fs, "r"); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for name, fsys := range map[string]fstest.MapFS{"empty folder": {"r/README": file(nil)}, "no folder": {}, "no digits": {"r/x_ELC-PublicKey.der": file(keyFile)}} {
		if _, err := cvc.ReadRoots(fsys, "r"); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Larger curves are allowed by the specification.
func TestLargerCurves(t *testing.T) {
	t.Parallel()
	for _, curve := range []*brainpool.Curve{brainpool.P384r1(), brainpool.P512r1()} {
		key, err := brainpool.GenerateKey(curve, nil)
		if err != nil {
			t.Fatal(err)
		}
		name := []byte{'D', 'E', 'T', 'S', 'T', 0x80, 0x02, 0x26}
		raw, err := testpki.WriteCVC(nil, testpki.CVC{Profile: 0x70, CAR: name, CHR: name, PublicKey: key.Public(), ForCA: true, Flags: cvc.FlagsAll, CED: now, CXD: now.AddDate(5, 0, 0)}, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := (cvc.Roots{}).AddCertificate(raw); err != nil {
			t.Errorf("%v: %v", curve, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(cardtest.Unhex(f, sample))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := cvc.Parse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(c.Raw, b) {
			t.Fatalf("%x is not the one form of its content", b)
		}
		if (c.Level == cvc.EndEntity) != (len(c.ICCSN()) == 10) || !c.Until.After(c.From) {
			t.Fatalf("%v: card number of %d octets, %v to %v", c, len(c.ICCSN()), c.From, c.Until)
		}
	})
}

func BenchmarkVerifyChain(b *testing.B) {
	m := &maker{TB: b}
	root := m.authority(nil, cvc.FlagsAll, nil)
	ca := m.authority(root, flagsCA, nil)
	card := m.card(ca, cvc.FlagsNone, nil)
	roots := cvc.Roots{}
	if err := roots.AddCertificate(root.cert.Raw); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := roots.Verify(card, []*cvc.Certificate{ca.cert}, now); err != nil {
			b.Fatal(err)
		}
	}
}
