// Package c2c is card-to-card authentication from the side of the KTR-AdV's server (SRV), which holds an SM-B identity
// in software, in an HSM or in a card, and talks to a health card (eGK) far away (gemSpec_KTR-AdV 5.1.3, egk-card.md
// section 4).
//
// Because the card is far away, nothing here transmits. Each protocol is a state machine that produces batches of
// commands and consumes the card's responses:
//
//   - [TrustedChannel]: both sides authenticate and agree on session keys, then the server asks for the state of PIN.CH
//     inside the channel, so that nobody between can forge the answer (A_15112, A_15114);
//   - [RoleAuth]: the card checks the server's role certificate and grants its rights (A_15115); it works with any card
//     that issues the challenge;
//   - [Unlock]: one after the other, as a session start needs it, in four batches.
//
// The server's private keys stay behind [Identity].
package c2c

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"ktradv/hw/apdu"
	"ktradv/hw/cos"
	"ktradv/hw/cvc"
	"ktradv/hw/egk"
	"ktradv/hw/sm"
	"ktradv/internal/brainpool"
	"ktradv/internal/redact"
)

// Errors. They arrive wrapped; a status word that the card gave arrives as [*cos.StatusError], alone or beside one of
// these. Errors about the card's certificates are those of [egk.CheckCVC].
var (
	// ErrIdentity: the server's own certificates cannot be used: not the prescribed profile, expired, or of a foreign
	// hierarchy (result WrongEndEntityCVC).
	ErrIdentity = errors.New("own CV certificates are unsuitable")
	// ErrRootUnknown: the card knows the root of our certificates neither directly nor through a link certificate.
	ErrRootUnknown = errors.New("card does not know our root")
	// ErrChannel: the answer through the trusted channel is not from the card that the certificate names, or was changed.
	ErrChannel = errors.New("trusted channel broken")
	// ErrPINNotVerified: the insured person has not entered PIN.CH (A_15114); PINState tells what the card said.
	ErrPINNotVerified = errors.New("PIN.CH is not verified")
	// ErrProtocol: responses that do not fit the commands.
	ErrProtocol = errors.New("responses do not fit the commands")
)

// Profile chooses one of the two certificates of the KTR-AdV.
type Profile int

// The profiles.
const (
	// ProfileNull is CHAT.0 (C.SMC.NULL_CVC, A_15118): it opens a trusted channel and nothing else.
	ProfileNull Profile = iota
	// ProfileKTRAdV is CHAT.1 (C.SMC.AUTR_CVC, AdV-A_2514): the rights of the KTR-AdV, the only ones that the server
	// ever asks a card for (AdV-A_2532).
	ProfileKTRAdV
)

var profileFlags = map[Profile]cvc.Flags{ProfileNull: cvc.FlagsNone, ProfileKTRAdV: cvc.FlagsKTRAdV}

// Certificates are the octets (7F21) of one certificate of the server and of the CA that issued it.
type Certificates struct {
	EndEntity []byte
	CA        []byte
	// Links are link certificates of roots, in any order, that may lead from a root that a card knows to the root of
	// the CA. They may be missing.
	Links [][]byte
}

// Identity is the SM-B identity of one insurer. It answers three questions and lets no key out.
type Identity interface {
	// Certificates returns the certificates of a profile.
	Certificates(ctx context.Context, p Profile) (Certificates, error)
	// SignRoleToken signs with the key of ProfileKTRAdV. message is the representative of [RoleMessage], which is not
	// hashed: plain ECDSA takes it as an integer. The result is R‖S of fixed width.
	SignRoleToken(ctx context.Context, message []byte) ([]byte, error)
	// Agree computes the x-coordinate of the key of ProfileNull times the given point, with the width of the curve.
	Agree(ctx context.Context, peer *brainpool.PublicKey) (redact.Bytes, error)
}

// RoleMessage is what a role authentication signs: the card's random number, the last eight octets of its number, and
// the algorithm identifier elcRoleAuthentication. Both sides put it together on their own, so that a signature for
// another card or an old challenge is worth nothing.
func RoleMessage(challenge []byte, iccsn8 [8]byte) []byte {
	return append(append(slices.Clone(challenge), iccsn8[:]...), cos.AlgRoleAuthentication)
}

// Step names a batch.
type Step int

// The steps of [Unlock], in order.
const (
	StepChannelOpen Step = iota + 1
	StepPINStatus
	StepRoleImport
	StepRoleAuthenticate
)

// Command is one command of a batch.
type Command struct {
	APDU apdu.Command
	// Expected are the status words after which the next command may be sent.
	Expected []uint16
}

