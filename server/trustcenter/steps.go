package trustcenter

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"ktradv/server/internal/finding"
	"ktradv/server/internal/keepfile"
)

// Turn says who has to act.
type Turn string

// The turns.
const (
	Mine   Turn = "you"
	Theirs Turn = "the other side"
)

// step is one of the eleven steps of the procedure.
type step struct {
	Title string
	Turn  Turn
	// By names the files of the step; nil: it has none.
	By func(f Files) []string
	// Outside: the file is not all of it, somebody has to send or upload it. Such a step is done when that is noted in the data
	// sheet, or when what comes after it is there.
	Outside bool
	// Do says what to do, or what happens.
	Do string
}

// stepTexts are the steps as the DKTIG describes them (DKTIG-01..32); the number is the place in the list.
var stepTexts = []step{
	{"IK for test procedures", Mine, nil, false, "Apply at the ARGE IK for an IK of its own, class \"" + IKClass + "\"; keep the letter."},
	{"TrustCenter contract", Mine, nil, false, "Close a contract with the DKTIG: " + Contact + "."},
	{"Account in the service portal", Mine, nil, false, "www.dktig-serviceportal.de, with your personal e-mail address and the names as in your identity document. Second factor: TOTP (a new code every 30 seconds); SMS (a code for 60 seconds) is being retired."},
	{"Identification (POSTIDENT)", Mine, nil, false, "Check that the portal shows your data as the document does, then branch, video chat or online ID function."},
	{"Appointment as Schlüsselverantwortlicher", Theirs, nil, false, "Upload the form signed by the authorised representative and confirm with the second factor; the DKTIG checks it, maybe by telephone. Wait for \"umgesetzt\" before step 8."},
	{"Check of the data", Mine, nil, false, "`adv-server trustcenter check`: IK, organisation, person and TrustCenter name, without umlauts and special characters. Nothing is generated before it is clean."},
	{"Key pair and request", Mine, func(f Files) []string { return []string{f.Request} }, true, "`adv-server trustcenter request`, then `mail request` and send the draft to " + Address + " (or by FTAM to " + FTAM + "). The private key stays with you."},
	{"Application in the portal", Mine, func(f Files) []string { return []string{f.PDF} }, true, "`adv-server trustcenter fingerprint`, sign the PDF, upload it, confirm the seven declarations with the second factor: protection of the private key, secrecy of passwords and PINs, their change on suspicion, revocation on compromise, revocation by the DKTIG, check of certificates against the revocation list at your discretion, publication."},
	{"Check by the TrustCenter", Theirs, nil, false, "The TrustCenter compares request and fingerprint, and the institution with the directory of the ARGE IK and its SMC-B."},
	{"Certificate", Theirs, func(f Files) []string { return []string{f.Certificate} }, false, "It comes to the sender of the request; `mail certificate` asks for it. Then `adv-server trustcenter import FILE.p7c`."},
	{"Publication and keys of the receiving offices", Mine, func(f Files) []string { return f.Directories }, false, "The certificate is published in the afternoon of that day. `mail directory` asks for the receiving offices' keys; look at them with `adv-server trustcenter directory`."},
}

// Files are the files of an application.
type Files struct {
	KeyName                           string // in the key store
	Request, PDF, Certificate, Folder string
	// Drafts are the e-mails about this request.
	Drafts      []string
	Directories []string // of the receiving offices
}

// Draft is the file of an e-mail.
func (f Files) Draft(kind string) string { return filepath.Join(f.Folder, kind+".eml") }

// Files names the files.
func (s Sheet) Files() (Files, error) {
	ik, err := ParseIK(s.IK)
	if err != nil {
		return Files{}, err
	}
	at := func(name string) string { return filepath.Join(s.Folder, name) }
	f := Files{
		KeyName: "trustcenter-" + string(ik), Folder: s.Folder,
		Request: at(ik.FileName(".p10")), PDF: at(ik.FileName("-fingerprint.pdf")), Certificate: at(ik.FileName(".pem")), Directories: []string{at(DirectoryGKV), at(DirectoryPKV)},
	}
	f.Drafts = []string{f.Draft("request"), f.Draft("certificate")}
	return f, nil
}

// Step is where one step stands.
type Step struct {
	Number int    `json:"number"`
	Title  string `json:"title"`
	Turn   Turn   `json:"turn"`
	Done   bool   `json:"done"`
	Day    string `json:"day,omitempty"`
	// Made is the day of the step's file, where the step needs more than that.
	Made string `json:"made,omitempty"`
	Do   string `json:"do"`
}

