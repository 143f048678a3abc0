package trustcenter

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ktradv/internal/req"
	"ktradv/server/internal/finding"
)

// under is an authority that another one vouches for.
func under(t *testing.T, by *authority, name string, bits int, alg x509.SignatureAlgorithm, from, to time.Time) *authority {
	t.Helper()
	key := authorityKey(t)
	if key.N.BitLen() != bits {
		var err error
		if key, err = rsa.GenerateKey(rand.Reader, bits); err != nil {
			t.Fatal(err)
		}
	}
	return &authority{issueWith(t, alg, by, authorityName(t, name), &key.PublicKey, key, from, to, true), key}
}

// nameWithoutIK is the subject of a participant whose IK got lost.
func nameWithoutIK(t *testing.T) []byte {
	t.Helper()
	subject, err := asn1.Marshal(pkix.Name{Country: []string{"DE"}, Organization: []string{DKTIG}, CommonName: "Erika Muster"}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	return subject
}

// Changes of a certificate.
func noneBelow(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }

func strangeExtension(c *x509.Certificate) {
	c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
}

// sha1Signed makes a certificate that is signed with SHA-1, which crypto/x509 makes no more: the one of a good method is
// changed and signed anew.
func sha1Signed(t *testing.T, by *authority, subject []byte, pub *rsa.PublicKey, from, to time.Time, ca bool) *x509.Certificate {
	t.Helper()
	c := issueWith(t, x509.SHA256WithRSA, by, subject, pub, nil, from, to, ca)
	sha256RSA, sha1RSA := []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11}, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5}
	tbs := bytes.Replace(c.RawTBSCertificate, sha256RSA, sha1RSA, 1)
	der := bytes.Replace(bytes.Replace(c.Raw, c.RawTBSCertificate, tbs, 1), sha256RSA, sha1RSA, 1)
	der = bytes.Replace(der, c.Signature, sha1Sign(t, by.key, tbs), 1)
	out, err := x509.ParseCertificate(der)
	if err != nil || out.SignatureAlgorithm != x509.SHA1WithRSA || !signed(by.cert, out) {
		t.Fatalf("not signed with SHA-1: %v", err)
	}
	return out
}

