package ocsp

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ktradv/internal/req"
	"ktradv/internal/testdata"
	"ktradv/internal/testpki"
	"ktradv/internal/x509ti"
)

var testNow = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

type fixture struct {
	pki                        *testpki.PKI
	good, revoked, sibling, ca *x509ti.Certificate
	other                      *x509ti.Certificate // the responder that the CA did not issue
	hci, smbCA                 *x509ti.Certificate
}

var shared = sync.OnceValues(func() (*fixture, error) {
	p, err := testpki.New(testpki.Config{Rand: mathrand.NewChaCha8([32]byte{5}), Now: testNow})
	if err != nil {
		return nil, err
	}
	card := testpki.EGK{ICCSN: "80276003110000000017", KVNR: "X000000012", IK: "109500969", InsurerName: "Testkasse", GivenName: "A", Surname: "B"}
	one, err1 := p.IssueEGK(card)
	card.Revoked = true
	two, err2 := p.IssueEGK(card)
	adv, err3 := p.IssueKTRAdV("109500969", "AdV", "80276003110000000501")
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	f := &fixture{pki: p}
	for _, c := range []struct {
		to  **x509ti.Certificate
		der []byte
	}{
		{&f.good, one.AUTN.Certificate}, {&f.revoked, two.AUTN.Certificate}, {&f.sibling, one.AUT.Certificate}, {&f.ca, p.EGKCA.Certificate},
		{&f.other, p.OtherOCSPSigner.Certificate}, {&f.hci, adv.HCI.Certificate}, {&f.smbCA, p.SMBCA.Certificate},
	} {
		if *c.to, err = x509ti.Parse(c.der); err != nil {
			return nil, err
		}
	}
	return f, nil
})

