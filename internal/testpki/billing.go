package testpki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers of the profiles that sign billing records.
var (
	OIDPolicyHBA   = []int{1, 2, 276, 0, 76, 4, 145}
	OIDQCPNQscd    = []int{0, 4, 0, 194112, 1, 2}
	OIDHBAQES      = []int{1, 2, 276, 0, 76, 4, 72}
	OIDSMBOSIG     = []int{1, 2, 276, 0, 76, 4, 78}
	OIDFDSIG       = []int{1, 2, 276, 0, 76, 4, 203}
	OIDFDOSIG      = []int{1, 2, 276, 0, 76, 4, 283}
	OIDArzt        = []int{1, 2, 276, 0, 76, 4, 30}
	OIDZahnarzt    = []int{1, 2, 276, 0, 76, 4, 31}
	OIDApotheker   = []int{1, 2, 276, 0, 76, 4, 32}
	OIDApotheke    = []int{1, 2, 276, 0, 76, 4, 54}
	OIDERezept     = []int{1, 2, 276, 0, 76, 4, 259}
	oidQCStatement = []int{1, 3, 6, 1, 5, 5, 7, 1, 3}
	oidValidity    = []int{1, 3, 6, 1, 4, 1, 8301, 3, 5}
	oidQCCompliant = []int{0, 4, 0, 1862, 1, 1}
	oidQCSSCD      = []int{0, 4, 0, 1862, 1, 4}
	oidChainModel  = []int{1, 3, 6, 1, 4, 1, 8301, 3, 5, 1}
)

// Billing is the part of the PKI that signs billing records of electronic prescriptions: the qualified CA of health
// professional cards, the CAs of institutions and of services, and their OCSP signers. As in the field, the OCSP signer of
// the qualified CA was issued by that CA, and the others by a component CA that did not issue what they answer for.
type Billing struct {
	QESCA, SMCBCA, ServiceCA             X509Authority
	QESSigner, SMCBSigner, ServiceSigner X509Authority // OCSP signers

	pki    *PKI
	number atomic.Uint64
}

// NewBilling makes the authorities.
func (p *PKI) NewBilling() (*Billing, error) {
	b := &Billing{pki: p}
	for _, ca := range []struct {
		to     *X509Authority
		unit   string
		cn     string
		policy []int
	}{
		{&b.QESCA, "Qualifizierter VDA der Telematikinfrastruktur", "ADV.HBA-qCA1", OIDPolicyHBA},
		{&b.SMCBCA, "Institution des Gesundheitswesens-CA der Telematikinfrastruktur", "ADV.SMCB-CA2", OIDPolicyCP},
		{&b.ServiceCA, "Komponenten-CA der Telematikinfrastruktur", "ADV.KOMP-CA2", OIDPolicyCP},
	} {
		key, err := p.newKey()
		if err != nil {
			return nil, fmt.Errorf("billing PKI: %w", err)
		}
		ca.to.Key = key
		if ca.to.Certificate, err = p.writeCertificate(Template{
			Subject:   []Attribute{{oidCountry, "DE"}, {oidOrganization, "KTR-AdV Test NOT-VALID"}, {oidUnit, ca.unit}, {oidCommonName, ca.cn + " TEST-ONLY"}},
			NotBefore: p.years(-7), NotAfter: p.years(8), CA: true, KeyUsage: UsageCertSign | UsageCRLSign, Policies: [][]int{ca.policy},
		}, ca.to.pair().public(), nil, ca.to.pair()); err != nil {
			return nil, fmt.Errorf("billing PKI: %w", err)
		}
	}
	for _, signer := range []struct {
		to, issuer *X509Authority
		cn         string
	}{{&b.QESSigner, &b.QESCA, "ADV HBA-qCA OCSP Signer 1"}, {&b.SMCBSigner, &p.ComponentCA, "ADV SMCB OCSP Signer 1"}, {&b.ServiceSigner, &p.ComponentCA, "ADV KOMP OCSP Signer 1"}} {
		t := ocspSignerTemplate(p, signer.cn)
		if signer.issuer == &b.QESCA {
			t.NotBefore = p.years(-7)
		}
		id, err := p.IssueX509(signer.issuer, t)
		if err != nil {
			return nil, fmt.Errorf("billing PKI: %w", err)
		}
		*signer.to = X509Authority(id)
	}
	return b, nil
}

