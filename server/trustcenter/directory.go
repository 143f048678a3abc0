package trustcenter

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ktradv/internal/ber"
	"ktradv/internal/cms"
	"ktradv/server/internal/finding"
)

// Bounds of a directory. The published ones have less than one million octets, some hundred entries and one TrustCenter.
const (
	maxDirectory = 32 << 20 // octets
	maxEntries   = 20_000
	maxNamed     = 50 // findings of a kind
	maxIssuers   = 64 // certificates of TrustCenters that are tried
)

// maxAge is how many days after it was fetched a directory is to be fetched anew. They change on occasion, not on certain days:
// this is our choice.
const maxAge = 90

// Entry is a certificate of a directory.
type Entry struct {
	IK          IK // "" for a TrustCenter's own certificate
	Certificate *x509.Certificate
	Block       int // its number in the file
	Part        int // its number in the message that the block is, 0: the block is the certificate
	// Verified says that Verify found who vouches for it; otherwise Refused says what is missing. Both say nothing of its times.
	Verified bool
	Refused  string
}

// Place says where in the file an entry stands.
func (e Entry) Place() string {
	if e.Part > 0 {
		return fmt.Sprintf("block %d, certificate %d", e.Block, e.Part)
	}
	return fmt.Sprintf("block %d", e.Block)
}

// ErrNotUsable is wrapped where nobody may encrypt for an entry.
var ErrNotUsable = errors.New("not to be used")

// Usable returns an error unless the entry is verified and valid: nobody may encrypt for another.
func (e Entry) Usable(now time.Time) error {
	switch {
	case !e.Verified:
		return fmt.Errorf("%s (%s) is %w: %s", e.Place(), e.Certificate.Subject, ErrNotUsable, cmp.Or(e.Refused, "nobody verified it"))
	case now.Before(e.Certificate.NotBefore):
		return fmt.Errorf("%s (%s) is %w: valid only from %s", e.Place(), e.Certificate.Subject, ErrNotUsable, e.Certificate.NotBefore.UTC().Format(time.DateOnly))
	case !now.Before(e.Certificate.NotAfter):
		return fmt.Errorf("%s (%s) is %w: expired on %s", e.Place(), e.Certificate.Subject, ErrNotUsable, certificateEnd(e.Certificate))
	}
	return nil
}

// Directory is a list of the receiving offices' keys (annahme-rsa4096.key, pkv-rsa4096.key).
type Directory struct {
	Entries  []Entry
	Findings finding.List

	source  string
	damages int
}

// ParseDirectory reads a directory: certificates in base64, apart by blank lines, with any line ends; also PEM and certs-only
// messages in all their forms. A damaged block is named and skipped, the rest is kept.
func ParseDirectory(b []byte, source string) *Directory {
	d := &Directory{source: source}
	if len(b) > maxDirectory {
		d.Findings = finding.List{{Code: "VZ-FORM", Severity: finding.Error, Source: source, What: fmt.Sprintf("longer than %d octets", maxDirectory), Fix: "name the directory file itself"}}
		return d
	}
	if len(b) > 1 && b[0] == 0x30 && b[1]&0x80 != 0 { // DER or BER; no text begins so
		d.block(b, 1)
	} else {
		d.text(b)
	}
	if len(d.Entries) == 0 {
		d.Findings = append(d.Findings, finding.Finding{Code: "VZ-LEER", Severity: finding.Error, Source: source, What: "no certificate was found", Fix: "name a file like " + DirectoryGKV})
	}
	return d
}

// damaged notes what is wrong with a block.
func (d *Directory) damaged(place Entry, what string) {
	field := place.Place()
	if d.damages++; d.damages == maxNamed {
		what, field = "so many blocks are damaged that the others are not named", ""
	} else if d.damages > maxNamed {
		return
	}
	d.Findings = append(d.Findings, finding.Finding{Code: "VZ-BLOCK", Severity: finding.Warning, Source: d.source, Field: field, What: what, Fix: "fetch the directory anew; the other entries are used"})
}

