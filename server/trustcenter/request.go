package trustcenter

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"ktradv/server/internal/finding"
)

// keyBits is the length of a key in bits.
const keyBits = 4096

var (
	oidCountry      = asn1.ObjectIdentifier{2, 5, 4, 6}
	oidOrganisation = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidUnit         = asn1.ObjectIdentifier{2, 5, 4, 11}
	oidCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidPSS          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
)

// namePart is one of the five parts of the subject.
type namePart struct {
	OID  asn1.ObjectIdentifier
	Name string
	Of   func(s Sheet, ik IK) string
}

// subjectParts are the parts of the subject in their order, each a name of its own (five RDNs; Anlage 16).
var subjectParts = []namePart{
	{oidCountry, "C", func(Sheet, IK) string { return "DE" }},
	{oidOrganisation, "O", func(s Sheet, _ IK) string { return s.TrustCenter }},
	{oidUnit, "OU", func(s Sheet, _ IK) string { return s.Organisation }},
	{oidUnit, "OU", func(_ Sheet, ik IK) string { return "IK" + string(ik) }},
	{oidCommonName, "CN", func(s Sheet, _ IK) string { return s.person() }},
}

// attribute is one part of a name as it is written: always a PrintableString.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// subject writes the name. crypto/x509 would put the two OUs into one set and sort them, which TrustCenters refuse.
func (s Sheet) subject() ([]byte, error) {
	ik, err := ParseIK(s.IK)
	if err != nil {
		return nil, err
	}
	var names [][]attribute
	for _, p := range subjectParts {
		v := p.Of(s, ik)
		if v == "" || len(v) > maxName || strings.ContainsFunc(v, func(r rune) bool { return !allowed(r) }) {
			return nil, fmt.Errorf("%s %q cannot stand in a request", p.Name, v)
		}
		names = append(names, []attribute{{p.OID, asn1.RawValue{Tag: asn1.TagPrintableString, Bytes: []byte(v)}}})
	}
	type set []attribute
	sequence := make([]asn1.RawValue, len(names))
	for i, n := range names {
		b, err := asn1.MarshalWithParams([]attribute(n), "set")
		if err != nil {
			return nil, err
		}
		sequence[i] = asn1.RawValue{FullBytes: b}
	}
	return asn1.Marshal(sequence)
}

// CreateRequest writes the PKCS#10 (DER): version 0, the exact subject, signed with RSASSA-PSS (SHA-256, salt 32).
func CreateRequest(s Sheet, key crypto.Signer) ([]byte, error) {
	if pub, ok := key.Public().(*rsa.PublicKey); !ok || pub.N.BitLen() != keyBits {
		return nil, fmt.Errorf("request: the key is not RSA with %d bits", keyBits)
	}
	subject, err := s.subject()
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: subject, SignatureAlgorithm: x509.SHA256WithRSAPSS}, key)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if found := CheckRequest(der, &s); found.Worst() == finding.Error {
		return nil, fmt.Errorf("request: its own check refuses it: %s", found[0].What)
	}
	return der, nil
}

// maxRequest bounds a request in octets.
const maxRequest = 32 << 10

// ErrNoRequest is returned for what is no PKCS#10.
var ErrNoRequest = errors.New("no PKCS#10 request")

// decodeRequest returns the DER of a request that is DER, PEM or bare base64, and which of them it is.
func decodeRequest(b []byte) (der []byte, form string, err error) {
	if len(b) > maxRequest {
		return nil, "", fmt.Errorf("%w: longer than %d octets", ErrNoRequest, maxRequest)
	}
	if der, form, err = decode(b, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"); err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrNoRequest, err)
	}
	return der, form, nil
}

func readRequest(b []byte) (*x509.CertificateRequest, error) {
	der, _, err := decodeRequest(b)
	if err != nil {
		return nil, err
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRequest, err)
	}
	return r, nil
}

// byteOrderMark is what editors of another world put before a text.
var byteOrderMark = []byte("\xef\xbb\xbf")

// decode returns the DER of a file that is DER, PEM of one of the kinds, or bare base64.
func decode(b []byte, kinds ...string) (der []byte, form string, err error) {
	b = bytes.TrimPrefix(b, byteOrderMark)
	if len(b) > 0 && b[0] == 0x30 {
		return b, "DER", nil
	}
	if block, _ := pem.Decode(b); block != nil {
		for _, k := range kinds {
			if block.Type == k {
				return block.Bytes, "PEM", nil
			}
		}
		if strings.Contains(block.Type, "PRIVATE KEY") {
			return nil, "", errors.New("this is a private key: it is sent to nobody")
		}
		return nil, "", fmt.Errorf("this is a PEM block %s", block.Type)
	}
	if der, err := decodeBase64(b); err == nil && len(der) > 0 && der[0] == 0x30 {
		return der, "base64", nil
	}
	return nil, "", errors.New("neither DER nor PEM nor base64")
}

