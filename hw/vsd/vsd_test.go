package vsd

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/encoding/charmap"

	"ktradv/hw/apdu"
	"ktradv/hw/cos"
	"ktradv/hw/internal/cardtest"
	"ktradv/internal/req"
	"ktradv/internal/testdata"
)

// show writes sections as lines, revealing what is redacted.
func show(sections []Section) []string {
	var out []string
	for _, s := range sections {
		out = append(out, s.ID)
		for _, r := range s.Rows {
			label := r.LabelID
			if label == "" {
				label = "?" + r.LabelText.Reveal()
			}
			value := r.Value.Reveal()
			if r.Kind == KindTime {
				value = r.At.Format(time.RFC3339)
			}
			line := fmt.Sprintf("  %s %s %q", label, r.Kind, value)
			if r.Kind == KindCode {
				line += " " + r.ValueID
			}
			out = append(out, line)
		}
	}
	return out
}

func read(t testing.TB, elem ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{testdata.Dir(t, "vsdm")}, elem...)...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStatus(t *testing.T) {
	t.Parallel()
	good := func(s string) []byte { return []byte(s + "\x00\x50\x02\x00\x00\x00\x30\x00\x00\x04") }
	for name, c := range map[string]struct {
		in   []byte
		want Status
	}{
		"ok":           {good("020240131225959"), Status{true, time.Date(2024, 1, 31, 22, 59, 59, 0, time.UTC), "5.2.0", "3.0.4"}},
		"inconsistent": {good("120240131225959"), Status{false, time.Date(2024, 1, 31, 22, 59, 59, 0, time.UTC), "5.2.0", "3.0.4"}},
		"never":        {good("000000000000000"), Status{true, time.Time{}, "5.2.0", "3.0.4"}},
	} {
		if got, err := ParseStatus(c.in); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, in := range map[string][]byte{
		"empty": {}, "short": good("02024013122595"), "other status": good("220240131225959"), "zero status": good("\x0020240131225959"),
		"month 13": good("020241331225959"), "letters": good("0202401312259xx"),
		"version not BCD": []byte("020240131225959\x00\x5A\x02\x00\x00\x00\x30\x00\x00\x04"),
	} {
		if got, err := ParseStatus(in); !errors.Is(err, ErrUnreadable) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for file, consistent := range map[string]bool{"StatusVD-ok.bin": true, "StatusVD-inconsistent.bin": false} {
		if s, err := ParseStatus(read(t, "made", "status", file)); err != nil || s.Consistent != consistent || s.Version != "5.2.0" || s.Storage != "3.0.4" {
			t.Errorf("%s: %+v, %v", file, s, err)
		}
	}
}

// Every published card: files as they stand on it, against the XML and the status beside them.
func TestPublishedCards(t *testing.T) {
	t.Parallel()
	dirs, err := filepath.Glob(filepath.Join(testdata.Dir(t, "vsdm"), "cards", "*"))
	if err != nil || len(dirs) != 4 {
		t.Fatal(dirs, err)
	}
	for _, dir := range dirs {
		name := filepath.Base(dir)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			card := func(f string) []byte { return read(t, "cards", name, f) }
			status, err := ParseStatus(card("EF.StatusVD.bin"))
			if err != nil || !status.Consistent || status.Version != "5.2.0" || status.Storage != "3.0.4" {
				t.Fatalf("status %+v, %v", status, err)
			}
			var manifest struct {
				Files map[string]struct{ Timestamp string }
			}
			if err := json.Unmarshal(card("manifest.json"), &manifest); err != nil {
				t.Fatal(err)
			}
			if got := status.Updated.Format("20060102150405"); got != manifest.Files["EF.StatusVD"].Timestamp {
				t.Errorf("updated %s, want %s", got, manifest.Files["EF.StatusVD"].Timestamp)
			}
			d := &Data{Status: status}
			if err := d.decode(card("EF.PD.bin"), card("EF.VD.bin"), card("EF.GVD.bin"), true); err != nil {
				t.Fatal(err)
			}
			if d.KVNR.IsZero() || len(d.IK) != 9 || !d.HasGVD {
				t.Errorf("number %v, IK %s", d.KVNR.IsZero(), d.IK)
			}
			for _, doc := range []document{documentPD, documentVD, documentGVD} {
				complete(t, d.Sections, card("EF."+doc.file+".xml"))
				if rows := unknownRows(d.Sections); len(rows) != 0 {
					t.Errorf("%s: unknown elements %v", doc.file, rows)
				}
			}
			if last := d.Sections[len(d.Sections)-1]; last.ID != SectionLastUpdate || !last.Rows[0].At.Equal(status.Updated) {
				t.Errorf("last section %v", show([]Section{last}))
			}
			// Half a member: an end taken as exclusive loses the last octet, and that must not pass.
			vd := bytes.Clone(card("EF.VD.bin"))
			binary.BigEndian.PutUint16(vd[2:], binary.BigEndian.Uint16(vd[2:])-1)
			if err := d.decode(card("EF.PD.bin"), vd, nil, false); !errors.Is(err, ErrUnreadable) {
				t.Errorf("end one octet early: %v", err)
			}
		})
	}
}

