package federation

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Names of the two forms.
const (
	rootRegister   = "registrierungtifoederation"
	rootDeregister = "deregistrierungtifoederation"
	oldFormat      = "datendesantragstellers" // child of the root until early 2026
)

// Bounds of a form.
const (
	MaxXML   = 256 << 10 // octets
	maxDepth = 8
	maxNodes = 2000
)

// XMLOptions say how a form is judged.
type XMLOptions struct {
	// Source names the form in findings; FileName is the name under which it lies, "" leaves that check out. Sent says that it goes
	// to the office, or went, under that name: another one than the Member-ID is then wrong, and odd otherwise.
	Source, FileName string
	Sent             bool
	// Kind of service; Purpose of the form.
	Kind    Kind
	Purpose Purpose
	// TURegistered says that the service is registered in TU (FED-07).
	TURegistered bool
	// Registered is what was registered before, nil where unknown. A change and a deregistration are compared with it.
	Registered *Registration

	deregister bool
}

// PublicKey is a key with which the Entity Statement may be signed.
type PublicKey struct {
	KID string
	Key *ecdsa.PublicKey // nil where the form's text is no key; CheckXML said so

	line int
}

// Registration is the content of a form. Deregister says that it takes the service out; then only Environment, MemberID,
// ServiceURI and Reason are used.
type Registration struct {
	Deregister       bool
	Type             string
	Environment      Environment
	ContactEmail     string
	VFS              string // Verfahrensschlüssel
	Group            string // Zuweisungsgruppe
	MemberID         string
	OrganisationName string
	ServiceName      string
	ServiceURI       string
	Scopes           []string
	Claims           []string
	RedirectURIs     []string
	Keys             []PublicKey
	Reason           string

	source string
	lines  map[string]int // of the elements
}

// textFields are the elements with text of a registration, in the order of the form (FED-04).
var textFields = []fieldRule{
	{"teilnehmertyp", func(r *Registration, v string) { r.Type = v }, checkType},
	{"betriebsumgebung", func(r *Registration, v string) { r.Environment = Environment(v) }, checkEnvironment},
	{"kontaktemail", func(r *Registration, v string) { r.ContactEmail = v }, checkMail},
	{"vfsbestaetigung", func(r *Registration, v string) { r.VFS = v }, checkVFS},
	{"zuweisungsgruppe", func(r *Registration, v string) { r.Group = v }, checkGroup},
	{"memberid", func(r *Registration, v string) { r.MemberID = v }, checkMember},
	{"organisationsname", func(r *Registration, v string) { r.OrganisationName = v }, checkName("ORG")},
	{"fachdienstname", func(r *Registration, v string) { r.ServiceName = v }, checkName("NAME")},
	{"fachdiensturi", func(r *Registration, v string) { r.ServiceURI = v }, checkURI},
}

// deregisterFields are those of a deregistration (FED-29).
var deregisterFields = []fieldRule{
	textFields[1], textFields[5], textFields[8],
	{"grund", func(r *Registration, v string) { r.Reason = v }, checkReason},
}

// listFields are the elements with a list, after the text fields.
var listFields = []struct{ Name, Item string }{
	{"scopes", "scope"}, {"claims", "claim"}, {"redirect_uris", "redirect_uri"}, {"publickeysjwt", "publickey"},
}

// elements are the names of a form's children in their order.
func elements(deregister bool) []string {
	var names []string
	fields := textFields
	if deregister {
		fields = deregisterFields
	}
	for _, f := range fields {
		names = append(names, f.Name)
	}
	if !deregister {
		for _, l := range listFields {
			names = append(names, l.Name)
		}
	}
	return names
}

// node is one element of a form.
type node struct {
	name     string
	line     int
	text     string
	space    string // namespace
	children []*node
}

// walk calls f for the element and all below it.
func (n *node) walk(f func(*node)) {
	f(n)
	for _, c := range n.children {
		c.walk(f)
	}
}

