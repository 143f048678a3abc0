package verify

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ktradv/internal/brainpool"
	"ktradv/internal/redact"
	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
	"ktradv/server/erezept"
	"ktradv/server/status"
	"ktradv/server/trust"
)

// TrustOptions say where trust comes from and how much memory it may take.
type TrustOptions struct {
	// Dir is the folder of the archive of lists, which package trust keeps: every list that was ever accepted. TSLs and VLs
	// are then accepted into it. Without it the lists are those of TSLs and VLs alone.
	Dir string
	// Update downloads TSL and trusted list into the archive: once before a batch, and from time to time by a service.
	Update bool
	// TSLURL and TSLBackup are download addresses for the time before there is a list.
	TSLURL, TSLBackup string
	// TSLs and VLs are files (XML, also gzip) of TSLs of the telematics infrastructure and of trusted lists of the
	// Bundesnetzagentur. Older ones are good for records of their time.
	TSLs, VLs []string
	// Anchors are files (PEM or DER) of the TSL signer CAs that are trusted.
	Anchors []string
	// CrossAnchor, Cross and CrossTSL are the files of a change to another trust space by cross certificate (A_17821): its
	// anchor, the certificate of that anchor's key by the one in force, and its TSL. All three or none.
	CrossAnchor, Cross, CrossTSL string
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
	// Offline asks no responder: only embedded status answers count.
	Offline bool
	// Status says how responders are asked.
	Status StatusOptions
	// Archive puts status answers into the reports.
	Archive bool
}

// StatusOptions say how the status of certificates is found out when no embedded answer counts.
type StatusOptions struct {
	// Network is "internet" (the address in the certificate) or "ti" (that of the TSL).
	Network string
	// Rate is requests per second to each responder; 0 is that of the network: 30 on the internet, 1100 in the TI.
	Rate float64
	// Timeout of one request; 0 is 10 s.
	Timeout time.Duration
	// Forwarder is the address of an OCSP forwarder for the Fachdienst's certificates; "" is none. KeyFile holds its API key,
	// Header names the header with the key, and Target says how the responder's address is passed (see status.Forwarder).
	Forwarder, KeyFile, Header, Target string
	// Wait is for how long questions wait for a responder that fails; after that they are answered as not available while it
	// does. 0: they never wait.
	Wait time.Duration
	// RequireNonce refuses answers that do not repeat the nonce of the request.
	RequireNonce bool
	// KeepAnswers keeps the answers themselves, so that a report can hold one that was given before.
	KeepAnswers bool
	// Metrics counts requests; nil leaves this out.
	Metrics prometheus.Registerer
}

// maxKeyFile is the largest file with an API key.
const maxKeyFile = 4096

// source makes the source of statuses. Responders' answers are held next to the real time, whatever the clock of the check.
func (o *StatusOptions) source() (trust.StatusSource, error) {
	c := status.Config{Network: status.Network(o.Network), RatePerSecond: o.Rate, Timeout: o.Timeout, Metrics: o.Metrics,
		Wait: o.Wait, RequireNonce: o.RequireNonce, KeepAnswers: o.KeepAnswers}
	if o.Forwarder != "" {
		f := &status.Forwarder{URL: o.Forwarder, Header: o.Header, Target: o.Target}
		if o.KeyFile != "" {
			st, err := os.Stat(o.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("key of the forwarder: %w", err)
			}
			if st.Mode().Perm()&0o077 != 0 {
				return nil, fmt.Errorf("key of the forwarder: %s is readable for others (mode %04o); use chmod 600", o.KeyFile, st.Mode().Perm())
			}
			b, err := readBounded(o.KeyFile, maxKeyFile)
			if err != nil {
				return nil, fmt.Errorf("key of the forwarder: %w", err)
			}
			f.Key = redact.NewString(strings.TrimSpace(string(b)))
		}
		c.Forwarder = f
	}
	return status.New(c)
}

