package persona

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
)

// Person is the content of EF.PD.
type Person struct {
	KVNR         string   `json:"kvnr"`
	Birth        string   `json:"birth"` // YYYYMMDD, month and day may be 00
	Given        string   `json:"given"`
	Surname      string   `json:"surname"`
	Sex          string   `json:"sex"` // M, W, X, D
	NameParticle string   `json:"nameParticle"`
	NameAffix    string   `json:"nameAffix"`
	Title        string   `json:"title"`
	POBox        *Address `json:"poBox"`
	Address      *Address `json:"address"`
}

// Address is a street or a post-office box.
type Address struct {
	Zip     string `json:"zip"`
	City    string `json:"city"`
	Country string `json:"country"`
	Street  string `json:"street"`
	Number  string `json:"number"`
	Extra   string `json:"extra"`
	Box     string `json:"box"`
}

// Insurer is a Kostenträger.
type Insurer struct {
	IK      string `json:"ik"`
	Name    string `json:"name"`
	Country string `json:"country"`
}

// Insurance is the content of EF.VD besides the insurer.
type Insurance struct {
	Begin   string   `json:"begin"` // YYYYMMDD
	End     string   `json:"end"`
	Kind    string   `json:"kind"` // Versichertenart 1, 3, 5
	WOP     string   `json:"wop"`
	Billing *Insurer `json:"billing"`
	Refund  *Refund  `json:"refund"`
}

// Refund is the Kostenerstattung: "0" or "1" each.
type Refund struct {
	Medical  string `json:"medical"`
	Dental   string `json:"dental"`
	Hospital string `json:"hospital"`
	Induced  string `json:"induced"`
}

// Protected is the content of EF.GVD.
type Protected struct {
	Exempt    string     `json:"exempt"` // "0", "1"
	Until     string     `json:"until"`
	Group     string     `json:"group"`
	DMP       string     `json:"dmp"`
	Contracts Contracts  `json:"contracts"`
	Suspended *Suspended `json:"suspended"`
}

// Contracts are the Selektivverträge.
type Contracts struct {
	Medical string `json:"medical"`
	Dental  string `json:"dental"`
	Kind    string `json:"kind"`
}

// Suspended is the RuhenderLeistungsanspruch.
type Suspended struct {
	Begin string `json:"begin"`
	End   string `json:"end"`
	Kind  string `json:"kind"` // 1 complete, 2 limited
}

// element is a piece of XML: a text or children. Without either it is left out.
type element struct {
	name string
	text string
	kids []element
}

func leaf(name, text string) element            { return element{name: name, text: text} }
func node(name string, kids ...element) element { return element{name: name, kids: kids} }

func (e element) empty() bool {
	for _, k := range e.kids {
		if !k.empty() {
			return false
		}
	}
	return e.text == ""
}

var escapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

func (e element) write(b *strings.Builder, prefix string) {
	if e.empty() {
		return
	}
	fmt.Fprintf(b, "<%s%s>%s", prefix, e.name, escapes.Replace(e.text))
	for _, k := range e.kids {
		k.write(b, prefix)
	}
	fmt.Fprintf(b, "</%s%s>", prefix, e.name)
}

