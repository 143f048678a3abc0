package federation

import (
	"fmt"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Environment is a Betriebsumgebung of the Federation Master.
type Environment string

// The environments (FED-06).
const (
	RU Environment = "RU" // Referenzumgebung
	TU Environment = "TU" // Testumgebung
	PU Environment = "PU" // Produktivumgebung
)

// masters are the Federation Masters by environment.
var masters = map[Environment]string{
	RU: "https://app-ref.federationmaster.de",
	TU: "https://app-test.federationmaster.de",
	PU: "https://app.federationmaster.de",
}

// Master is the address of the environment's Federation Master, "" for an unknown environment.
func (e Environment) Master() string { return masters[e] }

// environments are the known ones in the order of a service's life.
var environments = []Environment{RU, TU, PU}

const (
	// ParticipantType is the only teilnehmertyp of this form (FED-05).
	ParticipantType = "Fachdienst"
	// Office is the address of the registration office (FED-25).
	Office = "idp-registrierung@gematik.de"
	// DiGAGroup is the preset zuweisungsgruppe of every DiGA (FED-10).
	DiGAGroup = "ORG-0229:BT-0170"
	// oldGroup stood in the form before; the office takes it no more.
	oldGroup = "ORG-0001:BT-0144"
	// ReasonUnused is the one reason for a deregistration that is known to be accepted; a list is not public.
	ReasonUnused = "Ungenutzt"
)

// Times of an Entity Statement and its keys.
const (
	MaxLifetime = 24 * time.Hour       // exp - iat at most (A_23034)
	MaxKeyAge   = 398 * 24 * time.Hour // a key is used at most this long (A_23185-01)
	KeyNotice   = 24 * time.Hour       // a new key is known this long before it signs (A_24607)
	leeway      = time.Minute          // of clocks; decided here
)

// Scopes are the scopes a service may ask for with the claims that each delivers (A_22989-01, A_23036-02; FED-17).
var Scopes = map[string][]string{
	"openid":                     {},
	"urn:telematik:versicherter": {"urn:telematik:claims:profession", "urn:telematik:claims:id", "urn:telematik:claims:organization"},
	"urn:telematik:display_name": {"urn:telematik:claims:display_name"},
	"urn:telematik:given_name":   {"urn:telematik:claims:given_name"},
	"urn:telematik:family_name":  {"urn:telematik:claims:family_name"},
	"urn:telematik:geburtsdatum": {"birthdate"},
	"urn:telematik:alter":        {"urn:telematik:claims:alter"},
	"urn:telematik:geschlecht":   {"urn:telematik:claims:geschlecht"},
	"urn:telematik:email":        {"urn:telematik:claims:email"},
}

// knownClaim says whether a scope delivers the claim.
func knownClaim(claim string) bool {
	for _, cs := range Scopes {
		if slices.Contains(cs, claim) {
			return true
		}
	}
	return false
}

// Kind of service, as far as rules differ.
type Kind string

// The kinds. The zero value leaves the rules out that depend on it.
const (
	DiGA  Kind = "diga"
	Other Kind = "other"
)

// Purpose of a registration XML.
type Purpose int

// The purposes.
const (
	First  Purpose = iota // first registration of the service in the environment
	Change                // change of registered data (FED-27, FED-28)
)

// Patterns. namePattern is the office's own (FED-12, FED-13); RE2 judges it as Java's matches() does. The others are
// inferred from published examples.
var (
	namePattern   = regexp.MustCompile(`^[ÄÖÜäöüß\w\ \-\.\&\+\*\/]*$`)
	nameChar      = regexp.MustCompile(`^[ÄÖÜäöüß\w\ \-\.\&\+\*\/]$`)
	groupPattern  = regexp.MustCompile(`^ORG-\d{4}:BT-\d{4}$`)
	memberPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	vfsPattern    = regexp.MustCompile(`^VFS_[A-Za-z0-9_.-]{1,128}$`)
)

const maxName = 128 // characters of a name

// ruleContext is what the rule of one field may look at.
type ruleContext struct {
	opts XMLOptions
	reg  *Registration
}

// fieldRule is the rule of one element of the XML whose content is text.
type fieldRule struct {
	Name  string
	Set   func(r *Registration, v string)
	Check func(c ruleContext, v string) []Finding
}

func bad(code Code, what, fix string) []Finding {
	return []Finding{{Code: code, Severity: Error, What: what, Fix: fix}}
}

func odd(code Code, what, fix string) []Finding {
	return []Finding{{Code: code, Severity: Warning, What: what, Fix: fix}}
}

func checkType(_ ruleContext, v string) []Finding {
	if v == ParticipantType {
		return nil
	}
	return bad("REG-TYP", fmt.Sprintf("the value is %q", v), "write "+ParticipantType+", the only value of this form")
}

func checkEnvironment(c ruleContext, v string) []Finding {
	if Environment(v).Master() == "" {
		return bad("REG-ENV", fmt.Sprintf("%q is no environment", v), "write RU, TU or PU in upper case")
	}
	if Environment(v) == PU && !c.opts.TURegistered {
		return []Finding{{Code: "REG-TU-ZUERST", Severity: Info, What: "a registration in PU needs one in TU before", Fix: "register the service in TU first if that was not done"}}
	}
	return nil
}

func checkMail(_ ruleContext, v string) []Finding {
	if v == "" {
		return odd("REG-MAIL-LEER", "no address for questions about the registration is given", "name an address that somebody reads")
	}
	a, err := mail.ParseAddress(v)
	if err != nil || a.Address != v || !strings.Contains(v[strings.LastIndexByte(v, '@')+1:], ".") {
		return bad("REG-MAIL-FORM", fmt.Sprintf("%q is not one plain e-mail address", v), "write one address without a name, for example support@example.com")
	}
	return nil
}

func checkVFS(c ruleContext, v string) []Finding {
	switch {
	case v == "" && c.reg.Environment == PU:
		return bad("REG-VFS-FEHLT", "PU needs the key of gematik's approval", "copy the key, beginning with VFS_, exactly from the approval")
	case v != "" && !vfsPattern.MatchString(v):
		return bad("REG-VFS-FORM", fmt.Sprintf("%q does not begin with VFS_ or contains other characters than letters, digits and _.-", v), "copy the key exactly from the approval")
	}
	return nil
}

func checkGroup(c ruleContext, v string) []Finding {
	switch {
	case !groupPattern.MatchString(v):
		return bad("REG-ZWG-FORM", fmt.Sprintf("%q is not of the form ORG-nnnn:BT-nnnn", v), "a DiGA writes "+DiGAGroup+", others their own group in the TI-ITSM")
	case c.opts.Kind == DiGA && v != DiGAGroup:
		return bad("REG-ZWG-DIGA", "a DiGA must not change the preset group", "write "+DiGAGroup)
	case v == oldGroup:
		return odd("REG-ZWG-ALT", "this group stood in a former form", "a DiGA writes "+DiGAGroup+", others their own group in the TI-ITSM")
	case c.opts.Kind == Other && v == DiGAGroup:
		return odd("REG-ZWG-DIGA", "this is the preset group of DiGA", "write your own group in the TI-ITSM, incidents go there")
	}
	return nil
}

func checkMember(c ruleContext, v string) []Finding {
	if v == "" {
		f := odd("REG-MEMBER-LEER", "the Member-ID is missing", "ask "+Office+" for it before the first registration")
		if c.opts.Purpose == Change || c.opts.deregister {
			f[0].Severity, f[0].Fix = Error, "write the Member-ID of the first registration"
		}
		return f
	}
	if !memberPattern.MatchString(v) {
		return bad("REG-MEMBER-FORM", fmt.Sprintf("%q is not made of letters, digits, - and _ (it is also the name of the file)", v), "copy the Member-ID from the office's answer")
	}
	var found []Finding
	if c.opts.FileName != "" && c.opts.FileName != v+".xml" {
		judge := odd // the name counts on the attachment alone
		if c.opts.Sent {
			judge = bad
		}
		found = append(found, judge("REG-MEMBER-DATEI", fmt.Sprintf("the file is called %s", c.opts.FileName), "call it "+v+".xml: the office wants the Member-ID as the name of what is sent (FED-25)")...)
	}
	for _, e := range environments {
		if strings.HasSuffix(v, string(e)) && c.reg.Environment != "" && e != c.reg.Environment {
			found = append(found, odd("REG-MEMBER-ENV", fmt.Sprintf("the Member-ID ends with %s, the environment is %s", e, c.reg.Environment), "check that this is the Member-ID of the environment")...)
		}
	}
	if before := c.opts.Registered; (c.opts.Purpose == Change || c.opts.deregister) && before != nil && before.MemberID != "" && before.MemberID != v {
		found = append(found, bad("REG-MEMBER-ANDERS", fmt.Sprintf("%q here, the registration was made with %q", v, before.MemberID), "a change or deregistration keeps the Member-ID of the registration")...)
	}
	return found
}

// checkName judges a name; empty is refused although the pattern of organisationsname allows it: the text demands a value.
func checkName(kind string) func(ruleContext, string) []Finding {
	return func(_ ruleContext, v string) []Finding {
		if v == "" {
			return bad(Code("REG-"+kind+"-LEER"), "the name is missing", "write the name exactly as in the Entity Statement")
		}
		var found []Finding
		if n := utf8.RuneCountInString(v); n > maxName {
			found = bad(Code("REG-"+kind+"-LANG"), fmt.Sprintf("the name has %d characters", n), fmt.Sprintf("use at most %d, also in the Entity Statement", maxName))
		}
		if !namePattern.MatchString(v) {
			var chars []string
			for _, r := range v {
				if c := fmt.Sprintf("%q", r); !nameChar.MatchString(string(r)) && !slices.Contains(chars, c) {
					chars = append(chars, c)
				}
			}
			found = append(found, bad(Code("REG-"+kind+"-ZEICHEN"), "not allowed: "+strings.Join(chars, " "),
				"use letters, digits, blank, ÄÖÜäöüß and - . & + * / _ only, also in the Entity Statement")...)
		}
		return found
	}
}

func checkURI(c ruleContext, v string) []Finding {
	_, found := checkServiceURI(v)
	if before := c.opts.Registered; c.opts.deregister && before != nil && before.ServiceURI != v {
		found = append(found, bad("REG-URI-ANDERS", fmt.Sprintf("%q here, registered is %q", v, before.ServiceURI), "take out the service that was registered: write its address exactly")...)
	}
	return found
}

// checkKID judges the name of a key: any text does today, A_28208 asks for a UUID of version 7 from a day that is not public.
func checkKID(kind, kid string) []Finding {
	if u, err := uuid.Parse(kid); err == nil && len(kid) == 36 && u.Version() == 7 {
		return nil
	}
	return []Finding{{Code: Code(kind + "-KID-FORM"), Severity: Info, What: fmt.Sprintf("kid %q is no UUID of version 7", kid),
		Fix: "leave it; the next key gets such a name (A_28208): `adv-server federation keys new` gives it one"}}
}

func checkReason(_ ruleContext, v string) []Finding {
	if v == "" {
		return bad("REG-GRUND-LEER", "the reason is missing", "write "+ReasonUnused)
	}
	if v != ReasonUnused {
		return []Finding{{Code: "REG-GRUND", Severity: Info, What: "the office's list of reasons is not public; " + ReasonUnused + " is known to be accepted", Fix: "ask the office if it comes back"}}
	}
	return nil
}

// atItem puts findings at the line of the value they are about. lines is nil where the values stand in no form.
func atItem(lines []int, i int, found []Finding) []Finding {
	if lines == nil {
		return found
	}
	return Findings(found).At("", lines[i], "")
}

// checkScopes judges the scopes (FED-17).
func checkScopes(values []string, lines []int) []Finding {
	var found []Finding
	for i, v := range values {
		if _, ok := Scopes[v]; !ok {
			found = append(found, atItem(lines, i, bad("REG-SCOPE-UNBEKANNT", fmt.Sprintf("%q is not in the list of A_22989-01", v), "use one of: "+strings.Join(scopeNames(), ", ")))...)
		}
		if slices.Contains(values[:i], v) {
			found = append(found, atItem(lines, i, odd("REG-DOPPELT", fmt.Sprintf("%q stands there twice", v), "name it once"))...)
		}
	}
	if !slices.Contains(values, "openid") {
		found = append(found, bad("REG-SCOPE-OPENID", "the scope openid is missing", "add <scope>openid</scope>")...)
	}
	return found
}

func scopeNames() []string {
	var s []string
	for n := range Scopes {
		s = append(s, n)
	}
	slices.Sort(s)
	return s
}

// checkClaims judges the claims (FED-19) and, with scopes, the style (FED-20).
func checkClaims(claims []string, lines []int, scopes []string) []Finding {
	var found []Finding
	for i, v := range claims {
		switch {
		case v == "":
			found = append(found, atItem(lines, i, bad("REG-CLAIM-LEER", "an empty claim", "remove the element; no claims at all is <claims/>"))...)
		case !knownClaim(v):
			found = append(found, atItem(lines, i, odd("REG-CLAIM-UNBEKANNT", fmt.Sprintf("%q is not in the list of A_22989-01", v), "check the spelling; any other claim is allowed"))...)
		}
		if slices.Contains(claims[:i], v) {
			found = append(found, atItem(lines, i, odd("REG-DOPPELT", fmt.Sprintf("%q stands there twice", v), "name it once"))...)
		}
	}
	if len(claims) > 0 && slices.ContainsFunc(scopes, func(s string) bool { return s != "openid" }) {
		found = append(found, odd("REG-STIL", "scopes and claims are both used", "decide for one style: a request that mixes them has undefined behaviour (OpenID Connect)")...)
	}
	return found
}

// checkRedirects judges the redirect addresses (FED-21, A_27585). App links of sectoral IdPs on foreign hosts are usual, so
// one origin is not demanded.
func checkRedirects(values []string, lines []int) []Finding {
	if len(values) == 0 {
		return bad("REG-REDIRECT-LEER", "no redirect address is given", "name every address to which an IdP may send a person back, the ones towards the federation, not those of your own OIDC clients")
	}
	var found []Finding
	for i, v := range values {
		u, err := parseJavaURI(v)
		switch {
		case err != nil:
			found = append(found, atItem(lines, i, bad("REG-REDIRECT-FORM", fmt.Sprintf("%q: %v", v, err), "write https://host/path"))...)
		case u.scheme != "https", u.host == "", u.hasQuery, u.hasFragment, u.user, badPort(u):
			found = append(found, atItem(lines, i, bad("REG-REDIRECT-FORM", fmt.Sprintf("%q is not an absolute https address without user, query and fragment, its port within 1 to 65535", v), "write https://host/path (A_27585)"))...)
		}
		if slices.Contains(values[:i], v) {
			found = append(found, atItem(lines, i, odd("REG-DOPPELT", fmt.Sprintf("%q stands there twice", v), "name it once"))...)
		}
	}
	return found
}
