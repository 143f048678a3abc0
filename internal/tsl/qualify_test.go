package tsl_test

import (
	"slices"
	"strings"
	"testing"

	"ktradv/internal/testpki"
	"ktradv/internal/tsl"
)

// element is a QualificationElement that says NotQualified of certificates that meet the criteria.
func element(criteria string) string {
	return `<ecc:QualificationElement><ecc:Qualifiers><ecc:Qualifier uri="` + tsl.NotQualified + `"></ecc:Qualifier></ecc:Qualifiers>` + criteria + `</ecc:QualificationElement>`
}

func criteria(assert string, parts ...string) string {
	return `<ecc:CriteriaList assert="` + assert + `">` + strings.Join(parts, "") + `</ecc:CriteriaList>`
}

func keyUsage(bits ...string) string { // "name=value"
	out := "<ecc:KeyUsage>"
	for _, b := range bits {
		name, value, _ := strings.Cut(b, "=")
		out += `<ecc:KeyUsageBit name="` + name + `">` + value + `</ecc:KeyUsageBit>`
	}
	return out + "</ecc:KeyUsage>"
}

func policies(oids ...string) string {
	out := "<ecc:PolicySet>"
	for _, oid := range oids {
		out += `<ecc:PolicyIdentifier><xades:Identifier>` + oid + `</xades:Identifier></ecc:PolicyIdentifier>`
	}
	return out + "</ecc:PolicySet>"
}

func others(kind, name string, oids ...string) string {
	out := "<ecc:otherCriteriaList><tslx:" + kind + ">"
	for _, oid := range oids {
		out += "<tslx:" + name + "><xades:Identifier>" + oid + "</xades:Identifier></tslx:" + name + ">"
	}
	return out + "</tslx:" + kind + "></ecc:otherCriteriaList>"
}

// qualified is a VL with the extension.
func qualified(content string, critical bool) testpki.List {
	return testpki.List{VL: true, Sequence: 5, Issued: now, NextUpdate: now.AddDate(0, 5, 0), Services: []testpki.ListService{
		{ListState: testpki.ListState{Type: tsl.TypeCAQC, Status: tsl.StatusGranted, Start: now.AddDate(-1, 0, 0), Qualify: content, Critical: critical}, Name: "qCA"},
	}}
}

// deep is a list in a list, depth of them.
func deep(depth int) string {
	return strings.Repeat(`<ecc:CriteriaList assert="all">`, depth) + strings.Repeat(`</ecc:CriteriaList>`, depth)
}

var qualifySeeds = []string{
	element(criteria("all", keyUsage("nonRepudiation=true", "digitalSignature=false"), policies("urn:oid:1.2.3", "1.2.4"), deep(3))),
	element(criteria("none", others("ExtendedKeyUsage", "KeyPurposeId", "1.3.6.1"), "<ecc:Description>text</ecc:Description>")),
	element(criteria("atLeastOne", others("CertSubjectDNAttribute", "AttributeOID", "2.5.4.3"), "<ecc:Unheard></ecc:Unheard>")),
	element(deep(9)),
}