// Defaults of TrustOptions. The addresses are those on the internet.
const (
	DefaultTSLURL       = "https://download.tsl.ti-dienste.de/ECC/ECC-RSA_TSL.xml"
	DefaultTestTSLURL   = "https://download-test.tsl.ti-dienste.de/ECC/ECC-RSA_TSL-test.xml"
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
	flags.StringVar(&o.Dir, "trust", "", "`folder` of the archive of lists; files of -tsl and -vl are accepted into it")
	flags.BoolVar(&o.Update, "update", false, "download TSL and trusted list into the archive before the check")
	flags.StringVar(&o.TSLURL, "tsl-url", "", "`address` of the TSL while the archive is empty; the default is the one on the internet")
	flags.Var((*list)(&o.TSLs), "tsl", "TSL `file`; may be given several times, older ones are good for records of their time")
	flags.Var((*list)(&o.VLs), "vl", "`file` of the trusted list of the Bundesnetzagentur (for qualified signatures)")
	flags.Var((*list)(&o.Anchors), "anchor", "`file` with the certificate of a TSL signer CA that is trusted")
	flags.StringVar(&o.CrossAnchor, "cross-anchor", "", "change to another trust space, RSA to ECC for example: `file` with its TSL signer CA; needs -cross-cert, -cross-tsl and -trust")
	flags.StringVar(&o.Cross, "cross-cert", "", "`file` with the cross certificate: that CA's key, certified by the anchor in force")
	flags.StringVar(&o.CrossTSL, "cross-tsl", "", "`file` with the TSL of the other trust space")
	flags.DurationVar(&o.Grace, "tsl-grace", 0, "how long after its end a TSL still counts, with a warning")
	flags.BoolVar(&o.Test, "test-pki", false, "trust the test PKI instead of the one in production")
	flags.IntVar(&o.Certificates, "cache", DefaultCertificates, "how many certificates and verdicts about them are kept in memory")
	flags.IntVar(&o.TableBytes, "tables", DefaultTableBytes, "`octets` of memory for precomputed tables of signers' keys")
	flags.DurationVar(&o.MaxAge, "ocsp-max-age", 0, "longest age of an embedded status answer at the signing time; 0: 24h for the Fachdienst, 12h for doctors and pharmacies")
	flags.BoolVar(&o.Offline, "offline", false, "ask no responder; only embedded status answers count")
	flags.StringVar(&o.Status.Network, "network", string(status.Internet), "from where responders are asked: internet, or ti (central network)")
	flags.Float64Var(&o.Status.Rate, "ocsp-rate", 0, "`requests` per second to each responder; 0: 30 on the internet, 1100 in the TI")
	flags.DurationVar(&o.Status.Timeout, "ocsp-timeout", 0, "for one request; 0: 10s")
	flags.StringVar(&o.Status.Forwarder, "ocsp-forwarder", "", "`address` of the OCSP forwarder for certificates of the Fachdienst, such as https://erp.app.ti-dienste.de/ocspf")
	flags.StringVar(&o.Status.KeyFile, "ocsp-forwarder-key", "", "`file` with the forwarder's API key, readable for its owner alone")
	flags.StringVar(&o.Status.Header, "ocsp-forwarder-header", "X-Api-Key", "name of the `header` with the key")
	flags.StringVar(&o.Status.Target, "ocsp-forwarder-target", "", "how the responder's address is passed: path, query:NAME, header:NAME, or nothing")
	flags.DurationVar(&o.Status.Wait, "ocsp-wait", 30*time.Minute, "for how long the batch waits for a responder that fails, before what needs it is indeterminate; 0 does not wait")
	flags.BoolVar(&o.Status.RequireNonce, "ocsp-require-nonce", false, "refuse answers about qualified certificates that do not repeat the nonce of the request")
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

// anchors reads the trust anchors.
func (o *TrustOptions) anchors() ([]*x509ti.Certificate, error) {
	var anchors []*x509ti.Certificate
	for _, path := range o.Anchors {
		a, err := readAnchor(path)
		if err != nil {
			return nil, fmt.Errorf("trust anchor: %w", err)
		}
		if a.TestOnly() != o.Test {
			return nil, fmt.Errorf("trust anchor %s: %w (-test-pki is %t)", path, errEnvironment, o.Test)
		}
		anchors = append(anchors, a)
	}
	return anchors, nil
}

// static makes a trust space of files. The signature of a TSL is judged for the time when it was issued; that of a trusted
// list by the signers that the TSLs name. The status of the TSLs' signers is not asked for, which is reported (1039).
func (o *TrustOptions) static(anchors []*x509ti.Certificate, now func() time.Time, v x509ti.Verifier, report func(trust.Event)) (*trust.Space, error) {
	if len(o.TSLs) == 0 {
		return nil, errors.New("no trust list; name an archive (-trust), or files with -tsl and -anchor (and -vl for qualified signatures)")
	}
	if len(anchors) == 0 {
		return nil, errors.New("a TSL needs a trust anchor (-anchor)")
	}
	read := func(path string, want tsl.Kind) (*tsl.List, error) {
		b, err := readBounded(path, tsl.MaxSize)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", want, err)
		}
		l, err := tsl.Parse(b)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", want, path, err)
		}
		if l.Kind != want {
			return nil, fmt.Errorf("%s is a %s and no %s", path, l.Kind, want)
		}
		return l, nil
	}
	c := trust.Config{Grace: o.Grace, Production: !o.Test, Clock: now}
	var signers []*x509ti.Certificate
	for _, path := range o.TSLs {
		l, err := read(path, tsl.TSL)
		if err != nil {
			return nil, err
		}
		if _, err := l.Verify(l.Issued, anchors, v); err != nil {
			return nil, fmt.Errorf("TSL %s is not to be trusted: %w", path, err)
		}
		report(trust.Event{Kind: tsl.TSL, Code: trust.NoOCSPCheck.Code,
			Text: trust.NoOCSPCheck.Because("the status of the signer is asked for in an archive only (-trust), not for the file " + path).Error()})
		for _, s := range l.Of(tsl.TypeVLSigner) {
			if s.Status == tsl.StatusInAccord {
				signers = append(signers, s.Certificates...)
			}
		}
		c.TSLs = append(c.TSLs, l)
	}
	for _, path := range o.VLs {
		l, err := read(path, tsl.VL)
		if err != nil {
			return nil, err
		}
		if err := l.VerifyVL(l.Issued, signers, v); err != nil {
			return nil, fmt.Errorf("trusted list %s is not to be trusted: %w", path, err)
		}
		c.VLs = append(c.VLs, l)
	}
	return trust.NewSpace(c)
}

