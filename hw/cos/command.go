package cos

import "ktradv/hw/apdu"

// The builders of this file give the bare commands, so that they can be sent by [Card], be put into a batch for a card
// far away, be handed to a reader's PIN pad, or be compared by a filter. Byte values: gemSpec_COS as transcribed in
// egk-card.md 2.2 and 2.5. A short file identifier (sfid) of 0 means the file that is currently selected.

// SelectMF selects the root application, without a response.
func SelectMF() apdu.Command { return apdu.Command{INS: 0xA4, P1: 0x04, P2: 0x0C} }

// SelectAID selects an application by its application identifier, without a response.
func SelectAID(aid []byte) apdu.Command {
	return apdu.Command{INS: 0xA4, P1: 0x04, P2: 0x0C, Data: aid}
}

// binary gives P1 P2 of the commands on transparent files. With a short file identifier the offset is limited to 255,
// without one to 32767; larger offsets are cut by the caller ([Card] refuses them).
func binary(sfid byte, offset int) (p1, p2 byte) {
	if sfid != 0 {
		return 0x80 | sfid&0x1F, byte(offset)
	}
	return byte(offset>>8) & 0x7F, byte(offset)
}

// ReadBinary reads up to ne octets of a transparent file; ne as in [apdu.Command].
func ReadBinary(sfid byte, offset, ne int) apdu.Command {
	p1, p2 := binary(sfid, offset)
	return apdu.Command{INS: 0xB0, P1: p1, P2: p2, Ne: ne}
}

// UpdateBinary overwrites octets of a transparent file.
func UpdateBinary(sfid byte, offset int, data []byte) apdu.Command {
	p1, p2 := binary(sfid, offset)
	return apdu.Command{INS: 0xD6, P1: p1, P2: p2, Data: data}
}

// EraseBinary erases a transparent file from offset to its logical end.
func EraseBinary(sfid byte, offset int) apdu.Command {
	p1, p2 := binary(sfid, offset)
	return apdu.Command{INS: 0x0E, P1: p1, P2: p2}
}

// SetLogicalEOF ends the content of a transparent file at offset. The instruction is 80 0E: card images and a real
// card's access rules agree, other sources name 80 E0.
func SetLogicalEOF(sfid byte, offset int) apdu.Command {
	p1, p2 := binary(sfid, offset)
	return apdu.Command{CLA: 0x80, INS: 0x0E, P1: p1, P2: p2}
}

// record gives P2 of the commands on one record.
func record(sfid byte) byte { return sfid<<3 | 4 }

// ReadRecord reads a record; records count from 1, in a cyclic file 1 is the newest.
func ReadRecord(sfid, rec byte, ne int) apdu.Command {
	return apdu.Command{INS: 0xB2, P1: rec, P2: record(sfid), Ne: ne}
}

// AppendRecord adds a record; a cyclic file drops its oldest one for it.
func AppendRecord(sfid byte, data []byte) apdu.Command {
	return apdu.Command{INS: 0xE2, P2: sfid << 3, Data: data}
}

// Activate makes the current application visible again.
func Activate() apdu.Command { return apdu.Command{INS: 0x44} }

// Deactivate hides the current application.
func Deactivate() apdu.Command { return apdu.Command{INS: 0x04} }

// PasswordRef is the reference octet of a password object: its identifier for one in the MF, with bit 80 set for one in
// the application that has to be selected.
type PasswordRef byte

// blankPIN is a format-2 PIN block without digits, the place where a PIN pad puts them: control nibble 2, length nibble
// 0, filled with F (egk-card.md 2.3).
var blankPIN = [8]byte{0x20, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}

func pinTemplate(ins, p1 byte, ref PasswordRef, blocks int) apdu.Command {
	c := apdu.Command{INS: ins, P1: p1, P2: byte(ref)}
	for range blocks {
		c.Data = append(c.Data, blankPIN[:]...)
	}
	return c
}

// VerifyTemplate is VERIFY for a PIN pad: one blank PIN block.
func VerifyTemplate(ref PasswordRef) apdu.Command { return pinTemplate(0x20, 0, ref, 1) }

// ChangeTemplate is CHANGE REFERENCE DATA for a PIN pad: blank blocks for the old and the new PIN.
func ChangeTemplate(ref PasswordRef) apdu.Command { return pinTemplate(0x24, 0, ref, 2) }

// SetTemplate is CHANGE REFERENCE DATA for a PIN pad without the old PIN (a password without secret, PIN.AMTS_REP).
func SetTemplate(ref PasswordRef) apdu.Command { return pinTemplate(0x24, 1, ref, 1) }

// UnblockTemplate is RESET RETRY COUNTER for a PIN pad: blank blocks for the PUK and a new PIN.
func UnblockTemplate(ref PasswordRef) apdu.Command { return pinTemplate(0x2C, 0, ref, 2) }

// UnblockOnlyTemplate is RESET RETRY COUNTER for a PIN pad with the PUK only; the PIN stays as it was.
func UnblockOnlyTemplate(ref PasswordRef) apdu.Command { return pinTemplate(0x2C, 1, ref, 1) }

