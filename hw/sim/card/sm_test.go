package card_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"fmt"
	"testing"

	"ktradv/hw/sim/card"
)

// host secures commands and opens responses as a terminal does.
type host struct {
	t        testing.TB
	enc, mac []byte
	ssc      [16]byte
}

func newHost(t testing.TB) *host {
	return &host{t: t, enc: bytes.Repeat([]byte{0x0E}, 16), mac: bytes.Repeat([]byte{0x0A}, 16)}
}

func (h *host) keys(ref byte) card.SessionKeys {
	return card.SessionKeys{Enc: h.enc, Mac: h.mac, Counter: h.ssc, Key: ref}
}

func (h *host) count() {
	for i := 15; i >= 0; i-- {
		if h.ssc[i]++; h.ssc[i] != 0 {
			return
		}
	}
}

func isoPad(b []byte) []byte {
	b = append(bytes.Clone(b), 0x80)
	for len(b)%16 != 0 {
		b = append(b, 0)
	}
	return b
}

// checksum is AES-CMAC by the book: shift the enciphered zero block by one
// bit in GF(2^128), add it to the last block.
func (h *host) checksum(parts ...[]byte) []byte {
	b, err := aes.NewCipher(h.mac)
	if err != nil {
		h.t.Fatal(err)
	}
	msg := bytes.Clone(h.ssc[:])
	for _, p := range parts {
		msg = append(msg, isoPad(p)...)
	}
	k := make([]byte, 16)
	b.Encrypt(k, k)
	carry := byte(0)
	for i := 15; i >= 0; i-- {
		k[i], carry = k[i]<<1|carry, k[i]>>7
	}
	k[15] ^= 0x87 * carry
	for i, x := range k {
		msg[len(msg)-16+i] ^= x
	}
	out := make([]byte, len(msg))
	cipher.NewCBCEncrypter(b, make([]byte, 16)).CryptBlocks(out, msg)
	return out[len(out)-16:][:8]
}

func (h *host) crypt(data []byte, decrypt bool) []byte {
	b, err := aes.NewCipher(h.enc)
	if err != nil {
		h.t.Fatal(err)
	}
	iv := make([]byte, 16)
	b.Encrypt(iv, h.ssc[:])
	out := make([]byte, len(data))
	if decrypt {
		cipher.NewCBCDecrypter(b, iv).CryptBlocks(out, data)
	} else {
		cipher.NewCBCEncrypter(b, iv).CryptBlocks(out, data)
	}
	return out
}

func object(tag byte, v []byte) []byte {
	if len(v) > 127 {
		return append([]byte{tag, 0x81, byte(len(v))}, v...)
	}
	return append([]byte{tag, byte(len(v))}, v...)
}

// wrap secures a command. le is nil for a command without Le.
func (h *host) wrap(header string, data []byte, hide bool, le []byte) []byte {
	h.t.Helper()
	head := unhex(h.t, header)
	head[0] |= 0x0C
	h.count()
	var do []byte
	switch {
	case len(data) > 0 && hide:
		do = object(0x87, append([]byte{1}, h.crypt(isoPad(data), false)...))
	case len(data) > 0:
		do = object(0x81, data)
	}
	if le != nil {
		do = append(do, object(0x97, le)...)
	}
	parts := [][]byte{head}
	if len(do) > 0 {
		parts = append(parts, do)
	}
	body := append(bytes.Clone(do), object(0x8E, h.checksum(parts...))...)
	return append(append(append(head, byte(len(body))), body...), 0x00)
}

