package trust

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
)

// Config says what a [Space] is made of.
type Config struct {
	TSLs []*tsl.List // accepted ones, in any order; the signatures were checked before
	VLs  []*tsl.List // BNetzA-VL, the same
	// Grace is how long after its NextUpdate a TSL still counts, with a warning (1008): 0 for central services, up to 30
	// days for others (GS-A_5336). The BNetzA-VL has none (TUC_PKI_036).
	Grace time.Duration
	// Production refuses lists that the test PKI signed (GS-A_4727).
	Production bool
	Clock      func() time.Time // nil is time.Now
}

// ErrTestOnly says that something of the test PKI was given to a production configuration.
var ErrTestOnly = errors.New("trust: TEST-ONLY material in a production configuration")

// Space is the trust space at one moment: every accepted list with the time for which it speaks. It does not change and is
// safe for concurrent use.
type Space struct {
	tsls, vls []*listHandle // oldest first
	grace     time.Duration
	clock     func() time.Time
}

// listHandle is a list that is read when it is asked for.
type listHandle struct {
	ref  ListRef
	hash hash
	next time.Time
	load func() (*view, error)
}

// view is what checks need of a list.
type view struct {
	ref        ListRef
	cas        map[string][]*authority // by subject, DER
	responders map[hash][]*tsl.Service // entries of signers of OCSP answers, by certificate
	current    []*x509ti.Certificate   // those of them that the list has in force
	joint      atomic.Pointer[joint]   // the last one that was asked for
	redirects  map[string]string
	vlSigners  []*x509ti.Certificate
	vlURLs     []string
}

// joint are the responders in force by a list and the newest one.
type joint struct {
	newest     *view
	responders []*x509ti.Certificate
}

// lists are the two lists that a certificate is judged by: that of the reference time and the newest one, which may know more
// about that time. Both may be the same.
type lists struct {
	at, newest *view
	hash       hash // of both, for caches
}

// authority is a CA as a list has it.
type authority struct {
	cert    *x509ti.Certificate
	service *tsl.Service
}

// newView takes from a list what checks need. Entries of types that nobody here knows are passed over (A_17700).
func newView(l *tsl.List, shared *pool) *view {
	v := &view{ref: refOf(l), cas: map[string][]*authority{}, responders: map[hash][]*tsl.Service{}, redirects: map[string]string{}}
	for i := range l.Services {
		s := l.Services[i]
		certs := make([]*x509ti.Certificate, len(s.Certificates))
		for j, c := range s.Certificates {
			certs[j] = shared.get(c)
		}
		s.Certificates = certs
		switch {
		case l.Kind == tsl.TSL && s.Type == tsl.TypeCAPKC, l.Kind == tsl.VL && s.Type == tsl.TypeCAQC:
			for _, c := range certs {
				v.cas[string(c.RawSubject)] = append(v.cas[string(c.RawSubject)], &authority{c, &s})
			}
		case l.Kind == tsl.TSL && s.Type == tsl.TypeVLSigner && s.Status == tsl.StatusInAccord:
			v.vlSigners = append(v.vlSigners, certs...)
			v.vlURLs = append(v.vlURLs, s.SupplyPoints...)
			for _, r := range s.Redirects {
				v.redirects[r.From] = r.To
			}
		case isResponder(l.Kind, &s):
			for _, c := range certs {
				v.responders[c.Fingerprint()] = append(v.responders[c.Fingerprint()], &s)
			}
			if inForce(l.Kind, s.State) {
				v.current = append(v.current, certs...)
			}
		}
	}
	return v
}

// isResponder reports whether an entry is, or was once, a signer of OCSP answers.
func isResponder(kind tsl.Kind, s *tsl.Service) bool {
	ofType := func(t tsl.State) bool { return t.Type == tsl.TypeOCSP || kind == tsl.VL && t.Type == tsl.TypeOCSPQC }
	return ofType(s.State) || slices.ContainsFunc(s.History, ofType)
}

// inForce reports whether a responder in that state may answer.
func inForce(kind tsl.Kind, s tsl.State) bool {
	switch s.Type {
	case tsl.TypeOCSP:
	case tsl.TypeOCSPQC:
		if kind != tsl.VL {
			return false
		}
	default:
		return false
	}
	return s.Status == tsl.StatusInAccord || s.Status == tsl.StatusGranted || kind == tsl.VL && formerlyQualified[s.Status]
}

