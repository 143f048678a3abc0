package egk_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ktradv/hw/apdu"
	"ktradv/hw/cvc"
	"ktradv/hw/egk"
	"ktradv/hw/internal/cardtest"
	"ktradv/internal/brainpool"
	"ktradv/internal/testdata"
	"ktradv/internal/testpki"
)

var terminal = [8]byte{'T', 'E', 'R', 'M', 0, 0, 0, 1}

// signer answers SELECT MF, MSE and INTERNAL AUTHENTICATE with the given key, as the card does it: no hash, the
// algorithm identifier behind the token.
func signer(t testing.TB, key *brainpool.PrivateKey) func(string, apdu.Command) (apdu.Response, bool) {
	mse := false
	return func(folder string, c apdu.Command) (apdu.Response, bool) {
		switch {
		case c.INS == 0x22 && c.P1 == 0x41 && bytes.Equal(c.Data, []byte{0x84, 1, 9, 0x80, 1, 0}) && folder == "MF":
			mse = true
			return apdu.Response{SW: apdu.SWOK}, true
		case c.INS == 0x88 && mse && len(c.Data) == 24:
			sig, err := key.Sign(nil, append(bytes.Clone(c.Data), 0))
			if err != nil {
				t.Error(err)
			}
			return apdu.Response{Data: sig, SW: apdu.SWOK}, true
		}
		return apdu.Response{}, false
	}
}