func sha1Sign(t *testing.T, key *rsa.PrivateKey, tbs []byte) []byte {
	t.Helper()
	sum := sha1.Sum(tbs)
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA1, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// TestImportChain: each link of the chain is judged, not the participant's certificate alone (DKTIG-23).
func TestImportChain(t *testing.T) {
	t.Parallel()
	req.Covers(t, "DKTIG-23")
	s, mine := sheet(), &keys()[0].PublicKey
	subject, err := s.subject()
	if err != nil {
		t.Fatal(err)
	}
	from, to, week := now.AddDate(0, -1, 0), now.AddDate(3, 0, 0), now.AddDate(0, 0, 7)
	root := newAuthority(t, "Root")
	const pss = x509.SHA256WithRSAPSS
	middle := under(t, root, DKTIG, 3072, pss, from, to)
	short := under(t, root, DKTIG, 2048, pss, from, to)
	over := under(t, root, DKTIG, 3072, pss, from.AddDate(-2, 0, 0), now.Add(-time.Hour))
	weak := &authority{sha1Signed(t, root, authorityName(t, DKTIG), &middle.key.PublicKey, from, to, true), middle.key}
	v15 := &authority{issueWith(t, x509.SHA256WithRSA, root, authorityName(t, DKTIG), &middle.key.PublicKey, nil, from, to, true), middle.key}
	oldRoot := under(t, nil, DKTIG, 3072, x509.SHA256WithRSA, from, to) // signs itself with PKCS #1 v1.5
	by := func(a *authority) *x509.Certificate { return issue(t, a, subject, mine, nil, from, to, false) }
	good := by(middle)
	last := issueWith(t, pss, nil, authorityName(t, "Root"), &root.key.PublicKey, root.key, from, to, true, noneBelow) // the same root, with no CA below
	odd := issueWith(t, pss, root, authorityName(t, DKTIG), &middle.key.PublicKey, nil, from, to, true, strangeExtension)
	person := &authority{issue(t, root, nameWithoutIK(t), &middle.key.PublicKey, nil, from, to, false), middle.key}
	plain := &authority{issue(t, root, authorityName(t, DKTIG), &middle.key.PublicKey, nil, from, to, false), middle.key} // a CA that does not say so
	print := func(c *x509.Certificate) []byte { sum := sha256.Sum256(c.Raw); return sum[:] }
	lists := []*x509.RevocationList{revocationList(t, middle, week), revocationList(t, root, week)}
	opts := func(root []byte, revoked ...*x509.RevocationList) ImportOptions {
		return ImportOptions{Sheet: s, Key: mine, Now: now, Root: root, Revoked: revoked}
	}
	file := func(c ...*x509.Certificate) []byte { return certsOnly(t, c...) }
	for name, c := range map[string]struct {
		answer []byte
		opts   ImportOptions
		want   string // the findings' codes; those of errors with an exclamation mark
	}{
		"good":                            {file(good, middle.cert, root.cert), opts(print(root.cert), lists...), ""},
		"good, in any order":              {file(root.cert, root.cert, middle.cert, good), opts(print(root.cert), lists...), ""},
		"CA without extensions":           {file(by(plain), plain.cert, root.cert), opts(print(root.cert), lists...), ""},
		"a person as CA":                  {file(by(person), person.cert, root.cert), opts(print(root.cert), lists...), "P7C-KETTE! P7C-SPERRLISTE! P7C-SPERRLISTE!"},
		"a CA too much":                   {file(good, middle.cert, last), opts(print(last), lists...), "P7C-KETTE!"},
		"CA with an unknown extension":    {file(good, odd, root.cert), opts(print(root.cert), lists...), "P7C-ERWEITERUNG!"},
		"unknown extension":               {file(issueWith(t, pss, middle, subject, mine, nil, from, to, false, strangeExtension), middle.cert, root.cert), opts(print(root.cert), lists...), "P7C-ERWEITERUNG!"},
		"root not named":                  {file(good, middle.cert, root.cert), opts(nil, lists...), "P7C-WURZEL"},
		"open, the CA named":              {file(good, middle.cert), opts(print(middle.cert), lists[0]), ""},
		"open":                            {file(good, middle.cert), opts(nil, lists[0]), "P7C-KETTE!"},
		"open, another named":             {file(good, middle.cert), opts(print(root.cert), lists[0]), "P7C-WURZEL!"},
		"signed with SHA-1":               {file(sha1Signed(t, middle, subject, mine, from, to, false), middle.cert, root.cert), opts(print(root.cert), lists...), "P7C-PSS!"},
		"PKCS #1 v1.5":                    {file(issueWith(t, x509.SHA256WithRSA, middle, subject, mine, nil, from, to, false), middle.cert, root.cert), opts(print(root.cert), lists...), "P7C-PSS!"},
		"CA signed with SHA-1":            {file(good, weak.cert, root.cert), opts(print(root.cert), lists...), "P7C-PSS!"},
		"CA signed with v1.5":             {file(good, v15.cert, root.cert), opts(print(root.cert), lists...), "P7C-PSS!"},
		"CA signed with SHA-1, named":     {file(good, weak.cert), opts(print(weak.cert), lists[0]), ""}, // the name vouches for it
		"root signed with v1.5":           {file(by(oldRoot), oldRoot.cert), opts(nil, revocationList(t, oldRoot, week)), "P7C-PSS! P7C-WURZEL"},
		"root signed with v1.5, named":    {file(by(oldRoot), oldRoot.cert), opts(print(oldRoot.cert), revocationList(t, oldRoot, week)), ""},
		"CA with a short key":             {file(by(short), short.cert, root.cert), opts(print(root.cert), revocationList(t, short, week), lists[1]), "P7C-CA-KEY!"},
		"CA with a short key, named":      {file(by(short), short.cert), opts(print(short.cert), revocationList(t, short, week)), "P7C-CA-KEY!"},
		"CA expired":                      {file(by(over), over.cert, root.cert), opts(print(root.cert), revocationList(t, over, week), lists[1]), "P7C-ZEIT!"},
		"CA revoked":                      {file(good, middle.cert, root.cert), opts(print(root.cert), lists[0], revocationList(t, root, week, middle.cert.SerialNumber)), "P7C-GESPERRT!"},
		"revoked":                         {file(good, middle.cert, root.cert), opts(print(root.cert), revocationList(t, middle, week, good.SerialNumber), lists[1]), "P7C-GESPERRT!"},
		"no list of the root":             {file(good, middle.cert, root.cert), opts(print(root.cert), lists[0]), "P7C-SPERRLISTE"},
		"no list of the CA":               {file(good, middle.cert, root.cert), opts(print(root.cert), lists[1]), "P7C-SPERRLISTE"},
		"the participant's own as root":   {file(good, middle.cert, root.cert), opts(print(good), lists...), "P7C-KETTE! P7C-SPERRLISTE! P7C-SPERRLISTE!"},
		"several things wrong":            {file(sha1Signed(t, short, subject, mine, from, to, false), short.cert), opts(nil), "P7C-CA-KEY! P7C-KETTE! P7C-PSS! P7C-SPERRLISTE"},
		"serial number of another's list": {file(good, middle.cert, root.cert), opts(print(root.cert), lists[0], revocationList(t, root, week, good.SerialNumber)), ""},
	} {
		a := Import(c.answer, c.opts)
		if got := codes(a.Findings); got != c.want {
			t.Errorf("%s: %q, want %q: %v", name, got, c.want, a.Findings)
		}
	}
}

// codes are the sorted codes of findings, those of errors with an exclamation mark; notes are left out.
func codes(found finding.List) string {
	var out []string
	for _, f := range found {
		switch f.Severity {
		case finding.Error:
			out = append(out, string(f.Code)+"!")
		case finding.Warning:
			out = append(out, string(f.Code))
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// office is a receiving office's certificate.
func office(t *testing.T, by *authority, ik string, from, to time.Time) *x509.Certificate {
	t.Helper()
	return issue(t, by, officeName(t, ik), &keys()[0].PublicKey, keys()[0], from, to, false)
}

func officeName(t *testing.T, ik string) []byte {
	t.Helper()
	s := sheet()
	s.IK = ik
	subject, err := s.subject()
	if err != nil {
		t.Fatal(err)
	}
	return subject
}

// TestDirectoryTrust: who vouches for an entry decides whether it is used, whatever its times say.
func TestDirectoryTrust(t *testing.T) {
	t.Parallel()
	req.Covers(t, "DKTIG-23", "DKTIG-32")
	root, rogue := newAuthority(t, DKTIG), newAuthority(t, DKTIG) // of the same name
	from, to, week := now.AddDate(-1, 0, 0), now.AddDate(2, 0, 0), now.AddDate(0, 0, 7)
	const ik = IK("109905003")
	sub := under(t, root, "Sub", 3072, x509.SHA256WithRSAPSS, from, to)
	short := under(t, root, "Short", 2048, x509.SHA256WithRSAPSS, from, to)
	over := under(t, root, "Over", 3072, x509.SHA256WithRSAPSS, from.AddDate(-3, 0, 0), now.Add(-time.Hour))
	past := under(t, nil, DKTIG, 3072, x509.SHA256WithRSAPSS, from.AddDate(-3, 0, 0), now.Add(-time.Hour))
	good, below := office(t, root, string(ik), from, to), office(t, sub, string(ik), from, to)
	evil := office(t, nil, string(ik), now.AddDate(0, 0, -1), to.AddDate(5, 0, 0)) // signs itself, is newer and ends later
	forged := office(t, rogue, string(ik), now.AddDate(0, 0, -1), to)
	noSub := issueWith(t, x509.SHA256WithRSAPSS, nil, authorityName(t, DKTIG), &root.key.PublicKey, root.key, from, to, true, noneBelow)
	oddCA := issueWith(t, x509.SHA256WithRSAPSS, root, authorityName(t, "Sub"), &sub.key.PublicKey, nil, from, to, true, strangeExtension)
	odd := issueWith(t, x509.SHA256WithRSAPSS, root, officeName(t, string(ik)), &keys()[0].PublicKey, nil, from, to, false, strangeExtension)
	person := &authority{issue(t, root, nameWithoutIK(t), &sub.key.PublicKey, nil, from, to, false), sub.key}
	plain := &authority{issue(t, root, authorityName(t, "Plain"), &sub.key.PublicKey, nil, from, to, false), sub.key} // a CA that does not say so
	belowPlain, belowPerson := office(t, plain, string(ik), from, to), office(t, person, string(ik), from, to)
	weak := sha1Signed(t, root, officeName(t, string(ik)), &keys()[0].PublicKey, from, to, false)
	print := func(c *x509.Certificate) []byte { sum := sha256.Sum256(c.Raw); return sum[:] }
	rootPrint := [][]byte{print(root.cert)}
	list := revocationList(t, root, week)
	subList := revocationList(t, sub, week)
	one := func(l ...*x509.RevocationList) []*x509.RevocationList { return l }
	type certs = []*x509.Certificate
	for name, c := range map[string]struct {
		certs certs
		opts  VerifyOptions
		want  string
		use   *x509.Certificate // the first that is found, nil where it may not be used
	}{
		"good":                            {certs{root.cert, good}, VerifyOptions{Roots: rootPrint, Revoked: one(list)}, "", good},
		"root not named":                  {certs{root.cert, good}, VerifyOptions{Revoked: one(list)}, "VZ-WURZEL", good},
		"no list":                         {certs{root.cert, good}, VerifyOptions{Roots: rootPrint}, "VZ-SPERRLISTE", good},
		"evil after good":                 {certs{root.cert, good, evil}, VerifyOptions{Roots: rootPrint, Revoked: one(list)}, "VZ-KETTE!", good},
		"evil before good":                {certs{evil, root.cert, good}, VerifyOptions{Roots: rootPrint, Revoked: one(list)}, "VZ-KETTE!", good},
		"evil, root not named":            {certs{root.cert, good, evil}, VerifyOptions{Revoked: one(list)}, "VZ-KETTE! VZ-WURZEL", good},
		"evil alone":                      {certs{root.cert, evil}, VerifyOptions{Roots: rootPrint, Revoked: one(list)}, "VZ-KETTE!", nil},
		"nothing but evil":                {certs{evil}, VerifyOptions{}, "VZ-KETTE! VZ-SPERRLISTE", nil},
		"a TrustCenter's twin":            {certs{root.cert, rogue.cert, good, forged}, VerifyOptions{Roots: rootPrint, Revoked: one(list)}, "VZ-KETTE! VZ-KETTE!", good},
		"the twin alone":                  {certs{rogue.cert, forged}, VerifyOptions{Roots: rootPrint}, "VZ-KETTE! VZ-SPERRLISTE VZ-WURZEL!", nil},
		"two vouch for selves":            {certs{root.cert, rogue.cert, good}, VerifyOptions{}, "VZ-SPERRLISTE VZ-WURZEL! VZ-WURZEL!", nil},
		"evil brings its own TrustCenter": {certs{root.cert, good, rogue.cert, forged}, VerifyOptions{Revoked: one(list)}, "VZ-SPERRLISTE! VZ-WURZEL! VZ-WURZEL!", nil},
		"both named":                      {certs{root.cert, good, rogue.cert}, VerifyOptions{Roots: [][]byte{print(root.cert), print(rogue.cert)}, Revoked: one(list)}, "", good},
		"an old TrustCenter's":            {certs{root.cert, good, past.cert, office(t, past, "101097008", from.AddDate(-3, 0, 0), now.Add(-time.Hour))}, VerifyOptions{Revoked: one(list)}, "VZ-KETTE VZ-KETTE VZ-WURZEL", good},
		"below a sub-CA":                  {certs{below, sub.cert, root.cert}, VerifyOptions{Roots: rootPrint, Revoked: one(list, subList)}, "", below},
		"a CA without extensions":         {certs{belowPlain, plain.cert, root.cert}, VerifyOptions{Roots: rootPrint, Revoked: one(list, revocationList(t, plain, week))}, "", belowPlain},
		"a person as CA":                  {certs{belowPerson, person.cert, root.cert}, VerifyOptions{Roots: rootPrint, Revoked: one(list)}, "VZ-KETTE! VZ-KETTE!", nil},
		"a person as CA, named":           {certs{belowPerson, person.cert}, VerifyOptions{Roots: [][]byte{print(person.cert)}, Revoked: one(revocationList(t, person, week))}, "", belowPerson},
		"sub-CA without list":             {certs{below, sub.cert, root.cert}, VerifyOptions{Roots: rootPrint, Revoked: one(list)}, "VZ-SPERRLISTE", below},
		"a CA too much":                   {certs{below, sub.cert, noSub}, VerifyOptions{Roots: [][]byte{print(noSub)}, Revoked: one(list)}, "VZ-KETTE! VZ-KETTE!", nil},
		"no CA too much":                  {certs{good, noSub}, VerifyOptions{Roots: [][]byte{print(noSub)}, Revoked: one(list)}, "", good},
		"unknown extension":               {certs{odd, root.cert}, VerifyOptions{Roots: rootPrint, Revoked: one(list)}, "VZ-KETTE!", nil},
		"unknown in a sub-CA":             {certs{below, oddCA, root.cert}, VerifyOptions{Roots: rootPrint, Revoked: one(list)}, "VZ-KETTE! VZ-KETTE!", nil},
		"sub-CA named":                    {certs{below, sub.cert}, VerifyOptions{Roots: [][]byte{print(sub.cert)}, Revoked: one(subList)}, "", below},
		"sub-CA open":                     {certs{below, sub.cert}, VerifyOptions{Revoked: one(subList)}, "VZ-KETTE! VZ-SPERRLISTE!", nil},
		"sub-CA revoked":                  {certs{below, sub.cert, root.cert}, VerifyOptions{Roots: rootPrint, Revoked: one(revocationList(t, root, week, sub.cert.SerialNumber), subList)}, "VZ-KETTE! VZ-KETTE!", nil},
		"short key of a sub-CA":           {certs{office(t, short, string(ik), from, to), short.cert, root.cert}, VerifyOptions{Roots: rootPrint, Revoked: one(list)}, "VZ-KETTE! VZ-KETTE!", nil},
		"sub-CA expired":                  {certs{office(t, over, string(ik), from, to), over.cert, root.cert}, VerifyOptions{Roots: rootPrint, Revoked: one(list)}, "VZ-KETTE VZ-KETTE!", nil},
		"signed with SHA-1":               {certs{root.cert, weak}, VerifyOptions{Roots: rootPrint, Revoked: one(list)}, "VZ-KETTE!", nil},
		"revoked":                         {certs{root.cert, good}, VerifyOptions{Roots: rootPrint, Revoked: one(revocationList(t, root, week, good.SerialNumber))}, "VZ-GESPERRT!", nil},
		"somebody else's list":            {certs{root.cert, good}, VerifyOptions{Roots: rootPrint, Revoked: one(revocationList(t, rogue, week))}, "VZ-SPERRLISTE VZ-SPERRLISTE!", good},
		"list out of date":                {certs{root.cert, good}, VerifyOptions{Roots: rootPrint, Revoked: one(revocationList(t, root, now.Add(-time.Hour)))}, "VZ-SPERRLISTE", good},
		"expired":                         {certs{root.cert, office(t, root, string(ik), from, now.Add(-time.Hour))}, VerifyOptions{Roots: rootPrint, Revoked: one(list)}, "VZ-ZEIT", nil},
		"not yet":                         {certs{root.cert, office(t, root, string(ik), now.Add(time.Hour), to)}, VerifyOptions{Roots: rootPrint, Revoked: one(list)}, "", nil},
		"twice":                           {certs{root.cert, good, good}, VerifyOptions{Roots: rootPrint, Revoked: one(list)}, "VZ-DOPPELT", good},
		"only another's":                  {certs{root.cert, good, office(t, nil, "101097008", from, to)}, VerifyOptions{Roots: rootPrint, Revoked: one(list), Only: ik}, "", good},
		"fetched long ago":                {certs{root.cert, good}, VerifyOptions{Roots: rootPrint, Revoked: one(list), Fetched: now.AddDate(0, 0, -91)}, "VZ-ALTER", good},
		"fetched lately":                  {certs{root.cert, good}, VerifyOptions{Roots: rootPrint, Revoked: one(list), Fetched: now.AddDate(0, 0, -90)}, "", good},
	} {
		var text []string
		for _, k := range c.certs {
			text = append(text, block(k))
		}
		d := ParseDirectory([]byte(strings.Join(text, "\n\n")), "x")
		if err := d.Find(ik, now)[0].Usable(now); !errors.Is(err, ErrNotUsable) {
			t.Errorf("%s: may be used before anybody verified it: %v", name, err)
		}
		c.opts.Now = now
		found := d.Verify(c.opts)
		if got := codes(found); got != c.want {
			t.Errorf("%s: %q, want %q: %v", name, got, c.want, found)
		}
		first := d.Find(ik, now)[0]
		switch err := first.Usable(now); {
		case c.use == nil && !errors.Is(err, ErrNotUsable):
			t.Errorf("%s: it may be used: %v", name, err)
		case c.use != nil && (err != nil || !first.Certificate.Equal(c.use)):
			t.Errorf("%s: not the right one comes first, or it may not be used: %v", name, err)
		}
	}
}

// TestDirectoryDuplicates: what stands more than once and how old it is are told.
func TestDirectoryDuplicates(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, DKTIG)
	older, newer := office(t, ca, "109905003", now.AddDate(-2, 0, 0), now.AddDate(1, 0, 0)), office(t, ca, "109905003", now.AddDate(-1, 0, 0), now.AddDate(2, 0, 0))
	d := ParseDirectory([]byte(strings.Join([]string{block(ca.cert), block(older), block(newer)}, "\n\n")), "x")
	var said []string
	for _, f := range d.Verify(VerifyOptions{Now: now, Fetched: now.AddDate(0, 0, -3)}) {
		said = append(said, f.String())
	}
	for _, want := range []string{"109905003 (block 2; block 3)", "the newest certificate in it is of 2025-11-22, the file is of 2026-11-19"} {
		if !strings.Contains(strings.Join(said, "\n"), want) {
			t.Errorf("%q is missing in %q", want, said)
		}
	}
}

// TestReminders: an end that comes and an old list are reminded of, whoever vouches for the entries.
func TestReminders(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, DKTIG)
	from := now.AddDate(-1, 0, 0)
	renewed, over := office(t, ca, "109905003", from, now.AddDate(0, 0, 70)), office(t, ca, "109905003", from, now.AddDate(0, 0, -1))
	d := ParseDirectory([]byte(strings.Join([]string{block(renewed), block(over)}, "\n\n")), "x")
	for days, want := range map[int]string{0: "", 9: "", 11: "VZ-ENDE", 69: "VZ-ENDE", 89: "", 91: "VZ-ALTER"} { // what has ended is no end to come
		if got := codes(d.Reminders(now, now.AddDate(0, 0, days))); got != want {
			t.Errorf("after %d days: %q, want %q", days, got, want)
		}
	}
}

// TestDirectoryDamage: a damaged block is named by its number, and nothing else is lost.
func TestDirectoryDamage(t *testing.T) {
	t.Parallel()
	req.Covers(t, "DKTIG-32")
	ca := newAuthority(t, DKTIG)
	from, to := now.AddDate(-1, 0, 0), now.AddDate(2, 0, 0)
	one, two := office(t, ca, "109905003", from, to), office(t, ca, "101097008", from, to)
	asPEM := func(c *x509.Certificate) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	a, b, c := block(ca.cert), block(one), block(two)
	pa, pb, pc := asPEM(ca.cert), asPEM(one), asPEM(two)
	message := certsOnly(t, ca.cert, one, two)
	broken := certsOnly(t, ca.cert, &x509.Certificate{Raw: []byte{0x30, 3, 2, 1, 1}}, one, two)
	many := []*x509.Certificate{ca.cert}
	for range 40 {
		many = append(many, one)
	}
	for name, c := range map[string]struct {
		file    string
		entries int
		damaged string // the places
	}{
		"good":                             {a + "\n\n" + b + "\n\n" + c, 3, ""},
		"PEM":                              {pa + pb + pc, 3, ""},
		"PEM, CRLF":                        {strings.ReplaceAll(pa+pb+pc, "\n", "\r\n"), 3, ""},
		"PEM with remarks":                 {"subject=/C=DE\n" + pa + "\nKey Attributes: <none>\nissuer=x\n" + pb + "# the end\n" + pc + "\n--\n", 3, ""},
		"PEM indented":                     {strings.ReplaceAll(pa+pb+pc, "\n", "\n  "), 3, ""},
		"PEM, a block damaged":             {pa + strings.Replace(pb, "MII", "M!I", 1) + pc, 2, "block 2"},
		"PEM, a character lost":            {pa + strings.Replace(pb, "MII", "MI", 1) + pc, 2, "block 2"},
		"PEM, an end missing":              {pa + strings.Replace(pb, "-----END CERTIFICATE-----\n", "", 1) + pc, 2, "block 2"},
		"PEM, the last end missing":        {pa + pb + strings.Replace(pc, "-----END CERTIFICATE-----\n", "", 1), 2, "block 3"},
		"PEM, an end and a blank line":     {pa + strings.Replace(pb, "-----END CERTIFICATE-----\n", "\n", 1) + c1(two), 2, "block 2"},
		"PEM, a beginning damaged":         {pa + strings.Replace(pb, "-----BEGIN", "---BEGIN", 1) + pc, 2, "block 2"},
		"PEM, another end":                 {pa + strings.Replace(pb, "END CERTIFICATE", "END X", 1) + pc, 2, "block 2"},
		"PEM, empty":                       {pa + "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n" + pc, 2, "block 2"},
		"PEM and base64":                   {pa + "\n" + b + "\n\n" + pc, 3, ""},
		"a blank in the separating line":   {a + "\n \n" + b + "\n\t\n" + c, 3, ""},
		"blanks at the ends of lines":      {strings.ReplaceAll(a+"\n\n"+b+"\n\n"+c, "\n", " \r\n"), 3, ""},
		"byte order mark":                  {"\xef\xbb\xbf" + a + "\n\n" + b + "\n\n" + c, 3, ""},
		"byte order mark, PEM":             {"\xef\xbb\xbf" + pa + pb + pc, 3, ""},
		"no blank line":                    {a + "\n" + b + "\n" + c, 3, ""},
		"no blank line, without filling":   {inLines(slices.Concat(ca.cert.Raw, one.Raw, two.Raw)), 3, ""},
		"one damaged":                      {a + "\n\n" + strings.Replace(b, "MII", "M!I", 1) + "\n\n" + c, 2, "block 2"},
		"one cut":                          {a + "\n\n" + b[:len(b)-100] + "\n\n" + c, 2, "block 2"},
		"a message":                        {string(message), 3, ""},
		"a message, PEM":                   {string(pem.EncodeToMemory(&pem.Block{Type: "PKCS7", Bytes: message})), 3, ""},
		"a message, base64":                {inLines(message), 3, ""},
		"a message, base64 on one line":    {base64.StdEncoding.EncodeToString(message), 3, ""},
		"a message, more than 32":          {string(certsOnly(t, many...)), 41, ""},
		"a message, a certificate damaged": {string(broken), 3, "block 1, certificate 2"},
		"a message among base64":           {a + "\n\n" + inLines(certsOnly(t, one)) + "\n\n" + c, 3, ""},
		"a message, cut, among base64":     {a + "\n\n" + inLines(message[:len(message)-3]) + "\n\n" + c, 2, "block 2"},
		"one certificate, DER":             {string(ca.cert.Raw), 1, ""},
		"a private key":                    {pa + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" + pc, 2, "block 2"},
		"several damaged":                  {"AAAA\n\n" + a + "\n\n!\n\n" + b + "\n\nMIIA\n\n" + c, 3, "block 1|block 3|block 5"},
		"ends with Ctrl-Z":                 {a + "\n\n" + b + "\n\n" + c + "\n\x1a", 3, ""},
	} {
		d := ParseDirectory([]byte(c.file), "x")
		var places []string
		for _, f := range d.Findings {
			places = append(places, f.Field)
			if f.Code != "VZ-BLOCK" {
				t.Errorf("%s: %v", name, f)
			}
		}
		if got := strings.Join(places, "|"); len(d.Entries) != c.entries || got != c.damaged {
			t.Errorf("%s: %d entries, want %d; damaged %q, want %q: %v", name, len(d.Entries), c.entries, got, c.damaged, d.Findings)
		}
	}
}

// c1 is a bare block that ends with a line end.
func c1(c *x509.Certificate) string { return block(c) + "\n" }

// TestContract: the last day of the contract is one of it, in Germany.
func TestContract(t *testing.T) {
	t.Parallel()
	s := sheet()
	s.IK, s.ContractUntil = "590326822", "2026-12-31"
	for at, want := range map[string]string{
		"2026-08-01T12:00:00Z":      "",
		"2026-12-30T12:00:00Z":      "TC-VERTRAG",
		"2026-12-31T00:00:00Z":      "TC-VERTRAG",
		"2026-12-31T22:59:59Z":      "TC-VERTRAG",
		"2026-12-31T23:59:59+01:00": "TC-VERTRAG",
		"2026-12-31T23:00:00Z":      "TC-VERTRAG-ENDE!",
		"2027-01-01T00:00:00+01:00": "TC-VERTRAG-ENDE!",
		"2027-01-01T00:00:00Z":      "TC-VERTRAG-ENDE!",
	} {
		clock, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		if got := codes(s.Check(clock)); got != want {
			t.Errorf("%s: %q, want %q", at, got, want)
		}
	}
	s.ContractUntil = "2026-07-31" // in summer time
	for at, want := range map[time.Time]string{time.Date(2026, 7, 31, 21, 59, 59, 0, time.UTC): "TC-VERTRAG", time.Date(2026, 7, 31, 22, 0, 0, 0, time.UTC): "TC-VERTRAG-ENDE!"} {
		if got := codes(s.Check(at)); got != want {
			t.Errorf("%s: %q, want %q", at, got, want)
		}
	}
}

// TestPage: the page says what it is about, and is read again as it is printed (DKTIG-27).
func TestPage(t *testing.T) {
	t.Parallel()
	req.Covers(t, "DKTIG-17", "DKTIG-27")
	s := sheet()
	s.Folder = t.TempDir()
	files, err := s.Files()
	if err != nil {
		t.Fatal(err)
	}
	request := func(k int) []byte {
		b, err := CreateRequest(s, keys()[k])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	page := func(p10 []byte) []byte {
		var b bytes.Buffer
		if err := WritePDF(&b, PDF{s, p10, "26032682.p10", now}); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	mine, again, other := request(0), request(0), request(1)
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: mine})
	want, err := Fingerprint(mine)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{mine, asPEM} {
		if got, err := ReadPDF(page(b)); err != nil || got != want {
			t.Errorf("read from the page: %x, %v", got, err)
		}
	}
	good := page(mine)
	for name, b := range map[string][]byte{"nothing": nil, "text": []byte("%PDF-1.3\n>>\nstream\nhello\nendstream"), "cut": good[:len(good)/3], "long": make([]byte, maxPDF+1), "twice": append(bytes.Clone(good), good...)} {
		if _, err := ReadPDF(b); !errors.Is(err, ErrForeignPDF) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		request, page []byte
		want          string
		done          bool
	}{
		"the page of the request":    {mine, good, "", true},
		"a request in PEM":           {asPEM, good, "", true},
		"no page":                    {mine, nil, "", true}, // it was noted: the page may lie elsewhere
		"another key":                {mine, page(other), "TC-PDF!", false},
		"another request of the key": {mine, page(again), "TC-PDF!", false},
		"a scan":                     {mine, []byte("%PDF-1.3\n"), "TC-PDF", true},
	} {
		s.Done = map[int]string{stepApplication: "2026-11-20"}
		if err := os.WriteFile(files.Request, c.request, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(files.PDF); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if c.page != nil {
			if err := os.WriteFile(files.PDF, c.page, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		st, err := s.Status()
		if err != nil || codes(st.Findings) != c.want || st.Steps[stepApplication-1].Done != c.done {
			t.Errorf("%s: %v %v, step 8 done: %t", name, st.Findings, err, st.Steps[stepApplication-1].Done)
		}
	}
}

// TestPublication: a directory that was there before the request is not the last step of this application.
func TestPublication(t *testing.T) {
	t.Parallel()
	s := sheet()
	s.Folder = t.TempDir()
	files, err := s.Files()
	if err != nil {
		t.Fatal(err)
	}
	request, err := CreateRequest(s, keys()[0])
	if err != nil {
		t.Fatal(err)
	}
	subject, err := s.subject()
	if err != nil {
		t.Fatal(err)
	}
	ca := newAuthority(t, DKTIG)
	certificate := func(k int) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issue(t, ca, subject, &keys()[k].PublicKey, nil, now, now.AddDate(3, 0, 0), false).Raw})
	}
	write := func(name string, b []byte, at time.Time) {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name        string
		key         int
		directories map[string]time.Duration // after the request
		want        bool
	}{
		{"fetched after the request", 0, map[string]time.Duration{DirectoryGKV: time.Second}, true},
		{"fetched before it", 0, map[string]time.Duration{DirectoryGKV: -time.Second}, false},
		{"one of two", 0, map[string]time.Duration{DirectoryGKV: -time.Second, DirectoryPKV: time.Hour}, true},
		{"the certificate is of a former key", 1, map[string]time.Duration{DirectoryGKV: time.Second}, false},
		{"none", 0, nil, false},
	} {
		write(files.Request, request, now)
		write(files.Certificate, certificate(c.key), now.Add(time.Minute))
		for _, n := range files.Directories {
			if err := os.Remove(n); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		for n, d := range c.directories {
			write(filepath.Join(s.Folder, n), []byte("x"), now.Add(d))
		}
		st, err := s.Status()
		if err != nil || st.Steps[stepPublication-1].Done != c.want {
			t.Errorf("%s: %+v %v", c.name, st.Steps[stepPublication-1], err)
		}
	}
}

func FuzzReadPDF(f *testing.F) {
	f.Add([]byte(">>\nstream\nx\x9c\nendstream"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := ReadPDF(b); err != nil && !errors.Is(err, ErrForeignPDF) {
			t.Fatal(err)
		}
	})
}
