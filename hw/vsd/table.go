package vsd

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"ktradv/internal/redact"
)

// Kind tells how the value of a row is to be shown.
type Kind string

// The kinds.
const (
	KindText Kind = "text" // Value as it is
	KindDate Kind = "date" // Value is YYYYMMDD; month and day may be 00, that is unknown
	KindTime Kind = "time" // At is an instant, to be shown in local time
	KindCode Kind = "code" // ValueID names the meaning; when it is "", Value is a key that the tables do not know
)

// Row is one labelled value.
type Row struct {
	// LabelID names the label. It is "" for an element that the schema does not know; LabelText is its name then.
	LabelID   string
	LabelText redact.String
	Kind      Kind
	Value     redact.String // as it stands on the card, whatever the kind
	ValueID   string
	At        time.Time
}

// Section is a group of rows under a heading.
type Section struct {
	ID   string // names the heading
	Rows []Row
}

// The headings, in the order in which they are shown. A section without rows is left out.
const (
	SectionPerson     = "vsd.section.person"
	SectionAddress    = "vsd.section.wohnanschrift"
	SectionPOBox      = "vsd.section.postfachadresse"
	SectionInsurance  = "vsd.section.versicherung"
	SectionPrivate    = "vsd.section.zusatzinfos_pkv"
	SectionProtected  = "vsd.section.geschuetzt"
	SectionLastUpdate = "vsd.section.stand"
)

var sections = []string{SectionPerson, SectionAddress, SectionPOBox, SectionInsurance, SectionPrivate, SectionProtected, SectionLastUpdate}

// format says how the text of an element becomes a row.
type format int

const (
	asText    format = iota
	asDate           // YYYYMMDD, else text
	asYesNo          // 0 or 1
	asCode           // key of the table, leading zeros do not count
	asKey            // key of the table, two digits
	asLetter         // key of the table, as it is; unknown ones are plain text
	asEuro           // whole euros
	asPercent        // whole percents
	asFour           // four flags, one row each
)

// field is one element of the schema. The fields of a section are shown in the order of this table, those of a group that
// may occur several times in the order of the document.
type field struct {
	section string
	path    string // document and elements below the root
	label   string
	format  format
	table   string // of code values
	group   string // name of the repeated group that it belongs to
}

const (
	person  = "pd/Versicherter/Person/"
	street  = person + "StrassenAdresse/"
	poBox   = person + "PostfachAdresse/"
	cover   = "vd/Versicherter/Versicherungsschutz/"
	payer   = cover + "Kostentraeger/"
	billing = payer + "AbrechnenderKostentraeger/"
	gkv     = "vd/Versicherter/Zusatzinfos/ZusatzinfosGKV/"
	refund  = gkv + "Zusatzinfos_Abrechnung_GKV/Kostenerstattung/"
	pkv     = "vd/Versicherter/Zusatzinfos/ZusatzinfosPKV/"
	ward    = pkv + "StationaereLeistungen/"
	room    = ward + "WahlleistungUnterkunft/"
	doctor  = ward + "WahlleistungAerztlicheBehandlung/"
	gvd     = "gvd/"
)

