// Package egk knows the German health card (elektronische Gesundheitskarte) of generations 2 and 2.1: its object system
// as tables, the files that belong to the card as such (EF.Version2, EF.GDO, EF.ATR, EF.DIR, EF.Logging), and the first
// things that a terminal does with a card: [ReadInfo] (PL_TUC_CARD_INFORMATION) and [ProveAuthentic].
//
// A command costs some ten milliseconds on a real card. Counts, each in commands: ReadInfo 12 on both generations,
// ProveAuthentic 5, ReadCertificate 2, AppendLog 2, Reset 1.
package egk

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"

	"ktradv/hw/apdu"
	"ktradv/hw/cos"
	"ktradv/internal/redact"
)

// Errors about the kind of card. They arrive wrapped.
var (
	// ErrNotEGK: the card answers, and it is no health card.
	ErrNotEGK = errors.New("not a health card")
	// ErrGenerationTooOld: a health card of generation 1 or 1+.
	ErrGenerationTooOld = errors.New("health card of a generation before G2")
)

// AppState is the state of an application, with the names of PL_TUC_CARD_INFORMATION (TIP1-A_6899).
type AppState int

// The states.
const (
	AppUnknown    AppState = iota
	AppAvailable           // AVAILABLE
	AppHidden              // HIDDEN: deactivated
	AppAbsent              // ABSENT
	AppTerminated          // TERMINATED
)

var appStateNames = [...]string{"UNKNOWN", "AVAILABLE", "HIDDEN", "ABSENT", "TERMINATED"}

// String returns the name of the specification.
func (s AppState) String() string {
	if s < 0 || int(s) >= len(appStateNames) {
		return appStateNames[AppUnknown]
	}
	return appStateNames[s]
}

// Info is what a terminal knows about a card after [ReadInfo].
type Info struct {
	ICCSN      redact.ICCSN
	Version2   Version2
	Generation Generation // G2 or G21
	// Apps holds the state of DF.HCA, DF.NFD, DF.DPE and DF.AMTS.
	Apps map[App]AppState
	// PINs holds the state of PIN.CH, MRPIN.NFD, MRPIN.DPE, MRPIN.AMTS and PIN.AMTS_REP. The state is unknown where
	// the password belongs to an application that cannot be entered.
	PINs map[PIN]cos.PINStatus
	// Authentic is set by ProveAuthentic: the card's own certificate and that of its CA, as octets of 7F21, for the
	// server.
	Authentic        bool
	AUTCVC, AUTCACVC []byte
}

// ICCSN8 returns the last 8 octets of the card number, which card-to-card tokens carry.
func (i *Info) ICCSN8() [8]byte {
	var out [8]byte
	digits := i.ICCSN.Reveal()
	if len(digits) != 20 {
		return out
	}
	for k := range out {
		out[k] = (digits[4+2*k]-'0')<<4 | (digits[5+2*k] - '0')
	}
	return out
}

// Objects returns the object system of the card's generation.
func (i *Info) Objects() *ObjectSystem { return Objects(i.Generation) }

// infoApps and infoPINs are what PL_TUC_CARD_INFORMATION reports of an eGK (TIP1-A_6899).
var (
	infoApps = []App{NFD, DPE, AMTS, HCA}
	infoPINs = []PIN{PINCH, MRPINNFD, MRPINDPE, MRPINAMTS, PINAMTSRep}
)

// Short file identifiers in the MF.
const (
	sfidGDO      = 0x02
	sfidCVC      = 0x06
	sfidCACVC    = 0x07
	sfidVersion2 = 0x11
)