// answersAt says whether the entries of a responder let it answer at a time, and whether they speak of that time at all. An
// entry of a TSL, which has no history, lets a responder that is in force answer also before its start.
func answersAt(kind tsl.Kind, entries []*tsl.Service, at time.Time) (allowed, spoken bool) {
	for _, s := range entries {
		state, ok := s.StateAt(at)
		if !ok && kind == tsl.TSL && inForce(kind, s.State) {
			return true, true
		}
		if ok {
			allowed, spoken = allowed || inForce(kind, state), true
		}
	}
	return allowed, spoken
}

// responder reports whether the signer of an answer is one of the responders of that time, or is refused as one: by the
// newest list, and when that says nothing of it (any more), by the list of the reference time.
func (l lists) responder(signer *x509ti.Certificate, producedAt time.Time) (listed, refused bool) {
	for _, v := range [...]*view{l.newest, l.at} {
		if allowed, spoken := answersAt(v.ref.Kind, v.responders[signer.Fingerprint()], producedAt); spoken {
			return allowed, !allowed
		}
	}
	return false, false
}

// refused is responder for those who are asked now: it refuses whom the lists refuse, and lists nobody beside responders.
func (l lists) refused(signer *x509ti.Certificate, producedAt time.Time) (listed, refused bool) {
	_, refused = l.responder(signer, producedAt)
	return false, refused
}

// former reports whether a responder that a list named is not in force any more by the newest one.
func (l lists) former(responder *x509ti.Certificate) bool {
	return !slices.ContainsFunc(l.newest.responders[responder.Fingerprint()], func(s *tsl.Service) bool { return inForce(l.newest.ref.Kind, s.State) })
}

// responders are those who may answer now: of the newest list; about a CA that it does not name any more (named), which is a
// finding of its own, those of the list of the reference time, too, which the newest one says nothing of.
func (l lists) responders(named bool) []*x509ti.Certificate {
	if named || l.at == l.newest {
		return l.newest.current
	}
	if j := l.at.joint.Load(); j != nil && j.newest == l.newest {
		return j.responders
	}
	j := &joint{newest: l.newest, responders: slices.Clone(l.newest.current)}
	for _, c := range l.at.current {
		if len(l.newest.responders[c.Fingerprint()]) == 0 {
			j.responders = append(j.responders, c)
		}
	}
	l.at.joint.Store(j)
	return j.responders
}

// refOf names a list.
func refOf(l *tsl.List) ListRef {
	return ListRef{Kind: l.Kind, ID: l.ID, Sequence: l.Sequence, SHA256: hex.EncodeToString(l.Hash[:]), Issued: l.Issued}
}

func handleOf(l *tsl.List, shared *pool) *listHandle {
	v := newView(l, shared)
	return &listHandle{ref: refOf(l), hash: l.Hash, next: l.NextUpdate, load: func() (*view, error) { return v, nil }}
}

// NewSpace makes a trust space from lists whose signatures were checked before. It needs no list: a check then says that
// there is none.
func NewSpace(c Config) (*Space, error) {
	shared := newPool()
	s := &Space{grace: c.Grace, clock: c.Clock}
	for _, l := range append(slices.Clone(c.TSLs), c.VLs...) {
		if c.Production {
			if signer, err := l.Signer(); err != nil || signer.TestOnly() {
				return nil, fmt.Errorf("%w: list %s with sequence number %d", ErrTestOnly, l.Kind, l.Sequence)
			}
		}
	}
	for _, l := range c.TSLs {
		if l.Kind != tsl.TSL {
			return nil, fmt.Errorf("trust: a %s among the TSLs", l.Kind)
		}
		s.tsls = append(s.tsls, handleOf(l, shared))
	}
	for _, l := range c.VLs {
		if l.Kind != tsl.VL {
			return nil, fmt.Errorf("trust: a %s among the VLs", l.Kind)
		}
		s.vls = append(s.vls, handleOf(l, shared))
	}
	s.finish()
	return s, nil
}

// finish sorts the lists and sets defaults.
func (s *Space) finish() {
	for _, lists := range [][]*listHandle{s.tsls, s.vls} {
		slices.SortStableFunc(lists, func(a, b *listHandle) int { return a.ref.Issued.Compare(b.ref.Issued) })
	}
	if s.clock == nil {
		s.clock = time.Now
	}
}

