package trust_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ktradv/internal/req"
	"ktradv/internal/testpki"
	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
	"ktradv/server/trust"
)

// texts are the events that have no code.
func (u *updating) texts() string {
	var out []string
	for _, e := range u.events {
		out = append(out, e.Text)
	}
	return strings.Join(out, "\n")
}

// reopen begins again with other anchors in the configuration, an hour later.
func (u *updating) reopen(anchors ...*x509ti.Certificate) {
	u.t.Helper()
	u.now, u.events, u.config.Anchors = u.now.Add(time.Hour), nil, anchors
	u.open()
}

// accepts says whether the next list below a signer is accepted; when it is not, the reason must be the anchor (1042).
func (u *updating) accepts(sequence uint64, signer testpki.X509Authority, want bool) {
	u.t.Helper()
	ok, err := u.updater.Accept(context.Background(), u.write(u.spec(sequence), signer))
	if ok != want || (err == nil) != want || err != nil && codeOf(err) != 1042 {
		u.t.Errorf("list %d: %v, %v; want %v", sequence, ok, err, want)
	}
}

// readable: every list of the archive still decides about its time.
func (u *updating) readable() {
	u.t.Helper()
	for _, ref := range u.updater.Space().Lists() {
		o := trust.Options{At: ref.Issued, Now: u.now, Profiles: []x509ti.Profile{x509ti.HCIOSIG}, Status: good()}
		if r := u.updater.Space().Check(context.Background(), u.institute, o); r.Verdict != trust.Valid || r.List.Sequence != ref.Sequence {
			u.t.Errorf("list %d: %v by %d: %+v", ref.Sequence, r.Verdict, r.List.Sequence, r.Steps)
		}
	}
}

