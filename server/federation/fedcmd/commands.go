package fedcmd

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ktradv/server/federation"
	"ktradv/server/internal/finding"
	"ktradv/server/internal/keepfile"
	"ktradv/server/internal/tool"
	"ktradv/server/keystore"
)

// initialise makes configuration, keys and certificate (FED-02: one service for each environment).
func initialise(_ context.Context, c *call) int {
	dir := c.Flags.String("dir", ".", "`folder` for configuration, keys and records")
	cfg := federation.Config{Keys: "keys", Records: "records", MasterKeys: "federation-master.jwks", TLSCertificate: "tls-client.pem", EncryptionKey: "encryption.pem"}
	c.Flags.Func("environment", "`RU, TU or PU`", func(v string) error { cfg.Environment = federation.Environment(v); return nil })
	c.Flags.StringVar(&cfg.Service, "service", "", "`address` of the service, without "+federation.WellKnown)
	c.Flags.StringVar(&cfg.OrganisationName, "organisation", "", "`name` of the organisation behind the service")
	c.Flags.StringVar(&cfg.ServiceName, "name", "", "`name` of the service")
	c.Flags.StringVar(&cfg.ContactEmail, "email", "", "e-mail `address` for questions")
	c.Flags.StringVar(&cfg.MemberID, "member-id", "", "`Member-ID` from "+federation.Office)
	c.Flags.StringVar(&cfg.Group, "group", "", "`assignment group` in the TI-ITSM; DiGA: preset")
	c.Flags.StringVar(&cfg.VFS, "vfs", "", "`key` of gematik's approval (PU)")
	kind := c.Flags.String("kind", string(federation.Other), "`diga or other`")
	redirects := c.Many("redirect", "redirect `address` towards the federation")
	scopes := c.Many("scope", "`scope` besides openid")
	claims := c.Many("claim", "`claim`")
	force := c.Flags.Bool("force", false, "replace the configuration; the former one is kept, and so are the keys")
	if status, done := c.Parse(0, 0); done {
		return status
	}
	cfg.Kind, cfg.RedirectURIs, cfg.Claims, cfg.Scopes = federation.Kind(*kind), *redirects, *claims, append([]string{"openid"}, *scopes...)
	if cfg.Group == "" && cfg.Kind == federation.DiGA {
		cfg.Group = federation.DiGAGroup
	}
	b, err := cfg.Encode()
	if err != nil {
		return c.Fail(err)
	}
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		return c.Fail(err)
	}
	path := filepath.Join(*dir, "federation.json")
	if _, err := os.Lstat(path); err == nil && !*force {
		return c.Fail(fmt.Errorf("%s %w; use --force to replace it, the former one and the keys are kept", path, keepfile.ErrExists))
	}
	// The configuration comes last: where a passphrase is mistyped or the HSM is not there, the same command goes on.
	here := cfg
	here.Locate(*dir)
	store := c.Keys(here.Keys, false)
	keys, err := federation.LoadKeys(here.Keys)
	if err == nil {
		err = onePassphrase(store, append(keys.Names(c.Now()), encryptionKey, tlsKey))
	}
	if err == nil {
		err = keys.Rotate(store, c.Now())
	}
	if err != nil {
		return c.Fail(err)
	}
	if err := missingClientKeys(here, store, c.Now()); err != nil {
		return c.Fail(err)
	}
	if _, err := federation.NoteClientKeys(here, c.Now()); err != nil {
		return c.Fail(err)
	}
	if _, err := keepfile.Write(path, b, keepfile.Options{Perm: 0o600, Force: *force, Now: c.Now}); err != nil {
		return c.Fail(err)
	}
	cfg = here
	c.Say(`made %s, the signing key, the key for ID tokens and the TLS client certificate.
next: put the public keys of the Federation Master (%s), from gematik's publication, into
      %s; then `+"`adv-server federation entity-statement --config %s --serve :8080`"+`
`, path, cfg.Environment.Master(), cfg.MasterKeys, path)
	return tool.Clean
}

// The names of the client keys in the key store.
const (
	encryptionKey = "encryption"
	tlsKey        = "tls-client"
)