var fields = []field{
	{SectionPerson, person + "Titel", "vsd.pd.titel", asText, "", ""},
	{SectionPerson, person + "Vorname", "vsd.pd.vorname", asText, "", ""},
	{SectionPerson, person + "Namenszusatz", "vsd.pd.namenszusatz", asText, "", ""},
	{SectionPerson, person + "Vorsatzwort", "vsd.pd.vorsatzwort", asText, "", ""},
	{SectionPerson, person + "Nachname", "vsd.pd.nachname", asText, "", ""},
	{SectionPerson, person + "Geburtsdatum", "vsd.pd.geburtsdatum", asDate, "", ""},
	{SectionPerson, person + "Geschlecht", "vsd.pd.geschlecht", asCode, "geschlecht", ""},
	{SectionPerson, "pd/Versicherter/Versicherten_ID", "vsd.pd.versicherten_id", asText, "", ""},

	{SectionAddress, street + "Strasse", "vsd.pd.strasse", asText, "", ""},
	{SectionAddress, street + "Hausnummer", "vsd.pd.hausnummer", asText, "", ""},
	{SectionAddress, street + "Anschriftenzusatz", "vsd.pd.anschriftenzusatz", asText, "", ""},
	{SectionAddress, street + "Postleitzahl", "vsd.pd.postleitzahl", asText, "", ""},
	{SectionAddress, street + "Ort", "vsd.pd.ort", asText, "", ""},
	{SectionAddress, street + "Land/Wohnsitzlaendercode", "vsd.pd.land", asLetter, "land", ""},

	{SectionPOBox, poBox + "Postfach", "vsd.pd.postfach", asText, "", ""},
	{SectionPOBox, poBox + "Postleitzahl", "vsd.pd.postleitzahl", asText, "", ""},
	{SectionPOBox, poBox + "Ort", "vsd.pd.ort", asText, "", ""},
	{SectionPOBox, poBox + "Land/Wohnsitzlaendercode", "vsd.pd.land", asLetter, "land", ""},

	{SectionInsurance, payer + "Name", "vsd.vd.kostentraeger.name", asText, "", ""},
	{SectionInsurance, payer + "Kostentraegerkennung", "vsd.vd.kostentraeger.kennung", asText, "", ""},
	{SectionInsurance, payer + "Kostentraegerlaendercode", "vsd.vd.kostentraeger.land", asLetter, "land", ""},
	{SectionInsurance, billing + "Name", "vsd.vd.abrechnender.name", asText, "", ""},
	{SectionInsurance, billing + "Kostentraegerkennung", "vsd.vd.abrechnender.kennung", asText, "", ""},
	{SectionInsurance, billing + "Kostentraegerlaendercode", "vsd.vd.abrechnender.land", asLetter, "land", ""},
	{SectionInsurance, cover + "Beginn", "vsd.vd.beginn", asDate, "", ""},
	{SectionInsurance, cover + "Ende", "vsd.vd.ende", asDate, "", ""},
	{SectionInsurance, gkv + "Versichertenart", "vsd.vd.versichertenart", asCode, "versichertenart", ""},
	{SectionInsurance, gkv + "Zusatzinfos_Abrechnung_GKV/WOP", "vsd.vd.wop", asKey, "wop", ""},
	{SectionInsurance, refund + "AerztlicheVersorgung", "vsd.vd.kostenerstattung.aerztlich", asYesNo, "", ""},
	{SectionInsurance, refund + "ZahnaerztlicheVersorgung", "vsd.vd.kostenerstattung.zahnaerztlich", asYesNo, "", ""},
	{SectionInsurance, refund + "StationaererBereich", "vsd.vd.kostenerstattung.stationaer", asYesNo, "", ""},
	{SectionInsurance, refund + "VeranlassteLeistungen", "vsd.vd.kostenerstattung.veranlasst", asYesNo, "", ""},

	{SectionPrivate, pkv + "Tarifart", "vsd.vd.pkv.tarifart", asCode, "tarifart", ""},
	{SectionPrivate, pkv + "Beihilfeberechtigung", "vsd.vd.pkv.beihilfe", asCode, "beihilfe", ""},
	{SectionPrivate, pkv + "KVB_PBeaK", "vsd.vd.pkv.kvb_pbeak", asCode, "kvb_pbeak", ""},
	{SectionPrivate, ward + "TeilnahmeClinicCardVerfahren", "vsd.vd.pkv.cliniccard", asYesNo, "", ""},
	{SectionPrivate, room + "ArtWahlleistungUnterkunft", "vsd.vd.pkv.unterkunft.art", asCode, "unterkunft", "room"},
	{SectionPrivate, room + "HoechstbetragWahlleistungUnterkunft", "vsd.vd.pkv.unterkunft.hoechstbetrag", asEuro, "", "room"},
	{SectionPrivate, room + "ProzentwertWahlleistungUnterkunft", "vsd.vd.pkv.unterkunft.prozent", asPercent, "", "room"},
	{SectionPrivate, doctor + "ArtWahlleistungAerztlicheBehandlung", "vsd.vd.pkv.behandlung.art", asCode, "behandlung", ""},
	{SectionPrivate, doctor + "ProzentwertWahlleistungAerztlicheBehandlung", "vsd.vd.pkv.behandlung.prozent", asPercent, "", ""},
	{SectionPrivate, ward + "AllgemeineKrankenhausleistungen", "vsd.vd.pkv.krankenhaus.prozent", asPercent, "", ""},

	{SectionProtected, gvd + "Zuzahlungsstatus/Status", "vsd.gvd.zuzahlung.befreit", asYesNo, "", ""},
	{SectionProtected, gvd + "Zuzahlungsstatus/Gueltig_bis", "vsd.gvd.zuzahlung.bis", asDate, "", ""},
	{SectionProtected, gvd + "BesonderePersonengruppe", "vsd.gvd.personengruppe", asCode, "personengruppe", ""},
	{SectionProtected, gvd + "DMP_Kennzeichnung", "vsd.gvd.dmp", asCode, "dmp", ""},
	{SectionProtected, gvd + "Selektivvertraege/Aerztlich", "vsd.gvd.selektiv.aerztlich", asCode, "selektiv", ""},
	{SectionProtected, gvd + "Selektivvertraege/Zahnaerztlich", "vsd.gvd.selektiv.zahnaerztlich", asCode, "selektiv", ""},
	{SectionProtected, gvd + "Selektivvertraege/Art", "vsd.gvd.selektiv.art", asFour, "", ""},
	{SectionProtected, gvd + "RuhenderLeistungsanspruch/Beginn", "vsd.gvd.ruhen.beginn", asDate, "", ""},
	{SectionProtected, gvd + "RuhenderLeistungsanspruch/Ende", "vsd.gvd.ruhen.ende", asDate, "", ""},
	{SectionProtected, gvd + "RuhenderLeistungsanspruch/ArtDesRuhens", "vsd.gvd.ruhen.art", asCode, "ruhen", ""},
}

