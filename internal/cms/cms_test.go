package cms

import (
	"bytes"
	"crypto"
	"errors"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ktradv/internal/ber"
	"ktradv/internal/brainpool"
	"ktradv/internal/longrun"
	"ktradv/internal/testpki"
	"ktradv/internal/x509ti"
)

var now = time.Date(2025, 6, 15, 9, 0, 0, 0, time.UTC)

// world is a PKI with signers of every kind of key, shared by the tests.
type world struct {
	pki     *testpki.PKI
	billing *testpki.Billing
	signers map[testpki.KeyKind]*testpki.Signer
	other   *testpki.Signer
	answer  []byte // OCSPResponse about the signer with a brainpool key
}

var shared = sync.OnceValues(func() (*world, error) {
	p, err := testpki.New(testpki.Config{Now: now})
	if err != nil {
		return nil, err
	}
	w := &world{pki: p, signers: map[testpki.KeyKind]*testpki.Signer{}}
	if w.billing, err = p.NewBilling(); err != nil {
		return nil, err
	}
	for _, kind := range []testpki.KeyKind{testpki.BrainpoolKey, testpki.RSAKey, testpki.P256Key} {
		if w.signers[kind], err = w.billing.Issue(testpki.Doctor, int(kind)+1, kind, nil); err != nil {
			return nil, err
		}
	}
	if w.other, err = w.billing.Issue(testpki.Service, 9, testpki.BrainpoolKey, nil); err != nil {
		return nil, err
	}
	w.answer, err = w.billing.Status(w.signers[testpki.BrainpoolKey], testpki.StatusAnswer{ProducedAt: now})
	return w, err
})