// onePassphrase opens the keys that are there: new ones must get the same passphrase, for the service asks for one.
func onePassphrase(store keystore.Store, names []string) error {
	for _, n := range names {
		switch _, err := store.Open(n); {
		case errors.Is(err, keystore.ErrPassphrase):
			return fmt.Errorf("%w; next: the passphrase of the keys that are there, for all keys have one", err)
		case err != nil && !errors.Is(err, keystore.ErrNotFound):
			return err
		}
	}
	return nil
}

// missingClientKeys makes what is not there yet of the client keys.
func missingClientKeys(cfg federation.Config, store keystore.Store, now time.Time) error {
	signer := func(name string) (crypto.Signer, error) {
		s, err := store.Open(name)
		if errors.Is(err, keystore.ErrNotFound) {
			s, err = store.Create(name, keystore.P256)
		}
		return s, err
	}
	for _, k := range []struct {
		name, file string
		write      func(federation.Config, crypto.Signer, time.Time, bool) error
	}{{encryptionKey, cfg.EncryptionKey, writeEncryption}, {tlsKey, cfg.TLSCertificate, writeTLS}} {
		if _, err := os.Lstat(k.file); err == nil {
			continue
		}
		s, err := signer(k.name)
		if err == nil {
			err = k.write(cfg, s, now, false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeEncryption publishes the key for ID tokens (A_23194).
func writeEncryption(cfg federation.Config, key crypto.Signer, now time.Time, force bool) error {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("key for ID tokens: %w", err)
	}
	return writePEM(cfg.EncryptionKey, "PUBLIC KEY", der, now, force)
}

// writeTLS makes the self-signed TLS client certificate (A_23183).
func writeTLS(cfg federation.Config, key crypto.Signer, now time.Time, force bool) error {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return fmt.Errorf("TLS client certificate: %w", err)
	}
	u, err := url.Parse(cfg.Service)
	if err != nil {
		return fmt.Errorf("TLS client certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), Subject: pkix.Name{CommonName: u.Hostname()},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(federation.MaxKeyAge),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("TLS client certificate: %w", err)
	}
	return writePEM(cfg.TLSCertificate, "CERTIFICATE", der, now, force)
}

func writePEM(path, kind string, der []byte, now time.Time, force bool) error {
	_, err := keepfile.Write(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), keepfile.Options{Perm: 0o644, Force: force, Now: func() time.Time { return now }})
	return err
}

// statement writes or serves the Entity Statement.
func statement(ctx context.Context, c *call) int {
	out := c.Flags.String("out", "", "`file` for the statement; default: standard output")
	serve := c.Flags.String("serve", "", "serve it at this `address`, for example 127.0.0.1:8080 behind a TLS front end")
	cert := c.Flags.String("tls-cert", "", "with --serve: `file` with the TLS certificate")
	key := c.Flags.String("tls-key", "", "with --serve: `file` with the TLS key")
	force := c.Flags.Bool("force", false, "replace the file; the former one is kept")
	if status, done := c.Parse(0, 0); done {
		return status
	}
	if *serve != "" && *out != "" {
		return c.Fail(errors.New("--serve publishes the statement, --out writes it without publishing it: name one of the two"))
	}
	cfg, err := federation.LoadConfig(*c.Config)
	if err != nil {
		return c.Fail(err)
	}
	service := &federation.Service{Config: cfg, Store: c.Keys(cfg.Keys, false), Now: c.Now, Failed: func(err error) { c.Fail(err) }}
	token, _, err := service.Statement()
	if err != nil {
		return c.Fail(err)
	}
	// What others would refuse is not published.
	s, found := federation.ParseStatement([]byte(token), "the new statement")
	if s != nil {
		found = append(found, federation.CheckStatement(s, federation.StatementOptions{Source: "the new statement", Now: c.Now()})...)
	}
	if found.Worst() == federation.Error {
		return c.Report(found)
	}
	switch {
	case *serve != "":
		return c.serve(ctx, service, *serve, *cert, *key)
	case *out != "":
		if _, err := keepfile.Write(*out, []byte(token+"\n"), keepfile.Options{Perm: 0o644, Force: *force, Now: c.Now}); err != nil {
			return c.Fail(err)
		}
		c.Say("wrote %s; it is not published by that\nnext, for a change: `adv-server federation change --statement %s`\n", *out, *out)
		return tool.Clean
	}
	fmt.Fprintln(c.Stdout, token)
	return tool.Clean
}

// serve serves until ctx ends.
func (c *call) serve(ctx context.Context, h *federation.Service, address, cert, key string) int {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return c.Fail(err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
	fmt.Fprintf(c.Stdout, "serving %s at %s\n", federation.WellKnown, l.Addr())
	ctx, end := context.WithCancel(ctx)
	defer end()
	go h.Run(ctx)
	done := make(chan error, 1)
	go func() {
		if cert != "" || key != "" {
			done <- srv.ServeTLS(l, cert, key)
		} else {
			done <- srv.Serve(l)
		}
	}()
	select {
	case err := <-done:
		return c.Fail(err)
	case <-ctx.Done():
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := srv.Shutdown(stop); err != nil {
			return c.Fail(err)
		}
		return tool.Clean
	}
}

// register writes the form of a first registration or of a change from the live statement.
func register(ctx context.Context, c *call) int {
	c.headers()
	change := c.Name == "change"
	c.Flags.Usage = func() {
		fmt.Fprintf(c.Stderr, "usage: adv-server federation %s [options]\n\n", c.Name)
		if change {
			fmt.Fprint(c.Stderr, "Writes the XML of a change. Announce it before the live statement shows it: edit the configuration, write its statement\n"+
				"with `entity-statement --out next.jws`, and name that file with -statement. Without it the live statement is taken.\n\n")
		} else {
			fmt.Fprint(c.Stderr, "Writes the XML of the first registration from the live statement. It can be written again, with -force, as long as it is\n"+
				"not noted as sent (`sent`).\n\n")
		}
		c.Flags.PrintDefaults()
	}
	dir := c.Flags.String("out", ".", "`folder` for <member id>.xml")
	force := c.Flags.Bool("force", false, "replace the file; the former one is kept")
	tu := c.Flags.Bool("tu-registered", false, "the service is registered in TU (needed for PU where the records do not say so)")
	from := c.Flags.String("statement", "", "take the statement from this `file` instead of fetching it")
	if status, done := c.Parse(0, 0); done {
		return status
	}
	cfg, err := federation.LoadConfig(*c.Config)
	if err != nil {
		return c.Fail(err)
	}
	records := federation.Records{Dir: cfg.Records, Now: c.Now}
	before, err := records.Load(cfg.Environment)
	if err != nil {
		return c.Fail(err)
	}
	inTU, err := records.Load(federation.TU)
	if err != nil {
		return c.Fail(err)
	}
	switch {
	case change && before == nil:
		return c.Fail(fmt.Errorf("nothing was registered in %s according to %s; use register, or `sent FILE` with the form that was sent", cfg.Environment, cfg.Records))
	case !change && before != nil:
		return c.Fail(fmt.Errorf("the service is registered in %s already, its form was sent; use change", cfg.Environment))
	case cfg.MemberID == "":
		return c.Fail(fmt.Errorf("member_id is missing: ask %s for it, then put it into %s", federation.Office, *c.Config))
	case cfg.Environment == federation.PU && inTU == nil && !*tu:
		return c.Fail(errors.New("register the service in TU first, or say --tu-registered if that was done elsewhere"))
	}
	source := cfg.Service
	if *from != "" {
		source = *from
	}
	_, live, found := c.load(ctx, source, federation.XMLOptions{}, false)
	if live == nil && found.Worst() != federation.Error {
		return c.Fail(fmt.Errorf("nothing was written: %s is a form, not an Entity Statement", source))
	}
	if live == nil || found.Worst() == federation.Error {
		if live != nil {
			fmt.Fprintln(c.Stderr, "nothing was written: the statement has errors")
		}
		if status := c.Report(found); !unreached(found) {
			return status
		}
		return tool.Unknown
	}
	form := federation.FromStatement(cfg, live)
	purpose := federation.First
	if change {
		purpose = federation.Change
	}
	doc, parsed, more, err := attachment(cfg, form, purpose, before)
	if err != nil {
		return c.Fail(err)
	}
	found = append(found, more...)
	if parsed != nil {
		found = append(found, federation.Compare(parsed, live)...)
	}
	for _, f := range cfg.Disagreements(form) {
		if change && *from == "" {
			f.Fix = "announce it before it is published: `adv-server federation entity-statement --out next.jws`, then `adv-server federation change --statement next.jws`; or correct the configuration"
		}
		found = append(found, f)
	}
	var differences []string
	if change {
		differences = federation.Differences(before, form)
	}
	if found.Worst() == federation.Error {
		fmt.Fprintln(c.Stderr, "nothing was written: the form would be refused")
		return c.Report(found)
	}
	if change && len(differences) == 0 {
		return c.Fail(fmt.Errorf("nothing was written: nothing differs from what was registered in %s. If the statement is to change, edit %s, write the next statement with `entity-statement --out next.jws` and name it with --statement", cfg.Environment, *c.Config))
	}
	written, err := c.write(cfg, *dir, doc, *force)
	if err != nil {
		return c.Fail(err)
	}
	status := c.Report(found)
	c.Say("wrote %s\n", written)
	for _, d := range differences {
		c.Say("  %s\n", finding.Safe(d))
	}
	c.Say("next: send it as an attachment to %s; it takes about 5 working days. Note that with `adv-server federation sent`, and let `adv-server federation watch` run every hour.\n", federation.Office)
	if change && *from != "" {
		c.Say("      publish the new statement when the office has answered, not before: start `adv-server federation entity-statement --serve` anew.\n")
	}
	return status
}

// attachment is a form as it goes to the office, with what the office would say about it.
func attachment(cfg federation.Config, form *federation.Registration, purpose federation.Purpose, before *federation.Registration) (doc []byte, parsed *federation.Registration, found federation.Findings, err error) {
	var b bytes.Buffer
	if err := federation.WriteXML(&b, form); err != nil {
		return nil, nil, nil, err
	}
	name := fileName(cfg)
	parsed, found = federation.ParseXML(b.Bytes(), federation.XMLOptions{Source: name, FileName: name, Sent: true, Kind: cfg.Kind, Purpose: purpose, TURegistered: true, Registered: before})
	return b.Bytes(), parsed, found, nil
}

// fileName is the name under which the office wants the forms of a service (FED-25).
func fileName(cfg federation.Config) string { return cfg.MemberID + ".xml" }

// write writes the text of a form into a folder and the records. It returns where, for people.
func (c *call) write(cfg federation.Config, dir string, doc []byte, force bool) (string, error) {
	path := filepath.Join(dir, fileName(cfg))
	backup, err := keepfile.Write(path, doc, keepfile.Options{Perm: 0o644, Force: force, Now: c.Now})
	if err != nil {
		return "", err
	}
	if err := (federation.Records{Dir: cfg.Records, Now: c.Now}).Write(cfg.Environment, doc); err != nil {
		return "", err
	}
	if backup != "" {
		path += " (the former one is " + backup + ")"
	}
	return path, nil
}

// deregister writes the form that takes the service out.
func deregister(_ context.Context, c *call) int {
	dir := c.Flags.String("out", ".", "`folder` for <member id>.xml")
	reason := c.Flags.String("reason", federation.ReasonUnused, "`reason`")
	force := c.Flags.Bool("force", false, "replace the file; the former one is kept")
	if status, done := c.Parse(0, 0); done {
		return status
	}
	cfg, err := federation.LoadConfig(*c.Config)
	if err != nil {
		return c.Fail(err)
	}
	records := federation.Records{Dir: cfg.Records, Now: c.Now}
	before, err := records.Load(cfg.Environment)
	if err != nil {
		return c.Fail(err)
	}
	doc, _, found, err := attachment(cfg, federation.Deregistration(cfg, *reason), federation.First, before)
	if err != nil {
		return c.Fail(err)
	}
	if before == nil {
		found = append(found, federation.Finding{Code: "REG-UNREGISTRIERT", Severity: federation.Warning, Source: cfg.Records, What: fmt.Sprintf("nothing was registered in %s according to these records", cfg.Environment),
			Fix: "compare Member-ID and address with the form that was sent; `adv-server federation sent FILE` takes it into the records"})
	}
	if found.Worst() == federation.Error {
		fmt.Fprintln(c.Stderr, "nothing was written: the form would be refused")
		return c.Report(found)
	}
	written, err := c.write(cfg, *dir, doc, *force)
	if err != nil {
		return c.Fail(err)
	}
	c.Say("wrote %s\nnext: send it as an attachment to %s, note that with `adv-server federation sent`, and keep the service running until the office has answered.\n", written, federation.Office)
	return c.Report(found)
}

// sent notes that a form was sent: that is what counts as registered.
func sent(_ context.Context, c *call) int {
	discard := c.Flags.Bool("discard", false, "the form that was written will not be sent; it is kept as discarded-<environment>.xml")
	c.Flags.Usage = func() {
		fmt.Fprint(c.Stderr, "usage: adv-server federation sent [options] [FILE]\n\n"+
			"Notes that the form that register, change or deregister wrote was sent; with FILE, that this one was sent, for example one that\n"+
			"was corrected by hand or sent before this tool was used; it has the name under which it went out, <member id>.xml. From then on\n"+
			"it is what watch, change and deregister compare with.\n\n")
		c.Flags.PrintDefaults()
	}
	if status, done := c.Parse(0, 1); done {
		return status
	}
	cfg, err := federation.LoadConfig(*c.Config)
	if err != nil {
		return c.Fail(err)
	}
	records := federation.Records{Dir: cfg.Records, Now: c.Now}
	before, err := records.Load(cfg.Environment)
	if err != nil {
		return c.Fail(err)
	}
	form, doc, err := records.Written(cfg.Environment)
	if err != nil {
		return c.Fail(err)
	}
	file := c.Flags.Arg(0)
	switch {
	case *discard && file != "":
		return c.Fail(errors.New("--discard is about the form that was written: name no file"))
	case form == nil && file == "":
		return c.Fail(fmt.Errorf("no form waits to be sent in %s; write one with register, change or deregister, or name the file that was sent", cfg.Environment))
	case *discard:
		if err := records.Discard(cfg.Environment); err != nil {
			return c.Fail(err)
		}
		c.Say("the form is discarded; what was registered before stays as it is\n")
		return c.Report(nil)
	}
	var found federation.Findings
	if file != "" {
		if doc, err = tool.ReadFile(file, federation.MaxXML); err != nil {
			return c.Fail(err)
		}
		opts := federation.XMLOptions{Source: file, FileName: filepath.Base(file), Sent: true, Kind: cfg.Kind, TURegistered: true, Registered: before}
		if before != nil {
			opts.Purpose = federation.Change
		}
		if form, found = federation.ParseXML(doc, opts); found.Worst() == federation.Error {
			fmt.Fprintln(c.Stderr, "nothing was noted: the office would refuse this form")
			return c.Report(found)
		}
		if form.Environment != cfg.Environment || form.ServiceURI != cfg.Service {
			return c.Fail(fmt.Errorf("%s is about %s in %s, %s about %s in %s", file, form.ServiceURI, form.Environment, *c.Config, cfg.Service, cfg.Environment))
		}
	}
	if err := records.Sent(cfg.Environment, doc); err != nil {
		return c.Fail(err)
	}
	if form.Deregister {
		c.Say("noted: the deregistration in %s was sent. Keep the service running until the office has answered; there is nothing to watch any more.\n", cfg.Environment)
	} else {
		c.Say("noted: the form of %s in %s was sent, and counts as registered from now on.\nnext: `adv-server federation watch` every hour\n", finding.Safe(form.MemberID), cfg.Environment)
	}
	return c.Report(found)
}

// watch compares and leaves figures for monitoring.
func watch(ctx context.Context, c *call) int {
	c.headers()
	metrics := c.Flags.String("metrics", "", "write the figures to this `file` for the node exporter's textfile collector")
	if status, done := c.Parse(0, 0); done {
		return status
	}
	cfg, err := federation.LoadConfig(*c.Config)
	if err != nil {
		return c.Fail(err)
	}
	records := federation.Records{Dir: cfg.Records, Now: c.Now}
	registered, err := records.Load(cfg.Environment)
	if err != nil {
		return c.Fail(err)
	}
	written, _, err := records.Written(cfg.Environment)
	switch {
	case err != nil:
		return c.Fail(err)
	case registered == nil && written != nil:
		return c.Fail(fmt.Errorf("a form was written in %s and is not noted as sent; next: send it, then `adv-server federation sent`", cfg.Environment))
	case registered == nil:
		return c.Fail(fmt.Errorf("nothing was registered in %s according to %s; if it was without this tool: `adv-server federation sent FILE`", cfg.Environment, cfg.Records))
	}
	b, err := tool.ReadFile(cfg.MasterKeys, federation.MaxStatement)
	if err != nil {
		return c.Fail(fmt.Errorf("keys of the Federation Master: %w; next: take them from gematik's publication, the first download is not to be trusted", err))
	}
	masterKeys, err := federation.ParseMasterKeys(b)
	if err != nil {
		return c.Fail(err)
	}
	keys, err := federation.LoadKeys(cfg.Keys)
	if err != nil {
		return c.Fail(err)
	}
	clientKeys, err := federation.LoadClientKeys(cfg.Keys)
	if err != nil {
		return c.Fail(err)
	}
	r := federation.Watch(ctx, federation.WatchConfig{Registered: registered, MasterKeys: masterKeys, Keys: keys, ClientKeys: clientKeys, Client: c.client, Header: c.header, Now: c.Now()})
	if written != nil {
		r.Findings = append(r.Findings, federation.Finding{Code: "REG-UNGESENDET", Severity: federation.Warning, Source: cfg.Records, What: "a form was written and is not noted as sent: all is compared with the one before",
			Fix: "send it and note that with `adv-server federation sent`, or take it back with `adv-server federation sent --discard`"})
	}
	status := c.watched(r)
	if !r.Reached {
		status = tool.Unknown
	}
	// The report comes first: it must not be lost with a folder that cannot be written.
	err = keys.Deposit(r, c.Now())
	if *metrics != "" {
		err = errors.Join(err, writeMetrics(*metrics, r, c.Now()))
	}
	if err != nil {
		return c.Fail(err)
	}
	return status
}

// watched writes the report.
func (c *call) watched(r federation.Report) int {
	if *c.JSON {
		if err := c.WriteJSON(r); err != nil {
			return c.Fail(err)
		}
		return tool.Status(r.Findings)
	}
	for _, l := range []struct {
		what string
		at   time.Time
	}{{"statement valid until", r.StatementExpires}, {"Federation Master's statement valid until", r.MasterExpires}, {"signing key ends", r.KeyEnds}, {"TLS client certificate ends", r.ClientEnds}, {"key for ID tokens ends", r.EncryptionEnds}} {
		if !l.at.IsZero() {
			fmt.Fprintf(c.Stdout, "%s %s\n", l.what, l.at.UTC().Format("2006-01-02 15:04 UTC"))
		}
	}
	if len(r.Known) > 0 {
		fmt.Fprintf(c.Stdout, "keys known to the Federation Master: %s\n", finding.Safe(strings.Join(r.Known, ", ")))
	}
	return c.Report(r.Findings)
}

// writeMetrics writes the figures of a watch.
func writeMetrics(path string, r federation.Report, now time.Time) error {
	reg := prometheus.NewRegistry()
	gauge := func(name, help string, v float64) {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "adv_federation", Name: name, Help: help})
		g.Set(v)
		reg.MustRegister(g)
	}
	count := map[federation.Severity]int{}
	for _, f := range r.Findings {
		count[f.Severity]++
	}
	reached := 0.0
	if r.Reached {
		reached = 1
	}
	gauge("reached", "1 if service and Federation Master answered at the last watch.", reached)
	gauge("errors", "Errors found at the last watch.", float64(count[federation.Error]))
	gauge("warnings", "Warnings at the last watch.", float64(count[federation.Warning]))
	gauge("watched_timestamp_seconds", "When the last watch ran.", float64(now.Unix()))
	for _, g := range []struct {
		name, help string
		at         time.Time
	}{
		{"statement_expiry_timestamp_seconds", "When the live Entity Statement expires, in seconds since 1970.", r.StatementExpires},
		{"master_statement_expiry_timestamp_seconds", "When the Federation Master's statement about the service expires, in seconds since 1970.", r.MasterExpires},
		{"signing_key_end_timestamp_seconds", "When the signing key must no longer sign, in seconds since 1970.", r.KeyEnds},
		{"tls_client_certificate_end_timestamp_seconds", "When the published TLS client certificate ends, in seconds since 1970.", r.ClientEnds},
		{"id_token_key_end_timestamp_seconds", "When the published key for ID tokens must not be used any more, in seconds since 1970.", r.EncryptionEnds},
	} {
		if !g.at.IsZero() {
			gauge(g.name, g.help, float64(g.at.Unix()))
		}
	}
	return prometheus.WriteToTextfile(path, reg)
}

// keyState is one signing key in the list for programs.
type keyState struct {
	KID       string    `json:"kid"`
	State     string    `json:"state"` // signs, known, published
	Created   time.Time `json:"created"`
	Ends      time.Time `json:"ends"`
	Deposited time.Time `json:"deposited,omitzero"`
}

// keys lists the signing keys or makes the next one, or the next client keys.
func keys(_ context.Context, c *call) int {
	c.Flags.Usage = func() {
		fmt.Fprint(c.Stderr, "usage: adv-server federation keys [options] [new | new-client]\n\n"+
			"Lists the signing keys. new makes the next one; new-client the next key for ID tokens and the next TLS client certificate.\n\n")
		c.Flags.PrintDefaults()
	}
	if status, done := c.Parse(0, 1); done {
		return status
	}
	cfg, err := federation.LoadConfig(*c.Config)
	if err != nil {
		return c.Fail(err)
	}
	keys, err := federation.LoadKeys(cfg.Keys)
	if err != nil {
		return c.Fail(err)
	}
	now := c.Now()
	switch c.Flags.Arg(0) {
	case "":
	case "new":
		store := c.Keys(cfg.Keys, false)
		// The passphrase is asked for here: while the list is locked, service and watch would wait for who types it.
		err := onePassphrase(store, keys.Names(now))
		if err != nil {
			return c.Fail(err)
		}
		k, err := keys.New(store, now)
		if err != nil {
			return c.Fail(err)
		}
		c.Say("made key %s; it is published from the next statement on and signs when the Federation Master has known it for 24 hours\nnext: `adv-server federation entity-statement --out next.jws`, `adv-server federation change --statement next.jws`, send the file, `adv-server federation sent`\n", k.Public.KID)
	case "new-client":
		if err := newClientKeys(cfg, c.Keys(cfg.Keys, true), keys.Names(now), now); err != nil {
			return c.Fail(err)
		}
		c.Say("made the next key for ID tokens and the next TLS client certificate; the former ones are kept beside them\n" +
			"next: give both to the service that logs people in, and let it read ID tokens for the former key, too, for 24 hours: so long IdPs keep the former statement. Start `entity-statement --serve` anew to publish them at once\n")
	default:
		return c.Fail(fmt.Errorf("unknown word %q: say nothing, new or new-client", c.Flags.Arg(0)))
	}
	current, currentErr := keys.Current(now)
	list := []keyState{}
	for _, k := range keys.Published(now) {
		state := "published"
		switch {
		case currentErr == nil && k.Public.KID == current.Public.KID:
			state = "signs"
		case !k.Deposited.IsZero():
			state = "known"
		}
		list = append(list, keyState{k.Public.KID, state, k.Created, k.Ends(), k.Deposited})
	}
	if *c.JSON {
		if err := c.WriteJSON(list); err != nil {
			return c.Fail(err)
		}
	} else {
		for _, k := range list {
			words := map[string]string{"signs": "signs", "known": "known since " + k.Deposited.Format(time.DateOnly), "published": "published, not yet known to the Federation Master"}
			fmt.Fprintf(c.Stdout, "%s  made %s  ends %s  %s\n", finding.Safe(k.KID), k.Created.Format(time.DateOnly), k.Ends.Format(time.DateOnly), words[k.State])
		}
	}
	if currentErr != nil {
		return c.Fail(currentErr)
	}
	return tool.Clean
}

// newClientKeys replaces the client keys; the former ones are kept. names are those of the signing keys.
func newClientKeys(cfg federation.Config, store keystore.Store, names []string, now time.Time) error {
	if err := onePassphrase(store, append(names, encryptionKey, tlsKey)); err != nil {
		return err
	}
	enc, err := store.Create(encryptionKey, keystore.P256)
	if err == nil {
		err = writeEncryption(cfg, enc, now, true)
	}
	if err != nil {
		return err
	}
	tls, err := store.Create(tlsKey, keystore.P256)
	if err == nil {
		err = writeTLS(cfg, tls, now, true)
	}
	if err == nil {
		_, err = federation.NoteClientKeys(cfg, now)
	}
	return err
}
