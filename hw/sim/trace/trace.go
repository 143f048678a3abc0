// Package trace reads recordings of APDU exchanges with real cards and, where
// the terminal's ephemeral PACE keys are part of the recording, derives the
// session keys and takes the secure messaging off every frame. It is the
// terminal's view of a session, written apart from the card in package card,
// so that recordings can prove that card right.
package trace

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
	"io"

	"ktradv/internal/brainpool"
)

// Exchange is one command and the card's response.
type Exchange struct{ Command, Response []byte }

// Recording is a session with a card.
type Recording struct {
	Keys      [][]byte // ephemeral private keys of the terminal: mapping, agreement
	CAN       string
	Exchanges []Exchange
}

// Read reads a recording: a header line and one line for each exchange.
func Read(r io.Reader) (*Recording, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	var rec Recording
	for n := 1; lines.Scan(); n++ {
		var l struct {
			Type   string
			Keys   []string
			CAN    string
			TX, RX string
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("recording: line %d: %w", n, err)
		}
		switch l.Type {
		case "header":
			rec.CAN = l.CAN
			for _, k := range l.Keys {
				b, err := hex.DecodeString(k)
				if err != nil {
					return nil, fmt.Errorf("recording: line %d: %w", n, err)
				}
				rec.Keys = append(rec.Keys, b)
			}
		case "exchange":
			tx, err1 := hex.DecodeString(l.TX)
			rx, err2 := hex.DecodeString(l.RX)
			if err := errors.Join(err1, err2); err != nil {
				return nil, fmt.Errorf("recording: line %d: %w", n, err)
			}
			if len(tx) < 4 || len(rx) < 2 {
				return nil, fmt.Errorf("recording: line %d: no APDU", n)
			}
			rec.Exchanges = append(rec.Exchanges, Exchange{tx, rx})
		default:
			return nil, fmt.Errorf("recording: line %d: unknown type %.20q", n, l.Type)
		}
	}
	return &rec, lines.Err()
}

// Session is secure messaging as the terminal sees it.
type Session struct {
	Enc, Mac []byte
	counter  [16]byte
}

// paceOID is id-PACE-ECDH-GM-AES-CBC-CMAC-128 as a data object.
var paceOID = []byte{0x06, 0x0A, 0x04, 0x00, 0x7F, 0x00, 0x07, 0x02, 0x02, 0x04, 0x02, 0x02}

// PACE finds the four steps of the key agreement in the recording, derives
// the session keys and checks both authentication tokens. Next is the index of
// the first exchange after it.
func (r *Recording) PACE() (s *Session, next int, err error) {
	if len(r.Keys) != 2 {
		return nil, 0, errors.New("PACE: the recording has no keys")
	}
	var steps []Exchange
	for i, x := range r.Exchanges {
		if x.Command[1] == 0x86 { // GENERAL AUTHENTICATE
			steps, next = append(steps, x), i+1
		}
	}
	if len(steps) != 4 {
		return nil, 0, fmt.Errorf("PACE: %d steps", len(steps))
	}
	curve := brainpool.P256r1()
	own, err := brainpool.NewPrivateKey(curve, r.Keys[1])
	if err != nil {
		return nil, 0, fmt.Errorf("PACE: %w", err)
	}
	ours, theirs := point(steps[2].Command, 0x83), point(steps[2].Response, 0x84)
	peer, err := brainpool.ParsePublicKey(curve, theirs)
	if err != nil {
		return nil, 0, fmt.Errorf("PACE: %w", err)
	}
	shared, err := own.ECDH(peer)
	if err != nil {
		return nil, 0, fmt.Errorf("PACE: %w", err)
	}
	s = &Session{Enc: derive(shared, 1), Mac: derive(shared, 2)}
	for _, token := range []struct {
		of   []byte // public key that the token is made over
		in   []byte
		tag  byte
		name string
	}{{theirs, steps[3].Command, 0x85, "terminal"}, {ours, steps[3].Response, 0x86, "card"}} {
		msg := append([]byte{0x7F, 0x49, 0x4F}, append(paceOID, append([]byte{0x86, 0x41}, token.of...)...)...)
		want := cmac(s.Mac, msg)
		if !bytes.Contains(token.in, append([]byte{token.tag, 8}, want...)) {
			return nil, 0, fmt.Errorf("PACE: token of the %s does not verify", token.name)
		}
	}
	return s, next, nil
}

// point finds an uncompressed point in a data object of 65 octets.
func point(b []byte, tag byte) []byte {
	i := bytes.Index(b, []byte{tag, 0x41, 0x04})
	if i < 0 || i+67 > len(b) {
		return nil
	}
	return b[i+2 : i+67]
}

func derive(secret []byte, n byte) []byte {
	h := sha1.Sum(append(append([]byte(nil), secret...), 0, 0, 0, n))
	return h[:16]
}

func pad(b []byte) []byte {
	b = append(append([]byte(nil), b...), 0x80)
	for len(b)%16 != 0 {
		b = append(b, 0)
	}
	return b
}

