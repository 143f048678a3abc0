// Package usbredir puts simulated USB devices into a virtual machine: it is the device side of the usbredir protocol, which
// QEMU's device usb-redir speaks over a socket. The guest's own host controller driver, USB stack and class drivers see
// the device as if it were plugged in.
//
// [Listen] makes a [Port], a socket of the machine that outlives restarts of QEMU; [Port.Attach] and [Port.Detach] plug a
// [Device] in and out. Packages ktradv/qemu/ccid and ktradv/qemu/touch are such devices. The protocol's description
// is usb-redir-protocol.txt of the project usbredir; what is not needed for devices with bulk and interrupt endpoints
// (isochronous transfers, streams, filters) is not announced and not here.
package usbredir

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
)

// Device is a simulated USB device. Its methods are called one after the other, and must not wait for transfers.
type Device interface {
	// Describe returns the same description each time.
	Describe() Description
	// Attached is called when a host is there, before any of the others; the link is good until Detached.
	Attached(*Link)
	// Detached is called when the device is unplugged or the host is gone. The device has lost its power.
	Detached()
	// Control answers a class or vendor request, or a standard request for a descriptor of the class. OK false stalls it.
	Control(s Setup, data []byte) (answer []byte, ok bool)
	// Out takes a transfer to a bulk endpoint. OK false stalls it. The device must not keep data.
	Out(endpoint byte, data []byte) (ok bool)
	// Cancelled is called when the host gives up a transfer from a bulk endpoint for which no data came.
	Cancelled(endpoint byte)
	// Polled is called when the host begins to ask an interrupt endpoint for data.
	Polled(endpoint byte)
}

// Port is a USB port of a virtual machine.
type Port struct {
	listener *net.UnixListener
	path     string
	wg       sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	device   Device
	link     *Link         // of the present connection, nil without one
	detached chan struct{} // closed when the host has taken note of the last Detach; nil if there is nothing to wait for
}

// Listen makes a port on a unix socket. QEMU connects to it: -chardev socket,id=X,path=PATH -device usb-redir,chardev=X.
func Listen(path string) (*Port, error) {
	if fi, err := os.Lstat(path); err == nil && fi.Mode().Type() == os.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("usb port: %w", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("usb port: %w", err)
	}
	p := &Port{listener: l, path: path}
	p.wg.Add(1)
	go p.accept()
	return p, nil
}

// Path is the port's socket.
func (p *Port) Path() string { return p.path }

// Close unplugs the device and closes the port.
func (p *Port) Close() error {
	p.mu.Lock()
	p.closed = true
	link := p.link
	p.mu.Unlock()
	err := p.listener.Close()
	if link != nil {
		link.conn.Close()
	}
	p.wg.Wait()
	return err
}

// Attach plugs a device in; one that is in already is unplugged first.
func (p *Port) Attach(d Device) {
	p.Detach()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.device = d
	if p.link != nil && p.link.greeted && p.detached == nil {
		p.introduce()
	}
}

// Detach unplugs the device.
func (p *Port) Detach() {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.device
	p.device = nil
	if d == nil || p.link == nil || !p.link.introduced {
		return
	}
	p.link.end()
	d.Detached()
	p.link.introduced = false
	p.link.send(message{kind: typeDeviceDisconnect})
	p.detached = make(chan struct{})
}

// introduce tells the host about the device. p.mu is held.
func (p *Port) introduce() {
	l := p.link.renew()
	p.link = l
	l.introduced = true
	l.description = p.device.Describe()
	p.device.Attached(l)
	for _, m := range connectMessages(l.description) {
		l.send(m)
	}
}

// Connected tells whether a virtual machine is at the port.
func (p *Port) Connected() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link != nil && p.link.greeted
}

// Polled tells whether the host asks an interrupt endpoint of the device for data at present: a driver is at work.
func (p *Port) Polled(endpoint byte) bool {
	p.mu.Lock()
	l := p.link
	p.mu.Unlock()
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.polling[endpoint]
}

// StopAfter makes the device that is in the port die after it has sent so many more octets of data: a transfer is cut
// off, and no other is completed any more. To unplug it and plug it in again revives it.
func (p *Port) StopAfter(octets int) {
	p.mu.Lock()
	l := p.link
	p.mu.Unlock()
	if l != nil {
		l.mu.Lock()
		l.budget, l.dying = octets, true
		l.mu.Unlock()
	}
}

