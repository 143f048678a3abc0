package xmlsig

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha256" // the digest functions of the tables below
	_ "crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"ktradv/internal/brainpool"
	"ktradv/internal/x509ti"
)

// Namespaces of signatures.
const (
	dsigSpace  = "http://www.w3.org/2000/09/xmldsig#"
	xadesSpace = "http://uri.etsi.org/01903/v1.3.2#"
)

// Identifiers of algorithms and kinds of references.
const (
	excC14N           = "http://www.w3.org/2001/10/xml-exc-c14n#"
	envelopedTransf   = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
	signedPropsType   = "http://uri.etsi.org/01903#SignedProperties"
	maxReferences     = 2
	maxSignatureValue = 2048
	maxCertificates   = 16 // in KeyInfo
)

var (
	// ErrSignature is wrapped by every error about a signature that is missing, built otherwise or does not verify.
	ErrSignature = errors.New("xml signature")
	// ErrCertificate is wrapped by errors about the signer's certificate in KeyInfo.
	ErrCertificate = errors.New("xml signature: signer certificate")
)

func refused(what string) error { return fmt.Errorf("%w: %s", ErrSignature, what) }

// scheme of a signature method.
type scheme int

const (
	ecdsaPlain scheme = iota // R || S
	rsaPSS                   // salt as long as the hash, mask with the same hash
	rsaPKCS1
)

var methods = map[string]struct {
	scheme scheme
	hash   crypto.Hash
}{
	"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256":    {ecdsaPlain, crypto.SHA256},
	"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384":    {ecdsaPlain, crypto.SHA384},
	"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512":    {ecdsaPlain, crypto.SHA512},
	"http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1": {rsaPSS, crypto.SHA256},
	"http://www.w3.org/2007/05/xmldsig-more#sha384-rsa-MGF1": {rsaPSS, crypto.SHA384},
	"http://www.w3.org/2007/05/xmldsig-more#sha512-rsa-MGF1": {rsaPSS, crypto.SHA512},
	"http://www.w3.org/2001/04/xmldsig-more#rsa-sha256":      {rsaPKCS1, crypto.SHA256},
	"http://www.w3.org/2001/04/xmldsig-more#rsa-sha384":      {rsaPKCS1, crypto.SHA384},
	"http://www.w3.org/2001/04/xmldsig-more#rsa-sha512":      {rsaPKCS1, crypto.SHA512},
}

var digests = map[string]crypto.Hash{
	"http://www.w3.org/2001/04/xmlenc#sha256":       crypto.SHA256,
	"http://www.w3.org/2001/04/xmldsig-more#sha384": crypto.SHA384,
	"http://www.w3.org/2001/04/xmlenc#sha512":       crypto.SHA512,
}

// Signed is a document with an enveloped signature.
type Signed struct {
	// Content is the canonical form of the document without the signature: the octets whose digest is signed. Read nothing
	// but these.
	Content []byte
	// SigningTime is what the signer claims (informational); zero when it says nothing.
	SigningTime time.Time
	// Certificates is how many certificates KeyInfo holds. Of several, the signer's is the one that SigningCertificate names;
	// the others are not looked at.
	Certificates int

	signature  error               // why there is no signature to check, nil when there is one
	signer     *x509ti.Certificate // nil with signature or certificate set
	keyInfo    error
	method     string
	info       []byte // canonical SignedInfo
	value      []byte
	properties []byte // canonical SignedProperties
	references []digestOf
	certDigest digestOf
	serial     *big.Int // of IssuerSerial; nil without one
}

// digestOf is a digest with its function.
type digestOf struct {
	hash  crypto.Hash
	value []byte
	props bool // of SignedProperties; else of the document
}

// Open reads a document and takes its signature apart. The error is ErrMalformed only; what is wrong with the signature is
// said by [Signed.Verify], because the content of a list can be looked at without it.
func Open(data []byte) (*Signed, error) {
	doc, err := Parse(data)
	if err != nil {
		return nil, err
	}
	s := &Signed{}
	node, err := findSignature(doc)
	if err == nil {
		err = uniqueIDs(doc)
	}
	if err == nil {
		err = s.parse(node)
	}
	s.signature = err
	s.Content = doc.Canonical(node)
	return s, nil
}