func unknownRows(sections []Section) (rows []string) {
	for _, s := range sections {
		for _, r := range s.Rows {
			if r.LabelID == "" || r.Kind == KindCode && r.ValueID == "" {
				rows = append(rows, r.LabelID+r.LabelText.Reveal()+"="+r.Value.Reveal())
			}
		}
	}
	return rows
}

// complete checks that every text of the XML stands in some row.
func complete(t *testing.T, sections []Section, document []byte) {
	t.Helper()
	have := map[string]int{}
	for _, s := range sections {
		for _, r := range s.Rows {
			have[r.Value.Reveal()]++
		}
	}
	dec := xml.NewDecoder(bytes.NewReader(document))
	dec.CharsetReader = charset(document)
	n := 0
	for {
		token, err := dec.Token()
		if token == nil || err != nil {
			break
		}
		text, ok := token.(xml.CharData)
		value := strings.Join(strings.Fields(string(text)), " ")
		if !ok || value == "" {
			continue
		}
		if n++; have[value] == 0 {
			t.Errorf("the text %q of the document is in no row", value)
		}
	}
	if n == 0 {
		t.Error("the document has no text")
	}
}

func TestReplacementCertificates(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(testdata.Dir(t, "vsdm"), "eeb", "*.b64"))
	if err != nil || len(files) != 18 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		packed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(read(t, "eeb", filepath.Base(f)))))
		if err != nil {
			t.Fatal(err)
		}
		doc := map[string]document{"pd": documentPD, "vd": documentVD, "gvd": documentGVD}[strings.Split(filepath.Base(f), ".")[1]]
		leaves, err := doc.read(packed)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(f), err)
			continue
		}
		sections := arrange(leaves, Status{})
		if rows := unknownRows(sections); len(rows) != 0 {
			t.Errorf("%s: unknown %v", filepath.Base(f), rows)
		}
		for _, line := range show(sections) {
			if strings.Contains(line, "Ã") || strings.Contains(line, "\ufffd") {
				t.Errorf("%s: letters are garbled: %s", filepath.Base(f), line)
			}
		}
		complete(t, sections, read(t, "eeb", strings.TrimSuffix(filepath.Base(f), ".b64")+".xml"))
	}
}

// pack makes a gzip member, as latin9 when asked.
func pack(t testing.TB, text string, latin9 bool) []byte {
	t.Helper()
	b := []byte(text)
	if latin9 {
		var err error
		if b, err = charmap.ISO8859_15.NewEncoder().Bytes(b); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

const prolog = `<?xml version="1.0" encoding="ISO-8859-15" standalone="yes"?>`

func wrap(root, attributes, body string) string {
	return prolog + `<` + root + ` CDM_VERSION="5.2.0" xmlns="` + namespace + `"` + attributes + `>` + body + `</` + root + `>`
}

func prefixed(packed []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(packed)))
	return append(append(b, packed...), "older data behind"...)
}

func vdFile(packed []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, 8)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(packed)-1))
	b = append(b, 0xFF, 0xFF, 0xFF, 0xFF) // no copy of the protected data
	return append(append(b, packed...), 0, 0, 0)
}