// updater opens the archive and accepts into it what the options name.
func (o *TrustOptions) updater(ctx context.Context, anchors []*x509ti.Certificate, now func() time.Time, v x509ti.Verifier,
	status trust.StatusSource, report func(trust.Event)) (*trust.Updater, error) {
	archive, err := trust.OpenArchive(o.Dir, 0)
	if err != nil {
		return nil, err
	}
	address := o.TSLURL
	if address == "" {
		if address = DefaultTSLURL; o.Test {
			address = DefaultTestTSLURL
		}
	}
	u, err := trust.NewUpdater(trust.UpdaterConfig{Archive: archive, Anchors: anchors, Primary: address, Backup: o.TSLBackup, VL: true,
		Status: status, Clock: now, Grace: o.Grace, Production: !o.Test, Verifier: v, Report: report})
	if err != nil {
		return nil, err
	}
	for _, path := range o.TSLs {
		b, err := readBounded(path, tsl.MaxSize)
		if err != nil {
			return nil, fmt.Errorf("read TSL: %w", err)
		}
		if _, err := u.Accept(ctx, b); errors.Is(err, trust.IDIncorrect) {
			// Older than the newest one: good for records of its time.
			err = u.Backfill(b, anchors)
			if err != nil {
				return nil, fmt.Errorf("TSL %s of former times is not accepted: %w", path, err)
			}
		} else if _, _, have := u.Space().Current(); have && errors.Is(err, trust.ValidityWarningPast) {
			report(trust.Event{Kind: tsl.TSL, What: trust.FilePassedOver, Code: trust.ValidityWarningPast.Code, Text: fmt.Sprintf("file %s is passed over: %v", path, err)})
		} else if err != nil {
			return nil, fmt.Errorf("TSL %s is not accepted: %w", path, err)
		}
	}
	for _, path := range o.VLs {
		b, err := readBounded(path, tsl.MaxSize)
		if err != nil {
			return nil, fmt.Errorf("read trusted list: %w", err)
		}
		switch _, err := u.AcceptVL(b); {
		case errors.Is(err, trust.ErrHeld): // a file of the installation, and updates since
			report(trust.Event{Kind: tsl.VL, What: trust.FilePassedOver, Text: fmt.Sprintf("file %s is passed over: %v", path, err)})
		case err != nil:
			return nil, fmt.Errorf("trusted list %s is not accepted: %w", path, err)
		}
	}
	return u, nil
}

