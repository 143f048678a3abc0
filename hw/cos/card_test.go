package cos_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"ktradv/hw/apdu"
	"ktradv/hw/cos"
	"ktradv/hw/internal/cardtest"
)

// TestStatusPerCommand holds the table against the specification: the same status word has another meaning with another
// command.
func TestStatusPerCommand(t *testing.T) {
	t.Parallel()
	sel := cos.SelectAID([]byte{1})
	tests := []struct {
		cmd    apdu.Command
		sw     uint16
		name   string
		result cos.Result
		left   int
		warn   bool
	}{
		{sel, 0x6283, "FileDeactivated", cos.ResultFileDeactivated, 0, false},
		{sel, 0x6285, "FileTerminated", cos.ResultObjectTerminated, 0, false},
		{sel, 0x6A82, "FileNotFound", cos.ResultObjectNotFound, 0, false},
		{cos.ReadBinary(1, 0, 1), 0x6281, "CorruptDataWarning", cos.ResultCorruptDataWarning, 0, true},
		{cos.ReadBinary(1, 0, 1), 0x6B00, "OffsetTooBig", cos.ResultOffsetTooBig, 0, false},
		{cos.ReadBinary(1, 0, 1), 0x6982, "SecurityStatusNotSatisfied", cos.ResultSecurityStatusNotSatisfied, 0, false},
		{cos.VerifyTemplate(1), 0x63C2, "WrongSecretWarning", cos.ResultWrongSecretWarning, 2, false},
		{cos.VerifyTemplate(1), 0x63C0, "WrongSecretWarning", cos.ResultPasswordBlocked, 0, false},
		{cos.VerifyTemplate(1), 0x6983, "PasswordBlocked", cos.ResultPasswordBlocked, 0, false},
		{cos.VerifyTemplate(1), 0x6985, "PasswordNotUsable", cos.ResultPasswordProtected, 0, false},
		{cos.VerifyTemplate(1), 0x6A88, "PasswordNotFound", cos.ResultObjectNotFound, 0, false},
		{cos.ChangeTemplate(1), 0x6985, "WrongPasswordLength", cos.ResultWrongLength, 0, false},
		{cos.UnblockTemplate(1), 0x63C3, "WrongSecretWarning", cos.ResultWrongSecretWarning, 3, false},
		{cos.UnblockTemplate(1), 0x6983, "CommandBlocked", cos.ResultPasswordBlocked, 0, false},
		{cos.EnableTemplate(1), 0x6985, "PasswordNotUsable", cos.ResultPasswordProtected, 0, false},
		{cos.UpdateBinary(1, 0, []byte{1}), 0x63C1, "UpdateRetryWarning", cos.ResultUpdateRetryWarning, 1, true},
		{cos.UpdateBinary(1, 0, []byte{1}), 0x6A84, "DataTooBig", cos.ResultDataTooBig, 0, false},
		{cos.AppendRecord(6, []byte{1}), 0x6A84, "FullRecordList", cos.ResultFullRecordList, 0, false},
		{cos.AppendRecord(6, []byte{1}), 0x6700, "WrongRecordLength", cos.ResultWrongRecordLength, 0, false},
		{cos.ReadRecord(6, 1, 256), 0x6A83, "RecordNotFound", cos.ResultRecordNotFound, 0, false},
		{cos.ReadRecord(6, 1, 256), 0x6287, "RecordDeactivated", cos.ResultRecordDeactivated, 0, false},
		{cos.Activate(), 0x6400, "ObjectTerminated", cos.ResultObjectTerminated, 0, false},
		{cos.Deactivate(), 0x63C1, "UpdateRetryWarning", cos.ResultUpdateRetryWarning, 1, true},
		{cos.Deactivate(), 0x6581, "MemoryFailure", cos.ResultMemoryFailure, 0, false},
		{cos.MSEVerifyCert([]byte{1}), 0x6A88, "KeyNotFound", cos.ResultErrorImportCVC, 0, false},
		{cos.MSEExternalAuth([]byte{1}, 0), 0x6A88, "KeyNotFound", cos.ResultErrorAuthentication, 0, false},
		{cos.PSOVerifyCertificate([]byte{1}), 0x6A80, "VerificationError", cos.ResultErrorImportCVC, 0, false},
		{cos.PSOVerifyCertificate([]byte{1}), 0x6983, "KeyExpired", cos.ResultErrorImportCVC, 0, false},
		{cos.InternalAuthenticate([]byte{1}), 0x6A80, "WrongToken", cos.ResultWrongToken, 0, false},
		{cos.ExternalAuthenticate([]byte{1}), 0x6300, "AuthenticationFailure", cos.ResultErrorAuthentication, 0, false},
		{cos.ExternalAuthenticate([]byte{1}), 0x6985, "NoRandom", cos.ResultErrorAuthentication, 0, false},
		{cos.GeneralAuthenticateChallenge([]byte{1}), 0x6A88, "KeyNotFound", cos.ResultErrorAuthentication, 0, false},
		{cos.GeneralAuthenticateKey([]byte{1}), 0x6400, "ParameterMismatch", cos.ResultErrorAuthentication, 0, false},
		{cos.GetPINStatus(1), 0x62D0, "PasswordDisabled", cos.ResultPasswordDisabled, 0, false},
		{cos.GetChallenge(8), 0x6F00, "", cos.ResultUnexpectedStatus, 0, false},
		{cos.GetChallenge(8), 0x6A82, "", cos.ResultUnexpectedStatus, 0, false},
		{apdu.Command{CLA: 0x8C, INS: 0x20, P2: 1}, 0x6988, "PasswordNotFound", cos.ResultObjectNotFound, 0, false},
		{apdu.Command{CLA: 0x00, INS: 0xFA}, 0x6D00, "InstructionNotSupported", cos.ResultUnexpectedStatus, 0, false},
	}
	for _, tc := range tests {
		t.Run(fmt.Sprintf("%s %04X", cos.Name(tc.cmd), tc.sw), func(t *testing.T) {
			t.Parallel()
			err := cos.Check(tc.cmd, tc.sw)
			var s *cos.StatusError
			if !errors.As(err, &s) {
				t.Fatalf("error %v", err)
			}
			if s.Name != tc.name || s.Result != tc.result || s.Left != tc.left || s.Carried != tc.warn || s.SW != tc.sw {
				t.Errorf("have %+v, want %+v", *s, tc)
			}
			if !cos.IsResult(err, tc.result) || cos.IsWarning(err) != tc.warn {
				t.Error("IsResult or IsWarning disagree")
			}
		})
	}
	if err := cos.Check(sel, 0x9000); err != nil {
		t.Errorf("9000 is an error: %v", err)
	}
	if got := cos.Name(apdu.Command{CLA: 0x00, INS: 0xFA}); got != "00FA0000" {
		t.Errorf("unknown command is called %s", got)
	}
}