// Batch is a list of commands that need no answer in between. Whoever runs it stops at the first unexpected status word
// and returns the responses up to and including that one.
type Batch struct {
	Step     Step
	Commands []Command
}

// expect9000 is shared by most commands. PSO VERIFY CERTIFICATE may succeed after retries of the card's memory.
var (
	expect9000   = []uint16{apdu.SWOK}
	expectImport = []uint16{apdu.SWOK, 0x63C1, 0x63C2, 0x63C3}
)

func (b *Batch) add(c apdu.Command) { b.Commands = append(b.Commands, Command{c, expect9000}) }

// check matches responses to the batch. The result holds one response for each command; otherwise the error says which
// command failed and at names its index.
func (b *Batch) check(responses []apdu.Response) (at int, err error) {
	if len(responses) == 0 || len(responses) > len(b.Commands) {
		return 0, fmt.Errorf("%w: %d responses to %d commands", ErrProtocol, len(responses), len(b.Commands))
	}
	for i, r := range responses {
		cmd := b.Commands[i]
		if slices.Contains(cmd.Expected, r.SW) {
			continue
		}
		if i != len(responses)-1 {
			return i, fmt.Errorf("%w: commands were sent after a failed one", ErrProtocol)
		}
		return i, cos.Check(cmd.APDU, r.SW)
	}
	if len(responses) < len(b.Commands) {
		return 0, fmt.Errorf("%w: %d responses to %d commands, none of them failed", ErrProtocol, len(responses), len(b.Commands))
	}
	return 0, nil
}

// Config is what the state machines need.
type Config struct {
	Identity Identity
	// CardCVC and CardCACVC are EF.C.eGK.AUT_CVC.E256 and EF.C.CA_eGK.CS.E256 as the terminal has read them.
	CardCVC, CardCACVC []byte
	Roots              cvc.Roots // pinned
	Rand               io.Reader // nil means crypto/rand
	Now                time.Time
	// Verified remembers own chains that were verified; nil verifies them each time.
	Verified *Verified
}

// Verified remembers which of the server's own chains lead to a pinned root, so that a server does not verify the same two
// chains for every card. It belongs to one set of roots. The zero value is ready, for concurrent use. What it knows is a
// result for exactly these octets and holds while every certificate of the path is valid; the time is looked at each time.
type Verified struct {
	mu     sync.Mutex
	chains map[[sha256.Size]byte]period
}

// period is when all certificates of a path are valid: from is in it, until is not.
type period struct{ from, until time.Time }

// maxVerified bounds the memory: two chains for each insurer, many times over.
const maxVerified = 4096

// fingerprint names a chain by all its octets.
func (c *Certificates) fingerprint() (id [sha256.Size]byte) {
	h := sha256.New()
	for _, raw := range append([][]byte{c.EndEntity, c.CA}, c.Links...) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(raw))))
		h.Write(raw)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func (v *Verified) knows(certs *Certificates, now time.Time) bool {
	if v == nil {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	p, ok := v.chains[certs.fingerprint()]
	return ok && !now.Before(p.from) && now.Before(p.until)
}

// learn keeps a path that [cvc.Roots.Verify] has returned without an error.
func (v *Verified) learn(certs *Certificates, path []*cvc.Certificate, roots cvc.Roots) {
	if v == nil {
		return
	}
	p := period{path[0].From, path[0].Until}
	narrow := func(from, until time.Time) {
		if from.After(p.from) {
			p.from = from
		}
		if until.Before(p.until) {
			p.until = until
		}
	}
	for _, c := range path[1:] {
		narrow(c.From, c.Until)
	}
	if root := roots[path[len(path)-1].CAR]; !root.From.IsZero() {
		narrow(root.From, root.Until)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.chains == nil || len(v.chains) >= maxVerified {
		v.chains = map[[sha256.Size]byte]period{}
	}
	v.chains[certs.fingerprint()] = p
}

// chain is one of the server's certificate chains, parsed and verified.
type chain struct {
	ee, ca *cvc.Certificate
	links  []*cvc.Certificate // to be imported before the CA, in this order
}

// ownChain gets and verifies the server's certificates of a profile, and finds the link certificates that lead from the
// root that the card knows to ours.
func (c *Config) ownChain(ctx context.Context, p Profile, cardRoot cvc.CAR) (*chain, error) {
	certs, err := c.Identity.Certificates(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("own CV certificates: %w", err)
	}
	ee, err := cvc.Parse(certs.EndEntity)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	ca, err := cvc.Parse(certs.CA)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	if ee.Level != cvc.EndEntity || ee.List != cvc.ListTI || ee.Flags != profileFlags[p] {
		return nil, fmt.Errorf("%w: rights %v, want %v", ErrIdentity, ee.Flags, profileFlags[p])
	}
	var links []*cvc.Certificate
	for _, raw := range certs.Links {
		l, err := cvc.Parse(raw)
		if err != nil {
			return nil, fmt.Errorf("%w: link certificate: %w", ErrIdentity, err)
		}
		links = append(links, l)
	}
	if !c.Verified.knows(&certs, c.Now) {
		path, err := c.Roots.Verify(ee, append([]*cvc.Certificate{ca}, links...), c.Now)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrIdentity, err)
		}
		c.Verified.learn(&certs, path, c.Roots)
	}
	return &chain{ee: ee, ca: ca, links: linkPath(links, cardRoot, ca.CAR)}, nil
}