func (n *node) child(name string) *node {
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// xmlError is an error at a line.
type xmlError struct {
	line int
	code Code
	what string
	fix  string
}

func (e *xmlError) Error() string { return e.what }

// readTree reads a bounded document without DOCTYPE and entities. Attributes, namespaces and processing instructions do not belong
// into a form, but leave it readable: they are found, and the reading goes on.
func readTree(b []byte) (root *node, found Findings, err error) {
	root, err = readNodes(b, func(line int, code Code, what, fix string) {
		found = append(found, Finding{Code: code, Severity: Error, Line: line, What: what, Fix: fix})
	})
	return root, found, err
}

func readNodes(b []byte, found func(line int, code Code, what, fix string)) (*node, error) {
	fail := func(line int, what, fix string) error { return &xmlError{line, "REG-XML", what, fix} }
	if len(b) > MaxXML {
		return nil, fail(0, fmt.Sprintf("longer than %d octets", MaxXML), "send the form only")
	}
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	if i := invalidUTF8(b); i >= 0 {
		return nil, fail(1+bytes.Count(b[:i], []byte("\n")), "the text is not UTF-8 (Latin-1 or UTF-16, perhaps)", "save the file as UTF-8")
	}
	d := xml.NewDecoder(bytes.NewReader(b))
	d.CharsetReader = func(string, io.Reader) (io.Reader, error) { return nil, errors.New("only UTF-8 is taken") }
	var root *node
	var stack []*node
	count := 0
	for {
		start := d.InputOffset()
		token, err := d.Token()
		line, _ := d.InputPos()
		var syntax *xml.SyntaxError
		switch {
		case errors.Is(err, io.EOF) && root == nil:
			return nil, fail(line, "there is no element", "start from `adv-server federation register`")
		case errors.Is(err, io.EOF):
			return root, nil
		case errors.As(err, &syntax):
			return nil, fail(syntax.Line, "not well-formed: "+syntax.Msg, "mend the line; & is written &amp; and < is written &lt;; other entities do not exist")
		case err != nil:
			return nil, fail(line, "cannot be read: "+err.Error(), "save the file as UTF-8")
		}
		switch t := token.(type) {
		case xml.ProcInst:
			switch {
			case t.Target != "xml":
				found(line, "REG-XML", fmt.Sprintf("a processing instruction <?%s", t.Target), "remove it: the form has none")
			case start != 0:
				return nil, fail(line, "the XML declaration does not stand at the very beginning", "remove what stands before it, also blank lines")
			}
		case xml.Directive:
			return nil, fail(line, "a DOCTYPE or another declaration", "remove it: the form has none, and it could draw in other files")
		case xml.StartElement:
			if count++; count > maxNodes || len(stack) >= maxDepth {
				return nil, fail(line, "too many or too deeply nested elements", "send the form only")
			}
			n := &node{name: t.Name.Local, line: line, space: t.Name.Space}
			above := ""
			if len(stack) > 0 {
				above = stack[len(stack)-1].space
			}
			if len(t.Attr) > 0 || n.space != above { // what is inherited was found where it began
				found(line, "REG-ELEMENT", fmt.Sprintf("<%s> has %s", n.name, strange(t.Attr)), "remove it: the form has neither namespaces nor attributes")
			}
			switch {
			case len(stack) > 0:
				p := stack[len(stack)-1]
				p.children = append(p.children, n)
			case root != nil:
				return nil, fail(line, "a second root element", "keep one")
			default:
				root = n
			}
			stack = append(stack, n)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		case xml.CharData:
			if len(stack) > 0 {
				stack[len(stack)-1].text += string(t)
			} else if len(bytes.TrimSpace(t)) > 0 {
				return nil, fail(line, "text outside of the root element", "remove it: the file holds the form only")
			}
		}
	}
}

// strange names what does not belong to an element: its attributes (a namespace is declared by one), without their values.
func strange(attributes []xml.Attr) string {
	if len(attributes) == 0 {
		return "a namespace"
	}
	names := make([]string, len(attributes))
	for i, a := range attributes {
		names[i] = a.Name.Local
		if a.Name.Space == "xmlns" {
			names[i] = "xmlns:" + a.Name.Local
		}
	}
	return "attributes: " + bounded(strings.Join(names, ", "))
}

// invalidUTF8 returns where b is no UTF-8, -1 where it is.
func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 || r == 0 {
			return i
		}
		i += n
	}
	return -1
}

