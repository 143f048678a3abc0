// Package vsd reads the insured person's master data (Versichertenstammdaten) from a health card and turns them into
// sections of labelled rows: personal data (EF.PD), insurance data (EF.VD), protected data (EF.GVD) and the time of the
// last update (EF.StatusVD). Layouts and rules: vsdm-nfdm.md 1.1 to 1.9, schema VSD 5.2.0.
//
// The card is outside input: decompression is bounded, parsing is strict, and nothing that stands on the card is lost on
// the way to the screen (AdV-A_2460): codes that the tables do not know and elements that the schema does not know are
// kept and marked as such. Labels and code values are ids; their texts live with the user interface, and [LabelIDs],
// [ValueIDs] and [SectionIDs] list all of them.
package vsd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"ktradv/hw/apdu"
	"ktradv/hw/cos"
	"ktradv/hw/egk"
	"ktradv/internal/redact"
)

// Errors. They arrive wrapped.
var (
	// ErrInconsistent is VSDM error 3001: an update of the data was begun and not finished.
	ErrInconsistent = errors.New("insured person's data are inconsistent (3001)")
	// ErrUnreadable is VSDM error 3011: reading or decompressing failed. Beside it stands what was wrong.
	ErrUnreadable = errors.New("insured person's data cannot be read (3011)")
	// ErrInactive is VSDM error 114: the health application of the card is hidden, terminated or absent.
	ErrInactive = errors.New("health application of the card is not active (114)")
	// ErrTooLarge comes beside ErrUnreadable: the decompressed data exceed MaxXML.
	ErrTooLarge = errors.New("decompressed data too large")
)

// Status is the content of EF.StatusVD.
type Status struct {
	Consistent bool
	Updated    time.Time // last update, UTC; zero when the card does not state it
	Version    string    // of the XML schema, "5.2.0"
	Storage    string    // of the storage structure, "3.0.4"
}

// storageVersions are the storage structures that this package reads; with any other it gives up (VSDM-A_2979).
var storageVersions = map[string]bool{"3.0.4": true}

// ParseStatus decodes EF.StatusVD: status '0' or '1', time YYYYMMDDhhmmss in UTC, two version numbers of ten BCD digits
// split 3-3-4.
func ParseStatus(b []byte) (Status, error) {
	var s Status
	if len(b) != 25 {
		return s, fmt.Errorf("EF.StatusVD: %w: %d octets", ErrUnreadable, len(b))
	}
	switch b[0] {
	case '0':
		s.Consistent = true
	case '1':
	default:
		return s, fmt.Errorf("EF.StatusVD: %w: status %02X", ErrUnreadable, b[0])
	}
	if stamp := string(b[1:15]); stamp != "00000000000000" {
		t, err := time.Parse("20060102150405", stamp)
		if err != nil {
			return s, fmt.Errorf("EF.StatusVD: %w: time of the last update", ErrUnreadable)
		}
		s.Updated = t
	}
	for field, to := range map[int]*string{15: &s.Version, 20: &s.Storage} {
		digits := hex.EncodeToString(b[field : field+5])
		var major, minor, patch int
		if _, err := fmt.Sscanf(digits, "%3d%3d%4d", &major, &minor, &patch); err != nil || !allDigits(digits) {
			return s, fmt.Errorf("EF.StatusVD: %w: version number", ErrUnreadable)
		}
		*to = fmt.Sprintf("%d.%d.%d", major, minor, patch)
	}
	return s, nil
}

// Data are the master data of one card.
type Data struct {
	Status Status
	// KVNR is the insured person's number in EF.PD, empty when it has not the form of one.
	KVNR redact.KVNR
	// IK is the number of the insurer in EF.VD.
	IK string
	// HasGVD: the protected data were asked for and are part of Sections.
	HasGVD bool
	// Sections hold everything for the screen, in the order in which it is to be shown.
	Sections []Section
}