const fullPD = `<Versicherter><Versicherten_ID>A000500015</Versicherten_ID><Person><Geburtsdatum>19400000</Geburtsdatum>
<Vorname>Günther Šimon</Vorname><Nachname>Œuvre-Žižka</Nachname><Geschlecht>D</Geschlecht><Vorsatzwort>von</Vorsatzwort>
<Namenszusatz>Freiherr</Namenszusatz><Titel>Dr.</Titel><PostfachAdresse><Postleitzahl>10115</Postleitzahl><Ort>Berlin</Ort><Postfach>4711</Postfach>
<Land><Wohnsitzlaendercode>D</Wohnsitzlaendercode></Land></PostfachAdresse><StrassenAdresse><Postleitzahl>75001</Postleitzahl><Ort>Paris</Ort>
<Land><Wohnsitzlaendercode>F</Wohnsitzlaendercode></Land><Strasse>Straße der Äpfel</Strasse><Hausnummer>1a</Hausnummer><Anschriftenzusatz>Hof €</Anschriftenzusatz>
</StrassenAdresse></Person></Versicherter>`

const fullVD = `<Versicherter><Versicherungsschutz><Beginn>20200101</Beginn><Ende>20301231</Ende><Kostentraeger>
<Kostentraegerkennung>109500969</Kostentraegerkennung><Kostentraegerlaendercode>D</Kostentraegerlaendercode><Name>Testkasse</Name>
<AbrechnenderKostentraeger><Kostentraegerkennung>101575519</Kostentraegerkennung><Kostentraegerlaendercode>D</Kostentraegerlaendercode><Name>Testkasse Nord</Name></AbrechnenderKostentraeger>
</Kostentraeger></Versicherungsschutz><Zusatzinfos><ZusatzinfosGKV><Versichertenart>5</Versichertenart><Zusatzinfos_Abrechnung_GKV><Kostenerstattung>
<AerztlicheVersorgung>1</AerztlicheVersorgung><ZahnaerztlicheVersorgung>0</ZahnaerztlicheVersorgung><StationaererBereich>0</StationaererBereich><VeranlassteLeistungen>1</VeranlassteLeistungen>
</Kostenerstattung><WOP>71</WOP></Zusatzinfos_Abrechnung_GKV></ZusatzinfosGKV></Zusatzinfos></Versicherter>`

const fullGVD = `<Zuzahlungsstatus><Status>1</Status><Gueltig_bis>20261231</Gueltig_bis></Zuzahlungsstatus><BesonderePersonengruppe>09</BesonderePersonengruppe>
<DMP_Kennzeichnung>58</DMP_Kennzeichnung><Selektivvertraege><Aerztlich>1</Aerztlich><Zahnaerztlich>9</Zahnaerztlich><Art>1001</Art></Selektivvertraege>
<RuhenderLeistungsanspruch><Beginn>20250101</Beginn><Ende>20250630</Ende><ArtDesRuhens>2</ArtDesRuhens></RuhenderLeistungsanspruch>`

