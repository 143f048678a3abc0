// Package terminal is a terminal in a few lines, for tests and benchmarks of the server: it speaks the session stream and
// runs what the server asks for on a card, without screen, reader or allow-list. The product's terminal is in kiosk.
package terminal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"ktradv/server/api"
)

// Card executes one raw command.
type Card func(command []byte) (response []byte)

// Stream is the terminal's end of the session stream.
type Stream interface {
	Send(*api.AppMessage) error
	Recv() (*api.ServerMessage, error)
	CloseSend() error
}

// Start is what the terminal has read from the card before.
type Start struct {
	OperationID, IK string
	AUTCVC, CACVC   []byte
	Generation      api.Generation
}

// Result is how a session start ended: exactly one of Unlocked and Failure is set.
type Result struct {
	Unlocked   *api.Unlocked
	Failure    *api.Failure
	Actor      *api.Actor
	RoundTrips int      // messages of the server that the terminal waited for
	Batches    [][]byte // the last command of each batch, for tests that look at the order
}

// Options change what the terminal does, for tests.
type Options struct {
	// Answer may replace the answer to a batch before it is sent; nil does not.
	Answer func(step api.Step, m *api.AppMessage) *api.AppMessage
	// AUTN reads C.CH.AUTN after the card has been unlocked; nil when it cannot be read.
	AUTN func() []byte
}

// Unlock runs a session start. The stream stays open after success.
func Unlock(s Stream, start Start, card Card, o Options) (Result, error) {
	var r Result
	err := s.Send(&api.AppMessage{Body: &api.AppMessage_Start{Start: &api.Start{OperationId: start.OperationID, Ik: start.IK,
		AppVersion: "1.2.3", CvcEgkAut: start.AUTCVC, CvcEgkCa: start.CACVC, Generation: start.Generation}}})
	if err != nil {
		return r, fmt.Errorf("send start: %w", err)
	}
	for {
		m, err := s.Recv()
		if err != nil {
			return r, fmt.Errorf("wait for server: %w", err)
		}
		if err := api.CheckServerMessage(m); err != nil {
			return r, err
		}
		r.RoundTrips++
		if r.Failure = m.GetFailure(); r.Failure != nil {
			_, err := s.Recv()
			if !errors.Is(err, io.EOF) {
				return r, fmt.Errorf("after a failure the stream goes on: %w", err)
			}
			return r, nil
		}
		if r.Unlocked = m.GetUnlocked(); r.Unlocked != nil {
			return r, nil
		}
		batch := m.GetCommands()
		if batch.Actor != nil {
			r.Actor = batch.Actor
		}
		r.Batches = append(r.Batches, batch.Command[len(batch.Command)-1].Apdu)
		answer := &api.Responses{}
		complete := true
		for _, c := range batch.Command {
			response := card(c.Apdu)
			answer.Apdu = append(answer.Apdu, response)
			if len(response) < 2 || !slices.Contains(c.ExpectedSw, uint32(binary.BigEndian.Uint16(response[len(response)-2:]))) {
				complete = false
				break
			}
		}
		if complete && batch.Step == api.Step_STEP_ROLE_AUTHENTICATE && o.AUTN != nil {
			if der := o.AUTN(); der != nil {
				answer.CertificateCheck = &api.CertificateCheck{CertAutn: der}
			}
		}
		out := &api.AppMessage{Body: &api.AppMessage_Responses{Responses: answer}}
		if o.Answer != nil {
			out = o.Answer(batch.Step, out)
		}
		if out == nil { // the terminal disappears
			return r, s.CloseSend()
		}
		if err := s.Send(out); err != nil {
			return r, fmt.Errorf("send answer: %w", err)
		}
	}
}
