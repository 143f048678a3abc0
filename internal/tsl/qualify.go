package tsl

import (
	"slices"
	"strings"

	"ktradv/internal/x509ti"
	"ktradv/internal/xmlsig"
)

// Namespaces of the extension Qualifications (ETSI TS 119 612 clause 5.5.9.2) and of what it is built from.
const (
	qualifySpace    = "http://uri.etsi.org/TrstSvc/SvcInfoExt/eSigDir-1999-93-EC-TrustedList/#"
	additionalSpace = "http://uri.etsi.org/02231/v2/additionaltypes#"
	xadesSpace      = "http://uri.etsi.org/01903/v1.3.2#"
)

// Bounds of the extension.
const (
	maxCriteria      = 512 // of one extension, lists and lists inside included
	maxCriteriaDepth = 8
)

// qualifierBase comes before the name of every qualifier.
const qualifierBase = "http://uri.etsi.org/TrstSvc/TrustedList/SvcInfoExt/"

// Qualifiers of TS 119 612 clause 5.5.9.2.3.
const (
	NotQualified = qualifierBase + "NotQualified"
	QCForESig    = qualifierBase + "QCForESig"
	QCForESeal   = qualifierBase + "QCForESeal"
	QCForWSA     = qualifierBase + "QCForWSA"
	QCNoQSCD     = qualifierBase + "QCNoQSCD"
	QCNoSSCD     = qualifierBase + "QCNoSSCD"
)

// knownQualifiers are all of them; the others say of the certificate what it says itself or what no check here asks for.
var knownQualifiers = map[string]bool{
	NotQualified: true, QCForESig: true, QCForESeal: true, QCForWSA: true, QCNoQSCD: true, QCNoSSCD: true,
	qualifierBase + "QCStatement": true, qualifierBase + "QCForLegalPerson": true,
	qualifierBase + "QCWithSSCD": true, qualifierBase + "QCSSCDStatusAsInCert": true,
	qualifierBase + "QCWithQSCD": true, qualifierBase + "QCQSCDStatusAsInCert": true, qualifierBase + "QCQSCDManagedOnBehalf": true,
}

// Qualification is what a list says beyond the certificates themselves of those that meet some criteria.
type Qualification struct {
	Qualifiers []string // addresses, of which the constants above are some
	Critical   bool     // of the extension: it must be understood
	criteria   criterion
}

// truth is the outcome of a criterion.
type truth int

