// Package network gives the terminal its address: static or by DHCP, on the interface or a VLAN of it, following the
// cable as it is pulled and put in. It is a process of its own with the user "net" and two capabilities.
//
//	no interface, no link       down        looks again at every change of an interface
//	link, no answer of DHCP     no-address  asks again, at growing intervals
//	address set                 up          renews at half the lease; a lease that runs out leads back to no-address
//
// Nothing that the network does stops the terminal: there is always a state, and never an end.
package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ktradv/internal/initctl"
	"ktradv/internal/terminal"
)

// Link is a network interface.
type Link struct {
	Name     string
	Index    int
	Carrier  bool // up and with a partner at the other end
	Hardware net.HardwareAddr
}

// Kernel is what the package needs of the kernel.
type Kernel interface {
	// Find returns the interface of a name, "" for the first Ethernet interface. ok is false when there is none.
	Find(name string) (l Link, ok bool, err error)
	// Up switches an interface on.
	Up(name string) error
	// VLAN makes the interface name for a tag on parent, if it is not there yet.
	VLAN(parent, name string, tag int) error
	// SetAddress makes prefix the only address of the interface and gateway, unless it is the zero Addr, the default route.
	SetAddress(name string, prefix netip.Prefix, gateway netip.Addr) error
	// Clear takes all addresses from an interface.
	Clear(name string) error
	// Changes delivers a value when some interface changed.
	Changes(ctx context.Context) (<-chan struct{}, error)
	// Socket opens the DHCP client's socket on an interface.
	Socket(name string) (net.PacketConn, error)
}

// Config of a set-up.
type Config struct {
	Network terminal.Network
	Kernel  Kernel
	// Dir is where resolv.conf and the names of time servers (ntp) are written for others to read.
	Dir string
	// State hears every change.
	State func(initctl.Network)
	// Alive is called at every turn, and every Beat while there is nothing to do: the manager does not hang. Nil is allowed.
	Alive func()
	Beat  time.Duration
	// Rand makes the numbers of DHCP transactions; nil means crypto/rand.
	Rand func() uint32
}

// Manager keeps the network set up.
type Manager struct {
	cfg   Config
	state initctl.Network
}

// New prepares a manager.
func New(cfg Config) *Manager { return &Manager{cfg: cfg} }

func (m *Manager) say(s initctl.Network) {
	if s != m.state {
		m.state = s
		m.cfg.State(s)
	}
}

// Intervals of looking again without a hint of the kernel.
const (
	lookAgain = 5 * time.Second
	askFirst  = time.Second
	askMost   = 64 * time.Second
)

// Run sets up the network and follows it until ctx ends.
func (m *Manager) Run(ctx context.Context) {
	m.say(initctl.NetworkDown)
	changes, err := m.cfg.Kernel.Changes(ctx)
	if err != nil {
		changes = nil // the interval has to do
	}
	for ctx.Err() == nil {
		link, ok := m.link()
		if !ok {
			m.say(initctl.NetworkDown)
			m.wait(ctx, changes, lookAgain)
			continue
		}
		if m.cfg.Network.Mode == terminal.NetworkStatic {
			m.static(ctx, link, changes)
		} else {
			m.dhcp(ctx, link, changes)
		}
	}
}

// wait returns at the next change, after d or when ctx ends.
func (m *Manager) wait(ctx context.Context, changes <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		var beat <-chan time.Time
		if m.cfg.Alive != nil {
			m.cfg.Alive()
			beat = time.After(m.cfg.Beat)
		}
		select {
		case <-ctx.Done():
		case <-changes:
		case <-t.C:
		case <-beat:
			continue
		}
		return
	}
}

// link finds the interface and switches it on; ok is false while it has no carrier.
func (m *Manager) link() (Link, bool) {
	k, n := m.cfg.Kernel, m.cfg.Network
	l, ok, err := k.Find(n.Interface)
	if err != nil || !ok || k.Up(l.Name) != nil {
		return Link{}, false
	}
	if n.VLAN != 0 {
		name := fmt.Sprintf("%s.%d", l.Name, n.VLAN)
		if k.VLAN(l.Name, name, n.VLAN) != nil || k.Up(name) != nil {
			return Link{}, false
		}
		if l, ok, err = k.Find(name); err != nil || !ok {
			return Link{}, false
		}
	}
	return l, l.Carrier
}

// same reports whether the link still stands as it was.
func (m *Manager) same(l Link) bool {
	now, ok, err := m.cfg.Kernel.Find(l.Name)
	return err == nil && ok && now.Carrier && now.Index == l.Index
}

func (m *Manager) static(ctx context.Context, l Link, changes <-chan struct{}) {
	n := m.cfg.Network
	gateway, _ := netip.ParseAddr(n.Gateway)
	if err := m.cfg.Kernel.SetAddress(l.Name, n.Prefix(), gateway); err != nil {
		m.say(initctl.NetworkNoAddress)
		m.wait(ctx, changes, lookAgain)
		return
	}
	m.write(n.DNS, nil)
	m.say(initctl.NetworkUp)
	for ctx.Err() == nil && m.same(l) {
		m.wait(ctx, changes, lookAgain)
	}
}

// write leaves addresses of name servers and time servers for others. The files are rewritten as a whole.
func (m *Manager) write(dns, ntp []string) {
	var conf strings.Builder
	for _, s := range dns {
		if a, err := netip.ParseAddr(s); err == nil {
			fmt.Fprintf(&conf, "nameserver %s\n", a)
		}
	}
	for name, text := range map[string]string{"resolv.conf": conf.String(), "ntp": strings.Join(ntp, "\n")} {
		tmp := filepath.Join(m.cfg.Dir, name+".new")
		if os.WriteFile(tmp, []byte(text), 0o644) == nil && os.Chmod(tmp, 0o644) == nil {
			_ = os.Rename(tmp, filepath.Join(m.cfg.Dir, name)) // a memory file system; the next change writes it again
		}
	}
}
