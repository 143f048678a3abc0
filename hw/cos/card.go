// Package cos holds the commands of the German health cards' operating system (gemSpec_COS) as far as the
// KTR-AdV needs them: builders of the bare commands, the meaning of the status words per command as tables, and [Card],
// which sends commands over the one seam [apdu.Transmitter].
//
// Every status word other than 9000 becomes a [*StatusError] that names the command, the gemSpec_COS name of the status
// and the result name of the platform blocks (gemSpec_Systemprozesse_dezTI), by which TAB_ADV_318 chooses the text for
// the insured person. Commands for which the terminal has no use do not exist here (AdV-A_2555).
package cos

import (
	"context"
	"errors"
	"fmt"

	"ktradv/hw/apdu"
	"ktradv/hw/tlv"
)

// Limits are the longest APDUs, in octets, that card and reader take.
type Limits struct {
	Command  int // longest command APDU
	Response int // longest response APDU
}

// The usual limits. Every eGK of generation 2 and later takes MinimumLimits (gemSpec_COS N029.890); ShortLimits serve a
// reader without extended length.
var (
	MinimumLimits = Limits{Command: 1033, Response: 32770}
	ShortLimits   = Limits{Command: 4 + 1 + apdu.MaxShortData + 1, Response: apdu.MaxShortNe + 2}
)

// maxFile is the longest transparent file: offsets have 15 bits.
const maxFile = 1 << 15

// Card sends typed commands. It is not safe for concurrent use.
type Card struct {
	t      apdu.Transmitter
	limits Limits
}

// New returns a card with [MinimumLimits], or with those that t itself states through a method
// APDULimits() (command, response int), as a reader without extended length does.
func New(t apdu.Transmitter) *Card {
	l := MinimumLimits
	if s, ok := t.(interface {
		APDULimits() (command, response int)
	}); ok {
		l.Command, l.Response = s.APDULimits()
	}
	return NewLimited(t, l)
}

// NewLimited returns a card with other limits, such as those of EF.ATR or of a reader.
func NewLimited(t apdu.Transmitter, l Limits) *Card { return &Card{t: t, limits: l} }

// Do sends a command and returns the response data. The error is a [*StatusError] for a status word other than 9000;
// data that came along with a warning is returned with it.
func (c *Card) Do(ctx context.Context, cmd apdu.Command) ([]byte, error) {
	resp, err := c.t.Transmit(ctx, cmd)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Name(cmd), err)
	}
	return resp.Data, Check(cmd, resp.SW)
}

func (c *Card) run(ctx context.Context, cmd apdu.Command) error {
	_, err := c.Do(ctx, cmd)
	return err
}

// SelectMF selects the root application.
func (c *Card) SelectMF(ctx context.Context) error { return c.run(ctx, SelectMF()) }

// SelectAID selects an application.
func (c *Card) SelectAID(ctx context.Context, aid []byte) error {
	if err := c.run(ctx, SelectAID(aid)); err != nil {
		return fmt.Errorf("application %X: %w", aid, err)
	}
	return nil
}

// ReadBinary reads octets of a transparent file: exactly one command. ne as in [apdu.Command]. Fewer octets than asked
// for are no error; of the warnings only CorruptDataWarning is reported, together with the data.
func (c *Card) ReadBinary(ctx context.Context, sfid byte, offset, ne int) ([]byte, error) {
	if offset < 0 || offset >= maxFile || sfid != 0 && (offset > 0xFF || sfid > 30) {
		return nil, fmt.Errorf("read file %02X: offset %d cannot be addressed", sfid, offset)
	}
	data, err := c.Do(ctx, ReadBinary(sfid, offset, ne))
	if err != nil && IsResult(err, ResultOK) {
		err = nil
	}
	if err != nil {
		return data, fmt.Errorf("read file %02X at %d: %w", sfid, offset, err)
	}
	return data, nil
}

