package trust_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ktradv/internal/ocsp"
	"ktradv/internal/req"
	"ktradv/internal/testpki"
	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
	"ktradv/server/trust"
)

// web answers downloads from a map of addresses and remembers what was asked for.
type web struct {
	mu    sync.Mutex
	files map[string][]byte
	asked []string
}

func (w *web) Do(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	address := r.URL.String()
	w.asked = append(w.asked, address)
	body, ok := w.files[address]
	if !ok {
		return nil, errors.New("no route")
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
}

func (w *web) count(address string) (n int) {
	for _, a := range w.asked {
		if a == address {
			n++
		}
	}
	return n
}

// updating is an updater in a folder, with its surroundings.
type updating struct {
	*world
	t       testing.TB
	dir     string
	web     *web
	now     time.Time
	events  []trust.Event
	config  trust.UpdaterConfig
	updater *trust.Updater
}

func newUpdating(t testing.TB, change func(*trust.UpdaterConfig)) *updating {
	t.Helper()
	u := &updating{world: newWorld(t), t: t, dir: t.TempDir(), web: &web{files: map[string][]byte{}}, now: at}
	u.config = trust.UpdaterConfig{
		Anchors: []*x509ti.Certificate{u.anchor}, Primary: "https://first.invalid/tsl.xml", Backup: "https://second.invalid/tsl.xml", HTTP: u.web,
		Clock: func() time.Time { return u.now }, RetryWait: time.Nanosecond, Report: func(e trust.Event) { u.events = append(u.events, e) },
	}
	if change != nil {
		change(&u.config)
	}
	u.open()
	return u
}

// open begins again with what the folder holds.
func (u *updating) open() {
	u.t.Helper()
	archive, err := trust.OpenArchive(u.dir, 0)
	if err != nil {
		u.t.Fatal(err)
	}
	u.config.Archive = archive
	if u.updater, err = trust.NewUpdater(u.config); err != nil {
		u.t.Fatal(err)
	}
}

// spec is a TSL of that sequence number, issued now.
func (u *updating) spec(sequence uint64) testpki.List {
	l := u.tslSpec()
	l.Sequence, l.Issued, l.NextUpdate = sequence, u.now, u.now.AddDate(0, 0, 30)
	return l
}

func (u *updating) write(l testpki.List, signer testpki.X509Authority, faults ...testpki.ListFault) []byte {
	u.t.Helper()
	raw, err := u.pki.WriteList(l, signer, faults...)
	if err != nil {
		u.t.Fatal(err)
	}
	return raw
}

func (u *updating) codes() (out []int) {
	for _, e := range u.events {
		if e.Code != 0 {
			out = append(out, e.Code)
		}
	}
	return out
}

func codeOf(err error) int {
	var e *x509ti.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// TestAccept: what is taken and what is refused, after a first list.
func TestAccept(t *testing.T) {
	t.Parallel()
	req.Covers(t, "GS-A_4642", "GS-A_4648", "GS-A_4649", "GS-A_4650", "GS-A_4651", "GS-A_4637", "GS-A_4751")
	for _, tc := range []struct {
		name    string
		raw     func(*updating) []byte
		status  trust.StatusSource
		updated bool
		code    int
	}{
		{name: "the next one", raw: func(u *updating) []byte { return u.write(u.spec(10101), u.tslSigner) }, updated: true},
		{name: "the same again", raw: func(u *updating) []byte { return u.write(u.first(), u.tslSigner) }},
		{name: "an older one", raw: func(u *updating) []byte { return u.write(u.spec(10099), u.tslSigner) }, code: 1007},
		{name: "the same number with another Id", raw: func(u *updating) []byte {
			l := u.first()
			l.ID = "other"
			return u.write(l, u.tslSigner)
		}, code: 1007},
		{name: "a new number, but issued before", raw: func(u *updating) []byte {
			l := u.spec(10101)
			l.Issued = at.Add(-time.Second)
			return u.write(l, u.tslSigner)
		}, code: 1007},
		{name: "a new number with the old Id", raw: func(u *updating) []byte {
			l := u.spec(10101)
			l.ID = "first"
			return u.write(l, u.tslSigner)
		}, code: 1007},
		{name: "not XML", raw: func(*updating) []byte { return []byte("hello") }, code: 1011},
		{name: "not a list", raw: func(*updating) []byte { return []byte("<a/>") }, code: 1012},
		{name: "a VL", raw: func(u *updating) []byte { return u.write(u.vlSpec(), u.vlSigner) }, code: 1012},
		{name: "wrong signature", raw: func(u *updating) []byte { return u.write(u.spec(10101), u.tslSigner, testpki.ListWrongSignature) }, code: 1013},
		{name: "changed after signing", raw: func(u *updating) []byte { return u.write(u.spec(10101), u.tslSigner, testpki.ListWrongDigest) }, code: 1013},
		{name: "no signature", raw: func(u *updating) []byte { return u.write(u.spec(10101), u.tslSigner, testpki.ListNoSignature) }, code: 1002},
		{name: "signer below another anchor", raw: func(u *updating) []byte { return u.write(u.spec(10101), u.vlSigner) }, code: 1042},
		{name: "a certificate that may not sign lists", raw: func(u *updating) []byte { return u.write(u.spec(10101), u.pki.OtherOCSPSigner) }, code: 1017},
		{name: "run out", raw: func(u *updating) []byte {
			l := u.spec(10101)
			l.NextUpdate = u.now
			return u.write(l, u.tslSigner)
		}, code: 1009},
		{name: "signer good", raw: func(u *updating) []byte { return u.write(u.spec(10101), u.tslSigner) }, status: good(), updated: true},
		{name: "signer revoked", raw: func(u *updating) []byte { return u.write(u.spec(10101), u.tslSigner) }, status: revoked(), code: 1047},
		{name: "signer unknown", raw: func(u *updating) []byte { return u.write(u.spec(10101), u.tslSigner) }, status: &answers{answer: trust.StatusAnswer{Result: ocsp.Result{Status: ocsp.Unknown}}}, code: 1044},
		{name: "certHash of another", raw: func(u *updating) []byte { return u.write(u.spec(10101), u.tslSigner) }, status: &answers{err: ocsp.CertHashMismatch}, code: 1041},
		{name: "responder of the signer not available", raw: func(u *updating) []byte { return u.write(u.spec(10101), u.tslSigner) }, status: &answers{err: ocsp.NotAvailable}, code: 1032},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			u := newUpdating(t, nil)
			if ok, err := u.updater.Accept(context.Background(), u.write(u.first(), u.tslSigner)); err != nil || !ok {
				t.Fatalf("first list: %v, %v", ok, err)
			}
			u.config.Status = tc.status
			u.open()
			ok, err := u.updater.Accept(context.Background(), tc.raw(u))
			if ok != tc.updated || codeOf(err) != tc.code || (err == nil) != (tc.code == 0) {
				t.Errorf("%v, %v; want %v, code %d", ok, err, tc.updated, tc.code)
			}
			want := uint64(10100)
			if tc.updated {
				want = 10101
			}
			for range 2 { // also for one that is opened later
				if ref, _, ok := u.updater.Space().Current(); !ok || ref.Sequence != want {
					t.Errorf("current list %d, want %d", ref.Sequence, want)
				}
				if r := u.updater.Space().Check(context.Background(), u.institute, trust.Options{Profiles: []x509ti.Profile{x509ti.HCIOSIG}, Status: good()}); r.Verdict != trust.Valid || r.List.Sequence != want {
					t.Errorf("check: %v by list %d", r.Verdict, r.List.Sequence)
				}
				u.open()
			}
			if a, ok := tc.status.(*answers); ok {
				// The old list's responders are the trusted ones (TUC_PKI_001).
				if q := a.asked[0]; !q.ListedOnly || len(q.Responders) != 2 || q.URL != testpki.DefaultOCSPURL || q.Issuer.Fingerprint() != u.anchor.Fingerprint() {
					t.Errorf("question %+v", q)
				}
			} else if tc.updated && !slices.Contains(u.codes(), 1039) {
				t.Errorf("a signer whose status nobody asked for is not reported: %v", u.codes())
			}
		})
	}
}