// decodeBase64 reads base64 with white space anywhere.
func decodeBase64(b []byte) ([]byte, error) {
	b = bytes.Join(bytes.Fields(b), nil)
	out := make([]byte, base64.StdEncoding.DecodedLen(len(b)))
	n, err := base64.StdEncoding.Decode(out, b)
	return out[:n], err
}

// CheckRequest judges a request as the TrustCenter's machine will, and against the data sheet where one is given (DKTIG-25).
func CheckRequest(b []byte, s *Sheet) (found finding.List) {
	add := func(sev finding.Severity, code finding.Code, field, what, fix string) {
		found = append(found, finding.Finding{Code: code, Severity: sev, Field: field, What: what, Fix: fix})
	}
	r, err := readRequest(b)
	if err != nil {
		add(finding.Error, "P10-FORM", "", err.Error(), "name the file that `adv-server trustcenter request` wrote")
		return found
	}
	if r.Version != 0 {
		add(finding.Error, "P10-VERSION", "version", fmt.Sprintf("version %d", r.Version), "make the request anew: version 0 is the only one")
	}
	pub, ok := r.PublicKey.(*rsa.PublicKey)
	if !ok || pub.N.BitLen() != keyBits || pub.E != 65537 {
		add(finding.Error, "P10-KEY", "publicKey", "the key is not RSA with 4096 bits and exponent 65537", "make a new key and request")
	}
	if !pss(r) {
		add(finding.Error, "P10-PSS", "signatureAlgorithm", fmt.Sprintf("signed with %s, not RSASSA-PSS with SHA-256, MGF1-SHA-256 and salt 32", r.SignatureAlgorithm), "make the request anew")
	}
	if err := r.CheckSignature(); err != nil {
		add(finding.Error, "P10-SIG", "signature", "the request's own signature does not verify", "the file is damaged: make the request anew, with the same key")
	}
	return append(found, checkSubject(r.RawSubject, s)...)
}

// pss says whether a request is signed with exactly the parameters that are expected.
func pss(r *x509.CertificateRequest) bool {
	var outer struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if rest, err := asn1.Unmarshal(r.Raw, &outer); err != nil || len(rest) > 0 || !outer.Algorithm.Algorithm.Equal(oidPSS) {
		return false
	}
	var p struct {
		Hash    pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
		MGF     pkix.AlgorithmIdentifier `asn1:"explicit,tag:1"`
		Salt    int                      `asn1:"explicit,tag:2"`
		Trailer int                      `asn1:"explicit,optional,tag:3,default:1"`
	}
	if rest, err := asn1.Unmarshal(outer.Algorithm.Parameters.FullBytes, &p); err != nil || len(rest) > 0 {
		return false
	}
	return r.SignatureAlgorithm == x509.SHA256WithRSAPSS && p.Salt == 32 && p.Trailer == 1
}

