package record

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ktradv/internal/cms"
	"ktradv/internal/testpki"
)

// made is a billing case of our own.
var made = sync.OnceValues(func() (*testpki.Case, error) {
	p, err := testpki.New(testpki.Config{Now: time.Date(2025, 6, 15, 9, 0, 0, 0, time.UTC)})
	if err != nil {
		return nil, err
	}
	b, err := p.NewBilling()
	if err != nil {
		return nil, err
	}
	o := testpki.CaseOptions{OtherID: testpki.PrescriptionID(160, 77)}
	for _, s := range []struct {
		to      **testpki.Signer
		profile testpki.SignerProfile
	}{{&o.Doctor, testpki.Doctor}, {&o.Pharmacy, testpki.Pharmacy}, {&o.Service, testpki.Service}} {
		if *s.to, err = b.Issue(s.profile, 1, testpki.BrainpoolKey, nil); err != nil {
			return nil, err
		}
	}
	return b.Case(o)
})

func newCase(t testing.TB) *testpki.Case {
	t.Helper()
	c, err := made()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func b64(data []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(data)) }

// wrapped breaks lines after 64 characters.
func wrapped(text []byte, newline string) []byte {
	var out []byte
	for len(text) > 64 {
		out = append(append(out, text[:64]...), newline...)
		text = text[64:]
	}
	return append(append(out, text...), newline...)
}

func pem(label string, data []byte) []byte {
	return []byte("-----BEGIN " + label + "-----\n" + string(wrapped(b64(data), "\n")) + "-----END " + label + "-----\n")
}