// Every element of the schema, once.
func TestEveryElement(t *testing.T) {
	t.Parallel()
	d := &Data{Status: Status{Consistent: true, Updated: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}}
	if err := d.decode(prefixed(pack(t, wrap(documentPD.root, "", fullPD), true)), vdFile(pack(t, wrap(documentVD.root, "", fullVD), true)),
		prefixed(pack(t, wrap(documentGVD.root, "", fullGVD), true)), true); err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(`
vsd.section.person
  vsd.pd.titel text "Dr."
  vsd.pd.vorname text "Günther Šimon"
  vsd.pd.namenszusatz text "Freiherr"
  vsd.pd.vorsatzwort text "von"
  vsd.pd.nachname text "Œuvre-Žižka"
  vsd.pd.geburtsdatum date "19400000"
  vsd.pd.geschlecht code "D" vsd.value.geschlecht.d
  vsd.pd.versicherten_id text "A000500015"
vsd.section.wohnanschrift
  vsd.pd.strasse text "Straße der Äpfel"
  vsd.pd.hausnummer text "1a"
  vsd.pd.anschriftenzusatz text "Hof €"
  vsd.pd.postleitzahl text "75001"
  vsd.pd.ort text "Paris"
  vsd.pd.land text "F"
vsd.section.postfachadresse
  vsd.pd.postfach text "4711"
  vsd.pd.postleitzahl text "10115"
  vsd.pd.ort text "Berlin"
  vsd.pd.land code "D" vsd.value.land.d
vsd.section.versicherung
  vsd.vd.kostentraeger.name text "Testkasse"
  vsd.vd.kostentraeger.kennung text "109500969"
  vsd.vd.kostentraeger.land code "D" vsd.value.land.d
  vsd.vd.abrechnender.name text "Testkasse Nord"
  vsd.vd.abrechnender.kennung text "101575519"
  vsd.vd.abrechnender.land code "D" vsd.value.land.d
  vsd.vd.beginn date "20200101"
  vsd.vd.ende date "20301231"
  vsd.vd.versichertenart code "5" vsd.value.versichertenart.5
  vsd.vd.wop code "71" vsd.value.wop.71
  vsd.vd.kostenerstattung.aerztlich code "1" vsd.value.ja
  vsd.vd.kostenerstattung.zahnaerztlich code "0" vsd.value.nein
  vsd.vd.kostenerstattung.stationaer code "0" vsd.value.nein
  vsd.vd.kostenerstattung.veranlasst code "1" vsd.value.ja
vsd.section.geschuetzt
  vsd.gvd.zuzahlung.befreit code "1" vsd.value.ja
  vsd.gvd.zuzahlung.bis date "20261231"
  vsd.gvd.personengruppe code "09" vsd.value.personengruppe.9
  vsd.gvd.dmp code "58" vsd.value.dmp.58
  vsd.gvd.selektiv.aerztlich code "1" vsd.value.selektiv.1
  vsd.gvd.selektiv.zahnaerztlich code "9" vsd.value.selektiv.9
  vsd.gvd.selektiv.art.hausarzt code "1" vsd.value.ja
  vsd.gvd.selektiv.art.dmp code "0" vsd.value.nein
  vsd.gvd.selektiv.art.integriert code "1" vsd.value.ja
  vsd.gvd.ruhen.beginn date "20250101"
  vsd.gvd.ruhen.ende date "20250630"
  vsd.gvd.ruhen.art code "2" vsd.value.ruhen.2
vsd.section.stand
  vsd.status.aktualisiert time "2026-03-04T05:06:07Z"`), "\n")
	if diff := cmp.Diff(want, show(d.Sections)); diff != "" {
		t.Error(diff)
	}
	if d.KVNR.Reveal() != "A000500015" || d.IK != "109500969" {
		t.Errorf("number %s, IK %s", d.KVNR.Reveal(), d.IK)
	}
	// The ids that stand in rows are all in the lists, and the lists hold nothing twice.
	labels, values := LabelIDs(), ValueIDs()
	for _, s := range d.Sections {
		if !slices.Contains(SectionIDs(), s.ID) {
			t.Errorf("heading %s is not listed", s.ID)
		}
		for _, r := range s.Rows {
			if !slices.Contains(labels, r.LabelID) || r.ValueID != "" && !slices.Contains(values, r.ValueID) {
				t.Errorf("label %s or value %s is not listed", r.LabelID, r.ValueID)
			}
		}
	}
	for _, list := range [][]string{labels, values} {
		if !slices.IsSorted(list) || len(slices.Compact(slices.Clone(list))) != len(list) || slices.Contains(list, "") {
			t.Errorf("list %v", list)
		}
	}
	if out := fmt.Sprintf("%v %+v %#v", d, d, *d); strings.Contains(out, "Günther") || strings.Contains(out, "A000500015") || strings.Contains(out, "Berlin") {
		t.Errorf("data print: %s", out)
	}
}