func newWorld(t testing.TB) *world {
	t.Helper()
	w, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) sign(t testing.TB, kind testpki.KeyKind, o testpki.CMSOptions) []byte {
	t.Helper()
	out, err := w.pki.SignCMS(content, &w.signers[kind].X509Identity, now, o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var content = []byte(strings.Repeat("<a b=\"c\"/>", 321))

// checkOne parses a message and checks its only signature.
func checkOne(t testing.TB, message []byte) (*SignedData, SignerResult) {
	t.Helper()
	sd, err := Parse(message)
	if err != nil {
		t.Fatal(err)
	}
	results := sd.VerifyAll(nil, nil)
	if len(results) != 1 {
		t.Fatalf("%d signatures", len(results))
	}
	return sd, results[0]
}

// TestOptions signs in every way that must be accepted and looks at every step.
func TestOptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	type findings map[Step]Finding
	missingReference := findings{StepCertReference: {Warning, ReferenceMissing}}
	for _, c := range []struct {
		name string
		kind testpki.KeyKind
		o    testpki.CMSOptions
		want findings // of the steps that are not simply valid, or not run for countersignatures
	}{
		{"service", testpki.BrainpoolKey, testpki.CMSOptions{}, nil},
		{"connector", testpki.BrainpoolKey, testpki.CMSOptions{BER: true, ContentHints: true}, nil},
		{"pieces of one octet", testpki.BrainpoolKey, testpki.CMSOptions{BER: true, Piece: 1}, nil},
		{"P-256", testpki.P256Key, testpki.CMSOptions{}, nil},
		{"PKCS #1", testpki.RSAKey, testpki.CMSOptions{HashNULL: true}, nil},
		{"rsaEncryption", testpki.RSAKey, testpki.CMSOptions{PlainRSA: true}, nil},
		{"PSS", testpki.RSAKey, testpki.CMSOptions{PSS: true, BER: true}, nil},
		{"PSS SHA-512", testpki.RSAKey, testpki.CMSOptions{PSS: true, Hash: crypto.SHA512}, nil},
		{"PSS salt 20", testpki.RSAKey, testpki.CMSOptions{PSS: true, Salt: 20}, findings{StepSignature: {Warning, SaltLength}}},
		{"SHA-384", testpki.BrainpoolKey, testpki.CMSOptions{Hash: crypto.SHA384}, nil},
		{"SHA-512", testpki.P256Key, testpki.CMSOptions{Hash: crypto.SHA512}, nil},
		{"subject key identifier", testpki.BrainpoolKey, testpki.CMSOptions{SubjectKeyID: true}, nil},
		{"subject key identifier, BER", testpki.RSAKey, testpki.CMSOptions{SubjectKeyID: true, BER: true}, nil},
		{"status answer", testpki.BrainpoolKey, testpki.CMSOptions{OCSP: [][]byte{w.answer}}, nil},
		{"other certificate first", testpki.BrainpoolKey, testpki.CMSOptions{Before: [][]byte{w.other.Certificate}}, nil},
		{"certificate twice", testpki.BrainpoolKey, testpki.CMSOptions{After: [][]byte{w.signers[testpki.BrainpoolKey].Certificate}}, nil},
		{"countersigned", testpki.BrainpoolKey, testpki.CMSOptions{Countersigner: &w.other.X509Identity, BER: true}, findings{StepCountersignature: {Verdict: Valid}}},
		{"no reference", testpki.BrainpoolKey, testpki.CMSOptions{NoReference: true}, missingReference},
		{"reference by SHA-1", testpki.BrainpoolKey, testpki.CMSOptions{SHA1Reference: true}, findings{StepCertReference: {Warning, ReferenceSHA1}}},
		{"no algorithm protection", testpki.BrainpoolKey, testpki.CMSOptions{NoProtection: true}, findings{StepAlgorithmProtection: {NotRun, ProtectionMissing}}},
		{"no signing time", testpki.BrainpoolKey, testpki.CMSOptions{NoSigningTime: true}, nil},
		{"signed in another order", testpki.BrainpoolKey, testpki.CMSOptions{Unsorted: true}, findings{StepSignature: {Warning, AttributesNotSorted}}},
		{"no attributes", testpki.BrainpoolKey, testpki.CMSOptions{NoAttributes: true}, findings{
			StepSignedAttributes: {Warning, NoSignedAttributes}, StepMessageDigest: {Valid, NoSignedAttributes},
			StepCertReference: {Warning, ReferenceMissing}, StepAlgorithmProtection: {NotRun, ProtectionMissing}}},
		{"other content type", testpki.BrainpoolKey, testpki.CMSOptions{ContentType: []int{1, 2, 3, 4}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			message := w.sign(t, c.kind, c.o)
			sd, r := checkOne(t, message)
			if !r.Result.OK() {
				t.Error("not accepted")
			}
			for step, got := range r.Result {
				want, special := c.want[Step(step)]
				if !special && Step(step) != StepCountersignature {
					want.Verdict = Valid
				}
				if got != want {
					t.Errorf("%s: %s %s, want %s %s", Step(step), got.Verdict, got.Reason, want.Verdict, want.Reason)
				}
			}
			if !bytes.Equal(sd.Content, content) || sd.DER == c.o.BER {
				t.Errorf("content %d octets, DER %v", len(sd.Content), sd.DER)
			}
			if c.o.NoSigningTime || c.o.NoAttributes {
				if !r.Signer.SigningTime.IsZero() {
					t.Error("signing time")
				}
			} else if !r.Signer.SigningTime.Equal(now) {
				t.Errorf("signing time %v", r.Signer.SigningTime)
			}
			var read bytes.Buffer
			streamed, err := ParseStream(bytes.NewReader(message), &read, StreamOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if again := streamed.VerifyAll(nil, nil); again[0].Result != r.Result || !bytes.Equal(read.Bytes(), content) || streamed.DER != sd.DER {
				t.Errorf("stream: %v, memory: %v", again[0].Result, r.Result)
			}
		})
	}
}

// TestFaults has one thing wrong in each message: the step that is about it says so.
func TestFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		name string
		kind testpki.KeyKind
		o    testpki.CMSOptions
		step Step
		want Finding
	}{
		{"content", testpki.BrainpoolKey, testpki.CMSOptions{Fault: testpki.CMSFaultContent}, StepMessageDigest, Finding{Invalid, MessageDigestMismatch}},
		{"content, BER", testpki.BrainpoolKey, testpki.CMSOptions{Fault: testpki.CMSFaultContent, BER: true}, StepMessageDigest, Finding{Invalid, MessageDigestMismatch}},
		{"content without attributes", testpki.BrainpoolKey, testpki.CMSOptions{Fault: testpki.CMSFaultContent, NoAttributes: true}, StepSignature, Finding{Invalid, SignatureMismatch}},
		{"digest", testpki.BrainpoolKey, testpki.CMSOptions{Fault: testpki.CMSFaultMessageDigest}, StepMessageDigest, Finding{Invalid, MessageDigestMismatch}},
		{"key", testpki.BrainpoolKey, testpki.CMSOptions{Fault: testpki.CMSFaultKey}, StepSignature, Finding{Invalid, SignatureMismatch}},
		{"P-256 key", testpki.P256Key, testpki.CMSOptions{Fault: testpki.CMSFaultKey}, StepSignature, Finding{Invalid, SignatureMismatch}},
		{"RSA key", testpki.RSAKey, testpki.CMSOptions{Fault: testpki.CMSFaultKey}, StepSignature, Finding{Invalid, SignatureMismatch}},
		{"PSS key", testpki.RSAKey, testpki.CMSOptions{Fault: testpki.CMSFaultKey, PSS: true}, StepSignature, Finding{Invalid, SignatureMismatch}},
		{"signature", testpki.BrainpoolKey, testpki.CMSOptions{Fault: testpki.CMSFaultSignature}, StepSignature, Finding{Invalid, SignatureMismatch}},
		{"RSA signature", testpki.RSAKey, testpki.CMSOptions{Fault: testpki.CMSFaultSignature}, StepSignature, Finding{Invalid, SignatureMismatch}},
		{"r and s", testpki.BrainpoolKey, testpki.CMSOptions{Fault: testpki.CMSFaultSignatureForm}, StepSignature, Finding{Invalid, SignatureEncoding}},
		{"content type", testpki.BrainpoolKey, testpki.CMSOptions{Fault: testpki.CMSFaultContentType}, StepSignedAttributes, Finding{Invalid, ContentTypeMismatch}},
		{"no content type", testpki.BrainpoolKey, testpki.CMSOptions{Fault: testpki.CMSFaultNoContentType}, StepSignedAttributes, Finding{Invalid, ContentTypeMissing}},
		{"no digest", testpki.BrainpoolKey, testpki.CMSOptions{Fault: testpki.CMSFaultNoMessageDigest}, StepMessageDigest, Finding{Invalid, MessageDigestMissing}},
		{"attribute twice", testpki.BrainpoolKey, testpki.CMSOptions{Fault: testpki.CMSFaultAttributeTwice}, StepSignedAttributes, Finding{Invalid, AttributeTwice}},
		{"reference", testpki.BrainpoolKey, testpki.CMSOptions{Fault: testpki.CMSFaultReference}, StepCertReference, Finding{Invalid, ReferenceMismatch}},
		{"old reference", testpki.BrainpoolKey, testpki.CMSOptions{Fault: testpki.CMSFaultReference, SHA1Reference: true}, StepCertReference, Finding{Invalid, ReferenceMismatch}},
		{"serial number in reference", testpki.BrainpoolKey, testpki.CMSOptions{Fault: testpki.CMSFaultReferenceIssuer}, StepCertReference, Finding{Invalid, ReferenceMismatch}},
		{"protection", testpki.BrainpoolKey, testpki.CMSOptions{Fault: testpki.CMSFaultProtection}, StepAlgorithmProtection, Finding{Invalid, ProtectionMismatch}},
		{"undeclared digest", testpki.BrainpoolKey, testpki.CMSOptions{Fault: testpki.CMSFaultUndeclaredDigest}, StepContainer, Finding{Invalid, DigestNotDeclared}},
		{"SHA-1", testpki.RSAKey, testpki.CMSOptions{Hash: crypto.SHA1}, StepContainer, Finding{Invalid, DigestNotAdmissible}},
		{"no attributes, but another content type", testpki.BrainpoolKey, testpki.CMSOptions{NoAttributes: true, ContentType: []int{1, 2, 3}}, StepSignedAttributes, Finding{Invalid, NoSignedAttributes}},
		{"detached", testpki.BrainpoolKey, testpki.CMSOptions{Detached: true}, StepContainer, Finding{Indeterminate, ContentMissing}},
		{"no certificate", testpki.BrainpoolKey, testpki.CMSOptions{NoCertificate: true}, StepSignature, Finding{Indeterminate, CertificateMissing}},
		{"another certificate only", testpki.BrainpoolKey, testpki.CMSOptions{NoCertificate: true, Before: [][]byte{w.other.Certificate}}, StepSignature, Finding{Indeterminate, CertificateMissing}},
		{"sid", testpki.BrainpoolKey, testpki.CMSOptions{Fault: testpki.CMSFaultSigner}, StepSignature, Finding{Indeterminate, CertificateMissing}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, r := checkOne(t, w.sign(t, c.kind, c.o))
			if r.Result[c.step] != c.want {
				t.Errorf("%s %s, want %s %s", r.Result[c.step].Verdict, r.Result[c.step].Reason, c.want.Verdict, c.want.Reason)
			}
			if r.Result.OK() || r.Result.Core() != c.want.Verdict {
				t.Errorf("core: %s", r.Result.Core())
			}
		})
	}
}

