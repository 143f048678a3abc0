package trustcenter

import (
	"fmt"
	"maps"
	"net/mail"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // days end in German time wherever the program runs
	"unicode"

	"golang.org/x/text/unicode/norm"

	"ktradv/server/internal/finding"
)

// Values of the procedure.
const (
	// DKTIG is the name that stands in the request as organisation, to the letter (DKTIG-15).
	DKTIG = "DKTIG TrustCenter fuer Krankenhaeuser und Leistungserbringer PKC"
	// Address takes requests and answers commands (DKTIG-16, DKTIG-29, DKTIG-32).
	Address = "trust@dktig-trust.de"
	// FTAM is the other way for a request.
	FTAM = "194.145.83.92:3280"
	// Contact is who to call, also for a revocation.
	Contact = "DKTIG TrustCenter, +49 341 308951-0, trustcenter@dktig.de"
	// IKClass is the classification under which a software maker applies for an IK (DKTIG-01).
	IKClass = "Softwarehersteller im Sozialversicherungswesen für zertifikatsbasierte Testverfahren"
)

// WarnBefore are the days before the end of a certificate at which a warning is due.
var WarnBefore = []int{90, 30, 7}

// warnDirectory is how many days before the first end in a directory a warning is due.
const warnDirectory = 60

const maxName = 64 // characters of O, OU and CN (X.520)

// IK is an Institutionskennzeichen: nine digits, the last of which checks the ones before.
type IK string

// ParseIK reads an IK as people write it: with blanks, with IK in front.
func ParseIK(s string) (IK, error) {
	t := strings.Join(strings.Fields(s), "")
	t = strings.TrimPrefix(strings.TrimPrefix(t, "IK"), "ik")
	for _, r := range t {
		if r < '0' || r > '9' {
			return "", fmt.Errorf("IK %q contains %q; an IK is nine digits", s, r)
		}
	}
	if len(t) != 9 {
		return "", fmt.Errorf("IK %q has %d digits, not nine", s, len(t))
	}
	if want := checkDigit(t); t[8] != want {
		return "", fmt.Errorf("IK %q: the last digit is %c, the others demand %c; look for a typing error, for example two digits exchanged", s, t[8], want)
	}
	return IK(t), nil
}

// otherClasses are first two digits of an IK that are known not to be those of a software maker. The others, and the regions,
// stand in annexes that are not public.
var otherClasses = map[IK]string{"10": "insurers", "26": "hospitals"}

// checkDigit is computed from digits 3 to 8 with the weights 2 1 2 1 2 1 and the digit sum of each product; the sum modulo
// ten is the check digit itself (ARGE IK, Gemeinsames Rundschreiben).
func checkDigit(ik string) byte {
	sum := 0
	for i, c := range []byte(ik[2:8]) {
		p := int(c-'0') * (2 - i%2)
		sum += p/10 + p%10
	}
	return byte('0' + sum%10)
}

// FileName is the name of a file about the IK: its first eight digits and an extension.
func (ik IK) FileName(ext string) string { return string(ik[:8]) + ext }

// spelling replaces letters by the letters that stand for them. What is not here loses its marks, or becomes a blank.
var spelling = strings.NewReplacer(
	"ä", "ae", "ö", "oe", "ü", "ue", "Ä", "Ae", "Ö", "Oe", "Ü", "Ue", "ß", "ss", "ẞ", "SS",
	"æ", "ae", "Æ", "Ae", "œ", "oe", "Œ", "Oe", "ø", "o", "Ø", "O", "ł", "l", "Ł", "L", "đ", "d", "Đ", "D", "&", " und ",
)

// allowed says whether a character may stand in a name of the request: what all known TrustCenters take of PrintableString.
func allowed(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(" .()/-", r)
}