func g21Roots(t testing.TB) cvc.Roots {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(testdata.Dir(t, "cards"), "cvc", "chain", "DEGXX870222.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := cvc.Roots{}
	if err := roots.AddCertificate(raw); err != nil {
		t.Fatal(err)
	}
	return roots
}

var imageTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// The published G2.1 image brings its private key, so the real chain and the real kind of signature can be proved.
func TestProveAuthentic(t *testing.T) {
	t.Parallel()
	img := cardtest.LoadImage(t, cardtest.ImageG21)
	key, err := brainpool.NewPrivateKey(brainpool.P256r1(), img.Object("PrK.eGK.AUT_CVC.E256").Hex(t, "privateKey"))
	if err != nil {
		t.Fatal(err)
	}
	img.Extra = signer(t, key)
	info, err := egk.ReadInfo(t.Context(), img.Transmitter())
	if err != nil {
		t.Fatal(err)
	}
	img.Sent = 0
	if err := egk.ProveAuthentic(t.Context(), img.Transmitter(), info, g21Roots(t), terminal, nil, imageTime); err != nil {
		t.Fatal(err)
	}
	if !info.Authentic || !bytes.Equal(info.AUTCVC, img.Body("EF.C.eGK.AUT_CVC.E256")) || !bytes.Equal(info.AUTCACVC, img.Body("EF.C.CA_eGK.CS.E256")) {
		t.Error("the certificates are not kept for the server")
	}
	if img.Sent != 5 {
		t.Errorf("%d commands, want 5", img.Sent)
	}
}

func TestProveAuthenticRefuses(t *testing.T) {
	t.Parallel()
	load := func() (*cardtest.Image, *egk.Info) {
		img := cardtest.LoadImage(t, cardtest.ImageG21)
		info, err := egk.ReadInfo(t.Context(), img.Transmitter())
		if err != nil {
			t.Fatal(err)
		}
		key, err := brainpool.NewPrivateKey(brainpool.P256r1(), img.Object("PrK.eGK.AUT_CVC.E256").Hex(t, "privateKey"))
		if err != nil {
			t.Fatal(err)
		}
		img.Extra = signer(t, key)
		return img, info
	}
	other, err := brainpool.GenerateKey(brainpool.P256r1(), nil)
	if err != nil {
		t.Fatal(err)
	}
	prove := func(img *cardtest.Image, info *egk.Info, roots cvc.Roots, now time.Time) error {
		err := egk.ProveAuthentic(t.Context(), img.Transmitter(), info, roots, terminal, nil, now)
		if info.Authentic {
			t.Error("the card counts as authentic all the same")
		}
		return err
	}

	img, info := load()
	img.Extra = signer(t, other)
	if err := prove(img, info, g21Roots(t), imageTime); !errors.Is(err, egk.ErrNotAuthentic) {
		t.Errorf("copied card (right certificates, wrong key): %v", err)
	}
	img, info = load()
	if err := prove(img, info, cvc.Roots{}, imageTime); !errors.Is(err, egk.ErrForeignRoot) {
		t.Errorf("no pinned root: %v", err)
	}
	img, info = load()
	if err := prove(img, info, g21Roots(t), imageTime.AddDate(20, 0, 0)); !errors.Is(err, egk.ErrCertificateTime) || !errors.Is(err, cvc.ErrExpired) {
		t.Errorf("in twenty years: %v", err)
	}
	img, info = load()
	info.ICCSN = iccsn(t, "80276883110000152716")
	if err := prove(img, info, g21Roots(t), imageTime); !errors.Is(err, egk.ErrNotAuthentic) {
		t.Errorf("certificate of another card: %v", err)
	}
	img, info = load()
	own := info.ICCSN8()
	if err := egk.ProveAuthentic(t.Context(), img.Transmitter(), info, g21Roots(t), own, nil, imageTime); err == nil {
		t.Error("the card's own number was used as the terminal's")
	}
	img, info = load()
	if err := egk.ProveAuthentic(t.Context(), img.Transmitter(), info, g21Roots(t), terminal, bytes.NewReader(nil), imageTime); err == nil {
		t.Error("went on without a random number")
	}
	// The same answer for every challenge: a recorded signature does not help.
	img, info = load()
	recorded := make([]byte, 64)
	copy(recorded, func() []byte {
		h := sha256.Sum256([]byte("another challenge"))
		s, err := other.Sign(nil, h[:])
		if err != nil {
			t.Fatal(err)
		}
		return s
	}())
	img.Extra = func(_ string, c apdu.Command) (apdu.Response, bool) {
		if c.INS == 0x88 {
			return apdu.Response{Data: recorded, SW: apdu.SWOK}, true
		}
		return apdu.Response{SW: apdu.SWOK}, c.INS == 0x22
	}
	if err := prove(img, info, g21Roots(t), imageTime); !errors.Is(err, egk.ErrNotAuthentic) {
		t.Errorf("recorded signature: %v", err)
	}
	for name, sw := range map[string]uint16{"key unusable": 0x6400, "not allowed": 0x6982} {
		img, info = load()
		img.Extra = func(_ string, c apdu.Command) (apdu.Response, bool) {
			if c.INS == 0x88 {
				return apdu.Response{SW: sw}, true
			}
			return apdu.Response{SW: apdu.SWOK}, c.INS == 0x22
		}
		if err := prove(img, info, g21Roots(t), imageTime); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestCheckCVC(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	pki, err := testpki.New(testpki.Config{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	roots := cvc.Roots{}
	if err := roots.AddCertificate(pki.Root.Certificate); err != nil {
		t.Fatal(err)
	}
	card := testpki.EGK{ICCSN: "80276003110000000017", KVNR: "X000000017", IK: "109500969", InsurerName: "Test", GivenName: "A", Surname: "B"}
	id, err := pki.IssueEGK(card)
	if err != nil {
		t.Fatal(err)
	}
	card.Foreign = true
	foreign, err := pki.IssueEGK(card)
	if err != nil {
		t.Fatal(err)
	}
	ktr, err := pki.IssueKTRAdV("109500969", "Test", "80276003110000000099")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		raw, ca []byte
		iccsn   string
		want    error
	}{
		"genuine":                        {id.CVC.Certificate, id.CACVC, id.ICCSN, nil},
		"number not known":               {id.CVC.Certificate, id.CACVC, "", nil},
		"foreign root":                   {foreign.CVC.Certificate, foreign.CACVC, foreign.ICCSN, egk.ErrForeignRoot},
		"foreign card, our CA beside it": {foreign.CVC.Certificate, id.CACVC, foreign.ICCSN, egk.ErrForeignRoot},
		"other number":                   {id.CVC.Certificate, id.CACVC, "80276003110000000018", egk.ErrNotAuthentic},
		"certificate with rights":        {ktr.AUTR.Certificate, ktr.CACVC, ktr.ICCSN, egk.ErrNotAuthentic},
		"CA in place of the card":        {id.CACVC, id.CACVC, id.ICCSN, egk.ErrNotAuthentic},
		"no certificate":                 {[]byte{1}, id.CACVC, id.ICCSN, egk.ErrMalformed},
		"no CA certificate":              {id.CVC.Certificate, nil, id.ICCSN, egk.ErrMalformed},
	} {
		c, err := egk.CheckCVC(tc.raw, tc.ca, tc.iccsn, roots, nil, now)
		if !errors.Is(err, tc.want) || (tc.want == nil) != (c != nil) {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
}

// The number of commands is what a person waits for: some ten milliseconds each on a real card.
func BenchmarkStart(b *testing.B) {
	img := cardtest.LoadImage(b, cardtest.ImageG21)
	key, err := brainpool.NewPrivateKey(brainpool.P256r1(), img.Object("PrK.eGK.AUT_CVC.E256").Hex(b, "privateKey"))
	if err != nil {
		b.Fatal(err)
	}
	img.Extra = signer(b, key)
	roots := g21Roots(b)
	card := img.Transmitter()
	n := 0
	for b.Loop() {
		info, err := egk.ReadInfo(b.Context(), card)
		if err != nil {
			b.Fatal(err)
		}
		if err := egk.ProveAuthentic(b.Context(), card, info, roots, terminal, nil, imageTime); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(img.Sent)/float64(n), "apdus/op")
}
