package card

// pwdRef is a password as a reference names it: base holds the secret, multi
// is the multi-reference password in front of it, if any.
type pwdRef struct {
	base   *Password
	multi  *MultiPassword
	folder *Folder // that holds the object named by the reference
}

func (p *pwdRef) header() *Header {
	if p.multi != nil {
		return &p.multi.Header
	}
	return &p.base.Header
}

func (p *pwdRef) object() Object {
	if p.multi != nil {
		return p.multi
	}
	return p.base
}

func (p *pwdRef) key() pwdKey {
	if p.multi != nil {
		return pwdKey{p.folder, p.multi.ID}
	}
	return pwdKey{p.folder, p.base.ID}
}

func (p *pwdRef) flag() *bool {
	if p.multi != nil {
		return &p.multi.Disabled
	}
	return &p.base.Disabled
}

func (p *pwdRef) disabled() bool { return *p.flag() }

func (p *pwdRef) uses(se int) int {
	list := p.base.Uses
	if p.multi != nil {
		list = p.multi.Uses
	}
	if n, ok := list[se]; ok {
		return n
	}
	return Forever
}

// search calls match for the objects a reference can mean: with bit 8 clear
// those of the MF, else those of folder at and of its parents below the MF.
func (c *Card) search(ref byte, at *Folder, match func(o Object, id byte) bool) *Folder {
	if ref&0x60 != 0 {
		return nil
	}
	in := func(f *Folder) bool {
		for _, o := range f.Children {
			if match(o, ref&0x1F) {
				return true
			}
		}
		return false
	}
	if ref&0x80 == 0 {
		if in(c.sys.Root) {
			return c.sys.Root
		}
		return nil
	}
	for ; at != nil && at != c.sys.Root; at = at.parent {
		if in(at) {
			return at
		}
	}
	return nil
}

// password finds the password with a reference, nil when there is none.
func (c *Card) password(ref byte, at *Folder) *pwdRef {
	var p pwdRef
	p.folder = c.search(ref, at, func(o Object, id byte) bool {
		switch o := o.(type) {
		case *Password:
			if o.ID == id {
				p.base = o
				return true
			}
		case *MultiPassword:
			if o.ID == id {
				p.multi = o
				return true
			}
		}
		return false
	})
	if p.folder == nil {
		return nil
	}
	if p.multi != nil {
		c.search(p.multi.Target, p.folder, func(o Object, id byte) bool {
			b, ok := o.(*Password)
			if ok && b.ID == id {
				p.base = b
			}
			return p.base != nil
		})
	}
	if p.base == nil {
		return nil
	}
	return &p
}

// passwordFor finds the password of a command and checks its access rule.
// octets lists the length of the data field.
func (c *Card) passwordFor(cmd *command, octets int) (*pwdRef, uint16) {
	if len(cmd.data) != octets {
		return nil, swWrongLength
	}
	p := c.password(cmd.p2, c.ch.folder)
	if p == nil {
		return nil, swNotFound
	}
	if !c.access(p.header(), p.folder, cmd) {
		return nil, swSecurityStatus
	}
	return p, swOK
}

// check compares a secret and keeps the retry counter. A block that is not
// well formed is simply not equal.
func (p *Password) check(b []byte) uint16 {
	if p.Retry == 0 {
		return swBlocked
	}
	if !p.Secret.equal(Block(b)) {
		p.Retry--
		return swRetry | uint16(p.Retry)
	}
	p.Retry = p.Start
	return swOK
}

// acceptable tells whether b may become the secret.
func (p *Password) acceptable(b []byte) bool {
	n, ok := Block(b).digits()
	return ok && n >= p.Min && n <= p.Max
}

// verifyPIN is VERIFY.
func (c *Card) verifyPIN(cmd *command) ([]byte, uint16) {
	if cmd.p1 != 0 {
		return nil, swWrongP1P2
	}
	p, sw := c.passwordFor(cmd, 8)
	if sw != swOK {
		return nil, sw
	}
	if p.base.Retry != 0 && p.base.Transport != Regular {
		return nil, swConditions
	}
	if !c.write() {
		return nil, swMemoryFailure
	}
	sw = p.base.check(cmd.data)
	if sw == swOK {
		c.ch.pwd[p.key()] = p.uses(c.environment(p.folder))
	} else {
		delete(c.ch.pwd, p.key())
	}
	return nil, sw
}

