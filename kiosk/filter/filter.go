// Package filter decides which card commands of the AdV-Server may reach the eGK.
//
// The server is not trusted with the card: an unlocked eGK could otherwise be read out by a manipulated server
// (gemSpec_KTR-AdV 5.1.4). A [Filter] accompanies one session. Every command that the server sends is shown to
// [Filter.Check] before it goes to the card, and every answer of the card to [Filter.Observe]. The filter denies by
// default: a command passes only when the table of the current phase names it, a certificate only with the access
// profile of that phase (A_15113), and a key reference (CHR) only when the card accepted its certificate in the same
// phase of the same session, so that a key left over in the card's cache is of no use. The first refusal ends the
// session (A_15117); a filter that refused once refuses everything.
//
// The annex of BSI TR-03158 that lists the commands is not public; the table is derived from the card-to-card
// sequence and kept in one place, [rules].
package filter

import (
	"bytes"
	"fmt"
	"slices"

	"ktradv/hw/apdu"
	"ktradv/hw/cvc"
)

// Phase is where in the unlocking a session is.
type Phase int

const (
	// TrustedChannel imports the CHAT.0 certificate and agrees on session keys (A_15112).
	TrustedChannel Phase = iota
	// KeyAgreement waits for the second GENERAL AUTHENTICATE.
	KeyAgreement
	// PINStatus allows the one secured GET PIN STATUS (A_15114).
	PINStatus
	// RoleAuthentication imports the CHAT.1 certificate and authenticates the server's role (A_15115).
	RoleAuthentication
	// Closed allows nothing: the eGK is unlocked, and no later command of the server concerns the card.
	Closed
)

func (p Phase) String() string {
	switch p {
	case TrustedChannel:
		return "trusted channel"
	case KeyAgreement:
		return "key agreement"
	case PINStatus:
		return "pin status"
	case RoleAuthentication:
		return "role authentication"
	}
	return "closed"
}

// Forbidden reports a command that the server may not send now. It names the header and the reason, never the data.
type Forbidden struct {
	Phase  Phase
	Header [4]byte // CLA INS P1 P2
	Reason string
}

func (e *Forbidden) Error() string {
	return fmt.Sprintf("card command %X of the server refused in phase %s: %s", e.Header[:], e.Phase, e.Reason)
}

// shape is what a command must look like to be considered at all.
type shape struct {
	name   string
	header [4]byte
	// ne are the permitted expected lengths.
	ne []int
	// data checks the data field; nil means there must be none.
	data func(f *Filter, d []byte) error
	// retries: the card may have written after several attempts (63C1 to 63CF, UpdateRetryWarning), which is as good as 9000.
	retries bool
	// next is the phase after the card did it; the zero value of advance keeps the phase.
	advance bool
	next    Phase
}

// certificate shapes occur in both import phases and differ only in the access profile.
func imports(flags cvc.Flags) []shape {
	return []shape{
		{name: "SELECT MF", header: [4]byte{0x00, 0xA4, 0x04, 0x0C}, ne: []int{0}},
		{name: "LIST PUBLIC KEY", header: [4]byte{0x80, 0xCA, 0x01, 0x00}, ne: []int{256, 65536}},
		{name: "MSE SET verify certificate", header: [4]byte{0x00, 0x22, 0x81, 0xB6}, ne: []int{0}, data: carReference},
		{name: "PSO VERIFY CERTIFICATE", header: [4]byte{0x00, 0x2A, 0x00, 0xBE}, ne: []int{0}, data: certificate(flags), retries: true},
	}
}

// rules is the allow-list: what the server may send in each phase.
var rules = map[Phase][]shape{
	TrustedChannel: append(imports(cvc.FlagsNone),
		shape{name: "MSE SET PrK.eGK.AUT_CVC elcSessionkey4SM", header: [4]byte{0x00, 0x22, 0x41, 0xA4}, ne: []int{0},
			data: exactly([]byte{0x84, 0x01, 0x09, 0x80, 0x01, 0x54})},
		shape{name: "GENERAL AUTHENTICATE step 1", header: [4]byte{0x10, 0x86, 0x00, 0x00}, ne: []int{256, 65536},
			data: keyReference([]byte{0x7C, 0x0E, 0xC3, 0x0C}, nil), advance: true, next: KeyAgreement},
	),
	KeyAgreement: {
		{name: "GENERAL AUTHENTICATE step 2", header: [4]byte{0x00, 0x86, 0x00, 0x00}, ne: []int{0}, data: ephemeralKey,
			advance: true, next: PINStatus},
	},
	PINStatus: {
		{name: "GET PIN STATUS secured", header: [4]byte{0x8C, 0x20, 0x00, 0x01}, ne: []int{256}, data: onlyMAC,
			advance: true, next: RoleAuthentication},
	},
	RoleAuthentication: append(imports(cvc.FlagsKTRAdV),
		shape{name: "MSE SET external authentication", header: [4]byte{0x00, 0x22, 0x81, 0xA4}, ne: []int{0},
			data: keyReference([]byte{0x83, 0x0C}, []byte{0x80, 0x01, 0x00})},
		shape{name: "GET CHALLENGE", header: [4]byte{0x00, 0x84, 0x00, 0x00}, ne: []int{16}},
		shape{name: "EXTERNAL AUTHENTICATE", header: [4]byte{0x00, 0x82, 0x00, 0x00}, ne: []int{0}, data: length(64),
			advance: true, next: Closed},
	),
	Closed: nil,
}