// text reads the blocks of a text: PEM blocks with whatever is written between them, and bare base64, apart by blank lines.
func (d *Directory) text(b []byte) {
	b = bytes.TrimPrefix(b, byteOrderMark)
	b, _, _ = bytes.Cut(b, []byte{0x1a}) // Ctrl-Z ends files of that world
	lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(b)), "\n")
	isPEM := false
	for i, l := range lines {
		lines[i] = strings.TrimSpace(l)
		isPEM = isPEM || strings.HasPrefix(lines[i], pemBegin)
	}
	n := 0
	var bare []string
	judged := false // the line before ended a block
	flush := func() {
		judged = len(bare) > 0
		if judged {
			n++
			if der, err := decodeBase64([]byte(strings.Join(bare, ""))); err != nil {
				d.damaged(Entry{Block: n}, "damaged base64: "+err.Error())
			} else {
				d.block(der, n)
			}
		}
		bare = bare[:0]
	}
	remark := func() { // between PEM blocks stands what people like
		if isPEM && !slices.ContainsFunc(bare, looksEncoded) {
			bare = bare[:0]
		}
	}
	for i := 0; i < len(lines); i++ {
		switch l := lines[i]; {
		case strings.HasPrefix(l, pemBegin):
			remark()
			flush()
			n++
			end := i + 1
			for end < len(lines) && !strings.HasPrefix(lines[end], "-----") {
				end++
			}
			if end == len(lines) || !strings.HasPrefix(lines[end], pemEnd) { // it goes on to the next blank line or block
				d.damaged(Entry{Block: n}, "damaged PEM: its end is missing")
				for i+1 < len(lines) && lines[i+1] != "" && !strings.HasPrefix(lines[i+1], "-----") {
					i++
				}
				continue
			}
			if block, _ := pem.Decode([]byte(strings.Join(lines[i:end+1], "\n") + "\n")); block != nil {
				d.block(block.Bytes, n)
			} else {
				d.damaged(Entry{Block: n}, "damaged PEM")
			}
			i, judged = end, false
		case l == "":
			remark()
			flush()
		case strings.HasPrefix(l, pemEnd): // its beginning is damaged
			if len(bare) == 0 && !judged {
				bare = append(bare, l)
			}
			flush()
		default:
			bare = append(bare, l)
			if strings.HasSuffix(l, "=") { // nothing follows in a block
				flush()
			}
		}
	}
	remark()
	flush()
}

const pemBegin, pemEnd = "-----BEGIN ", "-----END "

// looksEncoded says whether a line is one of base64 rather than a remark.
func looksEncoded(l string) bool {
	return len(l) >= 40 && strings.Trim(l, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") == ""
}

// block adds what a block holds: a certificate, or a message with certificates.
func (d *Directory) block(der []byte, n int) {
	in := ber.New(der)
	if inner, err := in.Inside(ber.Sequence); err == nil && inner.Is(ber.ObjectID) {
		certs, err := cms.ParseCertificates(der, maxEntries)
		for i, c := range certs {
			d.add(c, Entry{Block: n, Part: i + 1})
		}
		if err != nil {
			d.damaged(Entry{Block: n}, "the message is damaged: "+err.Error())
		}
		return
	}
	// One certificate, or several without a blank line between them.
	for part := 0; ; part++ {
		var one asn1.RawValue
		rest, err := asn1.Unmarshal(der, &one)
		if err == nil && one.Tag != asn1.TagSequence {
			err = errors.New("it is something else")
		}
		if err != nil {
			d.damaged(Entry{Block: n}, "no certificate: "+err.Error())
			return
		}
		place := Entry{Block: n, Part: part + 1}
		if part == 0 && len(rest) == 0 {
			place.Part = 0
		}
		d.add(one.FullBytes, place)
		if der = rest; len(der) == 0 {
			return
		}
	}
}

// add adds a certificate.
func (d *Directory) add(der []byte, place Entry) {
	if len(d.Entries) == maxEntries {
		d.damaged(place, fmt.Sprintf("more than %d entries", maxEntries))
		return
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		d.damaged(place, "no certificate: "+err.Error())
		return
	}
	place.IK, place.Certificate = ikOf(c), c
	d.Entries = append(d.Entries, place)
}

// Find returns the entries of an IK, the one to use first: usable ones before others, verified before others, newer before
// older.
func (d *Directory) Find(ik IK, now time.Time) []Entry {
	var out []Entry
	for _, e := range d.Entries {
		if e.IK == ik {
			out = append(out, e)
		}
	}
	rank := func(e Entry) int {
		switch {
		case e.Usable(now) == nil:
			return 3
		case e.Verified:
			return 2
		case valid(e.Certificate, now):
			return 1
		}
		return 0
	}
	slices.SortStableFunc(out, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(rank(b), rank(a)), b.Certificate.NotBefore.Compare(a.Certificate.NotBefore))
	})
	return out
}

