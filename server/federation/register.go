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

// Records keeps the forms by environment: the one that was written last, and the one that is noted as sent. Only the second counts
// as registered, for a form that nobody sent changes nothing. What was replaced stays beside it.
type Records struct {
	Dir string
	Now func() time.Time
}

// The names of the files begin with what was done with the form.
const (
	formSent      = "registered"
	formWritten   = "written"
	formDiscarded = "discarded"
)

func (r Records) path(what string, e Environment) string {
	return filepath.Join(r.Dir, what+"-"+string(e)+".xml")
}

// read returns a form with its text, nil where there is none.
func (r Records) read(what string, e Environment) (*Registration, []byte, error) {
	path := r.path(what, e)
	doc, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("records: %w", err)
	}
	reg, found := ParseXML(doc, XMLOptions{Source: path, TURegistered: true})
	if reg == nil {
		return nil, nil, fmt.Errorf("records: %s: %s", path, found[0].What)
	}
	return reg, doc, nil
}

// Load returns the form that was sent last in an environment, nil where there is none or the service was taken out.
func (r Records) Load(e Environment) (*Registration, error) {
	reg, _, err := r.read(formSent, e)
	if err != nil || reg == nil || reg.Deregister {
		return nil, err
	}
	return reg, nil
}

// Written returns the form that was written and is not noted as sent, with its text; nil where there is none.
func (r Records) Written(e Environment) (*Registration, []byte, error) {
	return r.read(formWritten, e)
}

// Write keeps the text of a form that was written.
func (r Records) Write(e Environment, doc []byte) error { return r.save(formWritten, e, doc) }

func (r Records) save(what string, e Environment, doc []byte) error {
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return fmt.Errorf("records: %w", err)
	}
	_, err := keepfile.Write(r.path(what, e), doc, keepfile.Options{Force: true, Now: r.Now})
	return err
}

// Sent notes that a form was sent. One that was written and is another is discarded.
func (r Records) Sent(e Environment, doc []byte) error {
	if err := r.save(formSent, e, doc); err != nil {
		return err
	}
	if _, written, err := r.Written(e); err != nil || written == nil {
		return err
	} else if !bytes.Equal(written, doc) {
		return r.Discard(e)
	}
	return r.forget(e)
}

// Discard notes that the form that was written will not be sent; it is kept under another name.
func (r Records) Discard(e Environment) error {
	doc, err := os.ReadFile(r.path(formWritten, e))
	if err == nil {
		err = r.save(formDiscarded, e, doc)
	}
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	return r.forget(e)
}

func (r Records) forget(e Environment) error {
	if err := os.Remove(r.path(formWritten, e)); err != nil {
		return fmt.Errorf("records: %w", err)
	}
	return nil
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
