package sm_test

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ktradv/hw/apdu"
	"ktradv/hw/internal/cardtest"
	"ktradv/hw/sm"
	"ktradv/internal/redact"
	"ktradv/internal/testdata"
)

func session(t testing.TB, kd []byte) *sm.Session {
	t.Helper()
	s, err := sm.New(redact.NewBytes(kd))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Shared secret, and the first frames, of the trusted channel between a published card image and a published server key.
const (
	vectorKD = "5afeb77c16b62157fa9f8827c2e9efbbf5c81d7c37fc0dea46633ae727c43096" +
		"79fa15bb14b6be36a3d23b388431ee220d66c9529fdc9e5757fa2a75d418d088"
	securedPINStatus = "8c2000010a8e08a92d5e331279f98d00"
	securedVerified  = "990290008e08fc4a5ec20a5cb2dc9000"
)

func parse(t testing.TB, s string) apdu.Command {
	t.Helper()
	c, err := apdu.Parse(cardtest.Unhex(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func response(t testing.TB, s string) apdu.Response {
	t.Helper()
	r, err := apdu.ParseResponse(cardtest.Unhex(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wrap(t testing.TB, s *sm.Session, c apdu.Command) string {
	t.Helper()
	w, err := s.Wrap(c)
	if err != nil {
		t.Fatal(err)
	}
	b, err := w.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

func TestGetPINStatus(t *testing.T) {
	t.Parallel()
	s := session(t, cardtest.Unhex(t, vectorKD))
	if got := wrap(t, s, parse(t, "80200001")); got != securedPINStatus {
		t.Errorf("command %s, want %s", got, securedPINStatus)
	}
	r, err := s.Unwrap(response(t, securedVerified))
	if err != nil || r.SW != 0x9000 || len(r.Data) != 0 {
		t.Errorf("response %v, %v", r, err)
	}
}

func TestComputedVector(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join(testdata.Dir(t, "cards"), "apdu", "c2c-trusted-channel-vector.computed.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		KD     string `json:"kd"`
		Frames []struct {
			Header   string `json:"plain_header"`
			Data     string `json:"plain_data"`
			Command  string `json:"secured_command"`
			Plain    string `json:"plain_response_data"`
			SW       string `json:"sw"`
			Response string `json:"secured_response"`
		} `json:"secure_messaging"`
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	s := session(t, cardtest.Unhex(t, v.KD))
	for i, f := range v.Frames {
		h := cardtest.Unhex(t, f.Header)
		c := apdu.Command{CLA: h[0], INS: h[1], P1: h[2], P2: h[3], Data: cardtest.Unhex(t, f.Data), Ne: len(f.Plain) / 2}
		if got := wrap(t, s, c); got != f.Command {
			t.Errorf("frame %d: command %s, want %s", i, got, f.Command)
		}
		r, err := s.Unwrap(response(t, f.Response))
		if err != nil || hex.EncodeToString(r.Data) != f.Plain || fmt.Sprintf("%04x", r.SW) != f.SW {
			t.Errorf("frame %d: response %x %04X, %v", i, r.Data, r.SW, err)
		}
	}
	if len(v.Frames) != 3 {
		t.Errorf("%d frames", len(v.Frames))
	}
}

func TestTamperedResponses(t *testing.T) {
	t.Parallel()
	kd := cardtest.Unhex(t, vectorKD)
	good := cardtest.Unhex(t, securedVerified)
	check := func(name string, raw []byte, want ...error) {
		t.Helper()
		s := session(t, kd)
		if _, err := s.Wrap(apdu.Command{CLA: 0x80, INS: 0x20, P2: 1}); err != nil {
			t.Fatal(err)
		}
		r, err := apdu.ParseResponse(raw)
		if err != nil {
			return // refused before
		}
		_, err = s.Unwrap(r)
		ok := false
		for _, w := range want {
			ok = ok || errors.Is(err, w)
		}
		if !ok {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.Wrap(apdu.Command{CLA: 0x80, INS: 0x20, P2: 1}); !errors.Is(err, sm.ErrSequence) {
			t.Errorf("%s: the session goes on: %v", name, err)
		}
	}
	for bit := range len(good) * 8 {
		b := bytes.Clone(good)
		b[bit/8] ^= 0x80 >> (bit % 8)
		check(fmt.Sprintf("bit %d", bit), b, sm.ErrMAC, sm.ErrFormat)
	}
	check("PIN not verified, status changed inside and outside", cardtest.Unhex(t, "990263C38E08FC4A5EC20A5CB2DC63C3"), sm.ErrMAC)
	check("status without secure messaging", cardtest.Unhex(t, "9000"), sm.ErrLost)
	check("card has no keys", cardtest.Unhex(t, "6988"), sm.ErrLost)
	check("no MAC", cardtest.Unhex(t, "990290009000"), sm.ErrFormat)
	check("no status", cardtest.Unhex(t, "8E08FC4A5EC20A5CB2DC9000"), sm.ErrFormat)
	check("short MAC", cardtest.Unhex(t, "990290008E04FC4A5EC29000"), sm.ErrFormat)
	check("MAC first", cardtest.Unhex(t, "8E08FC4A5EC20A5CB2DC990290009000"), sm.ErrFormat)
	check("octets behind", cardtest.Unhex(t, "990290008E08FC4A5EC20A5CB2DC85009000"), sm.ErrFormat)
	check("plain data in front", cardtest.Unhex(t, "8101AA990290008E08FC4A5EC20A5CB2DC9000"), sm.ErrMAC)
	check("nonsense", cardtest.Unhex(t, "00009000"), sm.ErrFormat)
}

func TestReplayAndSequence(t *testing.T) {
	t.Parallel()
	s := session(t, cardtest.Unhex(t, vectorKD))
	cmd := apdu.Command{CLA: 0x80, INS: 0x20, P2: 1}
	if _, err := s.Unwrap(response(t, securedVerified)); !errors.Is(err, sm.ErrSequence) {
		t.Errorf("response before the command: %v", err)
	}
	first := wrap(t, s, cmd)
	if _, err := s.Wrap(cmd); !errors.Is(err, sm.ErrSequence) {
		t.Errorf("second command before the response: %v", err)
	}
	if _, err := s.Unwrap(response(t, securedVerified)); err != nil {
		t.Fatal(err)
	}
	if second := wrap(t, s, cmd); second == first {
		t.Error("the same command gives the same frame twice")
	}
	if _, err := s.Unwrap(response(t, securedVerified)); !errors.Is(err, sm.ErrMAC) {
		t.Errorf("replayed response: %v", err)
	}
	if _, err := s.Unwrap(response(t, securedVerified)); !errors.Is(err, sm.ErrSequence) {
		t.Errorf("response after the end: %v", err)
	}
}

func TestCommandsThatCannotBeSecured(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]apdu.Command{
		"secured already":  {CLA: 0x0C},
		"further channels": {CLA: 0x40},
		"too long":         {Data: make([]byte, 65535)},
		"negative Ne":      {Ne: -1},
	} {
		if _, err := session(t, make([]byte, 64)).Wrap(c); !errors.Is(err, sm.ErrCommand) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := sm.New(redact.NewBytes(make([]byte, 16))); err == nil {
		t.Error("a secret of 16 octets was taken")
	}
	if out := fmt.Sprintf("%v %+v %x", session(t, make([]byte, 64)), session(t, make([]byte, 96)), session(t, make([]byte, 128))); strings.Contains(out, "66") {
		t.Errorf("the session prints keys: %s", out)
	}
}

// Every length of data and Le, with each size of key, gives a command of the secured form, and no two the same.
func TestFrameLengths(t *testing.T) {
	t.Parallel()
	for _, kd := range []int{64, 96, 128} {
		secret := bytes.Repeat([]byte{byte(kd)}, kd)
		seen := map[string]bool{}
		for _, n := range []int{0, 1, 15, 16, 17, 255, 256, 1000} {
			for _, ne := range []int{0, 1, 256, 257, 65536} {
				s := session(t, secret)
				frame := wrap(t, s, apdu.Command{INS: 0xD6, Data: make([]byte, n), Ne: ne})
				if seen[frame] {
					t.Errorf("secret of %d: %d data octets, Ne %d give a frame that was seen", kd, n, ne)
				}
				seen[frame] = true
				c := parse(t, frame)
				if c.CLA != 0x0C || !strings.Contains(frame, "8e08") || ne > 0 && c.Ne != apdu.MaxNe || ne == 0 && c.Ne == 0 {
					t.Errorf("secret of %d: %d data octets, Ne %d: %v", kd, n, ne, c)
				}
			}
		}
	}
}

// The rest verifies recorded sessions with a real card. They were secured with keys of PACE, which the product does not
// speak, so the key agreement is done here, in plain affine arithmetic.

var (
	p256  = hexInt("A9FB57DBA1EEA9BC3E660A909D838D726E3BF623D52620282013481D1F6E5377")
	p256a = hexInt("7D5A0975FC2C3057EEF67530417AFFE7FB8055C126DC5C6CE94A4B44F330B5D9")
	p256g = &point{hexInt("8BD2AEB9CB7E57CB2C4B482FFC81B7AFB9DE27E1E3BD23C23A4453BD9ACE3262"), hexInt("547EF835C3DAC4FD97F8461A14611DC9C27745132DED8E545C1D54C72F046997")}
)

func hexInt(s string) *big.Int {
	n, _ := new(big.Int).SetString(s, 16)
	return n
}

type point struct{ x, y *big.Int }

func decode(b []byte) *point {
	return &point{new(big.Int).SetBytes(b[1:33]), new(big.Int).SetBytes(b[33:65])}
}

func add(a, b *point) *point {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	var num, den *big.Int
	if a.x.Cmp(b.x) == 0 {
		num = new(big.Int).Mul(a.x, a.x)
		num.Mul(num, big.NewInt(3)).Add(num, p256a)
		den = new(big.Int).Lsh(a.y, 1)
	} else {
		num, den = new(big.Int).Sub(b.y, a.y), new(big.Int).Sub(b.x, a.x)
	}
	l := den.Mod(den, p256).ModInverse(den, p256)
	l.Mul(l, num).Mod(l, p256)
	x := new(big.Int).Mul(l, l)
	x.Sub(x, a.x).Sub(x, b.x).Mod(x, p256)
	y := new(big.Int).Sub(a.x, x)
	y.Mul(y, l).Sub(y, a.y).Mod(y, p256)
	return &point{x, y}
}

func mul(k *big.Int, a *point) (r *point) {
	for i := k.BitLen() - 1; i >= 0; i-- {
		if r = dbl(r); k.Bit(i) == 1 {
			r = add(r, a)
		}
	}
	return r
}

func dbl(a *point) *point {
	if a == nil {
		return nil
	}
	return add(a, a)
}

type exchange struct {
	Type   string   `json:"type"`
	Keys   []string `json:"keys"`
	CAN    string   `json:"can"`
	TX, RX string
}

// paceSecret does the terminal's side of PACE (generic mapping, 6-digit CAN) from a trace.
func paceSecret(t *testing.T, lines []exchange) []byte {
	answer := func(marker string) []byte {
		for _, l := range lines {
			if i := strings.Index(l.RX, marker); i >= 0 && strings.HasPrefix(l.TX, "1086") {
				return cardtest.Unhex(t, l.RX[i+len(marker):len(l.RX)-4])
			}
		}
		t.Fatalf("no answer %s in the trace", marker)
		return nil
	}
	kpi := sha1.Sum(append([]byte(lines[0].CAN), 0, 0, 0, 3))
	block, err := aes.NewCipher(kpi[:16])
	if err != nil {
		t.Fatal(err)
	}
	nonce := answer("7C128010")
	cipher.NewCBCDecrypter(block, make([]byte, 16)).CryptBlocks(nonce, nonce)
	h := mul(hexInt(lines[0].Keys[0]), decode(answer("7C438241")))
	g := add(mul(new(big.Int).SetBytes(nonce), p256g), h)
	ephemeral := hexInt(lines[0].Keys[1])
	mine := mul(ephemeral, g)
	for _, l := range lines {
		if strings.Contains(l.TX, "7C438341") && !strings.Contains(l.TX, fmt.Sprintf("%064X%064X", mine.x, mine.y)) {
			t.Fatal("the trace's ephemeral key is another one")
		}
	}
	return mul(ephemeral, decode(answer("7C438441"))).x.FillBytes(make([]byte, 32))
}

func TestRecordedSessionsWithARealCard(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(testdata.Dir(t, "cards"), "apdu")
	for name, want := range map[string]int{"verify-pin": 3, "read-vsd": 5, "read-certs": 8} {
		f, err := os.Open(filepath.Join(dir, name+".jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var lines []exchange
		for sc := bufio.NewScanner(f); sc.Scan(); {
			var e exchange
			if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, e)
		}
		secret := paceSecret(t, lines)
		s := session(t, secret)
		plain := plainCommands[name]
		n := 0
		for _, l := range lines {
			if len(l.TX) < 2 || cardtest.Unhex(t, l.TX[:2])[0]&0x0C == 0 {
				continue
			}
			if n >= len(plain) {
				t.Fatalf("%s: more secured commands than expected", name)
			}
			c := parse(t, plain[n].command)
			if got := wrap(t, s, c); !strings.EqualFold(got, l.TX) {
				t.Fatalf("%s, command %d:\nhave %s\nwant %s", name, n, got, l.TX)
			}
			r, err := s.Unwrap(response(t, l.RX))
			if err != nil || r.SW != plain[n].sw || plain[n].data != "" && !strings.HasPrefix(hex.EncodeToString(r.Data), plain[n].data) {
				t.Errorf("%s, response %d: %04X %x, %v", name, n, r.SW, r.Data[:min(len(r.Data), 8)], err)
			}
			n++
		}
		if n != want {
			t.Errorf("%s: %d secured exchanges, want %d", name, n, want)
		}
	}
}

// plainCommands are what the recorded frames hide, with the start of the data and the status that came back.
var plainCommands = map[string][]struct {
	command string
	data    string
	sw      uint16
}{
	"verify-pin": {{"00A4040C", "", 0x9000}, {"80200002", "", 0x63C3}, {"002000020826123456FFFFFFFF", "", 0x9000}},
	"read-vsd": {
		{"00A4040C", "", 0x9000}, {"00A4040C06D27600000102", "", 0x9000}, {"00A4020C02D002", "", 0x9000},
		{"00B00000000000", "0008", 0x9000}, {"00B00230000000", "", 0x6B00},
	},
	"read-certs": {
		{"00A4040C0AA000000167455349474E", "", 0x9000}, {"00A40204000002C5040000", "62", 0x9000},
		{"00B00000000000", "3082", 0x9000}, {"00B0036E000000", "", 0x6B00}, {"00A4040C", "", 0x9000},
		{"00A402040000022F060000", "", 0x9000}, {"00B00000000000", "7f21", 0x9000}, {"00B000DE000000", "", 0x6B00},
	},
}

func FuzzUnwrap(f *testing.F) {
	f.Add(cardtest.Unhex(f, securedVerified))
	f.Add(cardtest.Unhex(f, "873101e06bd2440daf4db446778cb4fe5ff7a57ad3ab99ea529182e20893e037a900962c75146ada261fef22b6337bdbb37115990290008e083dccd1deb6fa7bfe9000"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := apdu.ParseResponse(raw)
		if err != nil {
			return
		}
		s := session(t, cardtest.Unhex(t, vectorKD))
		if _, err := s.Wrap(apdu.Command{CLA: 0x80, INS: 0x20, P2: 1}); err != nil {
			t.Fatal(err)
		}
		if plain, err := s.Unwrap(r); err == nil && hex.EncodeToString(raw) != securedVerified {
			t.Fatalf("%x passes as %v", raw, plain)
		}
	})
}