func fix(t testing.TB) *fixture {
	t.Helper()
	f, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// answer has the test PKI's responder answer at the given time.
func (f *fixture) answer(t testing.TB, cert, issuer *x509ti.Certificate, nonce []byte, at time.Time, faults ...testpki.OCSPFault) []byte {
	t.Helper()
	r, err := NewRequest(cert, issuer)
	if err != nil {
		t.Fatal(err)
	}
	if nonce != nil {
		if err := r.SetNonce(nonce); err != nil {
			t.Fatal(err)
		}
	}
	der, err := r.DER()
	if err != nil {
		t.Fatal(err)
	}
	out, err := f.pki.OCSPResponse(der, f.pki.StatusOf, at, faults...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestVerify gives the check every kind of wrong answer; each differs from a right one in one thing.
func TestVerify(t *testing.T) {
	t.Parallel()
	req.Covers(t, "GS-A_5215")
	f := fix(t)
	nonce := []byte("0123456789abcdef")
	for _, tc := range []struct {
		name         string
		cert, issuer *x509ti.Certificate
		faults       []testpki.OCSPFault
		edit         func(*Check)
		at           time.Time
		want         Status
		err          error
	}{
		{name: "good", want: Good},
		{name: "good, responder trusted by name too", edit: func(c *Check) { c.Responders = []*x509ti.Certificate{f.other} }, want: Good},
		{name: "revoked", cert: f.revoked, want: Revoked},
		{name: "revoked a day later", cert: f.revoked, edit: func(c *Check) { c.Now = c.Now.Add(-25 * time.Hour); c.Tolerance = 48 * time.Hour }, want: Good},
		{name: "37 s old", at: testNow.Add(-37 * time.Second), want: Good},
		{name: "38 s old", at: testNow.Add(-38 * time.Second), err: CheckRevocationError},
		{name: "37 s ahead", at: testNow.Add(37 * time.Second), want: Good},
		{name: "38 s ahead", at: testNow.Add(38 * time.Second), err: CheckRevocationError},
		{name: "37.5 s old", edit: func(c *Check) { c.Now = c.Now.Add(Tolerance) }, want: Good},
		{name: "37.501 s old", edit: func(c *Check) { c.Now = c.Now.Add(Tolerance + time.Millisecond) }, err: CheckRevocationError},
		{name: "an hour old", faults: []testpki.OCSPFault{testpki.FaultStale}, err: CheckRevocationError},
		{name: "an hour ahead", faults: []testpki.OCSPFault{testpki.FaultFuture}, err: CheckRevocationError},
		{name: "nextUpdate past", faults: []testpki.OCSPFault{testpki.FaultExpired}, err: CheckRevocationError},
		{name: "wrong signature", faults: []testpki.OCSPFault{testpki.FaultSignature}, err: SignatureError},
		{name: "responder of another CA", faults: []testpki.OCSPFault{testpki.FaultOtherResponder}, err: CertMissing},
		{name: "the same, trusted by name", faults: []testpki.OCSPFault{testpki.FaultOtherResponder}, edit: func(c *Check) { c.Responders = []*x509ti.Certificate{f.other} }, want: Good},
		{name: "right name, own key", faults: []testpki.OCSPFault{testpki.FaultRogueResponder}, err: CertMissing},
		{name: "certificate not for OCSP", faults: []testpki.OCSPFault{testpki.FaultNotASigner}, err: CertMissing},
		{name: "other certificate", faults: []testpki.OCSPFault{testpki.FaultOtherSerial}, err: CheckRevocationError},
		{name: "other issuer", faults: []testpki.OCSPFault{testpki.FaultOtherIssuer}, err: CheckRevocationError},
		{name: "answer for the sibling", edit: func(c *Check) { c.Certificate = f.sibling }, err: CheckRevocationError},
		{name: "wrong certHash", faults: []testpki.OCSPFault{testpki.FaultCertHash}, err: CertHashMismatch},
		{name: "no certHash", faults: []testpki.OCSPFault{testpki.FaultNoCertHash}, err: CertHashMissing},
		{name: "wrong certHash, not enforced", faults: []testpki.OCSPFault{testpki.FaultCertHash}, edit: func(c *Check) { c.IgnoreCertHash = true }, want: Good},
		{name: "no certHash, not enforced", faults: []testpki.OCSPFault{testpki.FaultNoCertHash}, edit: func(c *Check) { c.IgnoreCertHash = true }, want: Good},
		{name: "other nonce", faults: []testpki.OCSPFault{testpki.FaultNonce}, err: NonceMismatch},
		{name: "two answers", cert: f.revoked, faults: []testpki.OCSPFault{testpki.FaultTwice}, err: CheckRevocationError},
		{name: "responder of another CA that must be listed", cert: f.hci, issuer: f.smbCA, err: CertMissing},
		{name: "listed", cert: f.hci, issuer: f.smbCA, edit: func(c *Check) { c.Responders = []*x509ti.Certificate{f.other} }, want: Good},
	} {
		if tc.cert == nil {
			tc.cert = f.good
		}
		if tc.issuer == nil {
			tc.issuer = f.ca
		}
		if tc.at.IsZero() {
			tc.at = testNow
		}
		r, err := ParseResponse(f.answer(t, tc.cert, tc.issuer, nonce, tc.at, tc.faults...))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		check := Check{Certificate: tc.cert, Issuer: tc.issuer, Now: testNow, Nonce: nonce}
		if tc.edit != nil {
			tc.edit(&check)
		}
		got, err := r.Verify(check)
		if got.Status != tc.want || !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil) {
			t.Errorf("%s: %v, %v; want %v, %v", tc.name, got.Status, err, tc.want, tc.err)
		}
		if want := testNow.Add(-24 * time.Hour); tc.name == "revoked" && !got.RevokedAt.Equal(want) {
			t.Errorf("revoked at %v, want %v", got.RevokedAt, want)
		}
	}
}

// TestUnknownCertificate: a certificate of the CA that its register does not know. The responder cannot add a certHash
// for it, so only a check without certHash gets to see "unknown".
func TestUnknownCertificate(t *testing.T) {
	t.Parallel()
	f := fix(t)
	r, err := NewRequest(f.good, f.ca)
	if err != nil {
		t.Fatal(err)
	}
	stranger := *f.good
	stranger.Serial = bigAdd(f.good.Serial)
	r.serial = stranger.Serial
	der, err := r.DER()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := f.pki.OCSPResponse(der, f.pki.StatusOf, testNow)
	if err != nil {
		t.Fatal(err)
	}
	response, err := ParseResponse(answer)
	if err != nil {
		t.Fatal(err)
	}
	got, err := response.Verify(Check{Certificate: &stranger, Issuer: f.ca, Now: testNow, IgnoreCertHash: true})
	if err != nil || got.Status != Unknown {
		t.Errorf("%v, %v", got.Status, err)
	}
	if got, err := response.Verify(Check{Certificate: &stranger, Issuer: f.ca, Now: testNow}); got.Status != Indeterminate || !errors.Is(err, CertHashMissing) {
		t.Errorf("with certHash: %v, %v", got.Status, err)
	}
}

func TestParseResponseRefuses(t *testing.T) {
	t.Parallel()
	f := fix(t)
	good := f.answer(t, f.good, f.ca, nil, testNow)
	if _, err := ParseResponse(good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		if _, err := ParseResponse(good[:i]); !errors.Is(err, CheckRevocationError) {
			t.Fatalf("prefix of %d octets: %v", i, err)
		}
	}
	at := bytes.Index(good, []byte("20260304120000Z"))
	local := bytes.Clone(good)
	copy(local[at:], "202603041200+00")
	for name, tc := range map[string]struct {
		der  []byte
		want error
	}{
		"critical extension": {f.answer(t, f.good, f.ca, nil, testNow, testpki.FaultCritical), CheckRevocationError},
		"trailing octet":     {append(bytes.Clone(good), 0), CheckRevocationError},
		"too long":           {make([]byte, MaxSize+1), CheckRevocationError},
		"local time":         {local, CheckRevocationError},
		"no content":         {[]byte{0x30, 3, 0x0a, 1, 0}, CheckRevocationError},
		"unknown status":     {[]byte{0x30, 3, 0x0a, 1, 4}, CheckRevocationError},
		"malformed":          {[]byte{0x30, 3, 0x0a, 1, 1}, StatusError},
		"internal error":     {[]byte{0x30, 3, 0x0a, 1, 2}, StatusError},
		"try later":          {[]byte{0x30, 3, 0x0a, 1, 3}, StatusError},
		"unauthorized":       {[]byte{0x30, 3, 0x0a, 1, 6}, StatusError},
		"status and more":    {[]byte{0x30, 5, 0x0a, 1, 6, 5, 0}, CheckRevocationError},
	} {
		if r, err := ParseResponse(tc.der); r != nil || !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	req.Covers(t, "GS-A_4957-01", "GS-A_5131")
	f := fix(t)
	if _, err := NewRequest(f.good, f.smbCA); !errors.Is(err, x509ti.CACertMissing) {
		t.Errorf("request with a foreign issuer: %v", err)
	}
	r, err := NewRequest(f.good, f.ca)
	if err != nil {
		t.Fatal(err)
	}
	for n, ok := range map[int]bool{0: false, 1: true, 32: true, 33: false} {
		if err := r.SetNonce(make([]byte, n)); (err == nil) != ok {
			t.Errorf("nonce of %d octets: %v", n, err)
		}
	}
	der, err := r.DER()
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(der, r.keyHash); n != 1 {
		t.Errorf("request has %d CertIDs", n)
	}
	// The CertID as it has to be: SHA-1 of name and key of the issuer, the serial number.
	name, key := sha1.Sum(f.ca.RawSubject), sha1.Sum(f.ca.PublicKeyBits)
	id := append([]byte{0x30, 9, 6, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0, 4, 20}, name[:]...)
	id = append(append(id, 4, 20), key[:]...)
	id = append(id, 2, byte(len(f.good.Serial.Bytes())))
	if !bytes.Contains(der, append(id, f.good.Serial.Bytes()...)) {
		t.Errorf("CertID in %x", der)
	}
}

// responder is an HTTP server in memory.
type responder func(*http.Request) (*http.Response, error)

func (r responder) Do(q *http.Request) (*http.Response, error) { return r(q) }

func httpAnswer(status int, kind string, body io.Reader) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(body)}
}

const answerType = "application/ocsp-response"

func TestClient(t *testing.T) {
	t.Parallel()
	f := fix(t)
	clock := func() time.Time { return testNow }
	answering := func(faults ...testpki.OCSPFault) responder {
		return func(q *http.Request) (*http.Response, error) {
			body, err := io.ReadAll(q.Body)
			if err != nil {
				return nil, err
			}
			if q.Method != http.MethodPost || q.Header.Get("Content-Type") != "application/ocsp-request" || q.URL.String() != testpki.DefaultOCSPURL {
				return httpAnswer(400, "text/plain", strings.NewReader("")), nil
			}
			der, err := f.pki.OCSPResponse(body, f.pki.StatusOf, testNow, faults...)
			return httpAnswer(200, answerType, bytes.NewReader(der)), err
		}
	}
	says := func(status int, kind, body string) responder {
		return func(*http.Request) (*http.Response, error) {
			return httpAnswer(status, kind, strings.NewReader(body)), nil
		}
	}
	noURL := *f.good
	noURL.OCSPURLs = nil
	for _, tc := range []struct {
		name   string
		client Client
		cert   *x509ti.Certificate
		want   Status
		err    error
	}{
		{"good", Client{HTTP: answering()}, f.good, Good, nil},
		{"good with nonce", Client{HTTP: answering(), Nonce: true}, f.good, Good, nil},
		{"revoked", Client{HTTP: answering()}, f.revoked, Revoked, nil},
		{"other nonce", Client{HTTP: answering(testpki.FaultNonce), Nonce: true}, f.good, Indeterminate, NonceMismatch},
		{"nonce source dry", Client{HTTP: answering(), Nonce: true, Rand: bytes.NewReader(nil)}, f.good, Indeterminate, CheckRevocationError},
		{"no certHash", Client{HTTP: answering(testpki.FaultNoCertHash)}, f.good, Indeterminate, CertHashMissing},
		{"no certHash wanted", Client{HTTP: answering(testpki.FaultNoCertHash), IgnoreCertHash: true}, f.good, Good, nil},
		{"responder unlisted", Client{HTTP: answering(testpki.FaultOtherResponder)}, f.good, Indeterminate, CertMissing},
		{"responder listed", Client{HTTP: answering(testpki.FaultOtherResponder), Responders: []*x509ti.Certificate{f.other}}, f.good, Good, nil},
		{"try later", Client{HTTP: answering(testpki.FaultTryLater)}, f.good, Indeterminate, StatusError},
		{"truncated", Client{HTTP: answering(testpki.FaultTruncated)}, f.good, Indeterminate, CheckRevocationError},
		{"HTTP 500", Client{HTTP: says(500, answerType, "")}, f.good, Indeterminate, NotAvailable},
		{"HTML", Client{HTTP: says(200, "text/html", "<html>")}, f.good, Indeterminate, NotAvailable},
		{"no type", Client{HTTP: says(200, "", "")}, f.good, Indeterminate, NotAvailable},
		{"endless", Client{HTTP: says(200, answerType, strings.Repeat("x", MaxSize+1))}, f.good, Indeterminate, CheckRevocationError},
		{"no network", Client{HTTP: responder(func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF })}, f.good, Indeterminate, NotAvailable},
		{"body breaks off", Client{HTTP: responder(func(*http.Request) (*http.Response, error) {
			return httpAnswer(200, answerType, io.MultiReader(strings.NewReader("0"), failing{})), nil
		})}, f.good, Indeterminate, NotAvailable},
		{"no address", Client{HTTP: answering()}, &noURL, Indeterminate, ServiceSupplyPointMissing},
		{"address given", Client{HTTP: answering(), URL: testpki.DefaultOCSPURL}, &noURL, Good, nil},
		{"address of another kind", Client{HTTP: answering(), URL: "file:///etc/passwd"}, f.good, Indeterminate, ServiceSupplyPointMissing},
		{"address without host", Client{HTTP: answering(), URL: "http:///x"}, f.good, Indeterminate, ServiceSupplyPointMissing},
	} {
		tc.client.Clock = clock
		got, err := tc.client.Check(t.Context(), tc.cert, f.ca)
		if got.Status != tc.want || !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil) {
			t.Errorf("%s: %v, %v; want %v, %v", tc.name, got.Status, err, tc.want, tc.err)
		}
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestClientTimeout: a responder that never answers is given up after ten seconds, a cancelled caller at once.
func TestClientTimeout(t *testing.T) {
	t.Parallel()
	f := fix(t)
	synctest.Test(t, func(t *testing.T) {
		hung := responder(func(q *http.Request) (*http.Response, error) {
			<-q.Context().Done()
			return nil, q.Context().Err()
		})
		client := Client{HTTP: hung}
		start := time.Now()
		_, err := client.Check(t.Context(), f.good, f.ca)
		if took := time.Since(start); took != DefaultTimeout || !errors.Is(err, NotAvailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("gave up after %v: %v", took, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := client.Check(ctx, f.good, f.ca); !errors.Is(err, NotAvailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

func TestStatusNames(t *testing.T) {
	t.Parallel()
	for s, want := range map[Status]string{Good: "GOOD", Revoked: "REVOKED", Unknown: "UNKNOWN", Indeterminate: "INDETERMINATE", 99: "INDETERMINATE"} {
		if s.String() != want {
			t.Errorf("%d is %q", s, s.String())
		}
	}
}

// TestPublicResponses checks the answers that published signatures carry, against the signer's certificate beside them.
func TestPublicResponses(t *testing.T) {
	t.Parallel()
	dir := testdata.Dir(t, "pki")
	var cas []*x509ti.Certificate
	files, err := filepath.Glob(filepath.Join(dir, "certs", "ca", "*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		cas = append(cas, certificatesIn(t, file)...)
	}
	files, err = filepath.Glob(filepath.Join(dir, "ocsp", "*.der"))
	if err != nil || len(files) < 8 {
		t.Fatalf("%d answers, %v", len(files), err)
	}
	checked := 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".ocsp.der")
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r, err := ParseResponse(raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, cert := range certificatesIn(t, filepath.Join(dir, "cms", name+".p7s")) {
			issuer, err := cert.FindIssuer(cas)
			if err != nil {
				continue // not published beside it
			}
			check := Check{Certificate: cert, Issuer: issuer, Now: r.ProducedAt, Responders: r.certificates}
			if _, err := r.find(check); err != nil {
				continue // another certificate of the same signature
			}
			got, err := r.Verify(check)
			if err != nil || got.Status != Good {
				t.Errorf("%s: %v, %v", name, got.Status, err)
			}
			checked++
			check.Now = r.ProducedAt.Add(time.Hour)
			if _, err := r.Verify(check); !errors.Is(err, CheckRevocationError) {
				t.Errorf("%s, an hour later: %v", name, err)
			}
			changed := *r
			changed.tbs = bytes.Replace(r.tbs, []byte{0x80, 0}, []byte{0x82, 0}, 1) // good becomes unknown
			check.Now = r.ProducedAt
			if _, err := changed.Verify(check); !errors.Is(err, SignatureError) {
				t.Errorf("%s, changed: %v", name, err)
			}
		}
	}
	if checked < 3 {
		t.Errorf("only %d answers could be checked to the end", checked)
	}
	t.Logf("%d of %d answers checked to the end", checked, len(files))
}

func FuzzParseResponse(f *testing.F) {
	x := fix(f)
	f.Add(x.answer(f, x.good, x.ca, nil, testNow))
	f.Add(x.answer(f, x.revoked, x.ca, []byte("nonce"), testNow, testpki.FaultExpired))
	f.Add([]byte{0x30, 3, 0x0a, 1, 6})
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := ParseResponse(der)
		if err != nil {
			if code(err) == 0 {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		r.Verify(Check{Certificate: x.good, Issuer: x.ca, Responders: []*x509ti.Certificate{x.other}, Now: testNow})
	})
}
