package advserver_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"ktradv/internal/req"
	"ktradv/internal/testpki"
	"ktradv/server/advserver"
	"ktradv/server/erezept"
	"ktradv/server/verify"
	"ktradv/server/verify/verifyapi"
)

// billingSite is a site with the verification service, a client that may use it, and a case.
type billingSite struct {
	*site
	made, other *testpki.Case
	client      tls.Certificate
}

func newBillingSite(t *testing.T) *billingSite {
	t.Helper()
	s := &billingSite{site: newSite(t)}
	b, err := s.pki.NewBilling()
	if err != nil {
		t.Fatal(err)
	}
	lists, err := b.Lists(testpki.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := s.pki.IssueTLSServer([]string{"billing.example"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.client, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.dir, "clients"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"anchor.der": lists.Anchor, "tsl.xml": lists.TSL, "vl.xml": lists.VL, "clients/billing.pem": certPEM} {
		if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.config["verify"] = map[string]any{"listen": "127.0.0.1:0", "clients": "clients",
		"pki": map[string]any{"anchors": []string{"anchor.der"}, "tsl": []string{"tsl.xml"}, "vl": []string{"vl.xml"}, "status": map[string]any{"network": "off"}}}
	o := testpki.CaseOptions{}
	for profile, to := range map[testpki.SignerProfile]**testpki.Signer{testpki.Doctor: &o.Doctor, testpki.Pharmacy: &o.Pharmacy, testpki.Service: &o.Service} {
		if *to, err = b.Issue(profile, 1, testpki.BrainpoolKey, nil); err != nil {
			t.Fatal(err)
		}
	}
	answer, err := b.Status(o.Pharmacy, testpki.StatusAnswer{ProducedAt: s.pki.Now().AddDate(0, 0, -1)})
	if err != nil {
		t.Fatal(err)
	}
	o.Dispensing = func(c *testpki.CMSOptions) { c.OCSP = [][]byte{answer} }
	for _, to := range []**testpki.Case{&s.made, &s.other} {
		if *to, err = b.Case(o); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// tls is the client's side, with a certificate or without.
func (s *billingSite) tls(t *testing.T, certs ...tls.Certificate) *tls.Config {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "tls", "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(b)
	return &tls.Config{RootCAs: pool, ServerName: "adv.example", Certificates: certs, MinVersion: tls.VersionTLS12}
}

func (s *billingSite) line(id string) string {
	text := base64.StdEncoding.EncodeToString
	return fmt.Sprintf(`{"id":%q,"verordnung":%q,"abgabe":%q,"quittung":%q}`, id, text(s.made.Prescription), text(s.made.Dispensing), text(s.made.Receipt))
}

// billingFile is a file with two cases.
func (s *billingSite) billingFile() []byte {
	var resources [][]byte
	for _, c := range []*testpki.Case{s.made, s.other} {
		for i, m := range [][]byte{c.Prescription, c.Dispensing, c.Receipt} {
			resources = append(resources, testpki.BinaryXML(fmt.Sprint(i), m))
		}
	}
	return testpki.BundleXML("file", resources...)
}

// TestVerificationService runs the service with everything around it as in operation: configuration, lists from files,
// mutual TLS, both forms.
func TestVerificationService(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-01", "ERP-16")
	s := newBillingSite(t)
	server, err := advserver.Start(s.parse(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	url := "https://" + server.VerifyAddr().String() + verify.CheckPath
	client := func(certs ...tls.Certificate) *http.Client {
		tr := &http.Transport{TLSClientConfig: s.tls(t, certs...), ForceAttemptHTTP2: true}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr, Timeout: time.Minute}
	}
	post := func(t *testing.T, contentType, accept, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Accept", accept)
		res, err := client(s.client).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}

	t.Run("one case", func(t *testing.T) {
		code, body := post(t, "application/json", "", s.line("one"))
		var r erezept.CaseReport
		if err := json.Unmarshal([]byte(body), &r); code != http.StatusOK || err != nil || r.ID != "one" || r.Verdict != erezept.Valid ||
			r.PrescriptionID != s.made.ID || len(r.Records) != 3 {
			t.Errorf("%d, %v, %s", code, err, body)
		}
	})
	t.Run("billing file", func(t *testing.T) {
		code, body := post(t, "application/json", "", fmt.Sprintf(`{"id":"f","record":%q}`, base64.StdEncoding.EncodeToString(s.billingFile())))
		lines := strings.Split(strings.TrimSpace(body), "\n")
		if code != http.StatusOK || len(lines) != 2 {
			t.Fatalf("%d, %s", code, body)
		}
		for i, c := range []*testpki.Case{s.made, s.other} {
			var r erezept.CaseReport
			if err := json.Unmarshal([]byte(lines[i]), &r); err != nil || r.ID != "f#"+c.ID || r.Verdict != erezept.Valid {
				t.Errorf("%v, %s", err, lines[i])
			}
		}
	})
	t.Run("text for a clerk", func(t *testing.T) {
		if code, body := post(t, "application/json", "text/plain", s.line("one")); code != http.StatusOK || !strings.Contains(body, "E-Rezept "+s.made.ID+": GÜLTIG\n") {
			t.Errorf("%d, %s", code, body)
		}
	})
	t.Run("stream", func(t *testing.T) {
		var in strings.Builder
		for i := range 20 {
			fmt.Fprintln(&in, s.line(fmt.Sprint("case ", i)))
		}
		fmt.Fprintln(&in, `{"record_file":"/etc/passwd"}`)
		code, body := post(t, "application/x-ndjson", "", in.String())
		lines := strings.Split(strings.TrimSpace(body), "\n")
		if code != http.StatusOK || len(lines) != 21 {
			t.Fatalf("%d, %d lines", code, len(lines))
		}
		for i, line := range lines {
			var r erezept.CaseReport
			err := json.Unmarshal([]byte(line), &r)
			if i == 20 {
				if err != nil || r.Verdict != erezept.Indeterminate || r.Steps[0].Code != erezept.CodeInput {
					t.Errorf("a file of the server: %s", line)
				}
			} else if err != nil || r.ID != fmt.Sprint("case ", i) || r.Verdict != erezept.Valid {
				t.Errorf("line %d: %s", i, line)
			}
		}
	})
	t.Run("refused", func(t *testing.T) {
		for name, tt := range map[string]struct {
			contentType, body string
			want              int
		}{
			"no case":      {"application/json", `{}`, http.StatusBadRequest},
			"no JSON":      {"application/json", `<Bundle/>`, http.StatusBadRequest},
			"form":         {"application/x-www-form-urlencoded", `a=b`, http.StatusUnsupportedMediaType},
			"no type":      {"", `{}`, http.StatusUnsupportedMediaType},
			"too large":    {"application/json", `{"record":"` + strings.Repeat("A", verify.MaxLine) + `"}`, http.StatusRequestEntityTooLarge},
			"file":         {"application/json", `{"record_file":"/etc/passwd"}`, http.StatusBadRequest},
			"unknown kind": {"application/json", `{"record":"AAAA","kind":"brief"}`, http.StatusBadRequest},
		} {
			if code, body := post(t, tt.contentType, "", tt.body); code != tt.want {
				t.Errorf("%s: %d %s; want %d", name, code, body, tt.want)
			}
		}
		res, err := client(s.client).Get(url)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("GET: %d", res.StatusCode)
		}
	})
	t.Run("strangers", func(t *testing.T) {
		certPEM, keyPEM, err := s.pki.IssueTLSServer([]string{"stranger.example"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		stranger, err := tls.X509KeyPair(certPEM, keyPEM)
		if err != nil {
			t.Fatal(err)
		}
		for name, certs := range map[string][]tls.Certificate{"no certificate": nil, "another certificate of the same CA": {stranger}} {
			if res, err := client(certs...).Post(url, "application/json", strings.NewReader(s.line("x"))); err == nil {
				res.Body.Close()
				t.Errorf("%s: answered with %d", name, res.StatusCode)
			}
		}
	})
	t.Run("gRPC", func(t *testing.T) {
		conn, err := grpc.NewClient("passthrough:///"+server.VerifyAddr().String(), grpc.WithTransportCredentials(credentials.NewTLS(s.tls(t, s.client))),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(verify.MaxLine)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		api := verifyapi.NewVerifyClient(conn)
		in := &verifyapi.Case{Verordnung: s.made.Prescription, Abgabe: s.made.Dispensing, Quittung: s.made.Receipt}
		r, err := api.Check(ctx, &verifyapi.CheckRequest{Id: "g", Input: &verifyapi.CheckRequest_Case{Case: in}, WithText: true})
		if err != nil || r.Verdict != verifyapi.Verdict_VERDICT_VALID || r.Id != "g" || !json.Valid(r.Report) || !strings.Contains(r.Text, "GÜLTIG") {
			t.Fatalf("%v, %v", r, err)
		}
		r, err = api.Check(ctx, &verifyapi.CheckRequest{Id: "f", Input: &verifyapi.CheckRequest_Record{Record: &verifyapi.Record{Data: s.billingFile()}}})
		if err != nil || r.Verdict != verifyapi.Verdict_VERDICT_VALID || r.Id != "f" || len(r.Cases) != 2 || r.Cases[1].Id != "f#"+s.other.ID || !json.Valid(r.Cases[1].Report) {
			t.Errorf("billing file: %v, %v", r, err)
		}
		r, err = api.Check(ctx, &verifyapi.CheckRequest{Input: &verifyapi.CheckRequest_Record{Record: &verifyapi.Record{Data: s.made.Receipt, Kind: "verordnung"}}})
		if err != nil || r.Verdict != verifyapi.Verdict_VERDICT_INVALID || r.Text != "" {
			t.Errorf("receipt as prescription: %v, %v", r.GetVerdict(), err)
		}
		for name, m := range map[string]*verifyapi.CheckRequest{
			"nothing":      {},
			"empty case":   {Input: &verifyapi.CheckRequest_Case{Case: &verifyapi.Case{}}},
			"empty record": {Input: &verifyapi.CheckRequest_Record{Record: &verifyapi.Record{}}},
			"kind":         {Input: &verifyapi.CheckRequest_Record{Record: &verifyapi.Record{Data: []byte{1}, Kind: "brief"}}},
			"long id":      {Id: strings.Repeat("x", 300), Input: &verifyapi.CheckRequest_Case{Case: in}},
			"large record": {Input: &verifyapi.CheckRequest_Record{Record: &verifyapi.Record{Data: bytes.Repeat([]byte{1}, verify.MaxRecord+1)}}},
		} {
			if _, err := api.Check(ctx, m); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s: %v", name, err)
			}
		}
		stream, err := api.CheckStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		const n = 30
		go func() {
			for i := range n {
				if err := stream.Send(&verifyapi.CheckRequest{Id: fmt.Sprint(i), Input: &verifyapi.CheckRequest_Case{Case: in}}); err != nil {
					return
				}
			}
			stream.CloseSend()
		}()
		for i := range n {
			if r, err := stream.Recv(); err != nil || r.Id != fmt.Sprint(i) || r.Verdict != verifyapi.Verdict_VERDICT_VALID {
				t.Fatalf("answer %d: %v, %v", i, r, err)
			}
		}
		if _, err := stream.Recv(); err != io.EOF {
			t.Errorf("end of the stream: %v", err)
		}
	})
	t.Run("metrics", func(t *testing.T) {
		res, err := http.Get("http://" + server.OpsAddr().String() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`adv_erezept_checks_total{verdict="valid"} 57`, `adv_erezept_checks_total{verdict="invalid"} 1`, "adv_erezept_refused_total 13"} {
			if !strings.Contains(string(b), want) {
				t.Errorf("metrics lack %s", want)
			}
		}
	})
}

// TestTrustIsLogged: which lists and anchors the service trusts, and what changes about them, stands in the security log.
func TestTrustIsLogged(t *testing.T) {
	t.Parallel()
	s := newBillingSite(t)
	b, err := s.pki.NewBilling()
	if err != nil {
		t.Fatal(err)
	}
	other, err := b.Lists(testpki.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"other.der": other.Anchor, "other-vl.xml": other.VL} {
		if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first, err := os.ReadFile(filepath.Join(s.dir, "anchor.der"))
	if err != nil {
		t.Fatal(err)
	}
	of := func(cert []byte) string { return fmt.Sprintf("%x", sha256.Sum256(cert)) }
	pki := s.config["verify"].(map[string]any)["pki"].(map[string]any)
	pki["dir"] = "lists"
	var want []string
	for _, start := range []struct {
		anchors, vls []string
		logged       []string
	}{
		{[]string{"anchor.der"}, []string{"vl.xml"}, []string{"list-accepted TSL 10001 <nil>", "list-accepted BNetzA-VL 1 <nil>"}},
		{[]string{"anchor.der"}, []string{"vl.xml"}, nil},
		{[]string{"anchor.der", "other.der"}, []string{"other-vl.xml"}, []string{"anchor-pinned TSL <nil> " + of(other.Anchor), "file-passed-over BNetzA-VL <nil> <nil>"}},
		{[]string{"other.der"}, nil, []string{"anchor-removed TSL <nil> " + of(first)}},
	} {
		pki["anchors"], pki["vl"] = start.anchors, start.vls
		want = append(want, start.logged...)
		s.run(t).halt(t)
		var got []string
		for _, e := range s.log(t, "security") {
			if e.Name == "trust.update" {
				got = append(got, fmt.Sprint(e.Values["change"], " ", e.Values["list"], " ", e.Values["sequence"], " ", e.Values["authority_sha256"]))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("anchors %v (-want +got):\n%s", start.anchors, diff)
		}
	}
}

// TestVerificationServiceStart: what is missing is named, and the service is off unless it is configured.
func TestVerificationServiceStart(t *testing.T) {
	t.Parallel()
	s := newBillingSite(t)
	good := s.config["verify"]
	for name, tt := range map[string]struct {
		spoil func() any
		want  string
	}{
		"off":        {func() any { return map[string]any{} }, ""},
		"no clients": {func() any { return os.Remove(filepath.Join(s.dir, "clients", "billing.pem")) }, "clients"},
		"wrong list": {func() any { return os.WriteFile(filepath.Join(s.dir, "tsl.xml"), []byte("<x/>"), 0o600) }, "TSL"},
	} {
		files := map[string][]byte{}
		for _, f := range []string{"clients/billing.pem", "tsl.xml"} {
			files[f], _ = os.ReadFile(filepath.Join(s.dir, f))
		}
		if v, ok := tt.spoil().(map[string]any); ok {
			s.config["verify"] = v
		}
		server, err := advserver.Start(s.parse(t))
		if err == nil {
			if server.VerifyAddr() != nil {
				t.Errorf("%s: the service listens", name)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := server.Run(ctx); err != nil {
				t.Error(err)
			}
		}
		if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v", name, err)
		}
		for f, b := range files {
			if err := os.WriteFile(filepath.Join(s.dir, f), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s.config["verify"] = good
	}
}
