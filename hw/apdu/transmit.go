package apdu

import (
	"context"
	"errors"
	"fmt"
)

// Errors that a [Transmitter] returns, wrapped with more detail, when no response arrived. Callers test with errors.Is.
var (
	// ErrCardRemoved: the card was taken out of the reader, or was never in it.
	ErrCardRemoved = errors.New("card removed")
	// ErrCardMute: the card is in the reader and does not answer, or answers what is no response.
	ErrCardMute = errors.New("card does not answer")
	// ErrReaderGone: the reader or the service that drives it cannot be reached any more.
	ErrReaderGone = errors.New("reader gone")
	// ErrTimeout: no answer within the time that the transmitter allows.
	ErrTimeout = errors.New("no answer in time")
)

// Transmitter is the one way to a card: it sends a command and returns the card's response. A status word other than
// 9000 is a response, not an error. Implementations need not allow concurrent calls.
type Transmitter interface {
	Transmit(ctx context.Context, c Command) (Response, error)
}

// TransmitterFunc makes a function a [Transmitter].
type TransmitterFunc func(ctx context.Context, c Command) (Response, error)

// Transmit calls f.
func (f TransmitterFunc) Transmit(ctx context.Context, c Command) (Response, error) { return f(ctx, c) }

// RawTransmitter moves encoded APDUs, as a reader does.
type RawTransmitter interface {
	TransmitRaw(ctx context.Context, cmd []byte) ([]byte, error)
}

// RawFunc makes a function a [RawTransmitter].
type RawFunc func(ctx context.Context, cmd []byte) ([]byte, error)

// TransmitRaw calls f.
func (f RawFunc) TransmitRaw(ctx context.Context, cmd []byte) ([]byte, error) { return f(ctx, cmd) }

// FromRaw makes a [Transmitter] of r: it encodes the command, checks the form of the answer, and refuses an answer with
// more octets than the command asked for. An answer that is no response APDU is reported as [ErrCardMute]: such a card
// cannot be used any further. The eGK speaks T=1, so no GET RESPONSE of the T=0 protocol is sent.
func FromRaw(r RawTransmitter) Transmitter {
	return TransmitterFunc(func(ctx context.Context, c Command) (Response, error) {
		raw, err := c.Bytes()
		if err != nil {
			return Response{}, fmt.Errorf("encode %v: %w", c, err)
		}
		if err := ctx.Err(); err != nil {
			return Response{}, fmt.Errorf("send %v: %w", c, err)
		}
		answer, err := r.TransmitRaw(ctx, raw)
		if err != nil {
			return Response{}, fmt.Errorf("send %v: %w", c, err)
		}
		resp, err := ParseResponse(answer)
		if err != nil {
			return Response{}, fmt.Errorf("answer to %v: %w: %w", c, ErrCardMute, err)
		}
		if len(resp.Data) > c.Ne {
			return Response{}, fmt.Errorf("answer to %v: %w: %w: %d data octets, at most %d asked for", c, ErrCardMute, ErrMalformedResponse, len(resp.Data), c.Ne)
		}
		return resp, nil
	})
}