func (u *updating) first() testpki.List {
	l := u.spec(10100)
	l.ID, l.Issued = "first", at
	return l
}

func revoked() *answers {
	return &answers{answer: trust.StatusAnswer{Result: ocsp.Result{Status: ocsp.Revoked}}}
}

// TestDownload: addresses, tries, backup and hash file.
func TestDownload(t *testing.T) {
	t.Parallel()
	req.Covers(t, "GS-A_4646", "GS-A_4647", "GS-A_4642")
	u := newUpdating(t, nil)
	ctx := context.Background()
	if _, err := u.updater.Update(ctx); codeOf(err) != 1006 {
		t.Errorf("nothing there: %v", err)
	}
	if a, b := u.web.count(u.config.Primary), u.web.count(u.config.Backup); a != 4 || b != 4 {
		t.Errorf("%d and %d tries, want 4 at each address", a, b)
	}
	if last := u.web.asked[len(u.web.asked)-1]; last != u.config.Backup {
		t.Errorf("last asked %s", last)
	}
	u.web.files[u.config.Backup] = u.write(u.first(), u.tslSigner)
	if ok, err := u.updater.Update(ctx); err != nil || !ok {
		t.Fatalf("from the backup: %v, %v", ok, err)
	}
	// From now on the list's own pointers count.
	u.web.asked = nil
	next := u.write(u.spec(10101), u.tslSigner)
	u.web.files["https://tsl.invalid/tsl.xml"] = next
	if ok, err := u.updater.Update(ctx); err != nil || !ok || u.web.count(u.config.Primary) != 0 {
		t.Fatalf("from the pointer: %v, %v, asked %v", ok, err, u.web.asked)
	}
	// The hash file says that there is nothing new.
	u.web.asked = nil
	sum := sha256.Sum256(next)
	u.web.files["https://tsl.invalid/tsl.xml.sha2"] = []byte(strings.ToUpper(hex.EncodeToString(sum[:])) + "  tsl.xml\n")
	if ok, err := u.updater.Update(ctx); err != nil || ok || len(u.web.asked) != 1 {
		t.Errorf("unchanged: %v, %v, asked %v", ok, err, u.web.asked)
	}
	// A hash file that says something else makes nothing wrong.
	u.web.files["https://tsl.invalid/tsl.xml.sha2"] = []byte("00")
	if ok, err := u.updater.Update(ctx); err != nil || ok || u.web.count("https://tsl.invalid/tsl.xml") != 1 {
		t.Errorf("with a wrong hash: %v, %v", ok, err)
	}
	// A list that is longer than any list can be is not read to its end.
	u.web.files["https://tsl.invalid/tsl.xml"] = make([]byte, tsl.MaxSize+1)
	u.web.files["https://bak.invalid/tsl.xml"] = next
	if ok, err := u.updater.Update(ctx); err != nil || ok {
		t.Errorf("too long: %v, %v", ok, err)
	}
	// The newest list runs out: reported each time.
	u.now, u.events = at.AddDate(0, 1, 5), nil
	if _, err := u.updater.Update(ctx); err != nil || !slices.Contains(u.codes(), 1009) {
		t.Errorf("run out: %v, %v", err, u.codes())
	}
	nowhere := newUpdating(t, func(c *trust.UpdaterConfig) { c.Primary, c.Backup = "", "ftp://x" })
	if _, err := nowhere.updater.Update(ctx); codeOf(err) != 1005 {
		t.Errorf("no address: %v", err)
	}
}