// document writes a whole VSD document, schema 5.2.
func (p *Persona) document(root string, kids ...element) string {
	const namespace = "http://ws.gematik.de/fa/vsdm/vsd/v5.2"
	prefix, xmlns := "", "xmlns"
	if p.XMLPrefix != "" {
		prefix, xmlns = p.XMLPrefix+":", "xmlns:"+p.XMLPrefix
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<?xml version="1.0" encoding="ISO-8859-15" standalone="yes"?><%s%s CDM_VERSION="5.2.0" %s="%s">`, prefix, root, xmlns, namespace)
	for _, k := range kids {
		k.write(&b, prefix)
	}
	fmt.Fprintf(&b, "</%s%s>", prefix, root)
	return b.String()
}

func country(code string) element { return node("Land", leaf("Wohnsitzlaendercode", code)) }

func (p *Persona) personXML() string {
	x := p.Person
	person := []element{
		leaf("Geburtsdatum", x.Birth), leaf("Vorname", x.Given), leaf("Nachname", x.Surname), leaf("Geschlecht", x.Sex),
		leaf("Vorsatzwort", x.NameParticle), leaf("Namenszusatz", x.NameAffix), leaf("Titel", x.Title),
	}
	if a := x.POBox; a != nil {
		person = append(person, node("PostfachAdresse", leaf("Postleitzahl", a.Zip), leaf("Ort", a.City), leaf("Postfach", a.Box), country(a.Country)))
	}
	if a := x.Address; a != nil {
		person = append(person, node("StrassenAdresse", leaf("Postleitzahl", a.Zip), leaf("Ort", a.City), country(a.Country),
			leaf("Strasse", a.Street), leaf("Hausnummer", a.Number), leaf("Anschriftenzusatz", a.Extra)))
	}
	return p.document("UC_PersoenlicheVersichertendatenXML", node("Versicherter", leaf("Versicherten_ID", x.KVNR), node("Person", person...)))
}

func (i Insurer) elements() []element {
	return []element{leaf("Kostentraegerkennung", i.IK), leaf("Kostentraegerlaendercode", i.Country), leaf("Name", i.Name)}
}

func (p *Persona) insuranceXML() string {
	x := p.Insurance
	payer := p.Insurer.elements()
	if x.Billing != nil {
		payer = append(payer, node("AbrechnenderKostentraeger", x.Billing.elements()...))
	}
	var settle []element
	if r := x.Refund; r != nil {
		settle = append(settle, node("Kostenerstattung", leaf("AerztlicheVersorgung", r.Medical), leaf("ZahnaerztlicheVersorgung", r.Dental),
			leaf("StationaererBereich", r.Hospital), leaf("VeranlassteLeistungen", r.Induced)))
	}
	settle = append(settle, leaf("WOP", x.WOP))
	return p.document("UC_AllgemeineVersicherungsdatenXML", node("Versicherter",
		node("Versicherungsschutz", leaf("Beginn", x.Begin), leaf("Ende", x.End), node("Kostentraeger", payer...)),
		node("Zusatzinfos", node("ZusatzinfosGKV", leaf("Versichertenart", x.Kind), node("Zusatzinfos_Abrechnung_GKV", settle...))),
	))
}

func (p *Persona) protectedXML() string {
	x := p.Protected
	kids := []element{
		node("Zuzahlungsstatus", leaf("Status", x.Exempt), leaf("Gueltig_bis", x.Until)),
		leaf("BesonderePersonengruppe", x.Group), leaf("DMP_Kennzeichnung", x.DMP),
		node("Selektivvertraege", leaf("Aerztlich", x.Contracts.Medical), leaf("Zahnaerztlich", x.Contracts.Dental), leaf("Art", x.Contracts.Kind)),
	}
	if s := x.Suspended; s != nil {
		kids = append(kids, node("RuhenderLeistungsanspruch", leaf("Beginn", s.Begin), leaf("Ende", s.End), leaf("ArtDesRuhens", s.Kind)))
	}
	return p.document("UC_GeschuetzteVersichertendatenXML", kids...)
}

// latin9Only are the letters of ISO-8859-15 that are not those of ISO-8859-1.
var latin9Only = map[rune]byte{'€': 0xA4, 'Š': 0xA6, 'š': 0xA8, 'Ž': 0xB4, 'ž': 0xB8, 'Œ': 0xBC, 'œ': 0xBD, 'Ÿ': 0xBE}

// latin9 encodes ISO-8859-15.
func latin9(s string) ([]byte, error) {
	out := make([]byte, 0, len(s))
	for _, r := range s {
		b, ok := latin9Only[r]
		switch {
		case ok:
		case r > 0xFF, bytes.IndexByte([]byte("\xA4\xA6\xA8\xB4\xB8\xBC\xBD\xBE"), byte(r)) >= 0:
			return nil, fmt.Errorf("%q is not in ISO-8859-15", r)
		default:
			b = byte(r)
		}
		out = append(out, b)
	}
	return out, nil
}

// packed compresses a document as the card stores it.
func packed(doc string) ([]byte, error) {
	text, err := latin9(doc)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(text); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