func TestPrivateInsurance(t *testing.T) {
	t.Parallel()
	body := strings.Replace(fullVD, fullVD[strings.Index(fullVD, "<ZusatzinfosGKV>"):strings.Index(fullVD, "</Zusatzinfos></Versicherter>")], `<ZusatzinfosPKV>
<Tarifart>01</Tarifart><Beihilfeberechtigung>00</Beihilfeberechtigung><KVB_PBeaK>02</KVB_PBeaK><StationaereLeistungen><TeilnahmeClinicCardVerfahren>1</TeilnahmeClinicCardVerfahren>
<WahlleistungUnterkunft><ArtWahlleistungUnterkunft>01</ArtWahlleistungUnterkunft><HoechstbetragWahlleistungUnterkunft>00120</HoechstbetragWahlleistungUnterkunft></WahlleistungUnterkunft>
<WahlleistungUnterkunft><ArtWahlleistungUnterkunft>02</ArtWahlleistungUnterkunft><ProzentwertWahlleistungUnterkunft>050</ProzentwertWahlleistungUnterkunft></WahlleistungUnterkunft>
<WahlleistungAerztlicheBehandlung><ArtWahlleistungAerztlicheBehandlung>01</ArtWahlleistungAerztlicheBehandlung><ProzentwertWahlleistungAerztlicheBehandlung>100</ProzentwertWahlleistungAerztlicheBehandlung></WahlleistungAerztlicheBehandlung>
<AllgemeineKrankenhausleistungen>viel</AllgemeineKrankenhausleistungen></StationaereLeistungen></ZusatzinfosPKV>`, 1)
	d := &Data{}
	if err := d.decode(prefixed(pack(t, wrap(documentPD.root, ` KTR_TYP="1"`, fullPD), true)), vdFile(pack(t, wrap(documentVD.root, ` KTR_TYP="1"`, body), true)),
		prefixed(pack(t, wrap(documentGVD.root, ` KTR_TYP="1"`, ""), true)), true); err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(`
vsd.section.zusatzinfos_pkv
  vsd.vd.pkv.tarifart code "01" vsd.value.tarifart.1
  vsd.vd.pkv.beihilfe code "00" vsd.value.beihilfe.0
  vsd.vd.pkv.kvb_pbeak code "02" vsd.value.kvb_pbeak.2
  vsd.vd.pkv.cliniccard code "1" vsd.value.ja
  vsd.vd.pkv.unterkunft.art code "01" vsd.value.unterkunft.1
  vsd.vd.pkv.unterkunft.hoechstbetrag text "120 €"
  vsd.vd.pkv.unterkunft.art code "02" vsd.value.unterkunft.2
  vsd.vd.pkv.unterkunft.prozent text "50 %"
  vsd.vd.pkv.behandlung.art code "01" vsd.value.behandlung.1
  vsd.vd.pkv.behandlung.prozent text "100 %"
  vsd.vd.pkv.krankenhaus.prozent text "viel"
vsd.section.stand
  vsd.status.aktualisiert code "" vsd.value.unbekannt`), "\n")
	got := show(d.Sections)
	if i := slices.Index(got, SectionPrivate); i < 0 || cmp.Diff(want, got[i:]) != "" {
		t.Errorf("have %s", strings.Join(got, "\n"))
	}
}