// IsXML says whether a file is meant to be XML, whatever its encoding.
func IsXML(b []byte) bool {
	b = bytes.TrimLeft(bytes.TrimPrefix(b, []byte("\ufeff")), " \t\r\n")
	return bytes.HasPrefix(b, []byte("<")) || bytes.HasPrefix(b, []byte("\xff\xfe")) || bytes.HasPrefix(b, []byte("\xfe\xff")) || bytes.HasPrefix(b, []byte("\x00<"))
}

// ParseXML reads a registration or deregistration form, also one written by hand, and returns every violation of the rules
// that can be seen in the form alone. The registration is nil where the document is none.
func ParseXML(b []byte, opts XMLOptions) (*Registration, Findings) {
	private := func(line int) (*Registration, Findings) {
		return nil, Findings{privateKey()}.At(opts.Source, line, "key") // and nothing else of it is repeated
	}
	if i := bytes.Index(b, []byte(privateMark)); i >= 0 {
		return private(1 + bytes.Count(b[:i], []byte("\n")))
	}
	root, found, err := readTree(b)
	var bad *xmlError
	if errors.As(err, &bad) {
		found = append(found, Finding{Code: bad.code, Severity: Error, Line: bad.line, What: bad.what, Fix: bad.fix})
		return nil, found.At(opts.Source, 0, "")
	}
	line := 0
	root.walk(func(n *node) {
		if line == 0 && (holdsPrivateKey([]byte(n.text)) || privateJWK.MatchString(n.text)) { // wherever it was pasted
			line = n.line
		}
	})
	if line > 0 {
		return private(line)
	}
	found = found.At(opts.Source, 0, "")
	at := func(n *node, field string, f ...Finding) Findings { return Findings(f).At(opts.Source, n.line, field) }
	switch {
	case root.name != rootRegister && root.name != rootDeregister:
		return nil, append(found, at(root, root.name, Finding{Code: "REG-ELEMENT", Severity: Error, What: fmt.Sprintf("the root element is <%s>", root.name),
			Fix: "it is <" + rootRegister + ">, or <" + rootDeregister + "> to take a service out"})...)
	case root.child(oldFormat) != nil:
		return nil, append(found, at(root.child(oldFormat), oldFormat, Finding{Code: "REG-ALTFORMAT", Severity: Error,
			What: "this is the form that was valid until early 2026", Fix: "write a new one with `adv-server federation register`: scopes are a list now, fachdienstname and redirect_uris are new"})...)
	}
	r := &Registration{Deregister: root.name == rootDeregister, source: opts.Source, lines: map[string]int{}}
	opts.deregister = r.Deregister
	found = append(found, checkOrder(root, elements(r.Deregister), at)...)
	if !bytes.HasPrefix(bytes.TrimPrefix(b, []byte("\ufeff")), []byte("<?xml")) {
		found = append(found, at(root, "", Finding{Code: "REG-XML", Severity: Warning, What: "the XML declaration is missing", Fix: `begin the file with <?xml version="1.0" encoding="UTF-8"?>`})...)
	}
	for _, c := range root.children {
		r.lines[c.name] = c.line
	}
	fields := textFields
	if r.Deregister {
		fields = deregisterFields
	}
	for _, f := range fields {
		if c := root.child(f.Name); c != nil {
			f.Set(r, c.text)
		}
	}
	for _, f := range fields {
		c := root.child(f.Name)
		if c == nil {
			continue
		}
		if len(c.children) > 0 {
			found = append(found, at(c, f.Name, Finding{Code: "REG-ELEMENT", Severity: Error, What: fmt.Sprintf("<%s> contains elements", f.Name), Fix: "it holds text only"})...)
		}
		if f.Name != "fachdiensturi" && c.text != strings.TrimSpace(c.text) {
			found = append(found, at(c, f.Name, Finding{Code: "REG-LEERRAUM", Severity: Error, What: "white space at the beginning or the end", Fix: "remove it: values are compared exactly"})...)
			f.Set(r, strings.TrimSpace(c.text))
		}
		found = append(found, at(c, f.Name, f.Check(ruleContext{opts, r}, strings.TrimSpace(c.text))...)...)
		if f.Name == "fachdiensturi" && c.text != strings.TrimSpace(c.text) {
			found = append(found, at(c, f.Name, checkURI(ruleContext{}, c.text)...)...)
		}
	}
	if r.Deregister {
		return r, found
	}
	for _, l := range listFields {
		c := root.child(l.Name)
		if c == nil {
			continue
		}
		if strings.TrimSpace(c.text) != "" {
			found = append(found, at(c, l.Name, Finding{Code: "REG-ELEMENT", Severity: Error, What: fmt.Sprintf("<%s> contains text", l.Name), Fix: "write each value in a <" + l.Item + "> of its own"})...)
		}
		var values []string
		var lines []int
		for _, item := range c.children {
			if item.name != l.Item {
				found = append(found, at(item, l.Name, Finding{Code: "REG-ELEMENT", Severity: Error, What: fmt.Sprintf("<%s> does not belong into <%s>", item.name, l.Name), Fix: "use <" + l.Item + ">"})...)
				continue
			}
			if l.Name == "publickeysjwt" {
				key, f := parseKey(item, at)
				r.Keys = append(r.Keys, key)
				found = append(found, f...)
				continue
			}
			v, f := leafText(item, at)
			found = append(found, f...)
			values, lines = append(values, v), append(lines, item.line)
			r.lines[l.Name+"/"+v] = item.line
		}
		switch l.Name {
		case "scopes":
			r.Scopes = values
			found = append(found, at(c, l.Name, checkScopes(values, lines)...)...)
		case "claims":
			r.Claims = values
			found = append(found, at(c, l.Name, checkClaims(values, lines, r.Scopes)...)...)
		case "redirect_uris":
			r.RedirectURIs = values
			found = append(found, at(c, l.Name, checkRedirects(values, lines)...)...)
		case "publickeysjwt":
			if len(r.Keys) == 0 {
				found = append(found, at(c, l.Name, Finding{Code: "REG-KEY-LEER", Severity: Error, What: "no key is given", Fix: "name the keys of jwks.keys in the Entity Statement"})...)
			}
			for i, k := range r.Keys {
				if k.KID != "" && slices.ContainsFunc(r.Keys[:i], func(o PublicKey) bool { return o.KID == k.KID }) {
					found = append(found, at(c, l.Name, Finding{Code: "REG-KID-DOPPELT", Severity: Error, What: fmt.Sprintf("kid %q stands there twice", k.KID), Fix: "each kid names one key"})...)
				}
			}
		}
	}
	return r, found
}