// ReadFile reads a transparent file of the current application up to its logical end. size is the file's size as the
// object system lists it, 0 when unknown: a file of at most 256 octets is read with one short command, a longer one with
// as few extended commands as the limits allow. An empty file gives no octets and no error.
func (c *Card) ReadFile(ctx context.Context, sfid byte, size int) ([]byte, error) {
	chunk := min(c.limits.Response-2, apdu.MaxNe)
	if size > 0 && size <= apdu.MaxShortNe {
		chunk = min(chunk, apdu.MaxShortNe)
	}
	ne := chunk
	if chunk >= maxFile {
		ne = apdu.MaxNe // the wildcard: the card gives what there is
	}
	first, err := c.ReadBinary(ctx, sfid, 0, ne)
	if IsResult(err, ResultOffsetTooBig) {
		return nil, nil
	}
	if err != nil && !IsWarning(err) {
		return nil, err
	}
	all, warning := first, err
	for n := len(first); n == chunk && len(all) < maxFile && (size == 0 || len(all) < size); {
		// The short file identifier of the first command has selected the file.
		more, err := c.ReadBinary(ctx, 0, len(all), ne)
		if IsResult(err, ResultOffsetTooBig) {
			break
		}
		if err != nil && !IsWarning(err) {
			return nil, err
		}
		if err != nil {
			warning = err
		}
		all = append(all[:len(all):len(all)], more...)
		n = len(more)
	}
	return all, warning
}

// UpdateBinary overwrites octets of a transparent file, in as few commands as the limits allow. UpdateRetryWarning is
// returned after the last command: the data was written.
func (c *Card) UpdateBinary(ctx context.Context, sfid byte, offset int, data []byte) error {
	if offset < 0 || offset+len(data) > maxFile || sfid != 0 && (offset > 0xFF || sfid > 30) {
		return fmt.Errorf("update file %02X: offset %d cannot be addressed", sfid, offset)
	}
	chunk := apdu.MaxShortData
	if c.limits.Command > ShortLimits.Command {
		chunk = max(chunk, c.limits.Command-4-3)
	}
	var warning error
	for {
		n := min(chunk, len(data))
		err := c.run(ctx, UpdateBinary(sfid, offset, data[:n]))
		if err != nil && !IsWarning(err) {
			return fmt.Errorf("update file %02X at %d: %w", sfid, offset, err)
		}
		warning = errors.Join(warning, err)
		data, offset, sfid = data[n:], offset+n, 0
		if len(data) == 0 {
			return warning
		}
	}
}

// EraseBinary erases a transparent file from offset on.
func (c *Card) EraseBinary(ctx context.Context, sfid byte, offset int) error {
	return c.run(ctx, EraseBinary(sfid, offset))
}

// SetLogicalEOF ends the content of a transparent file at offset.
func (c *Card) SetLogicalEOF(ctx context.Context, sfid byte, offset int) error {
	return c.run(ctx, SetLogicalEOF(sfid, offset))
}

// ReadRecord reads a record. CorruptDataWarning is reported together with the data.
func (c *Card) ReadRecord(ctx context.Context, sfid, rec byte) ([]byte, error) {
	data, err := c.Do(ctx, ReadRecord(sfid, rec, apdu.MaxShortNe))
	if err != nil && IsResult(err, ResultOK) {
		err = nil
	}
	if err != nil {
		return data, fmt.Errorf("read record %d of file %02X: %w", rec, sfid, err)
	}
	return data, nil
}

// AppendRecord adds a record.
func (c *Card) AppendRecord(ctx context.Context, sfid byte, data []byte) error {
	return c.run(ctx, AppendRecord(sfid, data))
}

// Activate makes the current application visible again.
func (c *Card) Activate(ctx context.Context) error { return c.run(ctx, Activate()) }

// Deactivate hides the current application.
func (c *Card) Deactivate(ctx context.Context) error { return c.run(ctx, Deactivate()) }

// PINState is the state of a password object, with the names of PL_TUC_CARD_INFORMATION (TIP1-A_6899).
type PINState int

