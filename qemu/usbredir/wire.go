package usbredir

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Types of messages, usbredir protocol 0.7.
const (
	typeHello               = 0
	typeDeviceConnect       = 1
	typeDeviceDisconnect    = 2
	typeReset               = 3
	typeInterfaceInfo       = 4
	typeEPInfo              = 5
	typeSetConfiguration    = 6
	typeGetConfiguration    = 7
	typeConfigurationStatus = 8
	typeSetAltSetting       = 9
	typeGetAltSetting       = 10
	typeAltSettingStatus    = 11
	typeStartInterrupt      = 15
	typeStopInterrupt       = 16
	typeInterruptStatus     = 17
	typeCancelData          = 21
	typeDisconnectAck       = 24
	typeControl             = 100
	typeBulk                = 101
	typeInterrupt           = 103
)

// Capabilities that both sides announce in their hello.
const (
	capDeviceVersion = 1 << 1
	capDisconnectAck = 1 << 3
	capMaxPacketSize = 1 << 4
	cap64BitIDs      = 1 << 5
	cap32BitBulk     = 1 << 6

	capabilities = capDeviceVersion | capDisconnectAck | capMaxPacketSize | cap64BitIDs | cap32BitBulk
)

// Status is the result of a transfer.
type Status byte

// Results of a transfer.
const (
	StatusOK        Status = 0
	StatusCancelled Status = 1
	StatusInvalid   Status = 2
	StatusIOError   Status = 3
	StatusStall     Status = 4
)

const (
	versionLen = 64
	headHello  = 12 // type, length, id of 32 bits
	headLen    = 16 // type, length, id of 64 bits
	// maxMessage bounds what a peer may send: the head of a bulk packet and the largest transfer that a device here takes.
	maxMessage = 10 + 1<<17
)

// ErrProtocol: the peer does not speak the protocol, or lacks a capability that is needed.
var ErrProtocol = errors.New("usbredir: protocol error")

// message is one message after the hello.
type message struct {
	kind uint32
	id   uint64
	body []byte
}

// readHello reads the peer's hello and returns its name and capabilities.
func readHello(r io.Reader) (version string, caps uint32, err error) {
	var head [headHello]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", 0, fmt.Errorf("usbredir: read hello: %w", err)
	}
	kind, n := binary.LittleEndian.Uint32(head[:]), binary.LittleEndian.Uint32(head[4:])
	if kind != typeHello || n < versionLen || n > versionLen+4*16 || n%4 != 0 {
		return "", 0, fmt.Errorf("%w: a hello was expected, type %d of %d octets came", ErrProtocol, kind, n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return "", 0, fmt.Errorf("usbredir: read hello: %w", err)
	}
	for _, c := range body[:versionLen] {
		if c < 0x20 || c > 0x7E {
			break
		}
		version += string(rune(c))
	}
	if n > versionLen {
		caps = binary.LittleEndian.Uint32(body[versionLen:])
	}
	return version, caps, nil
}

// hello is our own hello.
func hello() []byte {
	b := make([]byte, headHello+versionLen+4)
	binary.LittleEndian.PutUint32(b, typeHello)
	binary.LittleEndian.PutUint32(b[4:], versionLen+4)
	copy(b[headHello:], "ktradv simulated device")
	binary.LittleEndian.PutUint32(b[headHello+versionLen:], capabilities)
	return b
}

// readMessage reads one message with a 64 bit id.
func readMessage(r io.Reader) (message, error) {
	var head [headLen]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return message{}, err
	}
	n := binary.LittleEndian.Uint32(head[4:])
	if n > maxMessage {
		return message{}, fmt.Errorf("%w: message of %d octets", ErrProtocol, n)
	}
	m := message{kind: binary.LittleEndian.Uint32(head[:]), id: binary.LittleEndian.Uint64(head[8:]), body: make([]byte, n)}
	_, err := io.ReadFull(r, m.body)
	return m, err
}

// encode is the message as it goes over the wire.
func (m message) encode() []byte {
	b := make([]byte, headLen, headLen+len(m.body))
	binary.LittleEndian.PutUint32(b, m.kind)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(m.body)))
	binary.LittleEndian.PutUint64(b[8:], m.id)
	return append(b, m.body...)
}

// Setup is a request on the control endpoint, USB 2.0 section 9.3.
type Setup struct {
	RequestType, Request byte
	Value, Index, Length uint16
}

// control is a control packet.
type control struct {
	endpoint byte
	status   Status
	setup    Setup
	data     []byte
}

const headControl = 10