// ResetTemplate is RESET RETRY COUNTER for a PIN pad with a new PIN only; an access rule takes the place of the PUK
// (PIN.AMTS_REP).
func ResetTemplate(ref PasswordRef) apdu.Command { return pinTemplate(0x2C, 2, ref, 1) }

// DisableTemplate is DISABLE VERIFICATION REQUIREMENT for a PIN pad.
func DisableTemplate(ref PasswordRef) apdu.Command { return pinTemplate(0x26, 0, ref, 1) }

// EnableTemplate is ENABLE VERIFICATION REQUIREMENT for a PIN pad.
func EnableTemplate(ref PasswordRef) apdu.Command { return pinTemplate(0x28, 0, ref, 1) }

// GetPINStatus asks for the state of a password; the answer is the status word alone.
func GetPINStatus(ref PasswordRef) apdu.Command {
	return apdu.Command{CLA: 0x80, INS: 0x20, P2: byte(ref)}
}

// Lengths of the challenge (Le of GET CHALLENGE).
const (
	ChallengeSymmetric = 8  // for secret keys
	ChallengeELC       = 16 // for keys on elliptic curves
)

// GetChallenge asks for a random number that the card remembers for the next external authentication.
func GetChallenge(n int) apdu.Command { return apdu.Command{INS: 0x84, Ne: n} }

// ListPublicKey asks for the names of the public keys that the card holds.
func ListPublicKey() apdu.Command {
	return apdu.Command{CLA: 0x80, INS: 0xCA, P1: 0x01, Ne: apdu.MaxNe}
}

// ResetChannels closes all further logical channels and clears every security state of the card (application level
// reset; PL_TUC_CARD_RESET, TIP1-A_7020).
func ResetChannels() apdu.Command { return apdu.Command{INS: 0x70, P1: 0x40, P2: 0x01} }

// Algorithm identifiers of gemSpec_COS tables 268 to 270 as used in MANAGE SECURITY ENVIRONMENT.
const (
	AlgRoleAuthentication = 0x00 // elcRoleAuthentication, elcRoleCheck
	AlgSessionKey4SM      = 0x54 // elcSessionkey4SM: the card's side of a trusted channel
)

// MSEInternalAuth selects a private key for INTERNAL or GENERAL AUTHENTICATE.
func MSEInternalAuth(keyRef, alg byte) apdu.Command {
	return apdu.Command{INS: 0x22, P1: 0x41, P2: 0xA4, Data: []byte{0x84, 1, keyRef, 0x80, 1, alg}}
}

// MSEExternalAuth selects an imported public key, by its holder reference (CHR), for EXTERNAL AUTHENTICATE.
func MSEExternalAuth(chr []byte, alg byte) apdu.Command {
	data := append([]byte{0x83, byte(len(chr))}, chr...)
	return apdu.Command{INS: 0x22, P1: 0x81, P2: 0xA4, Data: append(data, 0x80, 1, alg)}
}

// MSEVerifyCert selects a public key, by the reference of the authority (CAR), for PSO VERIFY CERTIFICATE.
func MSEVerifyCert(car []byte) apdu.Command {
	return apdu.Command{INS: 0x22, P1: 0x81, P2: 0xB6, Data: append([]byte{0x83, byte(len(car))}, car...)}
}

// PSOVerifyCertificate imports the key of a card-verifiable certificate. The data field is the content of 7F21, that is
// body (7F4E) and signature (5F37) without the outer tag.
func PSOVerifyCertificate(content []byte) apdu.Command {
	return apdu.Command{INS: 0x2A, P1: 0x00, P2: 0xBE, Data: content}
}

// InternalAuthenticate lets the card prove that it has the private key selected by [MSEInternalAuth].
func InternalAuthenticate(token []byte) apdu.Command {
	return apdu.Command{INS: 0x88, Data: token, Ne: apdu.MaxShortNe}
}

// ExternalAuthenticate proves to the card the possession of the key selected by [MSEExternalAuth]; proof is a signature
// over the card's challenge.
func ExternalAuthenticate(proof []byte) apdu.Command { return apdu.Command{INS: 0x82, Data: proof} }

// GeneralAuthenticateChallenge is step 1 of the trusted channel (elcSessionkey4SM): it names the imported public key of
// the other side; the card answers with its ephemeral public key.
func GeneralAuthenticateChallenge(chr []byte) apdu.Command {
	inner := append([]byte{0xC3, byte(len(chr))}, chr...)
	return apdu.Command{CLA: 0x10, INS: 0x86, Data: append([]byte{0x7C, byte(len(inner))}, inner...), Ne: apdu.MaxShortNe}
}

// GeneralAuthenticateKey is step 2 of the trusted channel: it brings the other side's ephemeral public key, an
// uncompressed point.
func GeneralAuthenticateKey(point []byte) apdu.Command {
	inner := append([]byte{0x85, byte(len(point))}, point...)
	return apdu.Command{INS: 0x86, Data: append([]byte{0x7C, byte(len(inner))}, inner...)}
}
