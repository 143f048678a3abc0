package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"ktradv/internal/initctl"
	"ktradv/internal/terminal"
)

var mac = net.HardwareAddr{2, 0, 0, 0, 0, 1}

// machine has one interface, and a DHCP server behind it.
type machine struct {
	mu      sync.Mutex
	link    *Link // nil: none
	done    []string
	hints   chan struct{}
	serve   func(*dhcpv4.DHCPv4) []*dhcpv4.DHCPv4 // nil: nobody answers
	asked   []string
	states  []initctl.Network
	sockErr error
	alive   []time.Time   // signs of life
	hang    chan struct{} // Find does not return before it is closed; nil for at once
}

const beat = 20 * time.Second

func newMachine() *machine {
	return &machine{link: &Link{Name: "eth0", Index: 2, Carrier: true, Hardware: mac}}
}

func (m *machine) note(s string) { m.mu.Lock(); defer m.mu.Unlock(); m.done = append(m.done, s) }

func (m *machine) Find(name string) (Link, bool, error) {
	if m.hang != nil {
		<-m.hang
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.link == nil {
		return Link{}, false, nil
	}
	l := *m.link
	if name != "" && name != l.Name {
		if name != l.Name+".7" {
			return Link{}, false, nil
		}
		l.Name = name
	}
	return l, true, nil
}

func (m *machine) Up(name string) error { return nil }

func (m *machine) VLAN(parent, name string, tag int) error { m.note("vlan " + name); return nil }

func (m *machine) SetAddress(name string, p netip.Prefix, g netip.Addr) error {
	m.note(name + " " + p.String() + " via " + g.String())
	return nil
}

func (m *machine) Clear(name string) error { m.note("clear " + name); return nil }

func (m *machine) Changes(context.Context) (<-chan struct{}, error) { return m.hints, nil }

// carrier pulls the cable or puts it in.
func (m *machine) carrier(v bool) {
	m.mu.Lock()
	m.link.Carrier = v
	m.mu.Unlock()
	m.hints <- struct{}{}
}

func (m *machine) Socket(string) (net.PacketConn, error) {
	if m.sockErr != nil {
		return nil, m.sockErr
	}
	return &conn{m: m, in: make(chan []byte, 16), closed: make(chan struct{})}, nil
}

// conn is the wire to the DHCP server.
type conn struct {
	m        *machine
	in       chan []byte
	closed   chan struct{}
	once     sync.Once
	mu       sync.Mutex
	deadline chan struct{}
}

func (c *conn) WriteTo(b []byte, to net.Addr) (int, error) {
	p, err := dhcpv4.FromBytes(b)
	if err != nil || to.String() != "255.255.255.255:67" {
		return 0, errors.New("not a DHCP broadcast")
	}
	c.m.mu.Lock()
	c.m.asked = append(c.m.asked, p.MessageType().String())
	serve := c.m.serve
	c.m.mu.Unlock()
	if serve != nil {
		for _, r := range serve(p) {
			c.in <- r.ToBytes()
		}
	}
	return len(b), nil
}

func (c *conn) ReadFrom(b []byte) (int, net.Addr, error) {
	c.mu.Lock()
	d := c.deadline
	c.mu.Unlock()
	select {
	case m := <-c.in:
		return copy(b, m), &net.UDPAddr{}, nil
	case <-d:
		return 0, nil, os.ErrDeadlineExceeded
	case <-c.closed:
		return 0, nil, net.ErrClosed
	}
}

func (c *conn) SetDeadline(t time.Time) error {
	d := make(chan struct{})
	time.AfterFunc(time.Until(t), func() { close(d) })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = d
	return nil
}

func (c *conn) Close() error                     { c.once.Do(func() { close(c.closed) }); return nil }
func (c *conn) LocalAddr() net.Addr              { return &net.UDPAddr{} }
func (c *conn) SetReadDeadline(time.Time) error  { return nil }
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

var _ net.PacketConn = (*conn)(nil)

// server answers every request with an address and a lease.
func server(lease time.Duration) func(*dhcpv4.DHCPv4) []*dhcpv4.DHCPv4 {
	return func(p *dhcpv4.DHCPv4) []*dhcpv4.DHCPv4 {
		kind := dhcpv4.MessageTypeOffer
		if p.MessageType() == dhcpv4.MessageTypeRequest {
			kind = dhcpv4.MessageTypeAck
		}
		return []*dhcpv4.DHCPv4{answer(p, kind, lease)}
	}
}

func answer(p *dhcpv4.DHCPv4, kind dhcpv4.MessageType, lease time.Duration, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	r, err := dhcpv4.NewReplyFromRequest(p, append([]dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 10)), dhcpv4.WithServerIP(net.IPv4(192, 0, 2, 1)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 1))), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithRouter(net.IPv4(192, 0, 2, 1)), dhcpv4.WithDNS(net.IPv4(192, 0, 2, 2), net.IPv4(192, 0, 2, 3)),
		dhcpv4.WithOption(dhcpv4.OptNTPServers(net.IPv4(192, 0, 2, 4))), dhcpv4.WithLeaseTime(uint32(lease.Seconds())),
	}, more...)...)
	if err != nil {
		panic(err)
	}
	return r
}

