package verify

import (
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
