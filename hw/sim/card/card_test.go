package card_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ktradv/hw/sim/card"
	"ktradv/hw/sim/card/objsys"
	"ktradv/internal/brainpool"
)

// rig is a card with everything a test may want to look at.
type rig struct {
	*card.Card
	t      testing.TB
	sys    *card.System
	own    *brainpool.PrivateKey // PrK.eGK.AUT_CVC
	sign   *brainpool.PrivateKey // PrK.CH.AUT.E256
	root   *brainpool.PrivateKey // of PuK.RCA.CS.E256
	masked []string
}

const (
	pin   = "26123456FFFFFFFF"
	fresh = "26654321FFFFFFFF"
	puk   = "2812345678FFFFFF"

	selectMF    = "00A4040C"
	selectHCA   = "00A4040C06D27600000102"
	selectESIGN = "00A4040C0AA000000167455349474E"
)

var rootCAR = []byte{'K', 'T', 'S', 'I', 'M', 0x87, 0x02, 0x25}

func key(t testing.TB) *brainpool.PrivateKey {
	t.Helper()
	k, err := brainpool.GenerateKey(brainpool.P256r1(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// deterministic is a generator for tests that must run the same way twice.
func deterministic(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

type options struct {
	generation string
	iface      card.Interface
	prepare    func(*card.System)
}

func insert(t testing.TB, o options) *rig {
	t.Helper()
	build := objsys.G21
	if o.generation == "G2" {
		build = objsys.G2
	}
	sys, err := build()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, sys: sys, own: key(t), sign: key(t), root: key(t)}
	copy(sys.ICCSN8[:], []byte{0x00, 0x03, 0x11, 0, 0, 0, 0x12, 0x34})
	sys.PointInTime = card.Date{2, 5, 0, 1, 0, 1}
	sys.Root.Walk(func(path string, x card.Object) {
		switch x := x.(type) {
		case *card.Password:
			x.Secret, x.PUK = block(t, "123456"), block(t, "12345678")
		case *card.File:
			if x.Structure == card.Transparent {
				x.Body = bytes.Repeat([]byte{0xAB}, min(x.Size, 100))
			} else if x.Structure != card.LinearVariable {
				for i := range x.MaxRecords {
					x.Records = append(x.Records, card.Record{Data: bytes.Repeat([]byte{byte(i + 1)}, x.MaxRecord)})
				}
			}
		case *card.PrivateKey:
			switch x.Name {
			case "PrK.eGK.AUT_CVC.E256":
				x.EC = r.own
			case "PrK.CH.AUT.E256":
				x.EC = r.sign
			}
		case *card.PublicKey:
			x.Ref, x.Key, x.Expires = slices.Clone(rootCAR), r.root.Public(), card.Date{3, 5, 0, 1, 0, 1}
			if x.CHAT.OID == card.FlagsCMS {
				x.Ref = []byte{0, 0, 0, 0, 0, 0, 0, 0x13}
			}
		}
	})
	// EF.ATR without an announcement leaves the smallest buffers.
	if o.prepare != nil {
		o.prepare(sys)
	}
	r.Card, err = card.New(sys, card.Config{Interface: o.iface, OnMask: func(chr []byte, asked, granted card.Flags) {
		r.masked = append(r.masked, fmt.Sprintf("%X %X %X", chr, asked, granted))
	}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func block(t testing.TB, digits string) card.Block {
	t.Helper()
	b, err := card.NewBlock(digits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// do sends a command and returns the data; the status word must be want.
func (r *rig) do(cmd, want string) []byte {
	r.t.Helper()
	got := r.Process(unhex(r.t, cmd))
	if len(got) < 2 {
		r.t.Fatalf("%s: no response", cmd)
	}
	if sw := fmt.Sprintf("%X", got[len(got)-2:]); sw != want {
		r.t.Fatalf("%s: %s, want %s", cmd, sw, want)
	}
	return got[:len(got)-2]
}

// script runs lines of the form "command -> status".
func (r *rig) script(lines string) {
	r.t.Helper()
	for line := range strings.SplitSeq(strings.TrimSpace(lines), "\n") {
		cmd, want, ok := strings.Cut(strings.TrimSpace(line), " -> ")
		if !ok {
			r.t.Fatalf("line %q", line)
		}
		r.do(cmd, want)
	}
}

func role(bits ...int) card.CHAT { return card.CHAT{OID: card.FlagsTI, Flags: card.Flag(bits...)} }

// Profile flag lists of the reference, section 1.9.
var (
	chat1  = card.CHAT{OID: card.FlagsTI, Flags: card.Flags{0x00, 0xAE, 0x1A, 0xCD, 0xC1, 0xDC, 0x00}}
	chat2A = card.CHAT{OID: card.FlagsTI, Flags: card.Flags{0x00, 0x5D, 0x29, 0xDA, 0xA0, 0xBB, 0x00}}
)

// Each command against each state of the channel: which of them open it is
// written down here from the reference, not computed from the rules.
func TestAccessRules(t *testing.T) {
	t.Parallel()
	states := map[string]func(r *rig){
		"nothing":     func(*rig) {},
		"PIN.CH":      func(r *rig) { r.do("0020000108"+pin, "9000") },
		"MRPIN.home":  func(r *rig) { r.do("0020000208"+pin, "9000") },
		"CHAT.1":      func(r *rig) { r.SetRole(chat1) },
		"CHAT.1+PIN":  func(r *rig) { r.do("0020000108"+pin, "9000"); r.SetRole(chat1) },
		"CHAT.2A":     func(r *rig) { r.SetRole(chat2A) },
		"CHAT.2A+PIN": func(r *rig) { r.do("0020000108"+pin, "9000"); r.SetRole(chat2A) },
		"f33+PIN":     func(r *rig) { r.do("0020000108"+pin, "9000"); r.SetRole(role(33)) },
		"CMS flag 33": func(r *rig) {
			r.do("0020000108"+pin, "9000")
			r.SetRole(card.CHAT{OID: card.FlagsCMS, Flags: card.Flag(33, 32, 29)})
		},
		"wrong PIN":    func(r *rig) { r.do("0020000108"+pin, "9000"); r.do("0020000108"+fresh, "63C2") },
		"AMTS+CHAT.2A": func(r *rig) { r.do("0020000C08"+pin, "9000"); r.SetRole(chat2A) },
		"reset":        func(r *rig) { r.do("0020000108"+pin, "9000"); r.SetRole(chat1); r.Reset(true) },
	}
	nfd, dpe, amts := "00A4040C06D27600014407", "00A4040C06D27600014408", "00A4040C06D2760001440C"
	for _, tt := range []struct {
		name, folder, cmd string
		opens             []string
	}{
		{"EF.PD", selectHCA, "00B0810005", []string{"*"}},
		{"EF.GVD", selectHCA, "00B0830005", []string{"MRPIN.home", "CHAT.1+PIN", "CHAT.2A", "CHAT.2A+PIN", "AMTS+CHAT.2A"}},
		{"read EF.Logging", selectHCA, "00B2013400", []string{"MRPIN.home", "CHAT.1+PIN", "f33+PIN"}},
		{"append EF.Logging", selectHCA, "00E200302E" + strings.Repeat("41", 46), []string{"CHAT.1", "CHAT.1+PIN", "CHAT.2A", "CHAT.2A+PIN", "AMTS+CHAT.2A"}},
		{"write EF.PD", selectHCA, "00D6810001AA", nil},
		{"deactivate DF.HCA", selectHCA, "00040000", nil},
		{"EF.Einwilligung", selectHCA, "00B2012C00", []string{"MRPIN.home", "CHAT.1+PIN", "CHAT.2A+PIN"}},
		{"write EF.Einwilligung", selectHCA, "00DC012C45" + strings.Repeat("41", 69), []string{"CHAT.2A+PIN"}},
		{"EF.Verweis", selectHCA, "00B2014C00", []string{"MRPIN.home", "CHAT.1+PIN", "CHAT.2A+PIN"}},
		{"EF.Standalone", selectHCA, "00D68A0001AA", []string{"*"}},
		{"EF.NFD", nfd, "00B0900005", []string{"CHAT.2A", "CHAT.2A+PIN", "AMTS+CHAT.2A"}},
		{"hide DF.NFD", nfd, "00040000", []string{"MRPIN.home", "CHAT.1+PIN", "f33+PIN", "CHAT.1"}}, // CHAT.1 alone: MRPIN.NFD is switched off, f14
		{"EF.DPE", dpe, "00B09B0005", []string{"MRPIN.home", "CHAT.1+PIN", "f33+PIN", "CHAT.2A", "CHAT.2A+PIN", "AMTS+CHAT.2A"}},
		{"write EF.DPE", dpe, "00D69B0001AA", []string{"CHAT.1+PIN", "f33+PIN", "CHAT.1", "CHAT.2A", "CHAT.2A+PIN", "AMTS+CHAT.2A"}}, // MRPIN.DPE is off, f20
		{"EF.AMTS", amts, "00B0850005", []string{"AMTS+CHAT.2A"}},
		{"hide DF.AMTS", amts, "00040000", []string{"MRPIN.home", "CHAT.1+PIN", "f33+PIN"}},
		{"C.CH.AUT", selectESIGN, "00B0840005", []string{"*"}},
		{"C.CH.AUTN", selectESIGN, "00B08B0005", []string{"MRPIN.home", "CHAT.1+PIN", "CHAT.2A", "CHAT.2A+PIN", "AMTS+CHAT.2A"}},
		{"C.CH.ENCV", selectESIGN, "00B08C0005", []string{"MRPIN.home", "CHAT.1+PIN", "CHAT.2A", "CHAT.2A+PIN", "AMTS+CHAT.2A"}},
		{"PIN.AMTS_REP", selectMF, "0024010D08" + fresh, []string{"PIN.CH", "CHAT.1+PIN", "CHAT.2A+PIN", "f33+PIN", "CMS flag 33"}},
		{"EF.DIR", selectMF, "00E200F0026100", nil},
		{"root key", selectMF, "00E421000A8308" + hex.EncodeToString(rootCAR), nil},
		{"terminate", selectMF, "00E80000", nil},
		{"load application", selectMF, "00EA00000100", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for name, enter := range states {
				r := insert(t, options{})
				enter(r)
				r.do(tt.folder, "9000")
				got := r.Process(unhex(t, tt.cmd))
				denied := bytes.Equal(got, []byte{0x69, 0x82})
				want := slices.Contains(tt.opens, name) || slices.Equal(tt.opens, []string{"*"})
				if denied == want {
					t.Errorf("%s: % X", name, got[len(got)-2:])
				}
				if sw := got[len(got)-2]; !denied && sw != 0x90 {
					t.Errorf("%s: % X", name, got[len(got)-2:])
				}
			}
		})
	}
}

func TestRightsOfG2(t *testing.T) {
	t.Parallel()
	r := insert(t, options{generation: "G2"})
	nfd := "00A4040C06D27600014407"
	r.script(`
		80200003 -> 6A88
		80200083 -> 6A88
		80200001 -> 63C3
		` + nfd + ` -> 9000
		80200083 -> 62D0
		80200087 -> 63C3
		80200003 -> 6A88
		0020008708` + pin + ` -> 9000
		80200087 -> 9000
		00B0900005 -> 6982
		00280083082` + pin[1:] + ` -> 9000
		80200083 -> 63C3
		` + selectHCA + ` -> 9000
		80200087 -> 6A88
		` + nfd + ` -> 9000
		80200087 -> 63C3
		0020008708` + pin + ` -> 9000
	`)
	r.SetRole(role(17))
	r.do("00B0900005", "9000")
	// The state of the folder's password is lost on leaving the folder, that
	// of the MF is not.
	r.script(`
		0020000108` + pin + ` -> 9000
		` + selectESIGN + ` -> 9000
		80200001 -> 9000
		` + nfd + ` -> 9000
		00B0900005 -> 6982
		` + selectMF + ` -> 9000
		8084000008 -> 6982
	`)
	// Log entry with PIN and f31, which G2.1 no longer knows.
	r.SetRole(role(31))
	r.script(selectHCA + " -> 9000\n00E200302E" + strings.Repeat("41", 46) + " -> 9000")
}

func TestVerify(t *testing.T) {
	t.Parallel()
	r := insert(t, options{})
	r.script(`
		80200001 -> 63C3
		0020000108` + fresh + ` -> 63C2
		80200001 -> 63C2
		80200002 -> 63C2
		0020000108` + pin + ` -> 9000
		80200001 -> 9000
		80200002 -> 63C3
		0020000108` + fresh + ` -> 63C2
		80200001 -> 63C2
		0020000208` + fresh + ` -> 63C1
		0020000508` + fresh + ` -> 63C0
		0020000108` + pin + ` -> 6983
		0020000208` + pin + ` -> 6983
		80200001 -> 63C0
		0024000110` + pin + fresh + ` -> 6983
		0020000E08` + pin + ` -> 6A88
		0020010108` + pin + ` -> 6A86
		00200001 -> 6700
		00200001072612345678FFFF -> 6700
		8020000108` + pin + ` -> 6700
		0020004108` + pin + ` -> 6A88
		0020008108` + pin + ` -> 6A88
	`)
	r.Reset(false)
	r.do("80200001", "63C0") // the counter outlives the reset
}

func TestMalformedPINBlocksAreWrongPINs(t *testing.T) {
	t.Parallel()
	for _, b := range []string{
		"16123456FFFFFFFF", // control nibble
		"25123456FFFFFFFF", // length
		"2612345600000000", // padding
		"26123456FFFFFFF0",
		"313233343536FFFF", // digits in ASCII
		"FFFFFFFFFFFFFFFF",
		"0000000000000000",
	} {
		r := insert(t, options{})
		r.do("0020000108"+b, "63C2")
		r.do("80200001", "63C2")
	}
}

func TestChange(t *testing.T) {
	t.Parallel()
	r := insert(t, options{})
	r.script(`
		0024000110` + fresh + pin + ` -> 63C2
		0024000110` + pin + `2512345FFFFFFFFF -> 6985
		0024000110` + pin + `29123456789FFFFF -> 6985
		0024000110` + pin + `2612345AFFFFFFFF -> 6985
		0024000110` + pin + `26123456FFFFFF00 -> 6985
		0024000110` + pin + `1612345600000000 -> 6985
		80200001 -> 63C2
		0024000108` + pin + ` -> 6700
		0024020110` + pin + fresh + ` -> 6A86
		0024010108` + fresh + ` -> 6982
		0024000110` + pin + `267654321FFFFFFF -> 6985
		0024000110` + pin + `277654321FFFFFFF -> 9000
		80200001 -> 9000
		80200002 -> 63C3
		0020000208277654321FFFFFFF -> 9000
		0020000108` + pin + ` -> 63C2
	`)
}

func TestResetRetryCounter(t *testing.T) {
	t.Parallel()
	blocked := func(sys *card.System) { sys.Root.Lookup("MF/PIN.CH").(*card.Password).Retry = 0 }
	r := insert(t, options{prepare: blocked})
	r.script(`
		002C010108` + fresh + ` -> 63C9
		80200001 -> 63C0
		002C010108` + puk + ` -> 9000
		80200001 -> 63C3
		002C000110` + puk + `2512345FFFFFFFFF -> 6985
		002C000110` + puk + `2576543FFFFFFFFF -> 6985
		002C000110` + puk + `2676543AFFFFFFFF -> 6985
		002C000110` + puk + `26765432FFFFFFFF -> 9000
		80200001 -> 63C3
		002000010826765432FFFFFFFF -> 9000
		002C020108` + pin + ` -> 6982
		002C0301 -> 6982
		002C0401 -> 6A86
		002C000108` + puk + ` -> 6700
		002C010208` + puk + ` -> 9000
	`)
	// Six of ten uses are left, right or wrong.
	for left := 5; left >= 0; left-- {
		r.do("002C010108"+fresh, fmt.Sprintf("63C%X", left))
	}
	r.do("002C010108"+puk, "6983")
	r.do("80200001", "9000") // none of that took the state away
}

func TestTransport(t *testing.T) {
	t.Parallel()
	with := func(s card.Transport, digits string) options {
		return options{prepare: func(sys *card.System) {
			p := sys.Root.Lookup("MF/PIN.CH").(*card.Password)
			p.Transport = s
			p.Secret = card.NoSecret
			if digits != "" {
				b, err := card.NewBlock(digits)
				if err != nil {
					panic(err)
				}
				p.Secret = b
			}
		}}
	}
	r := insert(t, with(card.TransportPIN, "54321"))
	r.script(`
		80200001 -> 62C1
		80200002 -> 62C1
		80200003 -> 62C1
		00200001082554321FFFFFFFFF -> 6985
		0020000208` + pin + ` -> 6985
		002C010108` + puk + ` -> 6985
		0028000308` + pin + ` -> 6985
		0024010108` + pin + ` -> 6982
		00240001102512345FFFFFFFFF` + pin + ` -> 63C2
		80200001 -> 62C1
		00240001102554321FFFFFFFFF` + pin + ` -> 9000
		80200001 -> 9000
		80200002 -> 63C3
	`)
	r = insert(t, with(card.EmptyPIN, ""))
	r.script(`
		80200001 -> 62C7
		0020000108` + pin + ` -> 6985
		002000010820FFFFFFFFFFFFFF -> 6985
		002400011020FFFFFFFFFFFFFF` + pin + ` -> 6985
		0024010108` + pin + ` -> 6982
		80200001 -> 62C7
	`)
	// A rule for CHANGE with P1 = 01 is all a card with an empty PIN needs.
	o := with(card.EmptyPIN, "")
	set := o.prepare
	o.prepare = func(sys *card.System) {
		set(sys)
		p := sys.Root.Lookup("MF/PIN.CH").(*card.Password)
		rules := &p.Rules.Contact[0].Rules
		*rules = append(*rules, card.Rule{Patterns: []card.Pattern{{0x00, 0x24, 0x01, 0x01}}, Cond: card.Cond{Op: card.Always}})
	}
	insert(t, o).script(`
		0024010108` + pin + ` -> 9000
		80200001 -> 9000
		0020000208` + pin + ` -> 9000
	`)
}

func TestEnableAndDisable(t *testing.T) {
	t.Parallel()
	insert(t, options{}).script(`
		80200003 -> 62D0
		0028000308` + fresh + ` -> 63C2
		80200003 -> 62D0
		0028000308` + pin + ` -> 9000
		80200003 -> 63C3
		0020000308` + pin + ` -> 9000
		80200003 -> 9000
		0026000308` + pin + ` -> 9000
		80200003 -> 62D0
		0026000108` + pin + ` -> 6982
		0026000208` + pin + ` -> 6982
		0026000908` + pin + ` -> 6982
		0028000508` + pin + ` -> 9000
		00280103 -> 6982
		0028020308` + pin + ` -> 6A86
	`)
}

func TestSelect(t *testing.T) {
	t.Parallel()
	r := insert(t, options{prepare: func(sys *card.System) {
		sys.Root.Lookup("MF/DF.HCA/DF.NFD").(*card.Folder).State = card.Deactivated
		sys.Root.Lookup("MF/DF.HCA/DF.OSE").(*card.Folder).State = card.Terminated
		sys.Root.Lookup("MF/EF.Version2").(*card.File).State = card.Deactivated
	}})
	r.script(`
		00A4040C -> 9000
		00A4040C07D2760001448000 -> 9000
		00A4040C06D27600014606 -> 6A82
		00A4020C022F02 -> 9000
		00B0000005 -> 9000
		00A4020C02D001 -> 6A82
		00B0000005 -> 9000
		00A4040C06D27600000102 -> 9000
		00B0000005 -> 6986
		00A4020C02D001 -> 9000
		00A4030C -> 9000
		00A4030C -> 6A82
		00A4040C06D27600014407 -> 6283
		00B0900005 -> 6982
		00A4020C02D010 -> 6283
		00A4040C06D2760001440B -> 6285
		00A4040C -> 9000
		00A4020C022F11 -> 6283
		00B0910005 -> 6982
		00A4010C023F00 -> 6A82
		00A4050C -> 6A86
		00A40400 -> 6A86
		00A4040400 -> 9000
		00A4040C00 -> 6700
		00A40404 -> 6700
		00A4020C012F -> 6700
		00A4040C05D276000001 -> 9000
		00A4040E04D2760001 -> 6283
		00A4040E04D2760001 -> 9000
	`)
	// The two last commands went from DF.HCA to DF.NFD and to DF.DPE.
	if fcp := r.do("00A4030400", "9000"); !bytes.Contains(fcp, []byte{0x84, 0x06, 0xD2, 0x76, 0x00, 0x00, 0x01, 0x02}) {
		t.Errorf("parent of DF.DPE: % X", fcp)
	}
	r.do("00A4040406D2760001440700", "6283")
}

// With a current file DEACTIVATE means the file, else the folder.
func TestDeactivatedApplication(t *testing.T) {
	t.Parallel()
	r := insert(t, options{})
	r.do("0020000208"+pin, "9000")
	r.script(`
		00A4040C06D27600014408 -> 9000
		00B09B0005 -> 9000
		00040000 -> 6982
		00A4040C06D27600014408 -> 9000
		00040000 -> 9000
		00B09B0005 -> 6982
		00A4040C -> 9000
		00A4040C06D27600014408 -> 6283
		00440000 -> 9000
		00B09B0005 -> 9000
	`)
	r.Reset(false)
	r.script(`
		00A4040C06D27600014408 -> 9000
		00040000 -> 6982
	`)
}

func TestTransparentFiles(t *testing.T) {
	t.Parallel()
	r := insert(t, options{prepare: func(sys *card.System) {
		f := sys.Root.Lookup("MF/DF.HCA/EF.Standalone").(*card.File)
		f.Body = []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
		sys.Root.Lookup("MF/DF.HCA/EF.Pruefungsnachweis").(*card.File).Body = nil
	}})
	r.do(selectHCA, "9000")
	for _, tt := range []struct{ cmd, want, sw string }{
		{"00B08A0000", "0102030405060708090A", "9000"},
		{"00B08A00000000", "0102030405060708090A", "9000"},
		{"00B08A000A", "0102030405060708090A", "9000"},
		{"00B08A000B", "0102030405060708090A", "6282"},
		{"00B08A0803", "090A", "6282"},
		{"00B0000402", "0506", "9000"},
		{"00B08A0A00", "", "6B00"},
		{"00B0010000", "", "6B00"},
		{"00B09C0000", "", "6B00"}, // an empty file
		{"00B08600", "", "6700"},
		{"00B0860000", "", "6981"}, // EF.Logging
		{"00B0870000", "", "6A82"},
		{"00B0800000", "", "6A86"},
		{"00B0FF0000", "", "6A86"},
		{"00B08A000101FF", "", "6700"},
	} {
		if got := r.do(tt.cmd, tt.sw); !bytes.Equal(got, unhex(t, tt.want)) {
			t.Errorf("%s: % X", tt.cmd, got)
		}
	}
	r.script(`
		00D68A0202AABB -> 9000
		00D68A0C02CCDD -> 9000
		00D68A00 -> 6700
	`)
	if got := r.do("00B08A0000", "9000"); !bytes.Equal(got, unhex(t, "0102AABB05060708090A0000CCDD")) {
		t.Errorf("after UPDATE: % X", got)
	}
	r.script(`
		80DC000000 -> 6D00
		00D0000002EEFF -> 9000
		00D0000102EEFF -> 6A86
		800E8A04 -> 9000
		000E8A01 -> 9000
		800E8A05 -> 6B00
		000E8A05 -> 6B00
		00D6038301AA -> 9000
		00D6038401AA -> 6A84
	`)
	if got := r.do("00B08A0000", "9000"); !bytes.HasPrefix(got, unhex(t, "010000000000")) {
		t.Errorf("after ERASE: % X", got)
	}
	r.SetFaults(card.Faults{MemoryFailure: 1})
	r.script(`
		00D68A000199 -> 6581
		00B08A0001 -> 9000
		00D68A000199 -> 9000
	`)
}

func TestLongResponses(t *testing.T) {
	t.Parallel()
	r := insert(t, options{prepare: func(sys *card.System) {
		sys.Root.Lookup("MF/DF.ESIGN/EF.C.CH.AUT.E256").(*card.File).Body = bytes.Repeat([]byte{7}, 1900)
		sys.Root.Lookup("MF/EF.ATR").(*card.File).Body = unhex(t, "E010020110020204000201FF02020400")
	}})
	r.do(selectESIGN, "9000")
	if n := len(r.do("00B0840000", "9000")); n != 256 {
		t.Errorf("short: %d octets", n)
	}
	if n := len(r.do("00B08400000100", "9000")); n != 256 {
		t.Errorf("Le 256: %d octets", n)
	}
	r = insert(t, options{prepare: func(sys *card.System) {
		sys.Root.Lookup("MF/DF.ESIGN/EF.C.CH.AUT.E256").(*card.File).Body = bytes.Repeat([]byte{7}, 1900)
		sys.Root.Lookup("MF/EF.ATR").(*card.File).Body = unhex(t, "E01002020100020203E80202010002020400")
	}})
	r.do(selectESIGN, "9000")
	if n := len(r.do("00B08400000000", "9000")); n != 1000-2 {
		t.Errorf("limited by the buffer: %d octets", n)
	}
	long := "00D6840000FA" + strings.Repeat("00", 250)
	if got := r.Process(unhex(t, long)); !bytes.Equal(got, []byte{0x67, 0x00}) {
		t.Errorf("command longer than the buffer: % X", got)
	}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	r := insert(t, options{})
	r.do("0020000208"+pin, "9000")
	r.SetRole(chat1)
	r.do(selectHCA, "9000")
	entry := func(b string) string { return strings.Repeat(b, 46) }
	first := func() byte { return r.do("00B2013400", "9000")[0] }
	if first() != 1 {
		t.Error("record 1 at the start")
	}
	r.script(`
		00E200302E` + entry("C1") + ` -> 9000
		00E200302E` + entry("C2") + ` -> 9000
		00E200302D` + entry("C3")[2:] + ` -> 6700
		00E2003001C3 -> 6700
		00E201302E` + entry("C3") + ` -> 6A86
		00E200342E` + entry("C3") + ` -> 6A86
		00B2033400 -> 9000
		00B2333400 -> 6A83
		00B2003400 -> 6A83
		00B2013500 -> 6A86
		00B2013C00 -> 6A82
		00B2010C00 -> 6981
		00B2013430 -> 6282
		00B2013404 -> 9000
		00A4040C -> 9000
		00B2010400 -> 6986
		` + selectHCA + ` -> 9000
	`)
	if first() != 0xC2 || r.do("00B2023400", "9000")[0] != 0xC1 || r.do("00B2033400", "9000")[0] != 1 || r.do("00B2323400", "9000")[0] != 48 {
		t.Error("the cyclic file does not turn")
	}
	if got := r.do("00A2013402C1C100", "9000"); !bytes.Equal(got, []byte{2}) {
		t.Errorf("SEARCH RECORD: % X", got)
	}
	r.script(`
		00A2033402C1C100 -> 6282
		00A2333402C1C100 -> 6A83
	`)
	// Records with a state of their own.
	r.script(`
		0006014C -> 9000
		00B2014C00 -> 6287
		00B2024C00 -> 9000
		0008014C -> 9000
		00B2014C00 -> 9000
		0006034D -> 9000
		00B2024C00 -> 9000
		00B20A4C00 -> 6287
		00060B4C -> 6A83
		00060134 -> 6982
	`)
	r.do("00A4040C06D2760001440A", "9000")
	r.script(`
		00E2009804AABBCCDD -> 9000
		00E200983D` + strings.Repeat("00", 61) + ` -> 6700
		00E200983C` + strings.Repeat("11", 60) + ` -> 9000
		00DC019C02EEFF -> 9000
		00B2019C00 -> 9000
		000C019C -> 9000
		800C019C -> 9000
		00B2029C00 -> 6A83
		00B2019C3C -> 9000
	`)
	for range 9 {
		r.do("00E200983C"+strings.Repeat("11", 60), "9000")
	}
	r.do("00E2009801AA", "6A84") // 600 octets are used up
	ose := insert(t, options{})
	ose.do("0020000208"+pin, "9000")
	ose.do("00A4040C06D2760001440A", "9000")
	for range 20 {
		ose.do("00E200D001AA", "9000")
	}
	ose.do("00E200D001AA", "6A84") // 20 records
}

func TestClassesAndChannels(t *testing.T) {
	t.Parallel()
	insert(t, options{}).script(`
		0070000001 -> 6981
		01A4040C -> 6881
		8320000102 -> 6881
		01708000 -> 6881
		00708000 -> 6A86
		0020000108` + pin + ` -> 9000
		80200001 -> 9000
		00704001 -> 9000
		80200001 -> 63C3
		0020000108` + pin + ` -> 9000
		00704000 -> 9000
		80200001 -> 63C3
		40A4040C -> 6E00
		FFA4040C -> 6E00
		04A4040C -> 6E00
		08A4040C -> 6E00
		90A4040C -> 6D00
		10A4040C -> 6D00
		00A5040C -> 6D00
		80A4040C -> 6D00
		0CA4040C -> 6988
	`)
	r := insert(t, options{})
	for _, b := range []string{"", "00", "00A4", "00A404", "00A4040C0000", "00A4040C0700", "00A4040C000000FF0000", "00A4040C02AABBCCDD", "00A4040C000002AABBCC", "00A4040C000002AABBCCDDEE"} {
		if got := r.Process(unhex(t, b)); !bytes.Equal(got, []byte{0x67, 0x00}) {
			t.Errorf("%s: % X", b, got)
		}
	}
}

func TestResets(t *testing.T) {
	t.Parallel()
	r := insert(t, options{})
	cold, warm := r.Reset(false), r.Reset(true)
	if bytes.Equal(cold, warm) || !bytes.Equal(r.ATR(), warm) || !bytes.Equal(cold, r.sys.ColdATR) {
		t.Errorf("ATR cold % X, warm % X", cold, warm)
	}
	r.do("0020000108"+pin, "9000")
	r.do("80200001", "9000")
	r.PowerDown()
	r.do("80200001", "63C3")
	if !bytes.Equal(r.ATR(), cold) {
		t.Error("ATR after power down")
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	r := insert(t, options{})
	r.SetFaults(card.Faults{MuteAfter: 2})
	r.do(selectMF, "9000")
	r.do(selectMF, "9000")
	if got := r.Process(unhex(t, selectMF)); got != nil {
		t.Errorf("third command: % X", got)
	}
	r.Reset(false)
	r.do(selectMF, "9000")
	r.SetFaults(card.Faults{NoATR: true})
	if r.Reset(false) != nil || r.Process(unhex(t, selectMF)) != nil {
		t.Error("the card answers")
	}
	r.SetFaults(card.Faults{MemoryFailure: 1})
	r.do("0020000108"+pin, "6581")
	r.do("80200001", "63C3")
}

func TestRandomNumbers(t *testing.T) {
	t.Parallel()
	r := insert(t, options{})
	a, b := r.do("0084000010", "9000"), r.do("0084000010", "9000")
	if len(a) != 16 || bytes.Equal(a, b) {
		t.Errorf("challenges % X, % X", a, b)
	}
	if n := len(r.do("8084000000", "9000")); n != 256 {
		t.Errorf("GET RANDOM: %d octets", n)
	}
	r.script(`
		0084000008 -> 9000
		0084000009 -> 6700
		00840000 -> 6700
		0084010010 -> 6A86
		8084000020 -> 9000
	`)
	if n := len(r.do("80FA000080"+strings.Repeat("00", 128)+"00", "9000")); n != 32 {
		t.Errorf("FINGERPRINT: %d octets", n)
	}
	// A card whose generator fails says so.
	sys, err := objsys.G21()
	if err != nil {
		t.Fatal(err)
	}
	c, err := card.New(sys, card.Config{Rand: bytes.NewReader(nil)})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Process(unhex(t, "0084000010")); !bytes.Equal(got, []byte{0x6F, 0x00}) {
		t.Errorf("generator failed: % X", got)
	}
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	r := insert(t, options{})
	digest := bytes.Repeat([]byte{0x5A}, 32)
	sign := "002A9E9A20" + hex.EncodeToString(digest) + "00"
	r.script(`
		` + sign + ` -> 6985
		002241B606840104800100 -> 6A88
		` + selectESIGN + ` -> 9000
		002241B606840104800100 -> 6A88
		002241B606840184800100 -> 9000
		` + sign + ` -> 6982
		0020000208` + pin + ` -> 9000
	`)
	sig := r.do(sign, "9000")
	if !r.sign.Public().Verify(digest, sig) {
		t.Error("signature does not verify")
	}
	r.script(`
		002A9E9A1F` + hex.EncodeToString(digest)[2:] + `00 -> 6700
		002241B606840184800105 -> 6A81
		002241B60684018B800100 -> 9000
		` + sign + ` -> 6400
		002241B606840182800105 -> 9000
		` + sign + ` -> 6400
		002241A406840184800100 -> 6A81
		002241B803840185 -> 6A80
		` + selectMF + ` -> 9000
		` + sign + ` -> 6985
	`)
	r.do(selectESIGN, "9000")
	if got := r.do("0046818400", "9000"); !bytes.Equal(got, append([]byte{0x7F, 0x49, 0x43, 0x86, 0x41}, r.sign.Public().Bytes()...)) {
		t.Errorf("public key: % X", got)
	}
	r.script(`
		0046818500 -> 6400
		0046808400 -> 6982
		0046828400 -> 6A86
		0046819F00 -> 6A88
		002241B80684018580010B -> 9000
		002A80860101 -> 6A81
	`)
}

func TestInternalAuthenticate(t *testing.T) {
	t.Parallel()
	r := insert(t, options{})
	token := bytes.Repeat([]byte{0x11}, 24)
	cmd := "0088000018" + hex.EncodeToString(token) + "00"
	r.script(cmd + ` -> 6985
		002241A406840109800100 -> 9000
		0088000017` + hex.EncodeToString(token)[2:] + `00 -> 6A80
		0088000118` + hex.EncodeToString(token) + `00 -> 6A86`)
	if sig := r.do(cmd, "9000"); !r.own.Public().Verify(append(token, 0), sig) || r.own.Public().Verify(token, sig) {
		t.Error("the signed number is not token and algorithm identifier")
	}
	r.script(`002241A406840109800154 -> 9000
		` + cmd + ` -> 6A81
		002241A406840109800174 -> 6A81
		00224FA406840109800100 -> 6A86
		002241A406840110800100 -> 6A88
		002241A406830109800100 -> 6A88
		002241A403840109 -> 6A80
		002241A409840109800100800100 -> 6A80
		002241A403840109800100 -> 6700
		0022F301 -> 9000
		0022F305 -> 6A86`)
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := card.New(nil, card.Config{}); err == nil {
		t.Error("no object system")
	}
	if _, err := card.New(&card.System{}, card.Config{}); err == nil {
		t.Error("no root")
	}
	r := insert(t, options{})
	if err := r.InjectSession(card.SessionKeys{Enc: make([]byte, 16), Mac: make([]byte, 5)}); err == nil {
		t.Error("session key of 5 octets")
	}
}

func TestBlock(t *testing.T) {
	t.Parallel()
	for digits, want := range map[string]string{
		"": "20FFFFFFFFFFFFFF", "1234": "241234FFFFFFFFFF", "12345": "2512345FFFFFFFFF", "123456789012": "2C123456789012FF",
	} {
		b := block(t, digits)
		if diff := cmp.Diff(want, strings.ToUpper(hex.EncodeToString(b[:]))); diff != "" {
			t.Error(diff)
		}
		if s := fmt.Sprintf("%v %+v %#v %s", b, b, b, b); strings.Contains(s, "34") {
			t.Errorf("the block prints as %s", s)
		}
	}
	for _, bad := range []string{"1234567890123", "12a4"} {
		if _, err := card.NewBlock(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestGenerateKeyPair(t *testing.T) {
	t.Parallel()
	r := insert(t, options{})
	amts := "00A4040C06D2760001440C"
	r.do("0020000C08"+pin, "9000")
	r.SetRole(role(47))
	r.do(amts, "9000")
	r.do("0046818800", "6400")
	r.do("0046C09900", "6A88")
	first := r.do("0046C08800", "9000")
	second := r.do("0046C08800", "9000")
	if len(first) != 70 || bytes.Equal(first, second) {
		t.Errorf("keys % X, % X", first, second)
	}
	if got := r.do("0046818800", "9000"); !bytes.Equal(got, second) {
		t.Errorf("public key % X", got)
	}
	r.SetRole(role(46))
	r.do("0046C08800", "6982")
	r.do("0046818800", "9000")
	r.SetRole(role(47))
	r.SetFaults(card.Faults{MemoryFailure: 1})
	r.do("0046C08800", "6581")
	if got := r.do("0046818800", "9000"); !bytes.Equal(got, second) {
		t.Error("a failed generation changed the key")
	}
	// With a rule for it, P1 = 84 generates only where there is no key.
	r.View(func(s *card.System) {
		k := s.Root.Lookup("MF/DF.HCA/DF.AMTS/PrK.AMTS.ENC.E256").(*card.PrivateKey)
		rules := &k.Rules.Contact[0].Rules
		*rules = append(*rules, card.Rule{Patterns: []card.Pattern{{0x00, 0x46, 0x84, card.Any}}, Cond: card.Cond{Op: card.Always}})
	})
	r.do("00468488", "6985")
	r.View(func(s *card.System) { s.Root.Lookup("MF/DF.HCA/DF.AMTS/PrK.AMTS.ENC.E256").(*card.PrivateKey).EC = nil })
	if got := r.do("00468488", "9000"); len(got) != 0 {
		t.Errorf("% X", got)
	}
	r.do("0046818800", "9000")
}

// Rules may differ between security environments.
func TestSecurityEnvironments(t *testing.T) {
	t.Parallel()
	r := insert(t, options{prepare: func(s *card.System) {
		f := s.Root.Lookup("MF/DF.HCA/EF.GVD").(*card.File)
		f.Rules.Contact = append(f.Rules.Contact, card.StateRules{State: card.Activated, SE: 2, Rules: []card.Rule{
			{Patterns: []card.Pattern{{0x00, 0xB0, card.Any, card.Any}}, Cond: card.Cond{Op: card.Always}},
		}})
	}})
	r.script(selectHCA + ` -> 9000
		00B0830005 -> 6982
		0022F302 -> 9000
		00B0830005 -> 9000
		0022F303 -> 9000
		00B0830005 -> 6982
		0022F302 -> 9000
		00A4040C -> 9000
		` + selectHCA + ` -> 9000
		00B0830005 -> 6982
		0022F30201AA -> 6700`)
}

func TestSelectPACEKey(t *testing.T) {
	t.Parallel()
	insert(t, options{}).script(`
		108600000000027C000000 -> 6985
		0022C1A40F800A04007F00070202040202830102 -> 9000
		0022C1A412800A04007F0007020204020283010284010D -> 9000
		0022C1A412800A04007F00070202040202830102840110 -> 6A81
		0022C1A40F800A04007F00070202040203830102 -> 6A81
		0022C1A40F800A04007F00070202040202830109 -> 6A88
		0022C1A410800A04007F0007020204020283020102 -> 6A80
		0022C1A403830102 -> 6A80
		0022C1A40F800A04007F00070202040202830102 -> 9000
		108600000000027C000000 -> 6A81
		002281A406830112800154 -> 9000
		00820000010A -> 6A81
		002281A406830119800100 -> 6A81
		002281A406830111800154 -> 6A88
	`)
}

// A card that was never personalised refuses, it does not fall over.
func TestUnpersonalised(t *testing.T) {
	t.Parallel()
	sys, err := objsys.G21()
	if err != nil {
		t.Fatal(err)
	}
	c, err := card.New(sys, card.Config{})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Card: c, t: t, sys: sys}
	r.script(`
		002281B60A83080000000000000013 -> 6A88
		002241A406840109800100 -> 9000
		0088000018` + strings.Repeat("11", 24) + `00 -> 6400
		0020000108` + pin + ` -> 63C2
		00B0820000 -> 6B00
		80CA010000 -> 9000
	`)
	if c.Name() != "eGK G2.1" {
		t.Errorf("name %q", c.Name())
	}
}

func TestParseRulesRefuses(t *testing.T) {
	t.Parallel()
	const good = "CB{[ACTIVATED,1,{({00||b0||??||??},AND{PWD(01),AUTCHAT(cvc_FlagList_TI:00000000400000)})}]}"
	if _, err := card.ParseRules(good); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		"CB{": "XX{", "[ACTIVATED": "(ACTIVATED", "ACTIVATED": "SLEEPING", ",1,": ",9,", ",{(": ",(", "({00": "{00", "00||b0||??||??": "00||b0||??",
		"b0": "bb0", "},AND": "]AND", "AND": "XOR", "PWD(01)": "PWD(xx)", "TI:": "XX:", "400000)": "4000)", "})}]}": "})}]", "})}": "}}", "}]}": "}}",
	} {
		if _, err := card.ParseRules(strings.Replace(good, from, to, 1)); err == nil {
			t.Errorf("%q for %q: accepted", to, from)
		}
	}
	for _, s := range []string{good + good[:3], good + "," + good, strings.Replace(good, "PWD(01)", strings.Repeat("AND{", 20)+"ALW"+strings.Repeat("}", 20), 1)} {
		if _, err := card.ParseRules(s); err == nil {
			t.Errorf("%.60q: accepted", s)
		}
	}
}

func TestParseFCPRulesRefuses(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]string{
		"nothing":       "",
		"other object":  "6F00",
		"no rules":      "6203800100",
		"no condition":  "620DA10B91030105 01AB048F0200B0",
		"interface":     "620FA10D9103090501AB068C0200B09000",
		"state":         "620FA10D9103010901AB068C0200B09000",
		"condition":     "620FA10D9103010501AB068C0200B09900",
		"no command":    "620BA1099103010501AB029000",
		"usage":         "6212A1109103010501AB098C0200B0B803950140",
		"short header":  "620BA109910201 05AB029000",
		"open object":   "620FA10D9103010501AB078C0200B09000",
		"password ref":  "6216A1149103010501AB0D8C0200B0A40795010883020102",
		"unknown usage": "6215A1139103010501AB0C8C0200B0A406950109830101",
	} {
		if _, err := card.ParseFCPRules(unhex(t, s)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := card.ParseFCPRules(unhex(t, "620FA10D9103010501AB068C0200B09000")); err != nil {
		t.Error(err)
	}
}
