package egk_test

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"ktradv/hw/cos"
	"ktradv/hw/egk"
	"ktradv/hw/internal/cardtest"
	"ktradv/internal/redact"
	"ktradv/internal/testdata"
)

const realVersion2 = "EF2BC003020000C103040502C210545359534954434F5345433230020400C403010000C503020000C703010000"

func TestVersion2(t *testing.T) {
	t.Parallel()
	v, err := egk.ParseVersion2(cardtest.Unhex(t, realVersion2+"000000"))
	if err != nil {
		t.Fatal(err)
	}
	if v.ObjectSystem.String() != "4.5.2" || v.Product.Manufacturer != "TSYSI" || v.Product.Name != "TCOSEC20" || v.Product.Version.String() != "2.4.0" ||
		v.Filling.String() != "2.0.0" || v.Logging.String() != "1.0.0" || v.ATR.String() != "2.0.0" || v.GDO.String() != "1.0.0" {
		t.Errorf("have %+v", v)
	}
	for _, bad := range []string{
		"", "EF", "EE03C10100", // no template
		"EF05C003020000",                                 // no object system version
		"EF04C1020405",                                   // version too short
		"EF0AC103040502C103040502",                       // twice
		"EF07C1030405 02C201",                            // product cut off
		"EF09C103040502C2020000",                         // product too short
		strings.Replace(realVersion2, "EF2B", "EF2C", 1), // longer than the file
	} {
		if v, err := egk.ParseVersion2(cardtest.Unhex(t, bad)); !errors.Is(err, egk.ErrMalformed) {
			t.Errorf("%s: %+v, %v", bad, v, err)
		}
	}
}

func TestGenerations(t *testing.T) {
	t.Parallel()
	for v, want := range map[egk.Version]egk.Generation{
		{2, 2, 0}: egk.G1, {3, 0, 2}: egk.G1, {3, 0, 3}: egk.G1Plus, {3, 9, 9}: egk.G1Plus,
		{4, 0, 0}: egk.G2, {4, 3, 3}: egk.G2, {4, 4, 0}: egk.G21, {4, 5, 2}: egk.G21, {5, 0, 0}: egk.G21,
	} {
		if got := v.Generation(); got != want {
			t.Errorf("%v is %v, want %v", v, got, want)
		}
	}
	if got := egk.Generation(17).String(); got != "unknown" {
		t.Errorf("impossible generation prints %s", got)
	}
}

func TestGDO(t *testing.T) {
	t.Parallel()
	n, err := egk.ParseGDO(cardtest.Unhex(t, "5A0A80276883110000152715"))
	if err != nil || n.Reveal() != "80276883110000152715" {
		t.Errorf("ICCSN %s, %v", n.Reveal(), err)
	}
	info := egk.Info{ICCSN: n}
	if got := info.ICCSN8(); hex.EncodeToString(got[:]) != "6883110000152715" {
		t.Errorf("ICCSN8 %x", got)
	}
	for _, bad := range []string{"", "5A", "5B0A80276883110000152715", "5A0980276883110000152715", "5A0A8027688311000015271A"} {
		if _, err := egk.ParseGDO(cardtest.Unhex(t, bad)); !errors.Is(err, egk.ErrMalformed) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestATR(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string][2]int{cardtest.ImageG2: {1033, 32770}, cardtest.ImageG21: {2057, 32770}} {
		a, err := egk.ParseATR(cardtest.LoadImage(t, name).Body("EF.ATR"))
		if err != nil {
			t.Fatal(err)
		}
		if a.Plain.Command != limits[0] || a.Plain.Response != limits[1] {
			t.Errorf("%s: limits %+v", name, a.Plain)
		}
		if a.Object.Manufacturer == "" {
			t.Errorf("%s: no name of the object system: %+v", name, a)
		}
	}
	a, err := egk.ParseATR(cardtest.Unhex(t, "D003040300"))
	if err != nil || a.Plain != cos.MinimumLimits || a.COS.String() != "4.3.0" {
		t.Errorf("without E0: %+v, %v", a, err)
	}
	for _, bad := range []string{"E0", "E00302010A", "E010020208090203008002020208090202FFFF", "E00C020101020101020101020101", "D0"} {
		if a, err := egk.ParseATR(cardtest.Unhex(t, bad)); !errors.Is(err, egk.ErrMalformed) {
			t.Errorf("%s: %+v, %v", bad, a, err)
		}
	}
}

func TestDIR(t *testing.T) {
	t.Parallel()
	img := cardtest.LoadImage(t, cardtest.ImageG21)
	var got []string
	for _, r := range img.Object("EF.DIR").Records {
		aid, err := egk.ParseDIRRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, hex.EncodeToString(aid))
	}
	if len(got) < 5 || got[0] != "d2760001448000" || got[1] != "d27600000102" {
		t.Errorf("applications %v", got)
	}
	for _, bad := range []string{"", "61", "62024F00", "61024F00", "610550030000 00", "61064F04D2760001FF"} {
		if aid, err := egk.ParseDIRRecord(cardtest.Unhex(t, bad)); !errors.Is(err, egk.ErrMalformed) {
			t.Errorf("%s: %x, %v", bad, aid, err)
		}
	}
}