// TestCountersignatureFault: a wrong countersignature is reported and leaves the signature itself right.
func TestCountersignatureFault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, r := checkOne(t, w.sign(t, testpki.BrainpoolKey, testpki.CMSOptions{Countersigner: &w.other.X509Identity, Fault: testpki.CMSFaultCountersignature}))
	if !r.Result.OK() || r.Result[StepCountersignature] != (Finding{Invalid, CountersignatureInvalid}) {
		t.Errorf("%v", r.Result)
	}
	if len(r.Countersignature) != 1 || r.Countersignature[0].Result[StepSignature] != (Finding{Invalid, SignatureMismatch}) {
		t.Errorf("%v", r.Countersignature)
	}
}

// TestSeveralSigners checks two signatures in one message, each with its own certificate.
func TestSeveralSigners(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sd, err := Parse(w.sign(t, testpki.BrainpoolKey, testpki.CMSOptions{SecondSigner: &w.other.X509Identity, SecondSignerTime: now.Add(time.Hour)}))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range sd.VerifyAll(nil, nil) {
		if !r.Result.OK() {
			t.Errorf("%v", r.Result)
		}
		seen[string(r.RawCertificate)] = true
	}
	if len(seen) != 2 {
		t.Errorf("%d different certificates", len(seen))
	}
}

// TestSameName: of two certificates with the signer's name and serial number the one counts that the signature refers to.
func TestSameName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	impostor := bytes.Clone(w.signers[testpki.BrainpoolKey].Certificate)
	impostor[len(impostor)-1] ^= 1
	for name, o := range map[string]testpki.CMSOptions{"before": {Before: [][]byte{impostor}}, "after": {After: [][]byte{impostor}}} {
		if _, r := checkOne(t, w.sign(t, testpki.BrainpoolKey, o)); !r.Result.OK() {
			t.Errorf("%s: %v", name, r.Result)
		}
	}
	o := testpki.CMSOptions{NoCertificate: true, Before: [][]byte{impostor}}
	if _, r := checkOne(t, w.sign(t, testpki.BrainpoolKey, o)); r.Result[StepCertReference] != (Finding{Invalid, ReferenceMismatch}) {
		t.Errorf("impostor alone: %v", r.Result)
	}
}

