package cms

import (
	"bytes"
	"crypto"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"ktradv/internal/longrun"
	"ktradv/internal/testpki"
)

// explained are the reasons for which this package refuses a message that `openssl cms -verify` (3.0) accepts. A
// disagreement of any other kind fails the test. Changed octets bring messages that are not read at all, too; their errors
// are logged: versions that do not exist, and elements of a form that their type does not have.
var explained = map[Reason]string{
	DigestNotAdmissible:     "SHA-1 is never admissible for a signature (gemSpec_PKI Tab_PKI_290); OpenSSL leaves that to the caller",
	NoSignedAttributes:      "a content of a type other than data must have signed attributes (RFC 5652 chapter 5.3); OpenSSL does not ask",
	ContentTypeMismatch:     "OpenSSL looks whether contentType is there and not what it says (RFC 5652 chapter 11.1 asks for it)",
	ReferenceMismatch:       "OpenSSL looks at signingCertificateV2 only with -cades; here it is always checked",
	ReferenceMalformed:      "as above",
	ProtectionMismatch:      "OpenSSL 3.0 does not know cmsAlgorithmProtection (RFC 6211)",
	ProtectionMalformed:     "as above",
	AttributeTwice:          "OpenSSL looks for repetition of those attributes only that it uses itself",
	AttributeValues:         "as above; and signingTime must be readable here",
	SignatureDigestMismatch: "ecdsa-with-SHA256 beside another digestAlgorithm: OpenSSL takes the latter and does not compare",
	SignatureNotAdmissible:  "OpenSSL takes the digest of an ECDSA signature from digestAlgorithm, whatever signatureAlgorithm names",
	SignerIDMismatch:        "names that differ in more than the case of ASCII letters and in white space",
	CertificateMissing:      "the certificate has an error that the strict reader of package x509ti refuses",
}

// verdicts asks OpenSSL about many messages, several processes at a time.
func verdicts(t *testing.T, messages [][]byte) []bool {
	t.Helper()
	dir := t.TempDir()
	out := make([]bool, len(messages))
	next := make(chan int)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				file := filepath.Join(dir, fmt.Sprint(i))
				if err := os.WriteFile(file, messages[i], 0o600); err != nil {
					t.Error(err)
					continue
				}
				out[i] = exec.Command("openssl", "cms", "-verify", "-noverify", "-inform", "DER", "-in", file, "-out", os.DevNull).Run() == nil
				os.Remove(file)
			}
		})
	}
	for i := range messages {
		next <- i
	}
	close(next)
	wg.Wait()
	return out
}

// ours is the verdict of this package with the reasons for a bad one.
func ours(message []byte) (ok bool, reasons []Reason, err error) {
	sd, err := Parse(message)
	if err != nil {
		return false, nil, err
	}
	ok = true
	for _, r := range sd.VerifyAll(nil, nil) {
		for step, f := range r.Result {
			if f.Verdict > Warning && Step(step) != StepCountersignature {
				reasons = append(reasons, f.Reason)
			}
		}
		ok = ok && r.Result.OK()
	}
	return ok, reasons, nil
}

func needOpenSSL(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
}

// cases is how many generated messages are compared: hundreds in every run, thousands with LONG=1.
func cases(short, long int) int {
	if longrun.Long() {
		return long
	}
	return short
}