// findSignature returns the one signature of the document, which must be the last element of the root.
func findSignature(doc *Document) (*Node, error) {
	var all []*Node
	doc.Root.walk(func(n *Node) bool {
		if n.Space == dsigSpace && n.Local == "Signature" {
			all = append(all, n)
		}
		return len(all) < 2
	})
	if len(all) == 0 {
		return nil, refused("there is none")
	}
	if len(all) > 1 {
		return all[0], refused("more than one")
	}
	elements := doc.Root.Elements()
	if len(elements) == 0 || elements[len(elements)-1] != all[0] {
		return all[0], refused("it is not the last element of the root")
	}
	return all[0], nil
}

// uniqueIDs: no two elements have the same identifier, whatever case the attribute's name has.
func uniqueIDs(doc *Document) error {
	seen := map[string]bool{}
	var err error
	doc.Root.walk(func(n *Node) bool {
		for _, a := range n.Attributes {
			if (a.Space == "" || a.Space == xmlSpace) && strings.EqualFold(a.Local, "id") {
				if a.Value == "" || seen[a.Value] {
					err = refused("an Id occurs twice or is empty")
					return false
				}
				seen[a.Value] = true
			}
		}
		return true
	})
	return err
}

// only returns the elements of a node when they are exactly those named, in this order ("name?" may be missing).
func only(n *Node, space string, names ...string) (map[string]*Node, error) {
	out := map[string]*Node{}
	elements := n.Elements()
	for _, name := range names {
		want := strings.TrimSuffix(name, "?")
		if len(elements) > 0 && elements[0].Space == space && elements[0].Local == want {
			out[want] = elements[0]
			elements = elements[1:]
		} else if want == name {
			return nil, refused(n.Local + " without " + want)
		}
	}
	if len(elements) > 0 {
		return nil, refused(n.Local + " has an unexpected " + elements[0].Local)
	}
	return out, nil
}

func (s *Signed) parse(n *Node) error {
	parts, err := only(n, dsigSpace, "SignedInfo", "SignatureValue", "KeyInfo", "Object")
	if err != nil {
		return err
	}
	if s.value, err = decode(parts["SignatureValue"].Text()); err != nil || len(s.value) > maxSignatureValue {
		return refused("SignatureValue is not Base64")
	}
	s.info = parts["SignedInfo"].Canonical()
	certificates, err := certificatesOf(parts["KeyInfo"])
	s.Certificates = len(certificates)
	if len(certificates) == 1 {
		s.signer, s.keyInfo = parseSigner(certificates[0])
	} else {
		s.keyInfo = errors.Join(err, fmt.Errorf("%w: %d certificates in KeyInfo, and nothing names one of them", ErrCertificate, len(certificates)))
	}
	props, err := s.parseObject(parts["Object"], n.Attr("Id"))
	if err != nil {
		return err
	}
	if len(certificates) > 1 {
		s.signer, s.keyInfo = s.named(certificates)
	}
	return s.parseInfo(parts["SignedInfo"], props)
}

// certificatesOf returns the certificates in KeyInfo, DER.
func certificatesOf(keyInfo *Node) (out [][]byte, err error) {
	for _, data := range keyInfo.Children(dsigSpace, "X509Data") {
		for _, c := range data.Children(dsigSpace, "X509Certificate") {
			if len(out) == maxCertificates {
				return nil, fmt.Errorf("%w: more than %d certificates in KeyInfo", ErrCertificate, maxCertificates)
			}
			der, err := decode(c.Text())
			if err != nil {
				return nil, fmt.Errorf("%w: not Base64", ErrCertificate)
			}
			out = append(out, der)
		}
	}
	return out, nil
}

// named returns the certificate that SigningCertificate names.
func (s *Signed) named(certificates [][]byte) (*x509ti.Certificate, error) {
	for _, der := range certificates {
		if bytes.Equal(sum(s.certDigest.hash, der), s.certDigest.value) {
			return parseSigner(der)
		}
	}
	return nil, fmt.Errorf("%w: SigningCertificate names none of the %d certificates in KeyInfo", ErrCertificate, len(certificates))
}

