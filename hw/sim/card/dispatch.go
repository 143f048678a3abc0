package card

import "io"

type handler func(*Card, *command) ([]byte, uint16)

// commands maps class and instruction to the code of a command.
var commands = map[[2]byte]handler{
	{0x00, 0xA4}: (*Card).selectFile,
	{0x00, 0xB0}: (*Card).readBinary,
	{0x00, 0xD6}: (*Card).updateBinary,
	{0x00, 0xD0}: (*Card).writeBinary,
	{0x00, 0x0E}: (*Card).eraseBinary,
	{0x80, 0x0E}: (*Card).setLogicalEOF,

	{0x00, 0xB2}: (*Card).readRecord,
	{0x00, 0xA2}: (*Card).searchRecord,
	{0x00, 0xDC}: (*Card).updateRecord,
	{0x00, 0xE2}: (*Card).appendRecord,
	{0x00, 0x0C}: (*Card).eraseRecord,
	{0x80, 0x0C}: (*Card).deleteRecord,
	{0x00, 0x08}: (*Card).activateRecord,
	{0x00, 0x06}: (*Card).deactivateRecord,

	{0x00, 0x44}: (*Card).activate,
	{0x00, 0x04}: (*Card).deactivate,
	{0x00, 0xE8}: (*Card).terminate,
	{0x00, 0xE4}: (*Card).remove,
	{0x00, 0xEA}: (*Card).loadApplication,
	{0x10, 0xEA}: (*Card).loadApplication,

	{0x00, 0x20}: (*Card).verifyPIN,
	{0x80, 0x20}: (*Card).pinStatus,
	{0x00, 0x24}: (*Card).changePIN,
	{0x00, 0x2C}: (*Card).resetRetryCounter,
	{0x00, 0x26}: (*Card).disablePIN,
	{0x00, 0x28}: (*Card).enablePIN,

	{0x00, 0x84}: (*Card).getChallenge,
	{0x80, 0x84}: (*Card).getRandom,
	{0x80, 0xFA}: (*Card).fingerprint,
	{0x80, 0xCA}: (*Card).listPublicKeys,
	{0x00, 0x70}: (*Card).manageChannel,
	{0x00, 0x46}: (*Card).generateKeyPair,
	{0x00, 0x22}: (*Card).manageEnvironment,
	{0x00, 0x2A}: (*Card).performOperation,
	{0x00, 0x88}: (*Card).internalAuthenticate,
	{0x00, 0x82}: (*Card).externalAuthenticate,
	{0x00, 0x86}: (*Card).generalAuthenticate,
	{0x10, 0x86}: (*Card).generalAuthenticate,
}

// execute runs a command without secure messaging around it.
func (c *Card) execute(cmd *command) ([]byte, uint16) {
	run, ok := commands[[2]byte{cmd.cla, cmd.ins}]
	if !ok {
		return nil, swInstruction
	}
	if cmd.ins != 0x86 {
		// The steps of GENERAL AUTHENTICATE follow each other directly.
		c.ch.agree = nil
	}
	return run(c, cmd)
}

// output cuts a response to what the command asks for.
func output(cmd *command, data []byte) ([]byte, uint16) {
	if !cmd.hasLe {
		return nil, swWrongLength
	}
	return data[:min(len(data), cmd.ne)], swOK
}

// random returns n octets from the card's generator.
func (c *Card) random(n int) ([]byte, bool) {
	b := make([]byte, n)
	_, err := io.ReadFull(c.rand, b)
	return b, err == nil
}