// VerifyOptions say against what a directory is judged.
type VerifyOptions struct {
	// Only limits the findings to entries of this IK; "" for all. All are judged.
	Only IK
	// Roots are the SHA-256 fingerprints of TrustCenters' own certificates from a trusted source. Without one the file alone
	// vouches for its entries.
	Roots [][]byte
	// Revoked are revocation lists (DKTIG-23).
	Revoked []*x509.RevocationList
	// Fetched is when the file was fetched; zero where nobody knows.
	Fetched time.Time
	Now     time.Time
}

// Verify judges the entries: who issued them, their times, which of them stand more than once, how old the directory is, and
// the first end to come. It marks the entries that are verified.
func (d *Directory) Verify(o VerifyOptions) finding.List {
	// The lists are judged by who is vouched for, and then take some of those away.
	before := verification{d: d, o: o, named: map[finding.Code]int{}}
	before.trust(revocations{})
	lists, found := readLists(o.Revoked, before.trusted, o.Now, "VZ-SPERRLISTE")
	v := verification{d: d, o: o, named: map[finding.Code]int{}, found: found.At(d.source, 0, "")}
	v.trust(lists)
	v.entries(lists)
	v.duplicates()
	v.ages()
	return v.found
}

// verification is Verify while it runs.
type verification struct {
	d       *Directory
	o       VerifyOptions
	trusted []*x509.Certificate // TrustCenters' own
	found   finding.List
	named   map[finding.Code]int
	all     bool // entries that are not verified count, too
}

// add adds a finding about an entry, or about the file where that is nil; not more than maxNamed of a kind.
func (v *verification) add(sev finding.Severity, code finding.Code, e *Entry, what, fix string) {
	if e != nil && e.IK != "" && v.o.Only != "" && e.IK != v.o.Only {
		return
	}
	f := finding.Finding{Code: code, Severity: sev, Source: v.d.source, What: what, Fix: fix}
	if e != nil {
		f.Field = fmt.Sprintf("%s (%s)", e.Place(), e.Certificate.Subject)
		switch v.named[code]++; {
		case v.named[code] == maxNamed:
			f.Field, f.What = "", "this is so with so many entries that the others are not named"
		case v.named[code] > maxNamed:
			return
		}
	}
	v.found = append(v.found, f)
}

// gravity of an entry that is not verified: nobody takes one that is over for a good one.
func (v *verification) gravity(e *Entry) finding.Severity {
	if !v.o.Now.Before(e.Certificate.NotAfter) {
		return finding.Warning
	}
	return finding.Error
}