// run runs a manager in virtual time; f acts on the machine, then it ends.
func run(t *testing.T, m *machine, n terminal.Network, f func(dir string)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m.hints = make(chan struct{}, 1)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			New(Config{
				Network: n, Kernel: m, Dir: dir, State: func(s initctl.Network) { m.states = append(m.states, s) },
				Alive: func() { m.alive = append(m.alive, time.Now()) }, Beat: beat,
			}).Run(ctx)
		}()
		synctest.Wait()
		f(dir)
		cancel()
		<-done
	})
}

func sleep(d time.Duration) { time.Sleep(d); synctest.Wait() }

var dhcp = terminal.Network{Mode: terminal.NetworkDHCP}

func TestDHCP(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.serve = server(time.Hour)
	run(t, m, dhcp, func(dir string) {
		sleep(time.Second)
		if b, err := os.ReadFile(filepath.Join(dir, "resolv.conf")); string(b) != "nameserver 192.0.2.2\nnameserver 192.0.2.3\n" {
			t.Errorf("resolv.conf = %q, %v", b, err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "ntp")); string(b) != "192.0.2.4" {
			t.Errorf("ntp = %q, %v", b, err)
		}
		sleep(40 * time.Minute) // past half the lease
	})
	if diff := cmp.Diff([]initctl.Network{initctl.NetworkDown, initctl.NetworkNoAddress, initctl.NetworkUp}, m.states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"DISCOVER", "REQUEST", "REQUEST"}, m.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	want := []string{"clear eth0", "eth0 192.0.2.10/24 via 192.0.2.1", "eth0 192.0.2.10/24 via 192.0.2.1"}
	if diff := cmp.Diff(want, m.done); diff != "" {
		t.Errorf("done (-want +got):\n%s", diff)
	}
}

// A server that falls silent: the address is used to the end of the lease, and then no longer.
func TestLeaseRunsOut(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.serve = server(time.Hour)
	run(t, m, dhcp, func(string) {
		sleep(time.Second)
		m.mu.Lock()
		m.serve = nil
		m.mu.Unlock()
		sleep(58 * time.Minute)
		if m.states[len(m.states)-1] != initctl.NetworkUp {
			t.Errorf("states = %v within the lease", m.states)
		}
		sleep(3 * time.Minute)
		if m.states[len(m.states)-1] != initctl.NetworkNoAddress {
			t.Errorf("states = %v after the lease", m.states)
		}
		m.mu.Lock()
		m.serve = server(time.Hour)
		m.mu.Unlock()
		sleep(2 * time.Minute)
		if m.states[len(m.states)-1] != initctl.NetworkUp {
			t.Errorf("states = %v with the server back", m.states)
		}
	})
}

