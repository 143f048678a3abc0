package image

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ktradv/hw/sim/card"
	"ktradv/internal/testdata"
)

func load(t testing.TB, name string) *card.System {
	t.Helper()
	f, err := os.Open(filepath.Join(testdata.Dir(t, "cards"), "images", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sys, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return sys
}

const (
	imgG21   = "IMG_eGK_G21_TU_root6_80276883110000152715.xml"
	imgG2    = "EGKG2_80276883110000017222_gema5.xml"
	imgEmpty = "EGKG2_80276883110000017222_gema5-leerPIN.xml"
	imgSMCB  = "SMC_B_80276883110000168650_gema5.xml"
	imgHBA   = "HBA_80276883110000220885_gema5.xml"
)

// rig is a card made from an image.
type rig struct {
	*card.Card
	t testing.TB
}

func insert(t testing.TB, name string) *rig {
	t.Helper()
	c, err := card.New(load(t, name), card.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return &rig{c, t}
}

func (r *rig) do(cmd, want string) []byte {
	r.t.Helper()
	b, err := hex.DecodeString(cmd)
	if err != nil {
		r.t.Fatal(err)
	}
	got := r.Process(b)
	if sw := fmt.Sprintf("%X", got[len(got)-2:]); sw != want {
		r.t.Fatalf("%s: %s, want %s", cmd, sw, want)
	}
	return got[:len(got)-2]
}

const pin, fresh, transport = "26123456FFFFFFFF", "26654321FFFFFFFF", "2554321FFFFFFFFF"

func TestPublicImages(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		objects int
		aid     string
		atr     string
	}{
		imgG21:   {70, "D2760001448000", "3B909681B1FE451F0391"},
		imgG2:    {65, "D2760001448000", "3B901881B1FE451F031F"},
		imgEmpty: {65, "D2760001448000", "3B901881B1FE451F031F"},
		imgSMCB:  {32, "D27600014606", "3B909681B1FE451F0391"},
		imgHBA:   {59, "D27600014601", "3B909681B1FE451F0391"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := 0
			load(t, name).Root.Walk(func(string, card.Object) { n++ })
			if n != tt.objects {
				t.Errorf("%d objects, want %d", n, tt.objects)
			}
			r := insert(t, name)
			if got := fmt.Sprintf("%X", r.Reset(false)); got != tt.atr {
				t.Errorf("ATR %s", got)
			}
			r.do(fmt.Sprintf("00A4040C%02X%s", len(tt.aid)/2, tt.aid), "9000")
			if tt.aid != "D2760001448000" {
				r.do("00A4040C07D2760001448000", "6A82")
				r.do("00A4040C06D27600000102", "6A82")
			}
			if got := fmt.Sprintf("%X", r.do("00B0820000", "9000")); !strings.HasPrefix(got, "5A0A80276883110000") {
				t.Errorf("EF.GDO %s", got)
			}
			if got := r.do("00B201F400", "9000"); got[0] != 0x61 {
				t.Errorf("EF.DIR record 1 % X", got)
			}
		})
	}
}

// Every rule of every image survives being written as access rules and as
// control parameters.
func TestRulesRoundTrip(t *testing.T) {
	t.Parallel()
	for _, name := range []string{imgG21, imgG2, imgEmpty, imgSMCB, imgHBA} {
		n := 0
		load(t, name).Root.Walk(func(path string, o card.Object) {
			f, ok := o.(*card.File)
			if !ok {
				return
			}
			for _, list := range [][]card.StateRules{f.Rules.Contact, f.Rules.Contactless} {
				for _, s := range list {
					for _, r := range s.Rules {
						text := "CB{[ACTIVATED,1,{({" + r.Patterns[0].String() + "}," + r.Cond.String() + ")}]}"
						again, err := card.ParseRules(text)
						if err != nil {
							t.Fatalf("%s %s: %v", name, path, err)
						}
						if diff := cmp.Diff(r.Cond, again.Contact[0].Rules[0].Cond); diff != "" {
							t.Fatalf("%s %s: %s", name, path, diff)
						}
						n++
					}
				}
			}
		})
		if n == 0 {
			t.Errorf("%s: no rules", name)
		}
	}
}

func TestEmptyPINImage(t *testing.T) {
	t.Parallel()
	r := insert(t, imgEmpty)
	r.do("80200001", "62C7")
	r.do("80200002", "62C7")
	r.do("0020000108"+pin, "6985")
	// The image has a rule for CHANGE with P1 = 00 only.
	r.do("0024010108"+pin, "6982")
	r.do("0024000110"+pin+fresh, "6985")
	r.do("80200001", "62C7")

	r = insert(t, imgG2)
	r.do("80200001", "63C3")
	r.do("0020000108"+pin, "9000")
}

// The SMC-B authenticates itself to the eGK, both simulated: the signature is
// right, but the test CA of this SMC-B has no right to pass on, so the eGK
// grants none. The HBA hangs below a root that this eGK does not know.
func TestCardToCardBetweenImages(t *testing.T) {
	t.Parallel()
	egk, smcb, hba := insert(t, imgG21), insert(t, imgSMCB), insert(t, imgHBA)

	smcb.do("80200001", "62C1")
	smcb.do("0024000110"+transport+pin, "9000")
	smcb.do("80200001", "9000")

	ca, ee := smcb.do("00B0870000", "9000"), smcb.do("00B0860000", "9000")
	car := hex.EncodeToString(ca[14:22])
	egk.do("002281B60A8308"+car, "9000")
	egk.do("002A00BE"+fmt.Sprintf("%02X%X", len(ca)-4, ca[4:]), "9000")
	egk.do("002281B60A8308"+hex.EncodeToString(ee[14:22]), "9000")
	egk.do("002A00BE"+fmt.Sprintf("%02X%X", len(ee)-4, ee[4:]), "9000")
	i := bytes.Index(ee, []byte{0x5F, 0x20, 0x0C})
	egk.do("002281A411830C"+hex.EncodeToString(ee[i+3:i+15])+"800100", "9000")
	rnd := egk.do("0084000010", "9000")
	smcb.do("002241A406840106800100", "9000")
	sig := smcb.do("0088000018"+hex.EncodeToString(rnd)+"6883110000152715"+"00", "9000")
	egk.do("0082000040"+hex.EncodeToString(sig), "9000")
	egk.do("00A4040C06D27600000102", "9000")
	egk.do("00B0830000", "6982")
	egk.do("00E200302E"+strings.Repeat("41", 46), "6982")

	ca = hba.do("00B0870000", "9000")
	egk.do("00A4040C", "9000")
	egk.do("002281B60A8308"+hex.EncodeToString(ca[14:22]), "6A88")
}

// PIN.QES of the HBA is good for a limited number of uses in SE 1: 250.
func TestLimitedUses(t *testing.T) {
	t.Parallel()
	r := insert(t, imgHBA)
	r.do("00A4040C06D27600006601", "9000")
	r.do("80200081", "62C1")
	r.do("0024008110"+transport+pin, "9000")
	r.do("002241B606840186800100", "9000")
	sign := "002A9E9A20" + strings.Repeat("5A", 32) + "00"
	uses := 0
	for ; uses < 300; uses++ {
		b, err := hex.DecodeString(sign)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Process(b); got[len(got)-2] != 0x90 {
			break
		}
	}
	if uses != 250 {
		t.Errorf("%d signatures with one PIN entry, want 250", uses)
	}
	r.do(sign, "6982")
	r.do("0020008108"+pin, "9000")
	r.do(sign, "9000")
	// The RSA key works, too.
	r.do("002241B606840184800105", "9000")
	if n := len(r.do(sign, "9000")); n != 256 {
		t.Errorf("RSA signature of %d octets", n)
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	const head, tail = `<card name="x"><objectSystem>`, `</objectSystem></card>`
	const system = `<attribute id="coldAnswerToReset">3B</attribute><attribute id="warmAnswerToReset">3B</attribute><attribute id="iccsn8">0011223344556677</attribute><attribute id="pointInTime">020300090200</attribute><attribute id="reservedPersistentCacheSlots">05</attribute>`
	object := func(kind, attributes string) string {
		return `<attribute id="root"><child id="MF" objectType="` + kind + `"><attributes><attribute id="lifeCycleStatus">ACTIVATED</attribute><attribute id="accessRules">CB{[ACTIVATED,1,{({00||b0||??||??},ALW)}]}</attribute>` + attributes + `</attributes></child></attribute>`
	}
	mf := object("ADF", `<attribute id="applicationIdentifier">{d2760001448000}</attribute>`)
	if _, err := Read(strings.NewReader(head + system + mf + tail)); err != nil {
		t.Fatalf("the smallest image: %v", err)
	}
	for name, s := range map[string]string{
		"empty":      "",
		"no card":    "<x/>",
		"no root":    head + system + tail,
		"iccsn8":     head + strings.Replace(system, "77<", "<", 1) + mf + tail,
		"date":       head + strings.Replace(system, "0203", "0903FF", 1) + mf + tail,
		"root file":  head + system + object("TransparentElementaryFile", `<attribute id="body">00</attribute><attribute id="numberOfOctet">01</attribute><attribute id="positionLogicalEndOfFile">01</attribute><attribute id="fileIdentifier">2f01</attribute><attribute id="shortFileIdentifier">01</attribute>`) + tail,
		"type":       head + system + object("Thing", "") + tail,
		"rules":      head + system + strings.Replace(mf, "ALW", "ALL", 1) + tail,
		"state":      head + system + strings.Replace(mf, ">ACTIVATED<", ">ASLEEP<", 1) + tail,
		"aid":        head + system + strings.Replace(mf, "d276", "xx76", 1) + tail,
		"whole ones": strings.Repeat(" ", MaxSize+1),
	} {
		if _, err := Read(strings.NewReader(s)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`<card name="x"><objectSystem><attribute id="root"><child id="MF" objectType="ADF"><attributes><attribute id="lifeCycleStatus">ACTIVATED</attribute><attribute id="accessRules">CB{[ACTIVATED,1,{({00||b0||??||??},ALW)}]}</attribute></attributes><children><child id="P" objectType="PWD"><attributes><attribute id="startSSecList">{(1,INFINITY)}</attribute></attributes></child></children></child></attribute><attribute id="coldAnswerToReset">3B</attribute></objectSystem></card>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		sys, err := Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		c, err := card.New(sys, card.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Process([]byte{0x00, 0xA4, 0x04, 0x04, 0x00}); len(got) < 2 {
			t.Fatalf("% X", got)
		}
	})
}