// TestForms opens one message in every form.
func TestForms(t *testing.T) {
	t.Parallel()
	c := newCase(t)
	m := c.Receipt
	const id = "b-1"
	doubled := func(json []byte) []byte { return bytes.Replace(json, b64(m), b64(b64(m)), 1) }
	prefixed := []byte(`<?xml version="1.0"?><!-- copy --><f:Binary xmlns:f="http://hl7.org/fhir"><f:id value='b-1'/><f:contentType value="application/pkcs7-mime"/><f:data value="` + string(b64(m)) + `"/></f:Binary>`)
	signedJSON, err := json.Marshal(map[string]any{
		"id": id, "signature": map[string]any{"sigFormat": "application/pkcs7-mime", "data": m}, "identifier": map[string]any{"value": c.ID, "system": systemID},
		"meta": map[string]any{"profile": []string{"https://gematik.de/fhir/erp/StructureDefinition/GEM_ERP_PR_Bundle|1.4"}}, "resourceType": "Bundle",
		"entry": []any{map[string]any{"resource": map[string]any{"resourceType": "Composition", "extension": []any{map[string]any{"valueIdentifier": map[string]any{"value": "3-SMC-B"}, "url": extensionBeneficiary}}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct {
		name  string
		in    []byte
		forms []Form
		id    string
	}{
		{"DER", m, []Form{CMS}, ""},
		{"base64", b64(m), []Form{Base64, CMS}, ""},
		{"base64, lines", wrapped(b64(m), "\n"), []Form{Base64, CMS}, ""},
		{"base64, lines and spaces", wrapped(b64(m), " \r\n\t"), []Form{Base64, CMS}, ""},
		{"base64, mark before", append([]byte("\xef\xbb\xbf \n"), b64(m)...), []Form{Base64, CMS}, ""},
		{"base64 twice", b64(b64(m)), []Form{Base64, Base64, CMS}, ""},
		{"PEM", pem("CMS", m), []Form{PEM, CMS}, ""},
		{"PEM, PKCS7", pem("PKCS7", m), []Form{PEM, CMS}, ""},
		{"XML Binary", testpki.BinaryXML(id, m), []Form{XMLBinary, CMS}, id},
		{"XML Binary, prefixed", prefixed, []Form{XMLBinary, CMS}, id},
		{"XML Binary, base64 twice", doubled(testpki.BinaryXML(id, m)), []Form{XMLBinary, Base64, CMS}, id},
		{"XML Binary, in base64", b64(testpki.BinaryXML(id, m)), []Form{Base64, XMLBinary, CMS}, id},
		{"XML Bundle", testpki.BundleXML("x", testpki.BinaryXML(id, m)), []Form{XMLBinary, CMS}, id},
		{"XML Parameters", []byte(`<Parameters xmlns="http://hl7.org/fhir"><parameter><name value="x"/><resource>` + string(testpki.BinaryXML(id, m)) + `</resource></parameter></Parameters>`), []Form{XMLBinary, CMS}, id},
		{"JSON Binary", testpki.BinaryJSON(id, m), []Form{JSONBinary, CMS}, id},
		{"JSON Binary, base64 twice", doubled(testpki.BinaryJSON(id, m)), []Form{JSONBinary, Base64, CMS}, id},
		{"JSON Bundle", []byte(`{"resourceType":"Bundle","entry":[{"resource":` + string(testpki.BinaryJSON(id, m)) + `}]}`), []Form{JSONBinary, CMS}, id},
		{"XML signature", testpki.SignedReceiptXML(c.ReceiptContent, m), []Form{XMLSignature, CMS}, factsOf(t, m).Bundle},
		{"XML signature in a Bundle", testpki.BundleXML("x", bytes.TrimPrefix(testpki.SignedReceiptXML(c.ReceiptContent, m), []byte("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n"))), []Form{XMLSignature, CMS}, factsOf(t, m).Bundle},
		{"JSON signature", signedJSON, []Form{JSONSignature, CMS}, id},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			compareScan(t, v.in)
			got, err := Open(v.in)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || !bytes.Equal(got[0].Data, m) || got[0].ID != v.id {
				t.Fatalf("%d messages, first %q", len(got), got[0].ID)
			}
			if diff := cmp.Diff(v.forms, got[0].Forms); diff != "" {
				t.Error(diff)
			}
			switch v.forms[0] {
			case XMLSignature:
				if d := factsOf(t, m).Differences(got[0].Outer); len(d) != 0 || !got[0].Outer.HasSignature {
					t.Errorf("outer copy: %v", d)
				}
			case JSONSignature:
				if got[0].Outer.Kind != Receipt || got[0].Outer.ID() != c.ID || got[0].Outer.Beneficiary != "3-SMC-B" || !got[0].Outer.HasSignature {
					t.Errorf("outer copy: %+v", got[0].Outer)
				}
			}
		})
	}
}

// TestSeveral: a billing file has all records of a case, and other Binaries between them.
func TestSeveral(t *testing.T) {
	t.Parallel()
	c := newCase(t)
	pdf := `<Binary xmlns="http://hl7.org/fhir"><id value="x"/><contentType value="application/pdf"/><data value="JVBERi0xLjQK"/></Binary>`
	file := testpki.BundleXML("file", testpki.BinaryXML("v", c.Prescription), []byte(pdf), testpki.BinaryXML("a", c.Dispensing), testpki.BinaryXML("q", c.Receipt))
	got, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, m := range got {
		ids = append(ids, m.ID)
	}
	if diff := cmp.Diff([]string{"v", "a", "q"}, ids); diff != "" {
		t.Error(diff)
	}
	if got, err = Open(append(pem("CMS", c.Prescription), pem("PKCS7", c.Receipt)...)); err != nil || len(got) != 2 {
		t.Errorf("PEM: %d, %v", len(got), err)
	}
}

// TestNotRecords: what is no record gets an error that says so, and what claims to be a message is never dropped.
func TestNotRecords(t *testing.T) {
	t.Parallel()
	c := newCase(t)
	deep := strings.Repeat("<a>", MaxDepth+1)
	for _, v := range []struct {
		name, in string
		want     error
		text     string
	}{
		{"nothing", "", ErrUnknown, "empty"},
		{"space", " \n ", ErrUnknown, "empty"},
		{"PDF", "%PDF-1.7\n%\xe2\xe3", ErrUnknown, "PDF"},
		{"ZIP", "PK\x03\x04\x00\x00", ErrUnknown, "ZIP"},
		{"gzip", "\x1f\x8b\x08\x00", ErrUnknown, "unpacked"},
		{"UTF-16", "\xff\xfe<\x00", ErrUnknown, "UTF-16"},
		{"ASN.1", "\x30\x03\x02\x01\x05", ErrUnknown, "no signed message"},
		{"text", "Guten Tag", ErrUnknown, "neither"},
		{"broken base64", string(b64(c.Receipt))[:1001], ErrUnknown, "neither"},
		{"unsigned record", string(c.PrescriptionContent), ErrNoMessage, ""},
		{"JSON without a message", `{"resourceType":"Patient"}`, ErrNoMessage, ""},
		{"JSON that is none", `{"resourceType":"Patient",}`, ErrMalformed, "octet"},
		{"XML that is none", `<Bundle xmlns="http://hl7.org/fhir"><id></Bundle>`, ErrMalformed, "octet"},
		{"document type", `<!DOCTYPE Bundle [<!ENTITY a "b">]><Bundle xmlns="http://hl7.org/fhir"/>`, ErrMalformed, "document type"},
		{"entity", `<Bundle xmlns="http://hl7.org/fhir"><id value="&a;"/></Bundle>`, ErrMalformed, "entity"},
		{"depth", deep, ErrLimit, ""},
		{"JSON depth", strings.Repeat(`{"a":`, MaxDepth+1), ErrLimit, ""},
		{"PEM certificate", string(pem("CERTIFICATE", c.Receipt)), ErrUnknown, "something else"},
		{"PEM without an end", "-----BEGIN CMS-----\nMIIB", ErrMalformed, "PEM"},
		{"Binary that claims to be a message", `<Binary xmlns="http://hl7.org/fhir"><id value="z"/><contentType value="application/pkcs7-mime"/><data value="***"/></Binary>`, ErrMalformed, `"z"`},
		{"other namespace", `<Binary xmlns="urn:x"><contentType value="application/pkcs7-mime"/><data value="MIIB"/></Binary>`, ErrNoMessage, ""},
		{"base64 of base64 of base64...", layers(c.Receipt, maxLayers+2), ErrLimit, "layers"},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			got, err := Open([]byte(v.in))
			if !errors.Is(err, v.want) || !strings.Contains(fmt.Sprint(err), v.text) {
				t.Errorf("%d messages, %v", len(got), err)
			}
		})
	}
	got, err := Open([]byte(`{"resourceType":"Binary","contentType":"application/pkcs7-mime","data":"AAAA"}`))
	if err != nil || len(got) != 1 || len(got[0].Data) != 3 {
		t.Errorf("rubbish that claims to be a message: %v, %v", got, err)
	}
}

func layers(data []byte, n int) string {
	for range n {
		data = b64(data)
	}
	return string(data)
}

// TestOuterCopy: the copy around a receipt is another one, and that is said.
func TestOuterCopy(t *testing.T) {
	t.Parallel()
	c := newCase(t)
	digest := b64(factsOf(t, c.Receipt).Digest)
	for _, v := range []struct{ name, from, to, want string }{
		{"prescription-id", `<value value="` + c.ID, `<value value="160.000.000.000.099.99`, "prescription-id"},
		{"digest", string(digest), string(b64(make([]byte, 32))), "digest"},
		{"beneficiary", "3-SMC-B", "4-SMC-B", "beneficiary"},
		{"period", "<start value=\"2025", "<start value=\"2024", "period"},
		{"profile", "GEM_ERP_PR_Bundle|1.4", "GEM_ERP_PR_Bundle|1.3", "profile"},
	} {
		outer := bytes.Replace(testpki.SignedReceiptXML(c.ReceiptContent, c.Receipt), []byte(v.from), []byte(v.to), 1)
		got, err := Open(outer)
		if err != nil {
			t.Fatalf("%s: %v", v.name, err)
		}
		if diff := cmp.Diff([]string{v.want}, factsOf(t, c.Receipt).Differences(got[0].Outer)); diff != "" {
			t.Errorf("%s: %s", v.name, diff)
		}
	}
}

// TestFacts reads the records of a case of our own, every fact of them.
func TestFacts(t *testing.T) {
	t.Parallel()
	c := newCase(t)
	other := testpki.PrescriptionID(160, 77)
	prescription := factsOf(t, c.Prescription)
	if prescription.Kind != Prescription || prescription.Version != "1.1.0" || prescription.ID() != c.ID || prescription.Authored != "2025-06-14" || !prescription.Timestamp.Equal(c.PrescriptionSignedAt) {
		t.Errorf("%+v", prescription)
	}
	dispensing := factsOf(t, c.Dispensing)
	want := []ID{{c.ID, BundleIdentifier, false, true, true}, {other, AuthorizingPrescription, false, true, true}}
	if diff := cmp.Diff(want, dispensing.IDs); diff != "" || dispensing.Private || dispensing.HandedOver != "2025-06-14" {
		t.Errorf("%+v %s", dispensing, diff)
	}
	receipt := factsOf(t, c.Receipt)
	sd, err := cms.Parse(c.Prescription)
	if err != nil {
		t.Fatal(err)
	}
	if receipt.Digests != 1 || !bytes.Equal(receipt.Digest, sd.ContentDigest(crypto.SHA256)) || receipt.Beneficiary != "3-SMC-B-Testkarte-000000000001" ||
		!receipt.PeriodEnd.Equal(c.ReceiptSignedAt) || !receipt.PeriodStart.Equal(c.ReceiptSignedAt.Add(-10*time.Minute)) || receipt.HasSignature {
		t.Errorf("%+v", receipt)
	}
	signed, err := ReadFacts(testpki.SignedReceiptXML(c.ReceiptContent, c.Receipt))
	if err != nil || !signed.HasSignature {
		t.Errorf("Bundle.signature inside: %v, %v", signed, err)
	}
}

// TestNoFacts: contents that are not a Bundle.
func TestNoFacts(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", "Hello World", "<Patient xmlns=\"http://hl7.org/fhir\"/>", "<Bundle/>", "<Bundle xmlns=\"urn:x\"/>", "<a><Bundle xmlns=\"http://hl7.org/fhir\"/></a>", "<Bundle xmlns=\"http://hl7.org/fhir\"/>x", "{}"} {
		if facts, err := ReadFacts([]byte(in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %+v, %v", in, facts, err)
		}
	}
	// Facts at other places than theirs do not count.
	facts, err := ReadFacts([]byte(`<Bundle xmlns="http://hl7.org/fhir" xmlns:x="urn:x"><x:identifier><system value="` + systemID + `"/><value value="160.000.000.000.001.54"/></x:identifier>` +
		`<entry><resource><Bundle><identifier><system value="` + systemID + `"/><value value="160.000.000.000.001.54"/></identifier><signature/></Bundle></resource></entry>` +
		`<identifier><system value="urn:other"/><value value="160.000.000.000.001.54"/></identifier></Bundle>`))
	if err != nil || len(facts.IDs) != 0 || facts.HasSignature || facts.Kind != Unknown {
		t.Errorf("%+v, %v", facts, err)
	}
}

func TestCheckID(t *testing.T) {
	t.Parallel()
	for id, want := range map[string][2]bool{
		"200.000.002.425.333.42": {true, true}, "160.000.006.708.177.19": {true, true}, "160.123.456.789.123.58": {true, true},
		"200.000.002.425.333.43": {true, false}, "200.000.002.425.334.42": {true, false}, "2000.00.002.425.333.42": {false, false},
		"200.000.002.425.333.4": {false, false}, "": {false, false}, "200.000.002.425.333.4x": {false, false},
	} {
		if form, check := CheckID(id); [2]bool{form, check} != want {
			t.Errorf("%q: %v %v", id, form, check)
		}
	}
}

// printer writes the events as text, to be compared with other parsers.
type printer struct{ out []string }

func (p *printer) start(name []byte, _ int) bool {
	p.out = append(p.out, "<"+string(name))
	return true
}
func (p *printer) value(v []byte) { p.out = append(p.out, "="+string(v)) }
func (p *printer) url(v []byte)   { p.out = append(p.out, "@"+string(v)) }
func (p *printer) end(int)        { p.out = append(p.out, ">") }

// referenceXML makes the same events with encoding/xml.
func referenceXML(data []byte) ([]string, error) {
	d := xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))))
	var out []string
	skip := 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		switch e := token.(type) {
		case xml.StartElement:
			if skip > 0 || e.Name.Space != fhirNamespace {
				skip++
				continue
			}
			out = append(out, "<"+e.Name.Local)
			for _, name := range []string{"url", "value"} {
				for _, a := range e.Attr {
					if a.Name.Space == "" && a.Name.Local == name {
						out = append(out, map[string]string{"url": "@", "value": "="}[name]+a.Value)
					}
				}
			}
		case xml.EndElement:
			if skip > 0 {
				skip--
				continue
			}
			out = append(out, ">")
		}
	}
}