// open checks a secured response and returns the data, whether they were
// enciphered, and the status word.
func (h *host) open(resp []byte) (data []byte, hidden bool, sw string) {
	h.t.Helper()
	h.count()
	if len(resp) < 2+4+10 {
		h.t.Fatalf("not secured: % X", resp)
	}
	outer := resp[len(resp)-2:]
	body := resp[:len(resp)-2]
	mac := body[len(body)-8:]
	objects := body[:len(body)-10]
	if !bytes.Equal(h.checksum(objects), mac) {
		h.t.Fatalf("checksum of % X", resp)
	}
	status := objects[len(objects)-4:]
	if !bytes.Equal(status[:2], []byte{0x99, 2}) || !bytes.Equal(status[2:], outer) {
		h.t.Fatalf("status of % X", resp)
	}
	if do := objects[:len(objects)-4]; len(do) > 0 {
		v := do[2:]
		if do[1] == 0x81 {
			v = do[3:]
		}
		if do[1] == 0x82 {
			v = do[4:]
		}
		if hidden = do[0] == 0x87; hidden {
			v = h.crypt(v[1:], true)
			v = v[:bytes.LastIndexByte(v, 0x80)]
		}
		data = v
	}
	return data, hidden, fmt.Sprintf("%X", outer)
}

func (h *host) do(r *rig, header string, data []byte, hide bool, le []byte, want string) ([]byte, bool) {
	h.t.Helper()
	got, hidden, sw := h.open(r.Process(h.wrap(header, data, hide, le)))
	if sw != want {
		h.t.Fatalf("%s: %s, want %s", header, sw, want)
	}
	return got, hidden
}

const skCAN, skVSD, skCMS = 0x02, 0x12, 0x13

// Contactless rules of the reference, section 1.4.
func TestContactlessRules(t *testing.T) {
	t.Parallel()
	fresh := func(t *testing.T, ref byte) (*rig, *host) {
		r, h := insert(t, options{iface: card.Contactless}), newHost(t)
		if ref != 0 {
			if err := r.InjectSession(h.keys(ref)); err != nil {
				t.Fatal(err)
			}
		}
		return r, h
	}
	r, _ := fresh(t, 0)
	r.script(`
		00B09D0005 -> 9000
		00B0910005 -> 9000
		00B0820005 -> 6982
		00B0860005 -> 6982
		80200001 -> 6982
		0020000108` + pin + ` -> 6982
		8084000008 -> 6982
		80FA000080` + hex.EncodeToString(make([]byte, 128)) + `00 -> 6982
		002241A406840109800100 -> 9000
		0088000018` + hex.EncodeToString(make([]byte, 24)) + `00 -> 6982
		002281B60A8308` + hex.EncodeToString(rootCAR) + ` -> 9000
		` + selectHCA + ` -> 9000
		00B0810005 -> 6982
	`)

	r, h := fresh(t, skCAN)
	block := unhex(t, pin)
	h.do(r, "80200001", nil, false, nil, "63C3")
	h.do(r, "00200001", block, false, nil, "6982") // not enciphered
	h.do(r, "00200001", block, true, nil, "9000")
	h.do(r, "80200001", nil, false, nil, "9000")
	if data, hidden := h.do(r, "00B08200", nil, false, []byte{0}, "9000"); !hidden || len(data) != 12 {
		t.Errorf("EF.GDO: % X, enciphered %v", data, hidden)
	}
	if data, hidden := h.do(r, "00B09D00", nil, false, []byte{0}, "9000"); hidden || len(data) == 0 {
		t.Errorf("EF.ATR: % X, enciphered %v", data, hidden)
	}
	if data, hidden := h.do(r, "80840000", nil, false, []byte{8}, "9000"); !hidden || len(data) != 8 {
		t.Errorf("GET RANDOM: % X, enciphered %v", data, hidden)
	}
	h.do(r, "00A4040C", unhex(t, "D27600000102"), true, nil, "9000")
	h.do(r, "00B08300", nil, false, []byte{0}, "6982")
	r.SetRole(chat1)
	h.do(r, "00B08300", nil, false, []byte{0}, "9000")
	entry := bytes.Repeat([]byte{1}, 46)
	h.do(r, "00E20030", entry, false, nil, "6982")
	h.do(r, "00E20030", entry, true, nil, "9000")
	// A plain command ends all that.
	r.do("00B0830005", "6982")
	if got := r.Process(h.wrap("80200001", nil, false, nil)); !bytes.Equal(got, []byte{0x69, 0x88}) {
		t.Errorf("after a plain command: % X", got)
	}

	r, h = fresh(t, skVSD)
	h.do(r, "00A4040C", unhex(t, "D27600000102"), true, nil, "9000")
	h.do(r, "00B08300", nil, false, []byte{0}, "9000")
	h.do(r, "00D68100", []byte{1, 2, 3}, false, nil, "6982")
	h.do(r, "00D68100", []byte{1, 2, 3}, true, nil, "9000")
	h.do(r, "80200001", nil, false, nil, "6982") // PACE, and nothing else
	h.do(r, "00040000", nil, false, nil, "6982") // CMS, not VSD

	r, h = fresh(t, skCMS)
	h.do(r, "00A4040C", unhex(t, "D27600000102"), true, nil, "9000")
	h.do(r, "00040000", nil, false, nil, "9000")
	h.do(r, "00A4040C", unhex(t, "D27600000102"), true, nil, "6283")
	h.do(r, "00B08100", nil, false, []byte{0}, "6982")
}

