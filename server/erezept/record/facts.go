package record

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// ReadFacts reads the facts of a record from its signed content, a FHIR Bundle in XML. Facts that the record does not have
// stay zero: judging that is up to the caller. An error wraps ErrMalformed or ErrLimit: the content is not well-formed or
// not a Bundle.
func ReadFacts(content []byte) (*Facts, error) {
	f := new(Facts)
	c := collector{facts: f}
	if err := parseXML(content, &c, false); err != nil {
		return nil, fmt.Errorf("signed content: %w", err)
	}
	if !c.bundle {
		return nil, fmt.Errorf("signed content: %w: no FHIR Bundle", ErrMalformed)
	}
	return f, nil
}

// readCopy reads the facts of the Bundle around a message, which is well-formed: it was read before.
func readCopy(data []byte, json bool) *Facts {
	f := new(Facts)
	c := collector{facts: f}
	var err error
	if json {
		err = parseJSON(data, &c)
	} else {
		err = parseXML(data, &c, true)
	}
	if err != nil || !c.bundle {
		return nil
	}
	return f
}

// action says what a value is.
type action uint8

const (
	noAction action = iota
	isBundle
	bundleID
	profile
	timestamp
	signature
	idSystem
	idValue
	authorizingSystem
	authorizingValue
	date
	periodStart
	periodEnd
	extension
	identifierValue
	authored
	handedOver
	binary
	binaryProfile
	binaryData
)

// paths are the elements that facts are read from.
var paths = []struct {
	path   string
	action action
}{
	{"Bundle", isBundle},
	{"Bundle/id", bundleID},
	{"Bundle/meta/profile", profile},
	{"Bundle/identifier/system", idSystem},
	{"Bundle/identifier/value", idValue},
	{"Bundle/timestamp", timestamp},
	{"Bundle/signature", signature},
	{"Bundle/entry/resource/Composition/date", date},
	{"Bundle/entry/resource/Composition/extension", extension},
	{"Bundle/entry/resource/Composition/extension/valueIdentifier/value", identifierValue},
	{"Bundle/entry/resource/Composition/event/period/start", periodStart},
	{"Bundle/entry/resource/Composition/event/period/end", periodEnd},
	{"Bundle/entry/resource/MedicationDispense/authorizingPrescription/identifier/system", authorizingSystem},
	{"Bundle/entry/resource/MedicationDispense/authorizingPrescription/identifier/value", authorizingValue},
	{"Bundle/entry/resource/MedicationDispense/whenHandedOver", handedOver},
	{"Bundle/entry/resource/MedicationRequest/authoredOn", authored},
	{"Bundle/entry/resource/Binary", binary},
	{"Bundle/entry/resource/Binary/meta/profile", binaryProfile},
	{"Bundle/entry/resource/Binary/data", binaryData},
}

// node is a place in the tree of paths.
type node struct {
	name     string
	action   action
	children []*node
}

var tree = grow()

func grow() *node {
	root := new(node)
	for _, p := range paths {
		at := root
		for _, name := range strings.Split(p.path, "/") {
			child := at.child([]byte(name))
			if child == nil {
				child = &node{name: name}
				at.children = append(at.children, child)
			}
			at = child
		}
		at.action = p.action
	}
	return root
}

func (n *node) child(name []byte) *node {
	for _, c := range n.children {
		if c.name == string(name) {
			return c
		}
	}
	return nil
}

// collector gathers facts from the events of one Bundle.
type collector struct {
	facts  *Facts
	bundle bool
	depth  int
	stack  [16]*node // open elements that lead to facts; the tree is less deep

	system    []byte // of the identifier that is open
	number    []byte
	address   []byte // of the extension that is open
	telematik []byte

	isDigest bool
	data     []byte
	hasData  bool
}