// TestOpenSSLGenerated compares with OpenSSL on messages with random options and faults.
func TestOpenSSLGenerated(t *testing.T) {
	t.Parallel()
	needOpenSSL(t)
	w := newWorld(t)
	random := rand.New(rand.NewPCG(5, 1))
	some := func(percent int) bool { return random.IntN(100) < percent }
	var messages [][]byte
	var options []testpki.CMSOptions
	for range cases(120, 2500) {
		o := testpki.CMSOptions{
			BER: some(50), Piece: 1 + random.IntN(3000), HashNULL: some(20), PSS: some(50), PlainRSA: some(20), SubjectKeyID: some(20),
			NoSigningTime: some(10), NoReference: some(15), NoProtection: some(20), ContentHints: some(50), SHA1Reference: some(10), Unsorted: some(10),
			NoAttributes: some(8),
		}
		o.Hash = []crypto.Hash{0, 0, 0, crypto.SHA384, crypto.SHA512, crypto.SHA1}[random.IntN(6)]
		if some(10) {
			o.Salt = 1 + random.IntN(20)
		}
		if some(30) {
			o.OCSP = [][]byte{w.answer}
		}
		if some(20) {
			o.Before = [][]byte{w.other.Certificate}
		}
		if some(20) {
			o.Countersigner = &w.other.X509Identity
		}
		if some(10) {
			o.SecondSigner, o.SecondSignerTime = &w.other.X509Identity, now
		}
		if some(5) {
			o.ContentType = []int{1, 2, 3, 4}
		}
		if some(50) {
			o.Fault = testpki.CMSFault(1 + random.IntN(int(testpki.CMSFaultTruncated)))
		}
		kind := testpki.KeyKind(random.IntN(3))
		if kind == testpki.RSAKey && o.Fault == testpki.CMSFaultSignatureForm || o.Hash == crypto.SHA1 && o.PSS {
			o.Fault, o.Hash = 0, 0
		}
		messages, options = append(messages, w.sign(t, kind, o)), append(options, o)
	}
	compare(t, messages, func(i int) string { return fmt.Sprintf("%+v", options[i]) }, nil)
}

// TestOpenSSLMutated compares with OpenSSL on messages with random octets changed.
func TestOpenSSLMutated(t *testing.T) {
	t.Parallel()
	needOpenSSL(t)
	w := newWorld(t)
	random := rand.New(rand.NewPCG(5, 2))
	originals := [][]byte{
		w.sign(t, testpki.BrainpoolKey, testpki.CMSOptions{BER: true, ContentHints: true}),
		w.sign(t, testpki.P256Key, testpki.CMSOptions{OCSP: [][]byte{w.answer}}),
		w.sign(t, testpki.RSAKey, testpki.CMSOptions{PSS: true, Countersigner: &w.other.X509Identity}),
	}
	var messages [][]byte
	var what []string
	for i := range cases(120, 2500) {
		message := bytes.Clone(originals[i%len(originals)])
		begin := bytes.Index(message, content[:500])
		var at []string
		for range 1 + random.IntN(2) {
			pos := random.IntN(len(message) - len(content)) // changes of the content are in the other test
			if pos >= begin {
				pos += len(content)
			}
			pos = min(pos, len(message)-1)
			message[pos] ^= 1 << random.IntN(8)
			at = append(at, fmt.Sprint(pos))
		}
		messages, what = append(messages, message), append(what, fmt.Sprintf("message %d, octets %s", i%len(originals), strings.Join(at, " ")))
	}
	signed := make([]string, len(originals))
	for i, message := range originals {
		sd, r := checkOne(t, message)
		var s statement
		s.of(sd, &r)
		signed[i] = s.signed
	}
	compare(t, messages, func(i int) string { return what[i] }, func(i int) bool {
		sd, r := checkOne(t, messages[i])
		var s statement
		s.of(sd, &r)
		return s.signed == signed[i%len(originals)]
	})
}

// compare fails for every disagreement that is not explained. What OpenSSL refuses is accepted here in one situation only:
// unsigned reports true, which says that everything signed is as it was. OpenSSL gives up when any certificate or status
// answer in the message cannot be read, be it one that has nothing to do with the signature; here only the signer's counts.
func compare(t *testing.T, messages [][]byte, describe func(i int) string, unsigned func(i int) bool) {
	t.Helper()
	agreed, differ := 0, map[string]int{}
	for i, theirs := range verdicts(t, messages) {
		ok, reasons, err := ours(messages[i])
		switch {
		case ok == theirs:
			agreed++
		case ok && unsigned != nil && unsigned(i):
			differ["we accept, OpenSSL refuses: change in a part that is not signed"]++
		case ok:
			t.Errorf("OpenSSL refuses and we accept: %s", describe(i))
		case err != nil:
			differ["we refuse, OpenSSL accepts: not read: "+err.Error()]++
		default:
			for _, reason := range reasons {
				if explained[reason] == "" {
					t.Errorf("we refuse for %s, OpenSSL accepts: %s", reason, describe(i))
				}
				differ["we refuse, OpenSSL accepts: "+reason.String()]++
			}
		}
	}
	t.Logf("%d of %d verdicts agree", agreed, len(messages))
	for what, n := range differ {
		t.Logf("%4d: %s", n, what)
	}
}
