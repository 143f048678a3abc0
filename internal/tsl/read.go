package tsl

import (
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ktradv/internal/x509ti"
	"ktradv/internal/xmlsig"
)

// Namespaces of the lists.
const (
	space     = "http://uri.etsi.org/02231/v2#"
	dsigSpace = "http://www.w3.org/2000/09/xmldsig#"
)

// Bounds of a list.
const (
	maxServices  = 20_000
	maxPerEntry  = 64 // certificates, supply points, extensions, states of one service
	maxText      = 4096
	maxRedirects = 256
)

// particle is one element that a schema has at its place.
type particle struct {
	name string
	max  int // 0: once, and it may be missing
}

// schema holds the sequences of ts_102231v030102 and TS 119 612 that the reader walks through: what may follow what, how
// often. An element that is not a key may hold anything.
var schema = map[string][]particle{
	"TrustServiceStatusList": {{"SchemeInformation", 1}, {"TrustServiceProviderList", 0}},
	"SchemeInformation": {
		{"TSLVersionIdentifier", 1}, {"TSLSequenceNumber", 1}, {"TSLType", 1}, {"SchemeOperatorName", 1},
		{"SchemeOperatorAddress", 1}, {"SchemeName", 1}, {"SchemeInformationURI", 1}, {"StatusDeterminationApproach", 1},
		{"SchemeTypeCommunityRules", 0}, {"SchemeTerritory", 0}, {"PolicyOrLegalNotice", 0}, {"HistoricalInformationPeriod", 1},
		{"PointersToOtherTSL", 0}, {"ListIssueDateTime", 1}, {"NextUpdate", 1}, {"DistributionPoints", 0}, {"SchemeExtensions", 0},
	},
	"PointersToOtherTSL":       {{"OtherTSLPointer", many}},
	"OtherTSLPointer":          {{"ServiceDigitalIdentities", 0}, {"TSLLocation", 1}, {"AdditionalInformation", 0}},
	"NextUpdate":               {{"dateTime", 0}},
	"TrustServiceProviderList": {{"TrustServiceProvider", many}},
	"TrustServiceProvider":     {{"TSPInformation", 1}, {"TSPServices", 1}},
	"TSPInformation":           {{"TSPName", 1}, {"TSPTradeName", 0}, {"TSPAddress", 1}, {"TSPInformationURI", 1}, {"TSPInformationExtensions", 0}},
	"TSPServices":              {{"TSPService", many}},
	"TSPService":               {{"ServiceInformation", 1}, {"ServiceHistory", 0}},
	"ServiceInformation": {
		{"ServiceTypeIdentifier", 1}, {"ServiceName", 1}, {"ServiceDigitalIdentity", 1}, {"ServiceStatus", 1},
		{"StatusStartingTime", 1}, {"SchemeServiceDefinitionURI", 0}, {"ServiceSupplyPoints", 0}, {"TSPServiceDefinitionURI", 0},
		{"ServiceInformationExtensions", 0},
	},
	"ServiceHistory": {{"ServiceHistoryInstance", many}},
	"ServiceHistoryInstance": {
		{"ServiceTypeIdentifier", 1}, {"ServiceName", 1}, {"ServiceDigitalIdentity", 1}, {"ServiceStatus", 1},
		{"StatusStartingTime", 1}, {"ServiceInformationExtensions", 0},
	},
	"ServiceSupplyPoints":          {{"ServiceSupplyPoint", many}},
	"ServiceInformationExtensions": {{"Extension", many}},
	"SchemeName":                   {{"Name", many}},
	"SchemeOperatorName":           {{"Name", many}},
	"ServiceName":                  {{"Name", many}},
	"TSPName":                      {{"Name", many}},
}

// many marks an element that stands once or more often.
const many = -1

func schemaError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", SchemaNotValid, fmt.Sprintf(format, args...))
}

// valid holds n and everything below it next to the schema.
func valid(n *xmlsig.Node) error {
	sequence, ok := schema[n.Local]
	if !ok || n.Space != space {
		return nil
	}
	elements := n.Elements()
	if n.Text() != "" {
		return schemaError("%s holds text", n.Local)
	}
	for _, p := range sequence {
		count := 0
		for len(elements) > 0 && elements[0].Space == space && elements[0].Local == p.name && (count == 0 || p.max == many) {
			if err := valid(elements[0]); err != nil {
				return err
			}
			elements = elements[1:]
			count++
		}
		if count == 0 && p.max != 0 && !(p.name == "Extension" || p.name == "OtherTSLPointer" || p.name == "ServiceHistoryInstance") {
			return schemaError("%s without %s", n.Local, p.name)
		}
	}
	if len(elements) > 0 {
		return schemaError("%s has an unexpected %s", n.Local, elements[0].Local)
	}
	return nil
}