// On the contact interface a channel with the keys of the issuer is what
// opens writing the insured data.
func TestIssuerOverContacts(t *testing.T) {
	t.Parallel()
	for ref, want := range map[byte]string{skVSD: "9000", skCMS: "6982", skCAN: "6982"} {
		r, h := insert(t, options{}), newHost(t)
		if err := r.InjectSession(h.keys(ref)); err != nil {
			t.Fatal(err)
		}
		h.do(r, "00A4040C", unhex(t, "D27600000102"), true, nil, "9000")
		h.do(r, "00D68200", []byte{9}, true, nil, want)
		h.do(r, "00D68200", []byte{9}, false, nil, "6982")
	}
	for bit, want := range map[int]string{8: "6982", 9: "9000", 10: "6982"} {
		r, h := insert(t, options{}), newHost(t)
		r.SetPeer(h.keys(0), card.CHAT{OID: card.FlagsCMS, Flags: card.Flag(bit)})
		h.do(r, "00A4040C", unhex(t, "D27600000102"), true, nil, "9000")
		h.do(r, "00D68200", []byte{9}, true, nil, want)
	}
	// The same bit in the other flag list is another right.
	r, h := insert(t, options{}), newHost(t)
	r.SetPeer(h.keys(0), role(9))
	h.do(r, "00A4040C", unhex(t, "D27600000102"), true, nil, "9000")
	h.do(r, "00D68200", []byte{9}, true, nil, "6982")

	// Deleting a folder and a key needs the issuer, too.
	r, h = insert(t, options{}), newHost(t)
	if err := r.InjectSession(h.keys(skCMS)); err != nil {
		t.Fatal(err)
	}
	h.do(r, "00E42113", nil, false, nil, "6A86")
	h.do(r, "00E42009", nil, false, nil, "9000")
	h.do(r, "00E42009", nil, false, nil, "6A88")
	h.do(r, "00A4040C", unhex(t, "D27600000102"), true, nil, "9000")
	h.do(r, "00A4020C", unhex(t, "D001"), true, nil, "9000")
	h.do(r, "00E40000", nil, false, nil, "9000")
	h.do(r, "00A4020C", unhex(t, "D001"), true, nil, "6A82")
	h.do(r, "00EA0000", []byte{1}, true, nil, "6A81")
	h.do(r, "00A4040C", nil, false, nil, "9000")
	h.do(r, "00E42100", append([]byte{0x83, 8}, rootCAR...), true, nil, "9000")
	h.do(r, "002281B6", append([]byte{0x83, 8}, rootCAR...), true, nil, "6A88")
	h.do(r, "00440000", nil, false, nil, "6982")
}