func TestPINStatus(t *testing.T) {
	t.Parallel()
	tests := map[uint16]cos.PINStatus{
		0x9000: {State: cos.PINVerified},
		0x62C1: {State: cos.PINTransport},
		0x62C7: {State: cos.PINEmpty},
		0x62D0: {State: cos.PINDisabled},
		0x63C0: {State: cos.PINBlocked},
		0x63C1: {State: cos.PINNotVerified, Left: 1},
		0x63C3: {State: cos.PINNotVerified, Left: 3},
		0x6A88: {State: cos.PINAbsent},
	}
	for sw, want := range tests {
		card := cos.New(cardtest.Script(t, "80200001", fmt.Sprintf("%04X", sw)))
		got, err := card.GetPINStatus(t.Context(), 1)
		if err != nil || got != want {
			t.Errorf("%04X: %+v, %v, want %+v", sw, got, err, want)
		}
		if got.Transport() != (sw == 0x62C1 || sw == 0x62C7) {
			t.Errorf("%04X: Transport is %v", sw, got.Transport())
		}
	}
	card := cos.New(cardtest.Script(t, "80200001", "6982"))
	if got, err := card.GetPINStatus(t.Context(), 1); !cos.IsResult(err, cos.ResultSecurityStatusNotSatisfied) || got.State != cos.PINUnknown {
		t.Errorf("6982: %+v, %v", got, err)
	}
	if got := (cos.PINState(99)).String(); got != "unknown" {
		t.Errorf("impossible state prints %s", got)
	}
}

