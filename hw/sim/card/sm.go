package card

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"slices"
)

// session holds the session keys of the channel (gemSpec_COS, secure
// messaging with AES).
type session struct {
	enc, mac []byte
	ssc      [16]byte
	key      int   // key object the keys were agreed with, -1: asymmetric
	chat     *CHAT // rights of the peer, of an asymmetric agreement
}

// noKey is the key of a session that was not agreed with a symmetric key.
const noKey = -1

// sessionKeys derives both keys from the agreed secret (gemSpec_COS N001.500
// and N001.520).
func sessionKeys(secret []byte, curveSize int) (enc, mac []byte) {
	derive := func(n byte) []byte {
		in := append(slices.Clone(secret), 0, 0, 0, n)
		if curveSize == 32 {
			h := sha1.Sum(in)
			return h[:16]
		}
		h := sha256.Sum256(in)
		return h[:]
	}
	return derive(1), derive(2)
}

func (s *session) count() {
	for i := len(s.ssc) - 1; i >= 0; i-- {
		if s.ssc[i]++; s.ssc[i] != 0 {
			return
		}
	}
}

// block returns the cipher for a key of 16 or 32 octets; other lengths do not
// occur, because sessions come from sessionKeys or InjectSession.
func block(key []byte) cipher.Block {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil
	}
	return b
}

// pad appends ISO 7816-4 padding.
func pad(b []byte) []byte {
	b = append(slices.Clone(b), 0x80)
	for len(b)%16 != 0 {
		b = append(b, 0)
	}
	return b
}

// unpad removes ISO 7816-4 padding.
func unpad(b []byte) ([]byte, bool) {
	for i := len(b) - 1; i >= 0 && i >= len(b)-16; i-- {
		switch b[i] {
		case 0x80:
			return b[:i], true
		case 0:
		default:
			return nil, false
		}
	}
	return nil, false
}

// checksum is AES-CMAC (NIST SP 800-38B) over whole blocks, cut to 8 octets.
func (s *session) checksum(parts ...[]byte) [8]byte {
	b := block(s.mac)
	var k1, x [16]byte
	b.Encrypt(k1[:], k1[:])
	msb := k1[0] >> 7
	for i := range k1 {
		k1[i] <<= 1
		if i < 15 {
			k1[i] |= k1[i+1] >> 7
		}
	}
	k1[15] ^= 0x87 * msb

	msg := slices.Concat(append([][]byte{s.ssc[:]}, parts...)...)
	for i := 0; i < len(msg); i += 16 {
		for j := range x {
			x[j] ^= msg[i+j]
			if i+16 == len(msg) {
				x[j] ^= k1[j]
			}
		}
		b.Encrypt(x[:], x[:])
	}
	return [8]byte(x[:8])
}

// iv is the initial vector for enciphering with the present counter.
func (s *session) iv(b cipher.Block) []byte {
	iv := make([]byte, 16)
	b.Encrypt(iv, s.ssc[:])
	return iv
}

// open checks and removes secure messaging from a command. It advances the
// counter. Any deviation is an error: the caller ends the session.
func (s *session) open(c *command) (plain command, enciphered, ok bool) {
	s.count()
	plain = command{cla: c.cla &^ claSecure, ins: c.ins, p1: c.p1, p2: c.p2, extended: c.extended}
	rest := c.data
	var (
		objects int // octets of the data objects before the checksum
		content []byte
	)
	tag, value, after, err := nextTLV(rest)
	if err != nil {
		return plain, false, false
	}
	if tag == 0x87 || tag == 0x81 {
		enciphered, content, plain.hasData = tag == 0x87, value, true
		objects += len(rest) - len(after)
		rest = after
		if tag, value, after, err = nextTLV(rest); err != nil {
			return plain, false, false
		}
	}
	if tag == 0x97 {
		switch len(value) {
		case 1:
			plain.setShortLe(value[0])
		case 2:
			plain.setExtendedLe(value)
		default:
			return plain, false, false
		}
		objects += len(rest) - len(after)
		rest = after
		if tag, value, after, err = nextTLV(rest); err != nil {
			return plain, false, false
		}
	}
	if tag != 0x8E || len(value) != 8 || len(after) != 0 {
		return plain, false, false
	}
	parts := [][]byte{pad([]byte{c.cla, c.ins, c.p1, c.p2})}
	if objects > 0 {
		parts = append(parts, pad(c.data[:objects]))
	}
	if mac := s.checksum(parts...); subtle.ConstantTimeCompare(mac[:], value) != 1 {
		return plain, false, false
	}
	if !enciphered {
		plain.data = content
		return plain, false, true
	}
	if len(content) < 17 || content[0] != 0x01 || len(content)%16 != 1 {
		return plain, false, false
	}
	b := block(s.enc)
	clear := make([]byte, len(content)-1)
	cipher.NewCBCDecrypter(b, s.iv(b)).CryptBlocks(clear, content[1:])
	plain.data, ok = unpad(clear)
	return plain, true, ok
}

// seal secures a response and advances the counter.
func (s *session) seal(data []byte, sw uint16, encipher bool) []byte {
	s.count()
	var out []byte
	switch {
	case len(data) == 0:
	case encipher:
		b := block(s.enc)
		p := pad(data)
		cipher.NewCBCEncrypter(b, s.iv(b)).CryptBlocks(p, p)
		out = appendTLV(nil, 0x87, append([]byte{0x01}, p...)...)
	default:
		out = appendTLV(nil, 0x81, data...)
	}
	out = appendTLV(out, 0x99, byte(sw>>8), byte(sw))
	mac := s.checksum(pad(out))
	out = appendTLV(out, 0x8E, mac[:]...)
	return append(out, byte(sw>>8), byte(sw))
}