// What schema and tables do not know is kept and marked.
func TestUnknownContentIsKept(t *testing.T) {
	t.Parallel()
	gvd := `<Neu><Innen>42</Innen><Leer/></Neu><Zuzahlungsstatus><Status>7</Status><Gueltig_bis>bald</Gueltig_bis></Zuzahlungsstatus><DMP_Kennzeichnung>99</DMP_Kennzeichnung>` +
		`<Selektivvertraege><Aerztlich>2</Aerztlich><Zahnaerztlich></Zahnaerztlich><Art>0100</Art></Selektivvertraege><RuhenderLeistungsanspruch>Text<ArtDesRuhens>3</ArtDesRuhens></RuhenderLeistungsanspruch>`
	leaves, err := documentGVD.read(pack(t, wrap(documentGVD.root, "", gvd), false))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(`
vsd.section.geschuetzt
  vsd.gvd.zuzahlung.befreit code "7" 
  vsd.gvd.zuzahlung.bis text "bald"
  vsd.gvd.dmp code "99" 
  vsd.gvd.selektiv.aerztlich code "2" 
  vsd.gvd.selektiv.art.hausarzt code "0" vsd.value.nein
  vsd.gvd.selektiv.art.stelle2 code "1" vsd.value.ja
  vsd.gvd.selektiv.art.dmp code "0" vsd.value.nein
  vsd.gvd.selektiv.art.integriert code "0" vsd.value.nein
  vsd.gvd.ruhen.art code "3" 
  ?Innen text "42"
  ?Leer text ""
  ?RuhenderLeistungsanspruch text "Text"`), "\n")
	got := show(arrange(leaves, Status{}))
	if diff := cmp.Diff(want, got[:len(got)-2]); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]Kind{"20240229": KindDate, "20240230": KindText, "20240000": KindDate, "20240200": KindDate, "20241300": KindText, "2024": KindText, "2024010a": KindText, "20240032": KindText} {
		f := field{format: asDate}
		if got := f.rows(text)[0].Kind; got != want {
			t.Errorf("date %s is shown as %s", text, got)
		}
	}
	if rows := (&field{format: asFour, label: "x"}).rows("10"); len(rows) != 1 || rows[0].Kind != KindText {
		t.Errorf("two flags: %v", rows)
	}
}

