package record

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"ktradv/internal/testpki"
)

// scanned scans with bounds of its own. What comes as a stream is read to its end; where that fails the message has the error.
func scanned(source io.Reader, size, token int) ([]Message, error) {
	var out []Message
	s := scan{func(r io.Reader) any {
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		return data
	}, size, token}
	err := s.input(source, nil, func(m Message) error {
		switch v := m.Streamed.(type) {
		case []byte:
			m.Data = v
		case error:
			m.Err = v
		}
		m.Streamed = nil
		out = append(out, m)
		return nil
	})
	return out, err
}

// bounds are those of the product and some that make everything long.
var bounds = [][2]int{{maxWindow, maxToken}, {8192, 2048}, {1024, 400}}

// compareScan holds a scan of any bounds next to Open: it finds the same messages, or says that it cannot hold something.
func compareScan(t *testing.T, data []byte) {
	t.Helper()
	want, err := Open(data)
	for i, b := range bounds {
		source := io.Reader(bytes.NewReader(data))
		if i == 1 {
			source = iotest.HalfReader(source)
		}
		got, scanErr := scanned(source, b[0], b[1])
		if errors.Is(scanErr, ErrLimit) && i > 0 {
			continue
		}
		if err != nil {
			// Messages before the place where something is wrong are found; nothing is found without a word.
			bad := scanErr != nil
			for _, m := range got {
				bad = bad || m.Err != nil
			}
			// White space in front of an XML declaration is passed over.
			text := bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
			spaces := len(text) > 0 && valueClass[text[0]] == classSpace && bytes.HasPrefix(bytes.TrimSpace(text), []byte("<?xml"))
			if !bad && !errors.Is(err, ErrLimit) && !spaces {
				t.Fatalf("bounds %v: Open says %v, Scan found %d messages in %.200q", b, err, len(got), data)
			}
			continue
		}
		for j := range got {
			if got[j].OuterUnread && j < len(want) {
				got[j].OuterUnread, got[j].Outer = false, want[j].Outer
			}
			if j < len(want) && got[j].Err != nil && bytes.Equal(got[j].Data, nil) && !looksLikeCMS(want[j].Data) {
				got[j].Err, got[j].Data, got[j].Forms = nil, want[j].Data, want[j].Forms // claims to be one and is none
			}
		}
		if scanErr != nil {
			t.Fatalf("bounds %v: %v", b, scanErr)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("bounds %v: %s", b, diff)
		}
	}
}