// cmac returns the first eight octets of AES-CMAC (NIST SP 800-38B).
func cmac(key, msg []byte) []byte {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil
	}
	double := func(k []byte) []byte {
		out := make([]byte, 16)
		for i := range k {
			out[i] = k[i] << 1
			if i < 15 {
				out[i] |= k[i+1] >> 7
			}
		}
		if k[0]&0x80 != 0 {
			out[15] ^= 0x87
		}
		return out
	}
	zero := make([]byte, 16)
	b.Encrypt(zero, zero)
	sub := double(zero)
	if len(msg)%16 != 0 {
		sub = double(sub)
		msg = pad(msg)
	}
	x := make([]byte, 16)
	for len(msg) > 0 {
		for i := range x {
			x[i] ^= msg[i]
			if len(msg) == 16 {
				x[i] ^= sub[i]
			}
		}
		b.Encrypt(x, x)
		msg = msg[16:]
	}
	return x[:8]
}

// Plain is an exchange without its secure messaging.
type Plain struct {
	Header   [4]byte
	Data     []byte // of the command
	Hidden   bool   // it was enciphered
	Le       []byte // one octet or two, nil: absent
	Answer   []byte
	Sealed   bool // the answer was enciphered
	SW       uint16
	Extended bool
}

// Open takes the secure messaging off one exchange, checking both checksums.
func (s *Session) Open(x Exchange) (Plain, error) {
	var p Plain
	c := x.Command
	copy(p.Header[:], c[:4])
	if p.Header[0]&0x0C != 0x0C {
		return p, errors.New("command without secure messaging")
	}
	body := c[4:]
	if len(body) > 3 && body[0] == 0 {
		p.Extended = true
		body = first(body[3:], int(body[1])<<8|int(body[2]))
	} else if len(body) > 0 {
		body = first(body[1:], int(body[0]))
	}
	s.step()
	data, err := s.unwrap(body, pad(c[:4]))
	if err != nil {
		return p, fmt.Errorf("command: %w", err)
	}
	p.Data, p.Hidden, p.Le = data.content, data.hidden, data.le
	p.Header[0] &^= 0x0C

	r := x.Response
	sw := r[len(r)-2:]
	s.step()
	answer, err := s.unwrap(r[:len(r)-2], nil)
	if err != nil {
		return p, fmt.Errorf("response: %w", err)
	}
	if !bytes.Equal(answer.sw, sw) {
		return p, errors.New("response: two different status words")
	}
	p.Answer, p.Sealed, p.SW = answer.content, answer.hidden, uint16(sw[0])<<8|uint16(sw[1])
	return p, nil
}

// first returns n octets of b, or all when there are fewer.
func first(b []byte, n int) []byte { return b[:min(n, len(b))] }

func (s *Session) step() {
	for i := 15; i >= 0; i-- {
		if s.counter[i]++; s.counter[i] != 0 {
			return
		}
	}
}

type unwrapped struct {
	content, le, sw []byte
	hidden          bool
}

func (s *Session) unwrap(b, header []byte) (out unwrapped, err error) {
	whole := b
	for len(b) > 0 {
		tag, v, rest, ok := object(b)
		if !ok {
			return out, errors.New("malformed data object")
		}
		switch tag {
		case 0x81:
			out.content = v
		case 0x87:
			if len(v) < 17 || v[0] != 1 || len(v)%16 != 1 {
				return out, errors.New("malformed cryptogram")
			}
			c, err := aes.NewCipher(s.Enc)
			if err != nil {
				return out, err
			}
			iv := make([]byte, 16)
			c.Encrypt(iv, s.counter[:])
			clear := make([]byte, len(v)-1)
			cipher.NewCBCDecrypter(c, iv).CryptBlocks(clear, v[1:])
			i := bytes.LastIndexByte(clear, 0x80)
			if i < 0 {
				return out, errors.New("padding")
			}
			out.content, out.hidden = clear[:i], true
		case 0x97:
			out.le = v
		case 0x99:
			out.sw = v
		case 0x8E:
			msg := append(append([]byte(nil), s.counter[:]...), header...)
			if objects := whole[:len(whole)-len(b)]; len(objects) > 0 {
				msg = append(msg, pad(objects)...)
			}
			if !bytes.Equal(cmac(s.Mac, msg), v) || len(rest) != 0 {
				return out, errors.New("checksum does not verify")
			}
			return out, nil
		default:
			return out, fmt.Errorf("data object %02X", tag)
		}
		b = rest
	}
	return out, errors.New("no checksum")
}

// object splits off a data object with a tag of one octet.
func object(b []byte) (tag byte, v, rest []byte, ok bool) {
	if len(b) < 2 {
		return 0, nil, nil, false
	}
	n, size := int(b[1]), 2
	switch {
	case n == 0x81 && len(b) > 2:
		n, size = int(b[2]), 3
	case n == 0x82 && len(b) > 3:
		n, size = int(b[2])<<8|int(b[3]), 4
	case n >= 0x80:
		return 0, nil, nil, false
	}
	if len(b) < size+n {
		return 0, nil, nil, false
	}
	return b[0], b[size : size+n], b[size+n:], true
}
