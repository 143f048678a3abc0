// Package config reads the configuration file of the AdV-Server: one JSON object, strict. An unknown field or a value
// out of its range is refused with a message that names it and says what to do. Relative paths are relative to the
// folder of the file.
//
// A complete example with all defaults stands in the doc comment of [Config]; the shortest useful file has "tls",
// "identities", "trust" and "log".
package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"ktradv/internal/advlog"
)

// Mode is how the server is run.
type Mode string

// The modes. Test allows identities from files and the debug log; nothing else differs.
const (
	Production Mode = "production"
	Test       Mode = "test"
)

// Identity kinds.
const (
	// IdentityFile reads private keys from files: for tests and the demonstration only (AdV-A_2513 asks for an HSM).
	IdentityFile = "file"
)

// Config is the content of the file.
//
//	{
//	  "mode": "production",
//	  "listen": ":8443",
//	  "ops_listen": "127.0.0.1:9443",
//	  "tls": {"certificate": "tls/cert.pem", "key": "tls/key.pem"},
//	  "identities": {"kind": "file", "dir": "identities"},
//	  "trust": {"cvc_roots": "trust/cvc", "egk_cas": "trust/egk-ca", "ocsp_signers": ""},
//	  "ocsp": {"url": "", "timeout": "10s"},
//	  "limits": {"sessions": 500, "step_timeout": "30s", "session_timeout": "1h", "drain_timeout": "20s"},
//	  "log": {"dir": "log", "level": "info", "max_bytes": 268435456},
//	  "verify": {"listen": "off", "clients": "", "checks": 64, "jobs": 2, "archive": false,
//	    "pki": {"dir": "", "update": false, "anchors": [], "tsl": [], "vl": [], "tsl_grace": "0s", "cache": 50000,
//	      "table_bytes": 268435456, "status": {"network": "internet", "rate": 0, "timeout": "10s",
//	        "max_age": "0s", "require_nonce": false, "forwarder": "", "forwarder_key": "",
//	        "forwarder_header": "X-Api-Key", "forwarder_target": ""}}}
//	}
type Config struct {
	// Mode is "production" (default) or "test".
	Mode Mode `json:"mode"`
	// Listen is the address for the terminals. Default ":8443".
	Listen string `json:"listen"`
	// OpsListen is the address for health and metrics (HTTP, no authentication); it must be a loopback address. Default
	// "127.0.0.1:9443"; "off" switches it off.
	OpsListen string `json:"ops_listen"`

	TLS        TLS        `json:"tls"`
	Identities Identities `json:"identities"`
	Trust      Trust      `json:"trust"`
	OCSP       OCSP       `json:"ocsp"`
	Limits     Limits     `json:"limits"`
	Log        Log        `json:"log"`
	Verify     Verify     `json:"verify"`
}

// Verify is the service that checks E-Rezept billing records (gRPC and HTTP with mutual TLS, the certificate of TLS).
type Verify struct {
	// Listen is its address; "off" (default) switches it off.
	Listen string `json:"listen"`
	// Clients is the folder with the certificates of the programs that may use it (*.pem).
	Clients string `json:"clients"`
	// Checks is how many run at the same time. Default 64.
	Checks int `json:"checks"`
	// Jobs is how many checks of one stream run at the same time. Default 2.
	Jobs int `json:"jobs"`
	// Archive puts the answers of OCSP responders into every report; a request may ask for them without it.
	Archive bool `json:"archive"`
	PKI     PKI  `json:"pki"`
}

// PKI says where the trust of the check comes from.
type PKI struct {
	// Dir is the archive of TSLs and trusted lists; Update downloads new ones.
	Dir    string `json:"dir"`
	Update bool   `json:"update"`
	// TSLURL is where the TSL is fetched while the archive is empty; empty is the address on the internet.
	TSLURL string `json:"tsl_url"`
	// Anchors are the certificates of trusted TSL signer CAs; TSL and VL files with lists.
	Anchors []string `json:"anchors"`
	TSL     []string `json:"tsl"`
	VL      []string `json:"vl"`
	// Grace is how long a TSL counts after its end, with a warning. Default 0: a central service has none (GS-A_5336).
	Grace Grace `json:"tsl_grace"`
	// Cache is how many certificates and verdicts about them are kept. Default 50000.
	Cache int `json:"cache"`
	// TableBytes bounds the precomputed tables of signers' keys. Default 256 MiB.
	TableBytes int          `json:"table_bytes"`
	Status     VerifyStatus `json:"status"`
}

