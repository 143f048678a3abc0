// Package persona makes simulated health cards from persona files: an invented
// person, an insurer, the generation of the card, the states of its PINs and
// applications, and what is wrong with it. Certificates and keys come from the
// test PKI.
package persona

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"ktradv/hw/sim/card"
	"ktradv/hw/sim/card/objsys"
	"ktradv/internal/brainpool"
	"ktradv/internal/testpki"
)

//go:embed personas/*.json
var files embed.FS

// The secrets of every persona that does not say otherwise.
const (
	PIN = "123456"
	PUK = "12345678"
	CAN = "123123"
)

// Info describes a persona for a person who chooses one.
type Info struct {
	ID          string // stable: part of the control panel's interface
	Title       string
	Description string
	Generation  string // "G2" or "G2.1"
	ICCSN       string
	KVNR        string
	IK          string // of the insurer
	Name        string // of the insured person
	PIN         string // what the person would type
	WrongWay    bool   // the reader feels the card but cannot reach its contacts
}

// Persona is the content of a persona file.
type Persona struct {
	ID             string      `json:"id"`
	Title          string      `json:"title"`
	Description    string      `json:"description"`
	Generation     string      `json:"generation"` // "G2", "G2.1"
	ICCSN          string      `json:"iccsn"`      // 20 digits
	Person         Person      `json:"person"`
	Insurer        Insurer     `json:"insurer"`
	Insurance      Insurance   `json:"insurance"`
	Protected      Protected   `json:"protected"`
	UpdatedDaysAgo int         `json:"updatedDaysAgo"` // age of the insured data
	Log            []LogEntry  `json:"log"`            // newest first
	PINState       PINState    `json:"pin"`
	Certificate    Certificate `json:"certificate"`
	WrongKey       bool        `json:"wrongKey"`      // PrK.eGK.AUT_CVC does not belong to the certificate
	ForeignRoot    bool        `json:"foreignRoot"`   // CV certificates of another root
	Deactivate     []string    `json:"deactivate"`    // paths of folders
	OtherCard      string      `json:"otherCard"`     // "SMC-B": not an eGK at all
	NoATR          bool        `json:"noATR"`         // does not answer to reset
	WrongWay       bool        `json:"wrongWay"`      // and that because it was put in the wrong way
	Damage         string      `json:"damage"`        // "EF.PD", "EF.VD" or "EF.GVD": compressed data cut short
	CopyProtected  bool        `json:"copyProtected"` // EF.VD carries the old copy of the protected data
	XMLPrefix      string      `json:"xmlPrefix"`     // namespace prefix in the insured data, "": none
}

// PINState changes the state of PIN.CH.
type PINState struct {
	Tries     *int   `json:"tries"`     // retry counter, not set: 3
	PUKUses   *int   `json:"pukUses"`   // not set: 10
	Transport string `json:"transport"` // transport PIN of five digits
}

// Certificate changes the X.509 certificates.
type Certificate struct {
	ExpiredDays int  `json:"expiredDays"` // ran out so many days ago
	Revoked     bool `json:"revoked"`     // the responder of the test PKI knows
}

// LogEntry is one record of EF.Logging.
type LogEntry struct {
	DaysAgo int    `json:"daysAgo"`
	Minute  int    `json:"minute"` // of that day, UTC
	Type    string `json:"type"`   // one letter
	Access  string `json:"access"` // one letter
	Actor   string `json:"actor"`  // ICCSN
	Name    string `json:"name"`
}

// order is the order in which the control panel shows the personas.
var order = []string{
	"healthy-g21", "healthy-g2", "copied-card", "foreign-root", "pin-blocked", "puk-used-up", "health-app-locked",
	"cert-expired", "cert-revoked", "insurer-without-smb", "transport-pin", "not-an-egk", "mute", "wrong-way", "damaged-vsd",
}

// Read reads a persona file.
func Read(b []byte) (*Persona, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var p Persona
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("persona file: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("persona file: something follows the persona")
	}
	return &p, nil
}

// Find returns the built-in persona with that identifier.
func Find(id string) (*Persona, error) {
	if !slices.Contains(order, id) {
		return nil, fmt.Errorf("no persona %.40q", id)
	}
	b, err := files.ReadFile("personas/" + id + ".json")
	if err != nil {
		return nil, fmt.Errorf("persona %q: %w", id, err)
	}
	return Read(b)
}