// Status is where an application stands.
type Status struct {
	Steps []Step
	// Certificate is the imported one, nil where there is none or it cannot be read. Current says that it answers the present
	// request.
	Certificate *x509.Certificate
	Current     bool
	// Findings are about the files: what is damaged, or does not belong together.
	Findings finding.List
}

// Status returns where the application stands, by the notes of the data sheet and by its files. Damaged files are findings: the
// rest is shown all the same.
func (s Sheet) Status() (st Status, err error) {
	files, err := s.Files()
	if err != nil {
		return st, err
	}
	state, err := s.files(files)
	if err != nil {
		return st, err
	}
	st.Certificate, st.Current, st.Findings = state.certificate, state.current, state.found
	for i, t := range stepTexts {
		step := Step{Number: i + 1, Title: t.Title, Turn: t.Turn, Do: t.Do, Day: s.Done[i+1]}
		day := ""
		if t.By != nil {
			day = fileDay(t.By(files), time.Time{})
		}
		switch {
		case i+1 == StepCertificate:
			if !state.current {
				step.Day = ""
			} else if step.Day == "" {
				step.Day = day
			}
		case i+1 == stepApplication && state.otherPage:
			step.Day = "" // what was uploaded, if anything, is not the page of this request
		case i+1 == stepPublication:
			if step.Day == "" && state.current { // a directory that was fetched for a former certificate is none of this one's way
				step.Day = fileDay(t.By(files), state.requested)
			}
		case t.Outside:
			step.Made = day
		case step.Day == "":
			step.Day = day
		}
		step.Done = step.Day != ""
		st.Steps = append(st.Steps, step)
	}
	// What comes after a step shows that it was made.
	for _, p := range []struct{ earlier, later int }{{9, StepCertificate}, {8, StepCertificate}, {7, StepCertificate}, {7, 8}, {6, 7}} {
		if e, l := &st.Steps[p.earlier-1], st.Steps[p.later-1]; !e.Done && l.Done {
			e.Done, e.Day = true, l.Day
		}
	}
	if e, made := &st.Steps[5], st.Steps[6].Made; !e.Done && made != "" { // no key without a clean data sheet
		e.Done, e.Day = true, made
	}
	return st, nil
}

// StepCertificate is the step at whose end the certificate is there, which only the file shows; in stepKey key and request are
// made, in stepApplication the page is uploaded, and stepPublication is the last.
const (
	stepKey         = 7
	stepApplication = 8
	StepCertificate = 10
	stepPublication = 11
)

// fileDay is the day of the first of the files that is there and not older than some time.
func fileDay(names []string, since time.Time) string {
	for _, n := range names {
		if info, err := os.Stat(n); err == nil && !info.ModTime().Before(since) {
			return info.ModTime().UTC().Format(time.DateOnly)
		}
	}
	return ""
}

// fileState is what the files of an application say.
type fileState struct {
	certificate *x509.Certificate
	current     bool      // the certificate is that of the present request
	otherPage   bool      // the page with the fingerprint is that of another request
	requested   time.Time // when the request was written
	found       finding.List
}

// files reads request, page and certificate.
func (s Sheet) files(f Files) (st fileState, err error) {
	request, err := readFile(f.Request, maxRequest)
	if err != nil {
		return st, err
	}
	var key crypto.PublicKey
	if request != nil {
		info, err := os.Stat(f.Request)
		if err != nil {
			return st, err
		}
		st.requested = info.ModTime()
		st.found = append(st.found, CheckRequest(request, &s).At(f.Request, 0, "")...)
		if r, err := readRequest(request); err == nil {
			key = r.PublicKey
			if err := s.page(&st, f.PDF, request); err != nil {
				return st, err
			}
		}
	}
	b, err := readFile(f.Certificate, maxAnswer)
	if err != nil || b == nil {
		return st, err
	}
	fail := func(what string) (fileState, error) {
		st.certificate = nil
		st.found = append(st.found, finding.Finding{Code: "TC-ZERTIFIKAT", Severity: finding.Error, Source: f.Certificate, What: what,
			Fix: "take the TrustCenter's answer over once more: `adv-server trustcenter import --force FILE.p7c`"})
		return st, nil
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" {
		return fail("the file is damaged: it does not begin with a certificate (PEM)")
	}
	st.certificate, err = x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fail("the certificate is damaged: " + err.Error())
	}
	if ik, err := ParseIK(s.IK); err == nil && ikOf(st.certificate) != ik {
		return fail("this is not a certificate for IK " + string(ik))
	}
	if key != nil && !sameKey(st.certificate, key) {
		st.found = append(st.found, finding.Finding{Code: "TC-NACHFOLGER", Severity: finding.Info, Source: f.Certificate, What: "the present certificate is of a former key; the request for the next one is under way",
			Fix: "use the former key and this certificate until the next one is imported"})
		return st, nil
	}
	st.current = true
	return st, nil
}