// transparent is a card with one transparent file, as a real card answers (egk-card.md 2.2).
func transparent(sfid byte, content []byte, sent *int) apdu.Transmitter {
	selected := false
	return apdu.TransmitterFunc(func(_ context.Context, c apdu.Command) (apdu.Response, error) {
		*sent++
		offset := int(c.P1)<<8 | int(c.P2)
		if c.P1&0x80 != 0 {
			if c.P1&0x1F != sfid {
				return apdu.Response{SW: 0x6A82}, nil
			}
			selected, offset = true, int(c.P2)
		}
		if !selected {
			return apdu.Response{SW: 0x6986}, nil
		}
		switch c.INS {
		case 0xB0:
			if offset >= len(content) {
				return apdu.Response{SW: 0x6B00}, nil
			}
			part := content[offset:min(len(content), offset+c.Ne)]
			if len(part) < c.Ne && c.Ne != apdu.MaxShortNe && c.Ne != apdu.MaxNe {
				return apdu.Response{Data: part, SW: 0x6282}, nil
			}
			return apdu.Response{Data: part, SW: 0x9000}, nil
		case 0xD6:
			if offset+len(c.Data) > len(content) {
				return apdu.Response{SW: 0x6A84}, nil
			}
			copy(content[offset:], c.Data)
			return apdu.Response{SW: 0x9000}, nil
		}
		return apdu.Response{SW: 0x6D00}, nil
	})
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		length   int
		size     int
		limits   cos.Limits
		commands int
	}{
		{"small file, short command", 60, 60, cos.MinimumLimits, 1},
		{"file of exactly 256", 256, 256, cos.MinimumLimits, 1},
		{"certificate in one extended command", 1900, 1900, cos.MinimumLimits, 1},
		{"AMTS in one extended command", 13767, 0, cos.MinimumLimits, 1},
		{"content shorter than the file", 100, 850, cos.MinimumLimits, 1},
		{"reader without extended length", 850, 850, cos.ShortLimits, 4},
		{"reader without extended length, even end", 512, 0, cos.ShortLimits, 3},
		{"empty", 0, 300, cos.MinimumLimits, 1},
		{"card with a small buffer", 1900, 0, cos.Limits{Command: 1033, Response: 1026}, 2},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			content := make([]byte, tc.length)
			for i := range content {
				content[i] = byte(i * 7)
			}
			var sent int
			card := cos.NewLimited(transparent(0x05, content, &sent), tc.limits)
			got, err := card.ReadFile(t.Context(), 0x05, tc.size)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, content) {
				t.Errorf("read %d octets, want %d", len(got), len(content))
			}
			if sent != tc.commands {
				t.Errorf("%d commands, want %d", sent, tc.commands)
			}
		})
	}
}

func TestReadFileErrors(t *testing.T) {
	t.Parallel()
	card := cos.New(cardtest.Script(t, "00B0850000", "6982"))
	if data, err := card.ReadFile(t.Context(), 5, 100); !cos.IsResult(err, cos.ResultSecurityStatusNotSatisfied) || data != nil {
		t.Errorf("locked file: %x, %v", data, err)
	}
	card = cos.New(cardtest.Script(t, "00B0850000", "01026281"))
	if data, err := card.ReadFile(t.Context(), 5, 100); !cos.IsResult(err, cos.ResultCorruptDataWarning) || !cos.IsWarning(err) || len(data) != 2 {
		t.Errorf("corrupt file: %x, %v", data, err)
	}
	if _, err := card.ReadBinary(t.Context(), 5, 256, 1); err == nil {
		t.Error("offset 256 with a short file identifier was sent")
	}
	if err := card.UpdateBinary(t.Context(), 5, -1, nil); err == nil {
		t.Error("negative offset was sent")
	}
}

type limitedReader struct{ apdu.Transmitter }