func (p *Port) accept() {
	defer p.wg.Done()
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		busy := p.link != nil || p.closed
		if !busy {
			p.link = newLink(c)
			p.detached = nil
		}
		p.mu.Unlock()
		if busy { // one host per port
			c.Close()
			continue
		}
		p.wg.Add(1)
		go p.serve(c)
	}
}

// serve speaks with one host until it goes.
func (p *Port) serve(c net.Conn) {
	defer p.wg.Done()
	defer func() {
		c.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.link.introduced {
			p.link.end()
			p.device.Detached()
		}
		p.link.stopWriting()
		p.link, p.detached = nil, nil
	}()
	in := bufio.NewReaderSize(c, 1<<16)
	if _, err := c.Write(hello()); err != nil {
		return
	}
	if _, caps, err := readHello(in); err != nil || caps&capabilities != capabilities {
		return
	}
	p.mu.Lock()
	p.link.greeted = true
	if p.device != nil {
		p.introduce()
	}
	p.mu.Unlock()
	for {
		m, err := readMessage(in)
		if err != nil {
			return
		}
		if err := p.handle(m); err != nil {
			return
		}
	}
}

// handle does what one message asks for.
func (p *Port) handle(m message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.kind == typeDisconnectAck {
		if p.detached != nil {
			close(p.detached)
			p.detached = nil
			if p.device != nil {
				p.introduce()
			}
		}
		return nil
	}
	l, d := p.link, p.device
	if !l.introduced {
		return nil // sent before the host knew that the device is gone
	}
	octet := func(i int) byte {
		if i < len(m.body) {
			return m.body[i]
		}
		return 0
	}
	switch m.kind {
	case typeReset:
		l.reset()
	case typeSetConfiguration:
		l.reset()
		l.configuration = octet(0)
		l.send(message{typeConfigurationStatus, m.id, []byte{byte(StatusOK), l.configuration}})
	case typeGetConfiguration:
		l.send(message{typeConfigurationStatus, m.id, []byte{byte(StatusOK), l.configuration}})
	case typeSetAltSetting, typeGetAltSetting:
		status := StatusOK
		if int(octet(0)) >= len(l.description.Interfaces) || m.kind == typeSetAltSetting && octet(1) != 0 {
			status = StatusInvalid
		}
		l.send(message{typeAltSettingStatus, m.id, []byte{byte(status), octet(0), 0}})
	case typeStartInterrupt, typeStopInterrupt:
		ep, on := octet(0), m.kind == typeStartInterrupt
		if !l.has(ep, Interrupt) {
			l.send(message{typeInterruptStatus, m.id, []byte{byte(StatusInvalid), ep}})
			return nil
		}
		l.send(message{typeInterruptStatus, m.id, []byte{byte(StatusOK), ep}})
		if l.poll(ep, on) {
			d.Polled(ep)
		}
	case typeControl:
		c, err := parseControl(m.body)
		if err != nil {
			return err
		}
		if l.dead() {
			return nil
		}
		status, data := StatusOK, []byte(nil)
		if answer, ok := l.control(d, c); !ok {
			status = StatusStall
		} else if c.setup.RequestType&dirIn != 0 {
			data = answer[:min(len(answer), int(c.setup.Length))]
		}
		l.send(message{typeControl, m.id, c.answer(status, data)})
	case typeBulk:
		b, err := parseBulk(m.body)
		if err != nil {
			return err
		}
		switch {
		case !l.has(b.endpoint, Bulk):
			b.status, b.length, b.data = StatusInvalid, 0, nil
			l.send(message{typeBulk, m.id, b.encode()})
		case b.endpoint&dirIn != 0:
			l.ask(m.id, b)
		case l.dead():
			l.ask(m.id, b) // never taken
		default:
			if !d.Out(b.endpoint, b.data) {
				b.status, b.length = StatusStall, 0
			}
			b.data = nil
			l.send(message{typeBulk, m.id, b.encode()})
		}
	case typeCancelData:
		if ep, found := l.cancel(m.id); found && ep&dirIn != 0 {
			d.Cancelled(ep)
		}
	default:
		return fmt.Errorf("%w: message of type %d", ErrProtocol, m.kind)
	}
	return nil
}

// ErrGone: the host, or the device at its port, is gone.
var ErrGone = errors.New("usb link is gone")