const (
	unknown truth = iota // the criterion is of a kind that is not known
	no
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// criterion is one condition, or several that hang together.
type criterion struct {
	kind   string // local name of the element; "" is one that is not known
	assert string // of a CriteriaList
	parts  []criterion
	mask   x509ti.KeyUsage // bits that a KeyUsage speaks of, and their values
	bits   x509ti.KeyUsage
	oids   []x509ti.OID
}

// QualifiersOf returns the qualifiers of a certificate by the state. certain is false when something critical about it is
// not understood.
func (s *State) QualifiersOf(cert *x509ti.Certificate) (qualifiers []string, certain bool) {
	certain = true
	for i := range s.Qualifications {
		q := &s.Qualifications[i]
		switch q.criteria.of(cert) {
		case unknown:
			certain = certain && !q.Critical
		case yes:
			for _, address := range q.Qualifiers {
				certain = certain && (knownQualifiers[address] || !q.Critical)
			}
			qualifiers = append(qualifiers, q.Qualifiers...)
		}
	}
	return qualifiers, certain
}

func (c *criterion) of(cert *x509ti.Certificate) truth {
	switch c.kind {
	case "CriteriaList":
		return c.list(cert)
	case "KeyUsage":
		return truthOf(cert.KeyUsage&c.mask == c.bits)
	case "PolicySet":
		return c.all(cert.HasPolicy)
	case "ExtendedKeyUsage":
		return c.all(cert.HasExtKeyUsage)
	case "CertSubjectDNAttribute":
		return c.all(func(oid x509ti.OID) bool { return len(cert.SubjectValues(oid)) > 0 })
	}
	return unknown
}

// list: one part decides some lists, whatever the others are.
func (c *criterion) list(cert *x509ti.Certificate) truth {
	var seen [yes + 1]bool
	for i := range c.parts {
		seen[c.parts[i].of(cert)] = true
	}
	decides, then := no, no // all: one that is not met
	switch c.assert {
	case "atLeastOne":
		decides, then = yes, yes
	case "none":
		decides = yes
	case "all":
	default:
		return unknown
	}
	switch {
	case seen[decides]:
		return then
	case seen[unknown]:
		return unknown
	}
	return truthOf(then == no)
}

func (c *criterion) all(has func(x509ti.OID) bool) truth {
	return truthOf(!slices.ContainsFunc(c.oids, func(oid x509ti.OID) bool { return !has(oid) }))
}

// readQualifications reads the extension. What is not known in it makes criteria unknown, not the list wrong; SchemaNotValid
// is for one beyond every bound.
func readQualifications(n *xmlsig.Node, critical bool) (out []Qualification, err error) {
	left := maxCriteria
	for _, element := range n.Elements() {
		if len(out) == maxPerEntry {
			return nil, schemaError("too many qualifications")
		}
		q := Qualification{Critical: critical}
		out = append(out, q)
		if element.Space != qualifySpace || element.Local != "QualificationElement" {
			continue
		}
		if qualifiers := element.Child(qualifySpace, "Qualifiers"); qualifiers != nil {
			for _, x := range qualifiers.Children(qualifySpace, "Qualifier") {
				if len(q.Qualifiers) == maxPerEntry {
					return nil, schemaError("too many qualifiers")
				}
				q.Qualifiers = append(q.Qualifiers, x.Attr("uri"))
			}
		}
		if list := element.Child(qualifySpace, "CriteriaList"); list != nil {
			if q.criteria, err = readCriteria(list, 1, &left); err != nil {
				return nil, err
			}
		}
		out[len(out)-1] = q
	}
	return out, nil
}

// readCriteria reads a CriteriaList, left of what may be in the extension yet.
func readCriteria(n *xmlsig.Node, depth int, left *int) (criterion, error) {
	c := criterion{kind: "CriteriaList", assert: n.Attr("assert")}
	if depth > maxCriteriaDepth {
		return c, schemaError("criteria too deep")
	}
	for _, x := range n.Elements() {
		if x.Space == qualifySpace && x.Local == "Description" {
			continue
		}
		if *left--; *left < 0 {
			return c, schemaError("too many criteria")
		}
		switch {
		case x.Space == qualifySpace && x.Local == "KeyUsage":
			c.parts = append(c.parts, readKeyUsage(x))
		case x.Space == qualifySpace && x.Local == "PolicySet":
			c.parts = append(c.parts, readIdentifiers(x, qualifySpace, "PolicyIdentifier"))
		case x.Space == qualifySpace && x.Local == "CriteriaList":
			inner, err := readCriteria(x, depth+1, left)
			if err != nil {
				return c, err
			}
			c.parts = append(c.parts, inner)
		case x.Space == qualifySpace && x.Local == "otherCriteriaList":
			others := x.Elements()
			if *left -= len(others); *left < 0 {
				return c, schemaError("too many criteria")
			}
			for _, o := range others {
				part := criterion{}
				switch {
				case o.Space == additionalSpace && o.Local == "ExtendedKeyUsage":
					part = readIdentifiers(o, additionalSpace, "KeyPurposeId")
				case o.Space == additionalSpace && o.Local == "CertSubjectDNAttribute":
					part = readIdentifiers(o, additionalSpace, "AttributeOID")
				}
				c.parts = append(c.parts, part)
			}
		default:
			c.parts = append(c.parts, criterion{})
		}
	}
	return c, nil
}

// keyUsageBits are the names of TS 119 612 clause 5.5.9.2.2.1.
var keyUsageBits = map[string]x509ti.KeyUsage{
	"digitalSignature": x509ti.DigitalSignature, "nonRepudiation": x509ti.NonRepudiation, "keyEncipherment": x509ti.KeyEncipherment,
	"dataEncipherment": x509ti.DataEncipherment, "keyAgreement": x509ti.KeyAgreement, "keyCertSign": x509ti.CertSign, "crlSign": x509ti.CRLSign,
	"encipherOnly": x509ti.CRLSign << 1, "decipherOnly": x509ti.CRLSign << 2,
}

func readKeyUsage(n *xmlsig.Node) criterion {
	c := criterion{kind: "KeyUsage"}
	for _, x := range n.Elements() {
		bit, ok := keyUsageBits[x.Attr("name")]
		if x.Space != qualifySpace || x.Local != "KeyUsageBit" || !ok || c.mask&bit != 0 {
			return criterion{}
		}
		c.mask |= bit
		switch strings.TrimSpace(x.Text()) {
		case "true", "1":
			c.bits |= bit
		case "false", "0":
		default:
			return criterion{}
		}
	}
	if c.mask == 0 {
		return criterion{}
	}
	return c
}

// urnOID comes before an object identifier with the qualifier OIDAsURN.
const urnOID = "urn:oid:"

// readIdentifiers reads elements that each hold an object identifier as XAdES writes it.
func readIdentifiers(n *xmlsig.Node, space, name string) criterion {
	c := criterion{kind: n.Local}
	for _, x := range n.Elements() {
		identifier := x.Child(xadesSpace, "Identifier")
		if x.Space != space || x.Local != name || identifier == nil || len(c.oids) == maxPerEntry {
			return criterion{}
		}
		s := strings.TrimSpace(text(identifier))
		if len(s) > len(urnOID) && strings.EqualFold(s[:len(urnOID)], urnOID) {
			s = s[len(urnOID):]
		}
		oid, ok := readOID(s)
		if !ok {
			return criterion{}
		}
		c.oids = append(c.oids, oid)
	}
	if len(c.oids) == 0 {
		return criterion{}
	}
	return c
}
