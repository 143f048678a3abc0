// Package erezept checks the signatures of E-Rezept billing records: prescription (Verordnung), dispensing record (Abgabe)
// and receipt (Quittung), alone or the three of a billing case together (gematik, "Signaturen der Abrechnungsinformationen
// von E-Rezepten"; gemSpec_PKI).
//
//	Checker       checks a [Case]: containers and facts (server/erezept/record), core signature (internal/cms), certificate
//	              against the lists of the time of signing (server/trust), status (server/status), links between the records
//	rules         which profiles and roles may sign which record, as a table
//	Transitions   what is accepted for a time although the profile says otherwise, as a table
//	Findings      every finding that a report can hold: code, verdict, sentence for a clerk
//	CaseReport    the result, as JSON for programs and as German text for clerks
//
// A verdict is drawn by a ledger in which every step has to be accounted for: a step that did not run can never lead to
// "valid".
package erezept