func parseSigner(der []byte) (*x509ti.Certificate, error) {
	cert, err := x509ti.Parse(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	return cert, nil
}

// parseObject finds SignedProperties and reads what they say about the signer.
func (s *Signed) parseObject(object *Node, signatureID string) (props *Node, err error) {
	parts, err := only(object, xadesSpace, "QualifyingProperties")
	if err != nil {
		return nil, err
	}
	qualifying := parts["QualifyingProperties"]
	if signatureID == "" || qualifying.Attr("Target") != "#"+signatureID {
		return nil, refused("QualifyingProperties of another signature")
	}
	if parts, err = only(qualifying, xadesSpace, "SignedProperties", "UnsignedProperties?"); err != nil {
		return nil, err
	}
	props = parts["SignedProperties"]
	s.properties = props.Canonical()
	sig := props.Child(xadesSpace, "SignedSignatureProperties")
	if sig == nil {
		return nil, refused("SignedSignatureProperties are missing")
	}
	if at := sig.Child(xadesSpace, "SigningTime"); at != nil {
		if s.SigningTime, err = time.Parse(time.RFC3339Nano, at.Text()); err != nil {
			return nil, refused("SigningTime")
		}
	}
	for _, form := range []string{"SigningCertificate", "SigningCertificateV2"} {
		certs := sig.Child(xadesSpace, form)
		if certs == nil {
			continue
		}
		list := certs.Children(xadesSpace, "Cert")
		if len(list) == 0 || s.certDigest.hash != 0 {
			return nil, refused(form)
		}
		digest := list[0].Child(xadesSpace, "CertDigest") // the signer's own comes first
		if digest == nil {
			return nil, refused(form + " without CertDigest")
		}
		if s.certDigest, err = parseDigest(digest); err != nil {
			return nil, err
		}
		if issuer := list[0].Child(xadesSpace, "IssuerSerial"); issuer != nil {
			number := issuer.Child(dsigSpace, "X509SerialNumber")
			var ok bool
			if number == nil || len(number.Text()) > 60 {
				return nil, refused("IssuerSerial")
			}
			if s.serial, ok = new(big.Int).SetString(number.Text(), 10); !ok {
				return nil, refused("IssuerSerial")
			}
		}
	}
	if s.certDigest.hash == 0 {
		return nil, refused("SigningCertificate is missing")
	}
	return props, nil
}

func parseDigest(n *Node) (r digestOf, err error) {
	method, value := n.Child(dsigSpace, "DigestMethod"), n.Child(dsigSpace, "DigestValue")
	if method == nil || value == nil {
		return r, refused("digest is missing")
	}
	if r.hash = digests[method.Attr("Algorithm")]; r.hash == 0 {
		return r, refused("digest method is not admissible")
	}
	if r.value, err = decode(value.Text()); err != nil || len(r.value) != r.hash.Size() {
		return r, refused("digest value")
	}
	return r, nil
}

// parseInfo reads SignedInfo: two references, one to the whole document and one to SignedProperties.
func (s *Signed) parseInfo(info, props *Node) error {
	elements := info.Elements()
	if len(elements) != 2+maxReferences || elements[0].Space != dsigSpace || elements[0].Local != "CanonicalizationMethod" ||
		elements[0].Attr("Algorithm") != excC14N || len(elements[0].Elements()) > 0 {
		return refused("SignedInfo: canonicalisation or number of references")
	}
	if elements[1].Space != dsigSpace || elements[1].Local != "SignatureMethod" || len(elements[1].Elements()) > 0 {
		return refused("SignedInfo without SignatureMethod")
	}
	s.method = elements[1].Attr("Algorithm")
	if _, ok := methods[s.method]; !ok {
		return refused("signature method is not admissible")
	}
	hasDocument := false
	for i, n := range elements[2:] {
		if n.Space != dsigSpace || n.Local != "Reference" {
			return refused("SignedInfo with something other than references")
		}
		if _, err := only(n, dsigSpace, "Transforms", "DigestMethod", "DigestValue"); err != nil {
			return err
		}
		r, err := parseDigest(n)
		if err != nil {
			return err
		}
		var want []string
		switch uri, has := attribute(n, "URI"); {
		case has && uri == "" && n.Attr("Type") == "":
			want, hasDocument = []string{envelopedTransf, excC14N}, true
		case has && strings.HasPrefix(uri, "#") && n.Attr("Type") == signedPropsType && uri[1:] == props.Attr("Id"):
			want, r.props = []string{excC14N}, true
		default:
			return refused("reference to something else")
		}
		transforms := n.Child(dsigSpace, "Transforms").Elements()
		if len(transforms) != len(want) {
			return refused("transforms of a reference")
		}
		for j, t := range transforms {
			if t.Space != dsigSpace || t.Local != "Transform" || t.Attr("Algorithm") != want[j] || len(t.Elements()) > 0 {
				return refused("transforms of a reference")
			}
		}
		if i > 0 && s.references[0].props == r.props {
			return refused("reference twice")
		}
		s.references = append(s.references, r)
	}
	if !hasDocument {
		return refused("no reference to the document")
	}
	return nil
}

func attribute(n *Node, local string) (string, bool) {
	for _, a := range n.Attributes {
		if a.Space == "" && a.Local == local {
			return a.Value, true
		}
	}
	return "", false
}

// decode reads Base64 with white space anywhere.
func decode(s string) ([]byte, error) {
	if strings.ContainsAny(s, " \t\r\n") {
		s = strings.Map(func(r rune) rune {
			if r == ' ' || r == '\t' || r == '\r' || r == '\n' {
				return -1
			}
			return r
		}, s)
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}

// Base64 decodes the content of an element such as X509Certificate: Base64 with white space anywhere.
func Base64(s string) ([]byte, error) {
	b, err := decode(s)
	if err != nil {
		return nil, fmt.Errorf("%w: not Base64", ErrMalformed)
	}
	return b, nil
}

// Signer returns the signer's certificate in KeyInfo, which nothing is known of yet. The error wraps ErrCertificate or ErrSignature.
func (s *Signed) Signer() (*x509ti.Certificate, error) {
	if s.signer == nil && s.keyInfo == nil {
		return nil, errors.Join(s.signature, refused("no KeyInfo"))
	}
	return s.signer, s.keyInfo
}

// Verify checks both references, the certificate that SignedProperties name and the signature under the key of the signer's
// certificate. Whether that certificate may sign is the caller's business. Errors wrap ErrSignature or ErrCertificate.
func (s *Signed) Verify(v x509ti.Verifier) error {
	if s.signature != nil {
		return s.signature
	}
	if s.keyInfo != nil {
		return s.keyInfo
	}
	for _, r := range s.references {
		over := s.Content
		if r.props {
			over = s.properties
		}
		if !bytes.Equal(sum(r.hash, over), r.value) {
			if r.props {
				return refused("SignedProperties do not have the signed digest")
			}
			return refused("the document does not have the signed digest")
		}
	}
	if !bytes.Equal(sum(s.certDigest.hash, s.signer.Raw), s.certDigest.value) {
		return refused("SigningCertificate names another certificate")
	}
	if s.serial != nil && s.serial.Cmp(s.signer.Serial) != 0 {
		return refused("IssuerSerial names another certificate")
	}
	m := methods[s.method]
	digest := sum(m.hash, s.info)
	ok := false
	switch key := s.signer.PublicKey.(type) {
	case *brainpool.PublicKey:
		switch {
		case m.scheme != ecdsaPlain || len(s.value) != 2*key.Curve().Size():
		case v != nil:
			ok = v.VerifyECDSA(key, digest, s.value)
		default:
			ok = key.Verify(digest, s.value)
		}
	case *ecdsa.PublicKey:
		size := (key.Curve.Params().BitSize + 7) / 8
		if m.scheme == ecdsaPlain && len(s.value) == 2*size {
			ok = ecdsa.Verify(key, digest, new(big.Int).SetBytes(s.value[:size]), new(big.Int).SetBytes(s.value[size:]))
		}
	case *rsa.PublicKey:
		switch m.scheme {
		case rsaPSS:
			ok = rsa.VerifyPSS(key, m.hash, digest, s.value, &rsa.PSSOptions{SaltLength: m.hash.Size(), Hash: m.hash}) == nil
		case rsaPKCS1:
			ok = rsa.VerifyPKCS1v15(key, m.hash, digest, s.value) == nil
		}
	}
	if !ok {
		return refused("it does not verify")
	}
	return nil
}

func sum(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}
