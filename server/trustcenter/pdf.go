package trustcenter

import (
	"bytes"
	"compress/zlib"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"codeberg.org/go-pdf/fpdf"
	"rsc.io/qr"
)

// PDF is what stands on the page with the fingerprint.
type PDF struct {
	Sheet    Sheet
	Request  []byte // the file as it is sent: DER, PEM or base64
	FileName string // of the request
	// Made is when the request was made.
	Made time.Time
}

// WritePDF writes the page that is signed and uploaded with the application (DKTIG-17): one A4 page in German, the hashes in
// groups to be read aloud, and as a QR code. It is the same to the byte for the same content.
func WritePDF(w io.Writer, p PDF) error {
	h, err := Fingerprint(p.Request)
	if err != nil {
		return err
	}
	_, form, err := decodeRequest(p.Request)
	if err != nil {
		return err
	}
	ik, err := ParseIK(p.Sheet.IK)
	if err != nil {
		return err
	}
	code, err := qr.Encode(hex.EncodeToString(h.Key[:]), qr.M)
	if err != nil {
		return fmt.Errorf("QR code: %w", err)
	}
	d := fpdf.New("P", "mm", "A4", "")
	d.SetCatalogSort(true)
	d.SetCreationDate(p.Made.UTC())
	d.SetModificationDate(p.Made.UTC())
	tr := d.UnicodeTranslatorFromDescriptor("") // cp1252
	d.SetTitle(tr("Fingerprint des Zertifikatsantrags"), false)
	d.SetMargins(20, 20, 20)
	d.SetAutoPageBreak(false, 0)
	d.AddPage()
	const left, width = 20.0, 170.0

	font := func(style string, size float64, grey int) {
		d.SetFont("Helvetica", style, size)
		d.SetTextColor(grey, grey, grey)
	}
	rule := func() {
		d.SetDrawColor(190, 190, 190)
		d.SetLineWidth(0.2)
		d.Line(left, d.GetY(), left+width, d.GetY())
		d.Ln(3.5)
	}
	font("B", 19, 0)
	d.CellFormat(width, 10, tr("Fingerprint des Zertifikatsantrags"), "", 1, "L", false, 0, "")
	font("", 10, 90)
	d.CellFormat(width, 6, tr(p.Sheet.TrustCenter), "", 1, "L", false, 0, "")
	d.Ln(4)
	rule()
	row := func(name, value string) {
		font("", 9.5, 90)
		d.CellFormat(52, 6.4, tr(name), "", 0, "L", false, 0, "")
		font("", 10.5, 0)
		if w := d.GetStringWidth(tr(value)); w > width-54 { // 64 wide letters are longer than the line
			font("", 10.5*(width-54)/w, 0)
		}
		d.CellFormat(width-52, 6.4, tr(value), "", 1, "L", false, 0, "")
	}
	row("Institutionskennzeichen", string(ik))
	row("Organisation", p.Sheet.Organisation)
	row("Schlüsselverantwortliche Person", p.Sheet.person())
	row("Schlüssel", fmt.Sprintf("RSA, %d Bit", keyBits))
	row("Signatur des Antrags", "RSASSA-PSS, SHA-256, MGF1 mit SHA-256, Salt 32")
	row("Antragsdatei", fmt.Sprintf("%s, %d Byte (%s)", p.FileName, len(p.Request), form))
	row("Antrag erzeugt am", p.Made.In(german).Format("02.01.2006, 15:04 Uhr MST"))
	d.Ln(4)
	rule()

	top := d.GetY()
	font("B", 12, 0)
	d.CellFormat(width, 7, tr("Hashwert des öffentlichen Schlüssels (SHA-256)"), "", 1, "L", false, 0, "")
	font("", 9, 90)
	d.CellFormat(width, 5, tr("über RSAPublicKey in DER; zum Vorlesen Zeile für Zeile"), "", 1, "L", false, 0, "")
	d.Ln(2)
	for i, line := range groups(h.Key) {
		font("", 9, 140)
		d.CellFormat(8, 9, fmt.Sprint(i+1), "", 0, "L", false, 0, "")
		d.SetFont("Courier", "B", 17)
		d.SetTextColor(0, 0, 0)
		d.CellFormat(100, 9, line, "", 1, "L", false, 0, "")
	}
	drawQR(d, code, left+width-46, top+12, 46)
	d.Ln(2)
	d.SetFont("Courier", "", 8.5)
	d.SetTextColor(90, 90, 90)
	d.CellFormat(width, 5, hex.EncodeToString(h.Key[:]), "", 1, "L", false, 0, "")
	d.SetY(max(d.GetY(), top+62))
	rule()
	font("B", 10.5, 0)
	d.CellFormat(width, 6, tr("Hashwert der Antragsdatei (SHA-256 über "+p.FileName+" in DER)"), "", 1, "L", false, 0, "")
	d.SetFont("Courier", "", 10.5)
	text := groups(h.Request)
	for i := 0; i < len(text); i += 2 {
		d.CellFormat(width, 5.6, text[i]+"  "+text[i+1], "", 1, "L", false, 0, "")
	}
	d.Ln(4)
	rule()
	font("", 10, 0)
	d.MultiCell(width, 5.2, tr("Ich habe den Antrag mit dem oben genannten Hashwert erzeugt. Der private Schlüssel ist gegen Zugriff und Verwendung durch Unbefugte gesichert."), "", "L", false)
	d.SetY(244)
	d.SetDrawColor(60, 60, 60)
	d.SetLineWidth(0.3)
	d.Line(left, 262, left+70, 262)
	d.Line(left+90, 262, left+width, 262)
	d.SetY(263)
	font("", 8.5, 90)
	d.CellFormat(90, 5, tr("Ort, Datum"), "", 0, "L", false, 0, "")
	d.CellFormat(80, 5, tr("Unterschrift der schlüsselverantwortlichen Person"), "", 1, "L", false, 0, "")
	d.SetY(277)
	font("", 8, 130)
	d.CellFormat(width, 4, tr("Der QR-Code enthält den Hashwert des öffentlichen Schlüssels. Diese Seite enthält nichts Geheimes."), "", 1, "L", false, 0, "")
	if err := d.Output(w); err != nil {
		return fmt.Errorf("write PDF: %w", err)
	}
	return nil
}

