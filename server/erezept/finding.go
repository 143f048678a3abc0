package erezept

import "fmt"

// Code is the number of a finding.
type Code int

// Finding explains a code.
type Finding struct {
	Code    Code
	Name    string  // as in gemSpec_PKI, or in its manner
	Verdict Verdict // that the finding alone leads to
	German  string  // for a clerk
}

// The findings of this package (vendor codes, GS-A_4858). Those below 2000 are gemSpec_PKI's.
const (
	CodeContainer         Code = 12001
	CodeTooLarge          Code = 12002
	CodeWrongKind         Code = 12003
	CodeUnknownKind       Code = 12004
	CodeMissing           Code = 12005
	CodeInput             Code = 12006
	CodeDuplicate         Code = 12007
	CodeSeveral           Code = 12008
	CodeContent           Code = 12009
	CodeSignerCert        Code = 12010
	CodeDetached          Code = 12023
	CodeContentNotRead    Code = 12024
	CodeAttribute         Code = 12011
	CodeContentType       Code = 12012
	CodeDigest            Code = 12013
	CodeSignature         Code = 12014
	CodeNoReference       Code = 12015
	CodeReference         Code = 12016
	CodeAlgorithmBinding  Code = 12017
	CodeAlgorithm         Code = 12018
	CodePhasedOut         Code = 12019
	CodeNoSigningTime     Code = 12020
	CodeSignedInFuture    Code = 12021
	CodeOldReference      Code = 12022
	CodeRole              Code = 12030
	CodeDigitalSignature  Code = 12032
	CodeCritical          Code = 12033
	CodeNotQualified      Code = 12034
	CodeCAClosed          Code = 12035
	CodeNoSSCD            Code = 12036
	CodeCANotListed       Code = 12037
	CodeQualification     Code = 12038
	CodeNoQSCDByList      Code = 12039
	CodeAged              Code = 12040
	CodeNoStatusSource    Code = 12041
	CodeCountersignature  Code = 12050
	CodeNoID              Code = 12060
	CodeIDsDiffer         Code = 12061
	CodeIDsWithin         Code = 12062
	CodeCheckDigits       Code = 12063
	CodePrescriptionHash  Code = 12064
	CodeNoHash            Code = 12065
	CodeHashExpected      Code = 12066
	CodeTimeOrder         Code = 12070
	CodeNoTime            Code = 12071
	CodeOuterCopy         Code = 12072
	CodeInnerSignature    Code = 12073
	CodeFHIR              Code = 12074
	CodeFHIRCardinality   Code = 12075
	CodeInterrupted       Code = 12090
	CodeNoTrustAnchor     Code = 12091
	CodeUnexpectedFinding Code = 12099
)