// TestRun updates once a day until it is stopped; what failed is tried again sooner, and ever later.
func TestRun(t *testing.T) {
	t.Parallel()
	req.Covers(t, "GS-A_4642")
	w := newWorld(t)
	l := w.tslSpec()
	l.Issued, l.NextUpdate, l.Primary, l.Backup = at, at.AddDate(0, 0, 30), "https://p.invalid/x", ""
	raw, err := w.pki.WriteList(l, w.tslSigner)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name     string
		interval time.Duration
		there    time.Duration // when the list can be downloaded
		want     []time.Duration
	}{
		{"there", 0, 0, []time.Duration{0, 24 * time.Hour, 48 * time.Hour}},
		{"there after a while", 0, time.Hour, []time.Duration{0, 15 * time.Minute, 45 * time.Minute, 105 * time.Minute, 105*time.Minute + 24*time.Hour, 105*time.Minute + 48*time.Hour}},
		{"never there", 0, 1000 * time.Hour, []time.Duration{0, 15 * time.Minute, 45 * time.Minute, 105 * time.Minute, 225 * time.Minute, 465 * time.Minute,
			945 * time.Minute, 1905 * time.Minute, 1905*time.Minute + 24*time.Hour}},
		{"never there, often asked for", 20 * time.Hour, 1000 * time.Hour, []time.Duration{0, 15 * time.Minute, 45 * time.Minute, 105 * time.Minute, 225 * time.Minute,
			465 * time.Minute, 945 * time.Minute, 1905 * time.Minute, 1905*time.Minute + 20*time.Hour}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var asked []time.Duration
				files := doer(func(r *http.Request) (*http.Response, error) {
					since := time.Since(start)
					if !strings.HasSuffix(r.URL.Path, ".sha2") {
						asked = append(asked, since)
					}
					if since < tc.there || strings.HasSuffix(r.URL.Path, ".sha2") {
						return nil, errors.New("no route")
					}
					return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(raw)), Request: r}, nil
				})
				archive, err := trust.OpenArchive(t.TempDir(), 0)
				if err != nil {
					t.Fatal(err)
				}
				u, err := trust.NewUpdater(trust.UpdaterConfig{Archive: archive, Anchors: []*x509ti.Certificate{w.anchor}, Primary: "https://p.invalid/x", HTTP: files,
					Tries: 1, Interval: tc.interval, Clock: func() time.Time { return at.Add(time.Since(start)) }})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan struct{})
				go func() { u.Run(ctx); close(done) }()
				time.Sleep(71 * time.Hour)
				synctest.Wait()
				cancel()
				<-done
				if !slices.Equal(asked, tc.want) {
					t.Errorf("downloads at %v, want %v", asked, tc.want)
				}
			})
		})
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

