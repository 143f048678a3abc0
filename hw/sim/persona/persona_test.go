package persona

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/encoding/charmap"

	"ktradv/hw/sim/card"
	"ktradv/internal/brainpool"
	"ktradv/internal/testpki"
)

var now = time.Date(2026, 5, 4, 10, 30, 0, 0, time.UTC)

var sharedPKI = sync.OnceValues(func() (*testpki.PKI, error) { return testpki.New(testpki.Config{Now: now}) })

func mustPKI(t testing.TB) *testpki.PKI {
	t.Helper()
	p, err := sharedPKI()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustBuild(t testing.TB, id string) *card.Card {
	t.Helper()
	c, err := Build(id, mustPKI(t), now)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// send runs a command given in hexadecimal and returns data and status word.
func send(t testing.TB, c *card.Card, cmd string) ([]byte, string) {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(cmd, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	r := c.Process(b)
	if len(r) < 2 {
		t.Fatalf("%s: response % X", cmd, r)
	}
	return r[:len(r)-2], fmt.Sprintf("%X", r[len(r)-2:])
}

func expect(t testing.TB, c *card.Card, cmd, sw string) []byte {
	t.Helper()
	data, got := send(t, c, cmd)
	if got != sw {
		t.Fatalf("%s: %s, want %s", cmd, got, sw)
	}
	return data
}

const (
	pinBlock = "26123456FFFFFFFF"
	pukBlock = "2812345678FFFFFF"
	selectMF = "00A4040C"
	hca      = "00A4040C06D27600000102"
	esign    = "00A4040C0AA000000167455349474E"
)

// importChain lets the card import the certificates of a KTR-AdV identity.
func importChain(t testing.TB, c *card.Card, id testpki.KTRAdVIdentity, ee testpki.CVCIdentity) {
	t.Helper()
	expect(t, c, "002281B60A8308"+hex.EncodeToString(id.RootCAR[:]), "9000")
	expect(t, c, "002A00BE"+fmt.Sprintf("%02X", len(id.CACVC)-4)+hex.EncodeToString(id.CACVC[4:]), "9000")
	car := carOf(ee.Certificate)
	expect(t, c, "002281B60A8308"+hex.EncodeToString(car), "9000")
	expect(t, c, "002A00BE"+fmt.Sprintf("%02X", len(ee.Certificate)-4)+hex.EncodeToString(ee.Certificate[4:]), "9000")
}

// carOf finds the issuer's name: 7F21 81 L 7F4E 81 L 5F29 01 70 42 08 CAR.
func carOf(cvc []byte) []byte { return cvc[14:22] }

// roleAuthenticate is the one-sided card-to-card authentication.
func roleAuthenticate(t testing.TB, c *card.Card, id testpki.KTRAdVIdentity, iccsn string) {
	t.Helper()
	importChain(t, c, id, id.AUTR)
	expect(t, c, "002281A411830C"+hex.EncodeToString(id.AUTR.CHR[:])+"800100", "9000")
	rnd := expect(t, c, "0084000010", "9000")
	iccsn8, err := hex.DecodeString(iccsn[4:])
	if err != nil {
		t.Fatal(err)
	}
	sig, err := id.AUTR.Key.Sign(nil, slices.Concat(rnd, iccsn8, []byte{0}))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, c, "0082000040"+hex.EncodeToString(sig), "9000")
}

func TestEveryPersona(t *testing.T) {
	t.Parallel()
	list := List()
	if len(list) != len(order) || len(list) != 15 {
		t.Fatalf("%d personas, want 15", len(list))
	}
	entries, err := files.ReadDir("personas")
	if err != nil || len(entries) != len(order) {
		t.Fatalf("%d persona files, %v", len(entries), err)
	}
	seen := map[string]string{}
	for i, info := range list {
		if info.ID != order[i] {
			t.Errorf("persona %q in the file of %q", info.ID, order[i])
		}
		for _, v := range []string{info.ICCSN, info.KVNR, info.Name} {
			if seen[v] != "" {
				t.Errorf("%s and %s share %q", info.ID, seen[v], v)
			}
			seen[v] = info.ID
		}
		if info.Title == "" || info.Description == "" || info.PIN == "" {
			t.Errorf("%s: incomplete description %+v", info.ID, info)
		}
		t.Run(info.ID, func(t *testing.T) {
			t.Parallel()
			c := mustBuild(t, info.ID)
			p, err := Find(info.ID)
			if err != nil {
				t.Fatal(err)
			}
			if p.NoATR {
				if c.Reset(false) != nil || c.ATR() != nil || c.Process([]byte{0, 0xA4, 4, 0x0C}) != nil {
					t.Error("a mute card answers")
				}
				return
			}
			if len(c.Reset(false)) == 0 {
				t.Error("no answer to reset")
			}
			expect(t, c, selectMF, "9000")
			gdo := expect(t, c, "00B0820000", "9000")
			if want := "5A0A" + info.ICCSN; fmt.Sprintf("%X", gdo) != want {
				t.Errorf("EF.GDO % X", gdo)
			}
			v2 := expect(t, c, "00B0910000", "9000")
			if want := map[string][]byte{"G2": {4, 3, 3}, "G2.1": {4, 5, 2}}[info.Generation]; !bytes.Contains(v2, append([]byte{0xC1, 3}, want...)) {
				t.Errorf("EF.Version2 % X", v2)
			}
			atr := expect(t, c, "00B09D0000", "9000")
			if len(atr) != 134 {
				t.Errorf("EF.ATR of %d octets", len(atr))
			}
			expect(t, c, "00B201F400", "9000")
		})
	}
	if _, err := Build("nobody", mustPKI(t), now); err == nil {
		t.Error("unknown persona built")
	}
}

// unpack reads gzip with ISO-8859-15 by the standard library's means.
func unpack(t *testing.T, gz []byte) string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(gz))
	if err != nil {
		t.Fatal(err)
	}
	z.Multistream(false)
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	s, err := charmap.ISO8859_15.NewDecoder().Bytes(text)
	if err != nil {
		t.Fatal(err)
	}
	var any struct {
		XMLName xml.Name
	}
	d := xml.NewDecoder(bytes.NewReader(text))
	d.CharsetReader = func(label string, in io.Reader) (io.Reader, error) {
		return charmap.ISO8859_15.NewDecoder().Reader(in), nil
	}
	if err := d.Decode(&any); err != nil {
		t.Fatal(err)
	}
	if any.XMLName.Space != "http://ws.gematik.de/fa/vsdm/vsd/v5.2" {
		t.Errorf("namespace %q", any.XMLName.Space)
	}
	return string(s)
}