// Every deviation from the format of secure messaging ends the session with
// an unsecured 6988.
func TestBrokenSecureMessaging(t *testing.T) {
	t.Parallel()
	good := func(h *host) []byte { return h.wrap("00A4040C", unhex(t, "D27600000102"), true, nil) }
	// secure builds a command with a right checksum around given objects.
	secure := func(h *host, objects []byte) []byte {
		h.count()
		head := []byte{0x0C, 0xA4, 0x04, 0x0C}
		body := append(bytes.Clone(objects), object(0x8E, h.checksum(head, objects))...)
		return append(append(append(head, byte(len(body))), body...), 0)
	}
	for name, frame := range map[string]func(h *host) []byte{
		"header": func(h *host) []byte { b := good(h); b[3] ^= 0x02; return b },
		"data":   func(h *host) []byte { b := good(h); b[10] ^= 1; return b },
		"mac":    func(h *host) []byte { b := good(h); b[len(b)-3] ^= 1; return b },
		"counter": func(h *host) []byte {
			h.count()
			return good(h)
		},
		"no objects":    func(*host) []byte { return []byte{0x0C, 0xA4, 0x04, 0x0C} },
		"no checksum":   func(*host) []byte { return []byte{0x0C, 0xA4, 0x04, 0x0C, 0x03, 0x81, 0x01, 0x00, 0x00} },
		"short mac":     func(*host) []byte { return []byte{0x0C, 0xA4, 0x04, 0x0C, 0x03, 0x8E, 0x01, 0x00, 0x00} },
		"no object":     func(*host) []byte { return []byte{0x0C, 0xA4, 0x04, 0x0C, 0x02, 0x8E, 0x70, 0x00} },
		"order":         func(h *host) []byte { return secure(h, unhex(t, "970100810100")) },
		"unknown tag":   func(h *host) []byte { return secure(h, unhex(t, "85020102")) },
		"le":            func(h *host) []byte { return secure(h, unhex(t, "9703010203")) },
		"indicator":     func(h *host) []byte { return secure(h, object(0x87, append([]byte{2}, make([]byte, 16)...))) },
		"block length":  func(h *host) []byte { return secure(h, object(0x87, append([]byte{1}, make([]byte, 15)...))) },
		"empty data":    func(h *host) []byte { return secure(h, object(0x87, []byte{1})) },
		"padding":       func(h *host) []byte { return secure(h, object(0x87, append([]byte{1}, make([]byte, 16)...))) },
		"twice the mac": func(h *host) []byte { b := good(h); return append(b[:len(b)-1], 0x8E, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, h := insert(t, options{}), newHost(t)
			if err := r.InjectSession(h.keys(skCAN)); err != nil {
				t.Fatal(err)
			}
			got := r.Process(frame(h))
			if !bytes.Equal(got, []byte{0x69, 0x88}) && !(name == "twice the mac" && bytes.Equal(got, []byte{0x67, 0})) {
				t.Fatalf("% X", got)
			}
			h = newHost(t)
			if got := r.Process(good(h)); !bytes.Equal(got, []byte{0x69, 0x88}) {
				t.Errorf("the session keys survived: % X", got)
			}
		})
	}
	r, h := insert(t, options{}), newHost(t)
	if err := r.InjectSession(h.keys(skCAN)); err != nil {
		t.Fatal(err)
	}
	if got := r.Process(good(h)); !bytes.HasPrefix(got, []byte{0x99, 0x02, 0x90, 0x00}) {
		t.Errorf("the right frame: % X", got)
	}
}

func TestCounterCarries(t *testing.T) {
	t.Parallel()
	r, h := insert(t, options{}), newHost(t)
	for i := range h.ssc {
		h.ssc[i] = 0xFF
	}
	h.ssc[0], h.ssc[15] = 0x7F, 0xFE
	if err := r.InjectSession(h.keys(skCAN)); err != nil {
		t.Fatal(err)
	}
	h.do(r, "80200001", nil, false, nil, "63C3")
	h.do(r, "80200001", nil, false, nil, "63C3")
	if want := append([]byte{0x80}, make([]byte, 14)...); !bytes.Equal(h.ssc[:15], want) {
		t.Errorf("counter % X", h.ssc)
	}
}
