package testpki

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// Names of systems and profiles that the records below have in common.
const (
	kbv      = "https://fhir.kbv.de/"
	dav      = "http://fhir.abda.de/eRezeptAbgabedaten/"
	gem      = "https://gematik.de/fhir/erp/"
	deBasis  = "http://fhir.de/"
	hl7      = "http://hl7.org/fhir/StructureDefinition/"
	idSystem = gem + "NamingSystem/GEM_ERP_NS_PrescriptionId"
)

// el writes a FHIR element: its value (none when empty) and what is inside.
func el(name, value string, inside ...string) string {
	var b strings.Builder
	b.WriteString("<" + name)
	if value != "" {
		b.WriteString(` value="` + value + `"`)
	}
	if len(inside) == 0 {
		b.WriteString("/>")
		return b.String()
	}
	b.WriteString(">")
	for _, part := range inside {
		b.WriteString(part)
	}
	b.WriteString("</" + name + ">")
	return b.String()
}

func ext(url string, inside ...string) string {
	return `<extension url="` + url + `">` + strings.Join(inside, "") + "</extension>"
}

func coding(system, code string) string {
	return el("coding", "", el("system", system), el("code", code))
}

func valueCoding(system, code string) string {
	return el("valueCoding", "", el("system", system), el("code", code))
}

func meta(profile string) string { return el("meta", "", el("profile", profile)) }

func identifier(system, value string) string {
	return el("identifier", "", el("system", system), el("value", value))
}

// entry is a resource of a Bundle.
func entry(base, kind, id string, inside ...string) string {
	return el("entry", "", el("fullUrl", base+kind+"/"+id),
		el("resource", "", "<"+kind+` xmlns="http://hl7.org/fhir">`+el("id", id)+strings.Join(inside, "")+"</"+kind+">"))
}

func reference(to string) string { return el("reference", to) }

func address(street, number, city, code string) string {
	return el("address", "", el("type", "both"),
		el("line", street+" "+number, ext(hl7+"iso21090-ADXP-houseNumber", el("valueString", number)), ext(hl7+"iso21090-ADXP-streetName", el("valueString", street))),
		el("city", city), el("postalCode", code), el("country", "D"))
}

func bundle(id, profile, prescription, stamp string, inside ...string) string {
	return `<Bundle xmlns="http://hl7.org/fhir">` + el("id", id) + meta(profile) + identifier(idSystem, prescription) +
		el("type", "document") + el("timestamp", stamp) + strings.Join(inside, "") + "</Bundle>"
}

// Marks in the templates.
const (
	markID     = "\x01id\x02"
	markOther  = "\x01other\x02"
	markBundle = "\x01bundle\x02"
	markStamp  = "\x01stamp\x02"
	markTime   = "\x01time\x02"
	markDate   = "\x01date\x02"
	markStart  = "\x01start\x02"
	markDigest = "\x01digest\x02"
	markTeleID = "\x01telematik-id\x02"
)

// template is a text with marks: every second part is the name of one.
type template []string

func newTemplate(text string) template {
	var t template
	for text != "" {
		before, rest, found := strings.Cut(text, "\x01")
		name, after, _ := strings.Cut(rest, "\x02")
		t = append(t, before)
		if found {
			t = append(t, "\x01"+name+"\x02")
		}
		text = after
	}
	return t
}

func (t template) fill(values map[string]string) []byte {
	size := 0
	for _, part := range t {
		size += len(part) + 40
	}
	out := make([]byte, 0, size)
	for i, part := range t {
		if i%2 == 1 {
			part = values[part]
		}
		out = append(out, part...)
	}
	return out
}

// The three records of a case. What they contain is made up; form and size are those of records in the field.
var (
	prescriptionTemplate = newTemplate(prescriptionXML())
	dispensingTemplate   = newTemplate(dispensingXML())
	receiptTemplate      = newTemplate(receiptXML())
)

