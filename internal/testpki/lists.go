package testpki

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// Further identifiers of TSL and qualified certificates.
var (
	OIDPolicyTSLSigner = []int{1, 2, 276, 0, 76, 4, 176}
	oidTSLSigning      = []int{0, 4, 0, 2231, 3, 0}
)

// ListState is the state of a service from a time on.
type ListState struct {
	Type, Status string // full addresses
	Start        time.Time
	Information  []string // additionalServiceInformation
	Qualify      string   // content of an extension Qualifications, in canonical form; the prefixes are ecc, tslx and xades
	Critical     bool     // of this extension
}

// ListService is one entry of a list. The writer checks nothing.
type ListService struct {
	ListState
	Name         string
	Certificates [][]byte
	SupplyPoints []string
	Extensions   []string    // OIDs in dotted form
	Redirects    [][2]string // addresses from and to
	History      []ListState
}

// List is a TSL or, with VL, a trusted list of the Bundesnetzagentur.
type List struct {
	VL                 bool
	ID                 string // "" makes one from sequence and time
	Sequence           uint64
	Issued, NextUpdate time.Time
	Primary, Backup    string // download addresses; "" leaves the pointer out
	Services           []ListService
	// Before and After are more certificates in KeyInfo, around the signer's.
	Before, After [][]byte
	// Loose writes the same document in another form than the canonical one, the signature the same: comments, empty-element
	// tags, single quotes, CDATA, declarations nobody uses, and line ends inside Base64.
	Loose bool
}

// ListFault makes the writer do one thing wrong, for tests of the reader.
type ListFault int

// The faults.
const (
	ListNone           ListFault = iota
	ListWrongDigest              // content changed after signing
	ListWrongProps               // SignedProperties changed after signing
	ListWrongSignature           // signature over something else
	ListWrongCert                // SigningCertificate is the digest of another certificate
	ListNoSignature
	ListTwoSignatures
	ListSignatureFirst // not the last element
	ListDoubleID       // the Id of SignedProperties again elsewhere
	ListNoTransform    // the document's reference without the enveloped-signature transform
	ListDERSignature   // ECDSA as DER in place of R || S
)

// NewTSLAuthority makes a TSL signer CA and a signer below it.
func (p *PKI) NewTSLAuthority(number int) (ca, signer X509Authority, err error) {
	if ca.Key, err = p.newKey(); err != nil {
		return ca, signer, err
	}
	return p.tslAuthority(number, ca)
}

// NewRSATSLAuthority is NewTSLAuthority with RSA keys.
func (p *PKI) NewRSATSLAuthority(number int) (ca, signer X509Authority, err error) {
	if ca.RSA, err = newRSAKey(); err != nil {
		return ca, signer, err
	}
	return p.tslAuthority(number, ca)
}

// CertifyX509 issues a certificate for a key that there is already: a cross certificate, with the subject's key.
func (p *PKI) CertifyX509(issuer *X509Authority, subject X509Authority, t Template) ([]byte, error) {
	id, err := p.issueFor(subject.pair(), issuer, t)
	return id.Certificate, err
}

func (p *PKI) tslAuthority(number int, ca X509Authority) (_, signer X509Authority, err error) {
	name := func(cn string) []Attribute {
		return []Attribute{{oidCountry, "DE"}, {oidOrganization, "KTR-AdV Test NOT-VALID"}, {oidUnit, "TSL-Signer-CA der Telematikinfrastruktur"}, {oidCommonName, cn + " TEST-ONLY"}}
	}
	ca.Certificate, err = p.writeCertificate(Template{
		Subject: name(fmt.Sprintf("ADV.TSL-CA%d", number)), NotBefore: p.years(-3), NotAfter: p.years(8), CA: true,
		KeyUsage: UsageCertSign | UsageCRLSign, Policies: [][]int{OIDPolicyTSLSigner},
	}, ca.pair().public(), nil, ca.pair())
	if err != nil {
		return ca, signer, err
	}
	key := keyPair{}
	if ca.RSA != nil {
		key.rsa, err = newRSAKey()
	} else {
		key.ec, err = p.newKey()
	}
	if err != nil {
		return ca, signer, err
	}
	id, err := p.issueFor(key, &ca, Template{
		Subject: name(fmt.Sprintf("ADV TSL Signing Unit %d", number)), NotBefore: p.years(-3), NotAfter: p.years(5),
		KeyUsage: UsageNonRepudiation, ExtKeyUsage: [][]int{oidTSLSigning}, Policies: [][]int{OIDPolicyTSLSigner},
	})
	return ca, X509Authority{Key: id.Key, RSA: id.RSA, Certificate: id.Certificate}, err
}

