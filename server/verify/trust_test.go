package verify

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ktradv/internal/req"
	"ktradv/internal/testpki"
	"ktradv/server/trust"
)

// listRig writes lists below one TSL signer CA, which sign the trusted lists, too.
type listRig struct {
	t          *testing.T
	pki        *testpki.PKI
	ca, signer testpki.X509Authority
	dir        string
}

func newListRig(t *testing.T) *listRig {
	t.Helper()
	w, dir := newWorld(t)
	r := &listRig{t: t, pki: w.pki, dir: dir}
	var err error
	if r.ca, r.signer, err = w.pki.NewTSLAuthority(3); err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string][]byte{"anchor.der": r.ca.Certificate, "q.p7s": w.good.Receipt})
	return r
}

func (r *listRig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *listRig) list(name string, l testpki.List) []byte {
	r.t.Helper()
	raw, err := r.pki.WriteList(l, r.signer)
	if err != nil {
		r.t.Fatal(err)
	}
	write(r.t, r.dir, map[string][]byte{name: raw})
	return raw
}

func (r *listRig) tsl(name string, sequence uint64, issued, next time.Time) []byte {
	return r.list(name, testpki.List{Sequence: sequence, Issued: issued, NextUpdate: next, Services: []testpki.ListService{
		{ListState: testpki.ListState{Type: "http://uri.telematik/TrstSvc/Svctype/TrustedList/schemerules/DE", Status: "http://uri.etsi.org/TrstSvc/Svcstatus/inaccord", Start: issued},
			Name: "VL signer", Certificates: [][]byte{r.signer.Certificate}, SupplyPoints: []string{"http://vl.invalid/"}},
	}})
}

func (r *listRig) vl(name string, sequence uint64, issued, next time.Time) []byte {
	return r.list(name, testpki.List{VL: true, Sequence: sequence, Issued: issued, NextUpdate: next})
}

