package federation

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ktradv/server/internal/keepfile"
)

// FromStatement makes the form of what the service publishes and of the organisational values of the configuration, so that
// form and statement agree by construction.
func FromStatement(c Config, s *Statement) *Registration {
	rp := s.relyingParty()
	r := c.registration(nil)
	r.OrganisationName, r.ServiceName, r.ServiceURI = text(rp, "organization_name"), text(rp, "client_name"), s.Issuer
	r.Scopes, r.Claims, r.RedirectURIs = strings.Fields(text(rp, "scope")), list(rp, "claims"), list(rp, "redirect_uris")
	for _, k := range s.Keys {
		if key, err := k.public(); err == nil {
			r.Keys = append(r.Keys, PublicKey{KID: k.KID, Key: key})
		}
	}
	return r
}

// Deregistration is the form that takes the service of a configuration out.
func Deregistration(c Config, reason string) *Registration {
	return &Registration{Deregister: true, Environment: c.Environment, MemberID: c.MemberID, ServiceURI: c.Service, Reason: reason}
}

// Records keeps the forms that were sent, by environment. What was replaced stays beside it.
type Records struct {
	Dir string
	Now func() time.Time
}

func (r Records) path(e Environment) string {
	return filepath.Join(r.Dir, "registered-"+string(e)+".xml")
}

// Load returns the form that was sent last in an environment, nil where there is none or the service was taken out.
func (r Records) Load(e Environment) (*Registration, error) {
	b, err := os.ReadFile(r.path(e))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	reg, found := ParseXML(b, XMLOptions{Source: r.path(e), TURegistered: true})
	if reg == nil {
		return nil, fmt.Errorf("records: %s: %s", r.path(e), found[0].What)
	}
	if reg.Deregister {
		return nil, nil
	}
	return reg, nil
}

// Save keeps a form.
func (r Records) Save(reg *Registration) error {
	var b bytes.Buffer
	if err := WriteXML(&b, reg); err != nil {
		return err
	}
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return fmt.Errorf("records: %w", err)
	}
	_, err := keepfile.Write(r.path(reg.Environment), b.Bytes(), keepfile.Options{Force: true, Now: r.Now})
	return err
}

// Differences names what a change alters, for people.
func Differences(old, new *Registration) []string {
	var out []string
	values := func(r *Registration) []string {
		return []string{r.Type, string(r.Environment), r.ContactEmail, r.VFS, r.Group, r.MemberID, r.OrganisationName, r.ServiceName, r.ServiceURI}
	}
	before, after := values(old), values(new)
	for i := range before {
		if before[i] != after[i] {
			out = append(out, fmt.Sprintf("%s: %q becomes %q", textFields[i].Name, before[i], after[i]))
		}
	}
	kids := func(r *Registration) (s []string) {
		for _, k := range r.Keys {
			s = append(s, k.KID)
		}
		return s
	}
	for _, l := range []struct {
		name     string
		old, new []string
	}{{"scopes", old.Scopes, new.Scopes}, {"claims", old.Claims, new.Claims}, {"redirect_uris", old.RedirectURIs, new.RedirectURIs}, {"publickeysjwt", kids(old), kids(new)}} {
		for _, v := range l.old {
			if !slices.Contains(l.new, v) {
				out = append(out, fmt.Sprintf("%s: without %q", l.name, v))
			}
		}
		for _, v := range l.new {
			if !slices.Contains(l.old, v) {
				out = append(out, fmt.Sprintf("%s: with %q", l.name, v))
			}
		}
	}
	for _, k := range new.Keys {
		i := slices.IndexFunc(old.Keys, func(o PublicKey) bool { return o.KID == k.KID })
		if i >= 0 && k.Key != nil && (old.Keys[i].Key == nil || !k.Key.Equal(old.Keys[i].Key)) {
			out = append(out, fmt.Sprintf("publickeysjwt: another key under %q", k.KID))
		}
	}
	return out
}