func prescriptionXML() string {
	const base = "https://praxis.ktradv.invalid/fhir/"
	const (
		composition  = "5f1c2d0e-8a51-4f66-9d3b-0c6f1a7e2b01"
		coverage     = "5f1c2d0e-8a51-4f66-9d3b-0c6f1a7e2b02"
		patient      = "5f1c2d0e-8a51-4f66-9d3b-0c6f1a7e2b03"
		practitioner = "5f1c2d0e-8a51-4f66-9d3b-0c6f1a7e2b04"
		organization = "5f1c2d0e-8a51-4f66-9d3b-0c6f1a7e2b05"
		medication   = "5f1c2d0e-8a51-4f66-9d3b-0c6f1a7e2b06"
		request      = "5f1c2d0e-8a51-4f66-9d3b-0c6f1a7e2b07"
	)
	section := func(code, to string) string {
		return el("section", "", el("code", "", coding(kbv+"CodeSystem/KBV_CS_ERP_Section_Type", code)), el("entry", "", reference(to)))
	}
	v2 := func(code string) string {
		return el("type", "", coding("http://terminology.hl7.org/CodeSystem/v2-0203", code))
	}
	return bundle(markBundle, kbv+"StructureDefinition/KBV_PR_ERP_Bundle|1.1.0", markID, markStamp,
		entry(base, "Composition", composition,
			meta(kbv+"StructureDefinition/KBV_PR_ERP_Composition|1.1.0"),
			ext(kbv+"StructureDefinition/KBV_EX_FOR_Legal_basis", valueCoding(kbv+"CodeSystem/KBV_CS_SFHIR_KBV_STATUSKENNZEICHEN", "00")),
			el("status", "final"), el("type", "", coding(kbv+"CodeSystem/KBV_CS_SFHIR_KBV_FORMULAR_ART", "e16A")),
			el("subject", "", reference("Patient/"+patient)), el("date", markTime),
			el("author", "", reference("Practitioner/"+practitioner), el("type", "Practitioner")),
			el("author", "", el("type", "Device"), identifier(kbv+"NamingSystem/KBV_NS_FOR_Pruefnummer", "Y/400/2107/36/999")),
			el("title", "elektronische Arzneimittelverordnung"),
			el("attester", "", el("mode", "legal"), el("party", "", reference("Practitioner/"+practitioner))),
			el("custodian", "", reference("Organization/"+organization)),
			section("Prescription", "MedicationRequest/"+request), section("Coverage", "Coverage/"+coverage)),
		entry(base, "MedicationRequest", request,
			meta(kbv+"StructureDefinition/KBV_PR_ERP_Prescription|1.1.0"),
			ext(kbv+"StructureDefinition/KBV_EX_FOR_StatusCoPayment", valueCoding(kbv+"CodeSystem/KBV_CS_FOR_StatusCoPayment", "0")),
			ext(kbv+"StructureDefinition/KBV_EX_ERP_EmergencyServicesFee", el("valueBoolean", "false")),
			ext(kbv+"StructureDefinition/KBV_EX_FOR_SER", el("valueBoolean", "false")),
			ext(kbv+"StructureDefinition/KBV_EX_ERP_Multiple_Prescription", ext("Kennzeichen", el("valueBoolean", "false"))),
			ext(kbv+"StructureDefinition/KBV_EX_FOR_Accident", ext("Unfallkennzeichen", valueCoding(kbv+"CodeSystem/KBV_CS_FOR_Ursache_Type", "1")), ext("Unfalltag", el("valueDate", markDate))),
			el("status", "active"), el("intent", "order"), el("medicationReference", "", reference("Medication/"+medication)),
			el("subject", "", reference("Patient/"+patient)), el("authoredOn", markDate), el("requester", "", reference("Practitioner/"+practitioner)),
			el("insurance", "", reference("Coverage/"+coverage)), el("note", "", el("text", "Bitte auf den Beipackzettel hinweisen &amp; Anwendung erklären")),
			el("dosageInstruction", "", ext(kbv+"StructureDefinition/KBV_EX_ERP_DosageFlag", el("valueBoolean", "true")), el("text", "1-0-1-0 nach dem Essen")),
			el("dispenseRequest", "", el("quantity", "", el("value", "1"), el("system", "http://unitsofmeasure.org"), el("code", "{Package}"))),
			el("substitution", "", el("allowedBoolean", "true"))),
		entry(base, "Medication", medication,
			meta(kbv+"StructureDefinition/KBV_PR_ERP_Medication_PZN|1.1.0"),
			ext(kbv+"StructureDefinition/KBV_EX_Base_Medication_Type", el("valueCodeableConcept", "", el("coding", "", el("system", "http://snomed.info/sct"), el("version", "http://snomed.info/sct/900000000000207008/version/20220331"), el("code", "763158003"), el("display", "Medicinal product (product)")))),
			ext(kbv+"StructureDefinition/KBV_EX_ERP_Medication_Category", valueCoding(kbv+"CodeSystem/KBV_CS_ERP_Medication_Category", "00")),
			ext(kbv+"StructureDefinition/KBV_EX_ERP_Medication_Vaccine", el("valueBoolean", "false")),
			ext(deBasis+"StructureDefinition/normgroesse", el("valueCode", "N1")),
			el("code", "", coding(deBasis+"CodeSystem/ifa/pzn", "00000017"), el("text", "Musterpräparat 20 mg Tabletten teilbar N1")),
			el("form", "", coding(kbv+"CodeSystem/KBV_CS_SFHIR_KBV_DARREICHUNGSFORM", "TAB")),
			el("amount", "", el("numerator", "", ext(kbv+"StructureDefinition/KBV_EX_ERP_Medication_PackagingSize", el("valueString", "20 St.")), el("unit", "Tabletten")), el("denominator", "", el("value", "1"))),
			el("ingredient", "", el("itemCodeableConcept", "", coding(deBasis+"CodeSystem/ask", "00000"), el("text", "Musterwirkstoff")),
				el("strength", "", el("numerator", "", el("value", "20"), el("unit", "mg")), el("denominator", "", el("value", "1"), el("unit", "Tablette"))))),
		entry(base, "Patient", patient,
			meta(kbv+"StructureDefinition/KBV_PR_FOR_Patient|1.1.0"),
			el("identifier", "", el("type", "", coding(deBasis+"CodeSystem/identifier-type-de-basis", "GKV")), el("system", deBasis+"sid/gkv/kvid-10"), el("value", "X110481951")),
			el("name", "", el("use", "official"), el("family", "Prüfstein-Mühlenbeck", ext(hl7+"humanname-own-name", el("valueString", "Prüfstein-Mühlenbeck"))), el("given", "Ännchen")),
			el("birthDate", "1957-05-24"), address("Am Krötenteich", "17b", "Hinterweiler", "99998")),
		entry(base, "Practitioner", practitioner,
			meta(kbv+"StructureDefinition/KBV_PR_FOR_Practitioner|1.1.0"),
			el("identifier", "", v2("LANR"), el("system", kbv+"NamingSystem/KBV_NS_Base_ANR"), el("value", "999999900")),
			el("name", "", el("use", "official"), el("family", "Probemann", ext(hl7+"humanname-own-name", el("valueString", "Probemann"))), el("given", "Ottokar"), el("prefix", "Dr. med.", ext(hl7+"iso21090-EN-qualifier", el("valueCode", "AC")))),
			el("qualification", "", el("code", "", coding(kbv+"CodeSystem/KBV_CS_FOR_Qualification_Type", "00"))),
			el("qualification", "", el("code", "", coding(kbv+"CodeSystem/KBV_CS_FOR_Berufsbezeichnung", "Berufsbezeichnung"), el("text", "Facharzt für Innere Medizin: Schwerpunkt Übungen")))),
		entry(base, "Organization", organization,
			meta(kbv+"StructureDefinition/KBV_PR_FOR_Organization|1.1.0"),
			el("identifier", "", v2("BSNR"), el("system", kbv+"NamingSystem/KBV_NS_Base_BSNR"), el("value", "999999901")),
			el("name", "Praxis für Übungszwecke"), el("telecom", "", el("system", "phone"), el("value", "0301234567")), el("telecom", "", el("system", "email"), el("value", "praxis@ktradv.invalid")),
			address("Straße der Beispiele", "3", "Vordermünster", "99999")),
		entry(base, "Coverage", coverage,
			meta(kbv+"StructureDefinition/KBV_PR_FOR_Coverage|1.1.0"),
			ext(deBasis+"StructureDefinition/gkv/besondere-personengruppe", valueCoding(kbv+"CodeSystem/KBV_CS_SFHIR_KBV_PERSONENGRUPPE", "00")),
			ext(deBasis+"StructureDefinition/gkv/dmp-kennzeichen", valueCoding(kbv+"CodeSystem/KBV_CS_SFHIR_KBV_DMP", "00")),
			ext(deBasis+"StructureDefinition/gkv/wop", valueCoding(kbv+"CodeSystem/KBV_CS_SFHIR_ITA_WOP", "71")),
			ext(deBasis+"StructureDefinition/gkv/versichertenart", valueCoding(kbv+"CodeSystem/KBV_CS_SFHIR_KBV_VERSICHERTENSTATUS", "1")),
			el("status", "active"), el("type", "", coding(deBasis+"CodeSystem/versicherungsart-de-basis", "GKV")),
			el("beneficiary", "", reference("Patient/"+patient)), el("payor", "", identifier(deBasis+"sid/arge-ik/iknr", "999567890"), el("display", "Musterkasse"))))
}