// maxLinks bounds how many roots may lie between the card's and ours; a batch stays small.
const maxLinks = 4

// linkPath finds the shortest list of link certificates from one root to another; nil when there is none or none is
// needed. Each certificate is signed by the holder before it.
func linkPath(links []*cvc.Certificate, from, to cvc.CAR) []*cvc.Certificate {
	paths := [][]*cvc.Certificate{nil}
	for len(paths) > 0 {
		path := paths[0]
		paths = paths[1:]
		at := from
		if len(path) > 0 {
			at = path[len(path)-1].Name()
		}
		if at == to {
			return path
		}
		for _, l := range links {
			if len(path) < maxLinks && l.Level == cvc.RootCA && l.CAR == at && l.Name() != at && !slices.Contains(path, l) {
				paths = append(paths, append(slices.Clone(path), l))
			}
		}
	}
	return nil
}

// importInto adds the commands that bring the chain into the card. A CA that the card has taken in this session already
// is passed over.
func (c *chain) importInto(b *Batch, known *cvc.Certificate) {
	one := func(cert *cvc.Certificate) {
		b.add(cos.MSEVerifyCert(cert.CAR[:]))
		b.Commands = append(b.Commands, Command{cos.PSOVerifyCertificate(cert.Content), expectImport})
	}
	if known == nil || !bytes.Equal(known.Raw, c.ca.Raw) {
		for _, l := range c.links {
			one(l)
		}
		one(c.ca)
	}
	one(c.ee)
}

// importError names the reason when the import stopped because the card does not know our root.
func importError(b *Batch, at int, err error) error {
	var status *cos.StatusError
	first := slices.IndexFunc(b.Commands, func(c Command) bool { return c.APDU.INS == 0x22 && c.APDU.P2 == 0xB6 })
	if errors.As(err, &status) && status.SW == 0x6A88 && at == first {
		return fmt.Errorf("%w: %w", ErrRootUnknown, err)
	}
	return err
}

// PINStateError is an [ErrPINNotVerified] with what the card said about PIN.CH.
type PINStateError struct{ Status cos.PINStatus }

// Error names the state.
func (e *PINStateError) Error() string {
	return fmt.Sprintf("%v: %v", ErrPINNotVerified, e.Status.State)
}

// Unwrap makes errors.Is(err, ErrPINNotVerified) true.
func (e *PINStateError) Unwrap() error { return ErrPINNotVerified }

// TrustedChannel is the two-sided authentication with trusted channel. Two batches; after the second one is answered the
// card is authentic and PIN.CH verified, or there is an error.
type TrustedChannel struct {
	cfg       Config
	card      *cvc.Certificate
	own       *chain
	batch     Batch
	session   *sm.Session
	ephemeral *brainpool.PrivateKey
	over      bool
}

// NewTrustedChannel verifies the card's certificates and the server's own before anything is sent.
func NewTrustedChannel(ctx context.Context, cfg Config) (*TrustedChannel, error) {
	card, ca, err := cfg.cardChain()
	if err != nil {
		return nil, err
	}
	own, err := cfg.ownChain(ctx, ProfileNull, ca.CAR)
	if err != nil {
		return nil, err
	}
	if own.ee.Key.Curve() != card.Key.Curve() {
		return nil, fmt.Errorf("%w: key on another curve than the card's", ErrIdentity)
	}
	return &TrustedChannel{cfg: cfg, card: card, own: own}, nil
}

// cardChain verifies the card's certificates and returns its own and that of its CA.
func (c *Config) cardChain() (card, ca *cvc.Certificate, err error) {
	if card, err = egk.CheckCVC(c.CardCVC, c.CardCACVC, "", c.Roots, nil, c.Now); err != nil {
		return nil, nil, err
	}
	if ca, err = cvc.Parse(c.CardCACVC); err != nil {
		return nil, nil, err
	}
	return card, ca, nil
}