// compareXML: whatever this parser accepts, encoding/xml reads in the same way. (It accepts more: text outside the root,
// attributes twice, prefixes that nobody declared.)
func compareXML(t *testing.T, data []byte) {
	t.Helper()
	var p printer
	if parseXML(data, &p, false) != nil {
		return
	}
	want, err := referenceXML(data)
	if err != nil {
		t.Fatalf("encoding/xml refuses: %v", err)
	}
	// encoding/xml turns CR LF and CR in values into LF; here they stay.
	for i := range p.out {
		p.out[i] = strings.ReplaceAll(strings.ReplaceAll(p.out[i], "\r\n", "\n"), "\r", "\n")
		if i < len(want) {
			want[i] = strings.ReplaceAll(strings.ReplaceAll(want[i], "\r\n", "\n"), "\r", "\n")
		}
	}
	if diff := cmp.Diff(want, p.out); diff != "" {
		t.Fatal(diff)
	}
}

// TestXMLAgainstLibrary compares with encoding/xml on the records, and on records with an octet changed.
func TestXMLAgainstLibrary(t *testing.T) {
	t.Parallel()
	c := newCase(t)
	for _, content := range [][]byte{c.PrescriptionContent, c.DispensingContent, c.ReceiptContent, testpki.SignedReceiptXML(c.ReceiptContent, c.Receipt)} {
		var p printer
		if err := parseXML(content, &p, false); err != nil {
			t.Fatal(err)
		}
		compareXML(t, content)
		for i := 0; i < len(content); i += 7 {
			changed := bytes.Clone(content)
			changed[i] = "<>&\"'/=! \x00a:;]"[i%14]
			compareXML(t, changed)
		}
	}
}