// TestAttributesAsContent: the signed attributes of a message, presented as the content of one without attributes, carry
// the same signature.
func TestAttributesAsContent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sd, _ := checkOne(t, w.sign(t, testpki.BrainpoolKey, testpki.CMSOptions{NoProtection: true}))
	stolen, _, err := sd.Signers[0].signedOctets()
	if err != nil {
		t.Fatal(err)
	}
	forged := *sd
	forged.Content = stolen
	forged.digests = digests{}
	forged.Signers = []SignerInfo{sd.Signers[0]}
	forged.Signers[0].HasSignedAttributes, forged.Signers[0].SignedAttributes = false, nil
	r := forged.VerifyAll(nil, nil)[0]
	if r.Result[StepSignature].Verdict != Valid {
		t.Fatalf("the forgery should fit: %v", r.Result)
	}
	if r.Result[StepSignedAttributes] != (Finding{Invalid, AttributesAsContent}) || r.Result.OK() {
		t.Errorf("%v", r.Result)
	}
}

// TestAttributesAsContentStreamed: the forgery is found in a stream, too, also when the message was made long so that it is
// streamed; a content that is no SET passes, with the warning that there are no signed attributes.
func TestAttributesAsContentStreamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sd, _ := checkOne(t, w.sign(t, testpki.BrainpoolKey, testpki.CMSOptions{NoProtection: true}))
	stolen, _, err := sd.Signers[0].signedOctets()
	if err != nil {
		t.Fatal(err)
	}
	long := append([]byte{0x31, 0x83, 0x02, 0x00, 0x00}, make([]byte, 0x20000)...)
	for name, tt := range map[string]struct {
		content []byte
		want    Finding
	}{
		"attributes":     {stolen, Finding{Invalid, AttributesAsContent}},
		"a long SET":     {long, Finding{Indeterminate, AttributesAsContent}},
		"long text":      {long[5:], Finding{Warning, NoSignedAttributes}},
		"text":           {[]byte("1 is the octet of SET"), Finding{Warning, NoSignedAttributes}},
		"nothing":        {[]byte{}, Finding{Warning, NoSignedAttributes}},
		"end of the SET": {stolen[:len(stolen)-1], Finding{Warning, NoSignedAttributes}},
	} {
		message, err := w.pki.SignCMS(tt.content, &w.signers[testpki.BrainpoolKey].X509Identity, now, testpki.CMSOptions{NoAttributes: true, BER: true})
		if err != nil {
			t.Fatal(err)
		}
		streamed, err := ParseStream(bytes.NewReader(message), nil, StreamOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r := streamed.VerifyAll(nil, nil)[0]
		if r.Result[StepSignedAttributes] != tt.want || r.Result.OK() != (tt.want.Verdict == Warning) {
			t.Errorf("%s: %v", name, r.Result)
		}
	}
}

// TestRevocationValues reads the fallback place of status answers and brings them into the form of crls.
func TestRevocationValues(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	in := ber.NewDER(w.answer)
	outer, _ := in.Inside(ber.Sequence)
	outer.Next()
	wrapped, _ := outer.Inside(ber.Context(0))
	both, _ := wrapped.Inside(ber.Sequence)
	both.Next()
	basic, err := both.Read(ber.OctetString)
	if err != nil {
		t.Fatal(err)
	}
	sd, r := checkOne(t, w.sign(t, testpki.BrainpoolKey, testpki.CMSOptions{RevocationValues: [][]byte{basic.Content}}))
	got, err := r.Signer.RevocationValues()
	if err != nil || len(got) != 1 || !bytes.Equal(got[0], w.answer) || len(sd.OCSP) != 0 {
		t.Errorf("%d answers, %v", len(got), err)
	}
	sd, _ = checkOne(t, w.sign(t, testpki.BrainpoolKey, testpki.CMSOptions{OCSP: [][]byte{w.answer, w.answer}}))
	if len(sd.OCSP) != 2 || !bytes.Equal(sd.OCSP[0], w.answer) || sd.Version != 5 {
		t.Errorf("crls: %d answers, version %d", len(sd.OCSP), sd.Version)
	}
}

// TestTruncated: no beginning of a message is a message.
func TestTruncated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	messages := map[string][]byte{
		"connector": w.sign(t, testpki.BrainpoolKey, testpki.CMSOptions{BER: true, ContentHints: true}),
		"service":   w.sign(t, testpki.BrainpoolKey, testpki.CMSOptions{OCSP: [][]byte{w.answer}, Countersigner: &w.other.X509Identity}),
	}
	for name, message := range messages {
		for n := range len(message) {
			if _, err := Parse(message[:n]); err == nil {
				t.Errorf("%s: %d of %d octets are accepted", name, n, len(message))
			}
			if _, err := ParseStream(bytes.NewReader(message[:n]), nil, StreamOptions{}); err == nil {
				t.Errorf("%s: %d of %d octets are accepted as a stream", name, n, len(message))
			}
		}
		if _, err := Parse(append(bytes.Clone(message), 0)); err == nil {
			t.Errorf("%s: an octet more is accepted", name)
		}
		if _, err := ParseStream(bytes.NewReader(append(bytes.Clone(message), 0)), nil, StreamOptions{}); err == nil {
			t.Errorf("%s: an octet more is accepted as a stream", name)
		}
	}
}

