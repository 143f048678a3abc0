// Package tccmd is the command line of `adv-server trustcenter`: the way to a certificate for test procedures, from the data
// sheet to the imported certificate, and the dates after that.
package tccmd

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ktradv/server/internal/finding"
	"ktradv/server/internal/keepfile"
	"ktradv/server/internal/tool"
	"ktradv/server/keystore"
	"ktradv/server/trustcenter"
)

const usage = `adv-server trustcenter: a certificate for test procedures of software makers (DKTIG)

  init         make a data sheet
  check        judge the data sheet, or a request (.p10)
  request      make the key and the request
  fingerprint  write the PDF to sign and upload; compare a hash (--compare)
  mail         prepare an e-mail as a draft: request, certificate, directory, directory-pkv
  import       check the answer (.p7c) and take it over
  directory    look at the keys of the receiving offices (annahme-rsa4096.key, pkv-rsa4096.key)
  done         note a step that was done outside of this tool
  status       where in the eleven steps you are, whose turn it is, when the certificate ends

Each command explains its options with -h. Nothing is sent by itself; nothing that exists is replaced without --force, and then
it is kept. The passphrase of the key is asked for at the terminal or read from --passphrase-fd. Exit status: 0 nothing wrong,
1 errors found, 2 could not be checked.
`

// Main runs the command of the process.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return Run(ctx, tool.Env{Stdout: stdout, Stderr: stderr, Now: time.Now}, args)
}

// commands by name.
var commands = []tool.Command{
	{Name: "init", Run: initialise}, {Name: "check", Run: check}, {Name: "request", Run: request}, {Name: "fingerprint", Run: fingerprint}, {Name: "mail", Run: draft},
	{Name: "import", Run: take}, {Name: "directory", Run: directory}, {Name: "done", Run: done}, {Name: "status", Run: status},
}

// Run runs a command.
func Run(ctx context.Context, env tool.Env, args []string) int {
	return tool.Tool{Name: "adv-server trustcenter", Usage: usage, Commands: commands, Config: "trustcenter.json"}.Run(ctx, env, args)
}

// initialise writes a data sheet, with the proposals of the transliteration where that was allowed.
func initialise(_ context.Context, c *tool.Call) int {
	s := trustcenter.Sheet{TrustCenter: trustcenter.DKTIG, Keys: "keys", Folder: "."}
	c.Flags.StringVar(&s.IK, "ik", "", "`IK`, nine digits")
	c.Flags.StringVar(&s.Organisation, "organisation", "", "`name` of the company as the TrustCenter knows it")
	c.Flags.StringVar(&s.GivenName, "given-name", "", "given `name` of the Schlüsselverantwortlicher")
	c.Flags.StringVar(&s.Surname, "surname", "", "`surname` of the Schlüsselverantwortlicher")
	c.Flags.StringVar(&s.Email, "email", "", "personal e-mail `address` from which the request is sent")
	c.Flags.StringVar(&s.ContractUntil, "contract-until", "", "last `day` of the TrustCenter contract, YYYY-MM-DD, or open")
	c.Flags.StringVar(&s.TrustCenter, "trust-center", s.TrustCenter, "`name` of the TrustCenter")
	force := c.Flags.Bool("force", false, "replace the data sheet; the former one is kept")
	plain := c.Flags.Bool("transliterate", false, "write umlauts and special characters as the proposals say (ä as ae)")
	if status, done := c.Parse(0, 0); done {
		return status
	}
	if *plain {
		for _, v := range []*string{&s.Organisation, &s.GivenName, &s.Surname} {
			if t := trustcenter.Transliterate(*v); t != *v {
				c.Say("%q is written %q\n", *v, t)
				*v = t
			}
		}
	}
	found := s.Check(c.Now())
	if found.Worst() == finding.Error {
		fmt.Fprintln(c.Stderr, "nothing was written: the data sheet has errors")
		return c.Report(found)
	}
	b, err := s.Encode()
	if err == nil {
		_, err = keepfile.Write(*c.Config, b, keepfile.Options{Force: *force, Now: c.Now})
	}
	if err != nil {
		return c.Fail(err)
	}
	c.Say("wrote %s\nnext: `adv-server trustcenter status`\n", *c.Config)
	return c.Report(found)
}

