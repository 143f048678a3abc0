package xmlsig

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

// signer signs with a key of the standard library.
type signer struct {
	key  crypto.Signer
	cert []byte
}

func newSigner(t *testing.T, key crypto.Signer) signer {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(4711), Subject: pkix.Name{CommonName: "signer"}, NotBefore: time.Now(), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return signer{key, der}
}

// parts of a signature that the test may change.
type parts struct {
	method, digest, form, serial, refs, props, keyInfo, value string
	hash                                                      crypto.Hash
}

const (
	xmlnsDS    = ` xmlns:ds="http://www.w3.org/2000/09/xmldsig#"`
	xmlnsXAdES = ` xmlns:xades="http://uri.etsi.org/01903/v1.3.2#"`
)

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// document signs <list><entry/></list>. Everything is written in canonical form.
func (s signer) document(t *testing.T, p parts) []byte {
	t.Helper()
	if p.digest == "" {
		p.digest = "http://www.w3.org/2001/04/xmlenc#sha256"
	}
	if p.form == "" {
		p.form = "SigningCertificate"
	}
	if p.serial == "" {
		p.serial = "4711"
	}
	hashOf := func(b string) string { return b64(sum(digestOr(p.digest), []byte(b))) }
	props := func(xades, ds string) string {
		return `<xades:SignedProperties` + xades + ` Id="p"><xades:SignedSignatureProperties><xades:SigningTime>2026-03-04T12:00:00+01:00</xades:SigningTime><xades:` + p.form +
			`><xades:Cert><xades:CertDigest><ds:DigestMethod` + ds + ` Algorithm="` + p.digest + `"></ds:DigestMethod><ds:DigestValue` + ds + `>` + hashOf(string(s.cert)) +
			`</ds:DigestValue></xades:CertDigest><xades:IssuerSerial><ds:X509SerialNumber` + ds + `>` + p.serial + `</ds:X509SerialNumber></xades:IssuerSerial></xades:Cert></xades:` + p.form +
			`></xades:SignedSignatureProperties></xades:SignedProperties>` + p.props
	}
	const content = `<list><entry></entry></list>`
	reference := func(attributes, first, digest string) string {
		return `<ds:Reference` + attributes + `><ds:Transforms>` + first + `<ds:Transform Algorithm="` + excC14N + `"></ds:Transform></ds:Transforms><ds:DigestMethod Algorithm="` + p.digest +
			`"></ds:DigestMethod><ds:DigestValue>` + digest + `</ds:DigestValue></ds:Reference>`
	}
	whole := reference(` URI=""`, `<ds:Transform Algorithm="`+envelopedTransf+`"></ds:Transform>`, hashOf(content))
	refs := whole + reference(` Type="`+signedPropsType+`" URI="#p"`, "", hashOf(strings.TrimSuffix(props(xmlnsXAdES, xmlnsDS), p.props)))
	if p.refs == "twice" {
		refs = whole + whole
	} else if p.refs != "" {
		refs += p.refs
	}
	info := func(ds string) string {
		return `<ds:SignedInfo` + ds + `><ds:CanonicalizationMethod Algorithm="` + excC14N + `"></ds:CanonicalizationMethod><ds:SignatureMethod Algorithm="` + p.method +
			`"></ds:SignatureMethod>` + refs + `</ds:SignedInfo>`
	}
	digest := sum(p.hash, []byte(info(xmlnsDS)))
	var value []byte
	var err error
	switch key := s.key.(type) {
	case *ecdsa.PrivateKey:
		r, v, signErr := ecdsa.Sign(rand.Reader, key, digest)
		size := (key.Params().BitSize + 7) / 8
		value, err = append(r.FillBytes(make([]byte, size)), v.FillBytes(make([]byte, size))...), signErr
	case *rsa.PrivateKey:
		if strings.HasSuffix(p.method, "MGF1") {
			value, err = rsa.SignPSS(rand.Reader, key, p.hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			value, err = rsa.SignPKCS1v15(nil, key, p.hash, digest)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	keyInfo := `<ds:X509Data><ds:X509Certificate>` + b64(s.cert) + `</ds:X509Certificate></ds:X509Data>`
	if p.keyInfo != "" {
		keyInfo = strings.ReplaceAll(p.keyInfo, "CERT", keyInfo)
	}
	if p.value == "" {
		p.value = b64(value)
	}
	return []byte(`<list><entry></entry><ds:Signature` + xmlnsDS + ` Id="s">` + info("") + `<ds:SignatureValue>` + p.value + `</ds:SignatureValue><ds:KeyInfo>` + keyInfo +
		`</ds:KeyInfo><ds:Object><xades:QualifyingProperties` + xmlnsXAdES + ` Target="#s">` + props("", "") + `</xades:QualifyingProperties></ds:Object></ds:Signature></list>`)
}

func digestOr(name string) crypto.Hash {
	if h := digests[name]; h != 0 {
		return h
	}
	return crypto.SHA256
}

func TestSignatureMethods(t *testing.T) {
	t.Parallel()
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, wide, classic := newSigner(t, p256), newSigner(t, p384), newSigner(t, rsaKey)
	const more, later = "http://www.w3.org/2001/04/xmldsig-more#", "http://www.w3.org/2007/05/xmldsig-more#"
	sha512 := "http://www.w3.org/2001/04/xmlenc#sha512"
	other := "<ds:X509Data><ds:X509Certificate>" + b64(wide.cert) + "</ds:X509Certificate></ds:X509Data>"
	for _, tc := range []struct {
		name   string
		signer signer
		parts  parts
		reason string // "": accepted
	}{
		{"P-256", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256}, ""},
		{"P-256 with SHA-512 everywhere", ec, parts{method: more + "ecdsa-sha512", hash: crypto.SHA512, digest: sha512}, ""},
		{"P-384", wide, parts{method: more + "ecdsa-sha384", hash: crypto.SHA384, digest: more + "sha384"}, ""},
		{"RSA PKCS #1 v1.5", classic, parts{method: more + "rsa-sha256", hash: crypto.SHA256}, ""},
		{"RSA PKCS #1 v1.5 with SHA-512", classic, parts{method: more + "rsa-sha512", hash: crypto.SHA512}, ""},
		{"RSASSA-PSS", classic, parts{method: later + "sha256-rsa-MGF1", hash: crypto.SHA256}, ""},
		{"RSASSA-PSS with SHA-512", classic, parts{method: later + "sha512-rsa-MGF1", hash: crypto.SHA512}, ""},
		{"SigningCertificateV2", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, form: "SigningCertificateV2"}, ""},
		{"RSA with SHA-1", classic, parts{method: "http://www.w3.org/2000/09/xmldsig#rsa-sha1", hash: crypto.SHA256}, "method is not admissible"},
		{"digest SHA-1", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, digest: "http://www.w3.org/2000/09/xmldsig#sha1"}, "digest method"},
		{"HMAC", ec, parts{method: more + "hmac-sha256", hash: crypto.SHA256}, "method is not admissible"},
		{"method of another kind of key", classic, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256}, "does not verify"},
		{"method of another kind of key, ECDSA", ec, parts{method: more + "rsa-sha256", hash: crypto.SHA256}, "does not verify"},
		{"method with another hash", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA384}, "does not verify"},
		{"signature of nothing", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, value: b64(make([]byte, 64))}, "does not verify"},
		{"signature too short", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, value: b64(make([]byte, 63))}, "does not verify"},
		{"empty signature", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, value: " "}, "does not verify"},
		{"signature no Base64", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, value: "!"}, "Base64"},
		{"another serial number", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, serial: "4712"}, "IssuerSerial"},
		{"serial number that is none", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, serial: "x"}, "IssuerSerial"},
		{"no SigningCertificate", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, form: "SigningCertificateV3"}, "SigningCertificate is missing"},
		{"third reference", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, refs: `<ds:Reference URI="#s"></ds:Reference>`}, "number of references"},
		{"the document twice", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, refs: "twice"}, "reference twice"},
		{"another certificate before that of the signer", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, keyInfo: other + "CERT"}, ""},
		{"another certificate after that of the signer", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, keyInfo: "CERT" + other}, ""},
		{"one that cannot be read beside that of the signer", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, keyInfo: "<ds:X509Data><ds:X509Certificate>MAA=</ds:X509Certificate></ds:X509Data>CERT"}, ""},
		{"one that is no Base64 beside that of the signer", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, keyInfo: "<ds:X509Data><ds:X509Certificate>!</ds:X509Certificate></ds:X509Data>CERT"}, "not Base64"},
		{"several certificates, none of the signer", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, keyInfo: other + other}, "names none of the 2 certificates"},
		{"several certificates and nothing that names one", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, keyInfo: "CERT" + other, form: "SigningCertificateV3"}, "SigningCertificate is missing"},
		{"sixteen certificates", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, keyInfo: strings.Repeat(other, 15) + "CERT"}, ""},
		{"seventeen certificates", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, keyInfo: strings.Repeat(other, 16) + "CERT"}, "more than 16"},
		{"no certificate in KeyInfo", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, keyInfo: "<ds:KeyName>x</ds:KeyName>"}, "0 certificates"},
		{"damaged certificate", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, keyInfo: "<ds:X509Data><ds:X509Certificate>MAA=</ds:X509Certificate></ds:X509Data>"}, "malformed certificate"},
		{"more beside SignedProperties", ec, parts{method: more + "ecdsa-sha256", hash: crypto.SHA256, props: "<xades:Other></xades:Other>"}, "unexpected Other"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, err := Open(tc.signer.document(t, tc.parts))
			if err != nil {
				t.Fatal(err)
			}
			err = s.Verify(nil)
			if (err == nil) != (tc.reason == "") || err != nil && !strings.Contains(err.Error(), tc.reason) {
				t.Fatalf("%v, want %q", err, tc.reason)
			}
			if err != nil && !errors.Is(err, ErrSignature) && !errors.Is(err, ErrCertificate) {
				t.Errorf("kind of the error: %v", err)
			}
			if err == nil && !s.SigningTime.Equal(time.Date(2026, 3, 4, 11, 0, 0, 0, time.UTC)) {
				t.Errorf("signing time %s", s.SigningTime)
			}
		})
	}
}

// TestDigestFunctions: the tables name the functions they say.
func TestDigestFunctions(t *testing.T) {
	t.Parallel()
	a, b, c := sha256.Sum256([]byte("x")), sha512.Sum384([]byte("x")), sha512.Sum512([]byte("x"))
	for name, want := range map[string][]byte{
		"http://www.w3.org/2001/04/xmlenc#sha256": a[:], "http://www.w3.org/2001/04/xmldsig-more#sha384": b[:], "http://www.w3.org/2001/04/xmlenc#sha512": c[:],
	} {
		if string(sum(digests[name], []byte("x"))) != string(want) {
			t.Errorf("%s is another function", name)
		}
	}
}