// TestScanLong: messages that are longer than what is held come out of every form whole, with what the resource around them
// says before and after them; what only claims to be one is not lost.
func TestScanLong(t *testing.T) {
	t.Parallel()
	m := append(bytes.Clone(newCase(t).Receipt[:20]), bytes.Repeat([]byte("long "), 300_000)...)
	text := string(b64(m))
	late := `<Binary xmlns="http://hl7.org/fhir"><data value="` + text + `"/><id value="i"/><contentType value="application/pkcs7-mime"/></Binary>`
	lines := strings.ReplaceAll(string(wrapped([]byte(text), "\n")), "\n", "&#10;")
	for name, tt := range map[string]struct {
		in    string
		forms []Form
		id    string
	}{
		"message":             {string(m), []Form{CMS}, ""},
		"base64":              {"\xef\xbb\xbf \r\n" + text, []Form{Base64, CMS}, ""},
		"twice":               {string(b64([]byte(text))), []Form{Base64, Base64, CMS}, ""},
		"PEM":                 {string(pem("CMS", m)), []Form{PEM, CMS}, ""},
		"PEM in base64":       {string(b64(pem("PKCS7", m))), []Form{Base64, PEM, CMS}, ""},
		"XML":                 {"\xef\xbb\xbf<?xml version=\"1.0\"?>\n" + string(testpki.BundleXML("x", testpki.BinaryXML("i", m))), []Form{XMLBinary, CMS}, "i"},
		"XML, type after":     {late, []Form{XMLBinary, CMS}, "i"},
		"XML, single quotes":  {strings.Replace(late, `"`+text+`"`, "'"+text+"' \n ", 1), []Form{XMLBinary, CMS}, "i"},
		"XML, prefix":         {`<f:Binary xmlns:f="http://hl7.org/fhir"><f:id value="i"/><f:data id="a" value = "` + text + `" ></f:data></f:Binary>`, []Form{XMLBinary, CMS}, "i"},
		"XML, references":     {strings.Replace(late, text, lines, 1), []Form{XMLBinary, CMS}, "i"},
		"XML, twice":          {strings.Replace(late, text, string(b64([]byte(text))), 1), []Form{XMLBinary, Base64, CMS}, "i"},
		"XML in base64":       {string(b64([]byte(late))), []Form{Base64, XMLBinary, CMS}, "i"},
		"XML in XML":          {string(testpki.BinaryXML("o", []byte(late))), []Form{XMLBinary, XMLBinary, CMS}, "i"},
		"signature":           {string(testpki.SignedReceiptXML(newCase(t).ReceiptContent, m)), []Form{XMLSignature, CMS}, factsOf(t, newCase(t).Receipt).Bundle},
		"JSON":                {string(testpki.BinaryJSON("i", m)), []Form{JSONBinary, CMS}, "i"},
		"JSON, type first":    {` {"resourceType":"Bundle","entry":[1,{"resource":{"resourceType":"Binary","data":"` + strings.ReplaceAll(text[:1000], "/", `\/`) + text[1000:] + `","id":"i"}}]}`, []Form{JSONBinary, CMS}, "i"},
		"JSON, escapes":       {`{"resourceType":"Binary","id":"i","data":"` + strings.ReplaceAll(lines, "&#10;", `\u000a\n`) + `"}`, []Form{JSONBinary, CMS}, "i"},
		"signature in JSON":   {`{"resourceType":"Bundle","id":"i","signature":{"data":"` + text + `"}}`, []Form{JSONSignature, CMS}, "i"},
		"another value is so": {`<Bundle xmlns="http://hl7.org/fhir"><note value="` + strings.Repeat("ä", 1<<20) + `"/><entry><resource>` + strings.Replace(late, ` xmlns="http://hl7.org/fhir"`, "", 1) + "</resource></entry></Bundle>", []Form{XMLBinary, CMS}, "i"},
		"also in JSON":        {`{"resourceType":"Bundle","note":"` + strings.Repeat("ä", 1<<20) + `","entry":{"resource":{"resourceType":"Binary","id":"i","data":"` + text + `"}}}`, []Form{JSONBinary, CMS}, "i"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := scanned(iotest.HalfReader(strings.NewReader(tt.in)), maxWindow, maxToken)
			if err != nil || len(got) != 1 {
				t.Fatalf("%d messages, %v", len(got), err)
			}
			if got[0].Err != nil || !bytes.Equal(got[0].Data, m) || got[0].ID != tt.id {
				t.Errorf("%d octets of %d, ID %q, %v", len(got[0].Data), len(m), got[0].ID, got[0].Err)
			}
			if diff := cmp.Diff(tt.forms, got[0].Forms); diff != "" {
				t.Error(diff)
			}
			if _, err := scanned(strings.NewReader(tt.in[:len(tt.in)-1]), maxWindow, maxToken); err == nil && name != "message" && name != "PEM" && name != "base64" && name != "twice" && name != "PEM in base64" && name != "XML in base64" {
				t.Error("without its last octet it is read all the same")
			}
		})
	}
	type found struct {
		err  bool
		size int
	}
	long := strings.Repeat("x", 200_000)
	for name, tt := range map[string]struct {
		in   string
		want []found
		err  error
	}{
		"claims to be one":           {strings.Replace(late, text, long[:199_999]+"*", 1), []found{{true, 0}}, nil},
		"claims, and is an image":    {strings.Replace(late, text, string(b64([]byte("\x89PNG"+long))), 1), []found{{true, 0}}, nil},
		"an image":                   {`<Binary xmlns="http://hl7.org/fhir"><data value="` + string(b64([]byte("\x89PNG"+long))) + `"/><contentType value="image/png"/></Binary>`, nil, ErrNoMessage},
		"breaks in the message":      {strings.Replace(late, text, text[:300_000]+"*"+text[300_001:], 1), []found{{true, 0}}, nil},
		"one good, then the end":     {`<Bundle xmlns="http://hl7.org/fhir">` + late + "<entry>", []found{{false, len(m)}}, ErrMalformed},
		"two, the first is broken":   {`<Bundle xmlns="http://hl7.org/fhir">` + strings.Replace(late, text, text[:300_000]+"*"+text[300_001:], 1) + late + "</Bundle>", []found{{true, 0}, {false, len(m)}}, nil},
		"tag without end":            {`<Bundle xmlns="http://hl7.org/fhir"><data ` + strings.Repeat(" ", 400_000) + "/></Bundle>", nil, ErrLimit},
		"attribute that is no value": {`<Bundle xmlns="http://hl7.org/fhir"><data id="` + text + `"/></Bundle>`, nil, ErrLimit},
		"long tag behind the value":  {`<Bundle xmlns="http://hl7.org/fhir"><Binary><data value="` + text + `" id="` + long + `"/></Binary></Bundle>`, nil, ErrLimit},
		"name of a member":           {`{"resourceType":"Bundle","` + long + `":1}`, nil, ErrLimit},
		"no claim, cannot be held":   {`<Binary xmlns="http://hl7.org/fhir"><data value="` + string(b64([]byte(`<p xmlns="http://hl7.org/fhir"><a id="`+long+`"/></p>`))) + `"/><contentType value="text/html"/></Binary>`, []found{{true, 0}}, nil},
		"namespace behind the value": {`<Bundle xmlns="http://hl7.org/fhir"><Binary><data value="` + text + `" xmlns="urn:x"/></Binary></Bundle>`, nil, ErrLimit},
		"markup in the value":        {`<Binary xmlns="http://hl7.org/fhir"><data value="` + text + `<"/></Binary>`, nil, ErrMalformed},
		"entity in the value":        {`<Binary xmlns="http://hl7.org/fhir"><data value="` + text + `&x;"/></Binary>`, nil, ErrMalformed},
		"not UTF-8":                  {`<Binary xmlns="http://hl7.org/fhir"><data value="` + text + "\xff" + `"/></Binary>`, []found{{true, 0}}, ErrMalformed},
		"type comes too late":        {`{"id":"i","signature":{"data":"` + text + `"},"resourceType":"Bundle"}`, nil, ErrLimit},
		"control in a string":        {`{"resourceType":"Binary","data":"` + text + "\n" + `"}`, []found{{true, 0}}, ErrMalformed},
		"PEM of something else":      {string(pem("CERTIFICATE", m)), nil, ErrUnknown},
		"PEM without end":            {strings.TrimSuffix(string(pem("CMS", m)), "-----END CMS-----\n"), []found{{false, len(m)}}, ErrMalformed},
		"spaces":                     {strings.Repeat(" ", 1<<20), nil, ErrUnknown},
		"text":                       {strings.Repeat("text ", 1<<18), nil, ErrUnknown},
		"PDF":                        {"%PDF" + long, nil, ErrUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := scanned(strings.NewReader(tt.in), maxWindow, maxToken)
			if !errors.Is(err, tt.err) || tt.err == nil && err != nil {
				t.Errorf("error %v; want %v", err, tt.err)
			}
			var have []found
			for _, m := range got {
				have = append(have, found{m.Err != nil, len(m.Data)})
			}
			if diff := cmp.Diff(tt.want, have, cmp.AllowUnexported(found{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestScanOuterCopy: in a file that is larger than what is held, the copy around each receipt that fits is compared; of one
// that does not it is said.
func TestScanOuterCopy(t *testing.T) {
	t.Parallel()
	c := newCase(t)
	receipt := bytes.TrimPrefix(testpki.SignedReceiptXML(c.ReceiptContent, c.Receipt), []byte("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n"))
	large := bytes.Replace(receipt, []byte("<signature"), append(bytes.Repeat([]byte(" "), maxWindow), "<signature"...), 1)
	var resources [][]byte
	for i := range 60 {
		resources = append(resources, receipt, testpki.BinaryXML("b", c.Prescription))
		if i == 30 {
			resources = append(resources, large)
		}
	}
	file := testpki.BundleXML("x", resources...)
	if len(file) < 4*maxWindow {
		t.Fatalf("%d octets", len(file))
	}
	got, err := scanned(iotest.HalfReader(bytes.NewReader(file)), maxWindow, maxToken)
	if err != nil || len(got) != 121 {
		t.Fatalf("%d messages, %v", len(got), err)
	}
	want, err := Open(receipt)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range got {
		switch {
		case i == 62:
			if !m.OuterUnread || m.Outer != nil {
				t.Errorf("message %d: the copy is held", i)
			}
		case m.Forms[0] == XMLSignature:
			if diff := cmp.Diff(want[0].Outer, m.Outer); m.OuterUnread || diff != "" {
				t.Errorf("message %d, unread %t: %s", i, m.OuterUnread, diff)
			}
		case m.Outer != nil || m.OuterUnread:
			t.Errorf("message %d has a copy around it", i)
		}
	}
}

// TestScanStops: an error of the one who takes the messages ends the scan, and so does one of the source.
func TestScanStops(t *testing.T) {
	t.Parallel()
	m := newCase(t).Receipt
	file := testpki.BundleXML("x", testpki.BinaryXML("1", m), testpki.BinaryXML("2", m))
	stop := errors.New("enough")
	n := 0
	if err := Scan(bytes.NewReader(file), nil, func(Message) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		t.Errorf("%d messages, %v", n, err)
	}
	broken := errors.New("disk is broken")
	for _, in := range [][]byte{file, m, pem("CMS", m), b64(m), []byte(`{"resourceType":"Binary"`)} {
		_, err := scanned(io.MultiReader(bytes.NewReader(in[:len(in)/2]), iotest.ErrReader(broken)), maxWindow, maxToken)
		got, _ := scanned(io.MultiReader(bytes.NewReader(in[:len(in)/2]), iotest.ErrReader(broken)), maxWindow, maxToken)
		if !errors.Is(err, broken) && (len(got) == 0 || !errors.Is(got[0].Err, broken)) {
			t.Errorf("%.20q: %v", in, err)
		}
	}
}

// FuzzScan: whatever the bounds, a scan finds what Open finds.
func FuzzScan(f *testing.F) {
	c := newCase(f)
	m := c.Receipt[:600]
	for _, in := range [][]byte{m, b64(m), b64(b64(m)), pem("CMS", m), testpki.BinaryXML("b", m), testpki.BinaryJSON("b", m), testpki.SignedReceiptXML(c.ReceiptContent, m),
		testpki.BundleXML("x", testpki.BinaryXML("1", m), testpki.BinaryXML("2", b64(m)), testpki.BinaryXML("3", []byte("%PDF"))),
		[]byte(`{"resourceType":"Bundle","entry":[{"resource":` + string(testpki.BinaryJSON("i", m)) + `}]}`)} {
		f.Add(in)
	}
	f.Fuzz(compareScan)
}
