package consumer

import (
	"context"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ktradv/internal/advlog"
	"ktradv/internal/ocsp"
	"ktradv/internal/req"
	"ktradv/internal/testpki"
	"ktradv/internal/x509ti"
	"ktradv/server/tisim"
)

type fixture struct {
	pki          *testpki.PKI
	cert, issuer *x509ti.Certificate
}

// newFixture makes a PKI whose certificates name url as their responder.
func newFixture(t testing.TB, url string) fixture {
	t.Helper()
	pki, err := testpki.New(testpki.Config{OCSPURL: url})
	if err != nil {
		t.Fatal(err)
	}
	card, err := pki.IssueEGK(testpki.EGK{ICCSN: "80276003110000000001", KVNR: "X000012345", IK: "109500969",
		InsurerName: "Test-GKV", GivenName: "Erika", Surname: "Mustermann"})
	if err != nil {
		t.Fatal(err)
	}
	return fixture{pki, parse(t, card.AUTN.Certificate), parse(t, pki.EGKCA.Certificate)}
}

func parse(t testing.TB, der []byte) *x509ti.Certificate {
	t.Helper()
	c, err := x509ti.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serve starts a responder on loopback. The address is known before the PKI is made, because certificates carry it.
func serve(t testing.TB) (f fixture, r *tisim.Responder, url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url = "http://" + l.Addr().String() + "/ocsp"
	f = newFixture(t, url)
	r = tisim.New(f.pki, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f, r, url
}

func TestStatus(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2509")
	f, r, _ := serve(t) // the address comes from the certificate
	a := New(Config{})
	check := func(want ocsp.Status) {
		t.Helper()
		got, err := a.Status(t.Context(), f.cert, f.issuer)
		if err != nil || got != want {
			t.Errorf("Status = %v, %v; want %v", got, err, want)
		}
	}
	check(ocsp.Good)
	r.SetStatus(f.cert.Serial, testpki.Revoked)
	check(ocsp.Revoked)
	r.SetStatus(f.cert.Serial, testpki.Unknown)
	check(ocsp.Unknown)
	r.SetStatus(f.cert.Serial, testpki.Good)
	r.SetStatus(new(big.Int).Add(f.cert.Serial, big.NewInt(1)), testpki.Revoked) // another card
	check(ocsp.Good)
	if r.Requests() != 4 {
		t.Errorf("%d requests arrived; want 4", r.Requests())
	}
}

func TestResponderFaults(t *testing.T) {
	t.Parallel()
	f, r, _ := serve(t)
	a := New(Config{OCSPTimeout: 300 * time.Millisecond})
	for fault, name := range map[tisim.Fault]string{
		tisim.Down: "down", tisim.Slow: "slow", tisim.HTTPError: "status 503", tisim.WrongType: "wrong type",
		tisim.Garbage: "garbage", tisim.Oversize: "oversize", tisim.TryLater: "try later", tisim.Stale: "stale",
		tisim.Future: "future", tisim.Expired: "expired", tisim.WrongSignature: "wrong signature",
		tisim.WrongResponder: "wrong responder", tisim.OtherSerial: "other serial number",
	} {
		r.SetFault(fault)
		if got, err := a.Status(t.Context(), f.cert, f.issuer); err == nil {
			t.Errorf("%s: status %v without an error", name, got)
		}
	}
	r.SetFault(tisim.None)
	if got, err := a.Status(t.Context(), f.cert, f.issuer); err != nil || got != ocsp.Good {
		t.Errorf("after the faults: %v, %v", got, err)
	}
	// certHash is not enforced for health cards.
	r.SetFault(tisim.WrongCertHash)
	if _, err := a.Status(t.Context(), f.cert, f.issuer); err != nil {
		t.Errorf("certHash: %v", err)
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	var elsewhere bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere = true }))
	defer other.Close()
	srv := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer srv.Close()
	f := newFixture(t, "")
	if _, err := New(Config{OCSPURL: srv.URL}).Status(t.Context(), f.cert, f.issuer); err == nil || elsewhere {
		t.Errorf("redirect followed: %t, %v", elsewhere, err)
	}
}

func TestOverrideAndCancel(t *testing.T) {
	t.Parallel()
	f, r, url := serve(t)
	// A certificate whose own address leads nowhere is checked at the configured one.
	stray := newFixture(t, "http://127.0.0.1:1/nowhere")
	rs := tisim.New(stray.pki, nil)
	srv := httptest.NewServer(rs)
	defer srv.Close()
	if got, err := New(Config{OCSPURL: srv.URL}).Status(t.Context(), stray.cert, stray.issuer); err != nil || got != ocsp.Good {
		t.Errorf("override: %v, %v", got, err)
	}
	if _, err := New(Config{}).Status(t.Context(), stray.cert, stray.issuer); err == nil {
		t.Error("an unreachable responder gave a status")
	}
	r.SetFault(tisim.Slow)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(Config{OCSPURL: url}).Status(ctx, f.cert, f.issuer); !errors.Is(err, context.Canceled) {
		t.Errorf("Status = %v; want canceled", err)
	}
}

func TestRequestStandsInTheLogsWithItsOperation(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2440", "AdV-A_2428", "AdV-A_2430")
	f, r, _ := serve(t)
	dir := filepath.Join(t.TempDir(), "log")
	log, err := advlog.Open(advlog.Config{Dir: dir, Component: advlog.Server, Enabled: true})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var outcomes []string
	a := New(Config{Log: log, Observe: func(o string, _ time.Duration) { outcomes = append(outcomes, o) }})
	op := advlog.NewOperation(nil)
	ctx := advlog.WithOperation(t.Context(), op)
	if _, err := a.Status(ctx, f.cert, f.issuer); err != nil {
		t.Fatal(err)
	}
	r.SetFault(tisim.TryLater)
	if _, err := a.Status(ctx, f.cert, f.issuer); err == nil {
		t.Fatal("tryLater gave a status")
	}
	if err := log.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(outcomes) != 2 || outcomes[0] != "good" || outcomes[1] != "failed" {
		t.Errorf("observed %v", outcomes)
	}
	for _, stream := range []string{"flow", "performance"} {
		b, err := os.ReadFile(filepath.Join(dir, "adv-server-"+stream+".log"))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		if len(lines) != 2 {
			t.Fatalf("%s: %d entries; want 2", stream, len(lines))
		}
		for i, line := range lines {
			e, err := advlog.ParseEntry([]byte(line))
			if err != nil || e.Operation != op.String() || e.Name != "ocsp.request" {
				t.Errorf("%s entry %+v, %v", stream, e, err)
			}
			if stream == "flow" && (e.Result == "ok") != (i == 0) {
				t.Errorf("flow entry %d: result %s", i, e.Result)
			}
		}
		if strings.Contains(string(b), f.cert.Serial.String()) || strings.Contains(string(b), "Mustermann") {
			t.Errorf("%s holds data of the certificate", stream)
		}
	}
}
