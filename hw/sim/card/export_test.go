package card

import "maps"

// SetRole puts a role authentication into the channel, for tests of access
// rules that are not about how it got there.
func (c *Card) SetRole(chat CHAT) { c.ch.roles[chat.OID] = chat.Flags }

// SetPeer starts a trusted channel with a peer of the given rights.
func (c *Card) SetPeer(k SessionKeys, chat CHAT) {
	c.ch.session = &session{enc: k.Enc, mac: k.Mac, ssc: k.Counter, key: noKey, chat: &chat}
}

// Roles returns the role authentications of the channel.
func (c *Card) Roles() map[FlagOID]Flags { return maps.Clone(c.ch.roles) }

// ParseCommand tells how the card understands an APDU.
func ParseCommand(b []byte) (data []byte, hasData, hasLe bool, ne int, ok bool) {
	c, ok := parseCommand(b)
	return c.data, c.hasData, c.hasLe, c.ne, ok
}

// FCP codes rules as in tag A1 of the control parameters, in tag 62.
func (r RuleSet) FCP() []byte { return appendTLV(nil, 0x62, appendTLV(nil, 0xA1, r.fcp()...)...) }

// CachedKeys returns the references of the imported keys.
func (c *Card) CachedKeys() []string {
	var out []string
	for _, k := range c.cache {
		out = append(out, string(k.Ref))
	}
	return out
}