// TestAnchorChange: the announced anchor takes over at its time (TUC_PKI_013).
func TestAnchorChange(t *testing.T) {
	t.Parallel()
	req.Covers(t, "GS-A_4643")
	w := newWorld(t)
	nextCA, nextSigner, err := w.pki.NewTSLAuthority(2)
	if err != nil {
		t.Fatal(err)
	}
	thirdCA, _, err := w.pki.NewTSLAuthority(3)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := crossTemplate()
	tmpl.Subject = []testpki.Attribute{{OID: []int{2, 5, 4, 3}, Value: "TSL-CA"}}
	unmarked := nextCA
	if unmarked.Certificate, err = w.pki.CertifyX509(&nextCA, nextCA, tmpl); err != nil {
		t.Fatal(err)
	}
	production, err := w.pki.CertifyX509(&unmarked, nextCA, tmpl) // in its own name
	if err != nil {
		t.Fatal(err)
	}
	mark := []string{x509ti.OIDTSLCCACert.String()}
	entry := func(start time.Time, extensions []string, certs ...[]byte) testpki.ListService {
		return testpki.ListService{ListState: state(tsl.TypeCertChange, tsl.StatusInAccord, start), Name: "next", Certificates: certs, Extensions: extensions, SupplyPoints: []string{"http://next.invalid/ocsp"}}
	}
	change := at.AddDate(0, 0, 10)
	announce := func(entries ...testpki.ListService) func(u *updating) {
		return func(u *updating) {
			l := u.first()
			l.Services = append(l.Services, entries...)
			if ok, err := u.updater.Accept(context.Background(), u.write(l, u.tslSigner)); err != nil || !ok {
				u.t.Fatalf("announcement: %v, %v", ok, err)
			}
		}
	}
	for _, tc := range []struct {
		name     string
		announce func(*updating)
		event    int           // code reported with the announcement
		after    time.Duration // after the change
		signer   testpki.X509Authority
		updated  bool
	}{
		{name: "old signer before", announce: announce(entry(change, mark, nextCA.Certificate)), after: -time.Second, signer: w.tslSigner, updated: true},
		{name: "new signer before", announce: announce(entry(change, mark, nextCA.Certificate)), after: -time.Second, signer: nextSigner},
		{name: "new signer from then on", announce: announce(entry(change, mark, nextCA.Certificate)), signer: nextSigner, updated: true},
		{name: "old signer from then on", announce: announce(entry(change, mark, nextCA.Certificate)), signer: w.tslSigner},
		{name: "start in the past: with this list", announce: announce(entry(at.AddDate(0, 0, -1), mark, nextCA.Certificate)), after: -9 * 24 * time.Hour, signer: nextSigner, updated: true},
		{name: "two entries", announce: announce(entry(change, mark, nextCA.Certificate), entry(change, mark, thirdCA.Certificate)), event: 1003, signer: nextSigner},
		{name: "two entries, old signer", announce: announce(entry(change, mark, nextCA.Certificate), entry(change, mark, thirdCA.Certificate)), event: 1003, signer: w.tslSigner, updated: true},
		{name: "no certificate that can be read", announce: announce(entry(change, mark, []byte{0x30, 0})), event: 1004, signer: w.tslSigner, updated: true},
		{name: "no mark", announce: announce(entry(change, nil, nextCA.Certificate)), event: 1004, signer: nextSigner},
		{name: "of the other PKI", announce: announce(entry(change, mark, production)), event: 1004, signer: w.tslSigner, updated: true},
		{name: "no CA", announce: announce(entry(change, mark, nextSigner.Certificate)), event: 1004, signer: w.tslSigner, updated: true},
		{name: "not valid at its start", announce: announce(entry(at.AddDate(20, 0, 0), mark, nextCA.Certificate)), event: 1004, signer: w.tslSigner, updated: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			u := newUpdating(t, nil)
			tc.announce(u)
			if tc.event != 0 != slices.Contains(u.codes(), tc.event) {
				t.Errorf("events %v, want %d", u.codes(), tc.event)
			}
			u.now = change.Add(tc.after)
			source := good()
			u.config.Status = source
			u.open() // what was announced outlives the process
			ok, err := u.updater.Accept(context.Background(), u.write(u.spec(10101), tc.signer))
			if ok != tc.updated || (err == nil) != tc.updated || err != nil && codeOf(err) != 1042 {
				t.Errorf("next list: %v, %v; want %v", ok, err, tc.updated)
			}
			if ok && bytes.Equal(tc.signer.Certificate, nextSigner.Certificate) && source.asked[0].URL != "http://next.invalid/ocsp" {
				t.Errorf("the first signer below the new anchor was asked about at %s", source.asked[0].URL)
			}
			// Both lists still count for the times in which they were in force.
			if refs := u.updater.Space().Lists(); ok && len(refs) != 2 {
				t.Errorf("%d lists", len(refs))
			}
			if r := u.updater.Space().Check(context.Background(), u.institute, trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HCIOSIG}, Status: good()}); r.Verdict != trust.Valid || r.List.Sequence != 10100 {
				t.Errorf("at the time of the first list: %v by %d: %+v", r.Verdict, r.List.Sequence, r.Steps)
			}
		})
	}
}

