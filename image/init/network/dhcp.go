package network

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"ktradv/internal/initctl"
)

// Lease is what a DHCP server granted.
type Lease struct {
	Prefix   netip.Prefix
	Gateway  netip.Addr // zero for none
	Server   netip.Addr
	DNS, NTP []string
	Length   time.Duration
	ack      *dhcpv4.DHCPv4
}

// Bounds of a lease.
const (
	maxServers  = 3
	maxAnswer   = 1500
	leastLease  = time.Minute
	answerIn    = 4 * time.Second
	maxLeaseLen = 30 * 24 * time.Hour
)

// ErrLease marks an answer that grants nothing usable.
var ErrLease = errors.New("dhcp answer grants no usable lease")

// ParseLease reads what an acknowledgement grants.
func ParseLease(p *dhcpv4.DHCPv4) (Lease, error) {
	fail := func(what string) (Lease, error) { return Lease{}, fmt.Errorf("%w: %s", ErrLease, what) }
	addr, ok := v4(p.YourIPAddr)
	if !ok {
		return fail("address")
	}
	ones, bits := p.SubnetMask().Size()
	if bits != 32 || ones == 0 || ones == 32 {
		return fail("mask")
	}
	server, ok := v4(p.ServerIdentifier())
	if !ok {
		return fail("server")
	}
	l := Lease{Prefix: netip.PrefixFrom(addr, ones), Server: server, ack: p}
	l.Length = min(max(p.IPAddressLeaseTime(time.Hour), leastLease), maxLeaseLen)
	if r := p.Router(); len(r) > 0 {
		if g, ok := v4(r[0]); ok && l.Prefix.Contains(g) && g != addr {
			l.Gateway = g
		}
	}
	l.DNS, l.NTP = list(p.DNS()), list(p.NTPServers())
	return l, nil
}

// v4 takes an address that a host may have.
func v4(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip.To4())
	return a, ok && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

func list(ips []net.IP) (out []string) {
	for _, ip := range ips {
		if a, ok := v4(ip); ok && len(out) < maxServers {
			out = append(out, a.String())
		}
	}
	return out
}

// dhcp gets an address and keeps it, until the link goes or ctx ends.
func (m *Manager) dhcp(ctx context.Context, l Link, changes <-chan struct{}) {
	k := m.cfg.Kernel
	m.say(initctl.NetworkNoAddress)
	_ = k.Clear(l.Name) // an address of before may belong to another by now
	conn, err := k.Socket(l.Name)
	if err != nil {
		m.wait(ctx, changes, lookAgain)
		return
	}
	defer conn.Close()
	for pause := askFirst; ctx.Err() == nil; pause = min(2*pause, askMost) {
		lease, err := m.acquire(ctx, conn, l)
		if err == nil {
			err = m.hold(ctx, conn, l, lease, changes)
			pause = askFirst
		}
		if err == nil || !m.same(l) {
			return
		}
		m.say(initctl.NetworkNoAddress)
		m.wait(ctx, changes, pause)
		if !m.same(l) {
			return
		}
	}
}

// hold sets a lease and renews it. It returns nil when the link changed, an error when the lease is lost.
func (m *Manager) hold(ctx context.Context, conn net.PacketConn, l Link, lease Lease, changes <-chan struct{}) error {
	for {
		if err := m.cfg.Kernel.SetAddress(l.Name, lease.Prefix, lease.Gateway); err != nil {
			return err
		}
		m.write(lease.DNS, lease.NTP)
		m.say(initctl.NetworkUp)
		got := time.Now()
		renew := lease.Length / 2
		for {
			for t := got.Add(renew); time.Until(t) > 0; {
				m.wait(ctx, changes, time.Until(t))
				if ctx.Err() != nil || !m.same(l) {
					return nil
				}
			}
			next, err := m.renew(ctx, conn, l, lease)
			if err == nil {
				lease = next
				break
			}
			left := lease.Length - time.Since(got)
			if errors.Is(err, errRefused) || left <= time.Second {
				_ = m.cfg.Kernel.Clear(l.Name)
				return fmt.Errorf("lease lost: %w", err)
			}
			renew = time.Since(got) + max(left/2, time.Second)
		}
	}
}

var errRefused = errors.New("dhcp server refuses")

var wanted = dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionNTPServers)

// acquire asks for an address: discover, offer, request, acknowledgement.
func (m *Manager) acquire(ctx context.Context, conn net.PacketConn, l Link) (Lease, error) {
	disc, err := dhcpv4.NewDiscovery(l.Hardware, wanted, dhcpv4.WithBroadcast(true), dhcpv4.WithTransactionID(m.xid()))
	if err != nil {
		return Lease{}, err
	}
	offer, err := m.exchange(ctx, conn, l, disc, dhcpv4.MessageTypeOffer)
	if err != nil {
		return Lease{}, err
	}
	if _, err := ParseLease(offer); err != nil {
		return Lease{}, err
	}
	req, err := dhcpv4.NewRequestFromOffer(offer, wanted, dhcpv4.WithBroadcast(true))
	if err != nil {
		return Lease{}, err
	}
	ack, err := m.exchange(ctx, conn, l, req, dhcpv4.MessageTypeAck)
	if err != nil {
		return Lease{}, err
	}
	return ParseLease(ack)
}

// renew asks whether a lease goes on. It is sent to all: a server that is reached only through another way now answers, too.
func (m *Manager) renew(ctx context.Context, conn net.PacketConn, l Link, lease Lease) (Lease, error) {
	req, err := dhcpv4.New(dhcpv4.WithHwAddr(l.Hardware), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), wanted,
		dhcpv4.WithClientIP(lease.ack.YourIPAddr), dhcpv4.WithTransactionID(m.xid()))
	if err != nil {
		return Lease{}, err
	}
	ack, err := m.exchange(ctx, conn, l, req, dhcpv4.MessageTypeAck)
	if err != nil {
		return Lease{}, err
	}
	next, err := ParseLease(ack)
	if err == nil && next.Prefix.Addr() != lease.Prefix.Addr() {
		return Lease{}, errRefused
	}
	return next, err
}

func (m *Manager) xid() (id dhcpv4.TransactionID) {
	if m.cfg.Rand != nil {
		binary.BigEndian.PutUint32(id[:], m.cfg.Rand())
	} else {
		rand.Read(id[:])
	}
	return id
}

// exchange sends a message and waits for the answer of the kind wanted; everything else that comes is passed over.
func (m *Manager) exchange(ctx context.Context, conn net.PacketConn, l Link, msg *dhcpv4.DHCPv4, kind dhcpv4.MessageType) (*dhcpv4.DHCPv4, error) {
	ctx, cancel := context.WithTimeout(ctx, answerIn)
	defer cancel()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.WriteTo(msg.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ServerPort}); err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	buf := make([]byte, maxAnswer)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return nil, fmt.Errorf("no answer: %w", err)
		}
		p, err := dhcpv4.FromBytes(buf[:n])
		if err != nil || p.OpCode != dhcpv4.OpcodeBootReply || p.TransactionID != msg.TransactionID || p.ClientHWAddr.String() != l.Hardware.String() {
			continue
		}
		switch p.MessageType() {
		case kind:
			return p, nil
		case dhcpv4.MessageTypeNak:
			if kind == dhcpv4.MessageTypeAck {
				return nil, errRefused
			}
		}
	}
}