// TestReopen: the files of the installation stay in the configuration while the archive goes on; a start with them must not
// fail because the archive has newer lists by now, or because they have run out since.
func TestReopen(t *testing.T) {
	t.Parallel()
	day := func(n int) time.Time { return when.AddDate(0, 0, n) }
	type start struct {
		now     time.Time
		vl, tsl string
		fails   string // part of the error, "" when it opens
		event   string // part of an event, "" for none about the VL
	}
	for name, tc := range map[string]struct{ again start }{
		"the same files the next day":            {start{now: day(1), vl: "vl1.xml", tsl: "tsl1.xml", event: "passed over"}},
		"after they have run out":                {start{now: day(61), vl: "vl1.xml", tsl: "tsl1.xml", event: "passed over"}},
		"a file of an even older list":           {start{now: day(1), vl: "vl0.xml", tsl: "tsl1.xml", event: "passed over"}},
		"the file of the newest list":            {start{now: day(1), vl: "vl2.xml", tsl: "tsl1.xml"}},
		"a newer list that has run out":          {start{now: day(400), vl: "vl3.xml", tsl: "tsl1.xml", event: "has run out"}},
		"a newer list that somebody else signed": {start{now: day(1), vl: "foreign.xml", tsl: "tsl1.xml", fails: "1060"}},
		"no list":                                {start{now: day(1), vl: "q.p7s", tsl: "tsl1.xml", fails: "1060"}},
		"a newer TSL that has run out":           {start{now: day(400), vl: "vl1.xml", tsl: "tsl3.xml", event: "passed over"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newListRig(t)
			r.tsl("tsl1.xml", 1, day(-1), day(30))
			r.tsl("tsl3.xml", 3, day(3), day(33))
			r.vl("vl0.xml", 1, day(-30), day(60))
			r.vl("vl1.xml", 2, day(-1), day(60))
			newer := r.vl("vl2.xml", 3, when, day(360))
			r.vl("vl3.xml", 4, day(1), day(365))
			_, signer, err := r.pki.NewTSLAuthority(4)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := r.pki.WriteList(testpki.List{VL: true, Sequence: 9, Issued: when, NextUpdate: day(360)}, signer)
			if err != nil {
				t.Fatal(err)
			}
			write(t, r.dir, map[string][]byte{"foreign.xml": raw})

			// As the service opens it.
			open := func(s start, dir string) (*Opened, []string, error) {
				var events []string
				o := TrustOptions{Dir: r.path(dir), Anchors: []string{r.path("anchor.der")}, TSLs: []string{r.path(s.tsl)}, VLs: []string{r.path(s.vl)},
					Test: true, Offline: true, Certificates: 10, TableBytes: 1 << 20}
				opened, err := o.Open(t.Context(), func() time.Time { return s.now }, func(e trust.Event) { events = append(events, e.Text) })
				return opened, events, err
			}
			first := start{now: when, vl: "vl1.xml", tsl: "tsl1.xml"}
			opened, _, err := open(first, "service")
			if err != nil {
				t.Fatal(err)
			}
			if ok, err := opened.Updater.AcceptVL(newer); err != nil || !ok { // the update
				t.Fatalf("update: %v, %v", ok, err)
			}
			opened, events, err := open(tc.again, "service")
			if err != nil || tc.again.fails != "" {
				if tc.again.fails == "" || err == nil || !strings.Contains(err.Error(), tc.again.fails) {
					t.Errorf("service: %v, want %q", err, tc.again.fails)
				}
			} else {
				text := strings.Join(events, "\n")
				if strings.Contains(text, "passed over") != (tc.again.event != "") || !strings.Contains(text, tc.again.event) {
					t.Errorf("service: events %q, want %q", text, tc.again.event)
				}
				if refs := opened.Checker.Space().Lists(); refs[len(refs)-1].Sequence != 3 {
					t.Errorf("service: the newest trusted list is %d", refs[len(refs)-1].Sequence)
				}
			}

			// As the command opens it.
			run := func(s start) (int, string) {
				code, _, stderr := call(t, nil, "-test-pki", "-trust", r.path("command"), "-anchor", r.path("anchor.der"), "-tsl", r.path(s.tsl),
					"-vl", r.path(s.vl), "-clock", s.now.Format(time.RFC3339), "-offline", r.path("q.p7s"))
				return code, stderr
			}
			for _, s := range []start{first, {now: when, vl: "vl2.xml", tsl: "tsl1.xml"}} {
				if code, stderr := run(s); code == ExitFailed {
					t.Fatal(stderr)
				}
			}
			code, stderr := run(tc.again)
			if (code == ExitFailed) != (tc.again.fails != "") || !strings.Contains(stderr, tc.again.fails) || !strings.Contains(stderr, tc.again.event) {
				t.Errorf("command: exit status %d, %q", code, stderr)
			}
		})
	}
}

