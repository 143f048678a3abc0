package trustcenter

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
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
	// By says which file shows that the step is done; nil: it is noted in the data sheet.
	By func(f Files) string
	// Do says what to do, or what happens.
	Do string
}

// stepTexts are the steps as the DKTIG describes them (DKTIG-01..32); the number is the place in the list.
var stepTexts = []step{
	{"IK for test procedures", Mine, nil, "Apply at the ARGE IK for an IK of its own, class \"" + IKClass + "\"; keep the letter."},
	{"TrustCenter contract", Mine, nil, "Close a contract with the DKTIG: " + Contact + "."},
	{"Account in the service portal", Mine, nil, "www.dktig-serviceportal.de, with your personal e-mail address and the names as in your identity document. Second factor: TOTP (a new code every 30 seconds); SMS (a code for 60 seconds) is being retired."},
	{"Identification (POSTIDENT)", Mine, nil, "Check that the portal shows your data as the document does, then branch, video chat or online ID function."},
	{"Appointment as Schlüsselverantwortlicher", Theirs, nil, "Upload the form signed by the authorised representative and confirm with the second factor; the DKTIG checks it, maybe by telephone. Wait for \"umgesetzt\" before step 8."},
	{"Check of the data", Mine, nil, "`adv-server trustcenter check`: IK, organisation, person and TrustCenter name, without umlauts and special characters. Nothing is generated before it is clean."},
	{"Key pair and request", Mine, func(f Files) string { return f.Request }, "`adv-server trustcenter request`, then `mail request` and send the draft to " + Address + " (or by FTAM to " + FTAM + "). The private key stays with you."},
	{"Application in the portal", Mine, func(f Files) string { return f.PDF }, "`adv-server trustcenter fingerprint`, sign the PDF, upload it, confirm the seven declarations with the second factor: protection of the private key, secrecy of passwords and PINs, their change on suspicion, revocation on compromise, revocation by the DKTIG, check of certificates against the revocation list at your discretion, publication."},
	{"Check by the TrustCenter", Theirs, nil, "The TrustCenter compares request and fingerprint, and the institution with the directory of the ARGE IK and its SMC-B."},
	{"Certificate", Theirs, func(f Files) string { return f.Certificate }, "It comes to the sender of the request; `mail certificate` asks for it. Then `adv-server trustcenter import FILE.p7c`."},
	{"Publication and keys of the receiving offices", Mine, func(f Files) string { return f.Directory }, "The certificate is published in the afternoon of that day. `mail directory` asks for the receiving offices' keys; look at them with `adv-server trustcenter directory`."},
}

// Files are the files of an application.
type Files struct {
	KeyName                                      string // in the key store
	Request, PDF, Certificate, Directory, Folder string
}

// Files names the files.
func (s Sheet) Files() (Files, error) {
	ik, err := ParseIK(s.IK)
	if err != nil {
		return Files{}, err
	}
	at := func(name string) string { return filepath.Join(s.Folder, name) }
	return Files{
		KeyName: "trustcenter-" + string(ik), Folder: s.Folder,
		Request: at(ik.FileName(".p10")), PDF: at(ik.FileName("-fingerprint.pdf")), Certificate: at(ik.FileName(".pem")), Directory: at(DirectoryGKV),
	}, nil
}

// Step is where one step stands.
type Step struct {
	Number int    `json:"number"`
	Title  string `json:"title"`
	Turn   Turn   `json:"turn"`
	Done   bool   `json:"done"`
	Day    string `json:"day,omitempty"`
	Do     string `json:"do"`
}

// Steps returns where each of the eleven steps stands.
func (s Sheet) Steps() ([]Step, error) {
	files, err := s.Files()
	if err != nil {
		return nil, err
	}
	var out []Step
	for i, t := range stepTexts {
		st := Step{Number: i + 1, Title: t.Title, Turn: t.Turn, Do: t.Do, Day: s.Done[i+1]}
		if st.Day == "" && t.By != nil {
			if info, err := os.Stat(t.By(files)); err == nil {
				st.Day = info.ModTime().UTC().Format(time.DateOnly)
			}
		}
		st.Done = st.Day != ""
		out = append(out, st)
	}
	// What comes after a check of the data or of the TrustCenter shows that it was made.
	for _, p := range []struct{ earlier, later int }{{6, 7}, {9, 10}} {
		if e, l := &out[p.earlier-1], out[p.later-1]; !e.Done && l.Done {
			e.Done, e.Day = true, l.Day
		}
	}
	return out, nil
}

// maxSheet bounds a data sheet in octets.
const maxSheet = 64 << 10

// ErrSheet is wrapped by errors about a data sheet's file.
var ErrSheet = errors.New("data sheet")

// LoadSheet reads a data sheet. Relative folders are relative to its own.
func LoadSheet(path string) (Sheet, error) {
	f, err := os.Open(path)
	if err != nil {
		return Sheet{}, fmt.Errorf("%w: %w; next: make one with `adv-server trustcenter init`", ErrSheet, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSheet+1))
	if err == nil && len(b) > maxSheet {
		err = fmt.Errorf("longer than %d octets", maxSheet)
	}
	var s Sheet
	if err == nil {
		s, err = parseSheet(b)
	}
	if err != nil {
		return Sheet{}, fmt.Errorf("%w %s: %w", ErrSheet, path, err)
	}
	for _, p := range []*string{&s.Keys, &s.Folder} {
		if !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(path), *p)
		}
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

// LoadCertificate returns the imported certificate, nil where there is none yet.
func (s Sheet) LoadCertificate() (*x509.Certificate, error) {
	files, err := s.Files()
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(files.Certificate)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("certificate: %s is no PEM", files.Certificate)
	}
	return x509.ParseCertificate(block.Bytes)
}