func (c *collector) start(name []byte, _ int) bool {
	parent := tree
	if c.depth > 0 {
		parent = c.stack[c.depth-1]
	}
	var n *node
	if parent != nil {
		n = parent.child(name)
	}
	c.stack[c.depth] = n
	c.depth++
	if n == nil {
		return false
	}
	switch n.action {
	case isBundle:
		c.bundle = true
	case signature:
		c.facts.HasSignature = true
	case extension:
		c.address, c.telematik = nil, nil
	case binary:
		c.isDigest, c.data, c.hasData = false, nil, false
	}
	switch n.name {
	case "identifier":
		c.system, c.number = nil, nil
	}
	return true
}

func (c *collector) url(v []byte) {
	if c.depth > 0 && c.stack[c.depth-1] != nil && c.stack[c.depth-1].action == extension {
		c.address = v
	}
}

func (c *collector) value(v []byte) {
	f := c.facts
	switch c.stack[c.depth-1].action {
	case bundleID:
		f.Bundle = string(v)
	case profile:
		f.setProfile(v)
	case timestamp:
		f.Timestamp = instant(v)
	case idSystem, authorizingSystem:
		c.system = v
	case idValue, authorizingValue:
		c.number = v
	case date:
		f.Date = instant(v)
	case periodStart:
		f.PeriodStart = instant(v)
	case periodEnd:
		f.PeriodEnd = instant(v)
	case identifierValue:
		c.telematik = v
	case authored:
		f.Authored = string(v)
	case handedOver:
		f.HandedOver = string(v)
	case binaryProfile:
		name, _ := splitVersion(v)
		c.isDigest = c.isDigest || string(name) == profileDigest
	case binaryData:
		c.data, c.hasData = v, true
	}
}

func (c *collector) end(int) {
	c.depth--
	n := c.stack[c.depth]
	if n == nil {
		return
	}
	switch {
	case n.action == extension:
		if string(c.address) == extensionBeneficiary || string(c.address) == extensionBeneficiaryOld {
			c.facts.Beneficiary = string(c.telematik)
		}
	case n.action == binary:
		if c.isDigest {
			c.facts.Digests++
			c.facts.Digest = nil
			if digest, err := base64.StdEncoding.AppendDecode(nil, bytes.TrimSpace(c.data)); c.hasData && err == nil {
				c.facts.Digest = digest
			}
		}
	case n.name == "identifier":
		place := AuthorizingPrescription
		if c.depth == 1 {
			place = BundleIdentifier
		}
		c.facts.addID(place, c.system, c.number)
	}
}

const (
	profileDigest           = "https://gematik.de/fhir/erp/StructureDefinition/GEM_ERP_PR_Digest"
	extensionBeneficiary    = "https://gematik.de/fhir/erp/StructureDefinition/GEM_ERP_EX_Beneficiary"
	extensionBeneficiaryOld = "https://gematik.de/fhir/StructureDefinition/BeneficiaryExtension"
	systemID                = "https://gematik.de/fhir/erp/NamingSystem/GEM_ERP_NS_PrescriptionId"
	systemIDOld             = "https://gematik.de/fhir/NamingSystem/PrescriptionID" // in upper and lower case letters of all kinds
)

// profiles are those of the Bundles that are billing records.
var profiles = []struct {
	name    string
	kind    Kind
	private bool
}{
	{"https://fhir.kbv.de/StructureDefinition/KBV_PR_ERP_Bundle", Prescription, false},
	{"https://fhir.kbv.de/StructureDefinition/KBV_PR_EVDGA_Bundle", Prescription, false},
	{"http://fhir.abda.de/eRezeptAbgabedaten/StructureDefinition/DAV-PR-ERP-AbgabedatenBundle", Dispensing, false},
	{"http://fhir.abda.de/eRezeptAbgabedaten/StructureDefinition/DAV-PKV-PR-ERP-AbgabedatenBundle", Dispensing, true},
	{"https://gematik.de/fhir/erp/StructureDefinition/GEM_ERP_PR_Bundle", Receipt, false},
	{"https://gematik.de/fhir/StructureDefinition/ErxReceipt", Receipt, false},
	{"https://fhir.kbv.de/StructureDefinition/KBV_PR_EAU_Bundle", SickNote, false},
}