func TestTruncatedPublic(t *testing.T) {
	t.Parallel()
	for _, row := range manifest(t) {
		for n := range len(row.data) {
			if _, err := Parse(row.data[:n]); err == nil {
				t.Errorf("%s: %d octets are accepted", row.file, n)
			}
		}
	}
}

// statement is everything that a report says about a message.
type statement struct {
	signed, unsigned string
}

func (w *statement) of(sd *SignedData, r *SignerResult) {
	var signed, unsigned strings.Builder
	signed.Write(sd.Content)
	signed.WriteString(string(sd.ContentType))
	if r.Result[StepCertReference].Verdict == Valid { // otherwise the report says that nothing signed protects it
		signed.Write(r.RawCertificate)
	}
	signed.WriteString(r.Signer.SigningTime.String())
	for _, a := range r.Signer.SignedAttributes {
		signed.WriteString(string(a.Type))
		signed.Write(a.Values)
	}
	signed.WriteString(string(r.Signer.DigestAlgorithm + r.Signer.SignatureAlgorithm))
	unsigned.WriteString(strconv.Itoa(sd.Version) + strconv.FormatBool(sd.DER) + strconv.Itoa(sd.OtherCertificates) + strconv.Itoa(sd.OtherRevocations) + strconv.Itoa(r.Signer.Version))
	for _, list := range [][][]byte{sd.Certificates, sd.OCSP, sd.CRLs, {r.Signer.Issuer, r.Signer.Serial, r.Signer.SubjectKeyID, r.Signer.Signature}} {
		for _, part := range list {
			unsigned.Write(part)
			unsigned.WriteByte('|')
		}
	}
	for _, oid := range sd.DigestAlgorithms {
		unsigned.WriteString(string(oid))
	}
	for _, a := range r.Signer.UnsignedAttributes {
		unsigned.WriteString(string(a.Type))
		unsigned.Write(a.Values)
	}
	for _, f := range r.Result {
		unsigned.WriteString(f.Verdict.String() + f.Reason.String())
	}
	w.signed, w.unsigned = signed.String(), unsigned.String()
}

// flip changes a bit of every octet of a message, one at a time, and those that more names. What is accepted all the same
// must say the same about everything that is signed, and must say something else about what is not: a change is either
// found or stands in the report.
func flip(t *testing.T, message []byte, more func(pos, bit int) bool) {
	sd, r := checkOne(t, message)
	var want statement
	want.of(sd, &r)
	accepted := 0
	cached := func(der []byte) (*x509ti.Certificate, error) {
		if bytes.Equal(der, r.RawCertificate) {
			return r.Certificate, nil
		}
		return x509ti.Parse(der)
	}
	for pos := range len(message) {
		for bit := range 8 {
			if bit != pos%8 && !more(pos, bit) {
				continue
			}
			changed := bytes.Clone(message)
			changed[pos] ^= 1 << bit
			sd, err := Parse(changed)
			if err != nil {
				continue
			}
			results := sd.VerifyAll(cached, nil)
			if len(results) != 1 || !results[0].Result.OK() {
				continue
			}
			accepted++
			var got statement
			got.of(sd, &results[0])
			if got.signed != want.signed {
				t.Errorf("octet %d bit %d: accepted with another signed part", pos, bit)
			}
			if got.unsigned == want.unsigned {
				t.Errorf("octet %d bit %d: accepted and nothing in the report is different", pos, bit)
			}
		}
	}
	t.Logf("%d changes are in parts that are not signed", accepted)
}

// TestFlips changes two bits of every octet outside the content (with LONG=1 each), and one of every octet of the content.
func TestFlips(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, message := range map[string][]byte{
		"connector":     w.sign(t, testpki.BrainpoolKey, testpki.CMSOptions{BER: true, ContentHints: true}),
		"service":       w.sign(t, testpki.BrainpoolKey, testpki.CMSOptions{OCSP: [][]byte{w.answer}}),
		"countersigned": w.sign(t, testpki.P256Key, testpki.CMSOptions{Countersigner: &w.other.X509Identity}),
		"PSS":           w.sign(t, testpki.RSAKey, testpki.CMSOptions{PSS: true}),
		"key id":        w.sign(t, testpki.P256Key, testpki.CMSOptions{SubjectKeyID: true, HashNULL: true}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := bytes.Index(message, content[:500])
			flip(t, message, func(pos, bit int) bool {
				return (pos < begin || pos > begin+len(content)+20) && (bit == (pos+3)%8 || longrun.Long())
			})
		})
	}
}

// TestFlipsPublic changes a bit of every octet of published messages, with LONG=1 of all that are valid.
func TestFlipsPublic(t *testing.T) {
	t.Parallel()
	for _, row := range manifest(t) {
		if row.core == "valid" && (longrun.Long() || strings.Contains("A1 A5 C4 C5", row.file[:2])) {
			t.Run(row.file, func(t *testing.T) {
				t.Parallel()
				flip(t, row.data, func(int, int) bool { return false })
			})
		}
	}
}

