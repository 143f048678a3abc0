package visit

import (
	"testing"

	"ktradv/internal/req"
	"ktradv/kiosk/view"
	"ktradv/server/api"
)

// A server that goes away while the person looks at menu or data ends the session in order: the person is told, the card is
// reset, nothing personal stays on the screen (AdV-A_2449, A_15116).
func TestServerGoneAfterTheStart(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2449")
	for name, leave := range map[string]func(*Server){
		"connection cut": (*Server).Cut,
		"server stopped": (*Server).Close,
	} {
		for _, at := range []view.Screen{view.Menu, view.Data} {
			t.Run(name+" at "+string(at), func(t *testing.T) {
				t.Parallel()
				srv := serve(t, world, ServerConfig{})
				r := newRig(t, TerminalConfig{Dial: dialer(srv)})
				r.toMenu("healthy-g21")
				if at == view.Data {
					r.Choose("vsd.show")
					r.screen(view.Data)
				}
				leave(srv)
				if v := r.problem("SERVER-LOST"); v.Personal || len(v.Data) != 0 {
					t.Errorf("personal data below the explanation: %t, %d sections", v.Personal, len(v.Data))
				}
				r.goneInOrder(srv)
			})
		}
	}
}

// The server may end the conversation by its own word, or say what nobody asked: both end the session.
func TestServerEndsTheConversationAfterTheStart(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]func(s stream) error{
		"ends the stream": func(stream) error { return errVanish },
		"is being stopped": func(s stream) error {
			return s.Send(failure(api.FailureCode_FAILURE_CODE_SHUTDOWN))
		},
		"sends commands": func(s stream) error {
			return s.Send(&api.ServerMessage{Body: &api.ServerMessage_Commands{Commands: &api.Commands{Step: api.Step_STEP_CHANNEL_OPEN,
				Command: []*api.Command{{Apdu: []byte{0x00, 0xA4, 0x04, 0x0C}, ExpectedSw: []uint32{0x9000}}}}}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			atMenu := make(chan struct{})
			srv := serve(t, world, ServerConfig{Service: &rogue{world: world, after: func(s stream) error {
				select {
				case <-atMenu:
				case <-s.Context().Done():
					return s.Context().Err()
				}
				return last(s)
			}}})
			r := newRig(t, TerminalConfig{Dial: dialer(srv)})
			r.toMenu("healthy-g21")
			sent := r.tap.Count()
			close(atMenu)
			r.problem("SERVER-LOST")
			for _, e := range r.tap.Exchanges()[sent:] {
				if e.Command[1] == 0xA4 && e.Command[2] == 0x04 && len(e.Command) == 4 {
					t.Error("a command that nobody asked for reached the card")
				}
			}
			r.goneInOrder(srv)
		})
	}
}

// goneInOrder checks the end of a session whose server is gone.
func (r *rig) goneInOrder(srv *Server) {
	r.t.Helper()
	if !wasReset(r.tap.Exchanges()) || r.tap.PINVerified() || r.tap.Unlocked() {
		r.t.Error("the card was not reset")
	}
	if err := srv.WaitUnconnected(r.ctx); err != nil {
		r.t.Error(err)
	}
	r.leave()
	sound(r.t, r.Views())
}
