package visit

import (
	"bytes"
	"crypto/rsa"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"ktradv/hw/sim/card"
	"ktradv/hw/sim/persona"
	"ktradv/internal/req"
	"ktradv/internal/x509ti"
	"ktradv/kiosk/view"
	"ktradv/server/api"
)

// recorded are the messages of one terminal, encoded as they were sent.
type recorded struct {
	mu       sync.Mutex
	messages []*api.AppMessage
}

func (r *recorded) add(m *api.AppMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, proto.Clone(m).(*api.AppMessage))
}

func (r *recorded) all() []*api.AppMessage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages)
}

// octets collects every octet string on the wire, however deep, by the numbers of the fields that lead to it.
func octets(path string, b []byte, out map[string][][]byte) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return
		}
		b = b[n:]
		if typ != protowire.BytesType {
			n = protowire.ConsumeFieldValue(num, typ, b)
			if n < 0 {
				return
			}
			out[fmt.Sprintf("%s.%d", path, num)] = append(out[fmt.Sprintf("%s.%d", path, num)], b[:n])
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return
		}
		b = b[n:]
		p := fmt.Sprintf("%s.%d", path, num)
		switch p {
		case ".1", ".2", ".3", ".2.2": // messages in messages
			octets(p, v, out)
		default:
			out[p] = append(out[p], v)
		}
	}
}

// cardFile reads a file of a simulated card past all access rules.
func cardFile(t testing.TB, c *card.Card, path string) (b []byte) {
	t.Helper()
	c.View(func(s *card.System) { b = bytes.Clone(file(t, s, path).Body) })
	return b
}

// What the app tells the server of a person in a whole visit: the insurer's number, the card's own CV certificate with that
// of its CA, the answers of the card to the server's commands, and C.CH.AUTN; and nothing while the data are shown
// (AdV-A_2534, A_15111).
func TestOnlyTheNecessaryLeavesTheTerminal(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2534", "A_15111")
	for _, id := range []string{"healthy-g21", "healthy-g2"} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			var rec recorded
			srv := serve(t, world, ServerConfig{Received: rec.add})
			r := newRig(t, TerminalConfig{Dial: dialer(srv)})
			menu := r.toMenu(id)
			if want := (view.Validity{MathValid: true, TimeValid: true, Online: "good"}); *menu.Validity != want {
				t.Errorf("validity %+v; want %+v", *menu.Validity, want)
			}
			atMenu := len(rec.all())
			r.Choose("vsd.show")
			r.screen(view.Data)
			r.Choose(view.ChoiceEnd)
			r.screen(view.TakeCard)
			messages := rec.all()
			if len(messages) != 5 || atMenu != 5 {
				t.Errorf("%d messages, %d of them at the menu; want 5 and none later", len(messages), atMenu)
			}

			kind := "E256"
			if id == "healthy-g2" {
				kind = "R2048"
			}
			c := r.tap.Card
			certificate, err := x509ti.Parse(der(t, cardFile(t, c, "MF/DF.ESIGN/EF.C.CH.AUT."+kind)))
			if err != nil {
				t.Fatal(err)
			}
			if _, isRSA := certificate.PublicKey.(*rsa.PublicKey); isRSA != (kind == "R2048") {
				t.Errorf("key of C.CH.AUT.%s is a %T", kind, certificate.PublicKey)
			}
			ik, err := certificate.IK()
			if err != nil {
				t.Fatal(err)
			}
			found := map[string][][]byte{}
			for _, m := range messages {
				raw, err := proto.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				octets("", raw, found)
			}
			// The card's answers to the commands of the server: import of certificates, channel and role.
			var answers [][]byte
			entered := false
			for _, e := range r.tap.Exchanges() {
				switch cla, ins := e.Command[0], e.Command[1]; {
				case cla == 0 && ins == 0x20: // the PIN: what came before is no business of the server
					entered = true
				case entered && (ins == 0x22 || ins == 0x2A || ins == 0x86 || ins == 0x84 || ins == 0x82 || cla == 0x8C || len(e.Command) == 4 && ins == 0xA4):
					answers = append(answers, e.Response)
				}
			}
			want := map[string][][]byte{
				".1.2":   {[]byte(ik)},
				".1.4":   {cardFile(t, c, "MF/EF.C.eGK.AUT_CVC.E256")},
				".1.5":   {cardFile(t, c, "MF/EF.C.CA_eGK.CS.E256")},
				".2.1":   answers,
				".2.2.1": {der(t, cardFile(t, c, "MF/DF.ESIGN/EF.C.CH.AUTN."+kind))},
			}
			for p, v := range want {
				if !slices.EqualFunc(found[p], v, bytes.Equal) {
					t.Errorf("field %s: % X\nwant % X", p, found[p], v)
				}
				delete(found, p)
			}
			for p, v := range found {
				switch p {
				case ".1.1": // operation id: random
					if len(v[0]) != 36 {
						t.Errorf("operation id %q", v[0])
					}
				case ".1.3": // version of the app
					if string(v[0]) != "test" {
						t.Errorf("version %q", v[0])
					}
				case ".1.6": // generation
				default:
					t.Errorf("field %s: % X", p, v)
				}
			}
			// Nothing of the person, whatever the fields are called.
			for _, m := range messages {
				raw, err := proto.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				p, err := persona.Find(id)
				if err != nil {
					t.Fatal(err)
				}
				for _, needle := range needles(p) {
					if needle.name == "iccsn" || needle.name == "insurer" { // stand in the CV certificate and in C.CH.AUTN
						continue
					}
					if form := needle.in(raw); form != "" {
						t.Errorf("a message holds the %s (%s)", needle.name, form)
					}
				}
				if bytes.Contains(raw, certificate.Raw) {
					t.Error("a message holds C.CH.AUT")
				}
			}
		})
	}
}

// The negative twin: the collector sees what stands in any field, known or not.
func TestOctetsAreSeen(t *testing.T) {
	t.Parallel()
	m := &api.AppMessage{Body: &api.AppMessage_Responses{Responses: &api.Responses{
		Apdu: [][]byte{[]byte("one"), []byte("two")}, CertificateCheck: &api.CertificateCheck{CertAutn: []byte("three")}}}}
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	raw = protowire.AppendTag(raw, 77, protowire.BytesType)
	raw = protowire.AppendBytes(raw, []byte("four"))
	found := map[string][][]byte{}
	octets("", raw, found)
	var all []string
	for p, vs := range found {
		for _, v := range vs {
			all = append(all, p+"="+string(v))
		}
	}
	slices.Sort(all)
	if got := strings.Join(all, " "); got != ".2.1=one .2.1=two .2.2.1=three .77=four" {
		t.Errorf("found %s", got)
	}
}

// der cuts the padding after a certificate.
func der(t testing.TB, b []byte) []byte {
	t.Helper()
	var v asn1.RawValue
	if _, err := asn1.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v.FullBytes
}