// splitVersion splits a canonical reference, name|version.
func splitVersion(v []byte) (name, version []byte) {
	name, version, _ = bytes.Cut(v, []byte("|"))
	return name, version
}

// setProfile takes the first profile that says what the Bundle is, otherwise the first there is.
func (f *Facts) setProfile(v []byte) {
	if f.Kind != Unknown {
		return
	}
	name, version := splitVersion(v)
	for _, p := range profiles {
		if p.name == string(name) {
			f.Kind, f.Private, f.Profile, f.Version = p.kind, p.private, p.name, string(version)
			return
		}
	}
	if f.Profile == "" {
		f.Profile, f.Version = string(name), string(version)
	}
}

func (f *Facts) addID(place Place, system, value []byte) {
	old := len(system) == len(systemIDOld) && strings.EqualFold(string(system), systemIDOld)
	if string(system) != systemID && !old || len(f.IDs) == MaxIDs {
		return
	}
	id := ID{Value: string(value), Place: place, OldSystem: old}
	id.Form, id.CheckDigit = CheckID(id.Value)
	f.IDs = append(f.IDs, id)
}

// CheckID reports whether a prescription ID has the form aaa.bbb.bbb.bbb.bbb.cc and whether its check digits are right:
// the 17 digits as a number leave 1 when divided by 97 (ISO 7064 MOD 97-10).
func CheckID(id string) (form, check bool) {
	const pattern = "ddd.ddd.ddd.ddd.ddd.dd"
	if len(id) != len(pattern) {
		return false, false
	}
	remainder := 0
	for i := range len(id) {
		switch c := id[i]; {
		case pattern[i] == '.':
			if c != '.' {
				return false, false
			}
		case c < '0' || c > '9':
			return false, false
		default:
			remainder = (remainder*10 + int(c-'0')) % 97
		}
	}
	return true, remainder == 1
}

// instant reads a FHIR instant or dateTime; zero when it is none. A date alone is midnight UTC.
func instant(v []byte) time.Time {
	if t, err := time.Parse(time.RFC3339Nano, string(v)); err == nil {
		return t
	}
	t, _ := time.Parse(time.DateOnly, string(v))
	return t
}

// ID returns the prescription ID of the Bundle, "" without exactly one.
func (f *Facts) ID() string {
	found := ""
	for _, id := range f.IDs {
		if id.Place == BundleIdentifier {
			if found != "" {
				return ""
			}
			found = id.Value
		}
	}
	return found
}

// Differences names the facts in which another copy of the record differs. HasSignature is left out: the copy around a
// receipt has one and the signed content has none.
func (f *Facts) Differences(other *Facts) []string {
	var out []string
	differ := func(name string, same bool) {
		if !same {
			out = append(out, name)
		}
	}
	sameIDs := len(f.IDs) == len(other.IDs)
	for i := 0; sameIDs && i < len(f.IDs); i++ {
		sameIDs = f.IDs[i].Value == other.IDs[i].Value && f.IDs[i].Place == other.IDs[i].Place
	}
	differ("profile", f.Kind == other.Kind && f.Profile == other.Profile && f.Version == other.Version)
	differ("bundle-id", f.Bundle == other.Bundle)
	differ("prescription-id", sameIDs)
	differ("digest", f.Digests == other.Digests && bytes.Equal(f.Digest, other.Digest))
	differ("beneficiary", f.Beneficiary == other.Beneficiary)
	differ("timestamp", f.Timestamp.Equal(other.Timestamp))
	differ("date", f.Date.Equal(other.Date))
	differ("period", f.PeriodStart.Equal(other.PeriodStart) && f.PeriodEnd.Equal(other.PeriodEnd))
	differ("authored", f.Authored == other.Authored)
	differ("handed-over", f.HandedOver == other.HandedOver)
	return out
}