// selectiveKinds are the labels of the four flags of Selektivvertraege/Art. The second place is not used any more and is
// shown only when it is set.
var selectiveKinds = [4]string{"vsd.gvd.selektiv.art.hausarzt", "vsd.gvd.selektiv.art.stelle2", "vsd.gvd.selektiv.art.dmp", "vsd.gvd.selektiv.art.integriert"}

// Labels of EF.StatusVD.
const labelUpdated = "vsd.status.aktualisiert"

// Value ids that are not made of a table and a key.
const (
	ValueYes     = "vsd.value.ja"
	ValueNo      = "vsd.value.nein"
	ValueUnknown = "vsd.value.unbekannt" // no time of the last update
)

// codes are the keys of the code tables; the id of a value is "vsd.value." table "." key. Sources: Schema_VSD 5.2.0 and
// Schema_VSD_PKV 1.0.0, the associations of physicians' regions (WOP), DMP 12 of 2024; "D" is the only country that is
// spelled out, other codes are shown as they are.
var codes = map[string][]string{
	"geschlecht":      {"M", "W", "X", "D"},
	"land":            {"D"},
	"versichertenart": {"1", "3", "5"},
	"wop":             {"00", "01", "02", "03", "17", "20", "38", "46", "51", "52", "71", "72", "73", "78", "83", "88", "93", "98"},
	"personengruppe":  {"4", "6", "7", "8", "9"},
	"dmp": {"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "30", "31", "32", "33", "34", "35", "36", "37", "38", "39",
		"40", "41", "42", "43", "44", "45", "46", "47", "48", "49", "50", "51", "52", "53", "54", "55", "56", "57", "58"},
	"selektiv":   {"0", "1", "9"},
	"ruhen":      {"1", "2"},
	"tarifart":   {"1", "2", "3", "4"},
	"beihilfe":   {"0", "1"},
	"kvb_pbeak":  {"0", "1", "2"},
	"unterkunft": {"0", "1", "2", "3", "4"},
	"behandlung": {"0", "1", "2", "3"},
}

// valueID returns the id of a key, "" when the table does not have it.
func valueID(table, key string) string {
	if !slices.Contains(codes[table], key) {
		return ""
	}
	return "vsd.value." + table + "." + strings.ToLower(key)
}

// SectionIDs lists the ids of all headings.
func SectionIDs() []string { return slices.Clone(sections) }

