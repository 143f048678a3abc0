package visit

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ktradv/hw/sim/card"
	"ktradv/hw/sim/persona"
	"ktradv/internal/req"
	"ktradv/kiosk/view"
)

func pack(t testing.TB, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// prefixed is the layout of EF.PD and EF.GVD, offsets that of EF.VD.
func prefixed(packed []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...)
}

func offsets(packed []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, 8)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(packed)-1))
	return append(append(b, 0xFF, 0xFF, 0xFF, 0xFF), packed...)
}

const (
	rootPD = `UC_PersoenlicheVersichertendatenXML`
	spaces = `xmlns="http://ws.gematik.de/fa/vsdm/vsd/v5.2" CDM_VERSION="5.2.0"`
	header = `<?xml version="1.0" encoding="ISO-8859-15" standalone="yes"?>`
)

func document(inside string) []byte {
	return []byte(header + "<" + rootPD + " " + spaces + ">" + inside + "</" + rootPD + ">")
}

// Malformed data of the insured person, of every kind: the person is told, the session ends in order, and the terminal
// serves the next one.
func TestMalformedVSD(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2444", "AdV-A_2449")
	const pd, vd, gvd, status = "MF/DF.HCA/EF.PD", "MF/DF.HCA/EF.VD", "MF/DF.HCA/EF.GVD", "MF/DF.HCA/EF.StatusVD"
	cut := func(b []byte) []byte { return b[:len(b)*2/3] }
	for _, c := range []struct {
		name, path string
		change     func(t *testing.T, b []byte) []byte
		code       string
	}{
		{"PD empty", pd, func(*testing.T, []byte) []byte { return nil }, "VSD-3011"},
		{"PD one octet", pd, func(*testing.T, []byte) []byte { return []byte{0} }, "VSD-3011"},
		{"PD length 0", pd, func(_ *testing.T, b []byte) []byte { b[0], b[1] = 0, 0; return b }, "VSD-3011"},
		{"PD length FFFF", pd, func(_ *testing.T, b []byte) []byte { b[0], b[1] = 0xFF, 0xFF; return b }, "VSD-3011"},
		{"PD no gzip", pd, func(_ *testing.T, b []byte) []byte { b[2] = 'X'; return b }, "VSD-3011"},
		{"PD cut", pd, func(_ *testing.T, b []byte) []byte { return prefixed(cut(b[2:])) }, "VSD-3011"},
		{"PD wrong checksum", pd, func(_ *testing.T, b []byte) []byte {
			n := 2 + int(binary.BigEndian.Uint16(b))
			b[n-8] ^= 1
			return b
		}, "VSD-3011"},
		{"PD wrong size", pd, func(_ *testing.T, b []byte) []byte {
			n := 2 + int(binary.BigEndian.Uint16(b))
			b[n-1] ^= 1
			return b
		}, "VSD-3011"},
		{"PD no XML", pd, func(t *testing.T, _ []byte) []byte { return prefixed(pack(t, []byte("no XML at all"))) }, "VSD-3011"},
		{"PD nothing inside", pd, func(t *testing.T, _ []byte) []byte { return prefixed(pack(t, nil)) }, "VSD-3011"},
		{"PD not closed", pd, func(t *testing.T, _ []byte) []byte {
			return prefixed(pack(t, []byte(header+"<"+rootPD+" "+spaces+">")))
		}, "VSD-3011"},
		{"PD another root", pd, func(t *testing.T, _ []byte) []byte {
			return prefixed(pack(t, bytes.ReplaceAll(document(""), []byte(rootPD), []byte("Other"))))
		}, "VSD-3011"},
		{"PD another namespace", pd, func(t *testing.T, _ []byte) []byte {
			return prefixed(pack(t, bytes.ReplaceAll(document(""), []byte("v5.2"), []byte("v9.9"))))
		}, "VSD-3011"},
		{"PD two roots", pd, func(t *testing.T, _ []byte) []byte { return prefixed(pack(t, append(document(""), document("")...))) }, "VSD-3011"},
		{"PD entities", pd, func(t *testing.T, _ []byte) []byte {
			text := `<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>`
			return prefixed(pack(t, bytes.Replace(document("&b;"), []byte("?>"), []byte("?>"+text), 1)))
		}, "VSD-3011"},
		{"PD unknown entity", pd, func(t *testing.T, _ []byte) []byte {
			return prefixed(pack(t, document("<Versicherter>&xxe;</Versicherter>")))
		}, "VSD-3011"},
		{"PD unknown encoding", pd, func(t *testing.T, _ []byte) []byte {
			return prefixed(pack(t, bytes.Replace(document(""), []byte("ISO-8859-15"), []byte("EBCDIC"), 1)))
		}, "VSD-3011"},
		{"PD nested deeply", pd, func(t *testing.T, _ []byte) []byte {
			return prefixed(pack(t, document(strings.Repeat("<a>", 5000)+strings.Repeat("</a>", 5000))))
		}, "VSD-3011"},
		{"PD a thousand elements", pd, func(t *testing.T, _ []byte) []byte {
			return prefixed(pack(t, document(strings.Repeat("<a>b</a>", 1000))))
		}, "VSD-3011"},
		{"VD bomb", vd, func(t *testing.T, _ []byte) []byte {
			b := offsets(pack(t, bytes.Repeat([]byte{' '}, 1200<<10)))
			if len(b) > 1250 {
				t.Fatalf("%d octets do not fit", len(b))
			}
			return b
		}, "VSD-3011"},
		{"VD bomb of elements", vd, func(t *testing.T, _ []byte) []byte { return offsets(pack(t, document(strings.Repeat("<a/>", 40000)))) }, "VSD-3011"},
		{"VD empty", vd, func(*testing.T, []byte) []byte { return nil }, "VSD-3011"},
		{"VD begin in the header", vd, func(_ *testing.T, b []byte) []byte { b[0], b[1] = 0, 4; return b }, "VSD-3011"},
		{"VD end before the begin", vd, func(_ *testing.T, b []byte) []byte { b[2], b[3] = 0, 7; return b }, "VSD-3011"},
		{"VD end behind the file", vd, func(_ *testing.T, b []byte) []byte { b[2], b[3] = 0x7F, 0xFF; return b }, "VSD-3011"},
		{"GVD of the PD", gvd, func(t *testing.T, _ []byte) []byte { return prefixed(pack(t, document(""))) }, "VSD-3011"},
		{"GVD empty", gvd, func(*testing.T, []byte) []byte { return nil }, "VSD-3011"},
		{"status inconsistent", status, func(_ *testing.T, b []byte) []byte { b[0] = '1'; return b }, "VSD-3001"},
		{"status unknown", status, func(_ *testing.T, b []byte) []byte { b[0] = '2'; return b }, "VSD-3011"},
		{"status short", status, func(_ *testing.T, b []byte) []byte { return b[:24] }, "VSD-3011"},
		{"status empty", status, func(*testing.T, []byte) []byte { return nil }, "VSD-3011"},
		{"status without a time", status, func(_ *testing.T, b []byte) []byte { copy(b[1:], "2026023099XXXX"); return b }, "VSD-3011"},
		{"status of another structure", status, func(_ *testing.T, b []byte) []byte { b[20] = 0x99; return b }, "VSD-3011"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, TerminalConfig{})
			r.insertTap(changed(t, "healthy-g21", func(_ testing.TB, s *card.System) {
				f := file(t, s, c.path)
				f.Body = c.change(t, bytes.Clone(f.Body))
			}))
			r.startToMenu()
			r.Choose("vsd.show")
			r.problem(c.code)
			if r.tap.PINVerified() || r.tap.Unlocked() {
				t.Error("the card kept a security state")
			}
			r.leave()
			sound(t, r.Views())
			r.toMenu("healthy-g21")
		})
	}
	t.Run("file away", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, TerminalConfig{})
		r.insertTap(changed(t, "healthy-g21", func(t testing.TB, s *card.System) {
			f := folder(t, s, "MF/DF.HCA")
			f.Children = slices.DeleteFunc(f.Children, func(o card.Object) bool { x, ok := o.(*card.File); return ok && x.Name == "EF.PD" })
		}))
		r.startToMenu()
		r.Choose("vsd.show")
		r.problem("VSD-3011")
		r.leave()
	})
}

