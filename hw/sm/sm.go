// Package sm is the host's side of secure messaging on a channel to a health card (gemSpec_COS N032.x, egk-card.md 4.4):
// every command is enciphered and authenticated, every response verified before a single octet of it is used.
//
// A [Session] begins with the shared secret of card-to-card authentication (package c2c). It is a strict sequence: wrap a
// command, send it, unwrap its response, wrap the next. After the first failure the session is over: the card deletes
// its keys in that moment too.
package sm

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"ktradv/hw/apdu"
	"ktradv/hw/tlv"
	"ktradv/internal/redact"
)

// Errors. After each of them the session is over.
var (
	// ErrMAC: the response is not from the card that has the keys, or was changed on the way.
	ErrMAC = errors.New("secure messaging: wrong MAC")
	// ErrFormat: the response has a valid status but not the form of a secured response.
	ErrFormat = errors.New("secure messaging: malformed response")
	// ErrLost: the card answered without secure messaging, so it has no session (any more). The status word stands in
	// the error text.
	ErrLost = errors.New("secure messaging: card has lost the session")
	// ErrSequence: commands and responses out of order, or the session was over before.
	ErrSequence = errors.New("secure messaging: out of sequence")
	// ErrCommand: the command cannot be secured.
	ErrCommand = errors.New("secure messaging: command cannot be secured")
)

const (
	macSize   = 8
	blockSize = aes.BlockSize

	// What securing adds at most: DO 87 with indicator and padding, DO 97, DO 8E.
	maxPlain = apdu.MaxData - 64
)

// Data objects of secured messages.
const (
	doPlain  = 0x81
	doCipher = 0x87
	doLe     = 0x97
	doStatus = 0x99
	doMAC    = 0x8E
)

// Session secures messages in both directions. It is not safe for concurrent use.
type Session struct {
	enc, mac cipher.Block
	k1       [blockSize]byte // CMAC subkey for messages of whole blocks
	ssc      [blockSize]byte // send sequence counter
	waiting  bool            // for the response to the last command
	over     bool
}

// New starts a session from the shared secret of the key agreement, K1‖K2: two x-coordinates of the curve that the
// keys lie on. Coordinates of 32 octets give AES-128 keys derived with SHA-1, longer ones AES-256 keys derived with
// SHA-256 (N001.500, N001.520). The send sequence counter starts at 0.
func New(secret redact.Bytes) (*Session, error) {
	kd := secret.Reveal()
	derive := func(counter uint32) []byte {
		input := binary.BigEndian.AppendUint32(append([]byte(nil), kd...), counter)
		defer clear(input)
		if len(kd) > 64 {
			h := sha256.Sum256(input)
			return h[:]
		}
		h := sha1.Sum(input)
		return h[:16]
	}
	if len(kd) < 32 {
		return nil, fmt.Errorf("secure messaging: shared secret of %d octets", len(kd))
	}
	encKey, macKey := derive(1), derive(2)
	defer clear(encKey)
	defer clear(macKey)
	enc, err := aes.NewCipher(encKey)
	if err != nil {
		return nil, fmt.Errorf("secure messaging: %w", err)
	}
	mac, err := aes.NewCipher(macKey)
	if err != nil {
		return nil, fmt.Errorf("secure messaging: %w", err)
	}
	s := &Session{enc: enc, mac: mac}
	s.mac.Encrypt(s.k1[:], s.k1[:])
	carry := s.k1[0] >> 7
	for i := range s.k1 {
		next := byte(0)
		if i+1 < blockSize {
			next = s.k1[i+1] >> 7
		}
		s.k1[i] = s.k1[i]<<1 | next
	}
	s.k1[blockSize-1] ^= 0x87 * carry
	return s, nil
}

// String prints no key.
func (s *Session) String() string { return redact.Mark }

// Format prints no key, whatever the verb.
func (s *Session) Format(w fmt.State, _ rune) { io.WriteString(w, redact.Mark) }

// count advances the send sequence counter.
func (s *Session) count() {
	for i := blockSize - 1; i >= 0; i-- {
		if s.ssc[i]++; s.ssc[i] != 0 {
			return
		}
	}
}

// pad appends 80 and zeros up to the block size.
func pad(b []byte) []byte {
	b = append(b, 0x80)
	for len(b)%blockSize != 0 {
		b = append(b, 0)
	}
	return b
}

// cmac is AES-CMAC over whole blocks, cut to eight octets: over the counter and the padded parts.
func (s *Session) cmac(parts ...[]byte) []byte {
	input := append([]byte(nil), s.ssc[:]...)
	for _, p := range parts {
		if len(p) > 0 {
			input = pad(append(input, p...))
		}
	}
	for i, k := range s.k1 {
		input[len(input)-blockSize+i] ^= k
	}
	var state [blockSize]byte
	for ; len(input) > 0; input = input[blockSize:] {
		subtle.XORBytes(state[:], state[:], input[:blockSize])
		s.mac.Encrypt(state[:], state[:])
	}
	return state[:macSize]
}