// referenceJSON makes the same events with encoding/json.
func referenceJSON(data []byte) ([]string, bool) {
	if !json.Valid(data) {
		return nil, false
	}
	var out []string
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var value func(name string, token json.Token)
	value = func(name string, token json.Token) {
		switch v := token.(type) {
		case json.Delim:
			if v == '[' {
				for d.More() {
					next, _ := d.Token()
					value(name, next)
				}
				d.Token()
				return
			}
			for d.More() {
				key, _ := d.Token()
				next, _ := d.Token()
				value(key.(string), next)
			}
			d.Token()
		case string:
			out = append(out, name+"="+v)
		case json.Number:
			out = append(out, name+"="+v.String())
		case bool:
			out = append(out, fmt.Sprintf("%s=%v", name, v))
		}
	}
	token, err := d.Token()
	if err != nil || token != json.Delim('{') {
		return nil, false
	}
	value("", token)
	return out, true
}

// leaves are the primitives of the events, as name=value.
func (p *printer) leaves() []string {
	var out []string
	for i, s := range p.out {
		if s[0] == '=' && i > 0 && p.out[i-1][0] == '<' {
			out = append(out, p.out[i-1][1:]+s)
		}
		if s[0] == '@' {
			out = append(out, "url="+s[1:])
		}
	}
	return out
}

