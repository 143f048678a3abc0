package federation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Config describes the service once; statement and forms are made of it, so that they cannot disagree.
type Config struct {
	// Environment is RU, TU or PU. Each has a service of its own (FED-02).
	Environment Environment `json:"environment"`
	// Service is the address of the service, without WellKnown: fachdiensturi, iss and sub.
	Service string `json:"service"`
	// OrganisationName and ServiceName are the names in statement and form.
	OrganisationName string `json:"organisation_name"`
	ServiceName      string `json:"service_name"`
	// Contacts, Homepage and Logo are published in the statement; they may be empty.
	Contacts []string `json:"contacts,omitempty"`
	Homepage string   `json:"homepage,omitempty"`
	Logo     string   `json:"logo,omitempty"`
	// Scopes and Claims are what the service asks IdPs for; decide for one style.
	Scopes []string `json:"scopes"`
	Claims []string `json:"claims,omitempty"`
	// RedirectURIs are the addresses to which IdPs send people back: those towards the federation, not those of your own
	// OIDC clients.
	RedirectURIs []string `json:"redirect_uris"`
	// ACR are the trust levels asked for. Default gematik-ehealth-loa-high.
	ACR []string `json:"default_acr_values,omitempty"`
	// IDTokenVersions are the versions of the ID token that the service can read. Default 1.0.0 and 2.0.0.
	IDTokenVersions []string `json:"id_token_versions,omitempty"`
	// Lifetime of a statement, at most and by default 24 h.
	Lifetime Duration `json:"lifetime,omitzero"`

	// Kind is diga or other.
	Kind Kind `json:"kind"`
	// ContactEmail, VFS, Group and MemberID are the organisational values of the form.
	ContactEmail string `json:"contact_email"`
	VFS          string `json:"vfs,omitempty"`
	Group        string `json:"assignment_group"`
	MemberID     string `json:"member_id,omitempty"`

	// Keys is the folder of the keys, TLSCertificate the file with the TLS client certificate (PEM), EncryptionKey the file
	// with the public key for ID tokens (PEM).
	Keys           string `json:"keys"`
	TLSCertificate string `json:"tls_certificate"`
	EncryptionKey  string `json:"encryption_key"`
	// Records is the folder where the forms that were sent are kept.
	Records string `json:"records"`
	// MasterKeys is the file with the public keys of the Federation Master (a JSON Web Key Set), from a trusted source: the
	// first download is not to be trusted (A_23046).
	MasterKeys string `json:"master_keys"`
}

// Duration is a time.Duration written as 24h.
type Duration time.Duration

// MarshalText writes it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads it.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

const maxConfig = 64 << 10

// ErrConfig is wrapped by errors about the content of a configuration.
var ErrConfig = errors.New("configuration of the federation service")

// LoadConfig reads a configuration. Relative paths are relative to its folder.
func LoadConfig(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("%w: %w; next: make one with `adv-server federation init`", ErrConfig, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return Config{}, fmt.Errorf("%w %s: %w", ErrConfig, path, err)
	}
	c, err := parseConfig(b)
	if err != nil {
		return Config{}, fmt.Errorf("%w %s: %w", ErrConfig, path, err)
	}
	c.Locate(filepath.Dir(path))
	return c, nil
}

// Locate makes relative paths relative to a folder: that of the configuration.
func (c *Config) Locate(dir string) {
	for _, p := range []*string{&c.Keys, &c.TLSCertificate, &c.EncryptionKey, &c.Records, &c.MasterKeys} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

func parseConfig(b []byte) (Config, error) {
	var c Config
	if len(b) > maxConfig {
		return c, fmt.Errorf("longer than %d octets", maxConfig)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return c, errors.New("something follows the object")
	}
	if c.Lifetime == 0 {
		c.Lifetime = Duration(MaxLifetime)
	}
	if len(c.ACR) == 0 {
		c.ACR = []string{"gematik-ehealth-loa-high"}
	}
	if len(c.IDTokenVersions) == 0 {
		c.IDTokenVersions = []string{"1.0.0", "2.0.0"}
	}
	switch {
	case time.Duration(c.Lifetime) < 10*time.Minute || time.Duration(c.Lifetime) > MaxLifetime:
		return c, fmt.Errorf("lifetime: %s is not within 10m and 24h (A_23034)", time.Duration(c.Lifetime))
	case c.Kind != DiGA && c.Kind != Other:
		return c, fmt.Errorf("kind: %q is not diga or other", c.Kind)
	case c.Keys == "" || c.Records == "":
		return c, errors.New("keys and records: name the folders")
	}
	// What the office would refuse is refused here, before anything is published.
	r := c.registration(nil)
	opts := XMLOptions{Kind: c.Kind, TURegistered: true}
	for i, v := range []string{r.Type, string(r.Environment), r.ContactEmail, r.VFS, r.Group, r.MemberID, r.OrganisationName, r.ServiceName, r.ServiceURI} {
		if err := firstError(textFields[i].Name, textFields[i].Check(ruleContext{opts, r}, v)); err != nil {
			return c, err
		}
	}
	for _, l := range []struct {
		name  string
		found []Finding
	}{{"scopes", checkScopes(r.Scopes, nil)}, {"claims", checkClaims(r.Claims, nil, r.Scopes)}, {"redirect_uris", checkRedirects(r.RedirectURIs, nil)}} {
		if err := firstError(l.name, l.found); err != nil {
			return c, err
		}
	}
	return c, nil
}

func firstError(field string, found []Finding) error {
	for _, f := range found {
		if f.Severity == Error {
			return fmt.Errorf("%s: %s; next: %s", field, f.What, f.Fix)
		}
	}
	return nil
}

// registration is the form of the service with these keys.
func (c Config) registration(keys []PublicKey) *Registration {
	return &Registration{
		Type: ParticipantType, Environment: c.Environment, ContactEmail: c.ContactEmail, VFS: c.VFS, Group: c.Group, MemberID: c.MemberID,
		OrganisationName: c.OrganisationName, ServiceName: c.ServiceName, ServiceURI: c.Service,
		Scopes: c.Scopes, Claims: c.Claims, RedirectURIs: c.RedirectURIs, Keys: keys,
	}
}

// Encode writes a configuration after checking it.
func (c Config) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	b = append(b, '\n')
	if _, err := parseConfig(b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return b, nil
}

// Disagreements says where a form made of the live statement differs from the configuration: the service that answers is
// not the one that is configured.
func (c Config) Disagreements(form *Registration) (found Findings) {
	for _, d := range Differences(c.registration(form.Keys), form) {
		found = append(found, Finding{Code: "ES-KONFIGURATION", Severity: Error, Source: "configuration and live statement", What: d, Fix: "publish the statement of this configuration, or correct the configuration"})
	}
	return found
}