// ReadInfo is PL_TUC_CARD_INFORMATION (TIP1-A_6898, TIP1-A_6899) without the check of authenticity, which is
// [ProveAuthentic], and without the certificates, which [ReadCertificate] reads when they are needed: it finds out
// whether the card is an eGK, its generation and number, and the states of applications and passwords.
//
// Errors: [ErrNotEGK], [ErrGenerationTooOld], [ErrMalformed] for a card that contradicts its object system, a
// [cos.StatusError] with ResultCardTerminated for a card whose root is shut, and those of the transmitter.
func ReadInfo(ctx context.Context, t apdu.Transmitter) (*Info, error) {
	card := cos.New(t)
	if err := selectRoot(ctx, card); err != nil {
		return nil, err
	}
	info := &Info{Apps: map[App]AppState{}, PINs: map[PIN]cos.PINStatus{}}
	raw, err := card.ReadFile(ctx, sfidVersion2, 60)
	if cos.IsResult(err, cos.ResultObjectNotFound) {
		return nil, fmt.Errorf("read EF.Version2: %w: %w", ErrGenerationTooOld, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read EF.Version2: %w", err)
	}
	if info.Version2, err = ParseVersion2(raw); err != nil {
		return nil, err
	}
	info.Generation = info.Version2.ObjectSystem.Generation()
	objects := info.Objects()
	if objects == nil {
		return nil, fmt.Errorf("object system %v: %w", info.Version2.ObjectSystem, ErrGenerationTooOld)
	}
	raw, err = card.ReadFile(ctx, sfidGDO, 12)
	if err != nil {
		return nil, fmt.Errorf("read EF.GDO: %w", err)
	}
	if info.ICCSN, err = ParseGDO(raw); err != nil {
		return nil, err
	}
	if err := info.readStates(ctx, card, objects); err != nil {
		return nil, err
	}
	return info, nil
}

// selectRoot selects the MF by its application identifier, which no other kind of card has. Cards before G2 have
// another one, but the same DF.HCA.
func selectRoot(ctx context.Context, card *cos.Card) error {
	objects := Objects(G21)
	mf, err := objects.AID(MF)
	if err != nil {
		return err
	}
	err = card.SelectAID(ctx, mf)
	var status *cos.StatusError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &status):
		return err
	case status.Result == cos.ResultObjectTerminated || status.Result == cos.ResultFileDeactivated:
		status.Result = cos.ResultCardTerminated
		return fmt.Errorf("card is shut: %w", err)
	}
	hca, hcaErr := objects.AID(HCA)
	if hcaErr != nil {
		return hcaErr
	}
	if old := card.SelectAID(ctx, hca); old == nil || cos.IsResult(old, cos.ResultFileDeactivated) {
		return fmt.Errorf("other root: %w: %w", ErrGenerationTooOld, err)
	} else if !errors.As(old, &status) {
		return old
	}
	return fmt.Errorf("%w: %w", ErrNotEGK, err)
}

// readStates visits every application once and asks there for the passwords that live in it; passwords of the MF are
// asked first.
func (i *Info) readStates(ctx context.Context, card *cos.Card, objects *ObjectSystem) error {
	if err := i.readPINs(ctx, card, objects, MF); err != nil {
		return err
	}
	for _, app := range infoApps {
		state, err := SelectApp(ctx, card, objects, app)
		if err != nil {
			return err
		}
		i.Apps[app] = state
		if err := i.readPINs(ctx, card, objects, app); err != nil {
			return err
		}
	}
	return nil
}

func (i *Info) readPINs(ctx context.Context, card *cos.Card, objects *ObjectSystem, app App) error {
	for _, pin := range infoPINs {
		p, ok := objects.Password(pin)
		if !ok || p.App != app {
			continue
		}
		if state, visited := i.Apps[app]; visited && (state == AppAbsent || state == AppTerminated) {
			i.PINs[pin] = cos.PINStatus{State: cos.PINAbsent}
			continue
		}
		status, err := card.GetPINStatus(ctx, p.Ref)
		var s *cos.StatusError
		if err != nil && !errors.As(err, &s) {
			return fmt.Errorf("state of %s: %w", pin, err)
		}
		if err == nil && status.State == cos.PINAbsent && i.Apps[app] == AppHidden {
			status.State = cos.PINUnknown // it exists behind the curtain
		}
		i.PINs[pin] = status
	}
	return nil
}

// SelectApp selects an application and tells its state; only a state that the specification does not know is an error.
func SelectApp(ctx context.Context, card *cos.Card, objects *ObjectSystem, app App) (AppState, error) {
	aid, err := objects.AID(app)
	if err != nil {
		return AppUnknown, err
	}
	err = card.SelectAID(ctx, aid)
	for result, state := range map[cos.Result]AppState{
		cos.ResultFileDeactivated:  AppHidden,
		cos.ResultObjectNotFound:   AppAbsent,
		cos.ResultObjectTerminated: AppTerminated,
	} {
		if cos.IsResult(err, result) {
			return state, nil
		}
	}
	if err != nil {
		return AppUnknown, fmt.Errorf("select %s: %w", app, err)
	}
	return AppAvailable, nil
}

