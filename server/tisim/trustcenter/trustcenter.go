// Package trustcenter simulates the TrustCenter of the DKTIG: its mailbox with the responder, the application in the portal
// with a second factor, and the certification. It judges and issues with the openssl command and reads the page with the
// fingerprint with pdftotext, so that what the product writes is judged by somebody else. No production binary links it.
package trustcenter

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Name is the TrustCenter's name in requests and certificates.
const Name = "DKTIG TrustCenter fuer Krankenhaeuser und Leistungserbringer PKC"

// Center is a simulated TrustCenter that keeps its files in a folder.
type Center struct {
	dir string
	now func() time.Time

	mu       sync.Mutex
	requests map[string][]byte // by the first eight digits of the IK
	issued   map[string]bool
	secret   []byte // of the second factor
	sms      string
	smsAt    time.Time
}

// ErrRefused is wrapped by every refusal.
var ErrRefused = errors.New("refused by the TrustCenter")

func no(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, a...))
}

// New makes a TrustCenter with a CA of its own in a folder.
func New(dir string, now func() time.Time) (*Center, error) {
	c := &Center{dir: dir, now: now, requests: map[string][]byte{}, issued: map[string]bool{}, secret: []byte("12345678901234567890")}
	conf := "[ca]\ndefault_ca=d\n[d]\ndatabase=" + c.file("index.txt") + "\nserial=" + c.file("serial") + "\nnew_certs_dir=" + dir +
		"\ncrlnumber=" + c.file("crlnumber") +
		"\ncrl_extensions=e\ndefault_md=sha256\npolicy=p\ndefault_days=1095\ndefault_crl_days=30\nunique_subject=no\n[p]\ncountryName=supplied\norganizationName=supplied\norganizationalUnitName=supplied\ncommonName=supplied\n[e]\nauthorityKeyIdentifier=keyid:always\n"
	for name, content := range map[string]string{"index.txt": "", "serial": "1000\n", "crlnumber": "01\n", "ca.cnf": conf} {
		if err := os.WriteFile(c.file(name), []byte(content), 0o600); err != nil {
			return nil, err
		}
	}
	_, err := c.openssl(nil, "req", "-x509", "-newkey", "rsa:3072", "-nodes", "-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32",
		"-subj", "/C=DE/O="+Name, "-days", "3650", "-keyout", c.file("ca.key"), "-out", c.file("ca.pem"))
	return c, err
}

func (c *Center) file(name string) string { return filepath.Join(c.dir, name) }

// run runs a tool and returns its standard output.
func run(in []byte, tool string, args ...string) ([]byte, error) {
	cmd := exec.Command(tool, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", tool, args[0], err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.Bytes(), nil
}

func (c *Center) openssl(in []byte, args ...string) ([]byte, error) {
	return run(in, "openssl", args...)
}

var commandLine = regexp.MustCompile(`(?m)^send (\S+)\s*$`)

// Receive is what happens when a mail arrives: a request is kept, a command is answered with a file.
func (c *Center) Receive(message []byte) (fileName string, answer []byte, err error) {
	m, err := mail.ReadMessage(bytes.NewReader(message))
	if err != nil {
		return "", nil, no("no mail: %v", err)
	}
	if to, err := mail.ParseAddress(m.Header.Get("To")); err != nil || to.Address != "trust@dktig-trust.de" {
		return "", nil, no("not to this mailbox")
	}
	body, name, attachment, err := parts(m)
	if err != nil {
		return "", nil, no("%v", err)
	}
	if attachment != nil {
		return "", nil, c.keep(name, attachment)
	}
	g := commandLine.FindStringSubmatch(body)
	if g == nil || strings.TrimSpace(strings.ReplaceAll(body, "\r", "")) != strings.TrimSpace(g[0]) {
		return "", nil, no("the body is no command (a command in the subject is not read, a signature below it disturbs)")
	}
	switch {
	case g[1] == "annahme-rsa4096.key":
		b, err := c.directory()
		return g[1], b, err
	case strings.HasSuffix(g[1], ".p7c"):
		c.mu.Lock()
		done := c.issued[strings.TrimSuffix(g[1], ".p7c")]
		c.mu.Unlock()
		if !done {
			return "", nil, no("%s is not there", g[1])
		}
		b, err := os.ReadFile(c.file(g[1]))
		return g[1], b, err
	}
	return "", nil, no("unknown file %s", g[1])
}

// parts takes a mail apart: the text and one attachment.
func parts(m *mail.Message) (body, name string, attachment []byte, err error) {
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		return "", "", nil, err
	}
	if !strings.HasPrefix(kind, "multipart/") {
		b, err := io.ReadAll(decoded(m.Header.Get("Content-Transfer-Encoding"), m.Body))
		return string(b), "", nil, err
	}
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextPart()
		if err == io.EOF {
			return body, name, attachment, nil
		}
		if err != nil {
			return "", "", nil, err
		}
		b, err := io.ReadAll(decoded(p.Header.Get("Content-Transfer-Encoding"), p))
		if err != nil {
			return "", "", nil, err
		}
		if n := p.FileName(); n != "" {
			if attachment != nil {
				return "", "", nil, errors.New("two attachments")
			}
			name, attachment = n, b
		} else {
			body = string(b)
		}
	}
}