// The states.
const (
	PINUnknown     PINState = iota
	PINAbsent               // the card has no such password
	PINVerified             // PasswordEnabledVerified
	PINNotVerified          // PasswordEnabledNotVerified.X
	PINBlocked              // PasswordBlocked
	PINDisabled             // PasswordDisabled
	PINTransport            // TransportProtected: the transport PIN has to be changed first
	PINEmpty                // TransportProtected: the first PIN has still to be set
)

var pinStateNames = [...]string{"unknown", "absent", "verified", "not verified", "blocked", "disabled", "transport PIN", "no PIN set"}

// String returns an English name of the state.
func (s PINState) String() string {
	if s < 0 || int(s) >= len(pinStateNames) {
		return pinStateNames[PINUnknown]
	}
	return pinStateNames[s]
}

// PINStatus is the answer to GET PIN STATUS.
type PINStatus struct {
	State PINState
	Left  int // tries left when the state is PINNotVerified
}

// Transport reports whether the password is protected by one of the transport states.
func (s PINStatus) Transport() bool { return s.State == PINTransport || s.State == PINEmpty }

// ParsePINStatus translates a status word of GET PIN STATUS. Words that the command cannot give are an error.
func ParsePINStatus(status uint16) (PINStatus, error) {
	switch {
	case status == apdu.SWOK:
		return PINStatus{State: PINVerified}, nil
	case status == 0x62C1:
		return PINStatus{State: PINTransport}, nil
	case status == 0x62C7:
		return PINStatus{State: PINEmpty}, nil
	case status == 0x62D0:
		return PINStatus{State: PINDisabled}, nil
	case status == 0x63C0:
		return PINStatus{State: PINBlocked}, nil
	case status&0xFFF0 == 0x63C0:
		return PINStatus{State: PINNotVerified, Left: int(status & 0xF)}, nil
	case status == 0x6A88 || status == 0x6988:
		return PINStatus{State: PINAbsent}, nil
	}
	return PINStatus{}, Check(GetPINStatus(0), status)
}

// GetPINStatus asks for the state of a password.
func (c *Card) GetPINStatus(ctx context.Context, ref PasswordRef) (PINStatus, error) {
	cmd := GetPINStatus(ref)
	resp, err := c.t.Transmit(ctx, cmd)
	if err != nil {
		return PINStatus{}, fmt.Errorf("%s of %02X: %w", Name(cmd), byte(ref), err)
	}
	s, err := ParsePINStatus(resp.SW)
	if err != nil {
		return s, fmt.Errorf("password %02X: %w", byte(ref), err)
	}
	return s, nil
}

// ErrResponseLength is wrapped when a response with status 9000 has not the length that the command asks for.
var ErrResponseLength = errors.New("response of wrong length")

func (c *Card) exact(ctx context.Context, cmd apdu.Command, n int) ([]byte, error) {
	data, err := c.Do(ctx, cmd)
	if err != nil {
		return nil, err
	}
	if len(data) != n {
		return nil, fmt.Errorf("%s: %w: %d octets, want %d", Name(cmd), ErrResponseLength, len(data), n)
	}
	return data, nil
}

// GetChallenge asks for n random octets for the next external authentication.
func (c *Card) GetChallenge(ctx context.Context, n int) ([]byte, error) {
	return c.exact(ctx, GetChallenge(n), n)
}

// MSEInternalAuth selects a private key for authentication.
func (c *Card) MSEInternalAuth(ctx context.Context, keyRef, alg byte) error {
	return c.run(ctx, MSEInternalAuth(keyRef, alg))
}

// MSEExternalAuth selects an imported public key for authentication.
func (c *Card) MSEExternalAuth(ctx context.Context, chr []byte, alg byte) error {
	return c.run(ctx, MSEExternalAuth(chr, alg))
}

// MSEVerifyCert selects a public key for the import of a certificate.
func (c *Card) MSEVerifyCert(ctx context.Context, car []byte) error {
	return c.run(ctx, MSEVerifyCert(car))
}

