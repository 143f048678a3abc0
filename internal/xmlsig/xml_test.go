package xmlsig

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ktradv/internal/longrun"
)

func TestRefused(t *testing.T) {
	t.Parallel()
	deep := func(n int) string { return strings.Repeat("<a>", n) + strings.Repeat("</a>", n) }
	for name, doc := range map[string]string{
		"empty":                          "",
		"text only":                      "hello",
		"DOCTYPE":                        `<!DOCTYPE a><a/>`,
		"DOCTYPE after a comment":        `<!-- --><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>`,
		"own entity":                     `<a>&b;</a>`,
		"bare ampersand":                 `<a>a & b</a>`,
		"reference without end":          `<a>&amp</a>`,
		"reference to NUL":               `<a>&#0;</a>`,
		"reference to a surrogate":       `<a>&#xD800;</a>`,
		"reference too large":            `<a>&#x110000;</a>`,
		"reference to nothing":           `<a>&#;</a>`,
		"reference with an upper case X": `<a>&#X41;</a>`,
		"control character":              "<a>\x01</a>",
		"not UTF-8":                      "<a>\xff</a>",
		"U+FFFE":                         "<a>\ufffe</a>",
		"UTF-16":                         "\xff\xfe<\x00a\x00/\x00>\x00",
		"encoding Latin 1":               `<?xml version="1.0" encoding="ISO-8859-1"?><a/>`,
		"version 1.1":                    `<?xml version="1.1"?><a/>`,
		"declaration without version":    `<?xml encoding="UTF-8"?><a/>`,
		"declaration after blank":        ` <?xml version="1.0"?><a/>`,
		"declaration inside":             `<a><?xml version="1.0"?></a>`,
		"end missing":                    `<a><b></b>`,
		"wrong end":                      `<a></b>`,
		"end of nothing":                 `</a>`,
		"end of another prefix":          `<p:a xmlns:p="u:x" xmlns:q="u:x"></q:a>`,
		"two roots":                      `<a/><b/>`,
		"text after the root":            `<a/>b`,
		"attribute twice":                `<a b="1" b="2"/>`,
		"attribute twice by namespace":   `<a xmlns:p="u:x" xmlns:q="u:x" p:b="1" q:b="2"/>`,
		"attribute without quotes":       `<a b=1/>`,
		"attribute without value":        `<a b/>`,
		"attributes not apart":           `<a b="1"c="2"/>`,
		"less-than in an attribute":      `<a b="<"/>`,
		"prefix not declared":            `<p:a/>`,
		"prefix of an attribute":         `<a p:b="1"/>`,
		"prefix out of scope":            `<a><b xmlns:p="u:x"/><p:c/></a>`,
		"prefix xmlns of an element":     `<xmlns:a/>`,
		"declaring xmlns":                `<a xmlns:xmlns="u:x"/>`,
		"declaring xml otherwise":        `<a xmlns:xml="u:x"/>`,
		"prefix for the xml namespace":   `<a xmlns:p="http://www.w3.org/XML/1998/namespace"/>`,
		"prefix taken back":              `<a xmlns:p="u:x"><b xmlns:p=""/></a>`,
		"namespace declared twice":       `<a xmlns:p="u:x" xmlns:p="u:y"/>`,
		"relative namespace":             `<a xmlns="x"/>`,
		"relative namespace of a prefix": `<a xmlns:p="x/y:z"/>`,
		"two colons":                     `<a:b:c xmlns:a="u:x"/>`,
		"name begins with a digit":       `<1a/>`,
		"]]> in a text":                  `<a>]]></a>`,
		"CDATA outside":                  `<![CDATA[x]]><a/>`,
		"-- in a comment":                `<a><!-- a -- b --></a>`,
		"comment ends with --->":         `<a><!-- a ---></a>`,
		"comment without end":            `<a><!-- `,
		"CDATA without end":              `<a><![CDATA[`,
		"instruction without end":        `<a><?b`,
		"too deep":                       deep(maxDepth + 1),
		"too many attributes":            "<a " + attributes(maxAttributes+1) + "/>",
		"name too long":                  "<" + strings.Repeat("a", maxName+1) + "/>",
	} {
		if _, err := Parse([]byte(doc)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
	for name, doc := range map[string]string{
		"deepest": deep(maxDepth), "most attributes": "<a " + attributes(maxAttributes) + "/>",
		"byte order mark": "\xef\xbb\xbf<a/>", "declaration": `<?xml version='1.0' encoding='utf-8' standalone="no" ?><a/>`,
		"blank and comment around": "\n<!-- -->\n<a/>\n<!-- -->\n", "umlaut": "<ä:ö xmlns:ä='u:x'/>",
	} {
		if _, err := Parse([]byte(doc)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func attributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `a%d="" `, i)
	}
	return b.String()
}

// TestTooLong: a document beyond MaxSize is refused before anything else is done with it.
func TestTooLong(t *testing.T) {
	t.Parallel()
	if _, err := Parse(make([]byte, MaxSize+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("%v", err)
	}
	many := "<a>" + strings.Repeat("<b/>", maxNodes) + "</a>"
	if _, err := Parse([]byte(many)); !errors.Is(err, ErrMalformed) {
		t.Errorf("%d elements: %v", maxNodes, err)
	}
	pieces := "<a>" + strings.Repeat("x<!---->", maxNodes) + "</a>"
	if _, err := Parse([]byte(pieces)); !errors.Is(err, ErrMalformed) {
		t.Errorf("%d texts: %v", maxNodes, err)
	}
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ in, want string }{
		"empty element":            {`<a/>`, `<a></a>`},
		"order of attributes":      {`<a xmlns:q="u:y" xmlns:p="u:z" c="1" b="2" q:a="3" p:a="4"/>`, `<a xmlns:p="u:z" xmlns:q="u:y" b="2" c="1" q:a="3" p:a="4"></a>`},
		"declaration nobody uses":  {`<a xmlns:p="u:x"><b xmlns="u:y"/></a>`, `<a><b xmlns="u:y"></b></a>`},
		"declared where used":      {`<a xmlns:p="u:x"><p:b/><p:c><p:d/></p:c></a>`, `<a><p:b xmlns:p="u:x"></p:b><p:c xmlns:p="u:x"><p:d></p:d></p:c></a>`},
		"default taken back":       {`<a xmlns="u:x"><b xmlns=""/></a>`, `<a xmlns="u:x"><b xmlns=""></b></a>`},
		"no default to take back":  {`<a><b xmlns=""/></a>`, `<a><b></b></a>`},
		"the same again":           {`<a xmlns="u:x"><b xmlns="u:x"/></a>`, `<a xmlns="u:x"><b></b></a>`},
		"prefix with new meaning":  {`<p:a xmlns:p="u:x"><p:b xmlns:p="u:y"/></p:a>`, `<p:a xmlns:p="u:x"><p:b xmlns:p="u:y"></p:b></p:a>`},
		"escapes in text":          {"<a>&lt;&gt;&amp;\"'&#13;&#10;&#9;</a>", "<a>&lt;&gt;&amp;\"'&#xD;\n\t</a>"},
		"escapes in attributes":    {`<a b="&lt;>&amp;&quot;'&#13;&#10;&#9;"/>`, `<a b="&lt;>&amp;&quot;'&#xD;&#xA;&#x9;"></a>`},
		"white space in attribute": {"<a b=' x\ty\nz\r\nu'/>", `<a b=" x y z u"></a>`},
		"line ends":                {"<a>1\r\n2\r3\n</a>", "<a>1\n2\n3\n</a>"},
		"CDATA":                    {"<a>x<![CDATA[<b>&amp;]]>y</a>", "<a>x&lt;b&gt;&amp;amp;y</a>"},
		"comments":                 {"<!-- 1 --><a>x<!-- 2 -->y</a><!-- 3 -->", "<a>xy</a>"},
		"instructions":             {"<?p  q r ?>\n<a><?s?></a><?t u?>", "<?p q r ?>\n<a><?s?></a>\n<?t u?>"},
		"xml:lang":                 {`<a xml:lang="de" b="c"/>`, `<a b="c" xml:lang="de"></a>`},
	} {
		doc, err := Parse([]byte(tc.in))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := string(doc.Canonical(nil)); got != tc.want {
			t.Errorf("%s:\n got %q\nwant %q", name, got, tc.want)
		}
	}
	doc, err := Parse([]byte(`<a xmlns="u:x" xmlns:p="u:y"><p:b><c/></p:b></a>`))
	if err != nil {
		t.Fatal(err)
	}
	b := doc.Root.Elements()[0]
	if got, want := string(b.Canonical()), `<p:b xmlns:p="u:y"><c xmlns="u:x"></c></p:b>`; got != want {
		t.Errorf("part of a document: %q, want %q", got, want)
	}
	if got, want := string(doc.Canonical(b)), `<a xmlns="u:x"></a>`; got != want {
		t.Errorf("without a part: %q, want %q", got, want)
	}
}

// generator writes random documents that use everything the reader knows.
type generator struct {
	r *rand.Rand
	b strings.Builder
}

func (g *generator) pick(list ...string) string { return list[g.r.IntN(len(list))] }

func (g *generator) value(attribute bool) string {
	var b strings.Builder
	for range g.r.IntN(4) {
		s := g.pick("x", "ä€", " ", "&amp;", "&lt;", "&gt;", "&#13;", "&#xA;", "&#9;", "&quot;", "&apos;", "\n", "\r\n", "\t", "𝄞", "'")
		if !attribute && g.r.IntN(6) == 0 {
			s = g.pick("<!-- c -->", "<![CDATA[<&]]>", "<?pi some data?>", `"`, "<![CDATA[]]>", ">")
		}
		b.WriteString(s)
	}
	return b.String()
}

// element writes an element; declared are the prefixes in force.
func (g *generator) element(depth int, declared []string) {
	var attributes []string
	own := append([]string{}, declared...)
	for _, p := range []string{"p", "q"} {
		if g.r.IntN(3) == 0 {
			attributes = append(attributes, fmt.Sprintf("xmlns:%s=%q", p, g.pick("urn:1", "urn:2")+p)) // never the same namespace for both
			own = append(own, p)
		}
	}
	switch g.r.IntN(6) {
	case 0:
		attributes = append(attributes, `xmlns="urn:d"`)
	case 1:
		attributes = append(attributes, `xmlns=""`)
	}
	name := "e" + g.pick("1", "2")
	if len(own) > 0 && g.r.IntN(2) == 0 {
		name = own[g.r.IntN(len(own))] + ":" + name
	}
	used := map[string]bool{}
	for range g.r.IntN(4) {
		a := g.pick("a", "b", "c", "xml:lang")
		if len(own) > 0 && a != "xml:lang" && g.r.IntN(2) == 0 {
			a = own[g.r.IntN(len(own))] + ":" + a
		}
		if !used[a] {
			used[a] = true
			attributes = append(attributes, a+`="`+g.value(true)+`"`)
		}
	}
	g.r.Shuffle(len(attributes), func(i, j int) { attributes[i], attributes[j] = attributes[j], attributes[i] })
	g.b.WriteString("<" + name)
	for _, a := range attributes {
		g.b.WriteString(g.pick(" ", "\n", "  ") + a)
	}
	if g.r.IntN(5) == 0 {
		g.b.WriteString("/>")
		return
	}
	g.b.WriteString(">")
	for range g.r.IntN(4) {
		g.b.WriteString(g.value(false))
		if depth < 5 {
			g.element(depth+1, own)
		}
	}
	g.b.WriteString("</" + name + g.pick("", " ") + ">")
}

func (g *generator) document() string {
	g.b.Reset()
	g.b.WriteString(g.pick("", `<?xml version="1.0"?>`, "<?xml version='1.0' encoding='UTF-8'?>\n", "<!-- c -->", "<?style x?>\n"))
	g.element(0, nil)
	g.b.WriteString(g.pick("", "\n", "<!-- c -->", "<?after?>"))
	return g.b.String()
}

// TestDifferentialXMLLint holds the canonical form of generated documents next to that of libxml2, and the judgement about
// documents that were damaged afterwards.
func TestDifferentialXMLLint(t *testing.T) {
	t.Parallel()
	lint, err := exec.LookPath("xmllint")
	if err != nil {
		t.Skip("xmllint is not installed (Debian package libxml2-utils)")
	}
	n := 150
	if longrun.Long() {
		n = 3000
	}
	g := &generator{r: rand.New(rand.NewPCG(5, 7))}
	dir := t.TempDir()
	agreed, refused := 0, 0
	for i := range n {
		doc := g.document()
		damaged := i%3 == 2
		if damaged {
			b := []byte(doc)
			at := g.r.IntN(len(b))
			switch g.r.IntN(3) {
			case 0:
				b[at] ^= 1 << g.r.IntN(7)
			case 1:
				b = append(b[:at:at], b[at+1:]...)
			case 2:
				b = b[:at]
			}
			doc = string(b)
		}
		path := filepath.Join(dir, "doc.xml")
		if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		cmd := exec.Command(lint, "--nonet", "--exc-c14n", path)
		cmd.Stderr = &stderr
		theirs, theirErr := cmd.Output()
		parsed, ourErr := Parse([]byte(doc))
		switch {
		case ourErr == nil && theirErr == nil:
			// libxml2 keeps comments in this mode; the form without them is the one that signatures use.
			if ours := parsed.Canonical(nil); string(ours) != string(withoutComments(theirs)) {
				t.Fatalf("document %d:\n%q\n ours %q\ntheirs %q", i, doc, ours, theirs)
			}
			agreed++
		case ourErr != nil && theirErr != nil:
			refused++
		case ourErr == nil:
			t.Errorf("document %d: accepted here, refused by libxml2: %s\n%q", i, stderr.String(), doc)
		default:
			if why := stricter(ourErr, stderr.String(), doc); why == "" {
				t.Errorf("document %d: refused here and accepted by libxml2: %v\n%q", i, ourErr, doc)
			}
			refused++
		}
	}
	t.Logf("%d documents: %d canonical forms equal, %d refused", n, agreed, refused)
	if agreed < n/2 || refused < n/10 {
		t.Errorf("too few cases of one kind: %d equal, %d refused", agreed, refused)
	}
}

// withoutComments takes comments out of a canonical form, in which "<!--" can be nothing else; outside the root a line end
// stands between them and it.
func withoutComments(b []byte) []byte {
	for {
		start := bytes.Index(b, []byte("<!--"))
		if start < 0 {
			return b
		}
		end := start + bytes.Index(b[start:], []byte("-->")) + 3
		switch {
		case end < len(b) && b[end] == '\n' && !bytes.Contains(b[:start], []byte("<e")) && !bytes.Contains(b[:start], []byte(":e")):
			end++
		case end == len(b) && start > 0 && b[start-1] == '\n':
			start--
		}
		b = append(append([]byte{}, b[:start]...), b[end:]...)
	}
}

// stricter names the rule by which this reader refuses what libxml2 lets pass.
func stricter(err error, stderr, doc string) string {
	for reason, rule := range map[string]string{
		"prefix that is not declared": "libxml2 reports namespace errors and goes on; Namespaces in XML calls the document not namespace-well-formed",
		"namespace declaration":       "the same",
		"namespace declared twice":    "the same",
		"attribute twice":             "the same",
		"XML declaration":             "version and encoding other than 1.0 and UTF-8 are refused",
		"name at":                     "a colon at the end or beginning of a name is a namespace error, too",
	} {
		if strings.Contains(err.Error(), reason) {
			return rule
		}
	}
	return ""
}

// TestContentOnlySigned: what stands in the signature, and nothing else of the document, is missing in the content.
func TestContentOnlySigned(t *testing.T) {
	t.Parallel()
	s, err := Open([]byte(`<a><b>x</b><ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><c/></ds:Signature></a>`))
	if err != nil {
		t.Fatal(err)
	}
	if string(s.Content) != `<a><b>x</b></a>` {
		t.Errorf("content %q", s.Content)
	}
	if err := s.Verify(nil); !errors.Is(err, ErrSignature) {
		t.Errorf("Verify: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	g := &generator{r: rand.New(rand.NewPCG(1, 2))}
	for range 20 {
		f.Add([]byte(g.document()))
	}
	f.Add([]byte(`<a><b/><ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"/></a>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Open(data)
		if err != nil {
			return
		}
		s.Verify(nil)
		// The canonical form is XML, and its own canonical form.
		doc, err := Parse(s.Content)
		if err != nil {
			t.Fatalf("canonical form is refused: %v\n%q", err, s.Content)
		}
		if again := doc.Canonical(nil); string(again) != string(s.Content) {
			t.Fatalf("canonical form is not stable:\n%q\n%q", s.Content, again)
		}
	})
}