// SignerProfile is who signs.
type SignerProfile int

// The profiles.
const (
	Doctor     SignerProfile = iota // C.HP.QES, role oid_arzt
	Dentist                         // C.HP.QES, role oid_zahnarzt
	Pharmacist                      // C.HP.QES, role oid_apotheker
	Pharmacy                        // C.HCI.OSIG, role oid_oeffentliche_apotheke
	Service                         // C.FD.OSIG, role oid_erezept
	OldService                      // C.FD.SIG, keyUsage digitalSignature
)

// Signer is a certificate that signs records, with its issuer.
type Signer struct {
	X509Identity
	CA          *X509Authority
	Responder   *X509Authority // OCSP signer that answers for it
	TelematikID string

	// Answer is an OCSP response that Case embeds instead of making one for each record.
	Answer []byte
}

// KeyKind is the kind of a signer's key.
type KeyKind int

// The kinds.
const (
	BrainpoolKey KeyKind = iota
	RSAKey               // 2048 bits, shared by all signers of one profile
	P256Key
)

// Issue issues the certificate of signer number n. change, when not nil, changes the template before.
func (b *Billing) Issue(profile SignerProfile, n int, kind KeyKind, change func(*Template)) (*Signer, error) {
	p := b.pki
	s := &Signer{CA: &b.QESCA, Responder: &b.QESSigner}
	t := Template{NotBefore: p.years(-1), NotAfter: p.years(4).Add(-time.Second), KeyUsage: UsageNonRepudiation}
	professional := func(role []int, item string) {
		s.TelematikID = fmt.Sprintf("1-HBA-Testkarte-%012d", n)
		t.Policies = [][]int{OIDHBAQES, OIDQCPNQscd, OIDPolicyHBA}
		name := fmt.Sprintf("Probemann-%d", n)
		t.Subject = []Attribute{{oidCountry, "DE"}, {oidSurname, name}, {oidGivenName, "Ottokar"}, {oidSerialNumber, fmt.Sprintf("16.%020d", n)}, {oidCommonName, "Ottokar " + name + " TEST-ONLY"}}
		t.Admission = &Admission{Item: item, OID: role, Registration: s.TelematikID}
		t.Extra = qesExtensions()
	}
	switch profile {
	case Doctor:
		professional(OIDArzt, "Ärztin/Arzt")
	case Dentist:
		professional(OIDZahnarzt, "Zahnärztin/Zahnarzt")
	case Pharmacist:
		professional(OIDApotheker, "Apotheker/-in")
	case Pharmacy:
		s.CA, s.Responder, s.TelematikID = &b.SMCBCA, &b.SMCBSigner, fmt.Sprintf("3-SMC-B-Testkarte-%012d", n)
		t.Policies = [][]int{OIDPolicyCP, OIDSMBOSIG}
		t.Subject = []Attribute{{oidCountry, "DE"}, {oidOrganization, s.TelematikID + " NOT-VALID"}, {oidCommonName, fmt.Sprintf("Apotheke zum Prüfstempel %d TEST-ONLY", n)}}
		t.Admission = &Admission{Item: "Öffentliche Apotheke", OID: OIDApotheke, Registration: s.TelematikID}
	default:
		s.CA, s.Responder, s.TelematikID = &b.ServiceCA, &b.ServiceSigner, "9-E-Rezept-Fachdienst"
		t.Policies = [][]int{OIDPolicyCP, OIDFDOSIG}
		if profile == OldService {
			t.Policies, t.KeyUsage = [][]int{OIDPolicyCP, OIDFDSIG}, UsageDigitalSignature
		}
		t.Subject = []Attribute{{oidCountry, "DE"}, {oidOrganization, "KTR-AdV Test TEST-ONLY - NOT-VALID"}, {oidCommonName, "erezept"}}
		t.Admission = &Admission{Item: "E-Rezept", OID: OIDERezept, Registration: s.TelematikID}
	}
	if change != nil {
		change(&t)
	}
	var key keyPair
	var err error
	switch kind {
	case RSAKey:
		key.rsa, err = p.cardRSAKey(fmt.Sprint("billing ", profile))
	case P256Key:
		key.nist, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		key.ec, err = p.newKey()
	}
	if err != nil {
		return nil, fmt.Errorf("issue signer: %w", err)
	}
	if s.X509Identity, err = p.issueFor(key, s.CA, t); err != nil {
		return nil, fmt.Errorf("issue signer: %w", err)
	}
	return s, nil
}