func TestInsuredData(t *testing.T) {
	t.Parallel()
	c := mustBuild(t, "healthy-g21")
	expect(t, c, hca, "9000")
	pd := expect(t, c, "00B08100000000", "9000")
	n := int(pd[0])<<8 | int(pd[1])
	if n != len(pd)-2 {
		t.Fatalf("EF.PD: length %d of %d", n, len(pd))
	}
	doc := unpack(t, pd[2:])
	for _, want := range []string{"<Vorname>Änne Käthe<", "<Nachname>Süßmilch-Große<", "<Versicherten_ID>X000001014<", "<Ort>Münster<", "<Titel>Dr.<"} {
		if !strings.Contains(doc, want) {
			t.Errorf("EF.PD lacks %s: %s", want, doc)
		}
	}
	vd := expect(t, c, "00B08200000000", "9000")
	start, end := int(vd[0])<<8|int(vd[1]), int(vd[2])<<8|int(vd[3])
	doc = unpack(t, vd[start:end+1])
	for _, want := range []string{"<Kostentraegerkennung>109500969<", "<AbrechnenderKostentraeger>", "<Kostenerstattung>", "<WOP>20<"} {
		if !strings.Contains(doc, want) {
			t.Errorf("EF.VD lacks %s: %s", want, doc)
		}
	}
	if status := expect(t, c, "00B08C0000", "9000"); len(status) != 25 || status[0] != '0' || string(status[1:9]) != "20260318" {
		t.Errorf("EF.StatusVD %q", status)
	}
	expect(t, c, "00B08300000000", "6982")
	expect(t, c, selectMF, "9000")
	expect(t, c, "0020000208"+pinBlock, "9000")
	expect(t, c, hca, "9000")
	gvd := expect(t, c, "00B08300000000", "9000")
	doc = unpack(t, gvd[2:])
	for _, want := range []string{"<Status>1<", "<Gueltig_bis>", "<BesonderePersonengruppe>", "<DMP_Kennzeichnung>34<", "<Art>1011<", "<ArtDesRuhens>2<"} {
		if !strings.Contains(doc, want) {
			t.Errorf("EF.GVD lacks %s: %s", want, doc)
		}
	}
	rec := expect(t, c, "00B2013400", "9000")
	if len(rec) != 46 || rec[4] != '1' || rec[5] != 'R' || !strings.HasPrefix(string(rec[16:]), "Hausarztpraxis Dr. Gr") {
		t.Errorf("record 1 of EF.Logging: %q", rec)
	}
	if rec := expect(t, c, "00B2323400", "9000"); !bytes.Equal(rec, make([]byte, 46)) {
		t.Errorf("record 50 of EF.Logging: % X", rec)
	}
	expect(t, c, "00B2333400", "6A83")
}

