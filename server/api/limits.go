// Package api is the wire contract between AdV-App and AdV-Server: one bidirectional gRPC stream per session, defined in
// adv.proto, with the limits that both sides enforce on what they receive.
//
// Start reading at adv.proto, which shows the course of a session start. A receiver calls [CheckAppMessage] or
// [CheckServerMessage] on every message before it looks into it; what these functions pass is complete and bounded, but
// says nothing about whether it fits the state of the conversation.
//
// To change the contract edit adv.proto and run `go generate ./server/api`; the generated code is committed, so that a
// build needs no protoc.
package api

//go:generate ./generate.sh

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// Limits of the stream. They bound what a peer can make the other side hold in memory.
const (
	MaxMessageBytes = 64 << 10 // one encoded message, set as gRPC receive limit
	MaxCommands     = 16       // commands in a batch, and responses to it
	MaxCommandBytes = 4096     // one command APDU
	MaxResponse     = 4096     // one response APDU with status word
	MaxCVCBytes     = 512      // one CV certificate (222 bytes with P256, under 420 with P512)
	MaxCertBytes    = 4096     // one X.509 certificate
	MaxExpectedSW   = 4        // expected status words per command
	MaxActorName    = 64       // bytes of the actor's name
	MaxVersion      = 32       // characters of the app's version
)

// ErrMalformed marks a message that breaks the contract. The conversation cannot go on.
var ErrMalformed = errors.New("malformed message")

func malformed(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, a...))
}

// CheckAppMessage checks form and limits of a message of the app. The error never quotes what the message holds.
func CheckAppMessage(m *AppMessage) error {
	switch b := m.GetBody().(type) {
	case *AppMessage_Start:
		return checkStart(b.Start)
	case *AppMessage_Responses:
		return checkResponses(b.Responses)
	case *AppMessage_Abort:
		if b.Abort == nil {
			return malformed("abort is empty")
		}
		return nil
	default:
		return malformed("app message without body")
	}
}

func checkStart(s *Start) error {
	switch {
	case s == nil:
		return malformed("start is empty")
	case !IsOperationID(s.OperationId):
		return malformed("operation id is not a UUID")
	case !IsIK(s.Ik):
		return malformed("ik is not 9 digits")
	case !isVersion(s.AppVersion):
		return malformed("app version")
	case !sized(s.CvcEgkAut, 1, MaxCVCBytes):
		return malformed("cvc_egk_aut has %d bytes", len(s.CvcEgkAut))
	case !sized(s.CvcEgkCa, 1, MaxCVCBytes):
		return malformed("cvc_egk_ca has %d bytes", len(s.CvcEgkCa))
	case s.Generation != Generation_GENERATION_G2 && s.Generation != Generation_GENERATION_G2_1:
		return malformed("generation %d", s.Generation)
	}
	return nil
}

func checkResponses(r *Responses) error {
	if r == nil || len(r.Apdu) == 0 || len(r.Apdu) > MaxCommands {
		return malformed("%d responses", len(r.GetApdu()))
	}
	for i, a := range r.Apdu {
		if !sized(a, 2, MaxResponse) {
			return malformed("response %d has %d bytes", i, len(a))
		}
	}
	if c := r.CertificateCheck; c != nil && !sized(c.CertAutn, 1, MaxCertBytes) {
		return malformed("cert_autn has %d bytes", len(c.CertAutn))
	}
	return nil
}

// CheckServerMessage checks form and limits of a message of the server.
func CheckServerMessage(m *ServerMessage) error {
	switch b := m.GetBody().(type) {
	case *ServerMessage_Commands:
		return checkCommands(b.Commands)
	case *ServerMessage_Unlocked:
		c := b.Unlocked.GetCertificate()
		if c == nil {
			return malformed("unlocked without certificate result")
		}
		if c.Online < OnlineStatus_ONLINE_STATUS_GOOD || c.Online > OnlineStatus_ONLINE_STATUS_CHECK_FAILED {
			return malformed("online status %d", c.Online)
		}
		return nil
	case *ServerMessage_Failure:
		if b.Failure == nil || b.Failure.Sw > 0xFFFF {
			return malformed("failure")
		}
		return nil
	default:
		return malformed("server message without body")
	}
}

func checkCommands(c *Commands) error {
	if c == nil || len(c.Command) == 0 || len(c.Command) > MaxCommands {
		return malformed("%d commands", len(c.GetCommand()))
	}
	if c.Step < Step_STEP_CHANNEL_OPEN || c.Step > Step_STEP_ROLE_AUTHENTICATE {
		return malformed("step %d", c.Step)
	}
	for i, cmd := range c.Command {
		if !sized(cmd.GetApdu(), 4, MaxCommandBytes) {
			return malformed("command %d has %d bytes", i, len(cmd.GetApdu()))
		}
		if n := len(cmd.ExpectedSw); n == 0 || n > MaxExpectedSW {
			return malformed("command %d has %d expected status words", i, n)
		}
		for _, sw := range cmd.ExpectedSw {
			if sw > 0xFFFF {
				return malformed("command %d expects status word %#x", i, sw)
			}
		}
	}
	if (c.Actor != nil) != (c.Step == Step_STEP_ROLE_AUTHENTICATE) {
		return malformed("actor and step %s", c.Step)
	}
	if a := c.Actor; a != nil {
		if len(a.Name) == 0 || len(a.Name) > MaxActorName || !utf8.ValidString(a.Name) {
			return malformed("actor name has %d bytes", len(a.Name))
		}
		if len(a.Iccsn) != 20 || !digits(a.Iccsn) {
			return malformed("actor iccsn is not 20 digits")
		}
	}
	return nil
}

// IsIK reports whether s has the form of an Institutskennzeichen: 9 decimal digits.
func IsIK(s string) bool { return len(s) == 9 && digits(s) }

// IsOperationID reports whether s has the form of an operation id: a UUID in lower case with hyphens.
func IsOperationID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch i {
		case 8, 13, 18, 23:
			if s[i] != '-' {
				return false
			}
		default:
			if !('0' <= s[i] && s[i] <= '9' || 'a' <= s[i] && s[i] <= 'f') {
				return false
			}
		}
	}
	return true
}

func isVersion(s string) bool {
	if len(s) == 0 || len(s) > MaxVersion {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || c == '.' || c == '+' || c == '-') {
			return false
		}
	}
	return true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func sized(b []byte, lo, hi int) bool { return len(b) >= lo && len(b) <= hi }
