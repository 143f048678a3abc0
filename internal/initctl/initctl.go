// Package initctl is the conversation between the terminal's first process (adv-init) and the kiosk: the wire contract,
// the client that the kiosk uses and the server that adv-init runs.
//
// The kiosk connects to the unix socket [Socket]. Every message is one line of JSON of at most [MaxLine] bytes. The kiosk
// sends a [Request]; adv-init answers a restart with one [Reply] that bears the request's id, and a state request with one
// Reply now and one at every change, for as long as the connection stands. Who may speak is decided by the uid that the
// kernel reports for the peer, never by what a message says. Words of state come from a closed list; a peer that sends
// anything else is cut off. What the kiosk tells about the reader's slot ([OpSlot]) has no answer but the state.
//
// [Client] keeps a connection, follows the state, and is the kiosk's card service (kiosk/supervise.CardService).
package initctl

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Socket is where adv-init listens.
const Socket = "/run/adv/init.sock"

// Bounds of the conversation.
const (
	MaxLine     = 16 << 10 // bytes of one message with its line feed
	maxServices = 16
	maxModules  = 128
	maxName     = 64
)

// Op is what a request asks for.
type Op string

// The requests.
const (
	OpState   Op = "state"   // the state now and at every change
	OpRestart Op = "restart" // replace a service and answer when the new one runs
	OpSlot    Op = "slot"    // remember what is in the reader's slot
)

// PCSCD is the service that the kiosk may have replaced.
const PCSCD = "pcscd"

// Request is what the kiosk asks.
type Request struct {
	ID uint64 `json:"id"` // chosen by the kiosk, comes back in the reply
	Op Op     `json:"op"`
	// Service to restart.
	Service string `json:"service,omitempty"`
	// Start is the number of the start (Service.Starts) that the kiosk wants to be rid of. If a later one runs already, it is
	// left alone and the answer comes at once; so a restart that was under way anyway is not done twice.
	Start int `json:"start,omitempty"`
	// Slot to remember.
	Slot Slot `json:"slot,omitempty"`
}

// Slot is what is known about the reader's slot: whether the card of somebody's visit may be in it. adv-init remembers it on
// the data partition, so that a card forgotten before a power cut begins no visit after it.
type Slot string

// The words for it.
const (
	SlotUnknown Slot = ""      // nothing is remembered: the data partition is not there
	SlotEmpty   Slot = "empty" // seen without a card since the last visit began; one that is there now is somebody's next
	SlotVisit   Slot = "visit" // a visit goes on
	SlotCard    Slot = "card"  // the last visit's card may be in
)

// Reply is what adv-init answers.
type Reply struct {
	ID    uint64 `json:"id"`
	State *State `json:"state,omitempty"` // to a state request
	Error Fault  `json:"error,omitempty"` // to a restart; "" is success
}

// Fault says why a request was not fulfilled.
type Fault string

// The faults.
const (
	FaultNone    Fault = ""
	FaultRefused Fault = "refused" // no such request, or not permitted to this peer
	FaultFailed  Fault = "failed"  // the service could not be brought back
	FaultTimeout Fault = "timeout" // the service did not become ready in time
	FaultBusy    Fault = "busy"    // too many requests at once
)

func (f Fault) Error() string { return "init: " + string(f) }

// Readers tells which card readers are plugged in.
type Readers string

// States of the readers.
const (
	ReaderNone        Readers = "none"        // no reader
	ReaderOne         Readers = "one"         // one supported reader
	ReaderSeveral     Readers = "several"     // more than one supported reader
	ReaderUnsupported Readers = "unsupported" // only readers that the configuration does not name
)

// Network tells how far the network is.
type Network string

// States of the network.
const (
	NetworkDown      Network = "down"       // no interface, or no link
	NetworkNoAddress Network = "no-address" // link, but no address (yet)
	NetworkUp        Network = "up"
)

// Clock tells whether the time can be trusted.
type Clock string

// States of the clock.
const (
	ClockOK    Clock = "ok"    // set from a time server in this run
	ClockUnset Clock = "unset" // plausible, but not confirmed by a time server yet
	ClockWrong Clock = "wrong" // before the date of the image or a decade after, or a time server says otherwise and it could not be set
)

// Data tells what holds /data.
type Data string

// States of the data partition. In those after DataOK a bounded memory file system stands in for it or space is short: logs
// may be lost at power off.
const (
	DataOpening Data = "opening" // it is being looked for; nothing is mounted yet
	DataOK      Data = "ok"
	DataFull    Data = "full"    // less than the reserve is free
	DataDamaged Data = "damaged" // there, but cannot be mounted
	DataMissing Data = "missing" // no such partition
)

// ServiceState is a service's state.
type ServiceState string

// States of a service.
const (
	ServiceStarting   ServiceState = "starting"   // first start, not ready yet
	ServiceRunning    ServiceState = "running"    // says it is ready
	ServiceRestarting ServiceState = "restarting" // ended or was ended; the next one is not ready yet
	ServiceGivenUp    ServiceState = "given-up"   // failed too often; tried again only at long intervals
	ServiceStopped    ServiceState = "stopped"    // ended on purpose
)

// Service is one service.
type Service struct {
	State ServiceState `json:"state"`
	// Starts counts starts since power on, so that a reader can tell one process from the next.
	Starts int `json:"starts"`
	// Failures counts failures that are not yet forgiven.
	Failures int `json:"failures"`
}

