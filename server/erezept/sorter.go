package erezept

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"ktradv/server/erezept/record"
)

// Bounds of what is held of a container while its records are sorted into cases.
const (
	maxHeld   = 4096      // records; beyond it cases that are complete are reported and forgotten
	maxOctets = 32 << 20  // of what is held of records, in the same way; one of usual size has some 4,000
	maxClosed = 1_000_000 // cases of one container
	maxKey    = 64        // octets of a Rezept-ID by which records are sorted
)

// sorter sorts the records of one container into cases by their Rezept-ID and reports each case as soon as it must: at the
// end of the container, or when more than maxHeld records or maxOctets octets are held. Reports come in the order in which the first record of
// each case came.
//
// A record without a Rezept-ID is reported on its own, as is every record of a container whose records were to be of one
// kind. The only record of a container is reported as such and not as a case. A record that names several Rezept-IDs joins
// the case that lacks it. Records of different Rezept-IDs never meet, so that nothing of one case says anything about
// another.
type sorter struct {
	c    *Checker
	in   *Case
	now  time.Time
	emit func(*CaseReport)

	groups  []*group // in the order in which they came; nil for those that were reported
	byID    map[string]*group
	closed  map[[16]byte]bool // cases that were reported, by hash of their ID; false: with a record missing
	held    int
	octets  int
	number  int  // of records so far
	several bool // something was reported, or is going to be beside something else
	unread  bool // a record was not read, so that no record is certainly missing
}

// group are records that belong together.
type group struct {
	id      string
	records []*checked
	number  int      // of the first record in the container, from 1
	own     bool     // a record on its own
	ids     []string // of a record that has several and is not yet assigned
	late    *bool    // its case was reported before: complete, or not
}

// add takes a record that was checked. It fails when the container has more cases than are told apart.
func (s *sorter) add(r *checked) error {
	s.number++
	s.held++
	r.octets = r.weigh()
	s.octets += r.octets
	s.unread = s.unread || r.unread
	g := &group{records: []*checked{r}, number: s.number}
	ids := keysOf(r)
	switch {
	case len(ids) == 0 || s.in.Records[0].Kind != Unknown:
		g.own = true
		if len(ids) > 0 {
			g.id = ids[0]
		}
	case len(ids) > 1:
		g.id, g.ids = ids[0], ids
	default:
		g.id = ids[0]
		if s.join(g.id, r) {
			g = nil
		}
	}
	if g != nil {
		s.open(g)
	}
	if s.held > maxHeld || s.octets > maxOctets {
		s.relieve()
	}
	if len(s.closed) > maxClosed {
		return fmt.Errorf("%w: cases in one container", record.ErrLimit)
	}
	return nil
}

// open begins a group.
func (s *sorter) open(g *group) {
	s.groups = append(s.groups, g)
	if !g.own && g.ids == nil {
		s.name(g)
	}
}

// name makes a group the case of its ID, unless that was reported before.
func (s *sorter) name(g *group) {
	if complete, ok := s.closed[keyOf(g.id)]; ok {
		g.late = &complete
		return
	}
	if s.byID == nil {
		s.byID = map[string]*group{}
	}
	s.byID[g.id] = g
}

// join puts a record to the case of that ID, if there is one.
func (s *sorter) join(id string, r *checked) bool {
	g := s.byID[id]
	if g == nil {
		return false
	}
	g.records = append(g.records, r)
	return true
}

// keysOf are the different Rezept-IDs of a record.
func keysOf(r *checked) []string {
	var out []string
	for _, id := range r.ids {
		if len(id.Value) <= maxKey && id.Value != "" && !slices.Contains(out, id.Value) {
			out = append(out, id.Value)
		}
	}
	return out
}

// keyOf is the ID as it is remembered.
func keyOf(id string) [16]byte {
	sum := sha256.Sum256([]byte(id))
	return [16]byte(sum[:])
}

// has reports whether there is a record of a kind.
func (g *group) has(k Kind) bool {
	return slices.ContainsFunc(g.records, func(r *checked) bool { return r.rep.Kind == k })
}