func dispensingXML() string {
	const base = "urn:uuid:"
	const (
		composition  = "a3b9f4d2-77c0-4b1e-8c55-2d90e1f3aa01"
		organization = "a3b9f4d2-77c0-4b1e-8c55-2d90e1f3aa02"
		dispense     = "a3b9f4d2-77c0-4b1e-8c55-2d90e1f3aa03"
		invoice      = "a3b9f4d2-77c0-4b1e-8c55-2d90e1f3aa04"
	)
	// In this kind of record the address of a resource is its identifier alone.
	uuid := func(kind, id string, inside ...string) string {
		return strings.Replace(entry(base, kind, id, inside...), base+kind+"/", base, 1)
	}
	money := func(value string) string {
		return el("valueMoney", "", el("value", value), el("currency", "EUR"))
	}
	line := func(number int, pzn, text, amount string) string {
		return el("lineItem", "", el("sequence", fmt.Sprint(number)),
			el("chargeItemCodeableConcept", "", coding(deBasis+"CodeSystem/ifa/pzn", pzn), el("text", text)),
			el("priceComponent", "",
				ext(dav+"StructureDefinition/DAV-EX-ERP-KostenVersicherter",
					ext("Kategorie", el("valueCodeableConcept", "", coding(dav+"CodeSystem/DAV-CS-ERP-KostenVersicherterKategorie", "0"))), ext("Kostenbetrag", money("5.00"))),
				ext(dav+"StructureDefinition/DAV-EX-ERP-MwStSatz", el("valueDecimal", "19.00")),
				el("type", "informational"), el("factor", "1.000000"), el("amount", "", el("value", amount), el("currency", "EUR"))))
	}
	return `<?xml version="1.0" encoding="UTF-8"?>` + bundle(markBundle, dav+"StructureDefinition/DAV-PR-ERP-AbgabedatenBundle|1.3", markID, markStamp,
		uuid("Composition", composition,
			meta(dav+"StructureDefinition/DAV-PR-ERP-AbgabedatenComposition|1.3"), el("status", "final"),
			el("type", "", coding(dav+"CodeSystem/DAV-CS-ERP-CompositionTypes", "ERezeptAbgabedaten")), el("date", markTime),
			el("author", "", reference(base+organization)), el("title", "ERezeptAbgabedaten"),
			el("section", "", el("title", "Abgabeinformationen"), el("entry", "", reference(base+dispense))),
			el("section", "", el("title", "Apotheke"), el("entry", "", reference(base+organization)))),
		uuid("Organization", organization,
			meta(dav+"StructureDefinition/DAV-PR-ERP-Apotheke|1.3"), identifier(deBasis+"sid/arge-ik/iknr", "999567891"),
			el("name", "Apotheke zum grünen Prüfstempel"), strings.Replace(address("Salbengasse", "1", "Vordermünster", "99999"), `"both"`, `"physical"`, 1)),
		uuid("MedicationDispense", dispense,
			meta(dav+"StructureDefinition/DAV-PR-ERP-Abgabeinformationen|1.3"),
			ext(dav+"StructureDefinition/DAV-EX-ERP-Abrechnungszeilen", el("valueReference", "", reference(base+invoice))),
			el("status", "completed"), el("medicationCodeableConcept", "", coding("http://terminology.hl7.org/CodeSystem/data-absent-reason", "not-applicable")),
			el("performer", "", el("actor", "", reference(base+organization))),
			el("authorizingPrescription", "", identifier(idSystem, markOther)),
			el("type", "", coding(dav+"CodeSystem/DAV-CS-ERP-MedicationDispenseTyp", "Abgabeinformationen")), el("whenHandedOver", markDate)),
		uuid("Invoice", invoice,
			meta(dav+"StructureDefinition/DAV-PR-ERP-Abrechnungszeilen|1.3"), el("status", "issued"),
			el("type", "", coding(dav+"CodeSystem/DAV-CS-ERP-InvoiceTyp", "Abrechnungszeilen")),
			line(1, "00000017", "Musterpräparat 20 mg", "21.58"), line(2, "02567018", "Noctu-Gebühr", "2.50"), line(3, "06461110", "Botendienst", "2.98"),
			line(4, "00000046", "Musterlösung 100 ml", "30.33"), line(5, "00000052", "Mustersalbe 50 g &lt;Rezeptur&gt;", "12.40"),
			el("totalGross", "", ext(dav+"StructureDefinition/DAV-EX-ERP-Gesamtzuzahlung", money("5.00")), el("value", "69.79"), el("currency", "EUR"))))
}