const (
	nsList  = "http://uri.etsi.org/02231/v2#"
	nsDsig  = "http://www.w3.org/2000/09/xmldsig#"
	nsXAdES = "http://uri.etsi.org/01903/v1.3.2#"
	c14n    = "http://www.w3.org/2001/10/xml-exc-c14n#"
	sha256A = "http://www.w3.org/2001/04/xmlenc#sha256"
)

var xmlEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func tag(name, content string) string { return "<" + name + ">" + content + "</" + name + ">" }
func leaf(name, value string) string  { return tag(name, xmlEscape.Replace(value)) }
func named(name, value string) string {
	return tag(name, `<Name xml:lang="DE">`+xmlEscape.Replace(value)+"</Name>")
}
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// WriteList writes a list in canonical form and signs it as XAdES with ecdsa-sha256 (R || S) or, for an RSA key,
// sha256-rsa-MGF1.
func (p *PKI) WriteList(l List, signer X509Authority, faults ...ListFault) ([]byte, error) {
	has := func(f ListFault) bool {
		for _, fault := range faults {
			if fault == f {
				return true
			}
		}
		return false
	}
	version, tslType := "3", "http://uri.etsi.org/TrstSvc/TSLtype/generic"
	if l.VL {
		version, tslType = "5", "http://uri.etsi.org/TrstSvc/TrustedList/TSLType/EUgeneric"
	}
	if l.ID == "" {
		l.ID = fmt.Sprintf("ID%s%d%s", version, l.Sequence, l.Issued.UTC().Format("20060102150405Z"))
	}
	open := `<TrustServiceStatusList xmlns="` + nsList + `" Id="` + l.ID + `" TSLTag="http://uri.etsi.org/02231/TSLTag">`
	var b strings.Builder
	b.WriteString("<SchemeInformation>" + leaf("TSLVersionIdentifier", version) + leaf("TSLSequenceNumber", fmt.Sprint(l.Sequence)) +
		leaf("TSLType", tslType) + named("SchemeOperatorName", "TEST-ONLY operator") +
		tag("SchemeOperatorAddress", `<PostalAddresses><PostalAddress xml:lang="DE">`+leaf("StreetAddress", "Teststr. 1")+leaf("Locality", "Berlin")+
			leaf("CountryName", "DE")+`</PostalAddress></PostalAddresses><ElectronicAddress><URI xml:lang="DE">mailto:test@example.invalid</URI></ElectronicAddress>`) +
		named("SchemeName", "TEST-ONLY scheme & list") + tag("SchemeInformationURI", `<URI xml:lang="DE">http://example.invalid</URI>`) +
		leaf("StatusDeterminationApproach", "http://uri.etsi.org/TrstSvc/TSLType/StatusDetn/passive") + leaf("HistoricalInformationPeriod", "0"))
	if l.Primary+l.Backup != "" {
		b.WriteString("<PointersToOtherTSL>")
		for _, pointer := range [][2]string{{l.Primary, "1.2.276.0.76.4.120"}, {l.Backup, "1.2.276.0.76.4.121"}} {
			if pointer[0] != "" {
				b.WriteString(tag("OtherTSLPointer", leaf("TSLLocation", pointer[0])+tag("AdditionalInformation",
					`<TextualInformation xml:lang="DE">`+pointer[1]+`</TextualInformation>`)))
			}
		}
		b.WriteString("</PointersToOtherTSL>")
	}
	b.WriteString(leaf("ListIssueDateTime", stamp(l.Issued)) + tag("NextUpdate", leaf("dateTime", stamp(l.NextUpdate))) + "</SchemeInformation>")
	if len(l.Services) > 0 {
		b.WriteString("<TrustServiceProviderList><TrustServiceProvider>" + tag("TSPInformation", named("TSPName", "TEST-ONLY provider")+
			tag("TSPAddress", "<PostalAddresses></PostalAddresses>")+tag("TSPInformationURI", `<URI xml:lang="DE">http://example.invalid</URI>`)) + "<TSPServices>")
		for _, s := range l.Services {
			s.write(&b)
		}
		b.WriteString("</TSPServices></TrustServiceProvider></TrustServiceProviderList>")
	}
	content := b.String()
	const end = "</TrustServiceStatusList>"
	digest := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return base64.StdEncoding.EncodeToString(sum[:])
	}

	// SignedProperties as they stand in the document, and in canonical form with every namespace at its first use.
	certOf := signer.Certificate
	if has(ListWrongCert) {
		certOf = p.EGKCA.Certificate
	}
	certSum := sha256.Sum256(certOf)
	serial, err := serialOf(signer.Certificate)
	if err != nil {
		return nil, fmt.Errorf("write list: %w", err)
	}
	props := func(xades, ds string) string {
		return `<xades:SignedProperties` + xades + ` Id="props-1"><xades:SignedSignatureProperties><xades:SigningTime>` + stamp(l.Issued) +
			`</xades:SigningTime><xades:SigningCertificate><xades:Cert><xades:CertDigest><ds:DigestMethod` + ds + ` Algorithm="` + sha256A +
			`"></ds:DigestMethod><ds:DigestValue` + ds + `>` + base64.StdEncoding.EncodeToString(certSum[:]) + `</ds:DigestValue></xades:CertDigest>` +
			`<xades:IssuerSerial><ds:X509IssuerName` + ds + `>CN=issuer</ds:X509IssuerName><ds:X509SerialNumber` + ds + `>` + serial.String() +
			`</ds:X509SerialNumber></xades:IssuerSerial></xades:Cert></xades:SigningCertificate></xades:SignedSignatureProperties></xades:SignedProperties>`
	}
	dsDecl := ` xmlns:ds="` + nsDsig + `"`
	method := "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"
	if signer.RSA != nil {
		method = "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1"
	}
	transforms := `<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"></ds:Transform>`
	if has(ListNoTransform) {
		transforms = ""
	}
	contentDigest := digest(open + content + end)
	info := func(ds string) string {
		reference := func(attributes, transforms, value string) string {
			return `<ds:Reference` + attributes + `><ds:Transforms>` + transforms + `<ds:Transform Algorithm="` + c14n + `"></ds:Transform></ds:Transforms><ds:DigestMethod Algorithm="` +
				sha256A + `"></ds:DigestMethod><ds:DigestValue>` + value + `</ds:DigestValue></ds:Reference>`
		}
		return `<ds:SignedInfo` + ds + `><ds:CanonicalizationMethod Algorithm="` + c14n + `"></ds:CanonicalizationMethod><ds:SignatureMethod Algorithm="` + method +
			`"></ds:SignatureMethod>` + reference(` Id="ref-1" URI=""`, transforms, contentDigest) +
			reference(` Type="http://uri.etsi.org/01903#SignedProperties" URI="#props-1"`, "", digest(props(` xmlns:xades="`+nsXAdES+`"`, dsDecl))) + `</ds:SignedInfo>`
	}
	toSign := info(dsDecl)
	if has(ListWrongSignature) {
		toSign += " "
	}
	value, err := p.signXML(signer.pair(), []byte(toSign), has(ListDERSignature))
	if err != nil {
		return nil, fmt.Errorf("write list: %w", err)
	}
	written := props("", "")
	switch {
	case has(ListWrongProps):
		written = strings.Replace(written, "</xades:SigningTime>", " </xades:SigningTime>", 1)
	case has(ListWrongDigest):
		content = strings.Replace(content, "TEST-ONLY operator", "TEST-ONLY other operator", 1)
	case has(ListDoubleID):
		content = strings.Replace(content, "<SchemeInformation>", `<SchemeInformation Id="props-1">`, 1)
	}
	var around [2]string
	for i, list := range [...][][]byte{l.Before, l.After} {
		for _, c := range list {
			around[i] += "<ds:X509Certificate>" + base64.StdEncoding.EncodeToString(c) + "</ds:X509Certificate>"
		}
	}
	sig := base64.StdEncoding.EncodeToString(value)
	cert := base64.StdEncoding.EncodeToString(signer.Certificate)
	if l.Loose {
		content, sig, cert = loosen(content), wrap76(sig), wrap76(cert)
		open = `<?xml version='1.0' encoding="utf-8" standalone='yes'?>` + "\r\n<!-- a comment -->" +
			`<TrustServiceStatusList TSLTag='http://uri.etsi.org/02231/TSLTag' xmlns:unused="urn:unused" xmlns="` + nsList + `"` + "\n Id=\"" + l.ID + `">`
	}
	signature := `<ds:Signature` + dsDecl + ` Id="sig-1">` + info("") + `<ds:SignatureValue>` + sig + `</ds:SignatureValue><ds:KeyInfo><ds:X509Data>` + around[0] + `<ds:X509Certificate>` + cert +
		`</ds:X509Certificate>` + around[1] + `</ds:X509Data></ds:KeyInfo><ds:Object><xades:QualifyingProperties xmlns:xades="` + nsXAdES + `" Target="#sig-1">` + written +
		`</xades:QualifyingProperties></ds:Object></ds:Signature>`
	switch {
	case has(ListNoSignature):
		signature = ""
	case has(ListTwoSignatures):
		signature += strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(signature, "sig-1", "sig-2"), "props-1", "props-2"), "ref-1", "ref-2")
	case has(ListSignatureFirst):
		return []byte(open + signature + content + end), nil
	}
	return []byte(open + content + signature + end), nil
}

