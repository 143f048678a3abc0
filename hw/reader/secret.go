package reader

import (
	"context"
	"fmt"
	"time"

	"ktradv/hw/apdu"
)

// SecretInput are the parameters of ENV_TUC_SECRET_INPUT (gemSpec_KTR-AdV AdV-A_2506).
type SecretInput struct {
	Identifier           string // Identifikator: the PIN object, for example "PIN.CH"
	Action               string // Aktion, one of the Action constants
	MinLength, MaxLength int
	// CommandAPDUPart is the command, with a [Placeholder] for every secret that the person has to enter.
	CommandAPDUPart apdu.Command
	// Timeout for the first key, see [PINRequest].
	Timeout time.Duration
}

// EnterSecret is ENV_TUC_SECRET_INPUT: the person is told what to enter for which PIN, the reader completes the command
// with it and sends it to the card, and the card's answer is returned (AdV-A_2507). A command without data needs no
// secret and goes to the card as it is.
func EnterSecret(ctx context.Context, c Card, in SecretInput) (apdu.Response, PINResult, error) {
	if len(in.CommandAPDUPart.Data) == 0 {
		resp, err := c.Transmit(ctx, in.CommandAPDUPart)
		return resp, PINResult{SW: resp.SW}, err
	}
	prompt, ok := PromptFor(in.Identifier, in.Action)
	if !ok {
		return apdu.Response{}, PINResult{}, fmt.Errorf("no prompt for %s on %s: %w", in.Action, in.Identifier, ErrPINTemplate)
	}
	r := PINRequest{
		Command: in.CommandAPDUPart, Object: in.Identifier, Action: in.Action, MinLen: in.MinLength, MaxLen: in.MaxLength,
		Prompt: prompt.Text, NewPrompt: prompt.NewText, Timeout: in.Timeout,
	}
	enter := c.VerifyPIN
	if setsSecret(in.CommandAPDUPart) {
		enter = c.ModifyPIN
	}
	res, err := enter(ctx, r)
	if err != nil {
		return apdu.Response{}, res, err
	}
	return apdu.Response{SW: res.SW}, res, nil
}

// setsSecret tells whether a command gives a password a new secret, which the person has to enter twice: CHANGE
// REFERENCE DATA, and RESET RETRY COUNTER but for the variant with the PUK alone (gemSpec_COS 14.6).
func setsSecret(c apdu.Command) bool {
	return c.INS == 0x24 || c.INS == 0x2C && c.P1 != 0x01
}
