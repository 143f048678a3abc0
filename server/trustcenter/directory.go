package trustcenter

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"ktradv/internal/cms"
	"ktradv/server/internal/finding"
)

// Bounds of a directory. The published ones have less than one million octets, some hundred entries and one TrustCenter.
const (
	maxDirectory = 32 << 20 // octets
	maxEntries   = 20_000
	maxDamaged   = 50 // findings about blocks
	maxIssuers   = 64 // certificates of TrustCenters that are tried
)

// Entry is a certificate of a directory.
type Entry struct {
	IK          IK // "" for a TrustCenter's own certificate
	Certificate *x509.Certificate
	Block       int // its number in the file
}

// Directory is a list of the receiving offices' keys (annahme-rsa4096.key, pkv-rsa4096.key).
type Directory struct {
	Entries  []Entry
	Findings finding.List
}

// ParseDirectory reads a directory: certificates in base64, apart by blank lines, with any line ends; also PEM and certs-only
// messages. A damaged block is named and skipped, the rest is kept.
func ParseDirectory(b []byte, source string) (d Directory) {
	bad := 0
	damaged := func(block int, what string) {
		if bad++; bad == maxDamaged {
			what, block = "so many blocks are damaged that the others are not named", 0
		} else if bad > maxDamaged {
			return
		}
		d.Findings = append(d.Findings, finding.Finding{Code: "VZ-BLOCK", Severity: finding.Warning, Source: source, Line: block, Field: fmt.Sprintf("block %d", block),
			What: what, Fix: "fetch the directory anew; the other entries are used"})
	}
	add := func(der []byte, block int) {
		if len(d.Entries) == maxEntries {
			damaged(block, fmt.Sprintf("more than %d entries", maxEntries))
			return
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			damaged(block, "no certificate: "+err.Error())
			return
		}
		d.Entries = append(d.Entries, Entry{ikOf(c), c, block})
	}
	if len(b) > maxDirectory {
		d.Findings = finding.List{{Code: "VZ-FORM", Severity: finding.Error, Source: source, What: fmt.Sprintf("longer than %d octets", maxDirectory), Fix: "name the directory file itself"}}
		return d
	}
	switch {
	case bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN")):
		for n, rest := 1, b; ; n++ {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				if len(bytes.TrimSpace(rest)) > 0 {
					damaged(n, "no PEM block")
				}
				break
			}
			if block.Type == "PKCS7" || block.Type == "CMS" {
				d.message(block.Bytes, add, damaged)
			} else {
				add(block.Bytes, n)
			}
		}
	case len(b) > 0 && b[0] == 0x30:
		d.message(b, add, damaged)
	default:
		b, _, _ = bytes.Cut(b, []byte{0x1a}) // Ctrl-Z ends files of that world
		text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(b))
		n := 0
		for block := range strings.SplitSeq(text, "\n\n") {
			if strings.TrimSpace(block) == "" {
				continue
			}
			n++
			der, err := decodeBase64([]byte(block))
			if err != nil {
				damaged(n, "damaged base64: "+err.Error())
				continue
			}
			add(der, n)
		}
	}
	if len(d.Entries) == 0 {
		d.Findings = append(d.Findings, finding.Finding{Code: "VZ-LEER", Severity: finding.Error, Source: source, What: "no certificate was found", Fix: "name a file like " + DirectoryGKV})
	}
	return d
}

// message adds the certificates of a certs-only message.
func (d *Directory) message(der []byte, add func([]byte, int), damaged func(int, string)) {
	certs, err := cms.ParseCertificates(der)
	if err != nil {
		damaged(1, err.Error())
	}
	for i, c := range certs {
		add(c, i+1)
	}
}

// Find returns the entries of an IK, the one to use first: valid now before others, newer before older.
func (d Directory) Find(ik IK, now time.Time) []Entry {
	var out []Entry
	for _, e := range d.Entries {
		if e.IK == ik {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b Entry) int {
		if va, vb := valid(a.Certificate, now), valid(b.Certificate, now); va != vb {
			return map[bool]int{true: -1, false: 1}[va]
		}
		return b.Certificate.NotBefore.Compare(a.Certificate.NotBefore)
	})
	return out
}

func valid(c *x509.Certificate, now time.Time) bool {
	return !now.Before(c.NotBefore) && now.Before(c.NotAfter)
}

// Verify judges the entries: who issued them, their times, the first end to come.
func (d Directory) Verify(source string, now time.Time) (found finding.List) {
	add := func(sev finding.Severity, code finding.Code, e Entry, what, fix string) {
		found = append(found, finding.Finding{Code: code, Severity: sev, Source: source, Field: fmt.Sprintf("block %d (%s)", e.Block, e.Certificate.Subject), What: what, Fix: fix})
	}
	var issuers []*x509.Certificate
	for _, e := range d.Entries {
		if e.IK == "" && !notCA(e.Certificate) && len(issuers) < maxIssuers {
			issuers = append(issuers, e.Certificate)
		}
	}
	var first Entry
	for _, e := range d.Entries {
		c := e.Certificate
		issued := slices.ContainsFunc(issuers, func(k *x509.Certificate) bool {
			return bytes.Equal(k.RawSubject, c.RawIssuer) && k.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
		})
		switch {
		case !issued && len(issuers) > 0:
			add(finding.Warning, "VZ-KETTE", e, "no TrustCenter in this directory issued it", "do not encrypt for it before that is explained")
		case !valid(c, now) && len(d.Find(e.IK, now)) > 0 && valid(d.Find(e.IK, now)[0].Certificate, now):
			// It was renewed: the other one is used.
		case now.Before(c.NotBefore):
			add(finding.Info, "VZ-ZEIT", e, "valid only from "+c.NotBefore.UTC().Format(time.DateOnly), "nothing")
		case !now.Before(c.NotAfter):
			add(finding.Warning, "VZ-ZEIT", e, "expired on "+certificateEnd(c), "fetch the directory anew: `mail directory`")
		case first.Certificate == nil || c.NotAfter.Before(first.Certificate.NotAfter):
			first = e
		}
	}
	if len(issuers) == 0 {
		found = append(found, finding.Finding{Code: "VZ-KETTE", Severity: finding.Warning, Source: source, What: "the directory has no TrustCenter certificate: nothing vouches for its entries", Fix: "fetch it from the TrustCenter itself"})
	}
	if first.Certificate != nil && first.Certificate.NotAfter.Before(now.AddDate(0, 0, warnDirectory)) {
		add(finding.Warning, "VZ-ENDE", first, "ends on "+certificateEnd(first.Certificate), "fetch the directory anew before: `mail directory`")
	}
	return found
}
