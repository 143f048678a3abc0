package trust_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ktradv/internal/ocsp"
	"ktradv/internal/req"
	"ktradv/internal/testpki"
	"ktradv/internal/x509ti"
	"ktradv/server/trust"
)

// crossing is a change from an RSA anchor to one on brainpoolP256r1.
type crossing struct {
	*updating
	oldCA, oldSigner testpki.X509Authority
	newCA, newSigner testpki.X509Authority

	anchor, cross []byte
	list          testpki.List
	signer        testpki.X509Authority // of the list
	faults        []testpki.ListFault
	raw           []byte // nil: list as signer signs it
}

// crossTemplate is the cross certificate that is good.
func crossTemplate() testpki.Template {
	return testpki.Template{
		Subject: []testpki.Attribute{{OID: []int{2, 5, 4, 6}, Value: "DE"}, {OID: []int{2, 5, 4, 10}, Value: "KTR-AdV Test NOT-VALID"},
			{OID: []int{2, 5, 4, 11}, Value: "TSL-Signer-CA der Telematikinfrastruktur"}, {OID: []int{2, 5, 4, 3}, Value: "ADV.TSL-CA2 TEST-ONLY"}},
		NotBefore: at.AddDate(0, -1, 0), NotAfter: at.AddDate(2, 0, 0), CA: true, KeyUsage: testpki.UsageCertSign | testpki.UsageCRLSign,
		Policies: [][]int{testpki.OIDPolicyTSLSigner},
	}
}

func (c *crossing) certify(issuer *testpki.X509Authority, subject testpki.X509Authority, change func(*testpki.Template)) []byte {
	c.t.Helper()
	tmpl := crossTemplate()
	if change != nil {
		change(&tmpl)
	}
	der, err := c.pki.CertifyX509(issuer, subject, tmpl)
	if err != nil {
		c.t.Fatal(err)
	}
	return der
}

func newCrossing(t *testing.T, ca [4]testpki.X509Authority) *crossing {
	t.Helper()
	c := &crossing{oldCA: ca[0], oldSigner: ca[1], newCA: ca[2], newSigner: ca[3]}
	c.updating = newUpdating(t, func(u *trust.UpdaterConfig) { u.Anchors = []*x509ti.Certificate{parse(t, c.oldCA.Certificate)} })
	first := c.first()
	first.Sequence, first.Primary, first.Backup = 17, "https://rsa.invalid/tsl.xml", ""
	if ok, err := c.updater.Accept(context.Background(), c.write(first, c.oldSigner)); err != nil || !ok {
		t.Fatalf("list below the RSA anchor: %v, %v", ok, err)
	}
	c.now = at.AddDate(0, 0, 5)
	c.open()
	c.anchor, c.cross, c.signer = c.newCA.Certificate, c.certify(&c.oldCA, c.newCA, nil), c.newSigner
	c.list = c.spec(10200)
	c.list.Primary, c.list.Backup = "https://ecc.invalid/tsl.xml", ""
	return c
}

func (c *crossing) run() error {
	c.t.Helper()
	raw := c.raw
	if raw == nil {
		raw = c.write(c.list, c.signer, c.faults...)
	}
	return c.updater.CrossOver(context.Background(), parse(c.t, c.anchor), parse(c.t, c.cross), raw)
}

func (c *crossing) index() []byte {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.dir, "index.json"))
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