// CardICCSN returns the number of the card whose certificate was verified.
func (t *TrustedChannel) CardICCSN() (redact.ICCSN, error) {
	return redact.NewICCSN(hex.EncodeToString(t.card.ICCSN()))
}

// keyAUTCVC is PrK.eGK.AUT_CVC.E256; pinCH is PIN.CH.
const (
	keyAUTCVC = 0x09
	pinCH     = 0x01
)

// Next consumes the responses to the last batch, nil at first, and returns the next batch, or done when there is none.
// After an error or done it must not be called again.
func (t *TrustedChannel) Next(ctx context.Context, responses []apdu.Response) (b Batch, done bool, err error) {
	if t.over {
		return Batch{}, false, fmt.Errorf("%w: trusted channel is over", ErrProtocol)
	}
	switch t.batch.Step {
	case 0:
		err = t.open(responses)
	case StepChannelOpen:
		err = t.agree(ctx, responses)
	default:
		done, err = true, t.verdict(responses)
	}
	if done || err != nil {
		t.over, t.ephemeral, t.session = true, nil, nil
		return Batch{}, err == nil, err
	}
	return t.batch, false, nil
}

func (t *TrustedChannel) open(responses []apdu.Response) error {
	if responses != nil {
		return fmt.Errorf("%w: responses before the first command", ErrProtocol)
	}
	t.batch = Batch{Step: StepChannelOpen}
	t.batch.add(cos.SelectMF())
	t.batch.add(cos.MSEInternalAuth(keyAUTCVC, cos.AlgSessionKey4SM))
	t.own.importInto(&t.batch, nil)
	t.batch.add(cos.GeneralAuthenticateChallenge(t.own.ee.CHR))
	return nil
}

// agree takes the card's ephemeral key and computes the session keys: K1 from the card's static and our ephemeral key,
// K2 from the card's ephemeral and our static key (egk-card.md 4.3).
func (t *TrustedChannel) agree(ctx context.Context, responses []apdu.Response) error {
	if at, err := t.batch.check(responses); err != nil {
		return importError(&t.batch, at, err)
	}
	point, err := cos.ParseGeneralAuthenticate(responses[len(responses)-1].Data)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	curve := t.card.Key.Curve()
	cardEphemeral, err := brainpool.ParsePublicKey(curve, point)
	if err != nil {
		return fmt.Errorf("%w: ephemeral key of the card: %w", ErrProtocol, err)
	}
	if t.ephemeral, err = brainpool.GenerateKey(curve, t.cfg.Rand); err != nil {
		return fmt.Errorf("ephemeral key: %w", err)
	}
	k1, err := t.ephemeral.ECDH(t.card.Key)
	if err != nil {
		return fmt.Errorf("agree on session keys: %w", err)
	}
	k2, err := t.cfg.Identity.Agree(ctx, cardEphemeral)
	if err != nil {
		return fmt.Errorf("agree on session keys: %w", err)
	}
	if len(k2.Reveal()) != curve.Size() {
		return fmt.Errorf("agree on session keys: %w: shared value of %d octets", ErrIdentity, len(k2.Reveal()))
	}
	secret := redact.NewBytes(slices.Concat(k1, k2.Reveal()))
	defer secret.Wipe()
	clear(k1)
	k2.Wipe()
	if t.session, err = sm.New(secret); err != nil {
		return err
	}
	status, err := t.session.Wrap(cos.GetPINStatus(pinCH))
	if err != nil {
		return err
	}
	t.batch = Batch{Step: StepPINStatus}
	t.batch.add(cos.GeneralAuthenticateKey(t.ephemeral.Public().Bytes()))
	t.batch.add(status)
	return nil
}

// verdict believes the state of PIN.CH only when the MAC proves that the card with the verified certificate said it.
func (t *TrustedChannel) verdict(responses []apdu.Response) error {
	if at, err := t.batch.check(responses); err != nil && (at != 1 || len(responses) != 2) {
		return err
	}
	plain, err := t.session.Unwrap(responses[1])
	if err != nil {
		return fmt.Errorf("%w: %w", ErrChannel, err)
	}
	if len(plain.Data) != 0 {
		return fmt.Errorf("%w: GET PIN STATUS with data", ErrChannel)
	}
	status, err := cos.ParsePINStatus(plain.SW)
	if err != nil {
		return fmt.Errorf("state of PIN.CH: %w", err)
	}
	if status.State != cos.PINVerified {
		return &PINStateError{Status: status}
	}
	return nil
}

