package verify

import (
	"bytes"
	"compress/gzip"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"ktradv/internal/brainpool"
	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
	"ktradv/server/erezept"
	"ktradv/server/trust"
)

// TrustOptions say where trust comes from and how much memory it may take.
type TrustOptions struct {
	// TSLs and VLs are files (XML, also gzip) of TSLs of the telematics infrastructure and of trusted lists of the
	// Bundesnetzagentur. Older ones are good for records of their time.
	TSLs, VLs []string
	// Anchors are files (PEM or DER) of the TSL signer CAs that are trusted.
	Anchors []string
	// Grace is how long after its end a TSL still counts, with a warning.
	Grace time.Duration
	// Test allows lists and anchors of the test PKI, and those alone.
	Test bool
	// Certificates is how many certificates, chain verdicts and status answers are kept; TableBytes bounds the precomputed
	// tables of signers' keys.
	Certificates int
	TableBytes   int
	// MaxAge is the longest age of an embedded status answer at the signing time; 0 are the defaults by profile.
	MaxAge time.Duration
	// Archive puts status answers into the reports.
	Archive bool
}

// Defaults of TrustOptions.
const (
	DefaultCertificates = 50_000
	DefaultTableBytes   = 256 << 20
)

type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(s string) error {
	*l = append(*l, s)
	return nil
}

func (o *TrustOptions) flags(flags *flag.FlagSet) {
	flags.Var((*list)(&o.TSLs), "tsl", "TSL `file`; may be given several times, older ones are good for records of their time")
	flags.Var((*list)(&o.VLs), "vl", "`file` of the trusted list of the Bundesnetzagentur (for qualified signatures)")
	flags.Var((*list)(&o.Anchors), "anchor", "`file` with the certificate of a TSL signer CA that is trusted")
	flags.DurationVar(&o.Grace, "tsl-grace", 0, "how long after its end a TSL still counts, with a warning")
	flags.BoolVar(&o.Test, "test-pki", false, "trust the test PKI instead of the one in production")
	flags.IntVar(&o.Certificates, "cache", DefaultCertificates, "how many certificates and verdicts about them are kept in memory")
	flags.IntVar(&o.TableBytes, "tables", DefaultTableBytes, "`octets` of memory for precomputed tables of signers' keys")
	flags.DurationVar(&o.MaxAge, "ocsp-max-age", 0, "longest age of an embedded status answer at the signing time; 0: 24h for the Fachdienst, 12h for doctors and pharmacies")
	flags.BoolVar(&o.Archive, "archive", false, "put the status answers themselves into the reports, for an archive")
}

// maxAnchor is the largest file with an anchor.
const maxAnchor = 64 << 10

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	head := make([]byte, 2)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	r = io.MultiReader(bytes.NewReader(head[:n]), f)
	if n == 2 && head[0] == 0x1f && head[1] == 0x8b {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		r = z
	}
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %d octets", path, limit)
	}
	return b, nil
}

func readAnchor(path string) (*x509ti.Certificate, error) {
	b, err := readBounded(path, maxAnchor)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(b); block != nil {
		b = block.Bytes
	}
	c, err := x509ti.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if !c.IsCA {
		return nil, fmt.Errorf("%s is no certificate of a CA", path)
	}
	return c, nil
}

// lists reads and verifies the lists. The signature of a TSL is judged for the time when it was issued; that of a trusted
// list by the signers that the TSLs name.
func (o *TrustOptions) lists(v x509ti.Verifier) (tsls, vls []*tsl.List, err error) {
	var anchors []*x509ti.Certificate
	for _, path := range o.Anchors {
		a, err := readAnchor(path)
		if err != nil {
			return nil, nil, fmt.Errorf("trust anchor: %w", err)
		}
		if a.TestOnly() != o.Test {
			return nil, nil, fmt.Errorf("trust anchor %s: %w (-test-pki is %t)", path, errEnvironment, o.Test)
		}
		anchors = append(anchors, a)
	}
	if len(o.TSLs) > 0 && len(anchors) == 0 {
		return nil, nil, errors.New("a TSL needs a trust anchor (-anchor)")
	}
	read := func(path string) (*tsl.List, error) {
		b, err := readBounded(path, tsl.MaxSize)
		if err != nil {
			return nil, err
		}
		l, err := tsl.Parse(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return l, nil
	}
	var signers []*x509ti.Certificate
	for _, path := range o.TSLs {
		l, err := read(path)
		if err != nil {
			return nil, nil, fmt.Errorf("read TSL: %w", err)
		}
		if l.Kind != tsl.TSL {
			return nil, nil, fmt.Errorf("%s is no TSL", path)
		}
		if _, err := l.Verify(l.Issued, anchors, v); err != nil {
			return nil, nil, fmt.Errorf("TSL %s is not to be trusted: %w", path, err)
		}
		for _, s := range l.Of(tsl.TypeVLSigner) {
			signers = append(signers, s.Certificates...)
		}
		tsls = append(tsls, l)
	}
	for _, path := range o.VLs {
		l, err := read(path)
		if err != nil {
			return nil, nil, fmt.Errorf("read trusted list: %w", err)
		}
		if l.Kind != tsl.VL {
			return nil, nil, fmt.Errorf("%s is no trusted list of the Bundesnetzagentur", path)
		}
		if err := l.VerifyVL(l.Issued, signers, v); err != nil {
			return nil, nil, fmt.Errorf("trusted list %s is not to be trusted: %w", path, err)
		}
		vls = append(vls, l)
	}
	return tsls, vls, nil
}

var errEnvironment = errors.New("the anchor belongs to the other PKI")

// open makes the checker. The returned function lets go of what it holds.
func (o *TrustOptions) open(now func() time.Time, clockSet bool) (*erezept.Checker, func(), error) {
	if o.Certificates < 1 || o.TableBytes < 0 {
		return nil, nil, errors.New("-cache and -tables: want numbers greater than zero")
	}
	tables := &brainpool.TableCache{MaxBytes: o.TableBytes}
	tsls, vls, err := o.lists(tables)
	if err != nil {
		return nil, nil, err
	}
	if len(tsls)+len(vls) == 0 {
		return nil, nil, errors.New("no trust list; name -tsl and -anchor (and -vl for qualified signatures)")
	}
	space, err := trust.NewSpace(trust.Config{TSLs: tsls, VLs: vls, Grace: o.Grace, Production: !o.Test, Clock: now})
	if err != nil {
		return nil, nil, err
	}
	c := &erezept.Checker{Space: func() *trust.Space { return space }, Clock: now, ClockSet: clockSet,
		Chains: trust.NewChainCache(o.Certificates), Certificates: erezept.NewCertificateCache(o.Certificates),
		Verifier: tables, MaxAge: o.MaxAge, Archive: o.Archive}
	return c, func() {}, nil
}