// leafText returns the text of an element that holds nothing else, without white space around it: values are compared exactly.
func leafText(n *node, at func(*node, string, ...Finding) Findings) (string, Findings) {
	var found Findings
	if len(n.children) > 0 {
		found = at(n, n.name, Finding{Code: "REG-ELEMENT", Severity: Error, What: fmt.Sprintf("<%s> contains elements", n.name), Fix: "it holds text only"})
	}
	v := strings.TrimSpace(n.text)
	if v != n.text && v != "" {
		found = append(found, at(n, n.name, Finding{Code: "REG-LEERRAUM", Severity: Error, What: "white space at the beginning or the end", Fix: "remove it: values are compared exactly"})...)
	}
	return v, found
}

// checkOrder finds unknown, repeated, missing and misplaced elements. The form is an xs:sequence: the order matters.
func checkOrder(root *node, names []string, at func(*node, string, ...Finding) Findings) (found Findings) {
	last := -1
	seen := map[string]bool{}
	for _, c := range root.children {
		i := slices.Index(names, c.name)
		report := func(what, fix string) {
			found = append(found, at(c, c.name, Finding{Code: "REG-ELEMENT", Severity: Error, What: what, Fix: fix})...)
		}
		switch {
		case i < 0:
			report(fmt.Sprintf("<%s> does not belong into the form", c.name), "remove it; the elements are: "+strings.Join(names, ", "))
		case seen[c.name]:
			report(fmt.Sprintf("<%s> stands there twice", c.name), "keep one")
		case i < last:
			report(fmt.Sprintf("<%s> stands after <%s>", c.name, names[last]), "keep the order: "+strings.Join(names, ", "))
		default:
			last = i
		}
		seen[c.name] = true
	}
	for _, n := range names {
		if !seen[n] {
			found = append(found, at(root, n, Finding{Code: "REG-FELD-FEHLT", Severity: Error, What: fmt.Sprintf("<%s> is missing", n), Fix: "keep every element, an empty one as <" + n + "/>"})...)
		}
	}
	return found
}