// TestAnchorFromConfiguration: an anchor that is put into the configuration later counts, one that is taken out does not
// any more; both are said.
func TestAnchorFromConfiguration(t *testing.T) {
	t.Parallel()
	r := newListRig(t)
	r.tsl("tsl1.xml", 1, when.AddDate(0, 0, -1), when.AddDate(0, 0, 30))
	ca, signer, err := r.pki.NewTSLAuthority(4)
	if err != nil {
		t.Fatal(err)
	}
	write(t, r.dir, map[string][]byte{"next.der": ca.Certificate})
	old := r.signer
	r.signer = signer
	r.tsl("tsl2.xml", 2, when, when.AddDate(0, 0, 30))
	r.signer = old
	r.tsl("tsl3.xml", 3, when.Add(time.Hour), when.AddDate(0, 0, 30))
	run := func(list string, anchors ...string) (int, string) {
		args := []string{"-test-pki", "-trust", r.path("archive"), "-tsl", r.path(list), "-clock", when.Add(2 * time.Hour).Format(time.RFC3339), "-offline"}
		for _, a := range anchors {
			args = append(args, "-anchor", r.path(a))
		}
		code, _, stderr := call(t, nil, append(args, r.path("q.p7s"))...)
		return code, stderr
	}
	for _, step := range []struct {
		list    string
		anchors []string
		fails   bool
		says    string
	}{
		{"tsl1.xml", []string{"anchor.der"}, false, "sequence number 1 accepted"},
		{"tsl2.xml", []string{"anchor.der"}, true, "1042"},
		{"tsl2.xml", []string{"anchor.der", "next.der"}, false, "pinned by the configuration: ADV.TSL-CA4"},
		{"tsl3.xml", []string{"next.der"}, true, "1042"}, // below the anchor that is gone
		{"tsl3.xml", nil, true, "1042"},                  // and stays so without a word about anchors
		{"tsl3.xml", []string{"next.der", "anchor.der"}, false, "sequence number 3 accepted"},
	} {
		code, stderr := run(step.list, step.anchors...)
		if (code == ExitFailed) != step.fails || !strings.Contains(stderr, step.says) {
			t.Errorf("%s with %v: exit status %d, %q; want %q", step.list, step.anchors, code, stderr, step.says)
		}
	}
	if _, err := os.Stat(r.path("archive/index.json")); err != nil {
		t.Error(err)
	}
}

// TestCrossOver: the change of the trust space on the command line, with records to be checked or without.
func TestCrossOver(t *testing.T) {
	t.Parallel()
	r := newListRig(t)
	var err error
	if r.ca, r.signer, err = r.pki.NewRSATSLAuthority(5); err != nil {
		t.Fatal(err)
	}
	newCA, newSigner, err := r.pki.NewTSLAuthority(6)
	if err != nil {
		t.Fatal(err)
	}
	name := testpki.Template{Subject: []testpki.Attribute{{OID: []int{2, 5, 4, 6}, Value: "DE"}, {OID: []int{2, 5, 4, 10}, Value: "KTR-AdV Test NOT-VALID"},
		{OID: []int{2, 5, 4, 11}, Value: "TSL-Signer-CA der Telematikinfrastruktur"}, {OID: []int{2, 5, 4, 3}, Value: "ADV.TSL-CA6 TEST-ONLY"}},
		NotBefore: when.AddDate(-1, 0, 0), NotAfter: when.AddDate(1, 0, 0), CA: true, KeyUsage: testpki.UsageCertSign}
	cross, err := r.pki.CertifyX509(&r.ca, newCA, name)
	if err != nil {
		t.Fatal(err)
	}
	write(t, r.dir, map[string][]byte{"rsa.der": r.ca.Certificate, "ecc.der": newCA.Certificate, "cross.der": cross})
	r.tsl("rsa.xml", 17, when.AddDate(0, 0, -1), when.AddDate(0, 0, 29))
	r.signer = newSigner
	r.tsl("ecc.xml", 10001, when, when.AddDate(0, 0, 30))
	r.tsl("next.xml", 10002, when.Add(time.Minute), when.AddDate(0, 0, 30))
	flags := func(more ...string) []string {
		return append([]string{"-test-pki", "-trust", r.path("archive"), "-clock", when.Add(time.Hour).Format(time.RFC3339), "-offline"}, more...)
	}
	change := []string{"-cross-anchor", r.path("ecc.der"), "-cross-cert", r.path("cross.der"), "-cross-tsl", r.path("ecc.xml")}
	for _, step := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"first list", flags("-anchor", r.path("rsa.der"), "-tsl", r.path("rsa.xml"), r.path("q.p7s")), ExitIndeterminate, "sequence number 17 accepted"},
		{"one flag is missing", flags(change[:4]...), ExitFailed, "-cross-tsl"},
		{"no archive", append([]string{"-test-pki", "-anchor", r.path("rsa.der"), "-tsl", r.path("rsa.xml")}, change...), ExitFailed, "-trust"},
		{"files of the wrong order", flags("-cross-anchor", r.path("cross.der"), "-cross-cert", r.path("ecc.der"), "-cross-tsl", r.path("ecc.xml")), ExitFailed, "nothing was changed"},
		{"no certificate", flags("-cross-anchor", r.path("ecc.xml"), "-cross-cert", r.path("cross.der"), "-cross-tsl", r.path("ecc.xml")), ExitFailed, "change of trust space"},
		{"list of the old trust space", flags("-cross-anchor", r.path("ecc.der"), "-cross-cert", r.path("cross.der"), "-cross-tsl", r.path("rsa.xml")), ExitFailed, "1007"},
		{"nothing has changed so far", flags("-tsl", r.path("next.xml"), r.path("q.p7s")), ExitFailed, "1042"},
		{"the change", flags(change...), ExitValid, "trust space changed by cross certificate"},
		{"again", flags(change...), ExitFailed, "in force already"},
		{"the next list", flags("-anchor", r.path("rsa.der"), "-tsl", r.path("rsa.xml"), "-tsl", r.path("next.xml"), r.path("q.p7s")), ExitIndeterminate, "sequence number 10002 accepted"},
	} {
		if code, stdout, stderr := call(t, nil, step.args...); code != step.code || !strings.Contains(stderr, step.says) || code == ExitFailed && stdout != "" {
			t.Errorf("%s: exit status %d, %q; want %d, %q", step.name, code, stderr, step.code, step.says)
		}
	}
}

