package api

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
)

const opID = "0b1c2d3e-0000-4000-8000-0123456789ab"

func validStart() *Start {
	return &Start{
		OperationId: opID, Ik: "109500969", AppVersion: "1.0.0", CvcEgkAut: make([]byte, 222),
		CvcEgkCa: make([]byte, 220), Generation: Generation_GENERATION_G2_1,
	}
}

func startMessage(change func(*Start)) *AppMessage {
	s := validStart()
	change(s)
	return &AppMessage{Body: &AppMessage_Start{Start: s}}
}

func responses(change func(*Responses)) *AppMessage {
	r := &Responses{Apdu: [][]byte{{0x90, 0x00}}, CertificateCheck: &CertificateCheck{CertAutn: make([]byte, 800)}}
	change(r)
	return &AppMessage{Body: &AppMessage_Responses{Responses: r}}
}

func commands(change func(*Commands)) *ServerMessage {
	c := &Commands{
		Step:    Step_STEP_ROLE_AUTHENTICATE,
		Command: []*Command{{Apdu: []byte{0, 0x82, 0, 0}, ExpectedSw: []uint32{0x9000}}},
		Actor:   &Actor{Name: "Krankenkasse", Iccsn: "80276001011699902101"},
	}
	change(c)
	return &ServerMessage{Body: &ServerMessage_Commands{Commands: c}}
}

func TestCheckAppMessage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		msg  *AppMessage
		ok   bool
	}{
		{"start", startMessage(func(*Start) {}), true},
		{"responses", responses(func(*Responses) {}), true},
		{"responses without certificate", responses(func(r *Responses) { r.CertificateCheck = nil }), true},
		{"abort", &AppMessage{Body: &AppMessage_Abort{Abort: &Abort{Code: AbortCode_ABORT_CODE_USER}}}, true},
		{"nil", nil, false},
		{"no body", &AppMessage{}, false},
		{"nil start", &AppMessage{Body: &AppMessage_Start{}}, false},
		{"nil responses", &AppMessage{Body: &AppMessage_Responses{}}, false},
		{"nil abort", &AppMessage{Body: &AppMessage_Abort{}}, false},
		{"operation id upper case", startMessage(func(s *Start) { s.OperationId = strings.ToUpper(opID) }), false},
		{"operation id with text", startMessage(func(s *Start) { s.OperationId = "Erika Mustermann" }), false},
		{"operation id hyphen", startMessage(func(s *Start) { s.OperationId = strings.Replace(opID, "-", "0", 1) }), false},
		{"ik short", startMessage(func(s *Start) { s.Ik = "10950096" }), false},
		{"ik letters", startMessage(func(s *Start) { s.Ik = "10950096A" }), false},
		{"version empty", startMessage(func(s *Start) { s.AppVersion = "" }), false},
		{"version text", startMessage(func(s *Start) { s.AppVersion = "1.0 {}" }), false},
		{"version long", startMessage(func(s *Start) { s.AppVersion = strings.Repeat("1", MaxVersion+1) }), false},
		{"cvc missing", startMessage(func(s *Start) { s.CvcEgkAut = nil }), false},
		{"cvc too long", startMessage(func(s *Start) { s.CvcEgkAut = make([]byte, MaxCVCBytes+1) }), false},
		{"ca missing", startMessage(func(s *Start) { s.CvcEgkCa = nil }), false},
		{"generation missing", startMessage(func(s *Start) { s.Generation = 0 }), false},
		{"generation of the future", startMessage(func(s *Start) { s.Generation = 3 }), false},
		{"no response", responses(func(r *Responses) { r.Apdu = nil }), false},
		{"response of one byte", responses(func(r *Responses) { r.Apdu = [][]byte{{0x90}} }), false},
		{"response too long", responses(func(r *Responses) { r.Apdu[0] = make([]byte, MaxResponse+1) }), false},
		{"too many", responses(func(r *Responses) { r.Apdu = make([][]byte, MaxCommands+1) }), false},
		{"certificate empty", responses(func(r *Responses) { r.CertificateCheck.CertAutn = nil }), false},
		{"certificate too long", responses(func(r *Responses) {
			r.CertificateCheck.CertAutn = make([]byte, MaxCertBytes+1)
		}), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := CheckAppMessage(tt.msg)
			if (err == nil) != tt.ok {
				t.Fatalf("CheckAppMessage = %v; want ok %t", err, tt.ok)
			}
			if err != nil && !errors.Is(err, ErrMalformed) {
				t.Errorf("error %v is not ErrMalformed", err)
			}
			if err != nil && strings.Contains(err.Error(), "Mustermann") {
				t.Errorf("error quotes the message: %v", err)
			}
		})
	}
}