func (limitedReader) APDULimits() (int, int) {
	return cos.ShortLimits.Command, cos.ShortLimits.Response
}

func TestLimitsOfTheReader(t *testing.T) {
	t.Parallel()
	var sent int
	content := make([]byte, 600)
	if _, err := cos.New(limitedReader{transparent(1, content, &sent)}).ReadFile(t.Context(), 1, 850); err != nil || sent != 3 {
		t.Errorf("%d commands, want 3 (%v)", sent, err)
	}
}

func TestUpdateBinary(t *testing.T) {
	t.Parallel()
	for limits, commands := range map[cos.Limits]int{cos.MinimumLimits: 2, cos.ShortLimits: 7} {
		var sent int
		content := make([]byte, 1725)
		data := bytes.Repeat([]byte{0xA5}, 1600)
		card := cos.NewLimited(transparent(0x1B, content, &sent), limits)
		if err := card.UpdateBinary(t.Context(), 0x1B, 0, data); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content[:1600], data) || content[1600] != 0 || sent != commands {
			t.Errorf("limits %+v: %d commands, want %d", limits, sent, commands)
		}
	}
	card := cos.New(cardtest.Script(t, "00D6850001FF", "63C1"))
	if err := card.UpdateBinary(t.Context(), 5, 0, []byte{0xFF}); !cos.IsWarning(err) {
		t.Errorf("retry warning: %v", err)
	}
}

func TestTypedCommands(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	card := cos.New(cardtest.Script(t,
		"00A4040C", "9000",
		"00A4040C06D27600000102", "6283",
		"0084000010", "000102030405060708090A0B0C0D0E0F9000",
		"0084000008", "01029000",
		"00B20134 00", "AABB9000",
		"00E2003002 0102", "9000",
		"00704001", "9000",
		"00440000", "9000",
		"00040000", "6982",
		"000E8A00", "9000",
		"800E8A00", "9000",
		"10860000107C0EC30C000A8027600101169990210100", "7C0385010 49000",
		"002241A406840109800100", "9000",
		"002281A411830C000A80276001011699902101800100", "6A88",
		"002281B603 830101", "9000",
		"002A00BE0101", "6A80",
		"0088000001AA00", "CC9000",
		"0082000001BB", "6300",
		"00860000057C03850104", "9000",
	))
	chr := cardtest.Unhex(t, "000A80276001011699902101")
	check := func(step string, err error, want cos.Result) {
		t.Helper()
		if want == cos.ResultOK && err != nil || want != cos.ResultOK && !cos.IsResult(err, want) {
			t.Errorf("%s: %v, want %s", step, err, want)
		}
	}
	check("mf", card.SelectMF(ctx), cos.ResultOK)
	check("hca", card.SelectAID(ctx, cardtest.Unhex(t, "D27600000102")), cos.ResultFileDeactivated)
	rnd, err := card.GetChallenge(ctx, 16)
	check("challenge", err, cos.ResultOK)
	if len(rnd) != 16 {
		t.Errorf("challenge of %d octets", len(rnd))
	}
	if _, err := card.GetChallenge(ctx, 8); !errors.Is(err, cos.ErrResponseLength) {
		t.Errorf("short random number: %v", err)
	}
	rec, err := card.ReadRecord(ctx, 6, 1)
	check("read record", err, cos.ResultOK)
	if hex.EncodeToString(rec) != "aabb" {
		t.Errorf("record %x", rec)
	}
	check("append", card.AppendRecord(ctx, 6, []byte{1, 2}), cos.ResultOK)
	check("reset", card.ManageChannelReset(ctx), cos.ResultOK)
	check("activate", card.Activate(ctx), cos.ResultOK)
	check("deactivate", card.Deactivate(ctx), cos.ResultSecurityStatusNotSatisfied)
	check("erase", card.EraseBinary(ctx, 0x0A, 0), cos.ResultOK)
	check("set eof", card.SetLogicalEOF(ctx, 0x0A, 0), cos.ResultOK)
	point, err := card.GeneralAuthenticateChallenge(ctx, chr)
	check("general authenticate 1", err, cos.ResultOK)
	if hex.EncodeToString(point) != "04" {
		t.Errorf("point %x", point)
	}
	check("mse internal", card.MSEInternalAuth(ctx, 9, 0), cos.ResultOK)
	check("mse external", card.MSEExternalAuth(ctx, chr, 0), cos.ResultErrorAuthentication)
	check("mse cert", card.MSEVerifyCert(ctx, []byte{1}), cos.ResultOK)
	check("pso verify", card.PSOVerifyCertificate(ctx, []byte{1}), cos.ResultErrorImportCVC)
	_, err = card.InternalAuthenticate(ctx, []byte{0xAA})
	check("internal", err, cos.ResultOK)
	check("external", card.ExternalAuthenticate(ctx, []byte{0xBB}), cos.ResultErrorAuthentication)
	check("general authenticate 2", card.GeneralAuthenticateKey(ctx, []byte{4}), cos.ResultOK)
}

