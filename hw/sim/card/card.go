package card

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// Config is what a card needs from outside.
type Config struct {
	// Rand is the source of challenges, ephemeral keys and signatures; nil
	// is crypto/rand. An ephemeral key takes exactly as many octets as its
	// curve has, unless they are no private key.
	Rand io.Reader
	// Interface is how the card is connected, Contact when not set.
	Interface Interface
	// OnMask is called when a certificate asks for flags that its issuer
	// does not have: the card grants only granted. It must not call the card.
	// Nil: nobody is told.
	OnMask func(chr []byte, asked, granted Flags)
}

// Card is one card in a reader. Its methods may be called from several
// goroutines.
type Card struct {
	mu     sync.Mutex
	sys    *System
	rand   io.Reader
	iface  Interface
	onMask func([]byte, Flags, Flags)
	limits limits
	cache  []*PublicKey // imported keys, the one used last at the end
	ch     channel
	warm   bool
	faults Faults
}

// Faults are failures of real cards that a test can switch on.
type Faults struct {
	// NoATR: the card does not answer to reset and to nothing else.
	NoATR bool
	// MuteAfter: so many commands are answered, then none until the next
	// reset. 0: no such failure.
	MuteAfter int
	// MemoryFailure: so many writing commands answer 6581 and change nothing.
	MemoryFailure int
}

// limits are the buffer sizes a card announces in EF.ATR.
type limits struct{ cmd, rsp, cmdSM, rspSM int }

// defaultLimits hold for a card without the announcement (gemSpec_COS N029.890).
var defaultLimits = limits{1033, 32770, 1033, 1033}

type pwdKey struct {
	folder *Folder
	id     byte
}

// channel is the volatile state of the basic channel.
type channel struct {
	folder  *Folder
	ef      *File
	rnd     []byte
	intern  *selected // INTERNAL and GENERAL AUTHENTICATE
	extern  *selected // EXTERNAL AUTHENTICATE
	verify  *PublicKey
	sign    *selected
	cipher  *selected
	pwd     map[pwdKey]int // uses left of a verified password
	roles   map[FlagOID]Flags
	se      map[*Folder]int
	agree   *agreement
	session *session

	// Of the command being processed:
	secured bool // came with valid secure messaging
	cmdEnc  bool // and its data were enciphered
	rspEnc  bool // the access rule wants the response enciphered
}

// New puts a card together. sys must have a root; it belongs to the card
// afterwards.
func New(sys *System, cfg Config) (*Card, error) {
	if sys == nil || sys.Root == nil {
		return nil, errors.New("card: object system without root")
	}
	sys.Root.parent = nil
	sys.Root.adopt()
	c := &Card{sys: sys, rand: cfg.Rand, iface: cfg.Interface, onMask: cfg.OnMask, limits: defaultLimits}
	if c.rand == nil {
		c.rand = rand.Reader
	}
	if c.onMask == nil {
		c.onMask = func([]byte, Flags, Flags) {}
	}
	if atr := sys.Root.file(0x2F01); atr != nil {
		if l, ok := announced(atr.Body); ok {
			c.limits = l
		}
	}
	c.reset()
	return c, nil
}

// announced reads the buffer sizes from EF.ATR.
func announced(b []byte) (limits, bool) {
	v, _, err := expectTLV(b, 0xE0)
	if err != nil {
		return limits{}, false
	}
	var n [4]int
	for i := range n {
		var x []byte
		if x, v, err = expectTLV(v, 0x02); err != nil || len(x) > 3 {
			return limits{}, false
		}
		for _, d := range x {
			n[i] = n[i]<<8 | int(d)
		}
	}
	return limits{n[0], n[1], n[2], n[3]}, len(v) == 0
}

func (c *Card) reset() {
	c.ch = channel{
		folder: c.sys.Root,
		pwd:    map[pwdKey]int{},
		roles:  map[FlagOID]Flags{},
		se:     map[*Folder]int{},
	}
}

// Reset powers the card up or resets it, forgets every security state and
// returns the answer to reset; nil when the card does not answer.
func (c *Card) Reset(warm bool) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reset()
	c.faults.MuteAfter = max(c.faults.MuteAfter, 0)
	c.warm = warm
	return c.atr()
}

// PowerDown takes the power away: volatile state is lost.
func (c *Card) PowerDown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reset()
	c.warm = false
}

// ATR returns the answer to the last reset; nil when the card does not answer.
func (c *Card) ATR() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.atr()
}

func (c *Card) atr() []byte {
	if c.faults.NoATR {
		return nil
	}
	if c.warm {
		return slices.Clone(c.sys.WarmATR)
	}
	return slices.Clone(c.sys.ColdATR)
}