// loosen writes the same XML in another form.
func loosen(s string) string {
	s = strings.ReplaceAll(s, `<Name xml:lang="DE">`, "<Name\r\n\txml:lang='DE' >")
	s = strings.ReplaceAll(s, "<PostalAddresses></PostalAddresses>", "<PostalAddresses/>")
	s = strings.ReplaceAll(s, "<TSLType>", "<!-- which\nkind --><TSLType>")
	return strings.ReplaceAll(s, "TEST-ONLY scheme &amp; list", "<![CDATA[TEST-ONLY scheme & ]]>l&#x69;st")
}

// wrap76 breaks Base64 as many tools do, with the carriage return that XML has to write as a reference.
func wrap76(s string) string {
	var b strings.Builder
	for len(s) > 76 {
		b.WriteString(s[:76] + "&#13;\n")
		s = s[76:]
	}
	return b.String() + s
}

// signXML signs as XML signatures have it.
func (p *PKI) signXML(key keyPair, content []byte, der bool) ([]byte, error) {
	digest := sha256.Sum256(content)
	switch {
	case key.rsa != nil:
		return rsa.SignPSS(rand.Reader, key.rsa, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	case der:
		return key.ec.SignASN1(p.config.Rand, digest[:])
	}
	return key.ec.Sign(p.config.Rand, digest[:])
}

func (s *ListService) write(b *strings.Builder) {
	b.WriteString("<TSPService><ServiceInformation>" + leaf("ServiceTypeIdentifier", s.Type) + named("ServiceName", s.Name) + "<ServiceDigitalIdentity>")
	for _, c := range s.Certificates {
		b.WriteString(tag("DigitalId", tag("X509Certificate", base64.StdEncoding.EncodeToString(c))))
	}
	b.WriteString("</ServiceDigitalIdentity>" + leaf("ServiceStatus", s.Status) + leaf("StatusStartingTime", stamp(s.Start)))
	if len(s.SupplyPoints) > 0 {
		b.WriteString("<ServiceSupplyPoints>")
		for _, p := range s.SupplyPoints {
			b.WriteString(leaf("ServiceSupplyPoint", p))
		}
		b.WriteString("</ServiceSupplyPoints>")
	}
	if len(s.Extensions)+len(s.Information)+len(s.Redirects)+len(s.Qualify) > 0 {
		b.WriteString("<ServiceInformationExtensions>")
		for _, oid := range s.Extensions {
			b.WriteString(`<Extension Critical="false">` + leaf("ExtensionOID", oid) + leaf("ExtensionValue", "oid") + "</Extension>")
		}
		for _, r := range s.Redirects {
			b.WriteString(`<Extension Critical="false"><AdditionalServiceInformation><URI xml:lang="DE">http://uri.etsi.org/TrstSvc/TrustedList/SvcInfoExt/ForeSignatures</URI>` +
				leaf("InformationValue", r[0]+" "+r[1]) + "</AdditionalServiceInformation></Extension>")
		}
		s.writeInformation(b)
		b.WriteString("</ServiceInformationExtensions>")
	}
	b.WriteString("</ServiceInformation>")
	if len(s.History) > 0 {
		b.WriteString("<ServiceHistory>")
		for _, h := range s.History {
			b.WriteString("<ServiceHistoryInstance>" + leaf("ServiceTypeIdentifier", h.Type) + named("ServiceName", s.Name) +
				"<ServiceDigitalIdentity></ServiceDigitalIdentity>" + leaf("ServiceStatus", h.Status) + leaf("StatusStartingTime", stamp(h.Start)))
			if len(h.Information)+len(h.Qualify) > 0 {
				b.WriteString("<ServiceInformationExtensions>")
				h.writeInformation(b)
				b.WriteString("</ServiceInformationExtensions>")
			}
			b.WriteString("</ServiceHistoryInstance>")
		}
		b.WriteString("</ServiceHistory>")
	}
	b.WriteString("</TSPService>")
}

// Namespaces of the extension Qualifications.
const (
	nsECC  = "http://uri.etsi.org/TrstSvc/SvcInfoExt/eSigDir-1999-93-EC-TrustedList/#"
	nsTSLX = "http://uri.etsi.org/02231/v2/additionaltypes#"
)

func (s *ListState) writeInformation(b *strings.Builder) {
	if s.Qualify != "" {
		b.WriteString(fmt.Sprintf(`<Extension Critical="%t">`, s.Critical) + canonicalPrefixes(`<ecc:Qualifications>`+s.Qualify+`</ecc:Qualifications>`) + "</Extension>")
	}
	for _, i := range s.Information {
		b.WriteString(`<Extension Critical="true"><AdditionalServiceInformation><URI xml:lang="en">` + xmlEscape.Replace(i) + "</URI></AdditionalServiceInformation></Extension>")
	}
}

// canonicalPrefixes declares the namespaces of Qualify where exclusive canonicalisation has them: at the outermost element
// with the prefix.
func canonicalPrefixes(s string) string {
	for prefix, space := range map[string]string{"ecc": nsECC, "tslx": nsTSLX, "xades": nsXAdES} {
		var b strings.Builder
		depth := 0
		for rest := s; rest != ""; {
			i := strings.IndexByte(rest, '<')
			if i < 0 {
				b.WriteString(rest)
				break
			}
			b.WriteString(rest[:i])
			rest = rest[i:]
			end := strings.IndexByte(rest, '>') + 1
			name := strings.FieldsFunc(rest[1:end], func(r rune) bool { return r == ' ' || r == '>' })[0]
			switch {
			case strings.HasPrefix(name, "/"+prefix+":"):
				depth--
			case strings.HasPrefix(name, prefix+":"):
				if depth++; depth == 1 {
					b.WriteString("<" + name + ` xmlns:` + prefix + `="` + space + `"` + rest[1+len(name):end])
					rest = rest[end:]
					continue
				}
			}
			b.WriteString(rest[:end])
			rest = rest[end:]
		}
		s = b.String()
	}
	return s
}