// maxFile bounds what is read of files in octets.
const maxFile = 32 << 20

func check(_ context.Context, c *tool.Call) int {
	if status, done := c.Parse(0, 1); done {
		return status
	}
	s, err := trustcenter.LoadSheet(*c.Config)
	sheet := &s
	if err != nil {
		if c.Flags.NArg() == 0 || !errors.Is(err, fs.ErrNotExist) {
			return c.Fail(err)
		}
		sheet = nil // a request alone can be judged, too
	}
	var found finding.List
	if sheet != nil {
		found = s.Check(c.Now()).At(*c.Config, 0, "")
	}
	if c.Flags.NArg() == 1 {
		b, err := tool.ReadFile(c.Flags.Arg(0), maxFile)
		if err != nil {
			return c.Fail(err)
		}
		found = append(found, trustcenter.CheckRequest(b, sheet).At(c.Flags.Arg(0), 0, "")...)
	}
	return c.Report(found)
}

// purpose of a command: applying needs a contract with the TrustCenter, using what was issued does not.
type purpose bool

const applying, using purpose = true, false

// relax makes the end of the contract a warning for those who apply for nothing.
func (p purpose) relax(found finding.List) finding.List {
	for i := range found {
		if p == using && found[i].Code == trustcenter.ContractEnded {
			found[i].Severity = finding.Warning
		}
	}
	return found
}

// open reads the data sheet of a command and refuses one with errors.
func open(c *tool.Call, p purpose) (s trustcenter.Sheet, files trustcenter.Files, status int, ok bool) {
	s, err := trustcenter.LoadSheet(*c.Config)
	if err != nil {
		return s, files, c.Fail(err), false
	}
	found := p.relax(s.Check(c.Now())).At(*c.Config, 0, "")
	if found.Worst() == finding.Error {
		fmt.Fprintln(c.Stderr, "nothing was done: the data sheet has errors")
		return s, files, c.Report(found), false
	}
	for _, f := range found {
		if f.Severity == finding.Warning { // it is taken, but not silently
			fmt.Fprintf(c.Stderr, "%s\n    to do: %s\n", f, f.Fix)
		}
	}
	if files, err = s.Files(); err != nil {
		return s, files, c.Fail(err), false
	}
	return s, files, 0, true
}

func request(_ context.Context, c *tool.Call) int {
	asPEM := c.Flags.Bool("pem", false, "write the request as PEM instead of DER")
	force := c.Flags.Bool("force", false, "make a new key and request; the former ones are kept")
	if status, done := c.Parse(0, 0); done {
		return status
	}
	s, files, status, ok := open(c, applying)
	if !ok {
		return status
	}
	if _, err := os.Stat(files.Request); err == nil && !*force {
		return c.Fail(fmt.Errorf("%s %w; use --force for a new key and request, the former ones are kept", files.Request, keepfile.ErrExists))
	}
	store, made := c.Keys(s.Keys, *force), false
	var key crypto.Signer
	err := keystore.ErrNotFound
	if !*force {
		key, err = store.Open(files.KeyName) // the request got lost, or was never written
	}
	if errors.Is(err, keystore.ErrNotFound) {
		fmt.Fprintln(c.Stderr, "making a key with 4096 bits; this takes some seconds")
		key, err = store.Create(files.KeyName, keystore.RSA4096)
		made = true
	}
	if err != nil {
		return c.Fail(err)
	}
	der, err := trustcenter.CreateRequest(s, key)
	if err != nil {
		return c.Fail(err)
	}
	out := der
	if *asPEM {
		out = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	}
	if made { // for the next certificate everything from here on is done once more
		if err := trustcenter.Again(*c.Config); err != nil {
			return c.Fail(err)
		}
	}
	for _, path := range append([]string{files.PDF}, files.Drafts...) { // they are about another request
		backup, err := keepfile.SetAside(path, c.Now)
		if err != nil {
			return c.Fail(err)
		}
		if backup != "" {
			c.Say("%s was about the former request; it is kept as %s\n", path, filepath.Base(backup))
		}
	}
	if _, err := keepfile.Write(files.Request, out, keepfile.Options{Perm: 0o644, Force: *force, Now: c.Now}); err != nil {
		return c.Fail(err)
	}
	c.Say("wrote %s\nnext: `adv-server trustcenter mail request`, send the draft and note it with `done 7`; then `adv-server trustcenter fingerprint`\n", files.Request)
	return tool.Clean
}

