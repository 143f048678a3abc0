package trace

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ktradv/hw/sim/card"
	"ktradv/hw/sim/card/objsys"
	"ktradv/hw/sim/image"
	"ktradv/internal/brainpool"
	"ktradv/internal/testdata"
)

func record(t testing.TB, name string) *Recording {
	t.Helper()
	f, err := os.Open(filepath.Join(testdata.Dir(t, "cards"), "apdu", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func system(t testing.TB) *card.System {
	t.Helper()
	sys, err := objsys.G21()
	if err != nil {
		t.Fatal(err)
	}
	return sys
}

// learnt builds a card that knows what the recording shows: contents of
// files, control parameters and with them access rules, the PIN.
func learnt(t testing.TB, r *Recording, plain []Plain, next int) *card.Card {
	t.Helper()
	sys := system(t)
	// Version2 and CardAccess are read in the clear before the key agreement.
	for _, x := range r.Exchanges[:next] {
		body := x.Response[:len(x.Response)-2]
		switch {
		case bytes.HasPrefix(x.Command, []byte{0x00, 0xB0, 0x91}):
			file(t, sys, "MF/EF.Version2").Body = body
		case bytes.HasPrefix(x.Command, []byte{0x00, 0xB0, 0x00}):
			file(t, sys, "MF/EF.CardAccess").Body = body
		case bytes.HasPrefix(x.Command, []byte{0x00, 0xA4, 0x04, 0x04}):
			learnMF(t, sys.Root, body)
		}
	}
	var current *card.File
	for _, p := range plain {
		switch {
		case p.Header[1] == 0xA4 && p.Header[2] == 0x02:
			current = nil
			fid := uint16(p.Data[0])<<8 | uint16(p.Data[1])
			sys.Root.Walk(func(_ string, o card.Object) {
				if f, ok := o.(*card.File); ok && f.FID == fid {
					current = f
				}
			})
			if current == nil {
				t.Fatalf("no file %04X", fid)
			}
			if len(p.Answer) > 0 {
				rules, err := card.ParseFCPRules(p.Answer)
				if err != nil {
					t.Fatal(err)
				}
				current.Rules = rules
			}
		case p.Header[1] == 0xB0 && p.SW == 0x9000:
			current.Body = p.Answer
		case p.Header[1] == 0x20 && p.Header[0] == 0x00:
			sys.Root.Lookup("MF/PIN.CH").(*card.Password).Secret = card.Block(p.Data)
		}
	}
	c, err := card.New(sys, card.Config{Interface: card.Contactless})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func file(t testing.TB, sys *card.System, path string) *card.File {
	t.Helper()
	f, ok := sys.Root.Lookup(path).(*card.File)
	if !ok {
		t.Fatalf("no file %s", path)
	}
	return f
}

// learnMF takes over the control parameters of the MF. The recording holds
// only the first 256 octets. The rules end inside the condition for GET RANDOM
// on the contactless interface, which is completed as the object system has
// it; the octets behind the rules are unknown, only their number is not.
func learnMF(t testing.TB, mf *card.Folder, fcp []byte) {
	t.Helper()
	if len(fcp) != 256 || !bytes.Equal(fcp[:2], []byte{0x62, 0x82}) {
		t.Fatalf("control parameters % X", fcp)
	}
	total := int(fcp[2])<<8 | int(fcp[3])
	i := bytes.Index(fcp, []byte{0xA1, 0x81})
	rules := int(fcp[i+2])
	rest := unhex(t, "0DB406950130830102B8039501208C028082"+"9000")
	known := append(bytes.Clone(fcp[i+3:]), rest...)
	if len(known) != rules {
		t.Fatalf("rules of %d octets, completed to %d", rules, len(known))
	}
	whole := append([]byte{0x62, 0x81, byte(len(known) + 3), 0xA1, 0x81, byte(rules)}, known...)
	parsed, err := card.ParseFCPRules(whole)
	if err != nil {
		t.Fatal(err)
	}
	mf.Rules = parsed
	unknown := total - (i - 4) - 3 - rules
	mf.Proprietary = append([]byte{0x85, byte(unknown - 2)}, make([]byte, unknown-2)...)
}

func opened(t testing.TB, r *Recording) (s *Session, plain []Plain, next int) {
	t.Helper()
	s, next, err := r.PACE()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range r.Exchanges[next:] {
		p, err := s.Open(x)
		if err != nil {
			t.Fatal(err)
		}
		plain = append(plain, p)
	}
	return s, plain, next
}

func inject(t testing.TB, c *card.Card, s *Session) {
	t.Helper()
	if err := c.InjectSession(card.SessionKeys{Enc: s.Enc, Mac: s.Mac, Key: 0x02}); err != nil {
		t.Fatal(err)
	}
}

// Every answer of the real card outside the key agreement, plain or secured,
// octet by octet.
func TestContactlessRecordings(t *testing.T) {
	t.Parallel()
	for name, secured := range map[string]int{
		"establish-secure-channel.jsonl": 0, "read-certs.jsonl": 8, "read-vsd.jsonl": 5, "verify-pin.jsonl": 3,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := record(t, name)
			s, plain, next := opened(t, r)
			if len(plain) != secured {
				t.Fatalf("%d secured exchanges, want %d", len(plain), secured)
			}
			c := learnt(t, r, plain, next)
			for i, x := range r.Exchanges {
				if x.Command[1] == 0x86 {
					continue // PACE: the card's own keys are not in the recording
				}
				if i == next {
					inject(t, c, s)
				}
				if got := c.Process(x.Command); !bytes.Equal(got, x.Response) {
					t.Fatalf("exchange %d\ncommand %X\ngot  %X\nwant %X", i+1, x.Command, got, x.Response)
				}
			}
		})
	}
}

// The access decisions of the recordings also follow from the built-in rules
// alone, and the control parameters that the built-in tables give for the two
// certificate files are those of the real card.
func TestRecordedRulesAreTheBuiltInOnes(t *testing.T) {
	t.Parallel()
	r := record(t, "read-certs.jsonl")
	_, plain, _ := opened(t, r)
	sys := system(t)
	n := 0
	for path, fid := range map[string]string{"MF/DF.ESIGN/EF.C.CH.AUT.E256": "C504", "MF/EF.C.eGK.AUT_CVC.E256": "2F06"} {
		for _, p := range plain {
			if p.Header[1] != 0xA4 || hex.EncodeToString(p.Data) != hex.EncodeToString(unhex(t, fid)) {
				continue
			}
			n++
			real, err := card.ParseFCPRules(p.Answer)
			if err != nil {
				t.Fatal(err)
			}
			own := file(t, sys, path).Rules
			for _, iface := range []card.Interface{card.Contact, card.Contactless} {
				for _, h := range [][4]byte{
					{0x00, 0xB0, 0, 0}, {0x00, 0xD6, 0, 0}, {0x00, 0xD0, 0, 0}, {0x00, 0x0E, 0, 0}, {0x80, 0x0E, 0, 0}, {0x00, 0xE4, 0, 0}, {0x00, 0x44, 0, 0},
				} {
					if a, b := sorted(real.Find(iface, card.Activated, 1, h)), sorted(own.Find(iface, card.Activated, 1, h)); a != b {
						t.Errorf("%s % X interface %d\nreal card %s\ntable     %s", path, h, iface, a, b)
					}
				}
			}
		}
	}
	if n != 2 {
		t.Errorf("%d files compared", n)
	}
}

// sorted writes a condition independent of the order of its parts.
func sorted(c card.Cond) string {
	for i := range c.Kids {
		for j := range c.Kids[:i] {
			if sorted(c.Kids[i]) < sorted(c.Kids[j]) {
				c.Kids[i], c.Kids[j] = c.Kids[j], c.Kids[i]
			}
		}
	}
	return c.String()
}

// The checks above must be able to fail.
func TestRecordingsNegative(t *testing.T) {
	t.Parallel()
	r := record(t, "verify-pin.jsonl")
	s, plain, next := opened(t, r)
	fresh := func(t *testing.T) *card.Card {
		c := learnt(t, r, plain, next)
		inject(t, c, s)
		return c
	}
	frame := func(i int) []byte { return bytes.Clone(r.Exchanges[next+i].Command) }
	sw := func(b []byte) string { return hex.EncodeToString(b[max(0, len(b)-2):]) }

	t.Run("checksum", func(t *testing.T) {
		c := fresh(t)
		bad := frame(0)
		bad[len(bad)-2] ^= 1
		if got := c.Process(bad); !bytes.Equal(got, []byte{0x69, 0x88}) {
			t.Errorf("wrong checksum: %X", got)
		}
		if got := c.Process(frame(0)); !bytes.Equal(got, []byte{0x69, 0x88}) {
			t.Errorf("the session keys survived: %X", got)
		}
	})
	t.Run("replay", func(t *testing.T) {
		c := fresh(t)
		if got := c.Process(frame(0)); !bytes.Equal(got, r.Exchanges[next].Response) {
			t.Fatalf("%X", got)
		}
		if got := c.Process(frame(0)); sw(got) != "6988" {
			t.Errorf("the same frame twice: %X", got)
		}
	})
	t.Run("other keys", func(t *testing.T) {
		c := learnt(t, r, plain, next)
		inject(t, c, &Session{Enc: s.Enc, Mac: bytes.Repeat([]byte{1}, 16)})
		if got := c.Process(frame(0)); sw(got) != "6988" {
			t.Errorf("%X", got)
		}
	})
	t.Run("no keys", func(t *testing.T) {
		c := learnt(t, r, plain, next)
		if got := c.Process(frame(0)); sw(got) != "6988" {
			t.Errorf("secured command without keys: %X", got)
		}
		if got := c.Process(unhex(t, "80200002")); sw(got) != "6982" {
			t.Errorf("GET PIN STATUS without PACE: %X", got)
		}
		if got := c.Process(unhex(t, "002000020826123456FFFFFFFF")); sw(got) != "6982" {
			t.Errorf("VERIFY without PACE: %X", got)
		}
	})
	t.Run("plain command", func(t *testing.T) {
		c := fresh(t)
		if got := c.Process(unhex(t, "0084000010")); sw(got) != "9000" {
			t.Errorf("%X", got)
		}
		if got := c.Process(frame(0)); sw(got) != "6988" {
			t.Errorf("the session survived a plain command: %X", got)
		}
	})
	t.Run("other PIN", func(t *testing.T) {
		c := fresh(t)
		c.View(func(s *card.System) {
			s.Root.Lookup("MF/PIN.CH").(*card.Password).Secret = card.Block(unhex(t, "26654321FFFFFFFF"))
		})
		c.Process(frame(0))
		c.Process(frame(1))
		if got := c.Process(frame(2)); sw(got) != "63c2" || bytes.Equal(got, r.Exchanges[next+2].Response) {
			t.Errorf("%X", got)
		}
	})
	t.Run("other content", func(t *testing.T) {
		r := record(t, "read-vsd.jsonl")
		s, plain, next := opened(t, r)
		plain[3].Answer = bytes.Clone(plain[3].Answer)
		plain[3].Answer[0] ^= 1
		c := learnt(t, r, plain, next)
		inject(t, c, s)
		for _, x := range r.Exchanges[next : next+3] {
			c.Process(x.Command)
		}
		if got := c.Process(r.Exchanges[next+3].Command); bytes.Equal(got, r.Exchanges[next+3].Response) {
			t.Error("the same frame for another content")
		}
	})
	t.Run("the terminal notices", func(t *testing.T) {
		r := record(t, "verify-pin.jsonl")
		s, next, err := r.PACE()
		if err != nil {
			t.Fatal(err)
		}
		r.Exchanges[next].Response[len(r.Exchanges[next].Response)-3] ^= 1
		if _, err := s.Open(r.Exchanges[next]); err == nil {
			t.Error("a forged response was accepted")
		}
		r.Keys[1][5] ^= 1
		if _, _, err := r.PACE(); err == nil {
			t.Error("tokens verify with another key")
		}
	})
}

// cvcKey reads name and public key out of a CV certificate of the testdata.
func cvcKey(t testing.TB, path ...string) (chr []byte, key *brainpool.PublicKey, value []byte) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{testdata.Dir(t, "cards"), "cvc"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(b, []byte{0x86, 0x41})
	key, err = brainpool.ParsePublicKey(brainpool.P256r1(), b[i+2:i+67])
	if err != nil {
		t.Fatal(err)
	}
	j := bytes.Index(b, []byte{0x5F, 0x20})
	return b[j+3 : j+3+int(b[j+2])], key, b[4:]
}

// realKeys gives a card the public keys that the recorded card listed.
func realKeys(t testing.TB, sys *card.System) {
	t.Helper()
	all := map[string]*brainpool.PublicKey{}
	for _, p := range [][]string{
		{"chain", "DEGXX870222.crt"}, {"chain", "DEGXX120223.crt"}, {"chain", "80276001011699902101-cvc-flag0.crt"},
		{"roots", "DEGXX850218_cross.cvc"}, {"roots", "DEGXX860220_cross.cvc"},
	} {
		chr, key, _ := cvcKey(t, p...)
		all[hex.EncodeToString(chr)] = key
	}
	root := sys.Root.Lookup("MF/PuK.RCA.CS.E256").(*card.PublicKey)
	var kept []card.Object
	for _, o := range sys.Root.Children {
		if _, ok := o.(*card.PublicKey); !ok {
			kept = append(kept, o)
		}
	}
	any := all["4445475858870222"]
	for _, ref := range []string{
		"4445475858870222", "4445475858120223", "000a80276001011699902101", "4445475858850218",
		"4d6f7270686f414343455353", "4d6f7270686f564552", "4445475858860220", "0000000000000013",
	} {
		k := *root
		k.Ref = unhex(t, ref)
		k.Authentication = len(k.Ref) == 12
		k.CHAT = card.CHAT{OID: card.FlagsTI, Flags: card.Flags{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}}
		k.Expires = card.Date{4, 0, 0, 1, 0, 1}
		if k.Key = all[ref]; k.Key == nil {
			k.Key = any // a key that the recording does not show and does not use
		}
		if k.Authentication {
			k.CHAT.Flags = card.Flags{}
			k.Rules = k.AuthenticationRules
		}
		kept = append(kept, &k)
	}
	sys.Root.Children = kept
}

func contactCard(t testing.TB, prepare func(*card.System)) *card.Card {
	t.Helper()
	sys := system(t)
	sys.PointInTime = card.Date{2, 4, 0, 2, 2, 8}
	own, err := brainpool.GenerateKey(brainpool.P256r1(), nil)
	if err != nil {
		t.Fatal(err)
	}
	sys.Root.Lookup("MF/PrK.eGK.AUT_CVC.E256").(*card.PrivateKey).EC = own
	realKeys(t, sys)
	prepare(sys)
	c, err := card.New(sys, card.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The recording of a trusted channel holds no keys: the certificates are
// checked for real, answers with keys in them by their structure.
func TestTrustedChannelRecording(t *testing.T) {
	t.Parallel()
	r := record(t, "trusted-channel.jsonl")
	c := contactCard(t, func(*card.System) {})
	for i, x := range r.Exchanges {
		got := c.Process(x.Command)
		if x.Command[0] == 0x10 {
			if len(got) != len(x.Response) || !bytes.Equal(got[:5], x.Response[:5]) || !bytes.Equal(got[len(got)-2:], []byte{0x90, 0x00}) {
				t.Errorf("exchange %d: %X", i+1, got)
			}
			if _, err := brainpool.ParsePublicKey(brainpool.P256r1(), got[4:69]); err != nil {
				t.Errorf("exchange %d: %v", i+1, err)
			}
			continue
		}
		if !bytes.Equal(got, x.Response) {
			t.Errorf("exchange %d\ncommand %X\ngot  %X\nwant %X", i+1, x.Command, got, x.Response)
		}
	}
	// The channel is up: a plain GET CHALLENGE works, a secured command with
	// a wrong checksum ends the session.
	if got := c.Process(unhex(t, "8C2000010A8E08000000000000000000")); !bytes.Equal(got, []byte{0x69, 0x88}) {
		t.Errorf("%X", got)
	}
}

func TestTrustedChannelRecordingNegative(t *testing.T) {
	t.Parallel()
	r := record(t, "trusted-channel.jsonl")
	x := r.Exchanges
	const mse, pso, ga1 = 3, 4, 9
	if x[mse].Command[3] != 0xB6 || x[pso].Command[3] != 0xBE || x[ga1].Command[1] != 0x86 {
		t.Fatal("the recording is another one")
	}
	run := func(c *card.Card, cmds ...[]byte) string {
		var got []byte
		for _, b := range cmds {
			got = c.Process(b)
		}
		return hex.EncodeToString(got[len(got)-2:])
	}
	bad := bytes.Clone(x[pso].Command)
	bad[len(bad)-1] ^= 1
	other := bytes.Clone(x[ga1].Command)
	other[len(other)-4] ^= 1
	late := func(s *card.System) { s.PointInTime = card.Date{2, 6, 0, 3, 0, 1} }
	none := func(*card.System) {}
	for name, tt := range map[string]struct {
		prepare func(*card.System)
		cmds    [][]byte
		want    string
	}{
		"right":                  {none, [][]byte{x[mse].Command, x[pso].Command}, "9000"},
		"signature":              {none, [][]byte{x[mse].Command, bad}, "6a80"},
		"no key chosen":          {none, [][]byte{x[pso].Command}, "6985"},
		"certificate of another": {none, [][]byte{x[mse].Command, x[pso+2].Command}, "6a88"},
		"unknown issuer":         {none, [][]byte{x[mse+2].Command}, "6a88"},
		"expired":                {late, [][]byte{x[mse].Command, x[pso].Command}, "6983"},
		"unknown peer":           {none, [][]byte{x[2].Command, other}, "6a88"},
		"no private key chosen":  {none, [][]byte{x[ga1].Command}, "6985"},
		"second step first":      {none, [][]byte{x[2].Command, x[ga1+1].Command}, "6985"},
		"interrupted":            {none, [][]byte{x[2].Command, x[ga1].Command, unhex(t, "0084000010"), x[ga1+1].Command}, "6985"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := run(contactCard(t, tt.prepare), tt.cmds...); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// vector is the computed trusted channel between the public card image and
// the published CHAT.0 identity.
type vector struct {
	EGKEphemeral string `json:"egk_ephemeral_private"`
	ServerCHR    string `json:"server_chr"`
	Step1        string `json:"ga_step1_command"`
	Step1Answer  string `json:"ga_step1_response"`
	Step2        string `json:"ga_step2_command"`
	Messages     []struct {
		Command  string `json:"secured_command"`
		Response string `json:"secured_response"`
		Data     string `json:"plain_response_data"`
	} `json:"secure_messaging"`
	Role struct {
		Random   string `json:"rnd_icc"`
		External string `json:"external_authenticate_command"`
	} `json:"role_authentication"`
}

func loadVector(t testing.TB) vector {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(testdata.Dir(t, "cards"), "apdu", "c2c-trusted-channel-vector.computed.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v vector
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// imageCard is the public G2.1 image with given randomness. A card that makes
// a response secret does so because the access rule asks for it; the vector
// has GET RANDOM enciphered, so its rule is given that condition here.
func imageCard(t testing.TB, random []byte) *card.Card {
	t.Helper()
	f, err := os.Open(filepath.Join(testdata.Dir(t, "cards"), "images", "IMG_eGK_G21_TU_root6_80276883110000152715.xml"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sys, err := image.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	hca := sys.Root.Lookup("MF/DF.HCA").(*card.Folder)
	secret := card.Rule{Patterns: []card.Pattern{{0x80, 0x84, 0, 0}}, Cond: card.Cond{Op: card.RspEnc}}
	list := hca.Rules.Contact[0].Rules
	hca.Rules.Contact[0].Rules = append([]card.Rule{secret}, list...)
	c, err := card.New(sys, card.Config{Rand: bytes.NewReader(random)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func must(t testing.TB, c *card.Card, cmd []byte, want string) []byte {
	t.Helper()
	got := c.Process(cmd)
	if len(got) < 2 || hex.EncodeToString(got[len(got)-2:]) != want {
		t.Fatalf("%X: %X, want %s", cmd, got, want)
	}
	return got[:len(got)-2]
}

func importChain(t testing.TB, c *card.Card) {
	t.Helper()
	ca, _, caValue := cvcKey(t, "chain", "DEGXX120223.crt")
	_, _, eeValue := cvcKey(t, "chain", "80276001011699902101-cvc-flag0.crt")
	must(t, c, unhex(t, "002281B60A83084445475858870222"), "9000")
	must(t, c, append([]byte{0x00, 0x2A, 0x00, 0xBE, byte(len(caValue))}, caValue...), "9000")
	must(t, c, append(unhex(t, "002281B60A8308"), ca...), "9000")
	must(t, c, append([]byte{0x00, 0x2A, 0x00, 0xBE, byte(len(eeValue))}, eeValue...), "9000")
}

func TestComputedTrustedChannel(t *testing.T) {
	t.Parallel()
	v := loadVector(t)
	c := imageCard(t, append(unhex(t, v.EGKEphemeral), unhex(t, v.Messages[2].Data)...))
	must(t, c, unhex(t, "00A4040C"), "9000")
	must(t, c, unhex(t, "002000010826123456FFFFFFFF"), "9000")
	must(t, c, unhex(t, "002241A406840109800154"), "9000")
	importChain(t, c)
	if got := hex.EncodeToString(c.Process(unhex(t, v.Step1))); got != v.Step1Answer {
		t.Fatalf("step 1\ngot  %s\nwant %s", got, v.Step1Answer)
	}
	must(t, c, unhex(t, v.Step2), "9000")
	for i, m := range v.Messages {
		if diff := cmp.Diff(m.Response, hex.EncodeToString(c.Process(unhex(t, m.Command)))); diff != "" {
			t.Fatalf("message %d (- want):\n%s", i+1, diff)
		}
	}

	// Without the PIN the first message carries another status word, and so
	// another checksum.
	c = imageCard(t, unhex(t, v.EGKEphemeral))
	must(t, c, unhex(t, "002241A406840109800154"), "9000")
	importChain(t, c)
	must(t, c, unhex(t, v.Step1), "9000")
	must(t, c, unhex(t, v.Step2), "9000")
	if got := c.Process(unhex(t, v.Messages[0].Command)); !bytes.Equal(got[2:4], []byte{0x63, 0xC3}) || hex.EncodeToString(got) == v.Messages[0].Response {
		t.Errorf("GET PIN STATUS without PIN: %X", got)
	}
}

func TestComputedRoleAuthentication(t *testing.T) {
	t.Parallel()
	v := loadVector(t)
	start := func(random string) *card.Card {
		c := imageCard(t, unhex(t, random))
		importChain(t, c)
		must(t, c, unhex(t, "002281A411830C"+v.ServerCHR+"800100"), "9000")
		must(t, c, unhex(t, "0084000010"), "9000")
		return c
	}
	c := start(v.Role.Random)
	must(t, c, unhex(t, v.Role.External), "9000")
	must(t, c, unhex(t, v.Role.External), "6985") // the challenge is used up

	c = start("ff" + v.Role.Random[2:])
	must(t, c, unhex(t, v.Role.External), "6300")
	forged := unhex(t, v.Role.External)
	forged[20] ^= 1
	must(t, start(v.Role.Random), forged, "6300")
	other := start(v.Role.Random)
	other.View(func(s *card.System) { s.ICCSN8[7] ^= 1 })
	must(t, other, unhex(t, v.Role.External), "6300")
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]string{
		"no JSON": "x", "unknown type": `{"type":"joke"}`, "odd digits": `{"type":"exchange","tx":"0","rx":"9000"}`,
		"short": `{"type":"exchange","tx":"00A4","rx":"9000"}`, "keys": `{"type":"header","keys":["xy"]}`,
	} {
		if _, err := Read(bytes.NewReader([]byte(s))); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzRead: a recording is input like any other.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"type":"header","keys":["01","02"],"can":"123123"}
{"type":"exchange","tx":"1086000002","rx":"9000"}
{"type":"exchange","tx":"0C20000100","rx":"990290008E0800000000000000009000"}`))
	f.Add([]byte(`{"type":"exchange","tx":"8C2000010A8E080000000000000000","rx":"9000"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		r.PACE()
		s := &Session{Enc: make([]byte, 16), Mac: make([]byte, 16)}
		for _, x := range r.Exchanges {
			s.Open(x)
		}
	})
}
