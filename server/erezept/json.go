package erezept

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"
)

// AppendJSON adds the report as one line of JSON, with its newline. It writes what encoding/json makes of the report, at a
// fifth of the cost: a test holds the two next to each other.
func (r *CaseReport) AppendJSON(out []byte) ([]byte, error) {
	w := &writer{b: out}
	w.object(func() {
		w.optional("id", r.ID)
		w.text("verdict", r.Verdict.String())
		w.optional("rezept_id", r.PrescriptionID)
		w.time("checked_at", &r.CheckedAt)
		if r.ClockSet {
			w.key("clock_set")
			w.b = append(w.b, "true"...)
		}
		w.text("tool", r.Tool)
		if len(r.Steps) > 0 {
			w.steps(r.Steps)
		}
		if len(r.Records) > 0 {
			w.key("records")
			list(w, r.Records, w.report)
		}
	})
	return append(w.b, '\n'), w.err
}

// writer writes JSON. The separator before a member or an element is put in front of all but the first.
type writer struct {
	b     []byte
	comma bool
	err   error
}

func (w *writer) object(members func()) {
	w.b = append(w.b, '{')
	w.comma = false
	members()
	w.b = append(w.b, '}')
	w.comma = true
}

func list[T any](w *writer, elements []T, element func(T)) {
	w.b = append(w.b, '[')
	for i, e := range elements {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		element(e)
	}
	w.b = append(w.b, ']')
	w.comma = true
}

func (w *writer) key(name string) {
	if w.comma {
		w.b = append(w.b, ',')
	}
	w.comma = true
	w.b = append(append(append(w.b, '"'), name...), '"', ':')
}

func (w *writer) text(name, value string) {
	w.key(name)
	w.quote(value)
}

func (w *writer) optional(name, value string) {
	if value != "" {
		w.text(name, value)
	}
}

// quote writes a string; one with anything but plain characters is left to encoding/json.
func (w *writer) quote(s string) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			var b bytes.Buffer
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(s); err != nil {
				w.err = err
			}
			w.b = append(w.b, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
			return
		}
	}
	w.b = append(append(append(w.b, '"'), s...), '"')
}

func (w *writer) number(name string, n int64) {
	w.key(name)
	w.b = strconv.AppendInt(w.b, n, 10)
}

// time leaves out a time that is nil.
func (w *writer) time(name string, t *time.Time) {
	if t == nil {
		return
	}
	w.key(name)
	w.b = append(t.AppendFormat(append(w.b, '"'), time.RFC3339Nano), '"')
}

func (w *writer) texts(name string, values []string) {
	if len(values) > 0 {
		w.key(name)
		list(w, values, w.quote)
	}
}

func (w *writer) code(c Code) {
	if c != 0 {
		w.number("code", int64(c))
	}
}

func (w *writer) steps(steps []Step) {
	w.key("steps")
	if steps == nil {
		w.b = append(w.b, "null"...)
		return
	}
	list(w, steps, func(s Step) {
		w.object(func() {
			w.text("id", s.ID.String())
			w.text("verdict", s.Verdict.String())
			w.code(s.Code)
			w.optional("detail", s.Detail)
		})
	})
}

func (w *writer) report(r *Report) {
	w.object(func() {
		w.text("kind", string(r.Kind))
		w.optional("found", string(r.Found))
		w.optional("profile", r.Profile)
		w.text("verdict", r.Verdict.String())
		w.key("input")
		w.object(func() {
			w.optional("sha256", r.Input.SHA256)
			w.number("size", r.Input.Size)
			w.optional("encoding", r.Input.Encoding)
			w.optional("wrapper", r.Input.Wrapper)
		})
		if len(r.PrescriptionIDs) > 0 {
			w.key("rezept_ids")
			list(w, r.PrescriptionIDs, func(p PlacedID) {
				w.object(func() {
					w.text("id", p.ID)
					w.text("place", p.Place)
				})
			})
		}
		w.optional("prescription_digest", r.Digest)
		w.optional("content_sha256", r.ContentDigest)
		w.time("signing_time", r.SigningTime)
		w.time("reference_time", r.ReferenceTime)
		w.signer(r.Signer)
		w.trust(r.Trust)
		w.status(r.Status)
		w.steps(r.Steps)
		if len(r.Countersignatures) > 0 {
			w.key("countersignatures")
			list(w, r.Countersignatures, w.countersignature)
		}
		w.texts("other_certificates", r.OtherCertificates)
		w.texts("transitions", r.Transitions)
	})
}

func (w *writer) signer(s *Signer) {
	if s == nil {
		return
	}
	w.key("signer")
	w.object(func() {
		w.optional("subject", s.Subject)
		w.optional("issuer", s.Issuer)
		w.text("serial", s.Serial)
		w.text("sha256", s.SHA256)
		w.text("not_before", s.NotBefore)
		w.text("not_after", s.NotAfter)
		w.optional("profile", s.Profile)
		w.texts("policies", s.Policies)
		w.texts("roles", s.Roles)
		w.optional("telematik_id", s.Registration)
		w.texts("key_usage", s.KeyUsage)
		w.text("key", s.Key)
		w.text("admissible", s.Admissible)
	})
}

func (w *writer) trust(t *TrustList) {
	if t == nil {
		return
	}
	w.key("trust")
	w.object(func() {
		w.text("kind", t.Kind)
		w.optional("id", t.ID)
		if t.Sequence != 0 {
			w.number("sequence", t.Sequence)
		}
		w.optional("sha256", t.SHA256)
		w.optional("selected", t.Selected)
	})
}

func (w *writer) status(s *Status) {
	if s == nil {
		return
	}
	w.key("status")
	w.object(func() {
		w.text("source", s.Source)
		w.text("status", s.Status)
		w.time("produced_at", s.ProducedAt)
		w.time("this_update", s.ThisUpdate)
		w.time("revoked_at", s.RevokedAt)
		w.optional("age_at_signing", s.AgeAtSigning)
		w.optional("responder", s.Responder)
		w.optional("responder_sha256", s.ResponderHash)
		w.optional("responder_authorized_by", s.Authorized)
		w.key("cert_hash")
		w.b = strconv.AppendBool(w.b, s.CertHash)
		if len(s.Response) > 0 {
			w.key("response")
			w.b = append(base64.StdEncoding.AppendEncode(append(w.b, '"'), s.Response), '"')
		}
	})
}

func (w *writer) countersignature(c Countersignature) {
	w.object(func() {
		w.optional("signer", c.Signer)
		w.optional("certificate_sha256", c.Certificate)
		w.time("signing_time", c.SigningTime)
		w.text("verdict", c.Verdict.String())
		w.code(c.Code)
		w.optional("detail", c.Detail)
	})
}