func fingerprint(_ context.Context, c *tool.Call) int {
	compare := c.Flags.String("compare", "", "compare with this `hash` instead of writing the PDF; blanks, colons and case do not matter")
	force := c.Flags.Bool("force", false, "replace the PDF; the former one is kept")
	if status, done := c.Parse(0, 0); done {
		return status
	}
	s, files, status, ok := open(c, applying)
	if !ok {
		return status
	}
	b, err := tool.ReadFile(files.Request, maxFile)
	if err != nil {
		return c.Fail(fmt.Errorf("%w; next: `adv-server trustcenter request`", err))
	}
	made, err := os.Stat(files.Request)
	if err != nil {
		return c.Fail(err)
	}
	if found := trustcenter.CheckRequest(b, &s); found.Worst() == finding.Error {
		return c.Report(found.At(files.Request, 0, ""))
	}
	h, err := trustcenter.Fingerprint(b)
	if err != nil {
		return c.Fail(err)
	}
	if *compare != "" {
		which, same := h.Compare(*compare)
		if !same {
			fmt.Fprintln(c.Stdout, "the hash is neither that of the public key nor that of the request: do not file the application")
			return tool.Found
		}
		fmt.Fprintf(c.Stdout, "equal: this is the hash of the %s\n", which)
		return tool.Clean
	}
	var pdf bytes.Buffer
	if err := trustcenter.WritePDF(&pdf, trustcenter.PDF{Sheet: s, Request: b, FileName: filepath.Base(files.Request), Made: made.ModTime()}); err != nil {
		return c.Fail(err)
	}
	if _, err := keepfile.Write(files.PDF, pdf.Bytes(), keepfile.Options{Perm: 0o644, Force: *force, Now: c.Now}); err != nil {
		return c.Fail(err)
	}
	c.Say("wrote %s\npublic key  %s\nrequest     %s\nnext: sign the page and upload it with the application (step 8), then `adv-server trustcenter done 8`\n", files.PDF, hex.EncodeToString(h.Key[:]), hex.EncodeToString(h.Request[:]))
	return tool.Clean
}

func draft(_ context.Context, c *tool.Call) int {
	out := c.Flags.String("out", "", "`file` for the draft; default: beside the request")
	force := c.Flags.Bool("force", false, "replace the file; the former one is kept")
	if status, done := c.Parse(1, 1); done {
		return status
	}
	kind := c.Flags.Arg(0)
	s, files, status, ok := open(c, purpose(kind == "request"))
	if !ok {
		return status
	}
	var d trustcenter.Draft
	var err error
	switch kind {
	case "request":
		var b []byte
		if b, err = tool.ReadFile(files.Request, maxFile); err == nil {
			if found := trustcenter.CheckRequest(b, &s); found.Worst() == finding.Error {
				return c.Report(found.At(files.Request, 0, ""))
			}
			d, err = trustcenter.RequestDraft(s, b, c.Now())
		}
	case "certificate":
		d, err = trustcenter.CertificateDraft(s, c.Now())
	case "directory":
		d, err = trustcenter.DirectoryDraft(s, trustcenter.DirectoryGKV, c.Now())
	case "directory-pkv":
		d, err = trustcenter.DirectoryDraft(s, trustcenter.DirectoryPKV, c.Now())
	default:
		err = fmt.Errorf("%q is not request, certificate, directory or directory-pkv", kind)
	}
	if err != nil {
		return c.Fail(err)
	}
	var b bytes.Buffer
	if err := d.Write(&b); err != nil {
		return c.Fail(err)
	}
	path := *out
	if path == "" {
		path = files.Draft(kind)
	}
	if _, err := keepfile.Write(path, b.Bytes(), keepfile.Options{Force: *force, Now: c.Now}); err != nil {
		return c.Fail(err)
	}
	c.Say("wrote %s, a draft to %s\nnext: open it with your mail program and send it from %s\n", path, d.To, d.From)
	return tool.Clean
}

