package x509ti

import (
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

func TestReadText(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		der  string
		want string
		ok   bool
	}{
		{"UTF8String", "\x0c\x03K\xc3\xb6", "Kö", true},
		{"UTF8String, ISO 8859-1 inside", "\x0c\x02K\xf6", "", false},
		{"PrintableString", "\x13\x02DE", "DE", true},
		{"PrintableString with a control character", "\x13\x02D\x00", "", false},
		{"PrintableString beyond ASCII", "\x13\x02D\xe4", "", false},
		{"IA5String", "\x16\x03a@b", "a@b", true},
		{"NumericString", "\x12\x0212", "12", true},
		{"T61String", "\x14\x02K\xf6", "Kö", true},
		{"BMPString", "\x1e\x04\x00K\x00\xf6", "Kö", true},
		{"BMPString, odd", "\x1e\x03\x00K\x00", "", false},
		{"INTEGER", "\x02\x01\x01", "", false},
		{"nothing", "", "", false},
	} {
		in := cryptobyte.String(tc.der)
		if got, ok := readText(&in); ok != tc.ok || ok && got != tc.want {
			t.Errorf("%s: %q, %v", tc.name, got, ok)
		}
	}
}

func TestReadTime(t *testing.T) {
	t.Parallel()
	at := func(y int) time.Time { return time.Date(y, 2, 28, 23, 59, 59, 0, time.UTC) }
	for _, tc := range []struct {
		name string
		der  string
		want time.Time
	}{
		{"UTCTime, 2049", "\x17\x0d490228235959Z", at(2049)},
		{"UTCTime, 1950", "\x17\x0d500228235959Z", at(1950)},
		{"GeneralizedTime", "\x18\x0f20510228235959Z", at(2051)},
		{"fractions", "\x18\x1120510228235959.5Z", time.Time{}},
		{"without seconds", "\x17\x0b4902282359Z", time.Time{}},
		{"with offset", "\x17\x11490228235959+0100", time.Time{}},
		{"30 February", "\x17\x0d490230235959Z", time.Time{}},
		{"leap second", "\x17\x0d490228235960Z", time.Time{}},
		{"letters", "\x17\x0d49022823595xZ", time.Time{}},
		{"nothing", "", time.Time{}},
	} {
		in := cryptobyte.String(tc.der)
		got, ok := readTime(&in)
		if ok == tc.want.IsZero() || ok && !got.Equal(tc.want) {
			t.Errorf("%s: %v, %v", tc.name, got, ok)
		}
	}
}

// TestAdmissionForms: the optional parts that issuers add or leave out.
func TestAdmissionForms(t *testing.T) {
	t.Parallel()
	seq := func(tag byte, parts ...string) string {
		body := ""
		for _, p := range parts {
			body += p
		}
		return string([]byte{tag, byte(len(body))}) + body
	}
	item, role := seq(0x30, "\x0c\x01A"), seq(0x30, "\x06\x02\x2a\x03")
	authority := seq(0xa4, seq(0x30)) // directoryName
	for _, tc := range []struct {
		name  string
		info  string
		roles int
		reg   string
		ok    bool
	}{
		{"plain", seq(0x30, item, role), 1, "", true},
		{"text only", seq(0x30, item), 0, "", true},
		{"registration without role", seq(0x30, item, "\x13\x017"), 0, "7", true},
		{"all", seq(0x30, seq(0xa0, seq(0x30)), item, role, "\x13\x017", "\x04\x00"), 1, "7", true},
		{"items missing", seq(0x30, "\x13\x017"), 0, "", false},
		{"role is no identifier", seq(0x30, item, seq(0x30, "\x02\x01\x01")), 0, "", false},
		{"something after", seq(0x30, item, role, "\x05\x00"), 0, "", false},
		{"item is a number", seq(0x30, seq(0x30, "\x02\x01\x01"), role), 0, "", false},
	} {
		for _, outer := range []string{
			seq(0x30, seq(0x30, seq(0x30, seq(0x30, tc.info)))),
			seq(0x30, authority, seq(0x30, seq(0x30, seq(0xa0, authority), seq(0xa1, seq(0x30)), seq(0x30, tc.info)))),
		} {
			var c Certificate
			ok := c.parseAdmission(cryptobyte.String(outer))
			if ok != tc.ok {
				t.Errorf("%s: %v", tc.name, ok)
				continue
			}
			if ok && (len(c.Admissions) != 1 || len(c.Roles()) != tc.roles || c.Admissions[0].Registration != tc.reg) {
				t.Errorf("%s: %+v", tc.name, c.Admissions)
			}
		}
	}
}
