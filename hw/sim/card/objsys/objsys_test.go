package objsys

import (
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ktradv/hw/sim/card"
	"ktradv/hw/sim/image"
	"ktradv/internal/testdata"
)

// The built-in tables and the public images must be the same object system:
// the same objects with the same attributes, and for every command and
// interface an equivalent condition.
func TestTablesAgreeWithPublicImages(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		image string
		build func() (*card.System, error)
	}{
		{"IMG_eGK_G21_TU_root6_80276883110000152715.xml", G21},
		{"EGKG2_80276883110000017222_gema5.xml", G2},
	} {
		t.Run(tt.image, func(t *testing.T) {
			t.Parallel()
			f, err := os.Open(filepath.Join(testdata.Dir(t, "cards"), "images", tt.image))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			public, err := image.Read(f)
			if err != nil {
				t.Fatal(err)
			}
			own, err := tt.build()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(hex.EncodeToString(public.ColdATR)+hex.EncodeToString(public.WarmATR), hex.EncodeToString(own.ColdATR)+hex.EncodeToString(own.WarmATR)); diff != "" {
				t.Errorf("ATR: %s", diff)
			}
			if public.CacheSlots != own.CacheSlots {
				t.Errorf("cache slots %d, image %d", own.CacheSlots, public.CacheSlots)
			}
			pub, mine := objects(public), objects(own)
			if diff := cmp.Diff(slices.Sorted(maps.Keys(pub)), slices.Sorted(maps.Keys(mine))); diff != "" {
				t.Fatalf("objects (- image, + table):\n%s", diff)
			}
			rules := 0
			for _, path := range slices.Sorted(maps.Keys(pub)) {
				if diff := cmp.Diff(describe(pub[path]), describe(mine[path])); diff != "" {
					t.Errorf("%s (- image, + table):\n%s", path, diff)
				}
				rules += compareRules(t, path, pub[path], mine[path])
			}
			t.Logf("%d objects, %d rules for commands", len(pub), rules)
		})
	}
}

func objects(s *card.System) map[string]card.Object {
	m := map[string]card.Object{}
	s.Root.Walk(func(path string, o card.Object) { m[path] = o })
	return m
}

// describe lists the attributes that make the type of an object, not its
// personalisation.
func describe(o card.Object) string {
	switch o := o.(type) {
	case *card.Folder:
		return fmt.Sprintf("folder %X %04X %v", o.AID, o.FID, o.State)
	case *card.File:
		return fmt.Sprintf("file %04X %02X %d size %d records %d x %d lcs %v %v", o.FID, o.SFID, o.Structure, o.Size, o.MaxRecords, o.MaxRecord, o.RecordState, o.State)
	case *card.Password:
		return fmt.Sprintf("password %02X %d-%d start %d puk %d off %v uses %v", o.ID, o.Min, o.Max, o.Start, o.PUKUses, o.Disabled, o.Uses)
	case *card.MultiPassword:
		return fmt.Sprintf("multi %02X to %02X off %v uses %v", o.ID, o.Target, o.Disabled, o.Uses)
	case *card.PrivateKey:
		alg := fmt.Sprint(o.Algorithms)
		return fmt.Sprintf("private %02X %v %v %d", o.ID, alg, o.Curve, o.RSABits)
	case *card.SecretKey:
		return fmt.Sprintf("secret %02X %v", o.ID, o.Algorithms)
	case *card.PaceKey:
		return fmt.Sprintf("pace %02X %X", o.ID, o.OID)
	case *card.PublicKey:
		return fmt.Sprintf("public %v", o.CHAT)
	}
	return fmt.Sprintf("%T", o)
}

type ruleList struct {
	name string
	set  card.RuleSet
}

func ruleSets(o card.Object) (id byte, sets []ruleList) {
	switch o := o.(type) {
	case *card.Folder:
		return 0, []ruleList{{"", o.Rules}}
	case *card.File:
		return o.SFID, []ruleList{{"", o.Rules}}
	case *card.Password:
		return o.ID, []ruleList{{"", o.Rules}}
	case *card.MultiPassword:
		return o.ID, []ruleList{{"", o.Rules}}
	case *card.PrivateKey:
		return o.ID, []ruleList{{"", o.Rules}}
	case *card.SecretKey:
		return o.ID, []ruleList{{"", o.Rules}}
	case *card.PaceKey:
		return o.ID, []ruleList{{"", o.Rules}}
	case *card.PublicKey:
		return 0, []ruleList{{"", o.Rules}, {" verification", o.VerificationRules}, {" authentication", o.AuthenticationRules}}
	}
	return 0, nil
}