// TestQualifiers: the TSL signer's certificate of the tests has nonRepudiation, the policy .176, the key purpose of TSL
// signers and a common name.
func TestQualifiers(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	_, signer, err := p.NewTSLAuthority(1)
	if err != nil {
		t.Fatal(err)
	}
	cert := parseCert(t, signer.Certificate)
	const has, other = "1.2.276.0.76.4.176", "1.2.276.0.76.4.72"
	met, unmet, strange := policies(has), policies(other), "<ecc:Unheard></ecc:Unheard>"
	const yes, no, unknown = "yes", "no", "unknown"
	for name, tc := range map[string]struct{ content, want string }{
		"all, each met":              {element(criteria("all", met, keyUsage("nonRepudiation=true"))), yes},
		"all, one not met":           {element(criteria("all", met, unmet)), no},
		"all, one not known":         {element(criteria("all", met, strange)), unknown},
		"all, not met and not known": {element(criteria("all", strange, unmet)), no},
		"all of nothing":             {element(criteria("all")), yes},
		"one of two":                 {element(criteria("atLeastOne", unmet, met)), yes},
		"one of two, neither":        {element(criteria("atLeastOne", unmet, keyUsage("nonRepudiation=false"))), no},
		"one, the other not known":   {element(criteria("atLeastOne", strange, met)), yes},
		"none met, one not known":    {element(criteria("atLeastOne", strange, unmet)), unknown},
		"one of nothing":             {element(criteria("atLeastOne")), no},
		"none of two":                {element(criteria("none", unmet, unmet)), yes},
		"none, but one is met":       {element(criteria("none", unmet, met)), no},
		"none, met and not known":    {element(criteria("none", strange, met)), no},
		"none, one not known":        {element(criteria("none", strange, unmet)), unknown},
		"none of nothing":            {element(criteria("none")), yes},
		"another assert":             {element(criteria("most", met)), unknown},
		"no assert":                  {element("<ecc:CriteriaList>" + met + "</ecc:CriteriaList>"), unknown},
		"no criteria":                {element(""), unknown},
		"another element":            {"<ecc:Unheard></ecc:Unheard>", unknown},
		"inner list met":             {element(criteria("all", criteria("none", unmet), criteria("atLeastOne", unmet, met))), yes},
		"inner list not met":         {element(criteria("all", met, criteria("none", met))), no},
		"description":                {element(criteria("all", met, "<ecc:Description>what it is</ecc:Description>")), yes},

		"key usage":                       {element(criteria("all", keyUsage("nonRepudiation=1", "keyCertSign=0", "decipherOnly=false"))), yes},
		"another key usage":               {element(criteria("all", keyUsage("nonRepudiation=true", "digitalSignature=true"))), no},
		"key usage that it must not have": {element(criteria("all", keyUsage("nonRepudiation=false"))), no},
		"unheard key usage":               {element(criteria("all", keyUsage("fly=true"))), unknown},
		"key usage with another value":    {element(criteria("all", keyUsage("nonRepudiation=yes"))), unknown},
		"key usage twice":                 {element(criteria("all", keyUsage("nonRepudiation=true", "nonRepudiation=false"))), unknown},
		"key usage of nothing":            {element(criteria("all", keyUsage())), unknown},

		"policy as URN":             {element(criteria("all", policies("urn:oid:"+has))), yes},
		"policies, one is missing":  {element(criteria("all", policies(has, other))), no},
		"policy that is no OID":     {element(criteria("all", policies("gold"))), unknown},
		"no policies":               {element(criteria("all", policies())), unknown},
		"key purpose":               {element(criteria("all", others("ExtendedKeyUsage", "KeyPurposeId", "0.4.0.2231.3.0"))), yes},
		"another key purpose":       {element(criteria("all", others("ExtendedKeyUsage", "KeyPurposeId", "0.4.0.2231.3.0", "1.3.6.1.5.5.7.3.2"))), no},
		"attributes of the subject": {element(criteria("all", others("CertSubjectDNAttribute", "AttributeOID", "2.5.4.3", "2.5.4.6"))), yes},
		"another attribute":         {element(criteria("all", others("CertSubjectDNAttribute", "AttributeOID", "2.5.4.97"))), no},
		"another kind of criterion": {element(criteria("all", others("Unheard", "Thing", "1.2"))), unknown},

		"two elements, the second matches": {element(criteria("all", unmet)) + element(criteria("all", met)), yes},
		"as deep as may be":                {element(deep(8)), yes},
	} {
		for _, critical := range []bool{true, false} {
			raw, err := p.WriteList(qualified(tc.content, critical), signer)
			if err != nil {
				t.Fatal(err)
			}
			list, err := tsl.Parse(raw)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := list.VerifyXML(nil); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			found, certain := list.Services[0].QualifiersOf(cert)
			if slices.Contains(found, tsl.NotQualified) != (tc.want == yes) || certain != (tc.want != unknown || !critical) {
				t.Errorf("%s (critical %v): %v, certain %v; want %s", name, critical, found, certain, tc.want)
			}
		}
	}

	// A qualifier that nobody has heard of counts when its extension is critical.
	strangeName := strings.Replace(element(criteria("all", met)), tsl.NotQualified, "http://example.invalid/gold", 1)
	for _, critical := range []bool{true, false} {
		raw, err := p.WriteList(qualified(strangeName, critical), signer)
		if err != nil {
			t.Fatal(err)
		}
		list, err := tsl.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, certain := list.Services[0].QualifiersOf(cert); certain == critical {
			t.Errorf("unheard qualifier, critical %v: certain %v", critical, certain)
		}
	}
	for name, content := range map[string]string{
		"too deep": element(deep(9)), "too many": element(criteria("all", strings.Repeat(met, 513))),
		"too many elements": strings.Repeat(element(criteria("all", met)), 65),
	} {
		raw, err := p.WriteList(qualified(content, false), signer)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tsl.Parse(raw); codeOf(err) != 1012 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