// List describes the built-in personas. They are part of the program, so
// there is no error a caller could act on; a test reads them all.
func List() []Info {
	var out []Info
	for _, id := range order {
		if p, err := Find(id); err == nil {
			out = append(out, p.Info())
		}
	}
	return out
}

// Info describes the persona.
func (p *Persona) Info() Info {
	i := Info{
		ID: p.ID, Title: p.Title, Description: p.Description, Generation: p.Generation, ICCSN: p.ICCSN, KVNR: p.Person.KVNR,
		IK: p.Insurer.IK, Name: p.Person.Given + " " + p.Person.Surname, PIN: PIN, WrongWay: p.WrongWay,
	}
	if p.PINState.Transport != "" {
		i.PIN = p.PINState.Transport
	}
	return i
}

// Build makes the card of a built-in persona, with certificates around now.
func Build(id string, pki *testpki.PKI, now time.Time) (*card.Card, error) {
	p, err := Find(id)
	if err != nil {
		return nil, err
	}
	return p.Card(pki, now, card.Config{})
}

// Card personalises a card. The generator of cfg is also the source of the
// keys that the test PKI does not issue.
func (p *Persona) Card(pki *testpki.PKI, now time.Time, cfg card.Config) (*card.Card, error) {
	sys, err := p.system(pki, now, cfg.Rand)
	if err != nil {
		return nil, fmt.Errorf("persona %q: %w", p.ID, err)
	}
	c, err := card.New(sys, cfg)
	if err != nil {
		return nil, fmt.Errorf("persona %q: %w", p.ID, err)
	}
	c.SetFaults(card.Faults{NoATR: p.NoATR})
	return c, nil
}

func (p *Persona) system(pki *testpki.PKI, now time.Time, random io.Reader) (*card.System, error) {
	build := map[string]func() (*card.System, error){"G2": objsys.G2, "G2.1": objsys.G21}[p.Generation]
	if build == nil {
		return nil, fmt.Errorf("unknown generation %q", p.Generation)
	}
	sys, err := build()
	if err != nil {
		return nil, err
	}
	iccsn, err := bcd(p.ICCSN, 10)
	if err != nil {
		return nil, fmt.Errorf("iccsn: %w", err)
	}
	copy(sys.ICCSN8[:], iccsn[2:])

	order := testpki.EGK{
		ICCSN: p.ICCSN, KVNR: p.Person.KVNR, IK: p.Insurer.IK, InsurerName: p.Insurer.Name, Title: p.Person.Title,
		GivenName: p.Person.Given, Surname: p.Person.Surname, Foreign: p.ForeignRoot, Revoked: p.Certificate.Revoked, RSA: p.Generation == "G2",
	}
	if n := p.Certificate.ExpiredDays; n > 0 {
		order.NotBefore, order.NotAfter = now.AddDate(-5, 0, -n), now.AddDate(0, 0, -n)
	}
	id, err := pki.IssueEGK(order)
	if err != nil {
		return nil, err
	}
	if sys.PointInTime, _, err = card.CertificateDates(id.CVC.Certificate); err != nil {
		return nil, fmt.Errorf("certificate of the card: %w", err)
	}

	w := &writer{root: sys.Root, random: random}
	w.common(p, iccsn)
	w.secrets(p)
	root := pki.Root.Certificate
	if p.ForeignRoot {
		root = pki.ForeignRoot.Certificate
	}
	w.keys(p, id, root)
	w.insured(p, now)
	w.log(p, now)
	if w.err != nil {
		return nil, w.err
	}
	for _, path := range p.Deactivate {
		f, ok := sys.Root.Lookup(path).(*card.Folder)
		if !ok {
			return nil, fmt.Errorf("no folder %q to deactivate", path)
		}
		f.State = card.Deactivated
	}
	if p.OtherCard != "" {
		if err := w.otherCard(p.OtherCard, sys); err != nil {
			return nil, err
		}
	}
	return sys, nil
}

// newKey makes a key that belongs to nobody else.
func (w *writer) newKey() *brainpool.PrivateKey {
	k, err := brainpool.GenerateKey(brainpool.P256r1(), w.random)
	w.fail(err)
	return k
}