// checkSubject judges a subject's parts, their order and their form.
func checkSubject(raw []byte, s *Sheet) (found finding.List) {
	add := func(sev finding.Severity, code finding.Code, field, what, fix string) {
		found = append(found, finding.Finding{Code: code, Severity: sev, Field: field, What: what, Fix: fix})
	}
	const anew = "make the request anew with `adv-server trustcenter request`"
	parts, err := parseName(raw)
	if err != nil {
		add(finding.Error, "P10-SUBJECT", "subject", err.Error(), anew)
		return found
	}
	if len(parts) != len(subjectParts) {
		add(finding.Error, "P10-SUBJECT", "subject", fmt.Sprintf("%d parts: %s", len(parts), printName(parts)), "the subject has exactly the five parts C, O, OU, OU, CN; "+anew)
		return found
	}
	for i, p := range parts {
		want := subjectParts[i]
		field := "subject." + want.Name
		if !p.Type.Equal(want.OID) {
			add(finding.Error, "P10-SUBJECT", field, fmt.Sprintf("part %d is not %s", i+1, want.Name), anew)
			continue
		}
		v := string(p.Value.Bytes)
		if p.Value.Tag != asn1.TagPrintableString {
			add(finding.Error, "P10-PRINTABLE", field, fmt.Sprintf("%q is not a PrintableString (tag %d)", v, p.Value.Tag), anew)
		}
		if strings.ContainsFunc(v, func(r rune) bool { return !allowed(r) }) || v == "" || len(v) > maxName {
			add(finding.Error, "P10-ZEICHEN", field, fmt.Sprintf("%q is empty, too long or contains umlauts or special characters", v), anew)
		}
		switch {
		case i == 0 && v != "DE":
			add(finding.Error, "P10-SUBJECT", field, fmt.Sprintf("the country is %q", v), anew)
		case i == 1 && v != DKTIG:
			sev := finding.Warning
			if s != nil && v != s.TrustCenter {
				sev = finding.Error
			}
			add(sev, "P10-NAME", field, fmt.Sprintf("%q is not the name of the DKTIG's TrustCenter", v), "write "+DKTIG+" to the letter")
		case i == 3:
			if ik, err := ParseIK(v); err != nil || "IK"+string(ik) != v {
				add(finding.Error, "P10-IK", field, fmt.Sprintf("%q is not IK and nine digits with the right check digit", v), anew)
			}
		}
	}
	if s == nil {
		return found
	}
	if want, err := s.subject(); err != nil || !bytes.Equal(want, raw) {
		add(finding.Error, "P10-BLATT", "subject", "the subject is not that of the data sheet: "+printName(parts), "correct the data sheet, or make the request anew")
	}
	return found
}

// parseName reads a name in which every part stands alone.
func parseName(raw []byte) ([]attribute, error) {
	var sets []asn1.RawValue
	if rest, err := asn1.Unmarshal(raw, &sets); err != nil || len(rest) > 0 {
		return nil, errors.New("the subject cannot be read")
	}
	var parts []attribute
	for _, s := range sets {
		var as []attribute
		if rest, err := asn1.UnmarshalWithParams(s.FullBytes, &as, "set"); err != nil || len(rest) > 0 || len(as) == 0 {
			return nil, errors.New("a part of the subject cannot be read")
		}
		if len(as) > 1 {
			return nil, fmt.Errorf("%d parts stand in one set; each stands alone", len(as))
		}
		parts = append(parts, as[0])
	}
	return parts, nil
}

// printName writes a name for people.
func printName(parts []attribute) string {
	var out []string
	for _, p := range parts {
		name := p.Type.String()
		for _, k := range subjectParts {
			if k.OID.Equal(p.Type) {
				name = k.Name
			}
		}
		out = append(out, fmt.Sprintf("%s=%s", name, strings.ToValidUTF8(string(p.Value.Bytes), "?")))
	}
	return strings.Join(out, ", ")
}

// Hashes are the two values that the procedure compares (DKTIG-27): no public text says which one the TrustCenter takes, so
// both are shown, the first as the main one.
type Hashes struct {
	Key     [32]byte // SHA-256 of the public key (RSAPublicKey, DER)
	Request [32]byte // SHA-256 of the request (DER)
}

// Fingerprint computes the hashes of a request.
func Fingerprint(request []byte) (Hashes, error) {
	r, err := readRequest(request)
	if err != nil {
		return Hashes{}, err
	}
	pub, ok := r.PublicKey.(*rsa.PublicKey)
	if !ok {
		return Hashes{}, fmt.Errorf("fingerprint: the key is not RSA")
	}
	return Hashes{Key: sha256.Sum256(x509.MarshalPKCS1PublicKey(pub)), Request: sha256.Sum256(r.Raw)}, nil
}

// Compare says which hash a text means, however it is written: upper or lower case, with blanks, colons or in groups.
func (h Hashes) Compare(text string) (which string, ok bool) {
	t := strings.ToLower(strings.Map(func(r rune) rune {
		if strings.ContainsRune(" :-\t\r\n", r) {
			return -1
		}
		return r
	}, text))
	switch t {
	case hex.EncodeToString(h.Key[:]):
		return "public key", true
	case hex.EncodeToString(h.Request[:]):
		return "request", true
	}
	return "", false
}

// groups writes a hash to be read aloud: groups of four digits, four to a line.
func groups(h [32]byte) (lines []string) {
	t := strings.ToUpper(hex.EncodeToString(h[:]))
	for i := 0; i < len(t); i += 16 {
		lines = append(lines, t[i:i+4]+" "+t[i+4:i+8]+" "+t[i+8:i+12]+" "+t[i+12:i+16])
	}
	return lines
}