// crossing reports whether a change of the trust space is asked for.
func (o *TrustOptions) crossing() bool {
	return o.CrossAnchor != "" || o.Cross != "" || o.CrossTSL != ""
}

// crossOver changes the trust space (A_17821).
func (o *TrustOptions) crossOver(ctx context.Context, u *trust.Updater) error {
	anchor, err := readAnchor(o.CrossAnchor)
	if err != nil {
		return fmt.Errorf("change of trust space: %w", err)
	}
	cross, err := readAnchor(o.Cross)
	if err != nil {
		return fmt.Errorf("change of trust space: %w", err)
	}
	list, err := readBounded(o.CrossTSL, tsl.MaxSize)
	if err != nil {
		return fmt.Errorf("change of trust space: %w", err)
	}
	if anchor.TestOnly() != o.Test {
		return fmt.Errorf("change of trust space: %w (-test-pki is %t)", errEnvironment, o.Test)
	}
	if err := u.CrossOver(ctx, anchor, cross, list); err != nil {
		return fmt.Errorf("change of trust space, nothing was changed: %w", err)
	}
	return nil
}

var errEnvironment = errors.New("the anchor belongs to the other PKI")

// Opened is what TrustOptions make.
type Opened struct {
	Checker *erezept.Checker
	Updater *trust.Updater // nil without an archive
	Tables  *brainpool.TableCache
}

// Open reads and verifies what the options name. report is told what happens to the lists of an archive; nil is allowed.
func (o *TrustOptions) Open(ctx context.Context, now func() time.Time, report func(trust.Event)) (*Opened, error) {
	if o.Certificates < 1 || o.TableBytes < 1 {
		return nil, errors.New("-cache and -tables: want numbers greater than zero")
	}
	if o.Update && o.Dir == "" {
		return nil, errors.New("-update needs an archive (-trust)")
	}
	if o.crossing() && (o.Dir == "" || o.CrossAnchor == "" || o.Cross == "" || o.CrossTSL == "") {
		return nil, errors.New("a change of the trust space needs -cross-anchor, -cross-cert and -cross-tsl, and an archive (-trust)")
	}
	if report == nil {
		report = func(trust.Event) {}
	}
	tables := &brainpool.TableCache{MaxBytes: o.TableBytes}
	anchors, err := o.anchors()
	if err != nil {
		return nil, err
	}
	out := &Opened{Tables: tables, Checker: &erezept.Checker{Clock: now, Chains: trust.NewChainCache(o.Certificates),
		Certificates: erezept.NewCertificateCache(o.Certificates), Verifier: tables, MaxAge: o.MaxAge, Archive: o.Archive}}
	if !o.Offline {
		o.Status.KeepAnswers = o.Status.KeepAnswers || o.Archive
		if out.Checker.Status, err = o.Status.source(); err != nil {
			return nil, err
		}
	}
	if o.Dir == "" {
		space, err := o.static(anchors, now, tables, report)
		if err != nil {
			return nil, err
		}
		out.Checker.Space = func() *trust.Space { return space }
		return out, nil
	}
	if out.Updater, err = o.updater(ctx, anchors, now, tables, out.Checker.Status, report); err != nil {
		return nil, err
	}
	if o.crossing() {
		if err := o.crossOver(ctx, out.Updater); err != nil {
			return nil, err
		}
	}
	out.Checker.Space = out.Updater.Space
	return out, nil
}
