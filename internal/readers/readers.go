// Package readers is the table of card reader models: what the product has to know about a reader because the reader
// itself does not say it, or says it wrongly. It is data for the reader code (ktradv/hw/reader), for the terminal's
// configuration, which may add to it, and for the appliance, which admits only these USB devices as readers.
//
// Source: readers' descriptors as libccid lists them and the makers' handbooks.
package readers

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Spellings of a format-2 PIN block in PC/SC part 10: bmFormatString/bmPINBlockString/bmPINLengthFormat. A reader that
// takes another than the one it is given may build a wrong block, which the card counts as a wrong PIN.
const (
	PINFormatBytes = "89/47/04"
	PINFormatBits  = "41/48/04"
	PINFormatFPIN2 = "81/48/04"
)

// Model is one kind of reader.
type Model struct {
	// Name is a part of the reader's PC/SC name, compared without regard to case; "" matches none.
	Name string `json:"name"`
	// USB is vendor and product, four hexadecimal digits each, as in "0D46:3002"; "" where it is not known.
	USB string `json:"usb"`
	// PINFormat is one of the PINFormat constants; "" is PINFormatBytes.
	PINFormat string `json:"pin_format"`
	// Display says whether there is a display, where the driver reports none or nothing; nil where that is not known.
	Display *bool `json:"display"`
	// VerifyMessages and ModifyMessages are the numbers of messages to ask for in PC/SC part 10; nil lets the rules of
	// package reader decide.
	VerifyMessages *int `json:"verify_messages"`
	ModifyMessages *int `json:"modify_messages"`
	// FreeText false keeps us from using the display's free text although the driver offers it; nil believes the driver.
	FreeText *bool `json:"free_text"`
	// EntryTimeoutS is how long the reader waits for a key, 30 to 60 seconds; 0 is 30.
	EntryTimeoutS int `json:"entry_timeout_s"`
	// MinFirmware is the lowest bcdDevice with which the reader works, as in "0.37"; "" takes every one.
	MinFirmware string `json:"min_firmware"`
}

func yes() *bool       { b := true; return &b }
func no() *bool        { b := false; return &b }
func count(n int) *int { return &n }

// Known are the models that the product knows. A reader that is neither here nor reports a display counts as class 2.
var Known = []Model{
	// The maker's handbook spells format 2 its own way. The driver libifd-cyberjack reports no properties at all.
	{Name: "REINER SCT cyberJack one", USB: "0C4B:0580", PINFormat: PINFormatFPIN2, Display: yes()},
	{Name: "REINER SCT cyberJack RFID standard", USB: "0C4B:0500", PINFormat: PINFormatFPIN2, Display: yes()},
	{Name: "REINER SCT cyberJack RFID komfort", USB: "0C4B:0501", PINFormat: PINFormatFPIN2, Display: yes()},
	{Name: "REINER SCT cyberJack pinpad", USB: "0C4B:0300", PINFormat: PINFormatFPIN2, Display: yes()},
	{Name: "REINER SCT cyberJack e-com", USB: "0C4B:0400", PINFormat: PINFormatFPIN2, Display: yes()},
	{Name: "REINER SCT", PINFormat: PINFormatFPIN2, Display: yes()},
	// Has a display and reports none. libccid refuses firmware before 0.37 as bogus.
	{Name: "KOBIL KAAN Advanced", USB: "0D46:3002", Display: yes(), MinFirmware: "0.37"},
	// The driver replaces a message count for modify other than 0.
	{Name: "Cherry SmartTerminal ST-2", USB: "046A:003E", Display: no(), ModifyMessages: count(0)},
	{Name: "Cherry GmbH SmartTerminal ST-2", USB: "046A:003E", Display: no(), ModifyMessages: count(0)},
	// Keyboard without display; refuses modify without messages.
	{Name: "Cherry KC 1000 SC", USB: "046A:00A1", Display: no(), ModifyMessages: count(3)},
	// Exactly one message, in every request.
	{Name: "GemPC Pinpad", USB: "08E6:3478", VerifyMessages: count(1), ModifyMessages: count(1)},
	{Name: "GemPCPinpad", USB: "08E6:3478", VerifyMessages: count(1), ModifyMessages: count(1)},
	{Name: "SPR 532", USB: "04E6:E003", Display: no()},
	{Name: "SPRx32", Display: no()},
}

// USBID is a USB device's vendor and product.
type USBID struct{ Vendor, Product uint16 }

// String gives "0D46:3002".
func (id USBID) String() string { return fmt.Sprintf("%04X:%04X", id.Vendor, id.Product) }

// ErrSyntax is wrapped by the errors of ParseUSB and ParseFirmware.
var ErrSyntax = errors.New("not of the right form")

// ParseUSB reads vendor and product as four hexadecimal digits each with a colon between.
func ParseUSB(s string) (USBID, error) {
	v, p, ok := strings.Cut(s, ":")
	if ok && len(v) == 4 && len(p) == 4 {
		a, err1 := strconv.ParseUint(v, 16, 16)
		b, err2 := strconv.ParseUint(p, 16, 16)
		if err1 == nil && err2 == nil {
			return USBID{uint16(a), uint16(b)}, nil
		}
	}
	return USBID{}, fmt.Errorf("usb id %q: %w: want VVVV:PPPP", s, ErrSyntax)
}

// ParseFirmware reads a version of the form "1.23" as the bcdDevice of a USB descriptor: one to two digits each side.
func ParseFirmware(s string) (uint16, error) {
	major, minor, ok := strings.Cut(s, ".")
	if ok && len(major) >= 1 && len(major) <= 2 && len(minor) == 2 {
		a, err1 := strconv.ParseUint(major, 16, 8)
		b, err2 := strconv.ParseUint(minor, 16, 8)
		if err1 == nil && err2 == nil {
			return uint16(a)<<8 | uint16(b), nil
		}
	}
	return 0, fmt.Errorf("firmware %q: %w: want N.NN", s, ErrSyntax)
}

// Find gives the first model whose name is a part of the PC/SC name, or, where there is none, the first with the USB id;
// either may be missing ("" and the zero id). ok is false where the reader is unknown.
func Find(models []Model, name string, id USBID) (m Model, ok bool) {
	name = strings.ToLower(name)
	for _, m := range models {
		if m.Name != "" && strings.Contains(name, strings.ToLower(m.Name)) {
			return m, true
		}
	}
	return FindUSB(models, id)
}

// FindUSB gives the first model with a USB id.
func FindUSB(models []Model, id USBID) (m Model, ok bool) {
	if id == (USBID{}) {
		return Model{}, false
	}
	for _, m := range models {
		if own, err := ParseUSB(m.USB); err == nil && own == id {
			return m, true
		}
	}
	return Model{}, false
}

// TooOld reports whether a firmware (bcdDevice) is older than the model needs.
func (m Model) TooOld(bcdDevice uint16) bool {
	lowest, err := ParseFirmware(m.MinFirmware)
	return err == nil && bcdDevice < lowest
}