// parseKey reads a pair of kid and key.
func parseKey(n *node, at func(*node, string, ...Finding) Findings) (key PublicKey, found Findings) {
	key.line = n.line
	found = checkOrder(n, []string{"kid", "key"}, at)
	if strings.TrimSpace(n.text) != "" {
		found = append(found, at(n, n.name, Finding{Code: "REG-ELEMENT", Severity: Error, What: fmt.Sprintf("<%s> contains text", n.name), Fix: "write kid and key into elements of their own"})...)
	}
	if k := n.child("kid"); k != nil {
		var f Findings
		key.KID, f = leafText(k, at)
		found = append(found, f...)
		if key.KID == "" {
			found = append(found, at(k, "kid", Finding{Code: "REG-KID-LEER", Severity: Error, What: "the kid is missing", Fix: "copy it from the header of the Entity Statement"})...)
		} else {
			found = append(found, at(k, "kid", checkKID("REG", key.KID)...)...)
		}
	}
	if k := n.child("key"); k != nil {
		if len(k.children) > 0 {
			found = append(found, at(k, "key", Finding{Code: "REG-ELEMENT", Severity: Error, What: "<key> contains elements", Fix: "it holds text only"})...)
		}
		var f *Finding
		if key.Key, f = parsePEM(k.text); f != nil {
			found = append(found, at(k, "key", *f)...)
		}
	}
	return key, found
}

// privateMark stands in every PEM of a private key, privateJWK is the private part of a JSON Web Key.
const privateMark = "PRIVATE KEY-----"

var privateJWK = regexp.MustCompile(`"[dk]"\s*:`)

// privateKey is the finding that stops everything. It repeats nothing of the key.
func privateKey() Finding {
	return Finding{Code: "REG-KEY-PRIVAT", Severity: Error, What: "this is a PRIVATE key",
		Fix: "do not send or store this file; make a new key at once, for this one is disclosed, and put the PUBLIC key here"}
}

// isPrivate says whether der is a private key.
func isPrivate(der []byte) bool {
	_, err1 := x509.ParsePKCS8PrivateKey(der)
	_, err2 := x509.ParseECPrivateKey(der)
	_, err3 := x509.ParsePKCS1PrivateKey(der)
	return err1 == nil || err2 == nil || err3 == nil
}

// holdsPrivateKey says whether a file, or the text of an element, is or holds a private key: PEM, DER, the base64 of that without
// its PEM, or a JSON Web Key.
func holdsPrivateKey(b []byte) bool {
	if bytes.Contains(b, []byte(privateMark)) || isPrivate(b) {
		return true
	}
	t := bytes.TrimSpace(bytes.TrimPrefix(b, []byte("\ufeff")))
	if bytes.HasPrefix(t, []byte("{")) || bytes.HasPrefix(t, []byte("[")) {
		return privateJWK.Match(t) && bytes.Contains(t, []byte(`"kty"`))
	}
	return slices.ContainsFunc(pemMark.Split(string(t), -1), func(body string) bool {
		body = strings.NewReplacer("-", "+", "_", "/", "=", "").Replace(body)
		der, err := base64.RawStdEncoding.DecodeString(strings.Join(strings.Fields(body), ""))
		return err == nil && isPrivate(der)
	})
}

// pemMark is a line that begins or ends a PEM block, whatever it says is in it.
var pemMark = regexp.MustCompile(`-----(BEGIN|END) [A-Z0-9 ]*-----`)