func compareJSON(t *testing.T, data []byte) {
	t.Helper()
	var p printer
	err := parseJSON(data, &p)
	if errors.Is(err, ErrLimit) {
		return
	}
	want, ok := referenceJSON(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	if (err == nil) != ok {
		if err != nil && !bytes.Contains([]byte(err.Error()), []byte("UTF-8")) {
			t.Fatalf("here: %v, encoding/json: %v", err, ok)
		}
		return
	}
	if err != nil {
		return
	}
	var kept []string
	for _, leaf := range want {
		if !strings.HasPrefix(leaf, "resourceType=") {
			kept = append(kept, leaf)
		}
	}
	if diff := cmp.Diff(kept, p.leaves()); diff != "" {
		t.Fatalf("%s\n%s", data, diff)
	}
}

func TestJSONAgainstLibrary(t *testing.T) {
	t.Parallel()
	c := newCase(t)
	texts := []string{
		string(testpki.BinaryJSON("x", c.Receipt[:300])), `{"a":[1,2.5e3,-0,true,false,null,"\u00e4\ud83d\ude00\n\"\\\/\b\f\r\t"],"extension":[{"valueString":"x","url":"y"}],"b":{"url":"z"}}`,
		`{"a":"\ud800"}`, `{"a":"\ud800\u0041"}`, ` { } `, `{"resource":{"id":"1","resourceType":"X","b":[[1],[2]]}}`, `{"a":01}`, `{"a":1.}`, `{"a":.5}`, `{"a":+1}`, `{"a":1e}`,
		`{"a":tru}`, `{"a":"\x"}`, `{"a":"\u12g4"}`, `{"a" 1}`, `{"a":1,}`, `{,}`, `{"a":[1,]}`, `{"a":[}`, `{"a":"` + "\x01" + `"}`, `{a:1}`, `{"a":1}x`, `{"a":1`, `[]`, `"a"`, `{"a":nul}`, `{"":""}`,
	}
	for _, text := range texts {
		compareJSON(t, []byte(text))
		for i := range text {
			changed := []byte(text)
			changed[i] = "{}[]\",:\\ 0-eE.tn"[i%16]
			compareJSON(t, changed)
		}
	}
}

func FuzzXML(f *testing.F) {
	for _, seed := range []string{`<Bundle xmlns="http://hl7.org/fhir"><id value="a&amp;b"/></Bundle>`, `<?xml version="1.0" encoding="UTF-8"?><f:a xmlns:f="http://hl7.org/fhir" url='x'><!-- c --><![CDATA[d]]><f:b/></f:a>`, `<a xmlns=""><b xmlns="http://hl7.org/fhir" value="&#x41;"/></a>`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		compareXML(t, data)
		ReadFacts(data)
	})
}