// Parse reads a list: NotWellFormed when it is no XML of the kind that package xmlsig reads, SchemaNotValid when it is not
// built as the schemas ask (TUC_PKI_020). The content comes from the octets that the signature covers. Entries of unknown
// types and certificates that cannot be read do not make the list invalid (A_17700); Service.Unreadable counts the latter.
func Parse(data []byte) (*List, error) {
	signed, err := xmlsig.Open(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", NotWellFormed, err)
	}
	doc, err := xmlsig.Parse(signed.Content)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", NotWellFormed, err)
	}
	root := doc.Root
	if root.Space != space || root.Local != "TrustServiceStatusList" {
		return nil, schemaError("the root is no TrustServiceStatusList")
	}
	if root.Attr("TSLTag") == "" {
		return nil, schemaError("TSLTag is missing")
	}
	if err := valid(root); err != nil {
		return nil, err
	}
	l := &List{ID: root.Attr("Id"), Raw: append([]byte(nil), data...), Hash: sha256.Sum256(data), signed: signed}
	if err := l.readScheme(root.Child(space, "SchemeInformation")); err != nil {
		return nil, err
	}
	if l.Kind == TSL && l.ID == "" {
		return nil, schemaError("Id is missing")
	}
	if providers := root.Child(space, "TrustServiceProviderList"); providers != nil {
		for _, provider := range providers.Elements() {
			name := text(provider.Child(space, "TSPInformation").Child(space, "TSPName").Child(space, "Name"))
			for _, service := range provider.Child(space, "TSPServices").Elements() {
				if len(l.Services) == maxServices {
					return nil, schemaError("too many services")
				}
				s, err := readService(service)
				if err != nil {
					return nil, err
				}
				s.Provider = name
				l.Services = append(l.Services, s)
			}
		}
	}
	return l, nil
}

func (l *List) readScheme(n *xmlsig.Node) (err error) {
	get := func(name string) string { return text(n.Child(space, name)) }
	switch version := get("TSLVersionIdentifier"); version {
	case "3":
		l.Kind = TSL
	case "5", "6":
		l.Kind = VL
	default:
		return schemaError("TSLVersionIdentifier %q", version)
	}
	if l.Sequence, err = strconv.ParseUint(get("TSLSequenceNumber"), 10, 63); err != nil {
		return schemaError("TSLSequenceNumber")
	}
	if _, err := strconv.ParseUint(get("HistoricalInformationPeriod"), 10, 31); err != nil {
		return schemaError("HistoricalInformationPeriod")
	}
	if l.Issued, err = readTime(get("ListIssueDateTime")); err != nil {
		return schemaError("ListIssueDateTime")
	}
	if next := n.Child(space, "NextUpdate").Child(space, "dateTime"); next != nil {
		if l.NextUpdate, err = readTime(text(next)); err != nil {
			return schemaError("NextUpdate")
		}
	}
	pointers := n.Child(space, "PointersToOtherTSL")
	if pointers == nil {
		return nil
	}
	for _, p := range pointers.Elements() {
		if len(l.Pointers) == maxPerEntry {
			return schemaError("too many pointers")
		}
		pointer := Pointer{Location: text(p.Child(space, "TSLLocation"))}
		if info := p.Child(space, "AdditionalInformation"); info != nil {
			for _, t := range info.Children(space, "TextualInformation") {
				pointer.Text = append(pointer.Text, text(t))
			}
		}
		l.Pointers = append(l.Pointers, pointer)
	}
	return nil
}

func readService(n *xmlsig.Node) (s Service, err error) {
	info := n.Child(space, "ServiceInformation")
	s.Name = text(info.Child(space, "ServiceName").Child(space, "Name"))
	if s.State, s.Extensions, s.Redirects, err = readState(info); err != nil {
		return s, err
	}
	ids := info.Child(space, "ServiceDigitalIdentity").Elements()
	if len(ids) > maxPerEntry {
		return s, schemaError("too many identities")
	}
	for _, id := range ids {
		if err := s.readIdentity(id); err != nil {
			return s, err
		}
	}
	if points := info.Child(space, "ServiceSupplyPoints"); points != nil {
		for _, p := range points.Elements() {
			u, err := url.Parse(text(p))
			if err != nil || len(s.SupplyPoints) == maxPerEntry {
				return s, schemaError("ServiceSupplyPoint")
			}
			s.SupplyPoints = append(s.SupplyPoints, u.String())
		}
	}
	if history := n.Child(space, "ServiceHistory"); history != nil {
		for _, instance := range history.Elements() {
			if len(s.History) == maxPerEntry {
				return s, schemaError("too long a history")
			}
			state, _, _, err := readState(instance)
			if err != nil {
				return s, err
			}
			s.History = append(s.History, state)
		}
	}
	return s, nil
}

