package readers

import (
	"errors"
	"testing"
)

func TestFind(t *testing.T) {
	t.Parallel()
	own := []Model{{Name: "oem", PINFormat: PINFormatBits}, {USB: "1234:ABCD", EntryTimeoutS: 60}}
	for name, tc := range map[string]struct {
		models []Model
		name   string
		id     USBID
		want   string // PINFormat, or USB
		ok     bool
	}{
		"by name":                 {Known, "KOBIL KAAN Advanced (0001) 00 00", USBID{}, "0D46:3002", true},
		"by name, in any case":    {Known, "kobil kaan ADVANCED", USBID{}, "0D46:3002", true},
		"by usb id":               {Known, "Some OEM reader", USBID{0x0D46, 0x3002}, "0D46:3002", true},
		"name before usb id":      {Known, "KOBIL KAAN Advanced", USBID{0x046A, 0x003E}, "0D46:3002", true},
		"unknown":                 {Known, "Some OEM reader", USBID{1, 2}, "", false},
		"no id":                   {Known, "Some OEM reader", USBID{}, "", false},
		"model without name":      {own[1:], "", USBID{0x1234, 0xABCD}, "1234:ABCD", true},
		"no name matches nothing": {[]Model{{USB: "1234:ABCD"}}, "any", USBID{}, "", false},
	} {
		m, ok := Find(tc.models, tc.name, tc.id)
		if ok != tc.ok || m.USB != tc.want {
			t.Errorf("%s: %+v, %v", name, m, ok)
		}
	}
}

// TestKnown: the table itself is of the right form.
func TestKnown(t *testing.T) {
	t.Parallel()
	for _, m := range Known {
		if m.Name == "" {
			t.Errorf("%+v has no name", m)
		}
		if _, err := ParseUSB(m.USB); m.USB != "" && err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
		if _, err := ParseFirmware(m.MinFirmware); m.MinFirmware != "" && err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
}

func TestTooOld(t *testing.T) {
	t.Parallel()
	m := Model{MinFirmware: "1.20"}
	for bcd, want := range map[uint16]bool{0x0119: true, 0x0120: false, 0x0200: false, 0: true} {
		if m.TooOld(bcd) != want {
			t.Errorf("%04x: too old %v, want %v", bcd, !want, want)
		}
	}
	if (Model{}).TooOld(0) {
		t.Error("a model without a lowest firmware found one too old")
	}
}

func TestForms(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "0D46", "0D46:", "D46:3002", "0D46:3002:1", "0G46:3002", "0D46 3002", "-D46:3002"} {
		if id, err := ParseUSB(s); !errors.Is(err, ErrSyntax) {
			t.Errorf("ParseUSB(%q) = %v, %v", s, id, err)
		}
	}
	if id, err := ParseUSB("0d46:3002"); err != nil || id.String() != "0D46:3002" {
		t.Errorf("%v, %v", id, err)
	}
	for _, s := range []string{"", "1", "1.", "1.2", "1.234", "123.45", "x.10", ".37"} {
		if v, err := ParseFirmware(s); !errors.Is(err, ErrSyntax) {
			t.Errorf("ParseFirmware(%q) = %x, %v", s, v, err)
		}
	}
}