func TestRefusedRenewal(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.serve = server(time.Hour)
	run(t, m, dhcp, func(string) {
		sleep(time.Second)
		m.mu.Lock()
		m.serve = func(p *dhcpv4.DHCPv4) []*dhcpv4.DHCPv4 {
			return []*dhcpv4.DHCPv4{answer(p, dhcpv4.MessageTypeNak, 0)}
		}
		m.mu.Unlock()
		sleep(31 * time.Minute)
	})
	if m.states[len(m.states)-1] != initctl.NetworkNoAddress || m.done[len(m.done)-1] != "clear eth0" {
		t.Errorf("states %v, done %v; want the address given up", m.states, m.done)
	}
}

func TestCable(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.serve = server(time.Hour)
	run(t, m, dhcp, func(string) {
		sleep(time.Second)
		m.carrier(false)
		sleep(time.Second)
		if m.states[len(m.states)-1] != initctl.NetworkDown {
			t.Errorf("states = %v with the cable pulled", m.states)
		}
		m.carrier(true)
		sleep(time.Second)
		if m.states[len(m.states)-1] != initctl.NetworkUp {
			t.Errorf("states = %v with the cable back", m.states)
		}
	})
}

func TestNoInterfaceThenOne(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.serve = server(time.Hour)
	l := m.link
	m.link = nil
	run(t, m, dhcp, func(string) {
		sleep(time.Minute)
		if diff := cmp.Diff([]initctl.Network{initctl.NetworkDown}, m.states); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		m.mu.Lock()
		m.link = l
		m.mu.Unlock()
		sleep(6 * time.Second) // without a hint
		if m.states[len(m.states)-1] != initctl.NetworkUp {
			t.Errorf("states = %v with an interface", m.states)
		}
	})
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	m := newMachine()
	run(t, m, dhcp, func(string) { sleep(10 * time.Minute) })
	if diff := cmp.Diff([]initctl.Network{initctl.NetworkDown, initctl.NetworkNoAddress}, m.states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	if n := len(m.asked); n < 5 || n > 20 {
		t.Errorf("asked %d times in ten minutes; want growing pauses", n)
	}
	m = newMachine()
	m.sockErr = errors.New("no socket")
	run(t, m, dhcp, func(string) { sleep(time.Minute) })
	if m.states[len(m.states)-1] != initctl.NetworkNoAddress {
		t.Errorf("states = %v without a socket", m.states)
	}
}

// Answers to others, and answers that grant nothing usable, change nothing.
func TestForeignAnswers(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*dhcpv4.DHCPv4){
		"other transaction": func(p *dhcpv4.DHCPv4) { p.TransactionID[0] ^= 1 },
		"other terminal":    func(p *dhcpv4.DHCPv4) { p.ClientHWAddr = net.HardwareAddr{2, 0, 0, 0, 0, 9} },
		"a request":         func(p *dhcpv4.DHCPv4) { p.OpCode = dhcpv4.OpcodeBootRequest },
		"no address":        func(p *dhcpv4.DHCPv4) { p.YourIPAddr = net.IPv4zero },
		"loopback":          func(p *dhcpv4.DHCPv4) { p.YourIPAddr = net.IPv4(127, 0, 0, 1) },
		"broadcast":         func(p *dhcpv4.DHCPv4) { p.YourIPAddr = net.IPv4bcast },
		"no mask":           func(p *dhcpv4.DHCPv4) { p.Options.Del(dhcpv4.OptionSubnetMask) },
		"no server":         func(p *dhcpv4.DHCPv4) { p.Options.Del(dhcpv4.OptionServerIdentifier) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine()
			m.serve = func(p *dhcpv4.DHCPv4) []*dhcpv4.DHCPv4 {
				r := server(time.Hour)(p)
				change(r[0])
				return r
			}
			run(t, m, dhcp, func(string) { sleep(time.Minute) })
			if m.states[len(m.states)-1] != initctl.NetworkNoAddress {
				t.Errorf("states = %v", m.states)
			}
		})
	}
}

