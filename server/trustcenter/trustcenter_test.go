package trustcenter

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ktradv/internal/req"
	"ktradv/internal/testdata"
	"ktradv/server/internal/finding"
)

// sheet is a data sheet without a fault.
func sheet() Sheet {
	return Sheet{IK: "260326822", Organisation: "Muster Software GmbH", GivenName: "Erika", Surname: "Mustermann", TrustCenter: DKTIG, Email: "erika.mustermann@software.example", ContractUntil: "open", Keys: "keys", Folder: "."}
}

var now = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

// keys are made once for all tests: they take seconds.
var keys = sync.OnceValue(func() (k [2]*rsa.PrivateKey) {
	for i := range k {
		var err error
		if k[i], err = rsa.GenerateKey(rand.Reader, keyBits); err != nil {
			panic(err)
		}
	}
	return k
})

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(testdata.Dir(t, "registration"), "trustcenter", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestIK(t *testing.T) {
	t.Parallel()
	req.Covers(t, "DKTIG-12")
	for _, s := range []string{"260326822", "100395611", "100696012", "101097008", "107299005", "109905003", "109979978", "181575519", "IK260326822", "IK 26 03 2682 2", " 260326822\n"} {
		if ik, err := ParseIK(s); err != nil || len(ik) != 9 {
			t.Errorf("%q: %v", s, err)
		}
	}
	for s, want := range map[string]string{"26032682": "8 digits", "260326823": "the others demand 2", "260236822": "typing error", "26032682a": `'a'`, "": "0 digits", "2603268222": "10 digits"} {
		if _, err := ParseIK(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", s, err, want)
		}
	}
}

func TestTransliterate(t *testing.T) {
	t.Parallel()
	req.Covers(t, "DKTIG-13", "DKTIG-14")
	for in, want := range map[string]string{
		"Meißen": "Meissen", "alpha,beta,gamma": "alpha beta gamma", "æns, zwø, dreí": "aens zwo drei", "Łógòpädie Sèmméłweiß": "Logopaedie Semmelweiss",
		"Wäänä Brösel": "Waeaenae Broesel", "a\u0308o\u0308": "aeoe", "Müller & Söhne": "Mueller und Soehne", "ÄÖÜẞ": "AeOeUeSS", "  a   b ": "a b", "日本": "",
		"A.B (C) D/E-F": "A.B (C) D/E-F",
	} {
		if got := Transliterate(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestSheet(t *testing.T) {
	t.Parallel()
	req.Covers(t, "DKTIG-04", "DKTIG-12", "DKTIG-13", "DKTIG-14", "DKTIG-15")
	good := sheet()
	good.IK = "590326822"
	if found := good.Check(now); len(found) != 0 {
		t.Fatalf("the good sheet: %v", found)
	}
	for name, c := range map[string]struct {
		change func(s *Sheet)
		code   finding.Code
	}{
		"check digit":         {func(s *Sheet) { s.IK = "260326823" }, "TC-IK"},
		"IK with prefix":      {func(s *Sheet) { s.IK = "IK260326822" }, "TC-IK-FORM"},
		"umlaut":              {func(s *Sheet) { s.Organisation = "Müller GmbH" }, "TC-ORG-ZEICHEN"},
		"decomposed umlaut":   {func(s *Sheet) { s.Surname = "Mu\u0308ller" }, "TC-PERSON-ZEICHEN"},
		"special character":   {func(s *Sheet) { s.Organisation = "A & B" }, "TC-ORG-ZEICHEN"},
		"other letters":       {func(s *Sheet) { s.Surname = "日本" }, "TC-PERSON-ZEICHEN"},
		"blanks":              {func(s *Sheet) { s.GivenName = "Erika " }, "TC-PERSON-ZEICHEN"},
		"no name":             {func(s *Sheet) { s.Surname = "" }, "TC-PERSON-LEER"},
		"65 characters":       {func(s *Sheet) { s.Organisation = strings.Repeat("a", 65) }, "TC-ORG-LANG"},
		"long person":         {func(s *Sheet) { s.Surname = strings.Repeat("a", 60) }, "TC-PERSON-LANG"},
		"another TrustCenter": {func(s *Sheet) { s.TrustCenter = "ITSG TrustCenter fuer sonstige Leistungserbringer" }, "TC-NAME"},
		"no TrustCenter":      {func(s *Sheet) { s.TrustCenter = "" }, "TC-NAME"},
		"shared mailbox":      {func(s *Sheet) { s.Email = "info@software.example" }, "TC-MAIL-SAMMEL"},
		"no address":          {func(s *Sheet) { s.Email = "erika" }, "TC-MAIL"},
		"no contract":         {func(s *Sheet) { s.ContractUntil = "" }, "TC-VERTRAG"},
		"contract over":       {func(s *Sheet) { s.ContractUntil = "2026-01-01" }, ContractEnded},
		"no day":              {func(s *Sheet) { s.ContractUntil = "1.1.2027" }, "TC-VERTRAG"},
		"a hospital's IK":     {func(s *Sheet) { s.IK = "260326822" }, "TC-IK-KLASSE"},
		"an insurer's IK":     {func(s *Sheet) { s.IK = "109905003" }, "TC-IK-KLASSE"},
		"contract ends":       {func(s *Sheet) { s.ContractUntil = "2026-12-31" }, "TC-VERTRAG"},
		"no such step":        {func(s *Sheet) { s.Done = map[int]string{12: "2026-01-01"} }, "TC-SCHRITT"},
	} {
		s := good
		c.change(&s)
		found := s.Check(now)
		if !found.Has(c.code) {
			t.Errorf("%s: no %s in %v", name, c.code, found)
		}
		for _, f := range found {
			if f.Fix == "" || strings.Contains(f.Fix, `write ""`) {
				t.Errorf("%s: %v says not what to do", name, f)
			}
		}
	}
	if _, err := parseSheet([]byte(`{"ik":"260326822","iks":1}`)); err == nil {
		t.Error("an unknown member is taken")
	}
}

// TestPublishedRequests judges the requests of the public data.
func TestPublishedRequests(t *testing.T) {
	t.Parallel()
	req.Covers(t, "DKTIG-25", "DKTIG-27")
	for _, c := range []struct{ file, hash, errors string }{
		{"peer-pss-4096.p10.pem", "cc01363ed2fa249d5a0b618c3324ae3739aada3d4c3e15fd848dc26ea6cd5e6f", "P10-IK"},
		{"own-dktig-five-rdn.p10", "f9c8c32a818ce9f6d8ede4b799cea08b73ad6cae6d3d285361571f443499031b", ""},
	} {
		b := read(t, c.file)
		var got []string
		for _, f := range CheckRequest(b, nil) {
			if f.Severity == finding.Error && !slices.Contains(got, string(f.Code)) {
				got = append(got, string(f.Code))
			}
		}
		if strings.Join(got, " ") != c.errors {
			t.Errorf("%s: %v, want %s", c.file, got, c.errors)
		}
		h, err := Fingerprint(b)
		if err != nil || hex.EncodeToString(h.Key[:]) != c.hash {
			t.Errorf("%s: %x %v", c.file, h.Key, err)
		}
	}
	// O is not the TrustCenter's name.
	if found := CheckRequest(read(t, "peer-pss-4096.p10.pem"), nil); !found.Has("P10-NAME") {
		t.Error(found)
	}
}

// makeRequest makes a request with a fault.
func makeRequest(t *testing.T, key crypto.Signer, alg x509.SignatureAlgorithm, subject []byte) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: subject, SignatureAlgorithm: alg}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestRequest(t *testing.T) {
	t.Parallel()
	req.Covers(t, "DKTIG-15", "DKTIG-16", "DKTIG-25")
	s, key := sheet(), keys()[0]
	good, err := CreateRequest(s, key)
	if err != nil {
		t.Fatal(err)
	}
	if found := CheckRequest(good, &s); len(found) != 0 {
		t.Fatalf("the good request: %v", found)
	}
	subject, err := s.subject()
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	oneSet, err := asn1.Marshal(pkix.Name{Country: []string{"DE"}, Organization: []string{DKTIG}, OrganizationalUnit: []string{s.Organisation, "IK" + s.IK}, CommonName: "Erika Mustermann"}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	swap := func(old, new string) []byte {
		if len(old) != len(new) {
			t.Fatal("the lengths differ")
		}
		return bytes.Replace(subject, []byte(old), []byte(new), 1)
	}
	utf8 := bytes.Replace(subject, append([]byte{asn1.TagPrintableString, byte(len(s.Organisation))}, s.Organisation...), append([]byte{asn1.TagUTF8String, byte(len(s.Organisation))}, s.Organisation...), 1)
	damaged := bytes.Clone(good)
	damaged[len(damaged)-1] ^= 1
	other := s
	other.Surname = "Musterfrau"
	for name, c := range map[string]struct {
		request []byte
		sheet   *Sheet
		code    finding.Code
	}{
		"2048 bits":       {makeRequest(t, short, x509.SHA256WithRSAPSS, subject), &s, "P10-KEY"},
		"PKCS #1 v1.5":    {makeRequest(t, key, x509.SHA256WithRSA, subject), &s, "P10-PSS"},
		"SHA-512":         {makeRequest(t, key, x509.SHA512WithRSAPSS, subject), &s, "P10-PSS"},
		"OUs in one set":  {makeRequest(t, key, x509.SHA256WithRSAPSS, oneSet), &s, "P10-SUBJECT"},
		"UTF8String":      {makeRequest(t, key, x509.SHA256WithRSAPSS, utf8), &s, "P10-PRINTABLE"},
		"check digit":     {makeRequest(t, key, x509.SHA256WithRSAPSS, swap("IK260326822", "IK260326823")), nil, "P10-IK"},
		"TrustCenter":     {makeRequest(t, key, x509.SHA256WithRSAPSS, swap("DKTIG", "DKTIX")), nil, "P10-NAME"},
		"character":       {makeRequest(t, key, x509.SHA256WithRSAPSS, swap("Muster S", "Muster?S")), nil, "P10-ZEICHEN"},
		"country":         {makeRequest(t, key, x509.SHA256WithRSAPSS, swap("\x02DE", "\x02AT")), nil, "P10-SUBJECT"},
		"other person":    {good, &other, "P10-BLATT"},
		"version":         {bytes.Replace(good, []byte{2, 1, 0, 0x30}, []byte{2, 1, 1, 0x30}, 1), &s, "P10-VERSION"},
		"damaged":         {damaged, &s, "P10-SIG"},
		"cut":             {good[:len(good)/2], &s, "P10-FORM"},
		"private key":     {[]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), &s, "P10-FORM"},
		"text":            {[]byte("hello"), &s, "P10-FORM"},
		"too long":        {make([]byte, maxRequest+1), &s, "P10-FORM"},
		"something after": {append(bytes.Clone(good), 0), &s, "P10-FORM"},
	} {
		if found := CheckRequest(c.request, c.sheet); !found.Has(c.code) {
			t.Errorf("%s: no %s in %v", name, c.code, found)
		}
	}
	if _, err := CreateRequest(s, short); err == nil {
		t.Error("a request with a short key")
	}
	s.Organisation = "Müller"
	if _, err := CreateRequest(s, key); err == nil {
		t.Error("a request with an umlaut")
	}
	// PEM and bare base64 are the same request.
	for _, b := range [][]byte{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: good}), []byte(base64.StdEncoding.EncodeToString(good))} {
		if h, err := Fingerprint(b); err != nil || h.Request != sha256.Sum256(good) {
			t.Errorf("%.30q: %v", b, err)
		}
	}
}

func TestPDF(t *testing.T) {
	t.Parallel()
	req.Covers(t, "DKTIG-17")
	s := sheet()
	p10, err := CreateRequest(s, keys()[0])
	if err != nil {
		t.Fatal(err)
	}
	var a, b bytes.Buffer
	for _, w := range []*bytes.Buffer{&a, &b} {
		if err := WritePDF(w, PDF{s, p10, "26032682.p10", now}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("the same content gives two files")
	}
	if bytes.Count(a.Bytes(), []byte("/Type /Page\n")) != 1 {
		t.Error("not one page")
	}
}

func TestDrafts(t *testing.T) {
	t.Parallel()
	req.Covers(t, "DKTIG-16", "DKTIG-29", "DKTIG-32")
	s := sheet()
	certificate, err := CertificateDraft(s, now)
	if err != nil {
		t.Fatal(err)
	}
	gkv, err := DirectoryDraft(s, DirectoryGKV, now)
	if err != nil {
		t.Fatal(err)
	}
	pkv, err := DirectoryDraft(s, DirectoryPKV, now)
	if err != nil {
		t.Fatal(err)
	}
	for want, d := range map[string]Draft{"send 26032682.p7c": certificate, "send annahme-rsa4096.key": gkv, "send pkv-rsa4096.key": pkv} {
		var b bytes.Buffer
		if err := d.Write(&b); err != nil {
			t.Fatal(err)
		}
		m, err := mail.ReadMessage(&b)
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		if _, err := body.ReadFrom(m.Body); err != nil || strings.TrimSpace(body.String()) != want {
			t.Errorf("body %q, want %q", &body, want)
		}
		if m.Header.Get("Subject") != "" || m.Header.Get("To") != "<"+Address+">" || m.Header.Get("X-Unsent") != "1" {
			t.Errorf("%v", m.Header)
		}
	}
	if _, err := DirectoryDraft(s, "other.key", now); err == nil {
		t.Error("an unknown directory")
	}
}

// authority is a CA of the tests.
type authority struct {
	cert *x509.Certificate
	key  *rsa.PrivateKey
}

// issue makes a certificate.
func issue(t *testing.T, by *authority, subject []byte, pub *rsa.PublicKey, key *rsa.PrivateKey, from, to time.Time, ca bool) *x509.Certificate {
	t.Helper()
	return issueWith(t, x509.SHA256WithRSAPSS, by, subject, pub, key, from, to, ca)
}

func issueWith(t *testing.T, alg x509.SignatureAlgorithm, by *authority, subject []byte, pub *rsa.PublicKey, key *rsa.PrivateKey, from, to time.Time, ca bool, change ...func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), RawSubject: subject, NotBefore: from, NotAfter: to, SignatureAlgorithm: alg}
	if ca {
		template.IsCA, template.BasicConstraintsValid = true, true
	}
	for _, c := range change {
		c(template)
	}
	parent := template
	if by != nil {
		parent, key = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// certsOnly writes a .p7c: a message without content and signers.
func certsOnly(t *testing.T, certs ...*x509.Certificate) []byte {
	t.Helper()
	var raw []byte
	for _, c := range certs {
		raw = append(raw, c.Raw...)
	}
	type contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"optional"`
	}
	inner, err := asn1.Marshal(struct {
		Version int
		Digests asn1.RawValue
		Content contentInfo
		Certs   asn1.RawValue
		Signers asn1.RawValue
	}{1, asn1.RawValue{Tag: asn1.TagSet, IsCompound: true}, contentInfo{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}},
		asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: raw}, asn1.RawValue{Tag: asn1.TagSet, IsCompound: true}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := asn1.Marshal(contentInfo{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}, asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: inner}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// authorityKeys are made once for all tests, too; no two authorities of a test have the same.
var authorityKeys struct {
	sync.Mutex
	keys []*rsa.PrivateKey
	used map[string]int // by test
}

func authorityKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k := &authorityKeys
	k.Lock()
	defer k.Unlock()
	if k.used == nil {
		k.used = map[string]int{}
	}
	n := k.used[t.Name()]
	if k.used[t.Name()]++; n == 0 {
		t.Cleanup(func() {
			k.Lock()
			defer k.Unlock()
			delete(k.used, t.Name())
		})
	}
	if n == len(k.keys) {
		key, err := rsa.GenerateKey(rand.Reader, 3072)
		if err != nil {
			t.Fatal(err)
		}
		k.keys = append(k.keys, key)
	}
	return k.keys[n]
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key := authorityKey(t)
	return &authority{issue(t, nil, authorityName(t, name), &key.PublicKey, key, now.AddDate(-1, 0, 0), now.AddDate(9, 0, 0), true), key}
}

// authorityName is the subject of a CA.
func authorityName(t *testing.T, name string) []byte {
	t.Helper()
	subject, err := asn1.Marshal(pkix.Name{Country: []string{"DE"}, Organization: []string{name}}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	return subject
}

// revocationList is a list that an authority signs.
func revocationList(t *testing.T, by *authority, next time.Time, revoked ...*big.Int) *x509.RevocationList {
	t.Helper()
	var entries []x509.RevocationListEntry
	for _, n := range revoked {
		entries = append(entries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: now})
	}
	parent := *by.cert
	parent.KeyUsage, parent.SubjectKeyId = x509.KeyUsageCRLSign, []byte{1}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.AddDate(0, 0, -1), NextUpdate: next, RevokedCertificateEntries: entries}, &parent, by.key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestImport(t *testing.T) {
	t.Parallel()
	req.Covers(t, "DKTIG-23")
	s, mine, foreign := sheet(), &keys()[0].PublicKey, &keys()[1].PublicKey
	subject, err := s.subject()
	if err != nil {
		t.Fatal(err)
	}
	other := s
	other.IK = "109905003"
	otherSubject, err := other.subject()
	if err != nil {
		t.Fatal(err)
	}
	person := s
	person.Surname = "Musterfrau"
	personSubject, err := person.subject()
	if err != nil {
		t.Fatal(err)
	}
	ca, rogue := newAuthority(t, DKTIG), newAuthority(t, "Other")
	from, to := now.AddDate(0, -1, 0), now.AddDate(3, 0, 0)
	good := issue(t, ca, subject, mine, nil, from, to, false)
	old := issue(t, ca, subject, foreign, nil, from.AddDate(-1, 0, 0), to, false)
	o := ImportOptions{Sheet: s, Key: mine, Now: now}
	list := func(by *authority, next time.Time, revoked ...*big.Int) []*x509.RevocationList {
		return []*x509.RevocationList{revocationList(t, by, next, revoked...)}
	}
	week := now.AddDate(0, 0, 7)
	ok := o
	ok.Revoked = list(ca, week)
	root := sha256.Sum256(ca.cert.Raw)
	ok.Root = root[:]
	strange := ok
	strange.Root = make([]byte, 32)
	unnamed := ok
	unnamed.Root = nil
	for _, b := range [][]byte{certsOnly(t, good, ca.cert), certsOnly(t, ca.cert, old, good), pem.EncodeToMemory(&pem.Block{Type: "PKCS7", Bytes: certsOnly(t, good, ca.cert)}),
		[]byte(base64.StdEncoding.EncodeToString(certsOnly(t, good, ca.cert))), []byte("\xef\xbb\xbf" + inLines(certsOnly(t, good, ca.cert)) + "\r\n")} {
		if a := Import(b, ok); len(a.Findings) != 0 || !a.Certificate.Equal(good) || len(a.Chain) != 1 {
			t.Errorf("the good answer: %v", a.Findings)
		}
	}
	// Somebody without the TrustCenter's key makes a certificate of its name, and leaves out who issued that.
	middle := newAuthority(t, DKTIG)
	middle.cert = issue(t, rogue, ca.cert.RawSubject, &middle.key.PublicKey, nil, from, to, true)
	// One who was named is trusted also where the file goes on above it.
	cross := ok
	sum := sha256.Sum256(middle.cert.Raw)
	cross.Root, cross.Revoked = sum[:], list(middle, week)
	if a := Import(certsOnly(t, issue(t, middle, subject, mine, nil, from, to, false), middle.cert, rogue.cert), cross); a.Findings.Worst() == finding.Error || a.Findings.Has("P7C-WURZEL") {
		t.Errorf("a named certificate below another: %v", a.Findings)
	}
	notCA := issue(t, &authority{good, keys()[0]}, subject, foreign, nil, from, to, false)
	with := func(l []*x509.RevocationList) ImportOptions { o := o; o.Revoked = l; return o }
	// All others are errors: nothing is taken over.
	odd := []string{"ends soon", "root not named", "no list", "list out of date"}
	later := o
	later.Now = now.AddDate(4, 0, 0)
	for name, c := range map[string]struct {
		answer []byte
		opts   ImportOptions
		code   finding.Code
	}{
		"other IK":         {certsOnly(t, issue(t, ca, otherSubject, mine, nil, from, to, false), ca.cert), ok, "P7C-IK"},
		"other key":        {certsOnly(t, old, ca.cert), ok, "P7C-KEY"},
		"other person":     {certsOnly(t, issue(t, ca, personSubject, mine, nil, from, to, false), ca.cert), ok, "P7C-NAME"},
		"no certificate":   {certsOnly(t, ca.cert), ok, "P7C-LEER"},
		"expired":          {certsOnly(t, good, ca.cert), later, "P7C-ZEIT"},
		"not yet":          {certsOnly(t, issue(t, ca, subject, mine, nil, now.AddDate(0, 0, 1), to, false), ca.cert), ok, "P7C-ZEIT"},
		"ends soon":        {certsOnly(t, issue(t, ca, subject, mine, nil, from, now.AddDate(0, 0, 29), false), ca.cert), ok, "TC-ENDE"},
		"chain open":       {certsOnly(t, good), ok, "P7C-KETTE"},
		"other issuer":     {certsOnly(t, issue(t, rogue, subject, mine, nil, from, to, false), rogue.cert), ok, "P7C-AUSSTELLER"},
		"issued by no CA":  {certsOnly(t, notCA, good), ImportOptions{Sheet: s, Key: foreign, Now: now}, "P7C-KETTE"},
		"another root":     {certsOnly(t, good, ca.cert), strange, "P7C-WURZEL"},
		"root left out":    {certsOnly(t, issue(t, middle, subject, mine, nil, from, to, false), middle.cert), ok, "P7C-WURZEL"},
		"root not named":   {certsOnly(t, good, ca.cert), unnamed, "P7C-WURZEL"},
		"PKCS #1 v1.5":     {certsOnly(t, issueWith(t, x509.SHA256WithRSA, ca, subject, mine, nil, from, to, false), ca.cert), ok, "P7C-PSS"},
		"no list":          {certsOnly(t, good, ca.cert), o, "P7C-SPERRLISTE"},
		"foreign list":     {certsOnly(t, good, ca.cert), with(list(rogue, week)), "P7C-SPERRLISTE"},
		"list out of date": {certsOnly(t, good, ca.cert), with(list(ca, now.Add(-time.Hour))), "P7C-SPERRLISTE"},
		"revoked":          {certsOnly(t, good, ca.cert), with(list(ca, week, good.SerialNumber)), "P7C-GESPERRT"},
		"text":             {[]byte("hello"), ok, "P7C-FORM"},
		"cut":              {certsOnly(t, good, ca.cert)[:900], ok, "P7C-FORM"},
		"too long":         {make([]byte, maxAnswer+1), ok, "P7C-FORM"},
	} {
		a := Import(c.answer, c.opts)
		if !a.Findings.Has(c.code) {
			t.Errorf("%s: no %s in %v", name, c.code, a.Findings)
		}
		want := finding.Error
		if slices.Contains(odd, name) {
			want = finding.Warning
		}
		if got := a.Findings.Worst(); got != want {
			t.Errorf("%s: %s, not %s: %v", name, got, want, a.Findings)
		}
	}
	// The public answer of a peer has no IK.
	if a := Import(read(t, "peer-chain-pem.p7c"), ok); !a.Findings.Has("P7C-LEER") {
		t.Errorf("the peer's answer: %v", a.Findings)
	}
}

// block is a certificate as it stands in a directory.
func block(c *x509.Certificate) string { return inLines(c.Raw) }

func inLines(der []byte) string {
	text, lines := base64.StdEncoding.EncodeToString(der), []string{}
	for len(text) > 64 {
		lines, text = append(lines, text[:64]), text[64:]
	}
	return strings.Join(append(lines, text), "\n")
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	req.Covers(t, "DKTIG-32")
	ca := newAuthority(t, DKTIG)
	pub := &keys()[0].PublicKey
	cert := func(ik string, from, to time.Time) *x509.Certificate {
		s := sheet()
		s.IK = ik
		subject, err := s.subject()
		if err != nil {
			t.Fatal(err)
		}
		return issue(t, ca, subject, pub, nil, from, to, false)
	}
	year := func(n int) time.Time { return now.AddDate(n, 0, 0) }
	older, newer, next := cert("260326822", year(-2), year(1)), cert("260326822", year(-1), year(2)), cert("260326822", year(1), year(4))
	lone, over := cert("109905003", year(-1), now.AddDate(0, 0, 30)), cert("101097008", year(-4), year(-1))
	root := sha256.Sum256(ca.cert.Raw)
	all := []*x509.Certificate{ca.cert, older, next, newer, lone, over}
	var blocks []string
	for _, c := range all {
		blocks = append(blocks, block(c))
	}
	lf := strings.Join(blocks, "\n\n") + "\n\n\n"
	var pems []byte
	for _, c := range all {
		pems = append(pems, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	for name, b := range map[string][]byte{
		"LF": []byte(lf), "CRLF": []byte(strings.ReplaceAll(lf, "\n", "\r\n")), "CR": []byte(strings.ReplaceAll(lf, "\n", "\r")),
		"Ctrl-Z": []byte(lf + "\x1agarbage"), "PEM": pems, "PKCS #7": certsOnly(t, all...),
	} {
		d := ParseDirectory(b, name)
		if len(d.Entries) != len(all) || len(d.Findings) != 0 {
			t.Errorf("%s: %d entries, %v", name, len(d.Entries), d.Findings)
			continue
		}
		found := d.Find("260326822", now)
		if len(found) != 3 || !found[0].Certificate.Equal(newer) {
			t.Errorf("%s: not the newest valid one", name)
		}
		var got []string
		for _, f := range d.Verify(VerifyOptions{Now: now, Roots: [][]byte{root[:]}}) {
			got = append(got, string(f.Code))
		}
		slices.Sort(got)
		if strings.Join(got, " ") != "VZ-ALTER VZ-ENDE VZ-MEHRFACH VZ-SPERRLISTE VZ-ZEIT" {
			t.Errorf("%s: %v", name, got)
		}
		if found := d.Find("260326822", now); len(found) != 3 || !found[0].Certificate.Equal(newer) || found[0].Usable(now) != nil {
			t.Errorf("%s: not the newest valid one, or it is not verified", name)
		}
	}
	// A damaged block is named, the others stay.
	for name, garbage := range map[string]string{"base64": "!!!!", "no certificate": "AAAA"} {
		d := ParseDirectory([]byte(blocks[0]+"\n\n"+garbage+"\n\n"+blocks[1]), "x")
		if len(d.Entries) != 2 || len(d.Findings) != 1 || d.Findings[0].Code != "VZ-BLOCK" || d.Findings[0].Field != "block 2" {
			t.Errorf("%s: %d entries, %v", name, len(d.Entries), d.Findings)
		}
	}
	// Somebody wants our memory: not every one of many damaged blocks is named.
	if d := ParseDirectory([]byte(blocks[0]+"\n\n"+strings.Repeat("!\n\n", 100_000)), "x"); len(d.Entries) != 1 || len(d.Findings) != maxNamed {
		t.Errorf("%d entries, %d findings", len(d.Entries), len(d.Findings))
	}
	if d := ParseDirectory(make([]byte, maxDirectory+1), "x"); !d.Findings.Has("VZ-FORM") || len(d.Entries) != 0 {
		t.Error("a file without bounds is read")
	}
	if d := ParseDirectory(nil, "x"); !d.Findings.Has("VZ-LEER") {
		t.Error("an empty file has nothing to say")
	}
}

// TestWideNames: 64 wide letters stay on the page.
func TestWideNames(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("pdftotext"); err != nil {
		t.Skip("pdftotext is not installed")
	}
	s := sheet()
	s.Organisation = strings.Repeat("W", maxName)
	p10, err := CreateRequest(s, keys()[0])
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := WritePDF(&b, PDF{s, p10, "26032682.p10", now}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("pdftotext", "-bbox", "-", "-")
	cmd.Stdin = &b
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(out), "\n") {
		var x0, y0, x1, y1 float64
		if n, _ := fmt.Sscanf(strings.TrimSpace(line), `<word xMin="%f" yMin="%f" xMax="%f" yMax="%f">`, &x0, &y0, &x1, &y1); n == 4 && x1 > 190/25.4*72+1 {
			t.Errorf("beyond the margin: %s", line)
		}
	}
}

func FuzzSheet(f *testing.F) {
	f.Add([]byte(`{"ik":"260326822","organisation":"Müller","given_name":"Erika","surname":"Muster","email":"e@x.example","contract_until":"2027-01-01","done":{"1":"2026-01-01"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSheet(b)
		if err != nil {
			return
		}
		if s.Check(now).Worst() == finding.Error {
			return
		}
		// What is right can stand in a request, and is written and read again as the same.
		if _, err := s.subject(); err != nil {
			t.Fatal(err)
		}
		text, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Done) == 0 {
			s.Done = nil // an empty object is left out
		}
		if again, err := parseSheet(text); err != nil || !reflect.DeepEqual(s, again) {
			t.Fatalf("%+v %+v %v", s, again, err)
		}
	})
}

func FuzzDirectory(f *testing.F) {
	f.Add([]byte("AAAA\r\n\r\nAAAA\r\n\x1a"))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("\xef\xbb\xbfsubject=x\n-----BEGIN CERTIFICATE-----\nAAAA\n-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n \nMAAwAA==\nMAA=\n-----END"))
	if b, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "testdata", "registration", "trustcenter", "peer-chain-pem.p7c")); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := ParseDirectory(b, "x")
		if len(d.Entries) == 0 && d.Findings.Worst() != finding.Error {
			t.Fatal("nothing was read and nothing is wrong")
		}
		d.Verify(VerifyOptions{Now: now})
		for _, e := range d.Entries {
			if e.IK != "" && len(d.Find(e.IK, now)) == 0 {
				t.Fatalf("%s is not found", e.IK)
			}
		}
	})
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte{0x30, 0x03, 0x02, 0x01, 0x00})
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nMAMCAQA=\n-----END CERTIFICATE REQUEST-----\n"))
	for _, n := range []string{"own-dktig-five-rdn.p10", "peer-pss-4096.p10.pem"} {
		if b, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "testdata", "registration", "trustcenter", n)); err == nil {
			f.Add(b)
		}
	}
	s := sheet()
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := Fingerprint(b); err != nil && CheckRequest(b, &s).Worst() != finding.Error {
			t.Fatal("accepted without a fingerprint")
		}
		CheckRequest(b, nil)
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte{0x30, 0x80})
	if b, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "testdata", "registration", "trustcenter", "peer-chain-pem.p7c")); err == nil {
		f.Add(b)
	}
	o := ImportOptions{Sheet: sheet(), Key: &rsa.PublicKey{N: big.NewInt(3), E: 65537}, Now: now}
	f.Fuzz(func(t *testing.T, b []byte) {
		if Import(b, o).Findings.Worst() != finding.Error {
			t.Fatal("accepted for a key that nobody has")
		}
		ParseDirectory(b, "x").Verify(VerifyOptions{Now: now})
	})
}
