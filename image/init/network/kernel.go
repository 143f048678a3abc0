//go:build linux

package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Linux is the kernel itself, by rtnetlink.
type Linux struct{}

// Find implements Kernel.
func (Linux) Find(name string) (Link, bool, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return Link{}, false, fmt.Errorf("list interfaces: %w", err)
	}
	slices.SortFunc(links, func(a, b netlink.Link) int { return strings.Compare(a.Attrs().Name, b.Attrs().Name) })
	for _, l := range links {
		a := l.Attrs()
		if a.Name == name || name == "" && l.Type() == "device" && a.EncapType == "ether" {
			return Link{Name: a.Name, Index: a.Index, Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0, Hardware: a.HardwareAddr}, true, nil
		}
	}
	return Link{}, false, nil
}

// Up implements Kernel.
func (Linux) Up(name string) error {
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	return err
}

// VLAN implements Kernel.
func (Linux) VLAN(parent, name string, tag int) error {
	if _, err := netlink.LinkByName(name); err == nil {
		return nil
	}
	p, err := netlink.LinkByName(parent)
	if err != nil {
		return err
	}
	a := netlink.NewLinkAttrs()
	a.Name, a.ParentIndex = name, p.Attrs().Index
	return netlink.LinkAdd(&netlink.Vlan{LinkAttrs: a, VlanId: tag})
}

// SetAddress implements Kernel.
func (Linux) SetAddress(name string, prefix netip.Prefix, gateway netip.Addr) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	want := &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
	old, err := netlink.AddrList(l, unix.AF_INET)
	if err != nil {
		return err
	}
	for i := range old {
		if old[i].IPNet.String() != want.String() {
			if err := netlink.AddrDel(l, &old[i]); err != nil {
				return err
			}
		}
	}
	if err := netlink.AddrReplace(l, &netlink.Addr{IPNet: want}); err != nil {
		return fmt.Errorf("set address: %w", err)
	}
	if gateway.IsValid() {
		r := &netlink.Route{LinkIndex: l.Attrs().Index, Gw: gateway.AsSlice()}
		if err := netlink.RouteReplace(r); err != nil {
			return fmt.Errorf("set gateway: %w", err)
		}
	}
	return nil
}

// Clear implements Kernel.
func (Linux) Clear(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	old, err := netlink.AddrList(l, unix.AF_INET)
	for i := range old {
		err = errors.Join(err, netlink.AddrDel(l, &old[i]))
	}
	return err
}

// Changes implements Kernel.
func (Linux) Changes(ctx context.Context) (<-chan struct{}, error) {
	updates, done := make(chan netlink.LinkUpdate, 16), make(chan struct{})
	if err := netlink.LinkSubscribe(updates, done); err != nil {
		return nil, fmt.Errorf("follow interfaces: %w", err)
	}
	context.AfterFunc(ctx, func() { close(done) })
	hints := make(chan struct{}, 1)
	go func() {
		for range updates {
			select {
			case hints <- struct{}{}:
			default: // one is waiting already
			}
		}
	}()
	return hints, nil
}

// Socket implements Kernel. An ordinary UDP socket does, bound to the interface: we ask servers to answer to all.
func (Linux) Socket(name string) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var serr error
		err := c.Control(func(fd uintptr) {
			serr = errors.Join(unix.BindToDevice(int(fd), name), unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1))
		})
		return errors.Join(err, serr)
	}}
	return lc.ListenPacket(context.Background(), "udp4", fmt.Sprintf(":%d", dhcpv4.ClientPort))
}