const pemBegin, pemEnd = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"

// parsePEM reads a public key whose PEM may have lost its lines: the office's template prints it on one line with runs of
// blanks, which encoding/pem refuses.
func parsePEM(text string) (*ecdsa.PublicKey, *Finding) {
	form := func(what string) (*ecdsa.PublicKey, *Finding) {
		return nil, &Finding{Code: "REG-KEY-PEM", Severity: Error, What: what, Fix: "put the whole PEM here, from " + pemBegin + " to " + pemEnd + "; `adv-server federation register` writes it from the Entity Statement"}
	}
	text = strings.TrimSpace(text)
	body, ok := strings.CutPrefix(text, pemBegin)
	body, ok2 := strings.CutSuffix(body, pemEnd)
	if !ok || !ok2 {
		return form("the text is not one PEM block PUBLIC KEY")
	}
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(body), ""))
	if err != nil {
		return form("the PEM's base64 is damaged: " + err.Error())
	}
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return form("the PEM contains no public key: " + err.Error())
	}
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, &Finding{Code: "REG-KEY-KURVE", Severity: Error, What: "the key is not an elliptic-curve key on P-256", Fix: "Entity Statements are signed with P-256 (A_23196): make such a key"}
	}
	return key, nil
}

// WriteXML writes the form as the office's template has it, each PEM on one line.
func WriteXML(w io.Writer, r *Registration) error {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	leaf := func(indent, name, value string) {
		if value == "" {
			fmt.Fprintf(&b, "%s<%s/>\n", indent, name)
			return
		}
		fmt.Fprintf(&b, "%s<%s>", indent, name)
		escape(&b, value)
		fmt.Fprintf(&b, "</%s>\n", name)
	}
	list := func(name, item string, values []string) {
		if len(values) == 0 {
			leaf("  ", name, "")
			return
		}
		fmt.Fprintf(&b, "  <%s>\n", name)
		for _, v := range values {
			leaf("    ", item, v)
		}
		fmt.Fprintf(&b, "  </%s>\n", name)
	}
	if r.Deregister {
		fmt.Fprintf(&b, "<%s>\n", rootDeregister)
		leaf("  ", "betriebsumgebung", string(r.Environment))
		leaf("  ", "memberid", r.MemberID)
		leaf("  ", "fachdiensturi", r.ServiceURI)
		leaf("  ", "grund", r.Reason)
		fmt.Fprintf(&b, "</%s>\n", rootDeregister)
		_, err := w.Write(b.Bytes())
		return err
	}
	fmt.Fprintf(&b, "<%s>\n", rootRegister)
	for i, v := range []string{r.Type, string(r.Environment), r.ContactEmail, r.VFS, r.Group, r.MemberID, r.OrganisationName, r.ServiceName, r.ServiceURI} {
		leaf("  ", textFields[i].Name, v)
	}
	list("scopes", "scope", r.Scopes)
	list("claims", "claim", r.Claims)
	list("redirect_uris", "redirect_uri", r.RedirectURIs)
	b.WriteString("  <publickeysjwt>\n")
	for _, k := range r.Keys {
		text, err := publicPEM(k.Key)
		if err != nil {
			return fmt.Errorf("key %q: %w", k.KID, err)
		}
		b.WriteString("    <publickey>\n")
		leaf("      ", "kid", k.KID)
		fmt.Fprintf(&b, "      <key>%s</key>\n    </publickey>\n", text)
	}
	fmt.Fprintf(&b, "  </publickeysjwt>\n</%s>\n", rootRegister)
	_, err := w.Write(b.Bytes())
	return err
}

// escape writes text with what XML reserves replaced.
func escape(b *bytes.Buffer, s string) {
	// The error of EscapeText is that of the writer, and this one has none.
	_ = xml.EscapeText(b, []byte(s))
}

// pemBreak stands for a line end where the office's template prints a PEM: twelve blanks.
const pemBreak = "            "

// publicPEM is the key as PEM on one line, as the office's template prints it.
func publicPEM(key *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", err
	}
	lines := strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	return strings.ReplaceAll(lines, "\n", pemBreak), nil
}