func TestCheckServerMessage(t *testing.T) {
	t.Parallel()
	unlocked := func(s OnlineStatus) *ServerMessage {
		return &ServerMessage{Body: &ServerMessage_Unlocked{Unlocked: &Unlocked{
			Certificate: &CertificateResult{MathValid: true, TimeValid: true, Online: s}}}}
	}
	failure := func(sw uint32) *ServerMessage {
		return &ServerMessage{Body: &ServerMessage_Failure{Failure: &Failure{
			Code: FailureCode_FAILURE_CODE_CARD_REFUSED, Sw: sw}}}
	}
	tests := []struct {
		name string
		msg  *ServerMessage
		ok   bool
	}{
		{"commands", commands(func(*Commands) {}), true},
		{"unlocked", unlocked(OnlineStatus_ONLINE_STATUS_REVOKED), true},
		{"failure", failure(0x6983), true},
		{"no body", &ServerMessage{}, false},
		{"nil commands", &ServerMessage{Body: &ServerMessage_Commands{}}, false},
		{"nil unlocked", &ServerMessage{Body: &ServerMessage_Unlocked{}}, false},
		{"nil failure", &ServerMessage{Body: &ServerMessage_Failure{}}, false},
		{"empty batch", commands(func(c *Commands) { c.Command = nil }), false},
		{"batch too long", commands(func(c *Commands) { c.Command = make([]*Command, MaxCommands+1) }), false},
		{"nil command", commands(func(c *Commands) { c.Command[0] = nil }), false},
		{"command too short", commands(func(c *Commands) { c.Command[0].Apdu = []byte{0, 0x84, 0} }), false},
		{"command too long", commands(func(c *Commands) { c.Command[0].Apdu = make([]byte, MaxCommandBytes+1) }), false},
		{"nothing expected", commands(func(c *Commands) { c.Command[0].ExpectedSw = nil }), false},
		{"status word of three bytes", commands(func(c *Commands) { c.Command[0].ExpectedSw = []uint32{0x19000} }), false},
		{"too many expected", commands(func(c *Commands) { c.Command[0].ExpectedSw = make([]uint32, 5) }), false},
		{"step missing", commands(func(c *Commands) { c.Step = 0 }), false},
		{"step unknown", commands(func(c *Commands) { c.Step = 9 }), false},
		{"actor missing", commands(func(c *Commands) { c.Actor = nil }), false},
		{"actor too early", commands(func(c *Commands) { c.Step = Step_STEP_PIN_STATUS }), false},
		{"actor without name", commands(func(c *Commands) { c.Actor.Name = "" }), false},
		{"actor name long", commands(func(c *Commands) { c.Actor.Name = strings.Repeat("x", 65) }), false},
		{"actor name not UTF-8", commands(func(c *Commands) { c.Actor.Name = "\xff" }), false},
		{"actor iccsn", commands(func(c *Commands) { c.Actor.Iccsn = "8027600101169990210" }), false},
		{"online status missing", unlocked(0), false},
		{"online status unknown", unlocked(5), false},
		{"failure status word", failure(0x10000), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := CheckServerMessage(tt.msg)
			if (err == nil) != tt.ok {
				t.Fatalf("CheckServerMessage = %v; want ok %t", err, tt.ok)
			}
		})
	}
}

// The largest messages that the checks pass fit into the gRPC limit, or are refused by it before they are decoded; the
// messages of a real session start are far below.
func TestSessionStartFitsTheMessageLimit(t *testing.T) {
	t.Parallel()
	m := responses(func(r *Responses) {
		r.Apdu = nil
		for range 7 {
			r.Apdu = append(r.Apdu, make([]byte, 258))
		}
		r.CertificateCheck.CertAutn = make([]byte, MaxCertBytes)
	})
	if n := proto.Size(m); n > MaxMessageBytes/8 {
		t.Errorf("a full message of a session start has %d bytes; limit %d", n, MaxMessageBytes)
	}
}

func FuzzCheckAppMessage(f *testing.F) {
	for _, m := range []*AppMessage{startMessage(func(*Start) {}), responses(func(*Responses) {})} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m AppMessage
		if proto.Unmarshal(b, &m) != nil || CheckAppMessage(&m) != nil {
			return
		}
		if s := m.GetStart(); s != nil && (!IsIK(s.Ik) || bytes.ContainsAny([]byte(s.OperationId), " \n\"")) {
			t.Errorf("accepted start with ik %q, operation id %q", s.Ik, s.OperationId)
		}
	})
}

func FuzzCheckServerMessage(f *testing.F) {
	b, err := proto.Marshal(commands(func(*Commands) {}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var m ServerMessage
		if proto.Unmarshal(b, &m) != nil || CheckServerMessage(&m) != nil {
			return
		}
		for _, c := range m.GetCommands().GetCommand() {
			if len(c.Apdu) < 4 || len(c.ExpectedSw) == 0 {
				t.Errorf("accepted command of %d bytes, %d expected", len(c.Apdu), len(c.ExpectedSw))
			}
		}
	})
}