func parseControl(b []byte) (control, error) {
	if len(b) < headControl {
		return control{}, fmt.Errorf("%w: control packet of %d octets", ErrProtocol, len(b))
	}
	c := control{endpoint: b[0], status: Status(b[3]), setup: Setup{
		Request: b[1], RequestType: b[2], Value: binary.LittleEndian.Uint16(b[4:]),
		Index: binary.LittleEndian.Uint16(b[6:]), Length: binary.LittleEndian.Uint16(b[8:]),
	}, data: b[headControl:]}
	want := int(c.setup.Length)
	if c.setup.RequestType&dirIn != 0 {
		want = 0
	}
	if len(c.data) != want {
		return control{}, fmt.Errorf("%w: control packet with %d octets of data, %d announced", ErrProtocol, len(c.data), want)
	}
	return c, nil
}

// answer is the answer to a control packet: data of an IN request, or the number of octets taken of an OUT request.
func (c control) answer(status Status, data []byte) []byte {
	b := make([]byte, headControl, headControl+len(data))
	b[0], b[1], b[2], b[3] = c.endpoint, c.setup.Request, c.setup.RequestType, byte(status)
	binary.LittleEndian.PutUint16(b[4:], c.setup.Value)
	binary.LittleEndian.PutUint16(b[6:], c.setup.Index)
	n := len(data)
	if c.setup.RequestType&dirIn == 0 && status == StatusOK {
		n = len(c.data)
	}
	binary.LittleEndian.PutUint16(b[8:], uint16(n))
	return append(b, data...)
}

// bulk is a bulk packet. Of a request for data (IN) it says how much, of others it holds the data.
type bulk struct {
	endpoint byte
	status   Status
	length   int
	data     []byte
}

const headBulk = 10

func parseBulk(b []byte) (bulk, error) {
	if len(b) < headBulk {
		return bulk{}, fmt.Errorf("%w: bulk packet of %d octets", ErrProtocol, len(b))
	}
	p := bulk{endpoint: b[0], status: Status(b[1]), data: b[headBulk:]}
	p.length = int(binary.LittleEndian.Uint16(b[2:])) | int(binary.LittleEndian.Uint16(b[8:]))<<16
	want := p.length
	if p.endpoint&dirIn != 0 {
		want = 0
	}
	if len(p.data) != want || p.length > maxMessage {
		return bulk{}, fmt.Errorf("%w: bulk packet with %d octets of data, %d announced", ErrProtocol, len(p.data), p.length)
	}
	return p, nil
}

// encode is the packet as it goes over the wire: length counts the octets that were moved.
func (p bulk) encode() []byte {
	b := make([]byte, headBulk, headBulk+len(p.data))
	b[0], b[1] = p.endpoint, byte(p.status)
	binary.LittleEndian.PutUint16(b[2:], uint16(p.length))
	binary.LittleEndian.PutUint16(b[8:], uint16(p.length>>16))
	return append(b, p.data...)
}

// interrupt is the body of an interrupt packet.
func interrupt(endpoint byte, status Status, data []byte) []byte {
	b := []byte{endpoint, byte(status), 0, 0}
	binary.LittleEndian.PutUint16(b[2:], uint16(len(data)))
	return append(b, data...)
}

// index is the place of an endpoint in the tables of the protocol.
func index(endpoint byte) int { return int(endpoint&dirIn)>>3 | int(endpoint&0x0F) }

// connectMessages introduce a device: its interfaces, its endpoints, the device itself.
func connectMessages(d Description) []message {
	info := make([]byte, 4+4*32)
	binary.LittleEndian.PutUint32(info, uint32(len(d.Interfaces)))
	ep := make([]byte, 160)
	for i := range 32 {
		ep[i] = 255
	}
	set := func(i int, kind, interval, iface byte, packet uint16) {
		ep[i], ep[32+i], ep[64+i] = kind, interval, iface
		binary.LittleEndian.PutUint16(ep[96+2*i:], packet)
	}
	set(0, 0, 0, 0, 64)
	set(16, 0, 0, 0, 64)
	for i, f := range d.Interfaces {
		info[4+i], info[36+i], info[68+i], info[100+i] = byte(i), f.Class, f.SubClass, f.Protocol
		for _, e := range f.Endpoints {
			set(index(e.Address), byte(e.Kind), e.Interval, byte(i), e.MaxPacket)
		}
	}
	connect := []byte{byte(d.Speed), d.Class, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.LittleEndian.PutUint16(connect[4:], d.Vendor)
	binary.LittleEndian.PutUint16(connect[6:], d.Product)
	binary.LittleEndian.PutUint16(connect[8:], d.Version)
	return []message{{kind: typeInterfaceInfo, body: info}, {kind: typeEPInfo, body: ep}, {kind: typeDeviceConnect, body: connect}}
}