// TestUpdateVL is TUC_PKI_036.
func TestUpdateVL(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-12")
	for _, tc := range []struct {
		name    string
		change  func(*testpki.List)
		fault   testpki.ListFault
		foreign bool
		updated bool
	}{
		{name: "good", updated: true},
		{name: "older", change: func(l *testpki.List) { l.Sequence = 54 }},
		{name: "run out", change: func(l *testpki.List) { l.NextUpdate = at }},
		{name: "a TSL", change: func(l *testpki.List) { l.VL = false }},
		{name: "signer not in the TSL", foreign: true},
		{name: "wrong signature", fault: testpki.ListWrongSignature},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			u := newUpdating(t, nil)
			ctx := context.Background()
			if _, err := u.updater.UpdateVL(ctx); codeOf(err) != 1060 {
				t.Errorf("without a TSL: %v", err)
			}
			if _, err := u.updater.Accept(ctx, u.write(u.first(), u.tslSigner)); err != nil {
				t.Fatal(err)
			}
			if _, err := u.updater.UpdateVL(ctx); codeOf(err) != 1060 {
				t.Errorf("nothing there: %v", err)
			}
			u.web.files["https://vl.invalid/de.xml"] = u.write(u.vlSpec(), u.vlSigner)
			if ok, err := u.updater.UpdateVL(ctx); err != nil || !ok {
				t.Fatalf("first VL: %v, %v", ok, err)
			}
			if ok, err := u.updater.UpdateVL(ctx); err != nil || ok {
				t.Errorf("the same again: %v, %v", ok, err)
			}
			next := u.vlSpec()
			next.Sequence = 56
			if tc.change != nil {
				tc.change(&next)
			}
			signer := u.vlSigner
			if tc.foreign {
				signer = u.tslSigner
			}
			u.web.files["https://vl.invalid/de.xml"] = u.write(next, signer, tc.fault)
			ok, err := u.updater.UpdateVL(ctx)
			if ok != tc.updated || (err == nil) != tc.updated || err != nil && codeOf(err) != 1060 {
				t.Errorf("%v, %v; want %v", ok, err, tc.updated)
			}
			u.open()
			want := uint64(55)
			if tc.updated {
				want = 56
			}
			r := u.updater.Space().Check(ctx, u.physician, trust.Options{Profiles: []x509ti.Profile{x509ti.HPQES}, Status: good()})
			if r.Verdict != trust.Valid || r.List.Sequence != want || r.List.Kind != tsl.VL {
				t.Errorf("QES: %v by %s %d, want %d: %+v", r.Verdict, r.List.Kind, r.List.Sequence, want, r.Steps)
			}
		})
	}
}

