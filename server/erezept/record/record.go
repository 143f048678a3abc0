// Package record finds the signed messages in what pharmacies and data centres deliver as billing records of electronic
// prescriptions, and reads the facts of their signed content.
//
// [Open] takes the forms that occur: a message in DER or BER, PEM, base64 text with or without line breaks and encoded
// once or twice, FHIR Bundles and Binaries in XML and JSON that carry messages in Binary.data and Bundle.signature.data.
// It tells them apart by content, never by name. [Scan] does so with an input of any size, as a stream. [ReadFacts] reads a FHIR Bundle in XML, the content that is signed:
// kind of record, prescription IDs, digest of the receipt, times.
//
// Facts for a verdict are those of the signed content alone. The Bundle around a receipt is an unsigned copy of it; its
// facts are given beside, and [Facts.Differences] says where the copy is another.
//
// The readers are strict where the form is concerned (no document type, no entities of its own, limits of size and depth)
// and tolerant about what FHIR profiles allow to vary. They never panic; Open needs memory in proportion to the input.
package record

import (
	"errors"
	"time"
)

// Bounds of what is read.
const (
	MaxInput    = 256 << 20 // octets of an input of Open
	MaxMessages = 100_000   // messages in one input
	MaxDepth    = 64        // nested elements of XML and JSON
	MaxIDs      = 16        // prescription IDs in one record
)

// Errors of this package, wrapped with what was found and where.
var (
	ErrUnknown   = errors.New("record: neither a signed message nor anything that carries one")
	ErrMalformed = errors.New("record: malformed")
	ErrNoMessage = errors.New("record: FHIR resource without a signed message")
	ErrLimit     = errors.New("record: larger or deeper than is read")
)

// Form is one layer around a signed message.
type Form uint8

// The forms.
const (
	CMS           Form = iota // the message itself
	PEM                       // between BEGIN and END lines
	Base64                    // base64 text
	XMLBinary                 // Binary.data of FHIR XML
	JSONBinary                // Binary.data of FHIR JSON
	XMLSignature              // Bundle.signature.data of FHIR XML
	JSONSignature             // Bundle.signature.data of FHIR JSON
)

var formNames = [...]string{"cms", "pem", "base64", "fhir-xml-binary", "fhir-json-binary", "fhir-xml-signature", "fhir-json-signature"}

// String returns the form as reports have it, for example "fhir-xml-binary".
func (f Form) String() string { return formNames[f] }

// Message is a signed message that was found in an input.
type Message struct {
	Forms []Form // layers from the outside to the message; the last one is CMS
	ID    string // id of the FHIR resource that carries it, "" without one
	Data  []byte // the message, DER or BER

	// Outer are the facts of the Bundle that carries the message in its signature, an unsigned copy of the content; nil
	// for other forms. OuterUnread: there is such a Bundle, and Scan could not hold it until its end.
	Outer       *Facts
	OuterUnread bool

	// Of Scan alone, in place of Data: what came of a message that was read as a stream, or why there is none where one was
	// announced.
	Streamed any
	Err      error
}

// Kind is the kind of a billing record.
type Kind uint8

// The kinds.
const (
	Unknown      Kind = iota
	Prescription      // Verordnungsdatensatz
	Dispensing        // Abgabedatensatz
	Receipt           // Quittung
	SickNote          // elektronische Arbeitsunfähigkeitsbescheinigung, which is signed in the same way
)

var kindNames = [...]string{"unknown", "prescription", "dispensing", "receipt", "sick-note"}

// String returns the kind as reports have it, for example "receipt".
func (k Kind) String() string { return kindNames[k] }

// Place is where a prescription ID was found.
type Place uint8

// The places.
const (
	BundleIdentifier        Place = iota // Bundle.identifier
	AuthorizingPrescription              // MedicationDispense.authorizingPrescription.identifier
)

var placeNames = [...]string{"Bundle.identifier", "MedicationDispense.authorizingPrescription.identifier"}

// String returns the FHIR path.
func (p Place) String() string { return placeNames[p] }

// ID is a prescription ID (Rezept-ID) in a record.
type ID struct {
	Value      string
	Place      Place
	OldSystem  bool // identifier.system is one of the years up to 2022
	Form       bool // aaa.bbb.bbb.bbb.bbb.cc
	CheckDigit bool // the check digits are right (ISO 7064 MOD 97-10)
}

// Facts are what is read of a record.
type Facts struct {
	Kind    Kind
	Profile string // of Bundle.meta, without version
	Version string // of the profile, "" without one
	Private bool   // dispensing record of a privately insured person (DAV-PKV)
	Bundle  string // Bundle.id

	IDs []ID // in the order in which they were found

	// HasSignature: the Bundle has an element signature, which is right in the copy around a receipt and not inside.
	HasSignature bool

	// Digests is how many Binaries of the profile GEM_ERP_PR_Digest the receipt has; Digest is the data of the last one, 32
	// octets when it is what it should be, and nil when it is no base64.
	Digests int
	Digest  []byte

	// Beneficiary is the Telematik-ID of the pharmacy in the receipt.
	Beneficiary string

	Timestamp              time.Time // Bundle.timestamp
	Date                   time.Time // Composition.date
	PeriodStart, PeriodEnd time.Time // Composition.event.period of the receipt
	Authored               string    // MedicationRequest.authoredOn (date), as written
	HandedOver             string    // MedicationDispense.whenHandedOver (date), as written
}