// TestNested: depth is refused before it costs anything.
func TestNested(t *testing.T) {
	t.Parallel()
	for name, level := range map[string][]byte{"indefinite": {0x30, 0x80}, "octet strings": {0x24, 0x80}, "definite": {0x30, 0x84, 0x7f, 0xff, 0xff, 0xff}} {
		deep := bytes.Repeat(level, 1<<20)
		if _, err := Parse(deep); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := ParseStream(bytes.NewReader(deep), nil, StreamOptions{}); err == nil {
			t.Errorf("%s: accepted as a stream", name)
		}
	}
	// Octet strings in octet strings, up to the limit and beyond, as the content.
	w := newWorld(t)
	message := w.sign(t, testpki.BrainpoolKey, testpki.CMSOptions{BER: true, Piece: 1 << 20})
	for levels, ok := range map[int]bool{1: true, 40: true, 80: false, 100_000: false} {
		at := bytes.Index(message, []byte{0x24, 0x80}) // the content's own octet string
		end := bytes.Index(message, content) + len(content)
		var deep []byte
		deep = append(deep, message[:at]...)
		deep = append(deep, bytes.Repeat([]byte{0x24, 0x80}, levels)...)
		deep = append(deep, message[at+2:end]...)
		deep = append(deep, make([]byte, 2*levels)...)
		deep = append(deep, message[end+2:]...)
		sd, err := Parse(deep)
		if (err == nil) != ok || ok && !bytes.Equal(sd.Content, content) || !ok && !errors.Is(err, ber.ErrDepth) {
			t.Errorf("%d levels: %v", levels, err)
		}
		if _, err := ParseStream(bytes.NewReader(deep), nil, StreamOptions{}); (err == nil) != ok {
			t.Errorf("%d levels as a stream: %v", levels, err)
		}
	}
}

// TestClaimedLengths puts the claim of 4 GiB, and of more than there are numbers for, in place of every length of a
// message. Each is refused at once and costs no memory.
func TestClaimedLengths(t *testing.T) {
	w := newWorld(t) // not parallel: it measures memory
	message := w.sign(t, testpki.BrainpoolKey, testpki.CMSOptions{OCSP: [][]byte{w.answer}})
	claims := [][]byte{{0x84, 0xff, 0xff, 0xff, 0xff}, {0x85, 1, 0, 0, 0, 0}, {0x88, 0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {0xff}}
	var places []int
	var walk func(data []byte, offset int)
	walk = func(data []byte, offset int) {
		for in := ber.New(data); !in.Empty(); {
			before := len(in.Rest())
			e, err := in.Next()
			if err != nil {
				t.Fatal(err)
			}
			start := offset + len(data) - before
			places = append(places, start)
			if e.Constructed {
				walk(e.Content, start+len(e.Raw)-len(e.Content))
			}
		}
	}
	walk(message, 0)
	if len(places) < 100 {
		t.Fatalf("%d elements", len(places))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	tries := uint64(0)
	for _, place := range places {
		for _, claim := range claims {
			changed := append(append(bytes.Clone(message[:place+1]), claim...), message[place+2:]...)
			for name, parse := range map[string]func() error{
				"memory": func() error { _, err := Parse(changed); return err },
				"stream": func() error {
					_, err := ParseStream(bytes.NewReader(changed), nil, StreamOptions{MaxContent: 1 << 62})
					return err
				},
			} {
				tries++
				// Nobody looks into certificates and status answers here; a claim of the same size is not seen there.
				if err := parse(); err == nil && len(claim) > 1 {
					t.Errorf("%s: element at %d with length % x is accepted", name, place, claim)
				}
			}
		}
	}
	runtime.ReadMemStats(&after)
	if perTry := (after.TotalAlloc - before.TotalAlloc) / tries; perTry > 200<<10 {
		t.Errorf("%d octets allocated for each", perTry)
	}
}

// zeros is a content of any size.
type zeros struct{ left int64 }

func (z *zeros) Read(b []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), z.left))
	clear(b[:n])
	z.left -= int64(n)
	return n, nil
}