// Transliterate writes a name without umlauts and special characters. The result is to be shown and confirmed: it will stand
// in the certificate.
func Transliterate(s string) string {
	s = spelling.Replace(norm.NFC.String(s)) // composed first, or a with a combining diaeresis slips through
	var b strings.Builder
	for _, r := range norm.NFKD.String(s) {
		switch {
		case unicode.Is(unicode.Mn, r):
		case allowed(r):
			b.WriteRune(r)
		default:
			b.WriteByte(' ')
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// Sheet is the data sheet of an application: what is checked in step 6, before a key exists.
type Sheet struct {
	IK           string `json:"ik"`
	Organisation string `json:"organisation"`
	GivenName    string `json:"given_name"` // of the Schlüsselverantwortlicher
	Surname      string `json:"surname"`
	TrustCenter  string `json:"trust_center"`
	Email        string `json:"email"` // from which the request is sent, to which the answer comes
	// ContractUntil is the end of the TrustCenter contract, YYYY-MM-DD or "open" (DKTIG-02).
	ContractUntil string `json:"contract_until,omitempty"`
	// Done are the days on which steps outside of this tool were done: number of the step to YYYY-MM-DD.
	Done map[int]string `json:"done,omitempty"`
	// Keys is the folder of the private key; Folder the one of request, fingerprint and certificate.
	Keys   string `json:"keys"`
	Folder string `json:"folder"`
}

// person is the name as it stands in the request.
func (s Sheet) person() string { return strings.Join(strings.Fields(s.GivenName+" "+s.Surname), " ") }

// shared are the names of mailboxes that belong to nobody in person.
var shared = []string{"info", "support", "kontakt", "contact", "office", "mail", "post", "poststelle", "service", "team", "admin", "it", "edv", "zentrale", "verwaltung"}

// ContractEnded is the finding that the TrustCenter contract is over: nothing can be applied for, while what was issued goes on.
const ContractEnded finding.Code = "TC-VERTRAG-ENDE"

// german is the time of the other side.
var german = func() *time.Location {
	l, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		return time.UTC
	}
	return l
}()

// over says whether a day, as it stands in a calendar in Germany, is over.
func over(day, now time.Time) bool {
	return !now.Before(time.Date(day.Year(), day.Month(), day.Day()+1, 0, 0, 0, 0, german))
}

// Check returns what is wrong with a data sheet, each with the proposal (DKTIG-04, DKTIG-12..15).
func (s Sheet) Check(now time.Time) (found finding.List) {
	add := func(sev finding.Severity, code finding.Code, field, what, fix string) {
		found = append(found, finding.Finding{Code: code, Severity: sev, Field: field, What: what, Fix: fix})
	}
	if ik, err := ParseIK(s.IK); err != nil {
		add(finding.Error, "TC-IK", "ik", err.Error(), "copy the IK from the letter of the ARGE IK")
	} else {
		if string(ik) != s.IK {
			add(finding.Info, "TC-IK-FORM", "ik", fmt.Sprintf("%q is taken as %s", s.IK, ik), "nothing, it is written without IK and blanks where it belongs")
		}
		if whose := otherClasses[ik[:2]]; whose != "" {
			add(finding.Warning, "TC-IK-KLASSE", "ik", fmt.Sprintf("the class %s is that of %s", ik[:2], whose), "look at the letter of the ARGE IK: it must name the class \""+IKClass+"\"")
		}
	}
	for _, n := range []struct{ field, value, code string }{{"organisation", s.Organisation, "TC-ORG"}, {"given_name", s.GivenName, "TC-PERSON"}, {"surname", s.Surname, "TC-PERSON"}} {
		plain := Transliterate(n.value)
		switch {
		case strings.TrimSpace(n.value) == "":
			add(finding.Error, finding.Code(n.code+"-LEER"), n.field, "the name is missing", "write it as the TrustCenter knows it")
		case plain == "":
			add(finding.Error, finding.Code(n.code+"-ZEICHEN"), n.field, fmt.Sprintf("%q has no letter of the Latin alphabet", n.value), "write it as it stands in the machine-readable zone of the identity document")
		case plain != n.value:
			add(finding.Error, finding.Code(n.code+"-ZEICHEN"), n.field, fmt.Sprintf("%q contains umlauts, special characters or needless blanks", n.value),
				fmt.Sprintf("write %q, if that is right: it will stand in the certificate", plain))
		}
	}
	if n := len(s.Organisation); n > maxName {
		add(finding.Error, "TC-ORG-LANG", "organisation", fmt.Sprintf("%d characters", n), fmt.Sprintf("shorten it to %d characters as agreed with the TrustCenter; it is not cut silently", maxName))
	}
	if n := len(s.person()); n > maxName {
		add(finding.Error, "TC-PERSON-LANG", "surname", fmt.Sprintf("given name and surname have %d characters", n), fmt.Sprintf("shorten them to %d characters as agreed with the TrustCenter", maxName))
	}
	switch {
	case s.TrustCenter == "" || Transliterate(s.TrustCenter) != s.TrustCenter || len(s.TrustCenter) > maxName:
		add(finding.Error, "TC-NAME", "trust_center", fmt.Sprintf("%q is not the name of a TrustCenter", s.TrustCenter), "write "+DKTIG)
	case s.TrustCenter != DKTIG:
		add(finding.Warning, "TC-NAME", "trust_center", "this is not the name of the DKTIG", "write "+DKTIG+", unless the request goes to another TrustCenter")
	}
	a, err := mail.ParseAddress(s.Email)
	if err != nil || a.Address != s.Email {
		add(finding.Error, "TC-MAIL", "email", fmt.Sprintf("%q is not one plain e-mail address", s.Email), "name the address from which the request is sent")
	} else if box, _, _ := strings.Cut(strings.ToLower(s.Email), "@"); slices.Contains(shared, box) {
		add(finding.Warning, "TC-MAIL-SAMMEL", "email", "this is a shared mailbox", "the portal wants a personal address, first and last name at the organisation's domain")
	}
	switch end, err := time.Parse(time.DateOnly, s.ContractUntil); {
	case s.ContractUntil == "":
		add(finding.Warning, "TC-VERTRAG", "contract_until", "no TrustCenter contract is noted", "without one no certificate can be applied for: "+Contact)
	case s.ContractUntil == "open":
	case err != nil:
		add(finding.Error, "TC-VERTRAG", "contract_until", fmt.Sprintf("%q is no day", s.ContractUntil), "write YYYY-MM-DD, or open")
	case over(end, now):
		add(finding.Error, ContractEnded, "contract_until", fmt.Sprintf("the contract ended on %s", s.ContractUntil), "renew it: "+Contact)
	case over(end, now.AddDate(0, 0, 90)):
		add(finding.Warning, "TC-VERTRAG", "contract_until", fmt.Sprintf("the contract ends on %s", s.ContractUntil), "renew it: "+Contact)
	}
	for _, step := range slices.Sorted(maps.Keys(s.Done)) {
		day := s.Done[step]
		if _, err := time.Parse(time.DateOnly, day); err != nil || step < 1 || step > len(stepTexts) {
			add(finding.Error, "TC-SCHRITT", "done", fmt.Sprintf("step %d on %q", step, day), "name a step from 1 to 11 and the day as YYYY-MM-DD")
		}
	}
	return found
}