// Lists names every list of the space, oldest first, TSLs before VLs.
func (s *Space) Lists() []ListRef {
	var out []ListRef
	for _, h := range append(slices.Clone(s.tsls), s.vls...) {
		out = append(out, h.ref)
	}
	return out
}

// Current names the newest TSL; ok is false when there is none.
func (s *Space) Current() (ref ListRef, nextUpdate time.Time, ok bool) {
	if len(s.tsls) == 0 {
		return ListRef{}, time.Time{}, false
	}
	h := s.tsls[len(s.tsls)-1]
	return h.ref, h.next, true
}

// Values of ListRef.Selected.
const (
	SelectedAtTime  = "at-time"
	SelectedCurrent = "current"
)

// choose picks the list for a reference time: the one issued at or before it, whose successor was issued later and which
// had not run out; the newest one when no such list is in the archive. The BNetzA-VL has its history inside, so the newest
// one is taken always.
func (s *Space) choose(qes bool, at time.Time) (h *listHandle, selected string) {
	lists := s.tsls
	if qes {
		lists = s.vls
	}
	if len(lists) == 0 {
		return nil, ""
	}
	newest := lists[len(lists)-1]
	if qes {
		return newest, SelectedCurrent
	}
	// The first list issued after the time.
	i, _ := slices.BinarySearchFunc(lists, at, func(h *listHandle, t time.Time) int {
		if h.ref.Issued.After(t) {
			return 1
		}
		return -1
	})
	if i == 0 {
		return newest, SelectedCurrent
	}
	if h = lists[i-1]; h != newest && !at.Before(h.next.Add(s.grace)) {
		return newest, SelectedCurrent // the list of that time is missing in the archive
	}
	return h, SelectedAtTime
}

// lists reads the list that was chosen and the newest one of its kind.
func (s *Space) lists(h *listHandle) (l lists, err error) {
	all := s.tsls
	if h.ref.Kind == tsl.VL {
		all = s.vls
	}
	if l.at, err = h.load(); err != nil {
		return l, err
	}
	l.newest, l.hash = l.at, h.hash
	if newest := all[len(all)-1]; newest != h {
		if l.newest, err = newest.load(); err != nil {
			return l, err
		}
		for i := range l.hash {
			l.hash[i] ^= newest.hash[i]
		}
	}
	return l, nil
}

// freshness judges the age of the lists (1008, 1009; 1060 for the VL). What counts is the newest one: once it has run out,
// and its grace period too, nobody knows what has changed since, and no check ends positively, whatever list was chosen for
// the reference time (GS-A_5336).
func (s *Space) freshness(h *listHandle, selected string, at, now time.Time) Step {
	fail, grace, lists := 1009, s.grace, s.tsls
	if h.ref.Kind == tsl.VL {
		fail, grace, lists = 1060, 0, s.vls
	}
	newest := lists[len(lists)-1]
	if now.Before(at) {
		now = at
	}
	switch {
	case newest.next.IsZero(): // TS 119 612: a list that is closed
		return Step{StepList, Indeterminate, fail, "the newest list names no next update: it is closed"}
	case !now.Before(newest.next.Add(grace)):
		return Step{StepList, Indeterminate, fail, "the newest list has run out"}
	case !now.Before(newest.next):
		return Step{StepList, Warnings, 1008, "the newest list has run out and is in its grace period"}
	}
	step := Step{ID: StepList, Verdict: Valid}
	if selected == SelectedCurrent && h.ref.Kind == tsl.TSL {
		step.Text = "no list of the reference time in the archive, the current one is used"
	}
	return step
}

// vlSource returns the signers of the BNetzA-VL and the addresses where it lies, by the newest TSL.
func (s *Space) vlSource() (signers []*x509ti.Certificate, urls []string, err error) {
	if len(s.tsls) == 0 {
		return nil, nil, errors.New("trust: no TSL")
	}
	v, err := s.tsls[len(s.tsls)-1].load()
	if err != nil {
		return nil, nil, err
	}
	return v.vlSigners, v.vlURLs, nil
}

// placeholder stands in the TSL where a service has no address.
const placeholder = "ocsp00.gematik.invalid"

// addressOf returns the OCSP address of a CA's entry (TUC_PKI_005), "" when it has none.
func addressOf(s *tsl.Service) string {
	if len(s.SupplyPoints) == 0 || strings.Contains(s.SupplyPoints[0], placeholder) {
		return ""
	}
	return s.SupplyPoints[0]
}