// take imports the answer.
func take(_ context.Context, c *tool.Call) int {
	root := c.Flags.String("root", "", "SHA-256 `fingerprint` of the TrustCenter's own certificate, from its publication")
	crl := crlOption(c)
	force := c.Flags.Bool("force", false, "replace an imported certificate; the former one is kept")
	if status, done := c.Parse(1, 1); done {
		return status
	}
	s, files, status, ok := open(c, using)
	if !ok {
		return status
	}
	b, err := tool.ReadFile(c.Flags.Arg(0), maxFile)
	if err != nil {
		return c.Fail(err)
	}
	key, err := c.Keys(s.Keys, false).Open(files.KeyName) // the private key itself, not what somebody says it is
	if err != nil {
		return c.Fail(err)
	}
	o := trustcenter.ImportOptions{Sheet: s, Key: key.Public(), Now: c.Now()}
	if *root != "" {
		if o.Root, err = readRoot(*root); err != nil {
			return c.Fail(err)
		}
	}
	if o.Revoked, err = readCRLs(*crl); err != nil {
		return c.Fail(err)
	}
	a := trustcenter.Import(b, o)
	if a.Findings.Worst() == finding.Error {
		fmt.Fprintln(c.Stderr, "nothing was taken over")
		return c.Report(a.Findings.At(c.Flags.Arg(0), 0, ""))
	}
	if _, err := keepfile.Write(files.Certificate, a.PEM(), keepfile.Options{Perm: 0o644, Force: *force, Now: c.Now}); err != nil {
		return c.Fail(err)
	}
	c.Say("wrote %s, valid until %s\n", files.Certificate, a.Certificate.NotAfter.UTC().Format("2006-01-02"))
	return c.Report(a.Findings.At(c.Flags.Arg(0), 0, ""))
}

// readRoot reads a fingerprint as people write it.
func readRoot(text string) ([]byte, error) {
	b, err := hex.DecodeString(strings.NewReplacer(":", "", " ", "").Replace(text))
	if err != nil || len(b) != sha256.Size {
		return nil, errors.New("--root is not a SHA-256 fingerprint of 64 hexadecimal digits")
	}
	return b, nil
}

func crlOption(c *tool.Call) *[]string {
	return c.Many("crl", "revocation list of the TrustCenter, or of a CA below it (`file`, DER or PEM)")
}

func readCRLs(paths []string) (lists []*x509.RevocationList, err error) {
	for _, path := range paths {
		b, err := tool.ReadFile(path, maxFile)
		if err != nil {
			return nil, err
		}
		if block, _ := pem.Decode(b); block != nil {
			b = block.Bytes
		}
		list, err := x509.ParseRevocationList(b)
		if err != nil {
			return nil, fmt.Errorf("revocation list %s: %w", path, err)
		}
		lists = append(lists, list)
	}
	return lists, nil
}