// TestCrossOver: the change of the trust space by a cross certificate goes through when every step is in order, and leaves
// everything as it was, to the octet, when one is not.
func TestCrossOver(t *testing.T) {
	t.Parallel()
	req.Covers(t, "A_17821", "GS-A_4642")
	w := newWorld(t)
	var ca [4]testpki.X509Authority
	var err error
	if ca[0], ca[1], err = w.pki.NewRSATSLAuthority(1); err != nil {
		t.Fatal(err)
	}
	if ca[2], ca[3], err = w.pki.NewTSLAuthority(2); err != nil {
		t.Fatal(err)
	}
	otherCA, otherSigner, err := w.pki.NewTSLAuthority(2) // of the same name, with another key
	if err != nil {
		t.Fatal(err)
	}
	otherRSA, _, err := w.pki.NewRSATSLAuthority(1)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()

	t.Run("all steps in order", func(t *testing.T) {
		t.Parallel()
		for _, status := range []*answers{nil, good()} {
			c := newCrossing(t, ca)
			if status != nil {
				c.config.Status = status
				c.open()
			}
			c.events = nil
			if err := c.run(); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(c.texts(), "trust anchor: ADV.TSL-CA2") {
				t.Errorf("says %q", c.texts())
			}
			if status != nil { // by the responders of the old list, or one of the new anchor
				if q := status.asked[0]; len(status.asked) != 1 || q.ListedOnly || len(q.Responders) != 2 || !bytes.Equal(q.Issuer.Raw, c.newCA.Certificate) ||
					!bytes.Equal(q.Certificate.Raw, c.newSigner.Certificate) {
					t.Errorf("asked %+v", q)
				}
				c.config.Status = nil
			}
			for range 2 { // also after a new start with the configuration of the installation
				if ref, _, ok := c.updater.Space().Current(); !ok || ref.Sequence != 10200 {
					t.Errorf("list in force %d", ref.Sequence)
				}
				c.readable()
				if ref := c.updater.Space().Lists(); len(ref) != 2 || ref[0].Sequence != 17 {
					t.Errorf("lists %v", ref)
				}
				c.open()
			}
			if err := c.run(); !errors.Is(err, trust.ErrInForce) {
				t.Errorf("again: %v", err)
			}
			// Downloads come from the addresses of the new trust space, and only lists below its anchor count.
			c.now = c.now.Add(time.Hour)
			c.web.asked, c.web.files["https://ecc.invalid/tsl.xml"] = nil, c.write(c.spec(10201), c.oldSigner)
			if _, err := c.updater.Update(ctx); codeOf(err) != 1042 || c.web.count("https://rsa.invalid/tsl.xml") != 0 {
				t.Errorf("a list below the old anchor: %v, asked %v", err, c.web.asked)
			}
			c.web.files["https://ecc.invalid/tsl.xml"] = c.write(c.spec(10201), c.newSigner)
			if ok, err := c.updater.Update(ctx); err != nil || !ok {
				t.Errorf("a list below the new anchor: %v, %v", ok, err)
			}
		}
	})

	for _, tc := range []struct {
		name   string
		change func(*crossing)
		code   int
		is     error
	}{
		// the new anchor
		{name: "anchor is no CA", change: func(c *crossing) { c.anchor = c.newSigner.Certificate }, code: 1024},
		{name: "anchor may not sign certificates", change: func(c *crossing) {
			c.anchor = selfSigned(c, func(t *testpki.Template) { t.KeyUsage = testpki.UsageCRLSign })
		}, code: 1024},
		{name: "anchor not yet valid", change: func(c *crossing) {
			c.anchor = selfSigned(c, func(t *testpki.Template) { t.NotBefore = c.now.Add(time.Second) })
		}, code: 1021},
		{name: "anchor run out", change: func(c *crossing) {
			c.anchor = selfSigned(c, func(t *testpki.Template) { t.NotAfter = c.now.Add(-time.Second) })
		}, code: 1021},
		{name: "anchor not self-signed", change: func(c *crossing) { c.anchor = c.cross }, code: 1027},
		{name: "anchor's signature", change: func(c *crossing) { c.anchor = damaged(c.t, parse(c.t, c.anchor)).Raw }, code: 1024},
		{name: "anchor of production beside one of the test PKI", change: func(c *crossing) {
			c.anchor = selfSigned(c, func(t *testpki.Template) { t.Subject = []testpki.Attribute{{OID: []int{2, 5, 4, 3}, Value: "TSL-CA"}} })
		}, is: trust.ErrTestOnly},
		// the cross certificate
		{name: "cross certificate of another name", change: func(c *crossing) {
			c.cross = c.certify(&c.oldCA, c.newCA, func(t *testpki.Template) { t.Subject[3].Value = "ADV.TSL-CA3 TEST-ONLY" })
		}, code: 1027},
		{name: "cross certificate of another key", change: func(c *crossing) { c.cross = c.certify(&c.oldCA, otherCA, nil) }, code: 1023},
		{name: "cross certificate by the new anchor", change: func(c *crossing) { c.cross = c.certify(&c.newCA, c.newCA, nil) }, code: 1027},
		{name: "cross certificate by a namesake of the old anchor", change: func(c *crossing) { c.cross = c.certify(&otherRSA, c.newCA, nil) }, code: 1023},
		{name: "signature of the cross certificate", change: func(c *crossing) { c.cross = damaged(c.t, parse(c.t, c.cross)).Raw }, code: 1024},
		{name: "cross certificate of no CA", change: func(c *crossing) {
			c.cross = c.certify(&c.oldCA, c.newCA, func(t *testpki.Template) { t.CA = false })
		}, code: 1024},
		{name: "cross certificate may not sign certificates", change: func(c *crossing) {
			c.cross = c.certify(&c.oldCA, c.newCA, func(t *testpki.Template) { t.KeyUsage = testpki.UsageNonRepudiation })
		}, code: 1024},
		{name: "cross certificate not yet valid", change: func(c *crossing) {
			c.cross = c.certify(&c.oldCA, c.newCA, func(t *testpki.Template) { t.NotBefore = c.now.Add(time.Second) })
		}, code: 1021},
		{name: "cross certificate run out", change: func(c *crossing) {
			c.cross = c.certify(&c.oldCA, c.newCA, func(t *testpki.Template) { t.NotAfter = c.now.Add(-time.Second) })
		}, code: 1021},
		{name: "critical extension in the cross certificate", change: func(c *crossing) {
			c.cross = c.certify(&c.oldCA, c.newCA, func(t *testpki.Template) {
				t.Extra = []testpki.Extension{{OID: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
			})
		}, is: x509ti.ErrCritical},
		{name: "old anchor run out", change: func(c *crossing) { c.now = at.AddDate(8, 0, 1); c.crossAt(at.AddDate(9, 0, 0)) }, code: 1021},
		// the list
		{name: "list is no XML", change: func(c *crossing) { c.raw = []byte("hello") }, code: 1011},
		{name: "list is no list", change: func(c *crossing) { c.raw = []byte("<a/>") }, code: 1012},
		{name: "list is a VL", change: func(c *crossing) { c.list.VL = true }, code: 1012},
		{name: "list run out", change: func(c *crossing) { c.list.NextUpdate = c.now }, code: 1009},
		{name: "list older than the one in force", change: func(c *crossing) { c.list.Issued = at.Add(-time.Second) }, code: 1007},
		{name: "list below the old anchor", change: func(c *crossing) { c.signer = c.oldSigner }, code: 1042},
		{name: "list below a namesake of the new anchor", change: func(c *crossing) { c.signer = otherSigner }, code: 1042},
		{name: "list changed after signing", change: func(c *crossing) { c.faults = []testpki.ListFault{testpki.ListWrongDigest} }, code: 1013},
		{name: "signature of the list", change: func(c *crossing) { c.faults = []testpki.ListFault{testpki.ListWrongSignature} }, code: 1013},
		{name: "list without a signature", change: func(c *crossing) { c.faults = []testpki.ListFault{testpki.ListNoSignature} }, code: 1002},
		{name: "list's signer revoked", change: func(c *crossing) { c.config.Status = revoked(); c.open() }, code: 1047},
		{name: "status of the list's signer not known", change: func(c *crossing) { c.config.Status = &answers{err: ocsp.NotAvailable}; c.open() }, code: 1032},
		// the change itself
		{name: "archive that cannot be written", change: func(c *crossing) {
			name := c.updaterFile()
			if err := os.MkdirAll(filepath.Join(name, "in the way"), 0o700); err != nil {
				c.t.Fatal(err)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newCrossing(t, ca)
			tc.change(c)
			before := c.index()
			err := c.run()
			if err == nil || codeOf(err) != tc.code || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%v, want code %d, %v", err, tc.code, tc.is)
			}
			if !bytes.Equal(c.index(), before) {
				t.Error("the index of the archive has changed")
			}
			c.config.Status = nil
			for range 2 {
				if ref, _, ok := c.updater.Space().Current(); !ok || ref.Sequence != 17 || len(c.updater.Space().Lists()) != 1 {
					t.Errorf("list in force %d", ref.Sequence)
				}
				c.open()
			}
			if c.now.Before(at.AddDate(1, 0, 0)) { // the old trust space goes on
				next := c.spec(18)
				if ok, err := c.updater.Accept(ctx, c.write(next, c.newSigner)); ok || codeOf(err) != 1042 {
					t.Errorf("list below the new anchor: %v, %v", ok, err)
				}
				if ok, err := c.updater.Accept(ctx, c.write(next, c.oldSigner)); !ok || err != nil {
					t.Errorf("list below the old anchor: %v, %v", ok, err)
				}
			}
		})
	}

	t.Run("list in its grace period", func(t *testing.T) {
		t.Parallel()
		c := newCrossing(t, ca)
		c.config.Grace, c.events = 24*time.Hour, nil
		c.open()
		c.list.NextUpdate = c.now
		if err := c.run(); err != nil || c.codes()[0] != 1008 {
			t.Errorf("%v, reported %v", err, c.codes())
		}
	})
}

// selfSigned is the new anchor written in another way.
func selfSigned(c *crossing, change func(*testpki.Template)) []byte {
	c.t.Helper()
	tmpl := crossTemplate()
	change(&tmpl)
	named, err := c.pki.CertifyX509(&c.newCA, c.newCA, tmpl) // the issuer's name is the one that is changed
	if err != nil {
		c.t.Fatal(err)
	}
	as := c.newCA
	as.Certificate = named
	der, err := c.pki.CertifyX509(&as, c.newCA, tmpl)
	if err != nil {
		c.t.Fatal(err)
	}
	return der
}

// crossAt makes everything new valid until a time.
func (c *crossing) crossAt(until time.Time) {
	c.t.Helper()
	long := func(t *testpki.Template) { t.NotAfter = until }
	c.anchor, c.cross = selfSigned(c, long), c.certify(&c.oldCA, c.newCA, long)
}

// updaterFile is where the archive will put the new list.
func (c *crossing) updaterFile() string {
	c.t.Helper()
	c.raw = c.write(c.list, c.signer)
	return filepath.Join(c.dir, fmt.Sprintf("tsl-%020d-%x.xml.gz", c.list.Sequence, sha256.Sum256(c.raw)))
}