func iccsn(t testing.TB, s string) redact.ICCSN {
	t.Helper()
	n, err := redact.NewICCSN(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestLogEntry(t *testing.T) {
	t.Parallel()
	// Public sample of gematik's reference implementation.
	const sample = "5D0CED6B313280276883110000017222" + "47454D2E534D43422D43413420544553542D4F4E4C592020202020202020"
	e, used, err := egk.DecodeLog(cardtest.Unhex(t, sample))
	if err != nil || !used {
		t.Fatal(used, err)
	}
	if e.Time.Format(time.RFC3339) != "2019-06-21T14:44:59Z" || e.Data != '1' || e.Access != '2' ||
		e.ActorICCSN.Reveal() != "80276883110000017222" || e.ActorName.Reveal() != "GEM.SMCB-CA4 TEST-ONLY" {
		t.Errorf("have %v %c %c %s %s", e.Time, e.Data, e.Access, e.ActorICCSN.Reveal(), e.ActorName.Reveal())
	}
	back, err := e.Encode()
	if err != nil || !strings.EqualFold(hex.EncodeToString(back), sample) {
		t.Errorf("encoded %x, %v", back, err)
	}
}

func TestLogEntryCutsBetweenCharacters(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"Musterkrankenkasse Nordrhein-Westfalen": "Musterkrankenkasse Nordrhein-W",
		strings.Repeat("ü", 20):                  strings.Repeat("ü", 15),
		"a" + strings.Repeat("ü", 20):            "a" + strings.Repeat("ü", 14),
		strings.Repeat("€", 11):                  strings.Repeat("€", 10),
		"ab" + strings.Repeat("😀", 9):            "ab" + strings.Repeat("😀", 7),
		"Kasse":                                  "Kasse",
	} {
		e := egk.LogEntry{Time: time.Unix(1700000000, 0), Data: egk.LogDataAdV, Access: egk.LogAccessGeneral,
			ActorICCSN: iccsn(t, "80276003110000000001"), ActorName: redact.NewString(name)}
		b, err := e.Encode()
		if err != nil || len(b) != 46 || !utf8.Valid(b[16:]) {
			t.Fatalf("%s: %x, %v", name, b, err)
		}
		got, _, err := egk.DecodeLog(b)
		if err != nil || got.ActorName.Reveal() != want {
			t.Errorf("%s becomes %q, want %q (%v)", name, got.ActorName.Reveal(), want, err)
		}
	}
}

func TestLogEntryRefusesWhatTellsNothing(t *testing.T) {
	t.Parallel()
	good := egk.LogEntry{Time: time.Unix(1700000000, 0), Data: 'v', Access: 'Z', ActorICCSN: iccsn(t, "80276003110000000001"), ActorName: redact.NewString("x")}
	if _, err := good.Encode(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*egk.LogEntry){
		"no time":      func(e *egk.LogEntry) { e.Time = time.Time{} },
		"before 1970":  func(e *egk.LogEntry) { e.Time = time.Unix(-1, 0) },
		"after 2106":   func(e *egk.LogEntry) { e.Time = time.Unix(1<<32, 0) },
		"no data type": func(e *egk.LogEntry) { e.Data = 0 },
		"no access":    func(e *egk.LogEntry) { e.Access = 0x80 },
		"no actor":     func(e *egk.LogEntry) { e.ActorICCSN = redact.ICCSN{} },
		"no name":      func(e *egk.LogEntry) { e.ActorName = redact.String{} },
	} {
		e := good
		change(&e)
		if b, err := e.Encode(); err == nil {
			t.Errorf("%s: encoded as %x", name, b)
		}
	}
}

func TestLogFiles(t *testing.T) {
	t.Parallel()
	dir := testdata.Dir(t, "vsdm")
	files, err := filepath.Glob(filepath.Join(dir, "cards", "*", "EF.Logging.hex"))
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	for _, name := range append(files, filepath.Join(dir, "made", "logging", "EF.Logging.hex")) {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for _, line := range strings.Fields(string(raw)) {
			e, used, err := egk.DecodeLog(cardtest.Unhex(t, line))
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if used {
				count++
				if e.ActorName.Reveal() == "" || e.Time.Year() < 2010 {
					t.Errorf("%s: entry without name or time: %s", name, line)
				}
			}
		}
		made := strings.Contains(name, "made")
		if made && count == 0 || !made && count != 0 {
			t.Errorf("%s: %d used records", name, count)
		}
	}
	// A name in ISO-8859-15 instead of UTF-8, and a card number that is none.
	e, used, err := egk.DecodeLog(cardtest.Unhex(t, "6553f100 324e 80276883110000141FFF 4DFC6C6C6572A4"+strings.Repeat("00", 23)))
	if err != nil || !used || e.ActorName.Reveal() != "Müller€" || !e.ActorICCSN.IsZero() {
		t.Errorf("%q %v %v %v", e.ActorName.Reveal(), e.ActorICCSN.IsZero(), used, err)
	}
	if _, _, err := egk.DecodeLog(make([]byte, 45)); !errors.Is(err, egk.ErrMalformed) {
		t.Errorf("45 octets: %v", err)
	}
}

func FuzzFiles(f *testing.F) {
	f.Add(cardtest.Unhex(f, realVersion2))
	f.Add(cardtest.Unhex(f, "5A0A80276883110000152715"))
	f.Add(cardtest.Unhex(f, "E01102020409020300800202020409020204095F520C806605444573696d739621f0D003040300"))
	f.Add(cardtest.Unhex(f, "61094f07d2760001448000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := egk.ParseVersion2(b); err == nil && v.ObjectSystem.Generation() == egk.GUnknown {
			t.Fatal("no generation")
		}
		if n, err := egk.ParseGDO(b); err == nil && len(n.Reveal()) != 20 {
			t.Fatal("no ICCSN")
		}
		if a, err := egk.ParseATR(b); err == nil && a.Plain.Command < cos.ShortLimits.Response {
			t.Fatalf("limits %+v", a.Plain)
		}
		if aid, err := egk.ParseDIRRecord(b); err == nil && len(aid) == 0 {
			t.Fatal("empty AID")
		}
		if e, used, err := egk.DecodeLog(b); err == nil && used && !utf8.ValidString(e.ActorName.Reveal()) {
			t.Fatal("name is no UTF-8")
		}
	})
}

func FuzzLogEntry(f *testing.F) {
	f.Add(int64(1700000000), byte('v'), byte('Z'), "Krankenkasse Süd")
	f.Fuzz(func(t *testing.T, sec int64, data, access byte, name string) {
		e := egk.LogEntry{Time: time.Unix(sec, 0), Data: data, Access: access, ActorICCSN: iccsn(t, "80276003110000000001"), ActorName: redact.NewString(name)}
		b, err := e.Encode()
		if err != nil {
			return
		}
		back, used, err := egk.DecodeLog(b)
		if err != nil || !used || back.Data != data || back.Access != access || !back.Time.Equal(e.Time) {
			t.Fatalf("%x gives %+v, %v, %v", b, back, used, err)
		}
	})
}
