package cms

import (
	"bytes"
	"crypto/sha256"

	"ktradv/internal/ber"
)

var oidSubjectKeyID = ber.NewOID(2, 5, 29, 14)

// FindCertificate returns the certificate of the message that si.sid names, nil when it is not there. The name decides,
// never the order. When several different certificates have the name, the one is taken that the signed attribute
// signingCertificateV2 refers to; without such a reference the first.
func (sd *SignedData) FindCertificate(si *SignerInfo) []byte {
	var found []byte
	for _, der := range sd.Certificates {
		if !si.names(der) || found != nil && (bytes.Equal(found, der) || !refersTo(si, der)) {
			continue
		}
		if found != nil && refersTo(si, found) {
			break
		}
		found = der
	}
	return found
}

// refersTo reports whether signingCertificateV2 has the hash of this certificate.
func refersTo(si *SignerInfo, der []byte) bool {
	value, _, ok := one(si.SignedAttributes, TypeSigningCertificateV2)
	if !ok {
		return false
	}
	hash := sha256.Sum256(der)
	ref, err := readReferenceV2(value)
	return err == nil && ref.hash == oidSHA256 && bytes.Equal(ref.digest, hash[:])
}

// names reports whether sid names this certificate. Of the certificate no more is read than that takes.
func (si *SignerInfo) names(der []byte) bool {
	id, ok := readIdentity(der)
	return ok && si.namesIdentity(id)
}

func (si *SignerInfo) namesIdentity(id identity) bool {
	if si.SubjectKeyID != nil {
		key, ok := id.subjectKeyID()
		return ok && bytes.Equal(key, si.SubjectKeyID)
	}
	return bytes.Equal(si.Serial, id.serial) && sameName(si.Issuer, id.issuer)
}

// identity is what signers and references name certificates by.
type identity struct {
	issuer, serial []byte
	rest           ber.Input // of the TBSCertificate after issuer
}

func readIdentity(der []byte) (identity, bool) {
	in := ber.NewDER(der)
	cert, err := in.Inside(ber.Sequence)
	if err != nil || !in.Empty() {
		return identity{}, false
	}
	tbs, err := cert.Inside(ber.Sequence)
	if err != nil {
		return identity{}, false
	}
	if _, _, err := tbs.Optional(ber.Context(0)); err != nil {
		return identity{}, false
	}
	serial, err := tbs.Read(ber.Integer)
	if err != nil {
		return identity{}, false
	}
	if _, err := tbs.Read(ber.Sequence); err != nil { // signature algorithm
		return identity{}, false
	}
	issuer, err := tbs.Read(ber.Sequence)
	if err != nil {
		return identity{}, false
	}
	return identity{issuer: issuer.Raw, serial: serial.Content, rest: tbs}, true
}

// subjectKeyID reads the extension of that name.
func (id identity) subjectKeyID() ([]byte, bool) {
	for in := id.rest; !in.Empty(); {
		e, err := in.Next()
		if err != nil {
			return nil, false
		}
		if e.Tag != ber.Context(3) {
			continue
		}
		wrapped, err := in.Enter(e)
		if err != nil {
			return nil, false
		}
		list, err := wrapped.Inside(ber.Sequence)
		for err == nil && !list.Empty() {
			var extension ber.Input
			var oid, value ber.Element
			if extension, err = list.Inside(ber.Sequence); err != nil {
				break
			}
			if oid, err = extension.Read(ber.ObjectID); err != nil || !oid.IsOID(oidSubjectKeyID) {
				continue
			}
			if _, _, err = extension.Optional(ber.Boolean); err != nil {
				break
			}
			if value, err = extension.Read(ber.OctetString); err != nil {
				break
			}
			inner := ber.NewDER(value.Content)
			key, err := inner.Read(ber.OctetString)
			return key.Content, err == nil && inner.Empty()
		}
	}
	return nil, false
}

// sameName compares distinguished names: octet by octet, and where that fails by RFC 5280 chapter 7.1 as far as it is
// needed in practice: the kind of string, upper and lower case of ASCII letters and the amount of white space do not count.
func sameName(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	inA, inB := ber.New(a), ber.New(b)
	return sameLevel(&inA, &inB)
}

func sameLevel(a, b *ber.Input) bool {
	for !a.Empty() && !b.Empty() {
		ea, errA := a.Next()
		eb, errB := b.Next()
		if errA != nil || errB != nil || ea.Constructed != eb.Constructed {
			return false
		}
		if ea.Constructed {
			subA, errA := a.Enter(ea)
			subB, errB := b.Enter(eb)
			if ea.Tag != eb.Tag || errA != nil || errB != nil || !sameLevel(&subA, &subB) {
				return false
			}
			continue
		}
		if isText(ea.Tag) && isText(eb.Tag) {
			if !sameText(ea.Content, eb.Content) {
				return false
			}
		} else if ea.Tag != eb.Tag || !bytes.Equal(ea.Content, eb.Content) {
			return false
		}
	}
	return a.Empty() && b.Empty()
}

// isText names the strings that hold octets of ASCII or UTF-8.
func isText(tag ber.Tag) bool {
	const ia5String = ber.Tag(22)
	return tag == ber.UTF8String || tag == ber.PrintableString || tag == ia5String
}

func sameText(a, b []byte) bool {
	a, b = bytes.Trim(a, " "), bytes.Trim(b, " ")
	i, j := 0, 0
	for i < len(a) && j < len(b) {
		if lower(a[i]) != lower(b[j]) {
			return false
		}
		i, j = next(a, i), next(b, j)
	}
	return i == len(a) && j == len(b)
}

// next returns the place after text[i], several spaces being one.
func next(text []byte, i int) int {
	for i++; i < len(text) && text[i] == ' ' && text[i-1] == ' '; i++ {
	}
	return i
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