// Filter accompanies one session. It is not safe for concurrent use: the session's card loop owns it.
type Filter struct {
	phase   Phase
	refused *Forbidden

	pendingCHR []byte          // CHR of the end-entity certificate on its way to the card
	trusted    map[string]bool // CHRs accepted by the card in this phase
	pending    *shape          // shape of the command on its way to the card
}

// New returns the filter of a session that is about to be unlocked.
func New() *Filter { return &Filter{trusted: map[string]bool{}} }

// Phase tells where the session is.
func (f *Filter) Phase() Phase { return f.phase }

// Check tells whether c may go to the card now. A non-nil error is a [*Forbidden]: the command must not be sent and
// the session must end.
func (f *Filter) Check(c apdu.Command) error {
	if f.refused != nil {
		return f.refused
	}
	header := [4]byte{c.CLA, c.INS, c.P1, c.P2}
	refuse := func(reason string) error {
		f.refused = &Forbidden{Phase: f.phase, Header: header, Reason: reason}
		f.pending = nil
		return f.refused
	}
	if f.pending != nil {
		return refuse("the card has not answered the command before it")
	}
	rs := rules[f.phase]
	for i := range rs {
		r := &rs[i]
		if r.header != header {
			continue
		}
		if !slices.Contains(r.ne, c.Ne) {
			return refuse(fmt.Sprintf("%s with expected length %d", r.name, c.Ne))
		}
		f.pendingCHR = nil
		if r.data == nil {
			if len(c.Data) != 0 {
				return refuse(r.name + " with a data field")
			}
		} else if err := r.data(f, c.Data); err != nil {
			return refuse(fmt.Sprintf("%s: %v", r.name, err))
		}
		f.pending = r
		return nil
	}
	return refuse("not in the allow-list of this phase")
}

// Observe tells the filter what the card answered to the command that [Filter.Check] let through last.
func (f *Filter) Observe(r apdu.Response) {
	p := f.pending
	f.pending = nil
	if p == nil || !p.done(r.SW) {
		return
	}
	if f.pendingCHR != nil {
		f.trusted[string(f.pendingCHR)] = true
		f.pendingCHR = nil
	}
	if p.advance {
		f.phase = p.next
		clear(f.trusted) // a certificate counts in its own phase only
	}
}

// done tells whether the card carried the command out.
func (s *shape) done(sw uint16) bool {
	return sw == apdu.SWOK || s.retries && sw > 0x63C0 && sw <= 0x63CF
}

func exactly(want []byte) func(*Filter, []byte) error {
	return func(_ *Filter, d []byte) error {
		if !bytes.Equal(d, want) {
			return fmt.Errorf("data differ from the only permitted value")
		}
		return nil
	}
}

func length(n int) func(*Filter, []byte) error {
	return func(_ *Filter, d []byte) error {
		if len(d) != n {
			return fmt.Errorf("%d octets of data, want %d", len(d), n)
		}
		return nil
	}
}

// carReference permits the reference of a certificate's issuer: 83 08 CAR.
func carReference(_ *Filter, d []byte) error {
	if len(d) != 10 || d[0] != 0x83 || d[1] != 0x08 {
		return fmt.Errorf("not a reference to an issuer")
	}
	return nil
}

// onlyMAC permits a secured command without data: one DO 8E of eight octets.
func onlyMAC(_ *Filter, d []byte) error {
	if len(d) != 10 || d[0] != 0x8E || d[1] != 0x08 {
		return fmt.Errorf("more than a cryptographic checksum")
	}
	return nil
}

// ephemeralKey permits 7C 43 85 41 and an uncompressed point.
func ephemeralKey(_ *Filter, d []byte) error {
	if len(d) != 69 || !bytes.HasPrefix(d, []byte{0x7C, 0x43, 0x85, 0x41, 0x04}) {
		return fmt.Errorf("not an ephemeral public key")
	}
	return nil
}

// keyReference permits prefix, a 12-octet CHR whose certificate the card accepted in this phase, suffix.
func keyReference(prefix, suffix []byte) func(*Filter, []byte) error {
	return func(f *Filter, d []byte) error {
		if len(d) != len(prefix)+12+len(suffix) || !bytes.HasPrefix(d, prefix) || !bytes.HasSuffix(d, suffix) {
			return fmt.Errorf("not a reference to a card's key")
		}
		if !f.trusted[string(d[len(prefix):len(prefix)+12])] {
			return fmt.Errorf("key was not imported in this phase of this session")
		}
		return nil
	}
}

// certificate permits a CA or link certificate, and an end-entity certificate with exactly the given flag list. The
// access profile is part of what the issuer signed: when the card accepts the certificate, the flags are the real ones.
func certificate(flags cvc.Flags) func(*Filter, []byte) error {
	return func(f *Filter, d []byte) error {
		c, err := cvc.ParseContent(d)
		if err != nil {
			return fmt.Errorf("certificate cannot be read: %w", err)
		}
		if c.List != cvc.ListTI {
			return fmt.Errorf("certificate with rights of another kind")
		}
		if c.Level != cvc.EndEntity {
			return nil
		}
		if c.Flags != flags {
			return fmt.Errorf("access profile %v is not the one of this phase", c.Flags)
		}
		f.pendingCHR = append([]byte(nil), c.CHR...)
		return nil
	}
}