func receiptXML() string {
	const (
		composition = "c2d7b0aa-4e19-4f38-b6a4-90f2c55e7d01"
		device      = "c2d7b0aa-4e19-4f38-b6a4-90f2c55e7d02"
		digest      = "c2d7b0aa-4e19-4f38-b6a4-90f2c55e7d03"
		version     = "|1.4"
	)
	profile := func(name string) string { return meta(gem + "StructureDefinition/" + name + version) }
	in := func(kind, id string, inside ...string) string {
		return el("entry", "", el("fullUrl", "urn:uuid:"+id), el("resource", "", el(kind, "", append([]string{el("id", id)}, inside...)...)))
	}
	return `<?xml version="1.0" encoding="utf-8"?>` + "\n" + bundle(markBundle, gem+"StructureDefinition/GEM_ERP_PR_Bundle"+version, markID, markStamp,
		el("link", "", el("relation", "self"), el("url", "https://erp.ktradv.invalid/Task/"+markID+"/$close/")),
		in("Composition", composition, profile("GEM_ERP_PR_Composition"),
			ext(gem+"StructureDefinition/GEM_ERP_EX_Beneficiary", el("valueIdentifier", "", el("system", "https://gematik.de/fhir/sid/telematik-id"), el("value", markTeleID))),
			el("status", "final"), el("type", "", el("coding", "", el("system", gem+"CodeSystem/GEM_ERP_CS_DocumentType"), el("code", "3"), el("display", "Receipt"))),
			el("date", markTime), el("author", "", reference("urn:uuid:"+device)), el("title", "Quittung"),
			el("event", "", el("period", "", el("start", markStart), el("end", markTime))),
			el("section", "", el("entry", "", reference("urn:uuid:"+digest)))),
		in("Device", device, profile("GEM_ERP_PR_Device"), el("status", "active"), el("serialNumber", "1.17.0"),
			el("deviceName", "", el("name", "E-Rezept Fachdienst"), el("type", "user-friendly-name")), el("version", "", el("value", "1.17.0")),
			el("contact", "", el("system", "email"), el("value", "betrieb@ktradv.invalid"))),
		in("Binary", digest, el("meta", "", el("versionId", "1"), el("profile", gem+"StructureDefinition/GEM_ERP_PR_Digest"+version)),
			el("contentType", "application/octet-stream"), el("data", markDigest))) + "\n"
}