// LabelIDs lists the ids of all labels, sorted.
func LabelIDs() []string {
	ids := append([]string{labelUpdated}, selectiveKinds[:]...)
	for _, f := range fields {
		ids = append(ids, f.label)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// ValueIDs lists the ids of all code values, sorted.
func ValueIDs() []string {
	ids := []string{ValueYes, ValueNo, ValueUnknown}
	for table, keys := range codes {
		for _, k := range keys {
			ids = append(ids, valueID(table, k))
		}
	}
	slices.Sort(ids)
	return ids
}

// rows turns the text of an element into rows, usually one.
func (f *field) rows(text string) []Row {
	row := Row{LabelID: f.label, Kind: KindText, Value: redact.NewString(text)}
	switch f.format {
	case asDate:
		if isDate(text) {
			row.Kind = KindDate
		}
	case asYesNo:
		row.Kind = KindCode
		row.ValueID = map[string]string{"0": ValueNo, "1": ValueYes, "false": ValueNo, "true": ValueYes}[text]
	case asCode:
		row.Kind = KindCode
		key := strings.TrimLeft(text, "0")
		if key == "" && text != "" {
			key = "0"
		}
		row.ValueID = valueID(f.table, key)
	case asKey:
		row.Kind, row.ValueID = KindCode, valueID(f.table, text)
	case asLetter:
		if row.ValueID = valueID(f.table, text); row.ValueID != "" {
			row.Kind = KindCode
		}
	case asEuro, asPercent:
		unit := map[format]string{asEuro: " €", asPercent: " %"}[f.format]
		if n, err := strconv.ParseUint(text, 10, 32); err == nil {
			row.Value = redact.NewString(strconv.FormatUint(n, 10) + unit)
		}
	case asFour:
		return fourRows(row, text)
	}
	return []Row{row}
}

// fourRows makes a row of each flag of Selektivvertraege/Art. A text of another form stays one row.
func fourRows(row Row, text string) []Row {
	if len(text) != len(selectiveKinds) || strings.Trim(text, "01") != "" {
		return []Row{row}
	}
	var rows []Row
	for i, label := range selectiveKinds {
		if i == 1 && text[i] == '0' {
			continue
		}
		r := Row{LabelID: label, Kind: KindCode, Value: redact.NewString(text[i : i+1]), ValueID: ValueNo}
		if text[i] == '1' {
			r.ValueID = ValueYes
		}
		rows = append(rows, r)
	}
	return rows
}

// isDate reports whether s is a date YYYYMMDD whose month and day may be 00.
func isDate(s string) bool {
	if len(s) != 8 || !allDigits(s) {
		return false
	}
	month, day := s[4:6], s[6:]
	if month == "00" || day == "00" {
		return month <= "12" && day <= "31"
	}
	_, err := time.Parse("20060102", s)
	return err == nil
}

// homes is where elements of a document go that the table does not know.
var homes = map[string]string{"pd": SectionPerson, "vd": SectionInsurance, "gvd": SectionProtected}

// arrange puts the leaves into sections: known elements in the order of the table, unknown ones behind them in the order
// of the document, and the time of the last update at the end.
func arrange(leaves []leaf, status Status) []Section {
	byPath := map[string]int{}
	first := map[string]int{} // of a repeated group
	for i, f := range fields {
		byPath[f.path] = i
		if _, ok := first[f.group]; !ok && f.group != "" {
			first[f.group] = i
		}
	}
	type placed struct {
		section             string
		rank, group, within int
		rows                []Row
	}
	var all []placed
	for _, l := range leaves {
		i, known := byPath[l.doc+"/"+l.path]
		switch {
		case !known:
			name := l.path[strings.LastIndexByte(l.path, '/')+1:]
			all = append(all, placed{homes[l.doc], len(fields), 0, 0,
				[]Row{{LabelText: redact.NewString(name), Kind: KindText, Value: redact.NewString(l.text)}}})
		case l.text == "":
			// The schema allows an empty element where it means nothing.
		case fields[i].group != "":
			all = append(all, placed{fields[i].section, first[fields[i].group], l.group, i, fields[i].rows(l.text)})
		default:
			all = append(all, placed{fields[i].section, i, 0, 0, fields[i].rows(l.text)})
		}
	}
	slices.SortStableFunc(all, func(a, b placed) int {
		for _, d := range []int{a.rank - b.rank, a.group - b.group, a.within - b.within} {
			if d != 0 {
				return d
			}
		}
		return 0
	})
	updated := Row{LabelID: labelUpdated, Kind: KindTime, At: status.Updated}
	if status.Updated.IsZero() {
		updated = Row{LabelID: labelUpdated, Kind: KindCode, ValueID: ValueUnknown}
	}
	all = append(all, placed{section: SectionLastUpdate, rows: []Row{updated}})
	var out []Section
	for _, id := range sections {
		s := Section{ID: id}
		for _, p := range all {
			if p.section == id {
				s.Rows = append(s.Rows, p.rows...)
			}
		}
		if len(s.Rows) > 0 {
			out = append(out, s)
		}
	}
	return out
}