// trust finds the TrustCenters' certificates of the file that are vouched for: by a fingerprint, without one by itself where
// there is only one such, or by one of those.
func (v *verification) trust(lists revocations) {
	for i := range v.d.Entries {
		v.d.Entries[i].Verified, v.d.Entries[i].Refused = false, ""
	}
	var open []*Entry
	for i := range v.d.Entries {
		e := &v.d.Entries[i]
		if !mayIssue(e.Certificate) {
			continue
		}
		if len(open) == maxIssuers {
			v.add(finding.Warning, "VZ-KETTE", nil, fmt.Sprintf("the directory has more than %d certificates of TrustCenters; the others are not looked at", maxIssuers), "fetch it from the TrustCenter itself")
			break
		}
		open = append(open, e)
	}
	if len(open) == 0 {
		v.add(finding.Error, "VZ-KETTE", nil, "the directory has no TrustCenter certificate: nothing vouches for its entries", "fetch it from the TrustCenter itself")
	}
	fits := func(e *Entry) string {
		c := e.Certificate
		at, revoked := lists.revoked(c)
		switch {
		case revoked:
			return "it was revoked on " + at.UTC().Format(time.DateOnly)
		case len(c.UnhandledCriticalExtensions) > 0:
			return unknownExtension(c)
		case !longKey(c, minKeyBits):
			return fmt.Sprintf("its key is not RSA with at least %d bits", minKeyBits)
		case !valid(c, v.o.Now):
			return "it is not valid now"
		}
		return ""
	}
	var news []*Entry
	below := map[*Entry]int{} // how many CAs may stand one under the other below it
	accept := func(e *Entry, most int) {
		if e.Refused = fits(e); e.Refused == "" {
			e.Verified = true
			below[e] = min(most, pathLimit(e.Certificate))
			v.trusted = append(v.trusted, e.Certificate)
			news = append(news, e)
		}
	}
	var selves []*Entry // that vouch for themselves
	for _, e := range open {
		switch c := e.Certificate; {
		case named(c, v.o.Roots...):
			accept(e, maxIssuers)
		case len(v.o.Roots) == 0 && selfSigned(c) && pssSigned(c.SignatureAlgorithm):
			if e.Refused = fits(e); e.Refused == "" {
				selves = append(selves, e)
			}
		}
	}
	for _, e := range selves {
		const fix = "compare the fingerprint with the TrustCenter's publication, then name it with --root"
		sum := sha256.Sum256(e.Certificate.Raw)
		if len(selves) > 1 { // anybody could have put one of them there
			e.Refused = "it is one of several that nothing but the file itself vouches for"
			v.add(finding.Error, "VZ-WURZEL", e, fmt.Sprintf("several certificates of the file vouch for themselves, this one (SHA-256 %x) among them: which is the TrustCenter's cannot be known", sum), fix)
			continue
		}
		accept(e, maxIssuers)
		v.add(finding.Warning, "VZ-WURZEL", e, fmt.Sprintf("nothing but the file itself says that this certificate (SHA-256 %x) is the TrustCenter's", sum), fix)
	}
	for len(news) > 0 {
		by := news[0]
		news = news[1:]
		for _, e := range open {
			switch {
			case below[by] == 0 || e.Verified || e.Refused != "" || !signed(by.Certificate, e.Certificate) || !pssSigned(e.Certificate.SignatureAlgorithm):
			case !saysCA(e.Certificate):
				e.Refused = "a TrustCenter issued it, but it neither has an IK nor is it one of a CA"
			default:
				accept(e, below[by]-1)
			}
		}
	}
	for _, e := range open {
		if e.Verified || len(selves) > 1 && slices.Contains(selves, e) {
			continue
		}
		sum := sha256.Sum256(e.Certificate.Raw)
		if e.Refused == "" && len(v.o.Roots) > 0 {
			e.Refused = fmt.Sprintf("its fingerprint (SHA-256 %x) was not named with --root, and no certificate that was issued it", sum)
		} else if e.Refused == "" {
			e.Refused = fmt.Sprintf("it is not signed by itself, nor by a TrustCenter of the file, with RSASSA-PSS and SHA-2; its SHA-256 is %x", sum)
		}
		v.add(v.gravity(e), "VZ-KETTE", e, "this certificate of a TrustCenter is not verified: "+e.Refused, "compare its fingerprint with the TrustCenter's publication, then name it with --root; entries that it issued are not used")
	}
	if len(v.o.Roots) > 0 && !slices.ContainsFunc(v.trusted, func(c *x509.Certificate) bool { return named(c, v.o.Roots...) }) {
		v.add(finding.Error, "VZ-WURZEL", nil, "no certificate of the directory has the fingerprint that was named with --root", "this is not the directory of that TrustCenter, or the fingerprint is not that of its own certificate")
	}
}

// entries judges each entry.
func (v *verification) entries(lists revocations) {
	if len(v.o.Revoked) > 0 {
		for _, k := range v.trusted {
			if !lists.covered[string(k.RawSubject)] && slices.ContainsFunc(v.d.Entries, func(e Entry) bool {
				return bytes.Equal(e.Certificate.RawIssuer, k.RawSubject) && !bytes.Equal(e.Certificate.RawSubject, k.RawSubject)
			}) {
				v.add(finding.Warning, "VZ-SPERRLISTE", nil, fmt.Sprintf("no usable revocation list is of %s", k.Subject), "fetch it and name it with --crl, too; leaving it out is at your own risk")
			}
		}
	}
	for i := range v.d.Entries {
		e := &v.d.Entries[i]
		c := e.Certificate
		if mayIssue(c) {
			continue // judged before
		}
		at, revoked := lists.revoked(c)
		switch {
		case !slices.ContainsFunc(v.trusted, func(k *x509.Certificate) bool { return signed(k, c) }):
			e.Refused = "no verified TrustCenter of this directory issued it"
		case !pssSigned(c.SignatureAlgorithm):
			e.Refused = fmt.Sprintf("it is signed with %s, not RSASSA-PSS with SHA-2", c.SignatureAlgorithm)
		case len(c.UnhandledCriticalExtensions) > 0:
			e.Refused = unknownExtension(c)
		case !longKey(c, minKeyBits):
			e.Refused = fmt.Sprintf("its key is not RSA with at least %d bits", minKeyBits)
		case revoked:
			e.Refused = "it was revoked on " + at.UTC().Format(time.DateOnly)
			v.add(finding.Error, "VZ-GESPERRT", e, e.Refused, "do not encrypt for it; fetch the directory anew: `mail directory`")
			continue
		default:
			e.Verified = true
			continue
		}
		if len(v.trusted) > 0 { // otherwise one finding says it of all
			v.add(v.gravity(e), "VZ-KETTE", e, e.Refused, "do not encrypt for it before that is explained")
		}
	}
}