// SetFaults switches failures on and off.
func (c *Card) SetFaults(f Faults) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = f
}

// Name returns the name of the object system.
func (c *Card) Name() string { return c.sys.Name }

// View calls look with the object system while no command runs. It is for
// tests and for the control panel; look may change objects (a blocked PIN, a
// damaged file), as a card's issuer may.
func (c *Card) View(look func(*System)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	look(c.sys)
}

// SessionKeys is the result of a key agreement that this package does not
// carry out itself.
type SessionKeys struct {
	Enc, Mac []byte // 16 or 32 octets
	Counter  [16]byte
	Key      byte // reference of the key agreed with, such as SK.CAN or SK.VSD
}

// InjectSession starts secure messaging as if the card had just agreed these
// keys. Tests use it for PACE and for the keys of the card's issuer.
func (c *Card) InjectSession(k SessionKeys) error {
	for _, key := range [][]byte{k.Enc, k.Mac} {
		if len(key) != 16 && len(key) != 32 {
			return fmt.Errorf("card: session key of %d octets", len(key))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ch.session = &session{enc: slices.Clone(k.Enc), mac: slices.Clone(k.Mac), ssc: k.Counter, key: int(k.Key)}
	return nil
}

// Process executes one command APDU and returns the response APDU. A card
// that is mute returns nil.
func (c *Card) Process(apdu []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.faults.NoATR || c.faults.MuteAfter < 0 {
		return nil
	}
	if c.faults.MuteAfter > 0 {
		if c.faults.MuteAfter--; c.faults.MuteAfter == 0 {
			c.faults.MuteAfter = -1
		}
	}
	return c.process(apdu)
}

const claSecure byte = 0x0C

func (c *Card) process(apdu []byte) []byte {
	c.ch.secured, c.ch.cmdEnc, c.ch.rspEnc = false, false, false
	cmd, ok := parseCommand(apdu)
	secure := ok && cmd.cla&claSecure == claSecure && cmd.cla != 0xFF
	if !secure {
		// A command without secure messaging ends it.
		c.ch.session = nil
	}
	limit := c.limits.cmd
	if secure {
		limit = c.limits.cmdSM
	}
	switch {
	case !ok, len(apdu) > limit:
		c.ch.session = nil
		return trailer(swWrongLength)
	case cmd.cla&0x60 != 0, cmd.cla&claSecure != 0 && !secure:
		return trailer(swClassNotSupported)
	case cmd.cla&0x03 != 0:
		// Only the basic channel is ever open.
		return trailer(swChannelClosed)
	}
	if !secure {
		data, sw := c.execute(&cmd)
		return append(slices.Clone(data), trailer(sw)...)
	}
	s := c.ch.session
	if s == nil {
		return trailer(swIncorrectSMObjects)
	}
	plain, enciphered, ok := s.open(&cmd)
	if !ok {
		c.ch.session = nil
		return trailer(swIncorrectSMObjects)
	}
	c.ch.secured, c.ch.cmdEnc = true, enciphered
	data, sw := c.execute(&plain)
	return s.seal(data, sw, c.ch.rspEnc)
}

func trailer(sw uint16) []byte { return []byte{byte(sw >> 8), byte(sw)} }

// access decides whether the access rule of an object allows the command.
// parent is the folder that holds the object.
func (c *Card) access(h *Header, parent *Folder, cmd *command) bool {
	return c.accessBy(h, h.Rules, parent, parent, cmd)
}

// folderAccess is access for a folder.
func (c *Card) folderAccess(f *Folder, cmd *command) bool {
	return c.accessBy(&f.Header, f.Rules, f.parent, f, cmd)
}

func (c *Card) accessBy(h *Header, rules RuleSet, parent, at *Folder, cmd *command) bool {
	cond, ok := rules.find(c.iface, effective(h.State, parent), c.environment(at), cmd.cla, cmd.ins, cmd.p1, cmd.p2)
	if !ok {
		return false
	}
	var g granted
	if !c.eval(cond, at, &g) {
		return false
	}
	c.ch.rspEnc = g.rspEnc
	for _, key := range g.pwds {
		if left := c.ch.pwd[key]; left > 0 {
			c.ch.pwd[key] = left - 1
		}
	}
	return true
}

// environment is the number of the security environment of a folder.
func (c *Card) environment(f *Folder) int {
	if n, ok := c.ch.se[f]; ok {
		return n
	}
	return 1
}

// write is called by every command that is about to change something. It
// tells whether the memory takes the change.
func (c *Card) write() bool {
	if c.faults.MemoryFailure > 0 {
		c.faults.MemoryFailure--
		return false
	}
	return true
}
