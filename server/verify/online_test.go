package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ktradv/internal/req"
	"ktradv/internal/testpki"
	"ktradv/server/erezept"
	"ktradv/server/status"
)

// TestOnline asks responders over HTTP: the pharmacy's at the address in its certificate, the Fachdienst's through the
// forwarder with its key; what is known is asked once, and what cannot be reached is indeterminate.
func TestOnline(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-15", "ERP-24", "ERP-25", "ERP-26", "ERP-27")
	var mu sync.Mutex
	var b *testpki.Billing
	var pharmacy, service *testpki.Signer
	var direct, forwarded atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked := pharmacy
		switch {
		case r.URL.Path == "/direct":
			direct.Add(1)
		case r.URL.Path == "/forwarder" && r.Header.Get("X-Api-Key") == "key of the operator":
			forwarded.Add(1)
			asked = service
		default:
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/ocsp-request" {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		io.Copy(io.Discard, r.Body)
		answer, err := b.Status(asked, testpki.StatusAnswer{ProducedAt: time.Now()})
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/ocsp-response")
		w.Write(answer)
	}))
	defer server.Close()
	p, err := testpki.New(testpki.Config{OCSPURL: server.URL + "/direct"})
	if err != nil {
		t.Fatal(err)
	}
	if b, err = p.NewBilling(); err != nil {
		t.Fatal(err)
	}
	lists, err := b.Lists(testpki.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o := testpki.CaseOptions{ReceiptStatus: func(testpki.StatusAnswer) *testpki.StatusAnswer { return nil }}
	for profile, to := range map[testpki.SignerProfile]**testpki.Signer{testpki.Doctor: &o.Doctor, testpki.Pharmacy: &o.Pharmacy, testpki.Service: &o.Service} {
		if *to, err = b.Issue(profile, 1, testpki.BrainpoolKey, nil); err != nil {
			t.Fatal(err)
		}
	}
	pharmacy, service = o.Pharmacy, o.Service
	const cases = 20
	var in strings.Builder
	for i := range cases {
		made, err := b.Case(o)
		if err != nil {
			t.Fatal(err)
		}
		in.WriteString(caseLine(fmt.Sprint(i), made))
	}
	dir := t.TempDir()
	write(t, dir, map[string][]byte{"anchor.der": lists.Anchor, "tsl.xml": lists.TSL, "vl.xml": lists.VL, "in.ndjson": []byte(in.String()), "key": []byte("key of the operator\n")})
	file := func(name string) string { return filepath.Join(dir, name) }
	args := []string{"-test-pki", "-anchor", file("anchor.der"), "-tsl", file("tsl.xml"), "-vl", file("vl.xml"), "-jobs", "8", "-stream", file("in.ndjson")}
	forwarder := append([]string{"-ocsp-forwarder", server.URL + "/forwarder", "-ocsp-forwarder-key", file("key")}, args...)

	code, stdout, stderr := call(t, nil, forwarder...)
	if code != ExitValid || !strings.Contains(stderr, "20 checked: 20 valid") {
		t.Fatalf("exit status %d, %s\n%.3000s", code, stderr, stdout)
	}
	if direct.Load() != 1 || forwarded.Load() != 1 {
		t.Errorf("%d direct questions, %d through the forwarder; want one each for %d cases", direct.Load(), forwarded.Load(), cases)
	}
	sources := map[string]int{}
	for _, line := range strings.Split(strings.TrimSpace(stdout), "\n") {
		var r erezept.CaseReport
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		for _, rec := range r.Records {
			sources[string(rec.Kind)+" "+rec.Status.Source]++
		}
	}
	if sources["verordnung embedded"] != cases || sources["abgabe online"]+sources["abgabe cache"] != cases || sources["abgabe online"] == 0 ||
		sources["quittung forwarder"]+sources["quittung cache"] != cases || sources["quittung forwarder"] == 0 {
		t.Errorf("sources %v", sources)
	}

	// Without the forwarder the Fachdienst's responder is not reachable from the internet, and nobody pretends otherwise.
	if code, stdout, stderr := call(t, nil, args...); code != ExitIndeterminate || !strings.Contains(stderr, "20 indeterminate") {
		t.Errorf("no forwarder: exit status %d, %s\n%.2000s", code, stderr, stdout)
	}
	if code, _, stderr := call(t, nil, append([]string{"-offline"}, args...)...); code != ExitIndeterminate || !strings.Contains(stderr, "20 indeterminate") {
		t.Errorf("offline: exit status %d, %s", code, stderr)
	}
	if err := os.Chmod(file("key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := call(t, nil, forwarder...); code != ExitFailed || !strings.Contains(stderr, "chmod 600") {
		t.Errorf("key for everybody: exit status %d, %s", code, stderr)
	}
	if code, _, stderr := call(t, nil, append([]string{"-network", "moon"}, args...)...); code != ExitFailed || !strings.Contains(stderr, "moon") {
		t.Errorf("network: exit status %d, %s", code, stderr)
	}
}

// TestInterruptedWhileWaiting: a batch that waits for a responder that fails is interrupted; the unit that waited is not done,
// and going on gives it its status.
func TestInterruptedWhileWaiting(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-15")
	var b *testpki.Billing
	var pharmacy *testpki.Signer
	var works atomic.Bool
	var requests atomic.Int64
	failed := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if !works.Load() {
			if requests.Add(1) == 1+status.DefaultRetries {
				close(failed)
			}
			http.Error(w, "maintenance", http.StatusServiceUnavailable)
			return
		}
		answer, err := b.Status(pharmacy, testpki.StatusAnswer{ProducedAt: time.Now()})
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/ocsp-response")
		w.Write(answer)
	}))
	defer server.Close()
	p, err := testpki.New(testpki.Config{OCSPURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	if b, err = p.NewBilling(); err != nil {
		t.Fatal(err)
	}
	lists, err := b.Lists(testpki.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var o testpki.CaseOptions
	for profile, to := range map[testpki.SignerProfile]**testpki.Signer{testpki.Doctor: &o.Doctor, testpki.Pharmacy: &o.Pharmacy, testpki.Service: &o.Service} {
		if *to, err = b.Issue(profile, 1, testpki.BrainpoolKey, nil); err != nil {
			t.Fatal(err)
		}
	}
	pharmacy = o.Pharmacy
	embedded, err := b.Status(pharmacy, testpki.StatusAnswer{ProducedAt: p.Now().AddDate(0, 0, -1)})
	if err != nil {
		t.Fatal(err)
	}
	var in strings.Builder
	for i := range 3 {
		o.Dispensing = nil
		if i == 0 {
			o.Dispensing = func(c *testpki.CMSOptions) { c.OCSP = [][]byte{embedded} }
		}
		made, err := b.Case(o)
		if err != nil {
			t.Fatal(err)
		}
		in.WriteString(caseLine(fmt.Sprint(i), made))
	}
	dir := t.TempDir()
	write(t, dir, map[string][]byte{"anchor.der": lists.Anchor, "tsl.xml": lists.TSL, "vl.xml": lists.VL, "in.ndjson": []byte(in.String())})
	file := func(name string) string { return filepath.Join(dir, name) }
	args := []string{"-test-pki", "-anchor", file("anchor.der"), "-tsl", file("tsl.xml"), "-vl", file("vl.xml"), "-jobs", "1", "-stream", file("in.ndjson"),
		"-out", file("out.ndjson"), "-resume", "-archive"}
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	go func() {
		<-failed
		interrupt()
	}()
	var stdout, stderr bytes.Buffer
	if code := Command(ctx, args, nil, &stdout, &stderr); code != ExitInterrupted || !strings.Contains(stderr.String(), "1 checked: 1 valid") {
		t.Fatalf("interrupted: exit status %d, %s", code, stderr.String())
	}
	works.Store(true)
	if code, _, stderr := call(t, nil, args...); code != ExitValid || !strings.Contains(stderr, "3 checked: 3 valid") {
		t.Errorf("resumed: exit status %d, %s", code, stderr)
	}
	out, err := os.ReadFile(file("out.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		var r erezept.CaseReport
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.ID != fmt.Sprint(i) || r.Verdict != erezept.Valid {
			t.Fatalf("%s, %v", line, err)
		}
		// The evidence stands in every report, also of a status that was known already.
		if s := r.Records[1].Status; len(s.Response) == 0 || i == 2 && s.Source != "cache" {
			t.Errorf("case %d: status from %s with %d octets", i, s.Source, len(s.Response))
		}
	}
}
