package egk_test

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ktradv/hw/apdu"
	"ktradv/hw/cos"
	"ktradv/hw/egk"
	"ktradv/hw/internal/cardtest"
	"ktradv/internal/redact"
	"ktradv/internal/req"
)

func TestReadInfo(t *testing.T) {
	t.Parallel()
	req.Covers(t, "TIP1-A_6898")
	waiting := cos.PINStatus{State: cos.PINNotVerified, Left: 3}
	off := cos.PINStatus{State: cos.PINDisabled}
	tests := map[string]struct {
		image string
		gen   egk.Generation
		iccsn string
	}{
		"G2.1": {cardtest.ImageG21, egk.G21, "80276883110000152715"},
		"G2":   {cardtest.ImageG2, egk.G2, "80276883110000017222"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			img := cardtest.LoadImage(t, tc.image)
			info, err := egk.ReadInfo(t.Context(), img.Transmitter())
			if err != nil {
				t.Fatal(err)
			}
			if info.Generation != tc.gen || info.ICCSN.Reveal() != tc.iccsn || info.Authentic {
				t.Errorf("generation %v, ICCSN %s, authentic %v", info.Generation, info.ICCSN.Reveal(), info.Authentic)
			}
			wantApps := map[egk.App]egk.AppState{egk.HCA: egk.AppAvailable, egk.NFD: egk.AppAvailable, egk.DPE: egk.AppAvailable, egk.AMTS: egk.AppAvailable}
			if diff := cmp.Diff(wantApps, info.Apps); diff != "" {
				t.Error(diff)
			}
			wantPINs := map[egk.PIN]cos.PINStatus{egk.PINCH: waiting, egk.MRPINNFD: off, egk.MRPINDPE: off, egk.MRPINAMTS: waiting, egk.PINAMTSRep: waiting}
			if diff := cmp.Diff(wantPINs, info.PINs); diff != "" {
				t.Error(diff)
			}
			// Few commands: ten milliseconds each.
			if img.Sent != 12 {
				t.Errorf("%d commands, want 12", img.Sent)
			}
		})
	}
}

func TestReadInfoStates(t *testing.T) {
	t.Parallel()
	for name, image := range map[string]string{"G2.1": cardtest.ImageG21, "G2": cardtest.ImageG2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			img := cardtest.LoadImage(t, image)
			img.Hidden["DF.NFD"], img.Hidden["DF.HCA"], img.Absent["DF.AMTS"] = true, true, true
			img.PINStatus["PIN.CH"] = 0x63C0
			info, err := egk.ReadInfo(t.Context(), img.Transmitter())
			if err != nil {
				t.Fatal(err)
			}
			want := map[egk.App]egk.AppState{egk.HCA: egk.AppHidden, egk.NFD: egk.AppHidden, egk.DPE: egk.AppAvailable, egk.AMTS: egk.AppAbsent}
			if diff := cmp.Diff(want, info.Apps); diff != "" {
				t.Error(diff)
			}
			if info.PINs[egk.PINCH].State != cos.PINBlocked {
				t.Errorf("PIN.CH is %v", info.PINs[egk.PINCH].State)
			}
			if got := info.PINs[egk.MRPINAMTS].State; name == "G2" && got != cos.PINAbsent {
				t.Errorf("MRPIN.AMTS of a card without DF.AMTS is %v", got)
			}
		})
	}
	img := cardtest.LoadImage(t, cardtest.ImageG21)
	img.PINStatus["PIN.CH"] = 0x62C1
	info, err := egk.ReadInfo(t.Context(), img.Transmitter())
	if err != nil || !info.PINs[egk.PINCH].Transport() {
		t.Errorf("transport PIN: %+v, %v", info, err)
	}
	for s, want := range map[egk.AppState]string{egk.AppHidden: "HIDDEN", egk.AppAvailable: "AVAILABLE", egk.AppAbsent: "ABSENT", egk.AppTerminated: "TERMINATED", 99: "UNKNOWN"} {
		if s.String() != want {
			t.Errorf("state %d prints %s", s, s)
		}
	}
}