// PrescriptionID returns a prescription ID with right check digits: flow type (160, 200...) and running number.
func PrescriptionID(flow int, number uint64) string {
	digits := fmt.Sprintf("%03d%012d", flow%1000, number%1_000_000_000_000)
	remainder := 0
	for _, c := range digits + "00" {
		remainder = (remainder*10 + int(c-'0')) % 97
	}
	return fmt.Sprintf("%s.%s.%s.%s.%s.%02d", digits[:3], digits[3:6], digits[6:9], digits[9:12], digits[12:15], 98-remainder)
}

// recordContent is what differs from record to record.
type recordContent struct {
	id, other   string // prescription ID of the Bundle, and the one of MedicationDispense
	bundle      string
	at          time.Time
	start       time.Time // receipt: begin of the period
	digest      []byte    // receipt: of the prescription
	telematikID string
}

func (c recordContent) fill(t template) []byte {
	const millis = "2006-01-02T15:04:05.000-07:00"
	return t.fill(map[string]string{
		markID: c.id, markOther: c.other, markBundle: c.bundle, markStamp: c.at.Format(millis), markTime: c.at.Format(millis),
		markDate: c.at.Format(time.DateOnly), markStart: c.start.Format(millis), markDigest: base64.StdEncoding.EncodeToString(c.digest),
		markTeleID: c.telematikID,
	})
}