// Findings is the table of everything a step can find: the codes of gemSpec_PKI Tab_PKI_274 that concern the check of a
// certificate, and this package's own.
var Findings = []Finding{
	{1001, "TSL_INIT_ERROR", Indeterminate, "Die Vertrauensliste konnte nicht eingerichtet werden."},
	{1002, "TSL_CERT_EXTRACTION_ERROR", Indeterminate, "Die Zertifikate der Vertrauensliste sind nicht lesbar."},
	{1003, "MULTIPLE_TRUST_ANCHOR", Indeterminate, "Die Vertrauensliste kündigt mehrere Vertrauensanker an."},
	{1004, "TSL_SIG_CERT_EXTRACTION_ERROR", Indeterminate, "Der angekündigte Vertrauensanker ist nicht lesbar."},
	{1005, "TSL_DOWNLOAD_ADDRESS_ERROR", Indeterminate, "Für die Vertrauensliste ist keine Adresse bekannt."},
	{1006, "TSL_DOWNLOAD_ERROR", Indeterminate, "Die Vertrauensliste konnte nicht geladen werden."},
	{1007, "TSL_ID_INCORRECT", Indeterminate, "Die Vertrauensliste ist nicht neuer als die vorhandene."},
	{1008, "VALIDITY_WARNING_1", Warning, "Die Vertrauensliste ist seit Kurzem abgelaufen."},
	{1009, "VALIDITY_WARNING_2", Indeterminate, "Die Vertrauensliste ist abgelaufen und kann nicht mehr verwendet werden."},
	{1011, "TSL_NOT_WELLFORMED", Indeterminate, "Die Vertrauensliste ist kein wohlgeformtes Dokument."},
	{1012, "TSL_SCHEMA_NOT_VALID", Indeterminate, "Die Vertrauensliste entspricht nicht ihrem Schema."},
	{1013, "XML_SIGNATURE_ERROR", Indeterminate, "Die Unterschrift der Vertrauensliste ist falsch."},
	{1016, "WRONG_KEYUSAGE", Invalid, "Das Zertifikat darf für diese Art der Signatur nicht verwendet werden."},
	{1017, "WRONG_EXTENDEDKEYUSAGE", Invalid, "Das Zertifikat darf für diesen Zweck nicht verwendet werden."},
	{1018, "CERT_TYPE_MISMATCH", Invalid, "Das Zertifikat hat die falsche Art (zum Beispiel Praxis- oder Fachdienst-Zertifikat statt Heilberufsausweis)."},
	{1019, "CERT_READ_ERROR", Indeterminate, "Das Zertifikat ist nicht lesbar."},
	{1021, "CERTIFICATE_NOT_VALID_TIME", Invalid, "Das Zertifikat war zum Zeitpunkt der Signatur noch nicht oder nicht mehr gültig."},
	{1023, "AUTHORITYKEYID_DIFFERENT", Indeterminate, "Der Aussteller des Zertifikats steht mit einem anderen Schlüssel in der verwendeten Vertrauensliste."},
	{1024, "CERTIFICATE_NOT_VALID_MATH", Invalid, "Das Zertifikat ist gefälscht oder verändert."},
	{1026, "SERVICESUPPLYPOINT_MISSING", Indeterminate, "Für den Aussteller ist kein Auskunftsdienst bekannt."},
	{1027, "CA_CERT_MISSING", Indeterminate, "Der Aussteller des Zertifikats steht nicht in der verwendeten Vertrauensliste."},
	{1028, "OCSP_CHECK_REVOCATION_FAILED", Indeterminate, "Der Sperrstatus konnte nicht ermittelt werden."},
	{1029, "OCSP_CHECK_REVOCATION_ERROR", Indeterminate, "Die Sperrauskunft ist nicht verwendbar."},
	{1030, "OCSP_CERT_MISSING", Indeterminate, "Die Sperrauskunft stammt nicht von einem zugelassenen Auskunftsdienst."},
	{1031, "OCSP_SIGNATURE_ERROR", Indeterminate, "Die Sperrauskunft ist nicht richtig unterschrieben."},
	{1032, "OCSP_NOT_AVAILABLE", Indeterminate, "Der Auskunftsdienst für den Sperrstatus war nicht erreichbar."},
	{1033, "CERT_TYPE_INFO_MISSING", Invalid, "Dem Zertifikat fehlt die Angabe seiner Art."},
	{1036, "CA_CERTIFICATE_REVOKED_IN_TSL", Invalid, "Der Aussteller des Zertifikats war gesperrt, als das Zertifikat ausgestellt wurde."},
	{1039, "NO_OCSP_CHECK", Indeterminate, "Der Sperrstatus wurde nicht geprüft."},
	{1040, "CERTHASH_EXTENSION_MISSING", Indeterminate, "Der Sperrauskunft fehlt der Beweis, dass der Aussteller das Zertifikat kennt."},
	{1041, "CERTHASH_MISMATCH", Invalid, "Die Sperrauskunft gehört zu einem anderen Zertifikat."},
	{1042, "TSL_CA_NOT_LOADED", Indeterminate, "Der Aussteller der Vertrauensliste ist kein bekannter Vertrauensanker."},
	{1044, "CERT_UNKNOWN", Invalid, "Der Aussteller kennt das Zertifikat nicht."},
	{1047, "CERT_REVOKED", Invalid, "Das Zertifikat war zum Zeitpunkt der Signatur gesperrt."},
	{1048, "QC_STATEMENT_ERROR", Invalid, "Das Zertifikat ist kein qualifiziertes Zertifikat."},
	{1050, "PROVIDED_OCSP_RESPONSE_NOT_VALID", Warning, "Die mitgelieferte Sperrauskunft war nicht verwendbar; der Status wurde neu ermittelt."},
	{1051, "OCSP_NONCE_MISMATCH", Indeterminate, "Die Sperrauskunft gehört nicht zur gestellten Anfrage."},
	{1058, "OCSP_STATUS_ERROR", Indeterminate, "Der Auskunftsdienst konnte die Anfrage nicht beantworten."},
	{1059, "CA_CERTIFICATE_NOT_QES_QUALIFIED", Invalid, "Der Aussteller durfte keine qualifizierten Zertifikate ausstellen."},
	{1060, "VL_UPDATE_ERROR", Indeterminate, "Die Vertrauensliste der Bundesnetzagentur ist abgelaufen oder konnte nicht erneuert werden."},
	{1061, "CERT_TYPE_CA_NOT_AUTHORIZED", Invalid, "Der Aussteller durfte Zertifikate dieser Art nicht ausstellen."},
	{1062, "CA_CERTIFICATE_REVOKED_IN_BNETZA_VL", Invalid, "Der Aussteller war in der Vertrauensliste der Bundesnetzagentur nicht mehr zugelassen."},

	{CodeContainer, "CONTAINER_UNREADABLE", Invalid, "Der Datensatz enthält keine lesbare Signatur."},
	{CodeTooLarge, "RECORD_TOO_LARGE", Indeterminate, "Der Datensatz ist größer als zugelassen und wurde nicht geprüft."},
	{CodeWrongKind, "WRONG_KIND", Invalid, "Der Datensatz ist von anderer Art als erwartet."},
	{CodeUnknownKind, "UNKNOWN_KIND", Indeterminate, "Die Art des Datensatzes ist nicht zu erkennen."},
	{CodeMissing, "RECORD_MISSING", Invalid, "Zur Abrechnung fehlt ein Datensatz."},
	{CodeInput, "INPUT_UNREADABLE", Indeterminate, "Die Eingabe konnte nicht gelesen werden."},
	{CodeDuplicate, "RECORD_TWICE", Invalid, "Ein Datensatz derselben Art liegt mehrfach vor."},
	{CodeSeveral, "SEVERAL_SIGNATURES", Indeterminate, "Die Eingabe enthält mehrere Signaturen oder Unterzeichner; es ist nicht klar, welche gemeint ist."},
	{CodeContent, "CONTENT_UNREADABLE", Invalid, "Der signierte Inhalt ist kein lesbarer Datensatz."},
	{CodeSignerCert, "SIGNER_CERTIFICATE_MISSING", Indeterminate, "Das Zertifikat des Unterzeichners liegt nicht bei."},
	{CodeAttribute, "SIGNED_ATTRIBUTE_ERROR", Invalid, "Die Angaben zur Signatur sind unvollständig oder widersprüchlich."},
	{CodeContentType, "CONTENT_TYPE_MISMATCH", Invalid, "Die Signatur nennt eine andere Art von Inhalt."},
	{CodeDigest, "MESSAGE_DIGEST_MISMATCH", Invalid, "Der Inhalt wurde nach der Signatur verändert."},
	{CodeSignature, "SIGNATURE_INVALID", Invalid, "Die Signatur ist falsch."},
	{CodeNoReference, "CERTIFICATE_REFERENCE_MISSING", Warning, "Die Signatur schützt nicht vor dem Austausch des Zertifikats."},
	{CodeReference, "CERTIFICATE_REFERENCE_MISMATCH", Invalid, "Die Signatur nennt ein anderes Zertifikat."},
	{CodeAlgorithmBinding, "ALGORITHM_PROTECTION_MISMATCH", Invalid, "Die Signatur nennt andere Verfahren, als verwendet wurden."},
	{CodeAlgorithm, "ALGORITHM_NOT_ADMISSIBLE", Invalid, "Das Signaturverfahren ist nicht zugelassen."},
	{CodePhasedOut, "ALGORITHM_PHASED_OUT", Warning, "Das Signaturverfahren ist seit Ende 2025 nicht mehr für neue Signaturen vorgesehen."},
	{CodeNoSigningTime, "SIGNING_TIME_MISSING", Indeterminate, "Die Signatur nennt keinen Zeitpunkt."},
	{CodeSignedInFuture, "SIGNED_IN_FUTURE", Indeterminate, "Die Signatur trägt einen Zeitpunkt in der Zukunft, oder die Uhr dieses Rechners geht falsch."},
	{CodeOldReference, "CERTIFICATE_REFERENCE_SHA1", Warning, "Die Signatur nennt ihr Zertifikat nur mit einem veralteten Verfahren (SHA-1)."},
	{CodeDetached, "CONTENT_MISSING", Indeterminate, "Der Signatur liegt der signierte Inhalt nicht bei."},
	{CodeContentNotRead, "CONTENT_NOT_READ", Indeterminate, "Der signierte Inhalt ist zu groß und wurde nicht gelesen; geprüft wurden Signatur und Zertifikat."},
	{CodeRole, "ROLE_NOT_ADMISSIBLE", Invalid, "Der Unterzeichner hat nicht die nötige Rolle (zum Beispiel Arzt, Apotheke oder E-Rezept-Fachdienst)."},
	{CodeDigitalSignature, "KEYUSAGE_TRANSITION", Warning, "Die Quittung ist mit einem älteren Zertifikat des Fachdienstes signiert (keyUsage digitalSignature); in der Übergangszeit wird das anerkannt."},
	{CodeCritical, "CRITICAL_EXTENSIONS", Invalid, "Das Zertifikat enthält Bedingungen, die nicht vorgesehen sind."},
	{CodeNotQualified, "NOT_QUALIFIED", Warning, "Die Bescheinigung trägt keine qualifizierte Signatur, sondern die der Praxis."},
	{CodeCAClosed, "CA_CLOSED_BEFORE_ISSUE", Warning, "Der Aussteller hatte laut Vertrauensliste den Betrieb eingestellt, bevor er das Zertifikat ausstellte."},
	{CodeNoSSCD, "QCSSCD_MISSING", Warning, "Im qualifizierten Zertifikat fehlt die Angabe, dass der Schlüssel in einer sicheren Einheit (Heilberufsausweis) liegt."},
	{CodeCANotListed, "CA_NOT_LISTED_ANY_MORE", Warning, "Der Aussteller steht in der neuesten Vertrauensliste nicht mehr; kompromittierte Aussteller werden aus ihr entfernt."},
	{CodeQualification, "QUALIFICATION_UNDECIDED", Indeterminate, "Die Vertrauensliste der Bundesnetzagentur macht für solche Zertifikate eine Einschränkung, die dieses Programm nicht versteht."},
	{CodeNoQSCDByList, "NO_QSCD_BY_LIST", Warning, "Laut Vertrauensliste der Bundesnetzagentur liegt der Schlüssel des Zertifikats nicht in einer qualifizierten Signaturerstellungseinheit."},
	{CodeAged, "STATUS_NO_LONGER_AVAILABLE", Indeterminate, "Das Zertifikat ist abgelaufen; Auskunft über seinen Sperrstatus gibt es nicht mehr."},
	{CodeNoStatusSource, "STATUS_NOT_REQUESTED", Indeterminate, "Der Sperrstatus liegt nicht bei und durfte nicht online abgefragt werden."},
	{CodeCountersignature, "COUNTERSIGNATURE_NOT_VALID", Warning, "Eine zusätzliche Gegensignatur ist nicht gültig; die Signatur selbst ist davon nicht betroffen."},
	{CodeNoID, "PRESCRIPTION_ID_MISSING", Invalid, "Der Datensatz nennt keine Rezept-ID."},
	{CodeIDsDiffer, "PRESCRIPTION_IDS_DIFFER", Invalid, "Die Datensätze gehören zu verschiedenen Rezepten."},
	{CodeIDsWithin, "PRESCRIPTION_IDS_CONTRADICT", Warning, "Der Datensatz nennt an verschiedenen Stellen verschiedene Rezept-IDs."},
	{CodeCheckDigits, "PRESCRIPTION_ID_CHECK_DIGITS", Warning, "Die Prüfziffern der Rezept-ID stimmen nicht."},
	{CodePrescriptionHash, "PRESCRIPTION_DIGEST_MISMATCH", Invalid, "Die Quittung bestätigt eine andere Verordnung als die vorgelegte."},
	{CodeNoHash, "PRESCRIPTION_DIGEST_MISSING", Warning, "Die Quittung enthält keinen Prüfwert der Verordnung (ältere Fassung); verglichen wurde nur die Rezept-ID."},
	{CodeHashExpected, "PRESCRIPTION_DIGEST_EXPECTED", Indeterminate, "Der Quittung fehlt der eine Prüfwert der Verordnung, den ihre Fassung vorschreibt; ob sie diese Verordnung bestätigt, ist nicht prüfbar."},
	{CodeTimeOrder, "ORDER_OF_TIMES", Warning, "Die Reihenfolge der Signaturzeitpunkte ist ungewöhnlich."},
	{CodeNoTime, "ORDER_UNKNOWN", Indeterminate, "Die Reihenfolge der Signaturzeitpunkte ist nicht prüfbar."},
	{CodeOuterCopy, "OUTER_COPY_DIFFERS", Warning, "Die unsignierte Kopie weicht vom signierten Inhalt ab; maßgeblich ist der signierte Inhalt."},
	{CodeInnerSignature, "INNER_SIGNATURE", Warning, "Der signierte Inhalt der Quittung enthält selbst ein Signaturfeld."},
	{CodeFHIR, "FHIR_INVALID", Invalid, "Der Inhalt entspricht nicht dem vorgeschriebenen FHIR-Profil."},
	{CodeFHIRCardinality, "FHIR_SIGNATURE_CARDINALITY", Warning, "Das FHIR-Profil bemängelt nur das fehlende Signaturfeld (Bundle.signature); in der Übergangszeit gilt die Quittung als gültig."},
	{CodeInterrupted, "INTERRUPTED", Indeterminate, "Die Prüfung wurde abgebrochen."},
	{CodeNoTrustAnchor, "NO_TRUST_LIST", Indeterminate, "Für diesen Zeitpunkt liegt keine Vertrauensliste vor."},
	{CodeUnexpectedFinding, "UNEXPECTED_FINDING", Indeterminate, "Die Prüfung hat etwas gefunden, das sie nicht einordnen kann."},
}

var findings = func() map[Code]Finding {
	m := make(map[Code]Finding, len(Findings))
	for _, f := range Findings {
		m[f.Code] = f
	}
	return m
}()

// Finding returns the explanation. A code that the table does not have is indeterminate.
func (c Code) Finding() Finding {
	f, ok := findings[c]
	if !ok {
		return Finding{Code: c, Name: fmt.Sprintf("FINDING_%d", int(c)), Verdict: Indeterminate,
			German: findings[CodeUnexpectedFinding].German}
	}
	return f
}

// String returns number and name.
func (c Code) String() string { return fmt.Sprintf("%d %s", int(c), c.Finding().Name) }