// Reset is PL_TUC_CARD_RESET (TIP1-A_7020): every security state of the card is cleared on all logical channels, so that
// a later user of the reader finds nothing unlocked.
func Reset(ctx context.Context, t apdu.Transmitter) error {
	if err := cos.New(t).ManageChannelReset(ctx); err != nil {
		return fmt.Errorf("reset card: %w", err)
	}
	return nil
}

// CertID names an X.509 certificate of the card holder.
type CertID string

// The certificates. AUT and ENC can always be read, AUTN and ENCV after PIN.CH and card-to-card.
const (
	CertAUT  CertID = "AUT"
	CertAUTN CertID = "AUTN"
	CertENC  CertID = "ENC"
	CertENCV CertID = "ENCV"
)

// ErrNoCertificate: the card has no certificate of that kind.
var ErrNoCertificate = errors.New("no such certificate on the card")

// ReadCertificate reads a certificate of the card holder as DER: the one for brainpoolP256r1 where the generation has it
// and the card holds one, else the RSA certificate. Errors: [ErrNoCertificate], a [cos.StatusError] with
// ResultSecurityStatusNotSatisfied while the card is not unlocked, [ErrMalformed].
func ReadCertificate(ctx context.Context, t apdu.Transmitter, g Generation, id CertID) ([]byte, error) {
	objects := Objects(g)
	if objects == nil {
		return nil, fmt.Errorf("read C.CH.%s: %w", id, ErrGenerationTooOld)
	}
	card := cos.New(t)
	state, err := SelectApp(ctx, card, objects, ESIGN)
	if err != nil {
		return nil, fmt.Errorf("read C.CH.%s: %w", id, err)
	}
	if state != AppAvailable {
		return nil, fmt.Errorf("read C.CH.%s: %w: DF.ESIGN is %v", id, ErrNoCertificate, state)
	}
	for _, kind := range []string{"E256", "R2048"} {
		file, ok := objects.File("EF.C.CH." + string(id) + "." + kind)
		if !ok {
			continue
		}
		raw, err := card.ReadFile(ctx, file.SFID, file.Size)
		if cos.IsResult(err, cos.ResultObjectNotFound) || err == nil && isBlank(raw) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file.Name, err)
		}
		var outer asn1.RawValue
		if _, err := asn1.Unmarshal(raw, &outer); err != nil || outer.Tag != asn1.TagSequence || outer.Class != asn1.ClassUniversal {
			return nil, fmt.Errorf("read %s: %w: no DER SEQUENCE", file.Name, ErrMalformed)
		}
		return outer.FullBytes, nil
	}
	return nil, fmt.Errorf("read C.CH.%s: %w", id, ErrNoCertificate)
}

// isBlank reports whether a file was never filled.
func isBlank(b []byte) bool {
	for _, x := range b {
		if x != 0 && x != 0xFF {
			return false
		}
	}
	return true
}

// AppendLog is PL_TUC_EGK_APPEND_PROTOCOL (TIP1-A_6957, TIP1-A_6959): it adds the entry to EF.Logging, whose oldest
// entry gives way. The card has to be unlocked by card-to-card. An UpdateRetryWarning is returned although the entry was
// written; [cos.IsWarning] tells.
func AppendLog(ctx context.Context, t apdu.Transmitter, e LogEntry) error {
	record, err := e.Encode()
	if err != nil {
		return err
	}
	objects := Objects(G21) // the same in both generations
	card := cos.New(t)
	state, err := SelectApp(ctx, card, objects, HCA)
	if err != nil {
		return fmt.Errorf("append to EF.Logging: %w", err)
	}
	if state != AppAvailable && state != AppHidden {
		return fmt.Errorf("append to EF.Logging: DF.HCA is %v: %w", state, cos.Check(cos.SelectMF(), 0x6A82))
	}
	file, _ := objects.File("EF.Logging")
	if err := card.AppendRecord(ctx, file.SFID, record); err != nil {
		return fmt.Errorf("append to EF.Logging: %w", err)
	}
	return nil
}