func TestOtherCards(t *testing.T) {
	t.Parallel()
	const selectMF, selectHCA = "00A4040C07D2760001448000", "00A4040C06D27600000102"
	for name, image := range map[string]string{"HBA": cardtest.ImageHBA, "SMC-B": cardtest.ImageSMC} {
		if _, err := egk.ReadInfo(t.Context(), cardtest.LoadImage(t, image).Transmitter()); !errors.Is(err, egk.ErrNotEGK) {
			t.Errorf("%s: %v, want ErrNotEGK", name, err)
		}
	}
	tests := map[string]struct {
		answers map[string]string
		check   func(error) bool
	}{
		"bank card":                 {map[string]string{}, func(err error) bool { return errors.Is(err, egk.ErrNotEGK) }},
		"G1 card":                   {map[string]string{selectHCA: "9000", selectMF: "6A82"}, func(err error) bool { return errors.Is(err, egk.ErrGenerationTooOld) }},
		"G1 card with HCA hidden":   {map[string]string{selectHCA: "6283", selectMF: "6A82"}, func(err error) bool { return errors.Is(err, egk.ErrGenerationTooOld) }},
		"card without EF.Version2":  {map[string]string{selectMF: "9000", "00B0910000": "6A82"}, func(err error) bool { return errors.Is(err, egk.ErrGenerationTooOld) }},
		"G1+ object system":         {map[string]string{selectMF: "9000", "00B0910000": "EF05C103030003" + "9000"}, func(err error) bool { return errors.Is(err, egk.ErrGenerationTooOld) }},
		"terminated card":           {map[string]string{selectMF: "6285"}, func(err error) bool { return cos.IsResult(err, cos.ResultCardTerminated) }},
		"damaged EF.Version2":       {map[string]string{selectMF: "9000", "00B0910000": "00009000"}, func(err error) bool { return errors.Is(err, egk.ErrMalformed) }},
		"damaged EF.GDO":            {map[string]string{selectMF: "9000", "00B0910000": realVersion2 + "9000", "00B0820000": "5A0A9000"}, func(err error) bool { return errors.Is(err, egk.ErrMalformed) }},
		"EF.GDO cannot be read":     {map[string]string{selectMF: "9000", "00B0910000": realVersion2 + "9000", "00B0820000": "6982"}, func(err error) bool { return cos.IsResult(err, cos.ResultSecurityStatusNotSatisfied) }},
		"EF.Version2 with checksum": {map[string]string{selectMF: "9000", "00B0910000": realVersion2 + "6281"}, func(err error) bool { return cos.IsResult(err, cos.ResultCorruptDataWarning) }},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			card := &cardtest.Table{Answers: tc.answers}
			if info, err := egk.ReadInfo(t.Context(), card.Transmitter()); !tc.check(err) || info != nil {
				t.Errorf("%+v, %v", info, err)
			}
		})
	}
}

// Whenever the card is pulled, every step reports that and not some other trouble.
func TestCardPulled(t *testing.T) {
	t.Parallel()
	for step := range 12 {
		img := cardtest.LoadImage(t, cardtest.ImageG2)
		inner, n := img.Transmitter(), 0
		pulled := apdu.TransmitterFunc(func(ctx context.Context, c apdu.Command) (apdu.Response, error) {
			if n++; n > step {
				return apdu.Response{}, apdu.ErrCardRemoved
			}
			return inner.Transmit(ctx, c)
		})
		if _, err := egk.ReadInfo(t.Context(), pulled); !errors.Is(err, apdu.ErrCardRemoved) {
			t.Errorf("pulled after %d commands: %v", step, err)
		}
	}
}

func TestReadCertificate(t *testing.T) {
	t.Parallel()
	type want struct {
		size    int
		rsa     bool
		problem error
	}
	for _, tc := range []struct {
		image string
		gen   egk.Generation
		id    egk.CertID
		want  want
	}{
		{cardtest.ImageG21, egk.G21, egk.CertAUT, want{size: 810}},
		{cardtest.ImageG21, egk.G21, egk.CertAUTN, want{size: 767}},
		{cardtest.ImageG2, egk.G2, egk.CertAUT, want{size: 1242, rsa: true}},
		{cardtest.ImageG2, egk.G2, egk.CertENCV, want{size: 1156, rsa: true}},
		{cardtest.ImageG2, egk.G2, "NONE", want{problem: egk.ErrNoCertificate}},
		{cardtest.ImageG2, egk.G1, egk.CertAUT, want{problem: egk.ErrGenerationTooOld}},
	} {
		img := cardtest.LoadImage(t, tc.image)
		der, err := egk.ReadCertificate(t.Context(), img.Transmitter(), tc.gen, tc.id)
		if !errors.Is(err, tc.want.problem) || len(der) != tc.want.size {
			t.Errorf("%v %s: %d octets, %v", tc.gen, tc.id, len(der), err)
			continue
		}
		if tc.want.rsa {
			if _, err := x509.ParseCertificate(der); err != nil {
				t.Errorf("%v %s: %v", tc.gen, tc.id, err)
			}
		}
		if tc.want.problem == nil && img.Sent != 2 {
			t.Errorf("%v %s: %d commands, want 2", tc.gen, tc.id, img.Sent)
		}
	}
}