func directory(_ context.Context, c *tool.Call) int {
	want := c.Flags.String("ik", "", "show the key of this `IK`")
	out := c.Flags.String("out", "", "with --ik: write its certificate to this `file` (PEM), if it is verified and valid")
	roots := c.Many("root", "SHA-256 `fingerprint` of a TrustCenter's own certificate, from its publication")
	crl := crlOption(c)
	force := c.Flags.Bool("force", false, "with --out: replace the file; the former one is kept")
	if status, done := c.Parse(1, 1); done {
		return status
	}
	path := c.Flags.Arg(0)
	b, err := tool.ReadFile(path, maxFile)
	if err != nil {
		return c.Fail(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return c.Fail(err)
	}
	o := trustcenter.VerifyOptions{Now: c.Now(), Fetched: info.ModTime()}
	for _, text := range *roots {
		root, err := readRoot(text)
		if err != nil {
			return c.Fail(err)
		}
		o.Roots = append(o.Roots, root)
	}
	if o.Revoked, err = readCRLs(*crl); err != nil {
		return c.Fail(err)
	}
	if *want != "" {
		if o.Only, err = trustcenter.ParseIK(*want); err != nil {
			return c.Fail(err)
		}
	} else if *out != "" {
		return c.Fail(errors.New("--out writes one certificate: name whose with --ik"))
	}
	d := trustcenter.ParseDirectory(b, path)
	found := append(d.Verify(o), d.Findings...)
	shown := d.Entries
	if *want != "" {
		if shown = d.Find(o.Only, o.Now); len(shown) == 0 {
			return c.Fail(fmt.Errorf("IK %s is not in %s", o.Only, path))
		}
	}
	if *out != "" {
		if err := shown[0].Usable(o.Now); err != nil {
			fmt.Fprintf(c.Stderr, "nothing was written: %s\n", finding.Safe(err.Error()))
			found = append(found, finding.Finding{Code: "VZ-UNBRAUCHBAR", Severity: finding.Error, Source: path, Field: shown[0].Place(), What: err.Error(), Fix: "do not encrypt for it; fetch the directory anew: `mail directory`"})
		} else if _, err := keepfile.Write(*out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: shown[0].Certificate.Raw}), keepfile.Options{Perm: 0o644, Force: *force, Now: c.Now}); err != nil {
			return c.Fail(err)
		}
	}
	if *c.JSON {
		list := []listed{}
		for _, e := range shown {
			list = append(list, listed{e.IK, e.Certificate.Subject.OrganizationalUnit, e.Certificate.NotBefore.UTC(), e.Certificate.NotAfter.UTC(), e.Certificate.SerialNumber.Text(16), e.Verified, e.Usable(o.Now) == nil})
		}
		if err := c.WriteJSON(struct {
			Certificates []listed     `json:"certificates"`
			Findings     finding.List `json:"findings"`
		}{list, append(finding.List{}, found...)}); err != nil {
			return c.Fail(err)
		}
		return tool.Status(found)
	}
	for _, e := range shown {
		name := string(e.IK)
		if name == "" {
			name = "TrustCenter"
		}
		mark := ""
		if !e.Verified {
			mark = "  not verified"
		}
		fmt.Fprintf(c.Stdout, "%-11s  until %s  %s%s\n", name, e.Certificate.NotAfter.UTC().Format(time.DateOnly), finding.Safe(strings.Join(e.Certificate.Subject.OrganizationalUnit, ", ")), mark)
	}
	fmt.Fprintf(c.Stdout, "%d certificates\n", len(shown))
	return c.Report(found)
}

// listed is a certificate of a directory for programs.
type listed struct {
	IK    trustcenter.IK `json:"ik,omitempty"` // none: a TrustCenter's own
	Units []string       `json:"units"`
	From  time.Time      `json:"not_before"`
	Until time.Time      `json:"not_after"`
	// Serial is the serial number in hexadecimal digits.
	Serial string `json:"serial"`
	// Verified: a TrustCenter issued it, see the findings about who vouches for that. Usable: it is valid, too.
	Verified bool `json:"verified"`
	Usable   bool `json:"usable"`
}

// done notes a step.
func done(_ context.Context, c *tool.Call) int {
	day := c.Flags.String("on", c.Now().Format(time.DateOnly), "`day`, YYYY-MM-DD")
	undo := c.Flags.Bool("undo", false, "take the note back")
	c.Flags.Usage = func() {
		fmt.Fprint(c.Stderr, "usage: adv-server trustcenter done [options] STEP\n\nNotes that a step was done outside of this tool, by its number in `adv-server trustcenter status`.\n\n")
		c.Flags.PrintDefaults()
	}
	if status, done := c.Parse(1, 1); done {
		return status
	}
	n, err := strconv.Atoi(c.Flags.Arg(0))
	if err != nil {
		return c.Fail(fmt.Errorf("%q is no number of a step", c.Flags.Arg(0)))
	}
	if *undo {
		*day = ""
	} else if *day == "" {
		return c.Fail(errors.New("name the day with --on as YYYY-MM-DD"))
	}
	if err := trustcenter.Note(*c.Config, n, *day); err != nil {
		return c.Fail(err)
	}
	c.Say("noted; next: `adv-server trustcenter status`\n")
	return tool.Clean
}

// report is what status writes for programs.
type report struct {
	Steps    []trustcenter.Step `json:"steps"`
	Next     int                `json:"next,omitempty"`
	Expires  time.Time          `json:"certificate_expires,omitzero"`
	Findings finding.List       `json:"findings"`
}