// A manager that turns gives signs of life in every state, as often as it should; one that hangs in the kernel gives none (the
// twin).
func TestAlive(t *testing.T) {
	t.Parallel()
	static := terminal.Network{Mode: terminal.NetworkStatic, Address: "192.0.2.9/24"}
	for name, c := range map[string]struct {
		network terminal.Network
		serve   bool
		link    bool
	}{
		"lease": {dhcp, true, true}, "nobody answers": {dhcp, false, true}, "no interface": {dhcp, false, false}, "static": {static, false, true},
	} {
		m := newMachine()
		if c.serve {
			m.serve = server(10 * time.Hour)
		}
		if !c.link {
			m.link = nil
		}
		run(t, m, c.network, func(string) {
			sleep(2 * time.Hour)
			last := m.alive[0]
			for _, at := range append(m.alive, time.Now()) {
				if d := at.Sub(last); d > beat+2*answerIn {
					t.Errorf("%s: no sign of life for %v", name, d)
				}
				last = at
			}
			m.hang = make(chan struct{})
			m.hints <- struct{}{}
			synctest.Wait()
			n := len(m.alive)
			sleep(time.Hour)
			if len(m.alive) != n {
				t.Errorf("%s: a manager that hangs gave %d signs of life", name, len(m.alive)-n)
			}
			close(m.hang)
		})
	}
}

func TestParseLease(t *testing.T) {
	t.Parallel()
	req, err := dhcpv4.NewDiscovery(mac)
	if err != nil {
		t.Fatal(err)
	}
	many := make([]net.IP, 20)
	for i := range many {
		many[i] = net.IPv4(192, 0, 2, byte(20+i))
	}
	l, err := ParseLease(answer(req, dhcpv4.MessageTypeAck, time.Second, dhcpv4.WithRouter(net.IPv4(198, 51, 100, 1)), dhcpv4.WithDNS(many...)))
	if err != nil {
		t.Fatal(err)
	}
	if l.Gateway.IsValid() || len(l.DNS) != maxServers || l.Length != leastLease {
		t.Errorf("lease = %+v; want no router outside the network, %d name servers, at least %v", l, maxServers, leastLease)
	}
}

func TestStatic(t *testing.T) {
	t.Parallel()
	m := newMachine()
	n := terminal.Network{Mode: terminal.NetworkStatic, Interface: "eth0", VLAN: 7, Address: "192.0.2.9/25", Gateway: "192.0.2.1", DNS: []string{"192.0.2.53", "junk\nnameserver 6.6.6.6"}}
	run(t, m, n, func(dir string) {
		sleep(time.Second)
		if b, _ := os.ReadFile(filepath.Join(dir, "resolv.conf")); string(b) != "nameserver 192.0.2.53\n" {
			t.Errorf("resolv.conf = %q", b)
		}
		m.carrier(false)
		sleep(time.Second)
		if m.states[len(m.states)-1] != initctl.NetworkDown {
			t.Errorf("states = %v with the cable pulled", m.states)
		}
		m.carrier(true)
		sleep(time.Second)
	})
	want := []string{"vlan eth0.7", "eth0.7 192.0.2.9/25 via 192.0.2.1"}
	if diff := cmp.Diff(want, m.done[:2]); diff != "" {
		t.Errorf("done (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]initctl.Network{initctl.NetworkDown, initctl.NetworkUp, initctl.NetworkDown, initctl.NetworkUp}, m.states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

func FuzzParseLease(f *testing.F) {
	req, err := dhcpv4.NewDiscovery(mac)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(answer(req, dhcpv4.MessageTypeAck, time.Hour).ToBytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := dhcpv4.FromBytes(b)
		if err != nil {
			return
		}
		l, err := ParseLease(p)
		switch {
		case err != nil && l.Prefix.IsValid():
			t.Error("half a lease with an error")
		case err == nil && (!l.Prefix.IsValid() || l.Length < leastLease || len(l.DNS) > maxServers || l.Gateway.IsValid() && !l.Prefix.Contains(l.Gateway)):
			t.Errorf("lease %+v", l)
		}
	})
}