// The way of a session: PIN, trusted channel with CHAT.0, rights with CHAT.1.
func TestSessionWithCardToCard(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"healthy-g21", "healthy-g2", "insurer-without-smb", "cert-expired", "cert-revoked"} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			pki := mustPKI(t)
			c := mustBuild(t, id)
			p, err := Find(id)
			if err != nil {
				t.Fatal(err)
			}
			srv, err := pki.IssueKTRAdV(p.Insurer.IK, "Test", "80276003110000900001")
			if err != nil {
				t.Fatal(err)
			}
			autn := "00B08B00000000"
			if p.Generation == "G2" {
				autn = "00B08900000000"
			}
			expect(t, c, selectMF, "9000")
			expect(t, c, "80200001", "63C3")
			expect(t, c, "0020000108"+pinBlock, "9000")
			expect(t, c, "80200001", "9000")
			// PIN.CH alone opens nothing that needs a role.
			expect(t, c, hca, "9000")
			expect(t, c, "00B2013400", "6982")
			expect(t, c, esign, "9000")
			expect(t, c, autn, "6982")
			expect(t, c, selectMF, "9000")
			roleAuthenticate(t, c, srv, p.ICCSN)
			expect(t, c, hca, "9000")
			expect(t, c, "00B2013400", "9000")
			expect(t, c, "00E200302E"+strings.Repeat("41", 46), "9000")
			if rec := expect(t, c, "00B2013400", "9000"); rec[0] != 'A' {
				t.Errorf("newest record % X", rec)
			}
			expect(t, c, esign, "9000")
			der := expect(t, c, autn, "9000")
			if len(der) < 300 {
				t.Errorf("C.CH.AUTN of %d octets", len(der))
			}
			if p.Generation == "G2" {
				signsRSA(t, c, pki.EGKRSACA.Certificate, der)
			}
			c.Reset(true)
			expect(t, c, hca, "9000")
			expect(t, c, "00B2013400", "6982")
		})
	}
}

// signsRSA proves C.CH.AUTN.R2048 with the standard library: issued by the RSA CA, and the card signs with its key.
func signsRSA(t *testing.T, c *card.Card, caDER, der []byte) {
	t.Helper()
	ca, err := x509.ParseCertificate(caDER)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.CheckSignatureFrom(ca); err != nil {
		t.Errorf("C.CH.AUTN.R2048: %v", err)
	}
	digest := sha256.Sum256([]byte("text"))
	expect(t, c, "002241B606840186800105", "9000")
	signature := expect(t, c, "002A9E9A20"+hex.EncodeToString(digest[:])+"00", "9000")
	if err := rsa.VerifyPSS(cert.PublicKey.(*rsa.PublicKey), crypto.SHA256, digest[:], signature, nil); err != nil {
		t.Errorf("signature of PrK.CH.AUTN.R2048: %v", err)
	}
}

