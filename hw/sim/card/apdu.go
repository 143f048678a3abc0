package card

// command is a parsed command APDU.
type command struct {
	cla, ins, p1, p2 byte
	data             []byte
	hasData          bool
	hasLe            bool
	wild             bool // Le of zeros: as much as there is
	ne               int  // 0 without Le
	extended         bool
}

// Classes of commands the card knows.
const (
	claInterindustry byte = 0x00
	claChained       byte = 0x10
	claProprietary   byte = 0x80
)

// parseCommand reads a command APDU in one of the seven forms of ISO 7816-3
// (cases 1 to 4, short and extended).
func parseCommand(b []byte) (command, bool) {
	if len(b) < 4 {
		return command{}, false
	}
	c := command{cla: b[0], ins: b[1], p1: b[2], p2: b[3]}
	body := b[4:]
	switch {
	case len(body) == 0: // case 1
		return c, true
	case len(body) == 1: // case 2, short
		c.setShortLe(body[0])
		return c, true
	case body[0] != 0: // cases 3 and 4, short
		lc := int(body[0])
		body = body[1:]
		switch len(body) {
		case lc:
		case lc + 1:
			c.setShortLe(body[lc])
		default:
			return command{}, false
		}
		c.data, c.hasData = body[:lc], true
		return c, true
	}
	c.extended = true
	if len(body) < 3 {
		return command{}, false
	}
	if len(body) == 3 { // case 2, extended
		c.setExtendedLe(body[1:])
		return c, true
	}
	lc := int(body[1])<<8 | int(body[2]) // cases 3 and 4, extended
	body = body[3:]
	switch {
	case lc == 0:
		return command{}, false
	case len(body) == lc:
	case len(body) == lc+2:
		c.setExtendedLe(body[lc:])
	default:
		return command{}, false
	}
	c.data, c.hasData = body[:lc], true
	return c, true
}

func (c *command) setShortLe(b byte) {
	c.hasLe, c.ne, c.wild = true, int(b), b == 0
	if c.wild {
		c.ne = 256
	}
}

func (c *command) setExtendedLe(b []byte) {
	c.hasLe, c.ne = true, int(b[0])<<8|int(b[1])
	c.wild = c.ne == 0
	if c.wild {
		c.ne = 65536
	}
}