// readState reads what ServiceInformation and ServiceHistoryInstance have in common.
func readState(n *xmlsig.Node) (state State, extensions []x509ti.OID, redirects []Redirect, err error) {
	state.Type, state.Status = text(n.Child(space, "ServiceTypeIdentifier")), text(n.Child(space, "ServiceStatus"))
	if state.Type == "" || state.Status == "" {
		return state, nil, nil, schemaError("service without type or status")
	}
	if state.Start, err = readTime(text(n.Child(space, "StatusStartingTime"))); err != nil {
		return state, nil, nil, schemaError("StatusStartingTime")
	}
	list := n.Child(space, "ServiceInformationExtensions")
	if list == nil {
		return state, nil, nil, nil
	}
	for i, e := range list.Elements() {
		critical := e.Attr("Critical")
		if i == maxPerEntry || critical != "false" && critical != "true" && critical != "0" && critical != "1" {
			return state, nil, nil, schemaError("Extension")
		}
		known := false
		for _, x := range e.Elements() {
			switch {
			case x.Space == space && x.Local == "ExtensionOID":
				oid, ok := readOID(text(x))
				if !ok {
					return state, nil, nil, schemaError("ExtensionOID")
				}
				extensions = append(extensions, oid)
				known = true
			case x.Space == space && x.Local == "AdditionalServiceInformation":
				if uri := x.Child(space, "URI"); uri != nil {
					state.Information = append(state.Information, text(uri))
				}
				if pair := strings.Fields(text(x.Child(space, "InformationValue"))); len(pair) == 2 && len(redirects) < maxRedirects {
					redirects = append(redirects, Redirect{pair[0], pair[1]})
				}
				known = true
			case x.Space == qualifySpace && x.Local == "Qualifications":
				more, err := readQualifications(x, critical == "true" || critical == "1")
				if err != nil || len(state.Qualifications)+len(more) > maxPerEntry {
					return state, nil, nil, schemaError("Qualifications")
				}
				state.Qualifications = append(state.Qualifications, more...)
				known = true
			case x.Local == "TakenOverBy", x.Local == "ExpiredCertsRevocationInfo", x.Local == "ExtensionValue":
				known = true // of no account for the checks here
			}
		}
		if !known && (critical == "true" || critical == "1") {
			return state, nil, nil, schemaError("critical extension that is not known")
		}
	}
	return state, extensions, redirects, nil
}

func (s *Service) readIdentity(n *xmlsig.Node) error {
	elements := n.Elements()
	if n.Space != space || n.Local != "DigitalId" || len(elements) != 1 {
		return schemaError("DigitalId")
	}
	switch x := elements[0]; {
	case x.Space == space && x.Local == "X509Certificate":
		der, err := xmlsig.Base64(x.Text())
		if err != nil {
			return schemaError("X509Certificate is not Base64")
		}
		cert, err := x509ti.Parse(der)
		if err != nil {
			s.Unreadable++
			return nil
		}
		s.Certificates = append(s.Certificates, cert)
	case x.Space == space && (x.Local == "X509SubjectName" || x.Local == "X509SKI"), x.Space == dsigSpace && x.Local == "KeyValue":
	case x.Space == space && x.Local == "Other":
		if b, err := xmlsig.Base64(x.Text()); err == nil {
			s.Other = append(s.Other, b)
		}
	default:
		return schemaError("DigitalId with %s", x.Local)
	}
	return nil
}

// text returns the text of an element, "" for nil and for one that is longer than any of a list.
func text(n *xmlsig.Node) string {
	if n == nil {
		return ""
	}
	if t := n.Text(); len(t) <= maxText {
		return t
	}
	return ""
}

// readTime takes xs:dateTime in UTC ("Z"), as both specifications ask.
func readTime(s string) (time.Time, error) {
	if !strings.HasSuffix(s, "Z") {
		return time.Time{}, fmt.Errorf("time %q is not UTC", s)
	}
	return time.Parse(time.RFC3339Nano, s)
}

func readOID(s string) (x509ti.OID, bool) {
	parts := strings.Split(s, ".")
	if len(parts) < 2 || len(parts) > 20 {
		return nil, false
	}
	var oid x509ti.OID
	for _, p := range parts {
		n, err := strconv.ParseUint(p, 10, 31)
		if err != nil || len(p) > 1 && p[0] == '0' {
			return nil, false
		}
		oid = append(oid, int(n))
	}
	_, err := asn1.Marshal(asn1.ObjectIdentifier(oid))
	return oid, err == nil
}
