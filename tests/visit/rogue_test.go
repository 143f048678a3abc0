package visit

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc"

	"ktradv/hw/apdu"
	"ktradv/hw/c2c"
	"ktradv/server/api"
)

// stream is the server's end of a conversation.
type stream = grpc.BidiStreamingServer[api.AppMessage, api.ServerMessage]

// errVanish ends a rogue's conversation without a word.
var errVanish = errors.New("gone")

// rogue is a server that has the keys of a real one and runs the conversation as the product does, until it does something
// else.
type rogue struct {
	api.UnimplementedAdVServer
	world *World
	// commands may change a batch before it is sent, or send something else itself and return nil or an error.
	commands func(s stream, c *api.Commands) (*api.Commands, error)
	// result is sent for an unlocked card; nil is an honest one.
	result func(s stream) (*api.ServerMessage, error)
	// after is called when the card is unlocked and the result sent; nil waits for the end of the session.
	after func(s stream) error
}

var rogueSteps = map[c2c.Step]api.Step{
	c2c.StepChannelOpen: api.Step_STEP_CHANNEL_OPEN, c2c.StepPINStatus: api.Step_STEP_PIN_STATUS,
	c2c.StepRoleImport: api.Step_STEP_ROLE_IMPORT, c2c.StepRoleAuthenticate: api.Step_STEP_ROLE_AUTHENTICATE,
}

// Session implements api.AdVServer.
func (g *rogue) Session(s stream) error {
	err := g.converse(s)
	if errors.Is(err, errVanish) {
		return nil
	}
	return err
}

func (g *rogue) converse(s stream) error {
	msg, err := s.Recv()
	if err != nil {
		return err
	}
	start := msg.GetStart()
	id, err := g.world.Identities.Lookup(s.Context(), start.GetIk())
	if err != nil {
		return err
	}
	u, err := c2c.NewUnlock(s.Context(), c2c.Config{Identity: id, CardCVC: start.CvcEgkAut, CardCACVC: start.CvcEgkCa,
		Roots: g.world.Roots, Now: g.world.PKI.Now()})
	if err != nil {
		return err
	}
	var responses []apdu.Response
	for {
		batch, done, err := u.Next(s.Context(), responses)
		if err != nil {
			return err
		}
		if done {
			break
		}
		if responses, err = g.batch(s, batch); err != nil {
			return err
		}
	}
	answer := &api.ServerMessage{Body: &api.ServerMessage_Unlocked{Unlocked: &api.Unlocked{Certificate: &api.CertificateResult{
		MathValid: true, TimeValid: true, Online: api.OnlineStatus_ONLINE_STATUS_GOOD}}}}
	if g.result != nil {
		if answer, err = g.result(s); err != nil {
			return err
		}
	}
	if err := s.Send(answer); err != nil {
		return err
	}
	if g.after != nil {
		return g.after(s)
	}
	_, err = s.Recv()
	return err
}

func (g *rogue) batch(s stream, batch c2c.Batch) ([]apdu.Response, error) {
	out := &api.Commands{Step: rogueSteps[batch.Step]}
	for _, c := range batch.Commands {
		raw, err := c.APDU.Bytes()
		if err != nil {
			return nil, err
		}
		w := &api.Command{Apdu: raw}
		for _, sw := range c.Expected {
			w.ExpectedSw = append(w.ExpectedSw, uint32(sw))
		}
		out.Command = append(out.Command, w)
	}
	if out.Step == api.Step_STEP_ROLE_AUTHENTICATE {
		out.Actor = &api.Actor{Name: InsurerName, Iccsn: InsurerICCSN}
	}
	n := len(out.Command)
	if g.commands != nil {
		var err error
		if out, err = g.commands(s, out); err != nil {
			return nil, err
		}
	}
	if err := s.Send(&api.ServerMessage{Body: &api.ServerMessage_Commands{Commands: out}}); err != nil {
		return nil, err
	}
	msg, err := s.Recv()
	if err != nil {
		return nil, err
	}
	var responses []apdu.Response
	for _, raw := range msg.GetResponses().GetApdu() {
		r, err := apdu.ParseResponse(raw)
		if err != nil {
			return nil, err
		}
		responses = append(responses, r)
	}
	if len(responses) > n { // those to commands of its own the rogue keeps for itself
		responses = responses[:n]
	}
	return responses, nil
}

// at makes a change at one step of the conversation.
func at(step api.Step, change func(s stream, c *api.Commands) (*api.Commands, error)) func(stream, *api.Commands) (*api.Commands, error) {
	return func(s stream, c *api.Commands) (*api.Commands, error) {
		if c.Step != step {
			return c, nil
		}
		return change(s, c)
	}
}

// insert puts a command into a batch: at a place from the start, or from the end for a negative one (-1 is the end). It
// returns the place from the start.
func insert(c *api.Commands, place int, raw []byte) int {
	if place < 0 {
		place += len(c.Command) + 1
	}
	c.Command = slices.Insert(c.Command, place, &api.Command{Apdu: raw, ExpectedSw: []uint32{0x9000}})
	return place
}

// steps are all steps of the conversation in order.
var steps = []api.Step{
	api.Step_STEP_CHANNEL_OPEN, api.Step_STEP_PIN_STATUS, api.Step_STEP_ROLE_IMPORT, api.Step_STEP_ROLE_AUTHENTICATE,
}

// failure is the word of a server that gives up.
func failure(code api.FailureCode) *api.ServerMessage {
	return &api.ServerMessage{Body: &api.ServerMessage_Failure{Failure: &api.Failure{Code: code}}}
}

func stepName(s api.Step) string { return fmt.Sprintf("step_%d", s) }