// TestBackfill: lists of former times, below an anchor that counts no more.
func TestBackfill(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-14")
	w := newWorld(t)
	oldCA, oldSigner, err := w.pki.NewTSLAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	oldAnchors := []*x509ti.Certificate{parse(t, oldCA.Certificate)}
	u := newUpdating(t, nil)
	ctx := context.Background()
	old := u.tslSpec()
	old.Sequence, old.Issued, old.NextUpdate = 9000, at.AddDate(0, -6, 0), at.AddDate(0, -5, 0)
	raw := u.write(old, oldSigner)
	if err := u.updater.Backfill(raw, oldAnchors); codeOf(err) != 1007 {
		t.Errorf("before there is a list: %v", err)
	}
	if _, err := u.updater.Accept(ctx, u.write(u.first(), u.tslSigner)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		raw     []byte
		anchors []*x509ti.Certificate
		code    int
	}{
		{"below an anchor that was not given", raw, []*x509ti.Certificate{u.anchor}, 1042},
		{"changed after signing", u.write(old, oldSigner, testpki.ListWrongDigest), oldAnchors, 1013},
		{"a VL", u.write(u.vlSpec(), u.vlSigner), oldAnchors, 1007},
		{"newer than the newest", u.write(u.spec(10200), u.tslSigner), []*x509ti.Certificate{u.anchor}, 1007},
		{"good", raw, oldAnchors, 0},
		{"again", raw, nil, 0},
	} {
		if err := u.updater.Backfill(tc.raw, tc.anchors); codeOf(err) != tc.code || (err == nil) != (tc.code == 0) {
			t.Errorf("%s: %v, want code %d", tc.name, err, tc.code)
		}
	}
	for range 2 {
		if refs := u.updater.Space().Lists(); len(refs) != 2 || refs[0].Sequence != 9000 || refs[1].Sequence != 10100 {
			t.Fatalf("lists %v", refs)
		}
		o := trust.Options{At: at.AddDate(0, -6, 1), Now: at, Profiles: []x509ti.Profile{x509ti.HCIOSIG}, Status: good()}
		if r := u.updater.Space().Check(ctx, u.institute, o); r.Verdict != trust.Valid || r.List.Sequence != 9000 || r.List.Selected != trust.SelectedAtTime {
			t.Errorf("%v by list %d (%s): %+v", r.Verdict, r.List.Sequence, r.List.Selected, r.Steps)
		}
		u.open()
	}
	if n := strings.Count(u.texts(), "of former times with sequence number 9000"); n != 1 {
		t.Errorf("said %d times: %q", n, u.texts())
	}
	// The old anchor signs nothing new.
	if _, err := u.updater.Accept(ctx, u.write(u.spec(10101), oldSigner)); codeOf(err) != 1042 {
		t.Errorf("a new list below the old anchor: %v", err)
	}
}

