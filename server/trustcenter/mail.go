package trustcenter

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/wneessen/go-mail"
)

// Draft is an e-mail of the procedure: written to a file that a mail program opens, never sent by this program.
type Draft struct {
	From, To, Subject string
	// Body is plain text. The TrustCenter's responder reads commands from the body, one per mail, without a signature below.
	Body string
	// Attachment is a file to attach, nil for none.
	Attachment []byte
	FileName   string
	Date       time.Time
}

// RequestDraft sends the request (DKTIG-16). The subject is the one that TrustCenters of this kind knew, the body is empty:
// the texts describe neither.
func RequestDraft(s Sheet, request []byte, now time.Time) (Draft, error) {
	ik, err := ParseIK(s.IK)
	if err != nil {
		return Draft{}, err
	}
	return Draft{From: s.Email, To: Address, Subject: "Zertifizierungsanfrage fuer " + string(ik), Attachment: request, FileName: ik.FileName(".p10"), Date: now}, nil
}

// CertificateDraft asks the responder for the certificate (DKTIG-29).
func CertificateDraft(s Sheet, now time.Time) (Draft, error) {
	ik, err := ParseIK(s.IK)
	if err != nil {
		return Draft{}, err
	}
	return Draft{From: s.Email, To: Address, Body: "send " + ik.FileName(".p7c"), Date: now}, nil
}

// The directories of the receiving offices (DKTIG-32).
const (
	DirectoryGKV = "annahme-rsa4096.key"
	DirectoryPKV = "pkv-rsa4096.key"
)

// DirectoryDraft asks the responder for a directory.
func DirectoryDraft(s Sheet, name string, now time.Time) (Draft, error) {
	if name != DirectoryGKV && name != DirectoryPKV {
		return Draft{}, fmt.Errorf("directory %q is not %s or %s", name, DirectoryGKV, DirectoryPKV)
	}
	return Draft{From: s.Email, To: Address, Body: "send " + name, Date: now}, nil
}

// Write writes the draft as .eml.
func (d Draft) Write(w io.Writer) error {
	m := mail.NewMsg(mail.WithEncoding(mail.NoEncoding), mail.WithNoDefaultUserAgent())
	if err := m.From(d.From); err != nil {
		return fmt.Errorf("sender: %w", err)
	}
	if err := m.To(d.To); err != nil {
		return fmt.Errorf("receiver: %w", err)
	}
	m.Subject(d.Subject)
	m.SetDateWithValue(d.Date)
	m.SetGenHeader("X-Unsent", "1") // mail programs open it as a draft
	m.SetMessageIDWithValue(fmt.Sprintf("%d.trustcenter@adv-server.invalid", d.Date.UnixNano()))
	m.SetBodyString(mail.TypeTextPlain, d.Body+"\r\n")
	if d.Attachment != nil {
		if err := m.AttachReader(d.FileName, bytes.NewReader(d.Attachment), mail.WithFileContentType("application/pkcs10")); err != nil {
			return fmt.Errorf("attachment: %w", err)
		}
	}
	if _, err := m.WriteTo(w); err != nil {
		return fmt.Errorf("write mail: %w", err)
	}
	return nil
}