// Short file identifiers in DF.HCA with the sizes of the files.
const (
	sfidPD, sizePD         = 0x01, 850
	sfidVD, sizeVD         = 0x02, 1250
	sfidGVD, sizeGVD       = 0x03, 600
	sfidStatus, sizeStatus = 0x0C, 25
)

// Read reads the master data: five commands with the protected data, which need PIN.CH and card-to-card, four without.
//
// Errors: [ErrInactive], [ErrInconsistent], [ErrUnreadable] (with a [*cos.StatusError] beside it when the card refused),
// and those of the transmitter. When the card warns that data may be corrupt and they could be decoded, Data and the
// warning (see [cos.IsWarning]) are returned together.
func Read(ctx context.Context, t apdu.Transmitter, withGVD bool) (*Data, error) {
	card := cos.New(t)
	objects := egk.Objects(egk.G21) // these files are the same in all generations
	state, err := egk.SelectApp(ctx, card, objects, egk.HCA)
	if err != nil {
		return nil, fmt.Errorf("read insured person's data: %w", err)
	}
	if state != egk.AppAvailable {
		return nil, fmt.Errorf("DF.HCA is %v: %w", state, ErrInactive)
	}
	var warning error
	read := func(name string, sfid byte, size int) ([]byte, error) {
		raw, err := card.ReadFile(ctx, sfid, size)
		var status *cos.StatusError
		switch {
		case err == nil:
		case cos.IsWarning(err):
			warning = errors.Join(warning, err)
		case errors.As(err, &status):
			return nil, fmt.Errorf("read %s: %w: %w", name, ErrUnreadable, err)
		default:
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		return raw, nil
	}
	raw, err := read("EF.StatusVD", sfidStatus, sizeStatus)
	if err != nil {
		return nil, err
	}
	data := &Data{}
	if data.Status, err = ParseStatus(raw); err != nil {
		return nil, err
	}
	if !data.Status.Consistent {
		return nil, fmt.Errorf("EF.StatusVD: %w", ErrInconsistent)
	}
	if !storageVersions[data.Status.Storage] {
		return nil, fmt.Errorf("EF.StatusVD: %w: storage structure %s", ErrUnreadable, data.Status.Storage)
	}
	var contents [3][]byte // PD, VD, GVD
	if contents[0], err = read("EF.PD", sfidPD, sizePD); err != nil {
		return nil, err
	}
	if contents[1], err = read("EF.VD", sfidVD, sizeVD); err != nil {
		return nil, err
	}
	if withGVD {
		if contents[2], err = read("EF.GVD", sfidGVD, sizeGVD); err != nil {
			return nil, err
		}
	}
	if err := data.decode(contents[0], contents[1], contents[2], withGVD); err != nil {
		return nil, err
	}
	return data, warning
}

func (d *Data) decode(pd, vd, gvd []byte, withGVD bool) error {
	d.HasGVD = withGVD
	var leaves []leaf
	add := func(doc document, content []byte, open func([]byte) ([]byte, error)) error {
		packed, err := open(content)
		if err != nil {
			return fmt.Errorf("EF.%s: %w", doc.file, err)
		}
		found, err := doc.read(packed)
		if err != nil {
			return fmt.Errorf("EF.%s: %w", doc.file, err)
		}
		leaves = append(leaves, found...)
		return nil
	}
	if err := add(documentPD, pd, openLengthPrefixed); err != nil {
		return err
	}
	if err := add(documentVD, vd, openVD); err != nil {
		return err
	}
	if withGVD {
		if err := add(documentGVD, gvd, openLengthPrefixed); err != nil {
			return err
		}
	}
	for _, l := range leaves {
		switch l.doc + "/" + l.path {
		case "pd/Versicherter/Versicherten_ID":
			if n, err := redact.NewKVNR(l.text); err == nil {
				d.KVNR = n
			}
		case "vd/Versicherter/Versicherungsschutz/Kostentraeger/Kostentraegerkennung":
			d.IK = l.text
		}
	}
	d.Sections = arrange(leaves, d.Status)
	return nil
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