// PSOVerifyCertificate imports a certificate; content is that of 7F21.
func (c *Card) PSOVerifyCertificate(ctx context.Context, content []byte) error {
	return c.run(ctx, PSOVerifyCertificate(content))
}

// InternalAuthenticate lets the card sign a token. The result is R‖S, its length is up to the caller's key.
func (c *Card) InternalAuthenticate(ctx context.Context, token []byte) ([]byte, error) {
	return c.Do(ctx, InternalAuthenticate(token))
}

// ExternalAuthenticate proves a role to the card.
func (c *Card) ExternalAuthenticate(ctx context.Context, proof []byte) error {
	return c.run(ctx, ExternalAuthenticate(proof))
}

// GeneralAuthenticateChallenge is step 1 of the trusted channel and returns the card's ephemeral public key, an
// uncompressed point that the caller has to check.
func (c *Card) GeneralAuthenticateChallenge(ctx context.Context, chr []byte) ([]byte, error) {
	data, err := c.Do(ctx, GeneralAuthenticateChallenge(chr))
	if err != nil {
		return nil, err
	}
	return ParseGeneralAuthenticate(data)
}

// ParseGeneralAuthenticate takes the card's ephemeral public key from the answer 7C{85 point}.
func ParseGeneralAuthenticate(data []byte) ([]byte, error) {
	inner, err := tlv.Only(data, 0x7C)
	if err != nil {
		return nil, fmt.Errorf("GENERAL AUTHENTICATE answer: %w", err)
	}
	point, err := tlv.Only(inner, 0x85)
	if err != nil {
		return nil, fmt.Errorf("GENERAL AUTHENTICATE answer: %w", err)
	}
	return point, nil
}

// GeneralAuthenticateKey is step 2 of the trusted channel.
func (c *Card) GeneralAuthenticateKey(ctx context.Context, point []byte) error {
	return c.run(ctx, GeneralAuthenticateKey(point))
}

// ManageChannelReset clears every security state of the card on all logical channels.
func (c *Card) ManageChannelReset(ctx context.Context) error { return c.run(ctx, ResetChannels()) }

// KeyRef names a public key on the card.
type KeyRef struct {
	Application []byte // application identifier of the folder that holds the key
	ForCerts    bool   // verifies certificates (CAR), else authenticates (CHR)
	ID          []byte // CAR or CHR
}

// ListPublicKeys returns the names of the public keys on the card. truncated tells that the card had more than it
// could send.
func (c *Card) ListPublicKeys(ctx context.Context) (keys []KeyRef, truncated bool, err error) {
	data, err := c.Do(ctx, ListPublicKey())
	if IsWarning(err) {
		truncated, err = true, nil
	}
	if err != nil {
		return nil, false, err
	}
	keys, err = ParseKeyList(data)
	return keys, truncated, err
}

// ParseKeyList decodes the answer to LIST PUBLIC KEY: a sequence of E0{4F application, B6{83 CAR} or A4{83 CHR}}.
func ParseKeyList(data []byte) ([]KeyRef, error) {
	entries, err := tlv.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("list of public keys: %w", err)
	}
	var keys []KeyRef
	for i, e := range entries {
		parts, err := tlv.Parse(e.Value)
		if err != nil || e.Tag != 0xE0 || len(parts) != 2 || parts[0].Tag != 0x4F || parts[1].Tag != 0xB6 && parts[1].Tag != 0xA4 {
			return nil, fmt.Errorf("list of public keys: entry %d: %w", i+1, errors.Join(tlv.ErrMalformed, err))
		}
		id, err := tlv.Only(parts[1].Value, 0x83)
		if err != nil {
			return nil, fmt.Errorf("list of public keys: entry %d: %w", i+1, err)
		}
		keys = append(keys, KeyRef{Application: parts[0].Value, ForCerts: parts[1].Tag == 0xB6, ID: id})
	}
	return keys, nil
}