// iv is the encrypted counter.
func (s *Session) iv() []byte {
	iv := make([]byte, blockSize)
	s.enc.Encrypt(iv, s.ssc[:])
	return iv
}

// Wrap secures a command: its data is enciphered, header, data and Le are authenticated.
func (s *Session) Wrap(c apdu.Command) (apdu.Command, error) {
	if s.over || s.waiting {
		return apdu.Command{}, ErrSequence
	}
	if c.CLA&0x0C != 0 || c.CLA&0x60 != 0 || len(c.Data) > maxPlain || c.Ne < 0 || c.Ne > apdu.MaxNe {
		return apdu.Command{}, fmt.Errorf("%v: %w", c, ErrCommand)
	}
	s.count()
	s.waiting = true
	out := apdu.Command{CLA: c.CLA | 0x0C, INS: c.INS, P1: c.P1, P2: c.P2, Ne: apdu.MaxShortNe}
	if len(c.Data) > 0 {
		text := pad(append([]byte(nil), c.Data...))
		cipher.NewCBCEncrypter(s.enc, s.iv()).CryptBlocks(text, text)
		out.Data = tlv.Append(out.Data, doCipher, []byte{0x01}, text)
	}
	if c.Ne > 0 {
		le := []byte{byte(c.Ne)}
		if c.IsExtended() {
			le = []byte{byte(c.Ne >> 8), byte(c.Ne)}
		}
		out.Data = tlv.Append(out.Data, doLe, le)
		out.Ne, out.Extended = apdu.MaxNe, true
	}
	mac := s.cmac([]byte{out.CLA, out.INS, out.P1, out.P2}, out.Data)
	out.Data = tlv.Append(out.Data, doMAC, mac)
	return out, nil
}

// Unwrap verifies and deciphers the response to the last wrapped command. Until the MAC is verified nothing of the
// response is used.
func (s *Session) Unwrap(r apdu.Response) (apdu.Response, error) {
	if s.over || !s.waiting {
		return apdu.Response{}, ErrSequence
	}
	s.waiting = false
	s.count()
	plain, err := s.unwrap(r)
	if err != nil {
		s.over = true
		return apdu.Response{}, err
	}
	return plain, nil
}

func (s *Session) unwrap(r apdu.Response) (apdu.Response, error) {
	if len(r.Data) == 0 {
		return apdu.Response{}, fmt.Errorf("%w: status %04X", ErrLost, r.SW)
	}
	objects, err := tlv.Parse(r.Data)
	if err != nil {
		return apdu.Response{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	var data *tlv.Object
	if len(objects) == 3 && (objects[0].Tag == doCipher || objects[0].Tag == doPlain) {
		data, objects = &objects[0], objects[1:]
	}
	if len(objects) != 2 || objects[0].Tag != doStatus || len(objects[0].Value) != 2 ||
		objects[1].Tag != doMAC || len(objects[1].Value) != macSize {
		return apdu.Response{}, fmt.Errorf("%w: data objects", ErrFormat)
	}
	authenticated := r.Data[:len(r.Data)-len(objects[1].Raw)]
	if subtle.ConstantTimeCompare(s.cmac(authenticated), objects[1].Value) != 1 {
		return apdu.Response{}, ErrMAC
	}
	plain := apdu.Response{SW: binary.BigEndian.Uint16(objects[0].Value)}
	if plain.SW != r.SW {
		return apdu.Response{}, fmt.Errorf("%w: status %04X outside, %04X inside", ErrFormat, r.SW, plain.SW)
	}
	if data == nil {
		return plain, nil
	}
	if data.Tag == doPlain {
		plain.Data = data.Value
		return plain, nil
	}
	text := data.Value
	if len(text) < 1+blockSize || (len(text)-1)%blockSize != 0 || text[0] != 0x01 {
		return apdu.Response{}, fmt.Errorf("%w: cryptogram of %d octets", ErrFormat, len(text))
	}
	text = append([]byte(nil), text[1:]...)
	cipher.NewCBCDecrypter(s.enc, s.iv()).CryptBlocks(text, text)
	end := len(text) - 1
	for end > len(text)-blockSize && text[end] == 0 {
		end--
	}
	if text[end] != 0x80 {
		return apdu.Response{}, fmt.Errorf("%w: padding", ErrFormat)
	}
	plain.Data = text[:end:end]
	return plain, nil
}