func TestHostileContent(t *testing.T) {
	t.Parallel()
	req.Covers(t, "VSDM-A_2692")
	good := pack(t, wrap(documentPD.root, "", fullPD), true)
	bomb := pack(t, wrap(documentPD.root, "", strings.Repeat(" ", 64<<20)), false)
	crc := bytes.Clone(good)
	crc[len(crc)-6] ^= 1
	deep := strings.Repeat("<a>", 40) + strings.Repeat("</a>", 40)
	many := strings.Repeat("<a>1</a>", 2000)
	for name, file := range map[string][]byte{
		"empty":                  {},
		"one octet":              {1},
		"length zero":            {0, 0, 1, 2, 3},
		"length beyond the file": append([]byte{0xFF, 0xFF}, good...),
		"no gzip":                prefixed([]byte("no gzip at all")),
		"cut off":                prefixed(good[:len(good)-9]),
		"wrong checksum":         prefixed(crc),
		"no XML":                 prefixed(pack(t, "hello", false)),
		"nothing inside":         prefixed(pack(t, "", false)),
		"not closed":             prefixed(pack(t, prolog+"<"+documentPD.root+` xmlns="`+namespace+`"><Versicherter>`, false)),
		"other root":             prefixed(pack(t, wrap(documentVD.root, "", fullVD), true)),
		"old namespace":          prefixed(pack(t, strings.Replace(wrap(documentPD.root, "", fullPD), "v5.2", "v5.1", 1), true)),
		"two roots":              prefixed(pack(t, wrap(documentPD.root, "", fullPD)+"<x/>", true)),
		"text behind":            prefixed(pack(t, wrap(documentPD.root, "", fullPD)+"x", true)),
		"entity bomb":            prefixed(pack(t, prolog+`<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>`+wrap(documentPD.root, "", "<a>&b;</a>")[len(prolog):], false)),
		"too deep":               prefixed(pack(t, wrap(documentPD.root, "", deep), false)),
		"too many":               prefixed(pack(t, wrap(documentPD.root, "", many), false)),
		"unknown encoding":       prefixed(pack(t, strings.Replace(wrap(documentPD.root, "", fullPD), "ISO-8859-15", "EBCDIC", 1), false)),
	} {
		start := time.Now()
		err := (&Data{}).decode(file, nil, nil, false)
		if !errors.Is(err, ErrUnreadable) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (strings.Contains(err.Error(), "Günther") || strings.Contains(err.Error(), "Versicherter")) {
			t.Errorf("%s: the error quotes the card: %v", name, err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
	if _, err := decompress(bomb); !errors.Is(err, ErrTooLarge) || !errors.Is(err, ErrUnreadable) {
		t.Errorf("gzip bomb: %v", err)
	}
	pd := prefixed(good)
	vd := vdFile(pack(t, wrap(documentVD.root, "", fullVD), true))
	for name, header := range map[string][]byte{"short": {0, 8, 0}, "start in the header": {0, 4, 0, 20}, "end before start": {0, 20, 0, 10}, "end beyond the file": {0, 8, 0xFF, 0xFE}, "absent": {0xFF, 0xFF, 0xFF, 0xFF}} {
		b := bytes.Clone(vd)
		copy(b, header)
		if len(header) == 3 {
			b = header
		}
		if err := (&Data{}).decode(pd, b, nil, false); !errors.Is(err, ErrUnreadable) {
			t.Errorf("EF.VD %s: %v", name, err)
		}
	}
	if err := (&Data{}).decode(pd, vd, []byte{1}, true); !errors.Is(err, ErrUnreadable) {
		t.Error("broken EF.GVD was taken")
	}
	if err := (&Data{}).decode(pd, vd, []byte{1}, false); err != nil {
		t.Errorf("EF.GVD was looked at although it was not asked for: %v", err)
	}
}

// The copy of the protected data in EF.VD is another person's here: it must not come through (VSDM-A_2784).
func TestCopyInVDIsIgnored(t *testing.T) {
	t.Parallel()
	req.Covers(t, "VSDM-A_2784")
	packed := pack(t, wrap(documentVD.root, "", fullVD), true)
	foreign := pack(t, wrap(documentGVD.root, "", "<DMP_Kennzeichnung>2</DMP_Kennzeichnung>"), true)
	b := vdFile(packed)[:8+len(packed)]
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[6:], uint16(len(b)+len(foreign)-1))
	b = append(b, foreign...)
	d := &Data{}
	if err := d.decode(prefixed(pack(t, wrap(documentPD.root, "", fullPD), true)), b, nil, false); err != nil {
		t.Fatal(err)
	}
	if out := strings.Join(show(d.Sections), "\n"); strings.Contains(out, "dmp") || strings.Contains(out, SectionProtected) {
		t.Errorf("the copy is shown:\n%s", out)
	}
}

func TestReadFromCardImages(t *testing.T) {
	t.Parallel()
	for _, name := range []string{cardtest.ImageG2, cardtest.ImageG21} {
		for withGVD, commands := range map[bool]int{true: 5, false: 4} {
			img := cardtest.LoadImage(t, name)
			d, err := Read(t.Context(), img.Transmitter(), withGVD)
			if err != nil {
				t.Fatal(err)
			}
			protected := slices.ContainsFunc(d.Sections, func(s Section) bool { return s.ID == SectionProtected })
			if img.Sent != commands || protected != withGVD || d.HasGVD != withGVD || d.KVNR.IsZero() {
				t.Errorf("%s: %d commands, protected %v, number %v", name, img.Sent, protected, !d.KVNR.IsZero())
			}
		}
	}
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	req.Covers(t, "VSDM-A_2979", "VSDM-A_3035")
	img := func() *cardtest.Image { return cardtest.LoadImage(t, cardtest.ImageG21) }
	hidden := img()
	hidden.Hidden["DF.HCA"] = true
	if _, err := Read(t.Context(), hidden.Transmitter(), true); !errors.Is(err, ErrInactive) {
		t.Errorf("hidden health application: %v", err)
	}
	answer := func(inner apdu.Transmitter, sfid byte, r apdu.Response, fail error) apdu.Transmitter {
		return apdu.TransmitterFunc(func(ctx context.Context, c apdu.Command) (apdu.Response, error) {
			if c.INS == 0xB0 && c.P1 == 0x80|sfid {
				if r.Data == nil && r.SW == 0x6281 {
					r, err := inner.Transmit(ctx, c)
					r.SW = 0x6281
					return r, err
				}
				return r, fail
			}
			return inner.Transmit(ctx, c)
		})
	}
	status := func(text string) apdu.Response {
		return apdu.Response{Data: []byte(text + "\x00\x50\x02\x00\x00\x00\x30\x00\x00\x04"), SW: 0x9000}
	}
	otherStorage := status("020240131225959")
	otherStorage.Data[24] = 0x05
	for name, c := range map[string]struct {
		sfid byte
		r    apdu.Response
		fail error
		want error
	}{
		"update was broken off":     {0x0C, status("120240131225959"), nil, ErrInconsistent},
		"unknown storage structure": {0x0C, otherStorage, nil, ErrUnreadable},
		"status missing":            {0x0C, apdu.Response{SW: 0x6A82}, nil, ErrUnreadable},
		"status cut":                {0x0C, apdu.Response{Data: []byte("0"), SW: 0x9000}, nil, ErrUnreadable},
		"PD missing":                {0x01, apdu.Response{SW: 0x6A82}, nil, ErrUnreadable},
		"VD damaged":                {0x02, apdu.Response{Data: []byte{0}, SW: 0x9000}, nil, ErrUnreadable},
		"GVD locked":                {0x03, apdu.Response{SW: 0x6982}, nil, ErrUnreadable},
		"card pulled":               {0x03, apdu.Response{}, apdu.ErrCardRemoved, apdu.ErrCardRemoved},
	} {
		d, err := Read(t.Context(), answer(img().Transmitter(), c.sfid, c.r, c.fail), true)
		if !errors.Is(err, c.want) || d != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "card pulled" && errors.Is(err, ErrUnreadable) || name == "GVD locked" && !cos.IsResult(err, cos.ResultSecurityStatusNotSatisfied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d, err := Read(t.Context(), answer(img().Transmitter(), 0x01, apdu.Response{SW: 0x6281}, nil), true)
	if !cos.IsWarning(err) || !cos.IsResult(err, cos.ResultCorruptDataWarning) || d == nil {
		t.Errorf("warning about corrupt data: %v", err)
	}
}

func TestCheckDigits(t *testing.T) {
	t.Parallel()
	for _, s := range strings.Fields("A000500015 X110411675 A003290616 A003291012 A003290883 A002329189 A003286493 P684351840 F007658575 X110670799 T024791905 A819745621") {
		if !ValidKVNR(s) {
			t.Errorf("%s is refused", s)
		}
	}
	for _, s := range strings.Fields("A987654321 K220645129 T012345679 a000500015 A00050001 A00050001X A0005000155") {
		if ValidKVNR(s) {
			t.Errorf("%s is accepted", s)
		}
	}
	for _, s := range strings.Fields("109500969 101575519 104212059 260326822") {
		if !ValidIK(s) {
			t.Errorf("%s is refused", s)
		}
	}
	for _, s := range strings.Fields("108312459 10950096 1095009699 10950096X") {
		if ValidIK(s) {
			t.Errorf("%s is accepted", s)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(wrap(documentPD.root, "", fullPD)))
	f.Add([]byte(wrap(documentGVD.root, "", fullGVD)))
	f.Add([]byte(wrap(documentVD.root, "", fullVD)))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, doc := range []document{documentPD, documentVD, documentGVD} {
			leaves, err := doc.parse(text)
			if err != nil {
				continue
			}
			rows := 0
			for _, s := range arrange(leaves, Status{}) {
				rows += len(s.Rows)
			}
			full := 1
			for _, l := range leaves {
				if l.text != "" {
					full++
				}
			}
			if rows < full {
				t.Fatalf("%d rows of %d texts", rows, full)
			}
		}
	})
}

func FuzzFiles(f *testing.F) {
	f.Add(prefixed(pack(f, wrap(documentPD.root, "", fullPD), true)), vdFile(pack(f, wrap(documentVD.root, "", fullVD), true)), []byte("020240131225959\x00\x50\x02\x00\x00\x00\x30\x00\x00\x04"))
	f.Fuzz(func(t *testing.T, pd, vd, status []byte) {
		d := &Data{}
		if err := d.decode(pd, vd, pd, true); err == nil && len(d.Sections) == 0 {
			t.Fatal("no section")
		}
		if s, err := ParseStatus(status); err == nil && s.Version == "" {
			t.Fatal("no version")
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	pd, vd := prefixed(pack(b, wrap(documentPD.root, "", fullPD), true)), vdFile(pack(b, wrap(documentVD.root, "", fullVD), true))
	gvd := prefixed(pack(b, wrap(documentGVD.root, "", fullGVD), true))
	for b.Loop() {
		if err := (&Data{}).decode(pd, vd, gvd, true); err != nil {
			b.Fatal(err)
		}
	}
}