func TestReadCertificateFallsBackToRSA(t *testing.T) {
	t.Parallel()
	const esign = "00A4040C0AA000000167455349474E"
	der, err := asn1.Marshal([]int{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	for name, first := range map[string]string{"file missing": "6A82", "file blank": "000000009000", "file empty": "6B00"} {
		card := cardtest.Script(t, esign, "9000", "00B08400000000", first, "00B08100000000", "30090201010201020201030000"+"9000")
		if got, err := egk.ReadCertificate(t.Context(), card, egk.G21, egk.CertAUT); err != nil || string(got) != string(der)[:len(got)] || len(got) != 11 {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	card := cardtest.Script(t, esign, "9000", "00B08B00000000", "6982")
	if _, err := egk.ReadCertificate(t.Context(), card, egk.G21, egk.CertAUTN); !cos.IsResult(err, cos.ResultSecurityStatusNotSatisfied) {
		t.Errorf("locked certificate: %v", err)
	}
	card = cardtest.Script(t, esign, "9000", "00B08100000000", "31009000")
	if _, err := egk.ReadCertificate(t.Context(), card, egk.G2, egk.CertAUT); !errors.Is(err, egk.ErrMalformed) {
		t.Errorf("no certificate in the file: %v", err)
	}
	card = cardtest.Script(t, esign, "6A82")
	if _, err := egk.ReadCertificate(t.Context(), card, egk.G2, egk.CertAUT); !errors.Is(err, egk.ErrNoCertificate) {
		t.Errorf("no DF.ESIGN: %v", err)
	}
}

func TestAppendLog(t *testing.T) {
	t.Parallel()
	req.Covers(t, "TIP1-A_6957", "TIP1-A_6958")
	entry := egk.LogEntry{Time: time.Unix(1561128299, 0), Data: egk.LogDataAdV, Access: egk.LogAccessGeneral,
		ActorICCSN: iccsn(t, "80276003110000000001"), ActorName: redact.NewString("Kasse")}
	append46 := "00E200302E" + "5D0CED6B" + "765A" + "80276003110000000001" + "4B61737365" + strings.Repeat("20", 25)
	const hca = "00A4040C06D27600000102"
	for name, tc := range map[string]struct {
		script []string
		check  func(error) bool
	}{
		"written":       {[]string{hca, "9000", append46, "9000"}, func(err error) bool { return err == nil }},
		"hidden HCA":    {[]string{hca, "6283", append46, "9000"}, func(err error) bool { return err == nil }},
		"retry warning": {[]string{hca, "9000", append46, "63C1"}, cos.IsWarning},
		"locked":        {[]string{hca, "9000", append46, "6982"}, func(err error) bool { return cos.IsResult(err, cos.ResultSecurityStatusNotSatisfied) }},
		"no HCA":        {[]string{hca, "6A82"}, func(err error) bool { return cos.IsResult(err, cos.ResultObjectNotFound) }},
	} {
		if err := egk.AppendLog(t.Context(), cardtest.Script(t, tc.script...), entry); !tc.check(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := egk.AppendLog(t.Context(), cardtest.Script(t), egk.LogEntry{}); err == nil {
		t.Error("an empty entry was written")
	}
}

func TestReset(t *testing.T) {
	t.Parallel()
	req.Covers(t, "TIP1-A_7020")
	if err := egk.Reset(t.Context(), cardtest.Script(t, "00704001", "9000")); err != nil {
		t.Error(err)
	}
	if err := egk.Reset(t.Context(), cardtest.Script(t, "00704001", "6881")); err == nil {
		t.Error("a refused reset is no error")
	}
}