// Octets changed at random: the data are shown or the person is told, and nothing else happens.
func TestRandomVSD(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 1))
			r := newRig(t, TerminalConfig{})
			r.insertTap(changed(t, "healthy-g21", func(t testing.TB, s *card.System) {
				for _, name := range []string{"EF.PD", "EF.VD", "EF.GVD", "EF.StatusVD"} {
					f := file(t, s, "MF/DF.HCA/"+name)
					f.Body = bytes.Clone(f.Body)
					for range random.IntN(3) {
						f.Body[random.IntN(len(f.Body))] = byte(random.IntN(256))
					}
				}
			}))
			if code := r.visit(persona.PIN); code != "" && code != "VSD-3011" && code != "VSD-3001" {
				t.Errorf("problem %s", code)
			}
			sound(t, r.Views())
		})
	}
}

// All fields of the insured person's data stand on the screen, with the time of the last update (AdV-A_2460); the screen is
// marked as personal and goes with the session.
func TestDataOnTheScreen(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2460")
	r := newRig(t, TerminalConfig{})
	r.toMenu("healthy-g21")
	r.Choose("vsd.show")
	v := r.screen(view.Data)
	p, err := persona.Find("healthy-g21")
	if err != nil {
		t.Fatal(err)
	}
	x, i, g := p.Person, p.Insurance, p.Protected
	want := []string{
		x.KVNR, x.Birth, x.Given, x.Surname, x.Sex, x.Title, x.NameAffix, x.NameParticle, x.Address.Zip, x.Address.City, x.Address.Country,
		x.Address.Street, x.Address.Number, x.Address.Extra, p.Insurer.IK, p.Insurer.Name, i.Begin, i.Kind, i.WOP, i.Billing.IK, i.Billing.Name,
		i.Refund.Medical, i.Refund.Dental, g.Exempt, g.Until, g.Group, g.DMP, g.Contracts.Medical, g.Contracts.Dental,
		g.Suspended.Begin, g.Suspended.End, g.Suspended.Kind,
	}
	for _, value := range want {
		if value == "" {
			t.Fatal("the persona leaves a field empty")
		}
		if !shows(v, value) {
			t.Errorf("%q is not on the screen", value)
		}
	}
	kinds := "" // "1011" is shown as one row for each kind of contract; the unused second one is left out
	for _, s := range v.Data {
		for _, row := range s.Rows {
			if strings.HasPrefix(row.Label, "vsd.gvd.selektiv.art.") {
				kinds += strings.TrimPrefix(row.Label, "vsd.gvd.selektiv.art.") + "=" + row.ValueID + " "
			}
		}
	}
	if g.Contracts.Kind != "1011" || kinds != "hausarzt=vsd.value.ja dmp=vsd.value.ja integriert=vsd.value.ja " {
		t.Errorf("contracts %s are shown as %s", g.Contracts.Kind, kinds)
	}
	updated, labelled := false, true
	for _, s := range v.Data {
		for _, row := range s.Rows {
			updated = updated || row.Kind == view.Time && !row.At.IsZero()
			_, ok := catalog.Lookup("de", row.Label)
			labelled = labelled && ok
		}
	}
	if !updated || !labelled || !v.Personal || !v.CanBack {
		t.Errorf("time of the update %v, labels %v, personal %v, back %v", updated, labelled, v.Personal, v.CanBack)
	}
	if shows(v, x.Surname+"x") {
		t.Error("a value is found that is not there: this check could not fail")
	}
}