// complete reports whether nothing is missing.
func (g *group) complete() bool {
	return !slices.ContainsFunc(billing, func(k Kind) bool { return !g.has(k) })
}

// settle assigns the records that name several Rezept-IDs: to the first case that lacks such a record, else to the first
// case that there is, else to a case of their own.
func (s *sorter) settle() {
	for i, g := range s.groups {
		if g == nil || g.ids == nil {
			continue
		}
		r := g.records[0]
		to := slices.IndexFunc(g.ids, func(id string) bool { return s.byID[id] != nil && !s.byID[id].has(r.rep.Kind) })
		if to < 0 {
			to = slices.IndexFunc(g.ids, func(id string) bool { return s.byID[id] != nil })
		}
		if to >= 0 && s.join(g.ids[to], r) {
			s.groups[i] = nil
			continue
		}
		// The group stays where it is and becomes a case.
		g.ids = nil
		s.name(g)
	}
}

// relieve reports cases before the end of the container: the oldest ones that are complete, and when that does not help
// those that are not, whose missing records may still come.
func (s *sorter) relieve() {
	s.several = true
	s.settle()
	for _, any := range []bool{false, true} {
		for i, g := range s.groups {
			if s.held <= maxHeld/2 && s.octets <= maxOctets/2 {
				break
			}
			if g == nil || !any && !g.own && g.late == nil && !g.complete() {
				continue
			}
			s.groups[i] = nil
			if !g.own && g.late == nil {
				if s.closed == nil {
					s.closed = map[[16]byte]bool{}
				}
				s.closed[keyOf(g.id)] = g.complete()
			}
			s.report(g, reserve{CodeTooLarge, "not among the next records of the container, of which so many are held"})
		}
	}
	s.groups = slices.DeleteFunc(s.groups, func(g *group) bool { return g == nil })
}

// finish reports what is left. err says why the container was not read to its end; what was read before is reported, and
// the container itself.
func (s *sorter) finish(err error) {
	s.settle()
	s.groups = slices.DeleteFunc(s.groups, func(g *group) bool { return g == nil })
	var elsewhere reserve
	switch {
	case err != nil:
		elsewhere = reserve{CodeInput, "the container was not read to its end"}
	case s.unread:
		elsewhere = reserve{CodeContentNotRead, "the container holds a record that was not read"}
	}
	s.several = s.several || len(s.groups) > 1 || err != nil
	for _, g := range s.groups {
		s.report(g, elsewhere)
	}
	if err != nil {
		s.emit(Unreadable(s.in.ID, containerCode(err), "%v", err))
	}
}

// report reports a group.
func (s *sorter) report(g *group, missing reserve) {
	s.held -= len(g.records)
	for _, r := range g.records {
		s.octets -= r.octets
	}
	id, fhir := s.in.ID, s.in.FHIR
	if s.several {
		name := g.id
		if name == "" {
			name = fmt.Sprint(g.number)
		}
		id += "#" + name
		if fhir != nil { // of one receipt, and it is not known of which
			fhir = nil
			for _, r := range g.records {
				if r.rep.Kind == Receipt {
					r.ledger.find(StepContent, CodeInput, "one FHIR validation beside several receipts")
				}
			}
		}
	}
	if g.own || !s.several && s.number == 1 {
		s.emit(s.c.recordReport(id, g.records[0], fhir, s.now))
		return
	}
	if g.late != nil {
		out := s.c.caseReport(id, g.records, fhir, s.now, reserve{CodeTooLarge, "the case was reported before"})
		if *g.late {
			l := caseLedger()
			l.find(StepComplete, CodeDuplicate, "the case was complete, and was reported, before this record came")
			out.Steps, out.Verdict = l.list(), max(out.Verdict, l.verdict())
		}
		s.emit(out)
		return
	}
	delete(s.byID, g.id)
	s.emit(s.c.caseReport(id, g.records, fhir, s.now, missing))
}