// TestGigabyte reads a message of a gigabyte, in pieces of a connector and in large ones, with flat memory.
func TestGigabyte(t *testing.T) {
	if testing.Short() {
		t.Skip("a gigabyte takes some seconds")
	}
	w := newWorld(t) // not parallel: it measures memory
	const size = 1 << 30
	stream, err := w.pki.StreamCMS(func() io.Reader { return &zeros{size} }, &w.signers[testpki.BrainpoolKey].X509Identity, now, testpki.CMSOptions{Piece: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	watch := &watcher{start: residentSet(t)}
	sd, err := ParseStream(stream, watch, StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := sd.VerifyAll(nil, nil)
	if !r[0].Result.OK() || sd.ContentLength != size || watch.written != size {
		t.Errorf("%d octets, %v", sd.ContentLength, r[0].Result)
	}
	t.Logf("resident set grew by %d KiB", watch.growth>>10)
	if watch.growth > 16<<20 {
		t.Errorf("resident set grew by %d octets", watch.growth)
	}
	if _, err := ParseStream(io.MultiReader(bytes.NewReader([]byte{0x30, 0x80}), &zeros{size}), nil, StreamOptions{}); err == nil {
		t.Error("a gigabyte of zeros is accepted")
	}
	tooLong, err := w.pki.StreamCMS(func() io.Reader { return &zeros{1 << 20} }, &w.signers[testpki.BrainpoolKey].X509Identity, now, testpki.CMSOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseStream(tooLong, nil, StreamOptions{MaxContent: 1<<20 - 1}); !errors.Is(err, ber.ErrTooLong) {
		t.Errorf("content beyond the limit: %v", err)
	}
}

// watcher is a consumer that watches the memory of the process.
type watcher struct {
	start, growth, written, next int64
}

func (w *watcher) Write(b []byte) (int, error) {
	w.written += int64(len(b))
	if w.written >= w.next {
		w.next += 32 << 20
		if rss := readResidentSet(); rss > 0 {
			w.growth = max(w.growth, rss-w.start)
		}
	}
	return len(b), nil
}

func residentSet(t *testing.T) int64 {
	rss := readResidentSet()
	if rss == 0 {
		t.Skip("no /proc/self/statm on this system")
	}
	return rss
}

func readResidentSet() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// TestLimits: parts beyond the limits are refused.
func TestLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	many := func(n int) [][]byte { return append(make([][]byte, 0), slicesRepeat(w.other.Certificate, n)...) }
	for name, o := range map[string]testpki.CMSOptions{
		"certificates": {Before: many(MaxCertificates)},
		"crls":         {OCSP: slicesRepeat(w.answer, MaxRevocations+1)},
	} {
		if _, err := Parse(w.sign(t, testpki.BrainpoolKey, o)); !errors.Is(err, ErrLimit) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Parse([]byte{0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 3, 0xa0, 0}); !errors.Is(err, ErrNotSignedData) {
		t.Errorf("enveloped data: %v", err)
	}
}

func slicesRepeat(part []byte, n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = part
	}
	return out
}

// TestAllocations keeps the cost of a check in memory where it is: the batch check lives on that.
func TestAllocations(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		o   testpki.CMSOptions
		max float64
	}{"service": {testpki.CMSOptions{OCSP: [][]byte{w.answer}}, 4}, "connector": {testpki.CMSOptions{BER: true, ContentHints: true}, 5}} {
		message := w.sign(t, testpki.BrainpoolKey, c.o)
		cert, err := x509ti.Parse(w.signers[testpki.BrainpoolKey].Certificate)
		if err != nil {
			t.Fatal(err)
		}
		got := testing.AllocsPerRun(100, func() {
			sd, err := Parse(message)
			if err != nil {
				t.Fatal(err)
			}
			if r := sd.Verify(&sd.Signers[0], cert, nil); !r.OK() {
				t.Fatal(r)
			}
		})
		t.Logf("%s: %v allocations", name, got)
		if got > c.max {
			t.Errorf("%s: %v allocations, %v were enough", name, got, c.max)
		}
	}
}

// BenchmarkParse is reading alone.
func BenchmarkParse(b *testing.B) {
	w := newWorld(b)
	for _, c := range []struct {
		name string
		o    testpki.CMSOptions
	}{{"connector", testpki.CMSOptions{BER: true, ContentHints: true}}, {"service", testpki.CMSOptions{OCSP: [][]byte{w.answer}}}} {
		message, err := w.pki.SignCMS(bytes.Repeat([]byte("<Bundle/>"), 1300), &w.signers[testpki.BrainpoolKey].X509Identity, now, c.o)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(message); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(c.name+"/verify", func(b *testing.B) {
			b.ReportAllocs()
			cert, err := x509ti.Parse(w.signers[testpki.BrainpoolKey].Certificate)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				sd, err := Parse(message)
				if err != nil {
					b.Fatal(err)
				}
				if r := sd.Verify(&sd.Signers[0], cert, nil); !r.OK() {
					b.Fatal(r)
				}
			}
		})
	}
}

// FuzzParse: nothing panics, memory and stream agree. The corpus in testdata has a message of every kind: making keys in
// each process of the fuzzer would take longer than fuzzing.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		sd, err := Parse(data)
		streamed, streamErr := ParseStream(bytes.NewReader(data), nil, StreamOptions{})
		if err == nil != (streamErr == nil) {
			t.Fatalf("memory: %v, stream: %v", err, streamErr)
		}
		if err != nil {
			return
		}
		results, again := sd.VerifyAll(nil, nil), streamed.VerifyAll(nil, nil)
		for i := range results {
			// A digest that was not announced is known in memory only. Of a stream no more than the beginning is kept, so that a
			// long content that begins like signed attributes is taken for them.
			if results[i].Result != again[i].Result && results[i].Result[StepContainer].Reason != DigestNotDeclared &&
				!(sd.ContentLength > maxHead && again[i].Result[StepSignedAttributes].Reason == AttributesAsContent) {
				t.Fatalf("memory: %v, stream: %v", results[i].Result, again[i].Result)
			}
			results[i].Signer.RevocationValues()
		}
	})
}