// TestAcceptVL: a trusted list from a file.
func TestAcceptVL(t *testing.T) {
	t.Parallel()
	u := newUpdating(t, nil)
	raw := u.write(u.vlSpec(), u.vlSigner)
	if _, err := u.updater.AcceptVL(raw); codeOf(err) != 1060 {
		t.Errorf("without a TSL: %v", err)
	}
	if _, err := u.updater.Accept(context.Background(), u.write(u.first(), u.tslSigner)); err != nil {
		t.Fatal(err)
	}
	if ok, err := u.updater.AcceptVL(raw); err != nil || !ok {
		t.Errorf("%v, %v", ok, err)
	}
	if _, err := u.updater.AcceptVL([]byte("<a/>")); codeOf(err) != 1060 {
		t.Errorf("no list: %v", err)
	}
}

// TestAnchorsOfTheTestPKI: production refuses them.
func TestAnchorsOfTheTestPKI(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	open := func() *trust.Archive {
		a, err := trust.OpenArchive(t.TempDir(), 0)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if _, err := trust.NewUpdater(trust.UpdaterConfig{Archive: open(), Anchors: []*x509ti.Certificate{w.anchor}, Production: true}); !errors.Is(err, trust.ErrTestOnly) {
		t.Errorf("test anchor in production: %v", err)
	}
	if _, err := trust.NewUpdater(trust.UpdaterConfig{Archive: open()}); codeOf(err) != 1001 {
		t.Errorf("no anchor: %v", err)
	}
	if _, err := trust.NewUpdater(trust.UpdaterConfig{Archive: open(), Anchors: []*x509ti.Certificate{parse(t, w.tslSigner.Certificate)}}); codeOf(err) != 1001 {
		t.Errorf("anchor that is no CA: %v", err)
	}
}

// TestArchiveDamaged: a list that was changed on disk does not count, and what is missing is said.
func TestArchiveDamaged(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, dir, list string)
		opens  bool
	}{
		{"list flipped", func(t *testing.T, dir, list string) { flip(t, list) }, true},
		{"list cut", func(t *testing.T, dir, list string) {
			if err := os.Truncate(list, 500); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"list gone", func(t *testing.T, dir, list string) {
			if err := os.Remove(list); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"index flipped", func(t *testing.T, dir, list string) { flip(t, filepath.Join(dir, "index.json")) }, false},
		{"index cut", func(t *testing.T, dir, list string) {
			if err := os.Truncate(filepath.Join(dir, "index.json"), 100); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			u := newUpdating(t, nil)
			if _, err := u.updater.Accept(ctx, u.write(u.first(), u.tslSigner)); err != nil {
				t.Fatal(err)
			}
			lists, err := filepath.Glob(filepath.Join(u.dir, "tsl-*"))
			if err != nil || len(lists) != 1 {
				t.Fatalf("%v, %v", lists, err)
			}
			tc.damage(t, u.dir, lists[0])
			archive, err := trust.OpenArchive(u.dir, 0)
			if !tc.opens {
				if !errors.Is(err, trust.ErrArchive) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			u.config.Archive = archive
			if u.updater, err = trust.NewUpdater(u.config); err != nil {
				t.Fatal(err)
			}
			r := u.updater.Space().Check(ctx, u.institute, trust.Options{Profiles: []x509ti.Profile{x509ti.HCIOSIG}, Status: good()})
			if r.Verdict != trust.Indeterminate || !strings.Contains(r.Steps[0].Text, trust.ErrArchive.Error()) {
				t.Errorf("%v: %+v", r.Verdict, r.Steps)
			}
		})
	}
}

// TestArchiveRecovers: a list that could not be read counts again when it can, without a new start.
func TestArchiveRecovers(t *testing.T) {
	t.Parallel()
	u := newUpdating(t, nil)
	if _, err := u.updater.Accept(context.Background(), u.write(u.first(), u.tslSigner)); err != nil {
		t.Fatal(err)
	}
	u.open() // nothing is in memory
	lists, err := filepath.Glob(filepath.Join(u.dir, "tsl-*"))
	if err != nil || len(lists) != 1 {
		t.Fatalf("%v, %v", lists, err)
	}
	check := func(want trust.Verdict) {
		t.Helper()
		r := u.updater.Space().Check(context.Background(), u.institute, trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HCIOSIG}, Status: good(), Cache: trust.NewChainCache(1)})
		if r.Verdict != want {
			t.Errorf("%v, want %v: %+v", r.Verdict, want, r.Steps)
		}
	}
	if err := os.Rename(lists[0], lists[0]+".away"); err != nil {
		t.Fatal(err)
	}
	check(trust.Indeterminate)
	if err := os.Rename(lists[0]+".away", lists[0]); err != nil {
		t.Fatal(err)
	}
	check(trust.Indeterminate) // the same error for a minute
	u.now = u.now.Add(time.Minute)
	check(trust.Valid)
}