// compareRules checks every command header that either side mentions, and
// the headers next to it, and returns how many conditions it compared.
func compareRules(t *testing.T, path string, pub, own card.Object) int {
	t.Helper()
	n := 0
	told := map[string]bool{}
	id, a := ruleSets(pub)
	_, b := ruleSets(own)
	refs := []byte{id}
	if _, file := own.(*card.File); !file && strings.Count(path, "/") > 1 {
		refs[0] |= 0x80
	}
	for i := range a {
		for _, iface := range []card.Interface{card.Contact, card.Contactless} {
			for _, state := range []card.LifeCycle{card.Activated, card.Deactivated, card.Terminated} {
				for _, h := range headers(append(rulesOf(a[i].set, iface), rulesOf(b[i].set, iface)...), own, refs) {
					x, y := a[i].set.Find(iface, state, 1, h), b[i].set.Find(iface, state, 1, h)
					if key := fmt.Sprint(i, iface, state, h[:2]); !equivalent(x, y) && !told[key] {
						told[key] = true // one header for each command is enough
						t.Errorf("%s%s interface %v %v % X:\nimage %v\ntable %v", path, a[i].name, iface, state, h, x, y)
					}
					if x.Op != card.Never {
						n++
					}
				}
			}
		}
	}
	return n
}

func rulesOf(s card.RuleSet, i card.Interface) []card.StateRules {
	if i == card.Contactless {
		return s.Contactless
	}
	return s.Contact
}

// headers instantiates the patterns for the object. A wildcard of a reference
// stands for the reference of the object, because with another one the
// command does not concern it.
func headers(list []card.StateRules, o card.Object, refs []byte) [][4]byte {
	_, file := o.(*card.File)
	seen := map[[4]byte]bool{}
	for _, s := range list {
		for _, r := range s.Rules {
			for _, p := range r.Patterns {
				// The chaining bit is no part of what a rule speaks about.
				choice := [4][]byte{{0x00}, nil, {0x00}, {0x00}}
				switch {
				case file && !binary[byte(p[1])]:
					choice[2], choice[3] = []byte{0x00, 0x01}, []byte{0x04, refs[0]<<3 | 4}
					if p[1] == 0xE2 {
						choice[3] = []byte{0x00, refs[0] << 3}
					}
				case file:
					choice[2], choice[3] = []byte{0x00, 0x01, 0x80 | refs[0]}, []byte{0x00, 0x01}
				case p[1] != 0x86:
					choice[3] = refs
				}
				for i, v := range p {
					if v != card.Any {
						choice[i] = []byte{byte(v)}
					}
				}
				for _, b0 := range choice[0] {
					for _, b1 := range choice[1] {
						for _, b2 := range choice[2] {
							for _, b3 := range choice[3] {
								seen[[4]byte{b0, b1, b2, b3}] = true
							}
						}
					}
				}
			}
		}
	}
	return slices.Collect(maps.Keys(seen))
}

// binary are the instructions of commands for transparent files.
var binary = map[byte]bool{0xB0: true, 0xD6: true, 0xD0: true, 0x0E: true}

// equivalent compares two conditions as functions of what they ask for.
func equivalent(a, b card.Cond) bool {
	atoms := map[string]bool{}
	collect(a, atoms)
	collect(b, atoms)
	names := slices.Sorted(maps.Keys(atoms))
	for bits := range 1 << len(names) {
		for i, n := range names {
			atoms[n] = bits>>i&1 == 1
		}
		if holds(a, atoms) != holds(b, atoms) {
			return false
		}
	}
	return true
}

func collect(c card.Cond, atoms map[string]bool) {
	switch c.Op {
	case card.And, card.Or:
		for _, k := range c.Kids {
			collect(k, atoms)
		}
	case card.Always, card.Never:
	default:
		atoms[c.String()] = false
	}
}

func holds(c card.Cond, atoms map[string]bool) bool {
	switch c.Op {
	case card.Always:
		return true
	case card.Never:
		return false
	case card.And:
		return !slices.ContainsFunc(c.Kids, func(k card.Cond) bool { return !holds(k, atoms) })
	case card.Or:
		return slices.ContainsFunc(c.Kids, func(k card.Cond) bool { return holds(k, atoms) })
	}
	return atoms[c.String()]
}