// TestNames compares names as RFC 5280 chapter 7.1 has it, as far as this package does.
func TestNames(t *testing.T) {
	t.Parallel()
	name := func(tag byte, values ...string) []byte {
		var sets []byte
		for _, v := range values {
			value := append([]byte{tag, byte(len(v))}, v...)
			pair := append([]byte{0x06, 3, 0x55, 4, 3}, value...)
			seq := append([]byte{0x30, byte(len(pair))}, pair...)
			sets = append(append(sets, 0x31, byte(len(seq))), seq...)
		}
		return append([]byte{0x30, byte(len(sets))}, sets...)
	}
	const utf8, printable, t61 = 0x0c, 0x13, 0x14
	for _, c := range []struct {
		a, b []byte
		want bool
	}{
		{name(utf8, "GEM.HBA-qCA6"), name(utf8, "GEM.HBA-qCA6"), true},
		{name(utf8, "GEM.HBA-qCA6"), name(printable, "gem.hba-QCA6"), true},
		{name(utf8, " a  b "), name(printable, "A B"), true},
		{name(utf8, "Ärzte"), name(utf8, "ärzte"), false},
		{name(utf8, "a b"), name(utf8, "ab"), false},
		{name(utf8, "a"), name(utf8, "ab"), false},
		{name(utf8, "a", "b"), name(utf8, "b", "a"), false},
		{name(utf8, "a", "b"), name(utf8, "a"), false},
		{name(t61, "a"), name(utf8, "a"), false},
		{name(utf8, "a"), name(utf8, "a")[:5], false},
	} {
		if got := sameName(c.a, c.b); got != c.want {
			t.Errorf("%q and %q: %v", c.a, c.b, got)
		}
		if got := sameName(c.b, c.a); got != c.want {
			t.Errorf("%q and %q: %v", c.b, c.a, got)
		}
	}
}

// TestVersionNote: a version that RFC 5652 does not have for such a message is a note and no more, since services write
// messages with status answers as version 1.
func TestVersionNote(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	message := w.sign(t, testpki.BrainpoolKey, testpki.CMSOptions{OCSP: [][]byte{w.answer}})
	at := bytes.Index(message, []byte{2, 1, 5})
	for version, want := range map[byte]Finding{1: {Valid, VersionNote}, 3: {Valid, VersionNote}, 5: {Verdict: Valid}} {
		changed := bytes.Clone(message)
		changed[at+2] = version
		if _, r := checkOne(t, changed); r.Result[StepContainer] != want || !r.Result.OK() {
			t.Errorf("version %d: %v", version, r.Result)
		}
	}
	message[at+2] = 2
	if _, err := Parse(message); !errors.Is(err, ErrMalformed) {
		t.Errorf("version 2: %v", err)
	}
}

// TestLargerCurves checks signatures with keys on the larger brainpool curves, and refuses a changed digest.
func TestLargerCurves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		curve *brainpool.Curve
		hash  crypto.Hash
	}{{brainpool.P384r1(), crypto.SHA384}, {brainpool.P512r1(), crypto.SHA512}, {brainpool.P512r1(), crypto.SHA256}} {
		sd, r := checkOne(t, w.sign(t, testpki.BrainpoolKey, testpki.CMSOptions{Hash: c.hash}))
		key, err := brainpool.GenerateKey(c.curve, nil)
		if err != nil {
			t.Fatal(err)
		}
		signed, _, err := r.Signer.signedOctets()
		if err != nil {
			t.Fatal(err)
		}
		h := c.hash.New()
		h.Write(signed)
		if r.Signer.Signature, err = key.SignASN1(nil, h.Sum(nil)); err != nil {
			t.Fatal(err)
		}
		cert := *r.Certificate
		cert.PublicKey = key.Public()
		if result := sd.Verify(r.Signer, &cert, nil); !result.OK() {
			t.Errorf("%s with %v: %v", c.curve, c.hash, result)
		}
		r.Signer.Signature, _ = key.SignASN1(nil, make([]byte, 32))
		if result := sd.Verify(r.Signer, &cert, nil); result[StepSignature] != (Finding{Invalid, SignatureMismatch}) {
			t.Errorf("%s with %v: %v", c.curve, c.hash, result)
		}
		if result := sd.Verify(r.Signer, r.Certificate, nil); result[StepSignature].Verdict != Invalid {
			t.Errorf("key of another curve: %v", result)
		}
	}
}

// TestVerifier: brainpool signatures go through the seam, with the digest of the signed attributes and R || S.
func TestVerifier(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sd, r := checkOne(t, w.sign(t, testpki.BrainpoolKey, testpki.CMSOptions{}))
	var cache brainpool.TableCache
	for range 5 { // the third use makes a table
		if result := sd.Verify(r.Signer, r.Certificate, &cache); !result.OK() {
			t.Errorf("%v", result)
		}
	}
	if stats := cache.Stats(); stats.Keys != 1 || stats.Tables+stats.LargeTables == 0 {
		t.Errorf("%+v", stats)
	}
	if result := sd.Verify(r.Signer, r.Certificate, refuse{}); result[StepSignature] != (Finding{Invalid, SignatureMismatch}) {
		t.Errorf("%v", result)
	}
}

type refuse struct{}

func (refuse) VerifyECDSA(*brainpool.PublicKey, []byte, []byte) bool { return false }