func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestArchiveBounded drops the oldest lists, on disk too.
func TestArchiveBounded(t *testing.T) {
	t.Parallel()
	u := newUpdating(t, nil)
	archive, err := trust.OpenArchive(u.dir, 3)
	if err != nil {
		t.Fatal(err)
	}
	u.config.Archive = archive
	if u.updater, err = trust.NewUpdater(u.config); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(5) {
		u.now = u.now.Add(time.Hour)
		if _, err := u.updater.Accept(context.Background(), u.write(u.spec(10100+i), u.tslSigner)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(u.dir, "*"))
	if err != nil || len(files) != 4 {
		t.Errorf("%v, %v", files, err)
	}
	refs := u.updater.Space().Lists()
	if len(refs) != 3 || refs[0].Sequence != 10102 {
		t.Errorf("%v", refs)
	}
	// A file that cannot be removed does not keep the new list from being used.
	oldest, err := filepath.Glob(filepath.Join(u.dir, "tsl-*10102-*"))
	if err != nil || len(oldest) != 1 {
		t.Fatalf("%v, %v", oldest, err)
	}
	if err := errors.Join(os.Remove(oldest[0]), os.MkdirAll(filepath.Join(oldest[0], "in the way"), 0o700)); err != nil {
		t.Fatal(err)
	}
	u.now = u.now.Add(time.Hour)
	if ok, err := u.updater.Accept(context.Background(), u.write(u.spec(10105), u.tslSigner)); err != nil || !ok {
		t.Errorf("%v, %v", ok, err)
	}
	if ref, _, _ := u.updater.Space().Current(); ref.Sequence != 10105 {
		t.Errorf("list in force %d", ref.Sequence)
	}
	// A folder that cannot be made is an error, and not a trust space without memory.
	if _, err := trust.OpenArchive(files[0], 0); err == nil {
		t.Error("a file passes as a folder")
	}
}