// RoleAuth is the one-sided authentication that unlocks the rights of the KTR-AdV on a card. Two batches.
type RoleAuth struct {
	identity Identity
	iccsn8   [8]byte
	own      *chain
	known    *cvc.Certificate
	selectMF bool
	batch    Batch
	over     bool
}

// NewRoleAuth prepares a role authentication towards any card: iccsn8 are the last eight octets of its number, cardRoot
// is the root that it knows. Of cfg the card's certificates are not needed.
func NewRoleAuth(ctx context.Context, cfg Config, iccsn8 [8]byte, cardRoot cvc.CAR) (*RoleAuth, error) {
	own, err := cfg.ownChain(ctx, ProfileKTRAdV, cardRoot)
	if err != nil {
		return nil, err
	}
	return &RoleAuth{identity: cfg.Identity, iccsn8: iccsn8, own: own, selectMF: true}, nil
}

// Next consumes the responses to the last batch, nil at first, and returns the next batch, or done when there is none.
// After an error or done it must not be called again.
func (r *RoleAuth) Next(ctx context.Context, responses []apdu.Response) (b Batch, done bool, err error) {
	if r.over {
		return Batch{}, false, fmt.Errorf("%w: role authentication is over", ErrProtocol)
	}
	switch r.batch.Step {
	case 0:
		err = r.start(responses)
	case StepRoleImport:
		err = r.answer(ctx, responses)
	default:
		_, err = r.batch.check(responses)
		done = true
	}
	if done || err != nil {
		r.over = true
		return Batch{}, err == nil, err
	}
	return r.batch, false, nil
}

func (r *RoleAuth) start(responses []apdu.Response) error {
	if responses != nil {
		return fmt.Errorf("%w: responses before the first command", ErrProtocol)
	}
	r.batch = Batch{Step: StepRoleImport}
	if r.selectMF {
		r.batch.add(cos.SelectMF())
	}
	r.own.importInto(&r.batch, r.known)
	r.batch.add(cos.MSEExternalAuth(r.own.ee.CHR, cos.AlgRoleAuthentication))
	r.batch.add(cos.GetChallenge(cos.ChallengeELC))
	return nil
}

func (r *RoleAuth) answer(ctx context.Context, responses []apdu.Response) error {
	if at, err := r.batch.check(responses); err != nil {
		return importError(&r.batch, at, err)
	}
	challenge := responses[len(responses)-1].Data
	if len(challenge) != cos.ChallengeELC {
		return fmt.Errorf("%w: challenge of %d octets", ErrProtocol, len(challenge))
	}
	signature, err := r.identity.SignRoleToken(ctx, RoleMessage(challenge, r.iccsn8))
	if err != nil {
		return fmt.Errorf("sign role token: %w", err)
	}
	if want := 2 * r.own.ee.Key.Curve().Size(); len(signature) != want {
		return fmt.Errorf("sign role token: %w: signature of %d octets, want %d", ErrIdentity, len(signature), want)
	}
	r.batch = Batch{Step: StepRoleAuthenticate}
	r.batch.add(cos.ExternalAuthenticate(signature))
	return nil
}

// Unlock is what a session start needs of card-to-card: trusted channel with the state of PIN.CH, then role
// authentication. Four batches.
type Unlock struct {
	channel *TrustedChannel
	role    *RoleAuth
	opened  bool // the trusted channel has done its work
}

// NewUnlock verifies the card's certificates and both of the server's own before anything is sent.
func NewUnlock(ctx context.Context, cfg Config) (*Unlock, error) {
	channel, err := NewTrustedChannel(ctx, cfg)
	if err != nil {
		return nil, err
	}
	ca, err := cvc.Parse(cfg.CardCACVC)
	if err != nil {
		return nil, err
	}
	role, err := NewRoleAuth(ctx, cfg, [8]byte(channel.card.ICCSN()[2:]), ca.CAR)
	if err != nil {
		return nil, err
	}
	// The card still stands in the MF, and keeps the CA that it has just taken.
	role.selectMF, role.known = false, channel.own.ca
	return &Unlock{channel: channel, role: role}, nil
}

// CardICCSN returns the number of the card whose certificate was verified.
func (u *Unlock) CardICCSN() (redact.ICCSN, error) { return u.channel.CardICCSN() }

// Next consumes the responses to the last batch, nil at first, and returns the next batch, or done when there is none.
// After an error or done it must not be called again.
func (u *Unlock) Next(ctx context.Context, responses []apdu.Response) (b Batch, done bool, err error) {
	if u.opened {
		return u.role.Next(ctx, responses)
	}
	b, u.opened, err = u.channel.Next(ctx, responses)
	if err != nil || !u.opened {
		return b, false, err
	}
	return u.role.Next(ctx, nil)
}
