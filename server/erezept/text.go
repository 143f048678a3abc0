package erezept

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // clerks read German time wherever the program runs
)

// berlin is the time that clerks know.
var berlin = func() *time.Location {
	l, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		return time.UTC
	}
	return l
}()

func clerkTime(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "unbekannt"
	}
	return t.In(berlin).Format("02.01.2006 um 15:04:05 Uhr")
}

// German is the verdict as a clerk reads it.
func (v Verdict) German() string {
	switch v {
	case Valid:
		return "gültig"
	case Warning:
		return "gültig mit Hinweisen"
	case Invalid:
		return "ungültig"
	}
	return "nicht abschließend prüfbar"
}

func (v Verdict) capitals() string {
	return strings.ToUpper(strings.ReplaceAll(v.German(), "ß", "ss"))
}

// Text is the report for a clerk, German, lines ending with \n.
func (r *CaseReport) Text() string {
	var b strings.Builder
	if len(r.Steps) == 0 && len(r.Records) == 1 {
		r.Records[0].text(&b, "")
		fmt.Fprintf(&b, "  Geprüft am %s\n", clerkTime(&r.CheckedAt))
		if r.ID != "" {
			fmt.Fprintf(&b, "  Vorgang: %s\n", printable(r.ID))
		}
		return b.String()
	}
	if len(r.Records) == 0 {
		fmt.Fprintf(&b, "Eingabe: %s\n", r.Verdict.capitals())
		if r.ID != "" {
			fmt.Fprintf(&b, "  Vorgang: %s\n", printable(r.ID))
		}
		remarks(&b, "  ", "", r.Steps)
		return b.String()
	}
	id := r.PrescriptionID
	if id == "" {
		id = "(Rezept-ID nicht eindeutig)"
	}
	fmt.Fprintf(&b, "E-Rezept %s: %s\n", printable(id), r.Verdict.capitals())
	if r.ID != "" {
		fmt.Fprintf(&b, "  Vorgang: %s\n", printable(r.ID))
	}
	fmt.Fprintf(&b, "  Geprüft am %s\n", clerkTime(&r.CheckedAt))
	for _, rec := range r.Records {
		rec.text(&b, "  ")
	}
	remarks(&b, "  ", "Zusammenhang der Datensätze", r.Steps)
	return b.String()
}

// Text is the report for a clerk, German, lines ending with \n.
func (r *Report) Text() string {
	var b strings.Builder
	r.text(&b, "")
	return b.String()
}

func (r *Report) text(b *strings.Builder, indent string) {
	name := "Datensatz"
	if rule, ok := ruleOf(r.Kind); ok {
		name = rule.german
	}
	fmt.Fprintf(b, "%s%s: %s\n", indent, name, r.Verdict.capitals())
	indent += "  "
	for _, p := range r.PrescriptionIDs {
		fmt.Fprintf(b, "%sRezept-ID %s (%s)\n", indent, printable(p.ID), p.Place)
	}
	if s := r.Signer; s != nil {
		fmt.Fprintf(b, "%sUnterschrieben von: %s", indent, printable(s.Subject))
		if s.Registration != "" {
			fmt.Fprintf(b, ", Telematik-ID %s", printable(s.Registration))
		}
		b.WriteByte('\n')
		fmt.Fprintf(b, "%sZertifikat %s ausgestellt von %s\n", indent, s.Serial, printable(s.Issuer))
	}
	if r.SigningTime != nil {
		fmt.Fprintf(b, "%sZeitpunkt laut Signatur: %s\n", indent, clerkTime(r.SigningTime))
	}
	if s := r.Status; s != nil {
		fmt.Fprintf(b, "%sSperrstatus: %s (%s), Auskunft vom %s\n", indent, germanStatus[s.Status], germanSource[s.Source], clerkTime(s.ProducedAt))
	}
	remarks(b, indent, "", r.Steps)
	for _, c := range r.Countersignatures {
		fmt.Fprintf(b, "%sGegensignatur: %s\n", indent, c.Verdict.German())
	}
	for _, name := range r.Transitions {
		for _, t := range Transitions {
			if t.Name == name {
				fmt.Fprintf(b, "%sÜbergangsregel: %s\n", indent, t.German)
			}
		}
	}
}

var (
	germanStatus = map[string]string{"good": "nicht gesperrt", "revoked": "gesperrt", "unknown": "unbekannt"}
	germanSource = map[string]string{"embedded": "mitgeliefert", "cache": "bereits früher ermittelt", "online": "online abgefragt",
		"forwarder": "über den OCSP-Forwarder abgefragt"}
)

// remarks writes everything that is not simply in order.
func remarks(b *strings.Builder, indent, title string, steps []Step) {
	for _, s := range steps {
		mark := ""
		switch s.Verdict {
		case Warning:
			mark = "Hinweis"
		case Indeterminate:
			mark = "Nicht prüfbar"
		case Invalid:
			mark = "Fehler"
		case NotRun:
			// A step that never came about because an earlier one failed; the earlier one says why.
			continue
		default:
			continue
		}
		if title != "" {
			fmt.Fprintf(b, "%s%s:\n", indent, title)
			indent, title = indent+"  ", ""
		}
		fmt.Fprintf(b, "%s%s: %s [%s]\n", indent, mark, s.Code.Finding().German, s.Code)
	}
}

// printable keeps control characters and unusual lengths out of what a terminal shows.
func printable(s string) string {
	const longest = 200
	n := 0
	var b strings.Builder
	for _, c := range s {
		if n++; n > longest {
			b.WriteString("…")
			break
		}
		if c < ' ' || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) {
			c = '?'
		}
		b.WriteRune(c)
	}
	return b.String()
}