// duplicates reports what stands more than once.
func (v *verification) duplicates() {
	first := map[[sha256.Size]byte]*Entry{}
	again := map[IK][]string{}
	for i := range v.d.Entries {
		e := &v.d.Entries[i]
		sum := sha256.Sum256(e.Certificate.Raw)
		if f := first[sum]; f != nil {
			v.add(finding.Warning, "VZ-DOPPELT", e, "the same certificate stands in "+f.Place()+" already", "nothing; tell the TrustCenter")
			continue
		}
		first[sum] = e
		if e.IK != "" && (v.o.Only == "" || v.o.Only == e.IK) && e.Usable(v.o.Now) == nil {
			again[e.IK] = append(again[e.IK], e.Place())
		}
	}
	var iks []string
	for ik, places := range again {
		if len(places) > 1 {
			iks = append(iks, fmt.Sprintf("%s (%s)", ik, strings.Join(places, "; ")))
		}
	}
	if len(iks) > 0 {
		slices.Sort(iks)
		v.add(finding.Info, "VZ-MEHRFACH", nil, "several valid certificates of one IK: "+strings.Join(iks, ", "), "nothing: the newest is used")
	}
}

// Reminders are the warnings that the directory's time comes: an end within 60 days, and its age. Nothing is verified for them.
func (d *Directory) Reminders(fetched, now time.Time) (found finding.List) {
	v := verification{d: d, o: VerifyOptions{Fetched: fetched, Now: now}, named: map[finding.Code]int{}, all: true}
	v.ages()
	for _, f := range v.found {
		if f.Severity == finding.Warning && f.Code != "VZ-ZEIT" {
			found = append(found, f)
		}
	}
	return found
}

// ages judges the times: of the entries, and of the directory itself.
func (v *verification) ages() {
	var first, newest *Entry
	usable := map[IK]bool{}
	for _, e := range v.d.Entries {
		if e.IK != "" && (v.all || e.Verified) && valid(e.Certificate, v.o.Now) {
			usable[e.IK] = true
		}
	}
	for i := range v.d.Entries {
		e := &v.d.Entries[i]
		c := e.Certificate
		if !e.Verified && !v.all {
			continue // nobody uses it
		}
		if !c.NotBefore.After(v.o.Now) && (newest == nil || c.NotBefore.After(newest.Certificate.NotBefore)) {
			newest = e
		}
		switch {
		case !valid(c, v.o.Now) && usable[e.IK]:
			// The other one is used.
		case v.o.Now.Before(c.NotBefore):
			v.add(finding.Info, "VZ-ZEIT", e, "valid only from "+c.NotBefore.UTC().Format(time.DateOnly), "nothing")
		case !v.o.Now.Before(c.NotAfter):
			v.add(finding.Warning, "VZ-ZEIT", e, "expired on "+certificateEnd(c), "fetch the directory anew: `mail directory`")
		case first == nil || c.NotAfter.Before(first.Certificate.NotAfter):
			if v.o.Only == "" || e.IK == "" || e.IK == v.o.Only {
				first = e
			}
		}
	}
	if first != nil && first.Certificate.NotAfter.Before(v.o.Now.AddDate(0, 0, warnDirectory)) {
		v.add(finding.Warning, "VZ-ENDE", first, "ends on "+certificateEnd(first.Certificate), "fetch the directory anew before: `mail directory`")
	}
	var known []string
	sev, fix := finding.Info, "nothing"
	if newest != nil {
		known = append(known, "the newest certificate in it is of "+newest.Certificate.NotBefore.UTC().Format(time.DateOnly))
	}
	if !v.o.Fetched.IsZero() {
		known = append(known, "the file is of "+v.o.Fetched.UTC().Format(time.DateOnly))
		if days := int(v.o.Now.Sub(v.o.Fetched) / (24 * time.Hour)); days > maxAge {
			sev, fix = finding.Warning, "fetch the directory anew: `mail directory`"
			known = append(known, fmt.Sprintf("that is %d days ago", days))
		}
	}
	if len(known) > 0 {
		v.add(sev, "VZ-ALTER", nil, strings.Join(known, ", "), fix)
	}
}