// maxPDF bounds a page in octets, compressed and not.
const maxPDF = 1 << 20

// ErrForeignPDF is returned for a page that this program did not write, or that was changed, for example by scanning it.
var ErrForeignPDF = errors.New("not a page of this program as it was written")

// hashLine is a line of the page with part of a hash in groups of four digits.
var hashLine = regexp.MustCompile(`\(([0-9A-F]{4}(?: {1,2}[0-9A-F]{4}){3,7})\) ?Tj`)

// ReadPDF reads the two hashes from a page as they are printed on it.
func ReadPDF(b []byte) (h Hashes, err error) {
	if len(b) > maxPDF {
		return h, ErrForeignPDF
	}
	var digits strings.Builder
	for rest, left := b, int64(maxPDF); ; {
		var data []byte
		var found bool
		if _, rest, found = bytes.Cut(rest, []byte(">>\nstream\n")); !found {
			break
		}
		if data, rest, found = bytes.Cut(rest, []byte("\nendstream")); !found {
			break
		}
		z, err := zlib.NewReader(bytes.NewReader(data))
		if err != nil {
			continue // something else than the page
		}
		text, err := io.ReadAll(io.LimitReader(z, left))
		if left -= int64(len(text)); err != nil {
			continue
		}
		for _, g := range hashLine.FindAllSubmatch(text, -1) {
			digits.WriteString(strings.ReplaceAll(string(g[1]), " ", ""))
		}
	}
	all, err := hex.DecodeString(digits.String())
	if err != nil || len(all) != len(h.Key)+len(h.Request) {
		return h, ErrForeignPDF
	}
	copy(h.Request[:], all[copy(h.Key[:], all):])
	return h, nil
}

// drawQR draws the modules of a code into a square, with the quiet zone around it left white.
func drawQR(d *fpdf.Fpdf, c *qr.Code, x, y, side float64) {
	m := side / float64(c.Size)
	d.SetFillColor(0, 0, 0)
	for row := range c.Size {
		for col := 0; col < c.Size; col++ {
			run := 0
			for col+run < c.Size && c.Black(col+run, row) {
				run++
			}
			if run > 0 {
				d.Rect(x+float64(col)*m, y+float64(row)*m, float64(run)*m, m+0.01, "F")
				col += run
			}
		}
	}
}

// certificateEnd writes the end of a certificate for people.
func certificateEnd(c *x509.Certificate) string {
	return strings.TrimSpace(c.NotAfter.UTC().Format("2006-01-02 15:04 UTC"))
}