// TestNewestList: the report says what the newest list makes of an issuer that the list of the signing time names.
func TestNewestList(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-14")
	r := newListRig(t)
	w, _ := newWorld(t)
	revoked, err := w.b.Lists(testpki.ListOptions{Issued: when.Add(-time.Hour), SMCBRevoked: when.AddDate(-5, 0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	later, err := w.b.Lists(testpki.ListOptions{Issued: when.Add(-time.Hour), SMCBRevoked: when.Add(-2 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	r.tsl("empty.xml", 10002, when.Add(-time.Hour), when.AddDate(0, 0, 30))
	write(t, r.dir, map[string][]byte{"then.der": w.lists.Anchor, "then.xml": w.lists.TSL, "revoked.der": revoked.Anchor, "revoked.xml": revoked.TSL,
		"later.der": later.Anchor, "later.xml": later.TSL, "a.p7s": w.good.Dispensing})
	for _, tc := range []struct {
		file, anchor, newest string
		code                 int
		says                 string
	}{
		{"q.p7s", "then.der", "then.xml", ExitValid, ""},
		{"a.p7s", "then.der", "then.xml", ExitValid, ""},
		{"q.p7s", "anchor.der", "empty.xml", ExitWarnings, `"code":12037`},
		{"a.p7s", "anchor.der", "empty.xml", ExitWarnings, `"code":12037`},
		{"q.p7s", "revoked.der", "revoked.xml", ExitValid, ""}, // of another issuer
		{"a.p7s", "revoked.der", "revoked.xml", ExitInvalid, `"code":1036`},
		{"a.p7s", "later.der", "later.xml", ExitValid, ""}, // revoked since it issued the certificate
	} {
		code, stdout, stderr := call(t, nil, "-test-pki", "-anchor", r.path("then.der"), "-anchor", r.path(tc.anchor), "-tsl", r.path("then.xml"), "-tsl", r.path(tc.newest),
			"-clock", when.Format(time.RFC3339), "-offline", r.path(tc.file))
		if code != tc.code || !strings.Contains(stdout, tc.says) || !strings.Contains(stderr, "1039") {
			t.Errorf("%s with %s: exit status %d, %s\n%s; want %d, %q", tc.file, tc.newest, code, stderr, stdout, tc.code, tc.says)
		}
	}
}
