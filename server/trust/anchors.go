package trust

import (
	"bytes"
	"encoding/hex"
	"time"

	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
)

// anchorOrigin says how a trust anchor came into the archive.
type anchorOrigin string

// The origins.
const (
	pinned    anchorOrigin = "pinned"    // by the configuration (GS-A_4640)
	announced anchorOrigin = "announced" // by a list below the anchor before it (TUC_PKI_013)
	crossed   anchorOrigin = "crossed"   // by a cross certificate (A_17821)
	former    anchorOrigin = "former"    // for lists of former times only; never in force here
)

// storedAnchor is a trust anchor with the time for which it counts. Anchors are never dropped: the lists below them stay
// readable.
type storedAnchor struct {
	Certificate []byte    `json:"certificate"`
	From        time.Time `json:"from"`
	// Until is when it was replaced or taken out of the configuration; zero: it is in force, or will be.
	Until  time.Time    `json:"until,omitzero"`
	Origin anchorOrigin `json:"origin,omitempty"`
	// Removed says that a pinned anchor ended because the configuration does not name it any more; pinned again it counts
	// again. One that was replaced does not, whatever the configuration says.
	Removed bool `json:"removed,omitempty"`
	// OCSP is the address of the OCSP responder for the first signer below an announced anchor.
	OCSP string `json:"ocsp,omitempty"`
	// Announced stood in place of Origin in indexes of version 0.
	Announced bool `json:"announced,omitempty"`
}

// open reports whether the anchor counts at a time or will count later.
func (s *storedAnchor) open(at time.Time) bool {
	return s.Origin != former && (s.Until.IsZero() || s.Until.After(at))
}

// migrate brings anchors of an index of version 0 to the form of today.
func migrate(anchors []storedAnchor) {
	for i := range anchors {
		switch a := &anchors[i]; {
		case a.Announced:
			a.Origin, a.Announced = announced, false
		case a.Until.Equal(a.From):
			a.Origin = former
		default:
			a.Origin = pinned
		}
	}
}

// reconcile brings the stored anchors in line with those of the configuration: newly pinned ones count from now on, pinned
// ones that are gone end now, announced ones stay. A configuration without anchors changes nothing. It returns what
// happened, one event for each anchor; nothing when nothing did.
func reconcile(stored []storedAnchor, config []*x509ti.Certificate, now time.Time) (out []storedAnchor, changes []Event) {
	out = append(out, stored...)
	if len(config) == 0 {
		return out, nil
	}
	change := func(what Change, text string, c *x509ti.Certificate) {
		changes = append(changes, Event{Kind: tsl.TSL, What: what, Anchor: c, Text: "trust anchor " + text + ": " + nameOf(c)})
	}
	for _, c := range config {
		var last *storedAnchor // of this certificate, the one that was in force last
		known := false
		for i := range out {
			if !bytes.Equal(out[i].Certificate, c.Raw) {
				continue
			}
			known = true
			if out[i].Origin != former {
				last = &out[i]
			}
		}
		switch {
		case last == nil && len(stored) == 0: // at installation
			out = append(out, storedAnchor{Certificate: c.Raw, From: c.NotBefore, Origin: pinned})
		case last == nil && !c.ValidAt(now):
			if !known {
				out = append(out, storedAnchor{Certificate: c.Raw, From: c.NotBefore, Until: c.NotBefore, Origin: former})
			}
		case last == nil:
			out = append(out, storedAnchor{Certificate: c.Raw, From: now, Origin: pinned})
			change(AnchorPinned, "pinned by the configuration", c)
		case last.Removed: // what would have taken its place still does
			out = append(out, storedAnchor{Certificate: c.Raw, From: now, Until: successor(out, now), Origin: pinned})
			change(AnchorPinned, "pinned by the configuration", c)
		case last.open(now) && last.From.After(now): // announced for later, which stands, and pinned already
			out = append(out, storedAnchor{Certificate: c.Raw, From: now, Until: last.From, Origin: pinned})
			change(AnchorPinned, "pinned by the configuration before its announced start", c)
		}
	}
	for i := range out {
		a := &out[i]
		if a.Origin != pinned || !a.open(now) || contains(config, a.Certificate) {
			continue
		}
		a.Until, a.Removed = now, true
		if c, err := x509ti.Parse(a.Certificate); err == nil {
			change(AnchorRemoved, "not in the configuration any more, it counts for older lists only", c)
		}
	}
	return out, changes
}

// successor is the time from which an announced anchor takes the place of those before it; zero when none waits.
func successor(stored []storedAnchor, now time.Time) (from time.Time) {
	for i := range stored {
		if a := &stored[i]; a.Origin == announced && a.open(now) && a.From.After(now) {
			from = a.From
		}
	}
	return from
}

func contains(list []*x509ti.Certificate, der []byte) bool {
	for _, c := range list {
		if bytes.Equal(c.Raw, der) {
			return true
		}
	}
	return false
}

// nameOf names a CA for reports: a service, not a person.
func nameOf(c *x509ti.Certificate) string {
	fp := c.Fingerprint()
	return c.CommonName().Reveal() + ", SHA-256 " + hex.EncodeToString(fp[:])
}