// VerifyStatus says how the revocation status is found out when no embedded answer counts.
type VerifyStatus struct {
	// Network is "internet" (default), "ti" (central network), or "off": ask nobody.
	Network string `json:"network"`
	// Rate is requests per second to each responder; 0 (default) is that of the network.
	Rate float64 `json:"rate"`
	// Timeout of one request. Default 10s.
	Timeout Duration `json:"timeout"`
	// MaxAge is the longest age of an embedded answer at the signing time; 0 (default) is 24 hours for the Fachdienst and 12
	// hours for doctors and pharmacies.
	MaxAge Grace `json:"max_age"`
	// RequireNonce refuses answers that do not repeat the nonce of the request.
	RequireNonce bool `json:"require_nonce"`
	// Forwarder is the address of the OCSP forwarder for certificates of the Fachdienst; empty is none. The key lies in
	// ForwarderKey (a file), goes into the header ForwarderHeader, and ForwarderTarget says how the responder's address is
	// passed: "path", "query:NAME", "header:NAME" or not at all.
	Forwarder       string `json:"forwarder"`
	ForwarderKey    string `json:"forwarder_key"`
	ForwarderHeader string `json:"forwarder_header"`
	ForwarderTarget string `json:"forwarder_target"`
}

// Grace is a [Duration] that may be zero.
type Grace time.Duration

// UnmarshalText reads a duration that is not negative.
func (d *Grace) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return fmt.Errorf("duration %q: want one such as \"720h\"", b)
	}
	*d = Grace(v)
	return nil
}

// MarshalText writes the duration.
func (d Grace) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// TLS names the server's certificate and key, PEM files. The key must be ECDSA P-256 or P-384, or RSA of at least 3072 bits.
type TLS struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

// Identities says where the insurers' identities (SM-B) are (AdV-A_2570).
type Identities struct {
	Kind string `json:"kind"` // "file": for tests only
	Dir  string `json:"dir"`  // of "file": one <ik>.json per insurer
}

// Trust names the folders of trust anchors.
type Trust struct {
	// CVCRoots holds the roots of the CV certificates, as hw/cvc reads them (*.cvc).
	CVCRoots string `json:"cvc_roots"`
	// EGKCAs holds the CA certificates that issue C.CH.AUTN (*.der).
	EGKCAs string `json:"egk_cas"`
	// OCSPSigners holds certificates of OCSP responders trusted by name (*.der); empty: only responders whose certificate
	// was issued by the CA that issued the checked one.
	OCSPSigners string `json:"ocsp_signers"`
}

// OCSP says how to ask for the revocation status.
type OCSP struct {
	// URL of the responder; empty means the one in the certificate.
	URL string `json:"url"`
	// Timeout for one request. Default 10 s.
	Timeout Duration `json:"timeout"`
}

// Limits bound what terminals can make the server hold.
type Limits struct {
	// Sessions at the same time. Default 500.
	Sessions int `json:"sessions"`
	// StepTimeout for each answer of the app during a session start. Default 30 s.
	StepTimeout Duration `json:"step_timeout"`
	// SessionTimeout ends a session whatever happens. Default 1 h.
	SessionTimeout Duration `json:"session_timeout"`
	// DrainTimeout is how long sessions may go on when the server is being stopped. Default 20 s.
	DrainTimeout Duration `json:"drain_timeout"`
}

// Log says where the logs are and what they hold (gemSpec_KTR-AdV 5.2).
type Log struct {
	Dir string `json:"dir"`
	// Level of the error log: debug (mode test only), info, warning, error or fatal. Default info.
	Level string `json:"level"`
	// MaxBytes bounds the logs on disk. Default 256 MiB.
	MaxBytes int64 `json:"max_bytes"`
}

// Duration is a [time.Duration] that is written as text, for example "30s".
type Duration time.Duration

// UnmarshalText reads a duration that is greater than zero.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v <= 0 {
		return fmt.Errorf("duration %q: want a positive one such as \"30s\"", b)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes the duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

const maxFile = 64 << 10

// Default is the configuration before the file is read.
func Default() Config {
	return Config{
		Mode: Production, Listen: ":8443", OpsListen: "127.0.0.1:9443",
		OCSP: OCSP{Timeout: Duration(10 * time.Second)},
		Limits: Limits{Sessions: 500, StepTimeout: Duration(30 * time.Second), SessionTimeout: Duration(time.Hour),
			DrainTimeout: Duration(20 * time.Second)},
		Log:    Log{Level: "info", MaxBytes: 256 << 20},
		Verify: Verify{Listen: "off", Checks: 64, Jobs: 2, PKI: PKI{Cache: 50_000, TableBytes: 256 << 20, Status: VerifyStatus{Network: "internet", Timeout: Duration(10 * time.Second), ForwarderHeader: "X-Api-Key"}}},
	}
}