// The answer of a real card (published trace trusted-channel.jsonl): root and sub-CA keys, cached card keys, and keys
// that other software left there.
const realKeyList = "E0154F07D2760001448000B60A83084445475858870222E0154F07D2760001448000B60A83084445475858120223" +
	"E0194F07D2760001448000A40E830C000A80276001011699902101E0154F07D2760001448000B60A83084445475858850218" +
	"E0194F07D2760001448000A40E830C4D6F7270686F414343455353E0164F07D2760001448000B60B83094D6F7270686F564552" +
	"E0154F07D2760001448000B60A83084445475858860220E0154F07D2760001448000B60A83080000000000000013"

func TestListPublicKeys(t *testing.T) {
	t.Parallel()
	for sw, wantTruncated := range map[string]bool{"9000": false, "6200": true} {
		card := cos.New(cardtest.Script(t, "80CA0100000000", realKeyList+sw))
		keys, truncated, err := card.ListPublicKeys(t.Context())
		if err != nil || len(keys) != 8 || truncated != wantTruncated {
			t.Fatalf("%s: %d keys, truncated %v, %v", sw, len(keys), truncated, err)
		}
		var out []string
		for _, k := range keys {
			out = append(out, fmt.Sprintf("%v:%x", k.ForCerts, k.ID))
		}
		if got := strings.Join(out[:3], " "); got != "true:4445475858870222 true:4445475858120223 false:000a80276001011699902101" {
			t.Errorf("first keys %s", got)
		}
	}
	for _, bad := range []string{"E0", "E1154F07D2760001448000B60A83084445475858870222", "E0024F00", "E0084F00B604840102FF"} {
		if _, err := cos.ParseKeyList(cardtest.Unhex(t, bad)); err == nil {
			t.Errorf("key list %s accepted", bad)
		}
	}
	for _, bad := range []string{"", "7C028500FF", "7C03840104", "85", "7C0285"} {
		if p, err := cos.ParseGeneralAuthenticate(cardtest.Unhex(t, bad)); err == nil {
			t.Errorf("GENERAL AUTHENTICATE answer %s gives %x", bad, p)
		}
	}
}

func TestTransmitErrorsKeepTheirKind(t *testing.T) {
	t.Parallel()
	card := cos.New(apdu.TransmitterFunc(func(context.Context, apdu.Command) (apdu.Response, error) {
		return apdu.Response{}, fmt.Errorf("slot 1: %w", apdu.ErrCardRemoved)
	}))
	if err := card.SelectMF(t.Context()); !errors.Is(err, apdu.ErrCardRemoved) || !strings.Contains(err.Error(), "SELECT") {
		t.Errorf("SELECT: %v", err)
	}
	if _, err := card.GetPINStatus(t.Context(), 1); !errors.Is(err, apdu.ErrCardRemoved) {
		t.Errorf("GET PIN STATUS: %v", err)
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add(cardtest.Unhex(f, realKeyList))
	f.Add(cardtest.Unhex(f, "7C03850104"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if keys, err := cos.ParseKeyList(b); err == nil && len(keys) == 0 && len(b) > 0 {
			t.Fatalf("%x gives no key and no error", b)
		}
		_, _ = cos.ParseGeneralAuthenticate(b)
	})
}
