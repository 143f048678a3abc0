package persona

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
	"unicode/utf8"

	"ktradv/hw/sim/card"
	"ktradv/internal/testpki"
)

// writer fills the files and keys of an object system and keeps the first
// error.
type writer struct {
	root   *card.Folder
	random io.Reader
	err    error
}

func (w *writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// bytes returns n random octets.
func (w *writer) bytes(n int) []byte {
	r := w.random
	if r == nil {
		r = rand.Reader
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	w.fail(err)
	return b
}

// file sets the content of a transparent file, if this generation has it.
func (w *writer) file(path string, body []byte) {
	f, ok := w.root.Lookup("MF/" + path).(*card.File)
	if !ok {
		return
	}
	if f.Structure != card.Transparent || len(body) > f.Size {
		w.fail(fmt.Errorf("%s does not take %d octets", path, len(body)))
		return
	}
	f.Body = body
}

// records sets the records of a file.
func (w *writer) records(path string, data ...[]byte) {
	f, ok := w.root.Lookup("MF/" + path).(*card.File)
	if !ok {
		return
	}
	if f.Structure == card.Transparent || len(data) > f.MaxRecords {
		w.fail(fmt.Errorf("%s does not take %d records", path, len(data)))
		return
	}
	f.Records = nil
	for _, d := range data {
		f.Records = append(f.Records, card.Record{Data: d})
	}
}

// zeros fills the file, or every record of a file with records of fixed
// length, with zeros.
func (w *writer) zeros(path string) {
	f, ok := w.root.Lookup("MF/" + path).(*card.File)
	if !ok {
		return
	}
	if f.Structure == card.Transparent {
		f.Body = make([]byte, f.Size)
		return
	}
	for range f.MaxRecords {
		f.Records = append(f.Records, card.Record{Data: make([]byte, f.MaxRecord)})
	}
}

// bcd packs an even number of decimal digits.
func bcd(digits string, octets int) ([]byte, error) {
	if len(digits) != 2*octets {
		return nil, fmt.Errorf("%d digits, want %d", len(digits), 2*octets)
	}
	out := make([]byte, octets)
	for i, d := range []byte(digits) {
		if d < '0' || d > '9' {
			return nil, errors.New("not a digit")
		}
		out[i/2] = out[i/2]<<4 | (d - '0')
	}
	return out, nil
}

// tlv codes a data object with a tag of one octet and less than 128 octets.
func tlv(tag byte, value ...byte) []byte { return append([]byte{tag, byte(len(value))}, value...) }

// fill pads a text with blanks to n octets.
func fill(s string, n int) []byte {
	b := []byte(s)
	for len(b) < n {
		b = append(b, ' ')
	}
	return b[:n]
}

// common writes the files of the MF and the empty ones.
func (w *writer) common(p *Persona, iccsn []byte) {
	version, product, sizes := []byte{4, 5, 2}, "EGK21", []int{2057, 32770, 2057, 2057}
	if p.Generation == "G2" {
		version, product, sizes = []byte{4, 3, 3}, "EGK20", []int{1033, 32770, 1033, 1033}
	}
	identity := slices.Concat(fill("KTSIM", 5), fill(product, 8), version)

	w.file("EF.GDO", tlv(0x5A, iccsn...))
	w.file("EF.CardAccess", slices.Concat([]byte{0x31, 0x14, 0x30, 0x12, 0x06, 0x0A}, card.PACEOID, []byte{0x02, 0x01, 0x02, 0x02, 0x01, 0x0D}))
	v2 := slices.Concat(tlv(0xC0, 2, 0, 0), tlv(0xC1, version...), tlv(0xC2, identity...),
		tlv(0xC4, 3, 0, 0), tlv(0xC5, 3, 0, 0), tlv(0xC7, 3, 0, 0))
	w.file("EF.Version2", tlv(0xEF, v2...))
	w.records("EF.Version", []byte{0, 0x40, 0, 0, 0}, []byte{0, 0x40, 0, 0, 0}, []byte{0, 0x40, 0, 0, 0}, []byte{0, 0x40, 0, 0, 0})

	var buffers []byte
	for i, n := range sizes {
		b := []byte{byte(n >> 8), byte(n)}
		if i == 1 {
			b = []byte{0, byte(n >> 8), byte(n)} // positive INTEGER
		}
		buffers = append(buffers, tlv(0x02, b...)...)
	}
	atr := slices.Concat(tlv(0xE0, buffers...), append([]byte{0x5F}, tlv(0x52, fill("\x80fKTRADV", 12)...)...), tlv(0xD0, 4, 4, 0))
	for _, tag := range []byte{0xD2, 0xD3, 0xD4, 0xD6} {
		atr = append(atr, tlv(tag, identity...)...)
	}
	w.file("EF.ATR", append(atr, tlv(0xCF, make([]byte, 0x15)...)...))

	var dir [][]byte
	for _, path := range []string{"MF", "MF/DF.HCA", "MF/DF.ESIGN", "MF/DF.CIA_ESIGN"} {
		if f, ok := w.root.Lookup(path).(*card.Folder); ok {
			dir = append(dir, tlv(0x61, tlv(0x4F, f.AID...)...))
		}
	}
	w.records("EF.DIR", dir...)
	w.file("DF.CIA_ESIGN/EF.CIA_Info", []byte{0x30, 0x09, 0x02, 0x01, 0x01, 0x80, 0x01, 'K', 0x03, 0x01, 0x00})
	for _, path := range []string{
		"DF.HCA/DF.NFD/EF.NFD", "DF.HCA/DF.NFD/EF.StatusNFD", "DF.HCA/DF.DPE/EF.DPE", "DF.HCA/DF.DPE/EF.StatusDPE",
		"DF.HCA/DF.OSE/EF.OSE", "DF.HCA/DF.OSE/EF.StatusOSE", "DF.HCA/DF.AMTS/EF.AMTS", "DF.HCA/DF.AMTS/EF.StatusAMTS",
		"DF.HCA/EF.Einwilligung", "DF.HCA/EF.Verweis", "DF.HCA/EF.TTN",
	} {
		w.zeros(path)
	}
}

// secrets sets PINs, PUK and CAN.
func (w *writer) secrets(p *Persona) {
	block := func(digits string) card.Block {
		b, err := card.NewBlock(digits)
		w.fail(err)
		return b
	}
	w.root.Walk(func(_ string, o card.Object) {
		switch o := o.(type) {
		case *card.Password:
			o.Secret = block(PIN)
			if o.Name != "PIN.CH" {
				return
			}
			o.PUK = block(PUK)
			if s := p.PINState.Transport; s != "" {
				o.Secret, o.Transport = block(s), card.TransportPIN
			}
			counter := func(name string, to *int, n *int) {
				switch {
				case n == nil:
				case *n < 0 || *n > *to:
					w.fail(fmt.Errorf("%s: %d of %d", name, *n, *to))
				default:
					*to = *n
				}
			}
			counter("tries", &o.Retry, p.PINState.Tries)
			counter("PUK uses", &o.PUKUses, p.PINState.PUKUses)
		case *card.PaceKey:
			o.Secret = block(CAN)
		case *card.SecretKey:
			n := 16
			if o.ID == 0x18 || o.ID == 0x19 {
				n = 32
			}
			o.Enc, o.Mac = w.bytes(n), w.bytes(n)
		}
	})
}

// keys writes certificates and keys: on a G2 card in the R2048 files and key
// objects, on newer ones in the E256 ones.
func (w *writer) keys(p *Persona, id testpki.EGKIdentity, rootCertificate []byte) {
	w.file("EF.C.eGK.AUT_CVC.E256", id.CVC.Certificate)
	w.file("EF.C.CA_eGK.CS.E256", id.CACVC)
	kind := "E256"
	if p.Generation == "G2" {
		kind = "R2048"
	}
	for name, x := range map[string]testpki.X509Identity{"AUT": id.AUT, "AUTN": id.AUTN, "ENC": id.ENC, "ENCV": id.ENCV} {
		w.file("DF.ESIGN/EF.C.CH."+name+"."+kind, x.Certificate)
		if k, ok := w.root.Lookup("MF/DF.ESIGN/PrK.CH." + name + "." + kind).(*card.PrivateKey); ok {
			k.EC, k.RSA = x.Key, x.RSA
		}
	}
	if k, ok := w.root.Lookup("MF/PrK.eGK.AUT_CVC.E256").(*card.PrivateKey); ok {
		k.EC = id.CVC.Key
		if p.WrongKey {
			k.EC = w.newKey()
		}
	}
	_, expires, err := card.CertificateDates(rootCertificate)
	if err != nil {
		w.fail(fmt.Errorf("certificate of the root: %w", err))
		return
	}
	if k, ok := w.root.Lookup("MF/PuK.RCA.CS.E256").(*card.PublicKey); ok {
		k.Ref, k.Key, k.Expires = id.RootCAR[:], id.RootKey, expires
	}
	if k, ok := w.root.Lookup("MF/PuK.RCA.ADMINCMS.CS.E256").(*card.PublicKey); ok {
		k.Ref, k.Expires = []byte{0, 0, 0, 0, 0, 0, 0, 0x13}, expires
		if own := w.newKey(); own != nil {
			k.Key = own.Public()
		}
	}
}

// insured writes the insured data.
func (w *writer) insured(p *Persona, now time.Time) {
	add := func(path string, body []byte, err error) {
		w.fail(err)
		w.file(path, body)
	}
	pd, err := packed(p.personXML())
	w.fail(err)
	gvd, err := packed(p.protectedXML())
	w.fail(err)
	vd, err := packed(p.insuranceXML())
	w.fail(err)
	for name, b := range map[string]*[]byte{"EF.PD": &pd, "EF.VD": &vd, "EF.GVD": &gvd} {
		if p.Damage == name {
			*b = (*b)[:len(*b)/2]
		}
	}
	add("DF.HCA/EF.PD", withLength(pd), nil)
	add("DF.HCA/EF.GVD", withLength(gvd), nil)
	var old []byte
	if p.CopyProtected {
		old = gvd
	}
	add("DF.HCA/EF.VD", withOffsets(vd, old), nil)

	stamp := now.UTC().AddDate(0, 0, -p.UpdatedDaysAgo).Format("20060102150405")
	w.file("DF.HCA/EF.StatusVD", slices.Concat([]byte{'0'}, []byte(stamp),
		[]byte{0x00, 0x50, 0x02, 0x00, 0x00}, []byte{0x00, 0x30, 0x00, 0x00, 0x04}))
}

// withLength is the layout of EF.PD and EF.GVD.
func withLength(gz []byte) []byte { return append([]byte{byte(len(gz) >> 8), byte(len(gz))}, gz...) }

// withOffsets is the layout of EF.VD: begin and inclusive end of the data and
// of the old copy of the protected data, FFFF without the copy.
func withOffsets(vd, old []byte) []byte {
	const start = 8
	offsets := []int{start, start + len(vd) - 1, 0xFFFF, 0xFFFF}
	if old != nil {
		offsets[2], offsets[3] = start+len(vd), start+len(vd)+len(old)-1
	}
	var out []byte
	for _, n := range offsets {
		out = append(out, byte(n>>8), byte(n))
	}
	return slices.Concat(out, vd, old)
}

// log writes EF.Logging: the entries and, as on a fresh card, empty records.
func (w *writer) log(p *Persona, now time.Time) {
	const path = "DF.HCA/EF.Logging"
	w.zeros(path)
	f, ok := w.root.Lookup("MF/" + path).(*card.File)
	if !ok {
		return
	}
	for i, e := range p.Log {
		rec, err := e.record(now)
		if err == nil && i >= len(f.Records) {
			err = errors.New("too many entries")
		}
		if err != nil {
			w.fail(fmt.Errorf("log entry %d: %w", i+1, err))
			return
		}
		f.Records[i].Data = rec
	}
}

func (e *LogEntry) record(now time.Time) ([]byte, error) {
	actor, err := bcd(e.Actor, 10)
	if err != nil {
		return nil, fmt.Errorf("actor: %w", err)
	}
	if len(e.Type) != 1 || len(e.Access) != 1 {
		return nil, errors.New("type and access are one letter each")
	}
	y, m, d := now.UTC().AddDate(0, 0, -e.DaysAgo).Date()
	t := time.Date(y, m, d, 0, e.Minute, 0, 0, time.UTC).Unix()
	name := e.Name
	for len(name) > 30 { // cut at 30 octets, not inside a letter
		_, n := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-n]
	}
	return slices.Concat([]byte{byte(t >> 24), byte(t >> 16), byte(t >> 8), byte(t), e.Type[0], e.Access[0]}, actor, fill(name, 30)), nil
}

// otherCard turns the eGK into something else that has contacts.
func (w *writer) otherCard(kind string, sys *card.System) error {
	if kind != "SMC-B" {
		return fmt.Errorf("unknown kind of card %q", kind)
	}
	sys.Name = "SMC-B G2.1"
	sys.Root.AID = []byte{0xD2, 0x76, 0x00, 0x01, 0x46, 0x06}
	sys.Root.Children = slices.DeleteFunc(sys.Root.Children, func(o card.Object) bool {
		f, ok := o.(*card.Folder)
		return ok && f.Name == "DF.HCA"
	})
	w.records("EF.DIR", tlv(0x61, tlv(0x4F, sys.Root.AID...)...), tlv(0x61, tlv(0x4F, 0xA0, 0x00, 0x00, 0x01, 0x67, 0x45, 0x53, 0x49, 0x47, 0x4E)...))
	return w.err
}