// status shows the steps and the end of the certificate, in the log and as a figure, too.
func status(_ context.Context, c *tool.Call) int {
	metrics := c.Flags.String("metrics", "", "write the figures to this `file` for the node exporter's textfile collector")
	if status, done := c.Parse(0, 0); done {
		return status
	}
	s, err := trustcenter.LoadSheet(*c.Config)
	if err != nil {
		return c.Fail(err)
	}
	state, err := s.Status()
	if err != nil {
		return c.Fail(err)
	}
	about := s.Check(c.Now())
	if state.Current { // nothing is applied for
		about = using.relax(about)
	}
	r := report{Steps: state.Steps, Findings: append(finding.List{}, about.At(*c.Config, 0, "")...)} // a list in JSON also where it is empty
	r.Findings = append(r.Findings, state.Findings...)
	files, err := s.Files()
	if err != nil {
		return c.Fail(err)
	}
	for _, path := range files.Directories {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var b []byte
		if err == nil {
			b, err = tool.ReadFile(path, maxFile)
		}
		if err != nil { // it ends the way of no application
			r.Findings = append(r.Findings, finding.Finding{Code: "VZ-FORM", Severity: finding.Error, Source: path, What: "cannot be read: " + err.Error(), Fix: "fetch the directory anew: `mail directory`"})
			continue
		}
		d := trustcenter.ParseDirectory(b, path)
		r.Findings = append(append(r.Findings, d.Findings...), d.Reminders(info.ModTime(), c.Now())...)
	}
	cert := state.Certificate
	if cert != nil {
		r.Expires = cert.NotAfter.UTC()
		ends := trustcenter.Expiry(cert, c.Now())
		r.Findings = append(r.Findings, ends...)
		log := slog.New(slog.NewTextHandler(c.Stderr, nil))
		for _, f := range ends {
			log.Warn("trustcenter certificate", "code", string(f.Code), "not_after", r.Expires.Format(time.RFC3339), "days", int(r.Expires.Sub(c.Now())/(24*time.Hour)))
		}
	}
	for _, st := range r.Steps {
		if !st.Done && r.Next == 0 {
			r.Next = st.Number
		}
	}
	if *metrics != "" {
		if err := writeMetrics(*metrics, r); err != nil {
			return c.Fail(err)
		}
	}
	if *c.JSON {
		if err := c.WriteJSON(r); err != nil {
			return c.Fail(err)
		}
		return tool.Status(r.Findings)
	}
	for _, st := range r.Steps {
		mark := " "
		switch {
		case st.Done:
			mark = "x"
		case st.Number == r.Next:
			mark = ">"
		}
		fmt.Fprintf(c.Stdout, "%s %2d  %-47s %s\n", mark, st.Number, st.Title, st.Day)
		if st.Number == r.Next {
			fmt.Fprintf(c.Stdout, "      turn: %s\n      %s\n", st.Turn, st.Do)
			if st.Made != "" {
				fmt.Fprintf(c.Stdout, "      the file was written on %s\n", st.Made)
			}
			if st.Number != trustcenter.StepCertificate {
				fmt.Fprintf(c.Stdout, "      when it is done: `adv-server trustcenter done %d`\n", st.Number)
			}
		}
	}
	if cert != nil {
		fmt.Fprintf(c.Stdout, "certificate valid until %s. If the private key may be known to others, have the certificate revoked at once: %s\n", r.Expires.Format(time.DateOnly), trustcenter.Contact)
	}
	return c.Report(r.Findings)
}

// writeMetrics writes the figures of a status.
func writeMetrics(path string, r report) error {
	reg := prometheus.NewRegistry()
	gauge := func(name, help string, v float64) {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "adv_trustcenter", Name: name, Help: help})
		g.Set(v)
		reg.MustRegister(g)
	}
	gauge("next_step", "Number of the step that comes next, 0 when all are done.", float64(r.Next))
	if !r.Expires.IsZero() {
		gauge("certificate_expiry_timestamp_seconds", "End of the certificate, in seconds since 1970.", float64(r.Expires.Unix()))
	}
	return prometheus.WriteToTextfile(path, reg)
}