// TestPinnedAnchors: the configuration is followed in both directions, and what lists have announced stays.
func TestPinnedAnchors(t *testing.T) {
	t.Parallel()
	req.Covers(t, "GS-A_4643")
	w := newWorld(t)
	ca2, signer2, err := w.pki.NewTSLAuthority(2)
	if err != nil {
		t.Fatal(err)
	}
	ca3, signer3, err := w.pki.NewTSLAuthority(3)
	if err != nil {
		t.Fatal(err)
	}
	second, third := parse(t, ca2.Certificate), parse(t, ca3.Certificate)

	t.Run("added and removed", func(t *testing.T) {
		t.Parallel()
		u := newUpdating(t, nil)
		u.accepts(10100, u.tslSigner, true)
		u.reopen(u.anchor)
		if len(u.events) != 0 {
			t.Errorf("nothing changed, and it says %q", u.texts())
		}
		u.accepts(10101, signer2, false)
		u.reopen(u.anchor, second)
		if !strings.Contains(u.texts(), "pinned by the configuration: ADV.TSL-CA2") || strings.Count(u.texts(), "anchor") != 1 {
			t.Errorf("says %q", u.texts())
		}
		u.accepts(10101, signer2, true)
		u.now = u.now.Add(time.Hour)
		u.accepts(10102, u.tslSigner, true)
		u.reopen(second)
		if !strings.Contains(u.texts(), "not in the configuration any more, it counts for older lists only: ADV.TSL-CA1") {
			t.Errorf("says %q", u.texts())
		}
		u.accepts(10103, u.tslSigner, false)
		u.readable()
		u.reopen() // a configuration without anchors asks for nothing else
		u.accepts(10103, u.tslSigner, false)
		u.accepts(10103, signer2, true)
		u.reopen(u.anchor, second)
		u.accepts(10104, u.tslSigner, true)
		u.readable()
	})
	t.Run("announced ones stay, replaced ones stay replaced", func(t *testing.T) {
		t.Parallel()
		u := newUpdating(t, nil)
		l := u.first()
		start := at.AddDate(0, 0, 1)
		l.Services = append(l.Services, testpki.ListService{ListState: state(tsl.TypeCertChange, tsl.StatusInAccord, start), Name: "next",
			Certificates: [][]byte{ca2.Certificate}, Extensions: []string{x509ti.OIDTSLCCACert.String()}})
		if ok, err := u.updater.Accept(context.Background(), u.write(l, u.tslSigner)); err != nil || !ok {
			t.Fatalf("%v, %v", ok, err)
		}
		u.now = start
		u.reopen(u.anchor) // the file of the installation
		u.accepts(10101, u.tslSigner, false)
		u.accepts(10101, signer2, true)
		u.reopen(third)
		if strings.Contains(u.texts(), "ADV.TSL-CA2") || strings.Contains(u.texts(), "any more") {
			t.Errorf("says %q", u.texts())
		}
		u.accepts(10102, signer2, true)
		u.now = u.now.Add(time.Hour)
		u.accepts(10103, signer3, true)
		u.accepts(10104, u.tslSigner, false)
		u.readable()
	})
	t.Run("announced and pinned before its start", func(t *testing.T) {
		t.Parallel()
		u := newUpdating(t, nil)
		l := u.first()
		l.Services = append(l.Services, testpki.ListService{ListState: state(tsl.TypeCertChange, tsl.StatusInAccord, at.AddDate(0, 0, 10)), Name: "next",
			Certificates: [][]byte{ca2.Certificate}, Extensions: []string{x509ti.OIDTSLCCACert.String()}})
		if ok, err := u.updater.Accept(context.Background(), u.write(l, u.tslSigner)); err != nil || !ok {
			t.Fatalf("%v, %v", ok, err)
		}
		u.reopen(u.anchor)
		u.accepts(10101, signer2, false)
		u.reopen(u.anchor, second)
		u.accepts(10101, signer2, true)
		u.now = u.now.Add(time.Hour)
		u.reopen(u.anchor) // pinned by mistake: what was announced stands
		u.accepts(10102, signer2, false)
		u.accepts(10102, u.tslSigner, true)
		u.now = at.AddDate(0, 0, 10)
		u.accepts(10103, u.tslSigner, false)
		u.accepts(10103, signer2, true)
		u.reopen(u.anchor)
		u.accepts(10104, signer2, true)
		u.readable()
	})
	t.Run("removed and pinned again while another one waits", func(t *testing.T) {
		t.Parallel()
		u := newUpdating(t, nil)
		l := u.first()
		l.Services = append(l.Services, testpki.ListService{ListState: state(tsl.TypeCertChange, tsl.StatusInAccord, at.AddDate(0, 0, 10)), Name: "next",
			Certificates: [][]byte{ca2.Certificate}, Extensions: []string{x509ti.OIDTSLCCACert.String()}})
		if ok, err := u.updater.Accept(context.Background(), u.write(l, u.tslSigner)); err != nil || !ok {
			t.Fatalf("%v, %v", ok, err)
		}
		u.reopen(third)
		u.accepts(10101, u.tslSigner, false)
		u.reopen(third, u.anchor)
		u.accepts(10101, u.tslSigner, true)
		u.now = at.AddDate(0, 0, 10)
		u.accepts(10102, u.tslSigner, false) // replaced now
		u.accepts(10102, signer2, true)
		u.readable()
	})
	t.Run("out of its time", func(t *testing.T) {
		t.Parallel()
		tmpl := crossTemplate()
		tmpl.Subject[3].Value, tmpl.NotBefore, tmpl.NotAfter = "ADV.TSL-CA3 TEST-ONLY", at.AddDate(0, 0, 20), at.AddDate(8, 0, 0)
		der, err := w.pki.CertifyX509(&ca3, ca3, tmpl)
		if err != nil {
			t.Fatal(err)
		}
		young := parse(t, der)
		u := newUpdating(t, nil)
		u.accepts(10100, u.tslSigner, true)
		var before []byte
		for i := range 3 { // every start finds it
			u.reopen(u.anchor, young)
			index, err := os.ReadFile(filepath.Join(u.dir, "index.json"))
			if err != nil {
				t.Fatal(err)
			}
			if len(u.events) != 0 || i > 0 && !bytes.Equal(index, before) {
				t.Errorf("start %d: says %q, index of %d octets, was %d", i, u.texts(), len(index), len(before))
			}
			before = index
		}
		l := u.spec(10101)
		l.Services = append(l.Services, testpki.ListService{ListState: state(tsl.TypeCertChange, tsl.StatusInAccord, young.NotBefore.AddDate(0, 0, 20)), Name: "next",
			Certificates: [][]byte{ca2.Certificate}, Extensions: []string{x509ti.OIDTSLCCACert.String()}})
		if ok, err := u.updater.Accept(context.Background(), u.write(l, u.tslSigner)); err != nil || !ok {
			t.Fatalf("%v, %v", ok, err)
		}
		u.now = young.NotBefore.AddDate(0, 0, 1)
		u.accepts(10102, signer3, false) // nothing but a start with it in the configuration makes it count
		u.reopen(u.anchor, young)
		if !strings.Contains(u.texts(), "pinned by the configuration") {
			t.Errorf("says %q", u.texts())
		}
		u.accepts(10102, signer3, true)
	})
}