// Load reads and checks the file.
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	c, err := Parse(b, filepath.Dir(path))
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// Parse reads and checks the content of a file that stands in dir.
func Parse(b []byte, dir string) (Config, error) {
	if len(b) > maxFile {
		return Config{}, fmt.Errorf("larger than %d bytes", maxFile)
	}
	c := Default()
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("read JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("text after the JSON object")
	}
	paths := []*string{&c.TLS.Certificate, &c.TLS.Key, &c.Identities.Dir, &c.Trust.CVCRoots, &c.Trust.EGKCAs,
		&c.Trust.OCSPSigners, &c.Log.Dir, &c.Verify.Clients, &c.Verify.PKI.Dir, &c.Verify.PKI.Status.ForwarderKey}
	for _, list := range [][]string{c.Verify.PKI.Anchors, c.Verify.PKI.TSL, c.Verify.PKI.VL} {
		for i := range list {
			paths = append(paths, &list[i])
		}
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	if err := c.check(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// check returns every finding, each with the field and what to do.
func (c Config) check() error {
	var errs []error
	want := func(ok bool, format string, a ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, a...))
		}
	}
	want(c.Mode == Production || c.Mode == Test, "mode: %q; want production or test", c.Mode)
	_, _, err := net.SplitHostPort(c.Listen)
	want(err == nil, "listen: %q is no address; for example \":8443\"", c.Listen)
	want(c.OpsListen == "off" || isLoopback(c.OpsListen),
		"ops_listen: %q; want a loopback address such as \"127.0.0.1:9443\", or \"off\"", c.OpsListen)
	want(c.TLS.Certificate != "" && c.TLS.Key != "", "tls: name certificate and key (PEM files)")
	want(c.Identities.Kind == IdentityFile, "identities.kind: %q; known kinds: file", c.Identities.Kind)
	want(c.Identities.Kind != IdentityFile || c.Mode == Test,
		"identities.kind: file holds private keys in the clear and is for tests only; set mode to test on a test system")
	want(c.Identities.Kind != IdentityFile || c.Identities.Dir != "", "identities.dir: name the folder of the identities")
	want(c.Trust.CVCRoots != "", "trust.cvc_roots: name the folder of the CVC roots")
	want(c.Trust.EGKCAs != "", "trust.egk_cas: name the folder of the CA certificates of health cards")
	if c.OCSP.URL != "" {
		u, err := url.Parse(c.OCSP.URL)
		want(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "",
			"ocsp.url: %q is no http address", c.OCSP.URL)
	}
	want(c.Limits.Sessions >= 1 && c.Limits.Sessions <= 100_000, "limits.sessions: %d; want 1 to 100000", c.Limits.Sessions)
	want(c.Limits.StepTimeout <= c.Limits.SessionTimeout, "limits.step_timeout: longer than session_timeout")
	want(c.Log.Dir != "", "log.dir: name the folder of the logs")
	level, err := advlog.ParseSeverity(c.Log.Level)
	want(err == nil, "log.level: %v", err)
	want(level >= advlog.Info || c.Mode == Test, "log.level: debug is for mode test only")
	want(c.Log.MaxBytes >= advlog.MinMaxBytes, "log.max_bytes: %d; want at least %d", c.Log.MaxBytes, advlog.MinMaxBytes)
	if v := c.Verify; v.Listen != "off" {
		_, _, err := net.SplitHostPort(v.Listen)
		want(err == nil, "verify.listen: %q is no address; for example \":8444\", or \"off\"", v.Listen)
		want(v.Clients != "", "verify.clients: name the folder with the certificates of the programs that may use the service")
		want(v.Checks >= 1 && v.Checks <= 10_000, "verify.checks: %d; want 1 to 10000", v.Checks)
		want(v.Jobs >= 1 && v.Jobs <= 1024, "verify.jobs: %d; want 1 to 1024", v.Jobs)
		want(v.PKI.Dir != "" || len(v.PKI.TSL) > 0, "verify.pki: name an archive of lists (dir), or TSL files (tsl)")
		want(v.PKI.Dir != "" || len(v.PKI.Anchors) > 0, "verify.pki.anchors: name the certificate of the TSL signer CA")
		want(v.PKI.Dir != "" || !v.PKI.Update, "verify.pki.update: needs an archive (dir)")
		want(slices.Contains([]string{"internet", "ti", "off"}, v.PKI.Status.Network), "verify.pki.status.network: %q; want internet, ti or off", v.PKI.Status.Network)
		want(v.PKI.Status.Rate >= 0, "verify.pki.status.rate: %g; want 0 or more", v.PKI.Status.Rate)
		want(v.PKI.Cache >= 1, "verify.pki.cache: %d; want at least 1", v.PKI.Cache)
		want(v.PKI.TableBytes >= 1, "verify.pki.table_bytes: %d; want at least 1", v.PKI.TableBytes)
	}
	return errors.Join(errs...)
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