func TestSomethingIsWrong(t *testing.T) {
	t.Parallel()
	pki := mustPKI(t)
	// signs tells whether the key of the card belongs to its certificate.
	signs := func(c *card.Card) bool {
		expect(t, c, selectMF, "9000")
		cvc := expect(t, c, "00B0860000", "9000")
		i := bytes.Index(cvc, []byte{0x86, 0x41})
		public, err := brainpool.ParsePublicKey(brainpool.P256r1(), cvc[i+2:i+2+65])
		if err != nil {
			t.Fatal(err)
		}
		expect(t, c, "002241A406840109800100", "9000")
		token := bytes.Repeat([]byte{7}, 24)
		sig := expect(t, c, "0088000018"+hex.EncodeToString(token)+"00", "9000")
		return public.Verify(append(token, 0), sig)
	}
	if !signs(mustBuild(t, "healthy-g21")) {
		t.Error("healthy card: key and certificate do not fit")
	}
	if signs(mustBuild(t, "copied-card")) {
		t.Error("copied card: key and certificate fit")
	}
	car := func(id string) string {
		c := mustBuild(t, id)
		return hex.EncodeToString(carOf(expect(t, c, "00B0870000", "9000")))
	}
	if got := car("foreign-root"); got != hex.EncodeToString(pki.ForeignRoot.CHR[:]) {
		t.Errorf("foreign card: root %s", got)
	}
	if got := car("healthy-g21"); got != hex.EncodeToString(pki.Root.CHR[:]) {
		t.Errorf("healthy card: root %s", got)
	}

	c := mustBuild(t, "pin-blocked")
	expect(t, c, "80200001", "63C0")
	expect(t, c, "0020000108"+pinBlock, "6983")
	expect(t, c, "002C010108"+pukBlock, "9000")
	expect(t, c, "0020000108"+pinBlock, "9000")

	c = mustBuild(t, "puk-used-up")
	expect(t, c, "80200001", "63C0")
	expect(t, c, "002C010108"+pukBlock, "6983")

	c = mustBuild(t, "transport-pin")
	expect(t, c, "80200001", "62C1")
	expect(t, c, "0020000108"+pinBlock, "6985")
	expect(t, c, "0024000110"+"2554321FFFFFFFFF"+pinBlock, "63C2")
	expect(t, c, "0024000110"+"2512345FFFFFFFFF"+pinBlock, "9000")
	expect(t, c, "80200001", "9000")

	c = mustBuild(t, "health-app-locked")
	expect(t, c, hca, "6283")
	expect(t, c, "00B0810000", "6982")
	expect(t, c, "00A4040C06D27600014408", "6283")
	expect(t, c, esign, "9000")

	c = mustBuild(t, "not-an-egk")
	expect(t, c, "00A4040C07D2760001448000", "6A82")
	expect(t, c, "00A4040C06D27600014606", "9000")
	expect(t, c, hca, "6A82")

	c = mustBuild(t, "damaged-vsd")
	expect(t, c, hca, "9000")
	if status := expect(t, c, "00B08C0000", "9000"); status[0] != '0' {
		t.Error("EF.StatusVD is not consistent")
	}
	vd := expect(t, c, "00B08200000000", "9000")
	z, err := gzip.NewReader(bytes.NewReader(vd[8:]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(z); err == nil {
		t.Error("EF.VD is whole")
	}
}

func serialOf(t *testing.T, der []byte) *big.Int {
	t.Helper()
	// Certificate, TBSCertificate, [0] version, serial number.
	var (
		in, tbs asn1.RawValue
		version int
		serial  *big.Int
	)
	if _, err := asn1.Unmarshal(der, &in); err != nil {
		t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(in.Bytes, &tbs); err != nil {
		t.Fatal(err)
	}
	rest, err := asn1.UnmarshalWithParams(tbs.Bytes, &version, "explicit,tag:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(rest, &serial); err != nil {
		t.Fatal(err)
	}
	return serial
}

func TestCertificateStatus(t *testing.T) {
	t.Parallel()
	pki := mustPKI(t)
	for id, want := range map[string]testpki.Status{"healthy-g21": testpki.Good, "cert-revoked": testpki.Revoked} {
		c := mustBuild(t, id)
		expect(t, c, esign, "9000")
		der := expect(t, c, "00B08400000000", "9000")
		if got := pki.StatusOf(serialOf(t, der)); got != want {
			t.Errorf("%s: status %v, want %v", id, got, want)
		}
	}
}

func TestKVNRCheckDigits(t *testing.T) {
	t.Parallel()
	for _, i := range List() {
		digits := fmt.Sprintf("%02d%s", i.KVNR[0]-'A'+1, i.KVNR[1:])
		sum := 0
		for k, d := range []byte(digits[:10]) {
			n := int(d-'0') * (1 + k%2)
			sum += n/10 + n%10
		}
		if len(i.KVNR) != 10 || sum%10 != int(i.KVNR[9]-'0') {
			t.Errorf("%s: KVNR %s", i.ID, i.KVNR)
		}
		if !strings.HasPrefix(i.ICCSN, "8027600311") || len(i.ICCSN) != 20 {
			t.Errorf("%s: ICCSN %s", i.ID, i.ICCSN)
		}
	}
}

// The fields keep within the limits of the VSD schema 5.2, and the texts of
// the personas use what is special about ISO-8859-15.
func TestFieldLimits(t *testing.T) {
	t.Parallel()
	longest, beyondLatin1 := 0, false
	for _, id := range order {
		p, err := Find(id)
		if err != nil {
			t.Fatal(err)
		}
		x := p.Person
		limits := map[string]int{x.Given: 45, x.Surname: 45, x.Title: 20, x.NameAffix: 20, x.NameParticle: 20, p.Insurer.Name: 45}
		for _, a := range []*Address{x.Address, x.POBox} {
			if a != nil {
				limits[a.Zip], limits[a.City], limits[a.Street], limits[a.Number], limits[a.Extra], limits[a.Box] = 10, 40, 46, 9, 40, 8
			}
		}
		for text, limit := range limits {
			if n := len([]rune(text)); text != "" && n > limit {
				t.Errorf("%s: %q has %d letters, at most %d", id, text, n, limit)
			}
			beyondLatin1 = beyondLatin1 || strings.ContainsAny(text, "ŠšŽžŒœŸ€")
		}
		longest = max(longest, len([]rune(x.Given)))
	}
	if longest < 40 || !beyondLatin1 {
		t.Errorf("longest given name %d letters, letters of ISO-8859-15 only: %v", longest, beyondLatin1)
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]string{
		"no JSON": "{", "unknown field": `{"id":"x","surprise":1}`, "two": `{"id":"x"}{"id":"y"}`,
	} {
		if _, err := Read([]byte(s)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	bad := func(change func(*Persona)) error {
		p, err := Find("healthy-g21")
		if err != nil {
			t.Fatal(err)
		}
		change(p)
		_, err = p.Card(mustPKI(t), now, card.Config{})
		return err
	}
	for name, change := range map[string]func(*Persona){
		"generation":    func(p *Persona) { p.Generation = "G3" },
		"iccsn":         func(p *Persona) { p.ICCSN = "123" },
		"letter":        func(p *Persona) { p.Person.Given = "Ωmega" },
		"too long":      func(p *Persona) { p.Person.Given = strings.Repeat(randomText, 40) },
		"log actor":     func(p *Persona) { p.Log[0].Actor = "x" },
		"log type":      func(p *Persona) { p.Log[0].Type = "12" },
		"log too long":  func(p *Persona) { p.Log = make([]LogEntry, 51) },
		"folder":        func(p *Persona) { p.Deactivate = []string{"MF/DF.Nothing"} },
		"transport PIN": func(p *Persona) { p.PINState.Transport = "12a45" },
		"tries":         func(p *Persona) { n := 4; p.PINState.Tries = &n },
		"PUK uses":      func(p *Persona) { n := -1; p.PINState.PUKUses = &n },
		"other card":    func(p *Persona) { p.OtherCard = "library card" },
	} {
		if err := bad(change); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := bad(func(*Persona) {}); err != nil {
		t.Error(err)
	}
}

// randomText does not compress.
const randomText = "q8Zr3kWp0xVn7tLc2mYd9sHb5jGf1aQe4uTi6oRw"

func TestLatin9(t *testing.T) {
	t.Parallel()
	const text = "äöüßÄÖÜ é€ŠšŽžŒœŸ ÿ"
	got, err := latin9(text)
	if err != nil {
		t.Fatal(err)
	}
	want, err := charmap.ISO8859_15.NewEncoder().Bytes([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, s := range []string{"¤", "¼", "Ω"} {
		if _, err := latin9(s); err == nil {
			t.Errorf("%q encoded", s)
		}
	}
}

// FuzzRead: whatever a persona file says, it is a card or an error.
func FuzzRead(f *testing.F) {
	for _, id := range order {
		b, err := files.ReadFile("personas/" + id + ".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	pki := mustPKI(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Read(b)
		if err != nil {
			return
		}
		p.Info()
		if c, err := p.Card(pki, now, card.Config{}); err == nil {
			c.Process([]byte{0x00, 0xA4, 0x04, 0x0C})
		}
	})
}