// State is what adv-init knows about the machine. It holds no text from outside.
type State struct {
	Reader Readers `json:"reader"`
	// Supported and Unsupported count card readers of either kind.
	Supported   int     `json:"supported"`
	Unsupported int     `json:"unsupported"`
	Network     Network `json:"network"`
	Clock       Clock   `json:"clock"`
	Data        Data    `json:"data"`
	// Services by name: pcscd, usb, network, time, kiosk.
	Services map[string]Service `json:"services"`
	// USBRefused counts USB devices that were refused since power on.
	USBRefused int `json:"usb_refused"`
	// Modules lists kernel modules that did not load.
	Modules []string `json:"modules,omitempty"`
	// Reboots counts reboots that adv-init made by itself in a row because the kiosk did not come up.
	Reboots int `json:"reboots"`
	// Slot is what is known about the reader's slot.
	Slot Slot `json:"slot,omitempty"`
}

// ReaderState is the word for a number of supported and unsupported readers.
func ReaderState(supported, unsupported int) Readers {
	switch {
	case supported > 1:
		return ReaderSeveral
	case supported == 1:
		return ReaderOne
	case unsupported > 0:
		return ReaderUnsupported
	}
	return ReaderNone
}

// Clone returns a state that shares nothing with s.
func (s State) Clone() State {
	m := make(map[string]Service, len(s.Services))
	for k, v := range s.Services {
		m[k] = v
	}
	s.Services = m
	s.Modules = slices.Clone(s.Modules)
	return s
}

// Equal reports whether both say the same.
func (s State) Equal(o State) bool {
	if len(s.Services) != len(o.Services) || !slices.Equal(s.Modules, o.Modules) {
		return false
	}
	for k, v := range s.Services {
		if w, ok := o.Services[k]; !ok || w != v {
			return false
		}
	}
	return s.Reader == o.Reader && s.Supported == o.Supported && s.Unsupported == o.Unsupported && s.Network == o.Network &&
		s.Clock == o.Clock && s.Data == o.Data && s.USBRefused == o.USBRefused && s.Reboots == o.Reboots && s.Slot == o.Slot
}

// ErrProtocol marks a message that does not keep the contract.
var ErrProtocol = errors.New("init conversation: message not understood")

func (s *State) check() error {
	switch {
	case !slices.Contains([]Readers{ReaderNone, ReaderOne, ReaderSeveral, ReaderUnsupported}, s.Reader),
		!slices.Contains([]Network{NetworkDown, NetworkNoAddress, NetworkUp}, s.Network),
		!slices.Contains([]Clock{ClockOK, ClockUnset, ClockWrong}, s.Clock),
		!slices.Contains([]Data{DataOpening, DataOK, DataFull, DataDamaged, DataMissing}, s.Data),
		!slices.Contains([]Slot{SlotUnknown, SlotEmpty, SlotVisit, SlotCard}, s.Slot):
		return fmt.Errorf("%w: unknown word of state", ErrProtocol)
	case len(s.Services) > maxServices || len(s.Modules) > maxModules:
		return fmt.Errorf("%w: too many entries", ErrProtocol)
	case s.Supported < 0 || s.Unsupported < 0 || s.USBRefused < 0 || s.Reboots < 0:
		return fmt.Errorf("%w: negative count", ErrProtocol)
	}
	for name, v := range s.Services {
		if !validName(name) || v.Starts < 0 || v.Failures < 0 ||
			!slices.Contains([]ServiceState{ServiceStarting, ServiceRunning, ServiceRestarting, ServiceGivenUp, ServiceStopped}, v.State) {
			return fmt.Errorf("%w: service", ErrProtocol)
		}
	}
	for _, m := range s.Modules {
		if !validName(m) {
			return fmt.Errorf("%w: module name", ErrProtocol)
		}
	}
	return nil
}

// validName allows names of services and kernel modules.
func validName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// ParseRequest reads one line that a kiosk sent.
func ParseRequest(line []byte) (Request, error) {
	var r Request
	if err := strict(line, &r); err != nil {
		return Request{}, err
	}
	ok := r.ID != 0 && r.Start >= 0
	switch r.Op {
	case OpState:
		ok = ok && r.Service == "" && r.Start == 0 && r.Slot == ""
	case OpRestart:
		ok = ok && validName(r.Service) && r.Slot == ""
	case OpSlot:
		ok = ok && r.Service == "" && r.Start == 0 && slices.Contains([]Slot{SlotEmpty, SlotVisit, SlotCard}, r.Slot)
	default:
		ok = false
	}
	if !ok {
		return Request{}, ErrProtocol
	}
	return r, nil
}

// ParseReply reads one line that adv-init sent.
func ParseReply(line []byte) (Reply, error) {
	var r Reply
	if err := strict(line, &r); err != nil {
		return Reply{}, err
	}
	if r.ID == 0 || !slices.Contains([]Fault{FaultNone, FaultRefused, FaultFailed, FaultTimeout, FaultBusy}, r.Error) {
		return Reply{}, ErrProtocol
	}
	if r.State != nil {
		if err := r.State.check(); err != nil {
			return Reply{}, err
		}
	}
	return r, nil
}

// encode forms the line of a message.
func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("init conversation: %w", err)
	}
	if len(b) >= MaxLine {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrProtocol, MaxLine)
	}
	return append(b, '\n'), nil
}

func strict(line []byte, v any) error {
	if len(line) > MaxLine {
		return fmt.Errorf("%w: longer than %d bytes", ErrProtocol, MaxLine)
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%w: more than one value", ErrProtocol)
	}
	return nil
}
