package erezept

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestText holds the text for a clerk word by word.
func TestText(t *testing.T) {
	t.Parallel()
	at := time.Date(2025, 3, 28, 8, 8, 44, 0, time.UTC)
	winter := time.Date(2025, 12, 1, 11, 0, 0, 0, time.UTC)
	summer := time.Date(2025, 6, 1, 10, 0, 0, 0, time.UTC)
	rep := &CaseReport{ID: "4711", Verdict: Invalid, PrescriptionID: "160.000.000.000.123.76", CheckedAt: winter,
		Steps: []Step{{ID: StepComplete, Verdict: Valid}, {StepLinkHash, Invalid, CodePrescriptionHash, "detail"}},
		Records: []*Report{
			{Kind: Prescription, Verdict: Valid, SigningTime: &at, PrescriptionIDs: []PlacedID{{"160.000.000.000.123.76", "Bundle.identifier"}},
				Signer: &Signer{Subject: "Dr. Beispiel", Serial: "7", Issuer: "CA 1", Registration: "1-2"},
				Status: &Status{Source: "embedded", Status: "good", ProducedAt: &summer}},
			{Kind: Receipt, Verdict: Indeterminate, Transitions: []string{TransitionKeyUsage},
				Steps:             []Step{{StepKeyUsage, Warning, CodeDigitalSignature, ""}, {StepStatus, Indeterminate, 1032, ""}, {ID: StepCA}},
				Countersignatures: []Countersignature{{Verdict: Invalid}}},
		}}
	want := `E-Rezept 160.000.000.000.123.76: UNGÜLTIG
  Vorgang: 4711
  Geprüft am 01.12.2025 um 12:00:00 Uhr
  Verordnung: GÜLTIG
    Rezept-ID 160.000.000.000.123.76 (Bundle.identifier)
    Unterschrieben von: Dr. Beispiel, Telematik-ID 1-2
    Zertifikat 7 ausgestellt von CA 1
    Zeitpunkt laut Signatur: 28.03.2025 um 09:08:44 Uhr
    Sperrstatus: nicht gesperrt (mitgeliefert), Auskunft vom 01.06.2025 um 12:00:00 Uhr
  Quittung: NICHT ABSCHLIESSEND PRÜFBAR
    Hinweis: ` + CodeDigitalSignature.Finding().German + ` [12032 KEYUSAGE_TRANSITION]
    Nicht prüfbar: Der Auskunftsdienst für den Sperrstatus war nicht erreichbar. [1032 OCSP_NOT_AVAILABLE]
    Gegensignatur: ungültig
    Übergangsregel: Quittungen mit einem Zertifikat des Profils C.FD.SIG (keyUsage digitalSignature) werden anerkannt.
  Zusammenhang der Datensätze:
    Fehler: Die Quittung bestätigt eine andere Verordnung als die vorgelegte. [12064 PRESCRIPTION_DIGEST_MISMATCH]
`
	if diff := cmp.Diff(want, rep.Text()); diff != "" {
		t.Error(diff)
	}
	unread := Unreadable("line 3", CodeInput, "not JSON").Text()
	if diff := cmp.Diff("Eingabe: NICHT ABSCHLIESSEND PRÜFBAR\n  Vorgang: line 3\n  Nicht prüfbar: Die Eingabe konnte nicht gelesen werden. [12006 INPUT_UNREADABLE]\n", unread); diff != "" {
		t.Error(diff)
	}
	// Text from outside cannot steer a terminal.
	hostile := (&Report{Kind: Receipt, Signer: &Signer{Subject: "a\x1b[2Jb\u202e" + strings.Repeat("x", 500), Issuer: "c\r\nd"}}).Text()
	if strings.ContainsAny(hostile, "\x1b\r\u202e") || strings.Count(hostile, "x") > 210 {
		t.Errorf("%q", hostile)
	}
	if text := (&CaseReport{PrescriptionID: "1: GÜLTIG\nx", Verdict: Invalid, Records: []*Report{{}, {}}}).Text(); !strings.HasPrefix(text, "E-Rezept 1: GÜLTIG?x: UNGÜLTIG\n") {
		t.Errorf("%q", text)
	}
}