func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Binary","data":"MIIB"}}]}`, `{"a":[1,2.5e3,-0,true,null,"\u00e4"],"extension":[{"url":"y"}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) { compareJSON(t, data) })
}

func FuzzOpen(f *testing.F) {
	for _, seed := range []string{
		"MIAGCSqGSIb3DQEHAqCA", "-----BEGIN CMS-----\nMIAG\n-----END CMS-----\n", "0\x80\x06\x09*\x86H\x86\xf7\r\x01\x07\x02\xa0\x80",
		`<Bundle xmlns="http://hl7.org/fhir"><entry><resource><Binary><contentType value="application/pkcs7-mime"/><data value="MIAG"/></Binary></resource></entry><signature><data value="MIAG"/></signature></Bundle>`,
		`{"resourceType":"Bundle","signature":{"data":"MIAG"},"entry":[{"resource":{"resourceType":"Binary","contentType":"application/pkcs7-mime","data":"TUlBRw=="}}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		messages, err := Open(data)
		if (err == nil) != (len(messages) > 0) {
			t.Fatalf("%d messages, %v", len(messages), err)
		}
		for _, m := range messages {
			if m.Forms[len(m.Forms)-1] != CMS {
				t.Fatalf("%v", m.Forms)
			}
		}
	})
}

// BenchmarkReadFacts is reading the facts of one record.
func BenchmarkReadFacts(b *testing.B) {
	c := newCase(b)
	for name, content := range map[string][]byte{"prescription": c.PrescriptionContent, "dispensing": c.DispensingContent, "receipt": c.ReceiptContent} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ReadFacts(content); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpen is finding the message in its forms.
func BenchmarkOpen(b *testing.B) {
	c := newCase(b)
	for name, in := range map[string][]byte{
		"base64": wrapped(b64(c.Prescription), "\n"), "xml": testpki.BinaryXML("x", c.Prescription), "json": testpki.BinaryJSON("x", c.Prescription),
		"signature": testpki.SignedReceiptXML(c.ReceiptContent, c.Receipt),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Open(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