func decoded(encoding string, r io.Reader) io.Reader {
	if strings.EqualFold(encoding, "base64") {
		return base64.NewDecoder(base64.StdEncoding, r)
	}
	return r
}

// subjectForm is what the machine demands of the subject (openssl's -nameopt with types and one part per line).
var subjectForm = regexp.MustCompile(`(?s)^subject=\s*countryName=PRINTABLESTRING:DE\s+organizationName=PRINTABLESTRING:` + Name +
	`\s+organizationalUnitName=PRINTABLESTRING:[A-Za-z0-9 .()/-]{1,64}\n\s+organizationalUnitName=PRINTABLESTRING:IK(\d{9})\s+commonName=PRINTABLESTRING:[A-Za-z0-9 .()/-]{1,64}\s*$`)

// keep checks a request by machine (step 9) and keeps it.
func (c *Center) keep(name string, request []byte) error {
	form := "DER"
	if bytes.HasPrefix(request, []byte("-----BEGIN")) {
		form = "PEM"
	}
	der, err := c.openssl(request, "req", "-inform", form, "-verify", "-outform", "DER")
	if err != nil {
		return no("the request does not verify: %v", err)
	}
	text, err := c.openssl(der, "req", "-inform", "DER", "-noout", "-text")
	if err != nil {
		return no("%v", err)
	}
	for _, want := range []string{"Version: 1 (0x0)", "Public-Key: (4096 bit)", "Exponent: 65537", "Signature Algorithm: rsassaPss", "Hash Algorithm: sha256", "Mask Algorithm: mgf1 with sha256", "Salt Length: 0x20"} {
		if !bytes.Contains(text, []byte(want)) {
			return no("the request has not %q", want)
		}
	}
	subject, err := c.openssl(der, "req", "-inform", "DER", "-noout", "-subject", "-nameopt", "multiline,show_type,-align,-space_eq,sep_multiline,lname")
	if err != nil {
		return no("%v", err)
	}
	g := subjectForm.FindSubmatch(subject)
	if g == nil {
		return no("the subject is not as agreed: %s", subject)
	}
	if name != string(g[1][:8])+".p10" {
		return no("the file is called %s", name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[string(g[1][:8])] = der
	return nil
}

var hexDigits = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

// Apply is the application in the portal: the page with the fingerprint is compared with the request that came by mail, and
// the certificate is issued (steps 8 to 10).
func (c *Center) Apply(ik string, page []byte, code string) error {
	if !c.confirm(code) {
		return no("the code of the second factor is wrong or too old")
	}
	c.mu.Lock()
	request, ok := c.requests[ik[:8]]
	c.mu.Unlock()
	if !ok {
		return no("no request for IK %s", ik)
	}
	text, err := run(page, "pdftotext", "-layout", "-", "-")
	if err != nil {
		return no("the page cannot be read: %v", err)
	}
	if !strings.Contains(strings.ReplaceAll(string(text), " ", ""), ik) {
		return no("the page is not of IK %s", ik)
	}
	public, err := c.openssl(request, "req", "-inform", "DER", "-noout", "-pubkey")
	if err != nil {
		return err
	}
	key, err := c.openssl(public, "rsa", "-pubin", "-RSAPublicKey_out", "-outform", "DER")
	if err != nil {
		return err
	}
	want := sha256.Sum256(key)
	if got := hexDigits.FindString(string(text)); got != hex.EncodeToString(want[:]) {
		return no("the fingerprint on the page is %q, that of the request %x", got, want)
	}
	return c.issue(ik[:8], request)
}

// issue makes the certificate and the answer file.
func (c *Center) issue(name string, request []byte) error {
	if err := os.WriteFile(c.file(name+".p10"), request, 0o600); err != nil {
		return err
	}
	if _, err := c.openssl(nil, "x509", "-req", "-inform", "DER", "-in", c.file(name+".p10"), "-CA", c.file("ca.pem"), "-CAkey", c.file("ca.key"), "-CAserial", c.file("serial"),
		"-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32", "-days", "1095", "-out", c.file(name+".pem")); err != nil {
		return err
	}
	p7c, err := c.openssl(nil, "crl2pkcs7", "-nocrl", "-certfile", c.file(name+".pem"), "-certfile", c.file("ca.pem"), "-outform", "PEM")
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.file(name+".p7c"), p7c, 0o600); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.issued[name] = true
	return nil
}

// Revoke revokes a certificate.
func (c *Center) Revoke(name string) error {
	_, err := c.openssl(nil, "ca", "-config", c.file("ca.cnf"), "-cert", c.file("ca.pem"), "-keyfile", c.file("ca.key"), "-revoke", c.file(name+".pem"))
	return err
}

// CRL is the revocation list (PEM).
func (c *Center) CRL() ([]byte, error) {
	return c.openssl(nil, "ca", "-config", c.file("ca.cnf"), "-cert", c.file("ca.pem"), "-keyfile", c.file("ca.key"), "-gencrl", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32")
}

// directory is the list of keys: base64 in lines of 64, blank lines between, CRLF, and a Ctrl-Z at the end.
func (c *Center) directory() ([]byte, error) {
	names, err := filepath.Glob(c.file("*.pem"))
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for _, n := range names {
		der, err := c.openssl(nil, "x509", "-in", n, "-outform", "DER")
		if err != nil {
			return nil, err
		}
		text := base64.StdEncoding.EncodeToString(der)
		for len(text) > 64 {
			b.WriteString(text[:64] + "\r\n")
			text = text[64:]
		}
		b.WriteString(text + "\r\n\r\n")
	}
	return []byte(b.String() + "\r\n\x1a"), nil
}

// TOTP is the code of the second factor at an instant (RFC 6238: HMAC-SHA-1, 30 seconds, six digits).
func (c *Center) TOTP(at time.Time) string {
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], uint64(at.Unix()/30))
	mac := hmac.New(sha1.New, c.secret)
	mac.Write(counter[:])
	sum := mac.Sum(nil)
	v := binary.BigEndian.Uint32(sum[sum[19]&15:]) & 0x7fffffff
	return fmt.Sprintf("%06d", v%1_000_000)
}

// SMS sends a code, which is good for 60 seconds.
func (c *Center) SMS() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.smsAt = c.now()
	c.sms = fmt.Sprintf("%06d", c.smsAt.UnixNano()/1000%1_000_000)
	return c.sms
}

// confirm checks a code of either kind.
func (c *Center) confirm(code string) bool {
	now := c.now()
	if code == c.TOTP(now) {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sms != "" && code == c.sms && now.Sub(c.smsAt) <= 60*time.Second
}