// pinStatus is GET PIN STATUS.
func (c *Card) pinStatus(cmd *command) ([]byte, uint16) {
	if cmd.p1 != 0 {
		return nil, swWrongP1P2
	}
	p, sw := c.passwordFor(cmd, 0)
	switch {
	case sw != swOK:
		return nil, sw
	case p.base.Transport == EmptyPIN:
		return nil, swEmptyPIN
	case p.base.Transport == TransportPIN:
		return nil, swTransportPIN
	case p.disabled():
		return nil, swPasswordDisabled
	case c.ch.pwd[p.key()] != 0:
		return nil, swOK
	}
	return nil, swRetry | uint16(p.base.Retry)
}

// changePIN is CHANGE REFERENCE DATA: P1 = 00 with the old and the new
// secret, P1 = 01 with the new secret alone, where the access rule allows it.
// The length of the new secret is checked before the old one is, so that a
// slip of the finger costs no try.
func (c *Card) changePIN(cmd *command) ([]byte, uint16) {
	octets := 16
	switch cmd.p1 {
	case 0x00:
	case 0x01:
		octets = 8
	default:
		return nil, swWrongP1P2
	}
	p, sw := c.passwordFor(cmd, octets)
	if sw != swOK {
		return nil, sw
	}
	fresh := cmd.data[octets-8:]
	switch {
	case cmd.p1 == 0x00 && p.base.Retry == 0:
		return nil, swBlocked
	case cmd.p1 == 0x00 && p.base.Transport == EmptyPIN:
		// There is no old secret that could be right.
		return nil, swConditions
	case !p.base.acceptable(fresh):
		return nil, swConditions
	case !c.write():
		return nil, swMemoryFailure
	}
	if cmd.p1 == 0x00 {
		if sw := p.base.check(cmd.data[:8]); sw != swOK {
			delete(c.ch.pwd, p.key())
			return nil, sw
		}
	}
	p.base.Secret, p.base.Transport, p.base.Retry = Block(fresh), Regular, p.base.Start
	c.ch.pwd[p.key()] = p.uses(c.environment(p.folder))
	return nil, swOK
}

// resetRetryCounter is RESET RETRY COUNTER: P1 = 00 with PUK and new secret,
// 01 with the PUK, 02 with a new secret, 03 with nothing. Every use of the
// PUK, right or wrong, takes one from its use counter. The command sets no
// security state.
func (c *Card) resetRetryCounter(cmd *command) ([]byte, uint16) {
	if cmd.p1 > 3 {
		return nil, swWrongP1P2
	}
	withPUK, withSecret := cmd.p1 < 2, cmd.p1 == 0 || cmd.p1 == 2
	octets := 0
	if withPUK {
		octets += 8
	}
	if withSecret {
		octets += 8
	}
	p, sw := c.passwordFor(cmd, octets)
	if sw != swOK {
		return nil, sw
	}
	b := p.base
	switch {
	case withPUK && b.PUKUses == 0:
		return nil, swBlocked
	case b.Transport != Regular:
		return nil, swConditions
	case withSecret && !b.acceptable(cmd.data[octets-8:]):
		return nil, swConditions
	case !c.write():
		return nil, swMemoryFailure
	}
	if withPUK {
		b.PUKUses--
		if !b.PUK.equal(Block(cmd.data[:8])) {
			return nil, swRetry | uint16(min(b.PUKUses, 15))
		}
	}
	if withSecret {
		b.Secret = Block(cmd.data[octets-8:])
	}
	b.Retry = b.Start
	return nil, swOK
}

// disablePIN is DISABLE VERIFICATION REQUIREMENT, enablePIN the opposite.
func (c *Card) disablePIN(cmd *command) ([]byte, uint16) { return c.switchPIN(cmd, true) }
func (c *Card) enablePIN(cmd *command) ([]byte, uint16)  { return c.switchPIN(cmd, false) }

func (c *Card) switchPIN(cmd *command, off bool) ([]byte, uint16) {
	octets := 8
	switch cmd.p1 {
	case 0x00:
	case 0x01:
		octets = 0
	default:
		return nil, swWrongP1P2
	}
	p, sw := c.passwordFor(cmd, octets)
	switch {
	case sw != swOK:
		return nil, sw
	case p.base.Transport != Regular:
		return nil, swConditions
	case !c.write():
		return nil, swMemoryFailure
	}
	if octets != 0 {
		if sw := p.base.check(cmd.data); sw != swOK {
			delete(c.ch.pwd, p.key())
			return nil, sw
		}
	}
	*p.flag() = off
	delete(c.ch.pwd, p.key())
	return nil, swOK
}