// TestIndexOfFormerVersion: an archive of the version before origins were kept goes on.
func TestIndexOfFormerVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ca2, signer2, err := w.pki.NewTSLAuthority(2)
	if err != nil {
		t.Fatal(err)
	}
	oldCA, oldSigner, err := w.pki.NewTSLAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	u := newUpdating(t, nil)
	l := u.first()
	l.Services = append(l.Services, testpki.ListService{ListState: state(tsl.TypeCertChange, tsl.StatusInAccord, at.AddDate(0, 0, 1)), Name: "next",
		Certificates: [][]byte{ca2.Certificate}, Extensions: []string{x509ti.OIDTSLCCACert.String()}})
	if _, err := u.updater.Accept(context.Background(), u.write(l, u.tslSigner)); err != nil {
		t.Fatal(err)
	}
	before := u.tslSpec()
	before.Sequence, before.Issued, before.NextUpdate = 9000, at.AddDate(0, -6, 0), at.AddDate(0, -5, 0)
	if err := u.updater.Backfill(u.write(before, oldSigner), []*x509ti.Certificate{parse(t, oldCA.Certificate)}); err != nil {
		t.Fatal(err)
	}
	rewrite := func(change func(map[string]any)) {
		t.Helper()
		path := filepath.Join(u.dir, "index.json")
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		line, _, _ := bytes.Cut(raw, []byte("\n"))
		var index map[string]any
		if err := json.Unmarshal(line, &index); err != nil {
			t.Fatal(err)
		}
		change(index)
		if line, err = json.Marshal(index); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(line)
		if err := os.WriteFile(path, append(line, "\n"+hex.EncodeToString(sum[:])+"\n"...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rewrite(func(index map[string]any) {
		delete(index, "version")
		for _, a := range index["anchors"].([]any) {
			a := a.(map[string]any)
			if a["origin"] == "announced" {
				a["announced"] = true
			}
			delete(a, "origin")
		}
	})
	u.reopen(u.anchor)
	if len(u.events) != 0 {
		t.Errorf("says %q", u.texts())
	}
	u.readable()
	u.now = at.AddDate(0, 0, 1)
	u.accepts(10101, u.tslSigner, false)
	u.accepts(10101, oldSigner, false)
	u.accepts(10101, signer2, true)
	u.reopen(u.anchor) // in the form of today
	u.accepts(10102, u.tslSigner, false)
	u.readable()

	rewrite(func(index map[string]any) { index["version"] = 99 })
	if _, err := trust.OpenArchive(u.dir, 0); !errors.Is(err, trust.ErrArchive) || !strings.Contains(err.Error(), "99") {
		t.Errorf("an index of a version that is not known: %v", err)
	}
}

// TestGraceIsNotOfTheVL: the grace period is the TSL's (GS-A_5336); a BNetzA-VL counts to its end (TUC_PKI_036).
func TestGraceIsNotOfTheVL(t *testing.T) {
	t.Parallel()
	req.Covers(t, "GS-A_5336")
	w := newWorld(t)
	for _, tc := range []struct {
		name                  string
		tslEnd, vlEnd         int // hours after now
		receipt, prescription trust.Verdict
	}{
		{"both in force", 1, 1, trust.Valid, trust.Valid},
		{"TSL in its grace period", -1, 1, trust.Warnings, trust.Valid},
		{"VL run out", 1, -1, trust.Valid, trust.Indeterminate},
		{"VL run out this second", 1, 0, trust.Valid, trust.Indeterminate},
	} {
		list, vl := w.tslSpec(), w.vlSpec()
		list.NextUpdate, vl.NextUpdate = now.Add(time.Duration(tc.tslEnd)*time.Hour), now.Add(time.Duration(tc.vlEnd)*time.Hour)
		space := w.space(t, trust.Config{Grace: 48 * time.Hour}, list, vl)
		r := space.Check(context.Background(), w.institute, trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HCIOSIG}, Status: good()})
		q := space.Check(context.Background(), w.physician, trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HPQES}, Status: good()})
		if r.Verdict != tc.receipt || q.Verdict != tc.prescription || tc.prescription != trust.Valid && q.Step(trust.StepList).Code != 1060 {
			t.Errorf("%s: %v and %v, want %v and %v: %+v", tc.name, r.Verdict, q.Verdict, tc.receipt, tc.prescription, q.Steps)
		}
	}
}