// qesExtensions are those of qualified certificates: QCStatements and the validity model.
func qesExtensions() []Extension {
	statement := func(oid []int) []byte { return derWrap(0x30, derOID(oid)) }
	return []Extension{
		{OID: oidQCStatement, Value: derWrap(0x30, statement(oidQCCompliant), statement(oidQCSSCD))},
		{OID: oidValidity, Value: derWrap(0x30, derOID(oidChainModel))},
	}
}

// StatusAnswer is an OCSP response about a signer.
type StatusAnswer struct {
	Status     Status
	ProducedAt time.Time
	ThisUpdate time.Time // zero: ProducedAt
	NextUpdate time.Time // zero: none, as usual
	RevokedAt  time.Time

	Responder     *X509Authority // nil: the signer's
	NoCertHash    bool
	WrongCertHash bool
	WrongSerial   bool
	BadSignature  bool
}

// Status writes an OCSP response about a signer.
func (b *Billing) Status(s *Signer, a StatusAnswer) ([]byte, error) {
	if a.ThisUpdate.IsZero() {
		a.ThisUpdate = a.ProducedAt
	}
	if a.Responder == nil {
		a.Responder = s.Responder
	}
	issuer, err := subjectOf(s.CA.Certificate)
	if err != nil {
		return nil, fmt.Errorf("OCSP response: %w", err)
	}
	responder, err := subjectOf(a.Responder.Certificate)
	if err != nil {
		return nil, fmt.Errorf("OCSP response: %w", err)
	}
	serial, err := serialOf(s.Certificate)
	if err != nil {
		return nil, fmt.Errorf("OCSP response: %w", err)
	}
	if a.WrongSerial {
		serial = new(big.Int).Add(serial, big.NewInt(1))
	}
	certHash := sha256.Sum256(s.Certificate)
	if a.WrongCertHash {
		certHash[0] ^= 1
	}
	nameHash := sha1.Sum(issuer)
	explicit := func(n uint8) asn1.Tag { return asn1.Tag(n).Constructed().ContextSpecific() }
	second := func(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
	var w cryptobyte.Builder
	w.AddASN1(asn1.SEQUENCE, func(w *cryptobyte.Builder) { // ResponseData
		w.AddASN1(explicit(1), func(w *cryptobyte.Builder) { w.AddBytes(responder) })
		w.AddASN1GeneralizedTime(second(a.ProducedAt))
		w.AddASN1(asn1.SEQUENCE, func(w *cryptobyte.Builder) {
			w.AddASN1(asn1.SEQUENCE, func(w *cryptobyte.Builder) { // SingleResponse
				w.AddASN1(asn1.SEQUENCE, func(w *cryptobyte.Builder) {
					w.AddASN1(asn1.SEQUENCE, func(w *cryptobyte.Builder) {
						addOID(w, cmsHashes[crypto.SHA1].hash)
						w.AddASN1NULL()
					})
					w.AddASN1OctetString(nameHash[:])
					w.AddASN1OctetString(keyID(s.CA.pair().public()))
					w.AddASN1BigInt(serial)
				})
				if a.Status == Revoked {
					w.AddASN1(explicit(1), func(w *cryptobyte.Builder) { w.AddASN1GeneralizedTime(second(a.RevokedAt)) })
				} else {
					addStatus(w, a.Status, a.ProducedAt)
				}
				w.AddASN1GeneralizedTime(second(a.ThisUpdate))
				if !a.NextUpdate.IsZero() {
					w.AddASN1(explicit(0), func(w *cryptobyte.Builder) { w.AddASN1GeneralizedTime(second(a.NextUpdate)) })
				}
				if !a.NoCertHash {
					addExtension(w, oidCertHash, false, func(w *cryptobyte.Builder) {
						w.AddASN1(asn1.SEQUENCE, func(w *cryptobyte.Builder) {
							addAlgorithm(w, oidSHA256)
							w.AddASN1OctetString(certHash[:])
						})
					})
				}
			})
		})
	})
	data, err := w.Bytes()
	if err != nil {
		return nil, fmt.Errorf("OCSP response: %w", err)
	}
	signed := data
	if a.BadSignature {
		signed = append(bytes.Clone(data), 0)
	}
	return b.pki.wrapOCSP(data, signed, a.Responder)
}

// CaseOptions describe a billing case. Doctor, Pharmacy and Service must be set; everything else has a default that gives a
// case with nothing wrong.
type CaseOptions struct {
	ID string    // prescription ID; "": the next one
	At time.Time // signing time of the prescription; zero: a day before the PKI's time. The rest follows within two hours

	Doctor, Pharmacy, Service *Signer

	// Each changes how one message is written before it is written.
	Prescription, Dispensing, Receipt func(*CMSOptions)
	// Each changes the status answer that is embedded; nil as result: none is embedded.
	PrescriptionStatus, ReceiptStatus func(StatusAnswer) *StatusAnswer

	DispensingID string // prescription ID in the dispensing record; "": ID
	OtherID      string // prescription ID in its MedicationDispense; "": that of the dispensing record
	ReceiptID    string // prescription ID in the receipt; "": ID
	Digest       []byte // digest in the receipt; nil: that of the prescription
}

// Case is a billing case: the signed messages and their contents.
type Case struct {
	ID                                                        string
	Prescription, Dispensing, Receipt                         []byte
	PrescriptionContent, DispensingContent, ReceiptContent    []byte
	PrescriptionSignedAt, DispensingSignedAt, ReceiptSignedAt time.Time
}

// Case makes a billing case: the prescription as a connector signs it with a QES and the status answer embedded (BER, in
// pieces), the dispensing record as a connector signs it with an SMC-B (BER, no status answer), the receipt as the
// service signs it (DER, with status answer).
func (b *Billing) Case(o CaseOptions) (*Case, error) {
	if o.ID == "" {
		o.ID = PrescriptionID(160, b.number.Add(1))
	}
	if o.At.IsZero() {
		o.At = b.pki.Now().UTC().Truncate(time.Second).AddDate(0, 0, -1)
	}
	or := func(a, b string) string {
		if a == "" {
			return b
		}
		return a
	}
	o.DispensingID, o.ReceiptID = or(o.DispensingID, o.ID), or(o.ReceiptID, o.ID)
	o.OtherID = or(o.OtherID, o.DispensingID)
	c := &Case{ID: o.ID, PrescriptionSignedAt: o.At, ReceiptSignedAt: o.At.Add(110 * time.Minute), DispensingSignedAt: o.At.Add(112 * time.Minute)}
	id := base64.RawURLEncoding.EncodeToString([]byte(o.ID))
	c.PrescriptionContent = recordContent{id: o.ID, bundle: "v-" + id, at: c.PrescriptionSignedAt}.fill(prescriptionTemplate)
	if o.Digest == nil {
		digest := sha256.Sum256(c.PrescriptionContent)
		o.Digest = digest[:]
	}
	c.DispensingContent = recordContent{id: o.DispensingID, other: o.OtherID, bundle: "a-" + id, at: c.DispensingSignedAt}.fill(dispensingTemplate)
	c.ReceiptContent = recordContent{id: o.ReceiptID, bundle: "q-" + id, at: c.ReceiptSignedAt, start: o.At.Add(100 * time.Minute), digest: o.Digest, telematikID: o.Pharmacy.TelematikID}.fill(receiptTemplate)
	for _, r := range []struct {
		to      *[]byte
		content []byte
		signer  *Signer
		at      time.Time
		change  func(*CMSOptions)
		status  func(StatusAnswer) *StatusAnswer
		options CMSOptions
		embed   bool
	}{
		{&c.Prescription, c.PrescriptionContent, o.Doctor, c.PrescriptionSignedAt, o.Prescription, o.PrescriptionStatus, CMSOptions{BER: true, ContentHints: true}, true},
		{&c.Dispensing, c.DispensingContent, o.Pharmacy, c.DispensingSignedAt, o.Dispensing, nil, CMSOptions{BER: true, ContentHints: true}, false},
		{&c.Receipt, c.ReceiptContent, o.Service, c.ReceiptSignedAt, o.Receipt, o.ReceiptStatus, CMSOptions{}, true},
	} {
		var err error
		if r.embed {
			if r.options.OCSP, err = b.embedded(r.signer, r.at, r.status); err != nil {
				return nil, err
			}
		}
		if r.change != nil {
			r.change(&r.options)
		}
		if *r.to, err = b.pki.SignCMS(r.content, &r.signer.X509Identity, r.at, r.options); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// embedded makes the status answer for a record, 39 minutes old at signing time as half of those in the field.
func (b *Billing) embedded(s *Signer, at time.Time, change func(StatusAnswer) *StatusAnswer) ([][]byte, error) {
	if s.Answer != nil && change == nil {
		return [][]byte{s.Answer}, nil
	}
	answer := &StatusAnswer{ProducedAt: at.Add(-39 * time.Minute)}
	if change != nil {
		if answer = change(*answer); answer == nil {
			return nil, nil
		}
	}
	response, err := b.Status(s, *answer)
	if err != nil {
		return nil, err
	}
	return [][]byte{response}, nil
}

// BinaryXML is a FHIR Binary with a message, as services hand it out.
func BinaryXML(id string, message []byte) []byte {
	return []byte(`<Binary xmlns="http://hl7.org/fhir">` + el("id", id) + meta(gem+"StructureDefinition/GEM_ERP_PR_Binary|1.4") +
		el("contentType", "application/pkcs7-mime") + el("data", base64.StdEncoding.EncodeToString(message)) + "</Binary>")
}

// BinaryJSON is the same in JSON.
func BinaryJSON(id string, message []byte) []byte {
	out, err := json.Marshal(map[string]any{
		"resourceType": "Binary", "id": id, "meta": map[string]any{"profile": []string{gem + "StructureDefinition/GEM_ERP_PR_Binary|1.4"}},
		"contentType": "application/pkcs7-mime", "data": message,
	})
	if err != nil {
		return nil // nothing in it can fail
	}
	return out
}

// BundleXML is a collection of FHIR resources in XML, as billing files carry them.
func BundleXML(id string, resources ...[]byte) []byte {
	var inside []string
	for _, r := range resources {
		inside = append(inside, el("entry", "", el("resource", "", string(r))))
	}
	return []byte(`<Bundle xmlns="http://hl7.org/fhir">` + el("id", id) + el("type", "collection") + strings.Join(inside, "") + "</Bundle>")
}

// SignedReceiptXML is the Bundle of a receipt with its message in signature.data, as the service delivers it.
func SignedReceiptXML(content, message []byte) []byte {
	end := bytes.LastIndex(content, []byte("</Bundle>"))
	signature := el("signature", "",
		el("type", "", el("system", "urn:iso-astm:E1762-95:2013"), el("code", "1.2.840.10065.1.12.1.1")), el("when", "2025-01-01T00:00:00Z"),
		el("sigFormat", "application/pkcs7-mime"), el("data", base64.StdEncoding.EncodeToString(message)))
	return append(append(bytes.Clone(content[:end]), signature...), "</Bundle>"...)
}