// page compares what the page with the fingerprint says with the request (DKTIG-27).
func (s Sheet) page(st *fileState, path string, request []byte) error {
	page, err := readFile(path, maxPDF)
	if err != nil || page == nil {
		return err
	}
	want, err := Fingerprint(request)
	if err != nil {
		return nil // CheckRequest says it
	}
	add := func(sev finding.Severity, what, fix string) {
		st.found = append(st.found, finding.Finding{Code: "TC-PDF", Severity: sev, Source: path, What: what, Fix: fix})
	}
	const anew = "write the page anew with `adv-server trustcenter fingerprint --force`, sign it and upload that one"
	switch got, err := ReadPDF(page); {
	case err != nil:
		add(finding.Warning, "the hashes on the page cannot be compared with the request: "+err.Error(), "compare them yourself: `adv-server trustcenter fingerprint --compare HASH`")
	case got.Key != want.Key:
		st.otherPage = true
		add(finding.Error, "the hash of the public key on the page is that of another request", anew)
	case got.Request != want.Request:
		st.otherPage = true
		add(finding.Error, "the hash of the request on the page is that of another request with this key", anew)
	}
	return nil
}

// readFile reads a file of at most max octets, nil where there is none.
func readFile(name string, max int64) ([]byte, error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, max+1))
}

// Note notes in the data sheet that a step was done on a day; "" takes the note back. Nothing else of the sheet changes.
func Note(path string, step int, day string) error {
	if step < 1 || step > len(stepTexts) {
		return fmt.Errorf("there is no step %d: name one from 1 to %d", step, len(stepTexts))
	}
	if day != "" {
		if _, err := time.Parse(time.DateOnly, day); err != nil {
			return fmt.Errorf("%q is no day: write it as YYYY-MM-DD", day)
		}
	}
	return edit(path, func(s *Sheet) {
		if day == "" {
			delete(s.Done, step)
			return
		}
		if s.Done == nil {
			s.Done = map[int]string{}
		}
		s.Done[step] = day
	})
}

// Again takes back the notes of what has to be done once more for a new key.
func Again(path string) error {
	return edit(path, func(s *Sheet) {
		for n := stepKey; n <= len(stepTexts); n++ {
			delete(s.Done, n)
		}
	})
}

// edit changes a data sheet; its paths stay as they are written.
func edit(path string, change func(*Sheet)) error {
	s, err := readSheet(path)
	if err != nil {
		return err
	}
	change(&s)
	b, err := s.Encode()
	if err != nil {
		return err
	}
	return keepfile.Replace(path, b, 0o600)
}

// Encode writes a data sheet.
func (s Sheet) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSheet, err)
	}
	return append(b, '\n'), nil
}

// maxSheet bounds a data sheet in octets.
const maxSheet = 64 << 10

// ErrSheet is wrapped by errors about a data sheet's file.
var ErrSheet = errors.New("data sheet")

// LoadSheet reads a data sheet. Relative folders are relative to its own.
func LoadSheet(path string) (Sheet, error) {
	s, err := readSheet(path)
	if err != nil {
		return Sheet{}, err
	}
	for _, p := range []*string{&s.Keys, &s.Folder} {
		if !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(path), *p)
		}
	}
	return s, nil
}

func readSheet(path string) (Sheet, error) {
	b, err := readFile(path, maxSheet)
	switch {
	case err != nil:
		return Sheet{}, fmt.Errorf("%w: %w", ErrSheet, err)
	case b == nil:
		return Sheet{}, fmt.Errorf("%w: %s: %w; next: make one with `adv-server trustcenter init`", ErrSheet, path, fs.ErrNotExist)
	case len(b) > maxSheet:
		return Sheet{}, fmt.Errorf("%w %s: longer than %d octets", ErrSheet, path, maxSheet)
	}
	s, err := parseSheet(b)
	if err != nil {
		return Sheet{}, fmt.Errorf("%w %s: %w", ErrSheet, path, err)
	}
	return s, nil
}

func parseSheet(b []byte) (Sheet, error) {
	s := Sheet{TrustCenter: DKTIG, Keys: "keys", Folder: "."}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return s, errors.New("something follows the object")
	}
	return s, nil
}
