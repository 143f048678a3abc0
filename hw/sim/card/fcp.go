package card

import (
	"errors"
	"fmt"
)

// File descriptors of tag 82, all shareable.
var descriptors = map[Structure]byte{Transparent: 0x41, LinearFixed: 0x42, LinearVariable: 0x44, Cyclic: 0x46}

const folderDescriptor = 0x78

func be16(n int) []byte { return []byte{byte(n >> 8), byte(n)} }

// controlParameters is the answer to SELECT with P2 = 04 (layout decoded from
// a real card, see the reference section 2.6).
func (f *Folder) controlParameters() []byte {
	v := appendTLV(nil, 0x82, folderDescriptor)
	if f.FID != 0 {
		v = appendTLV(v, 0x83, be16(int(f.FID))...)
	}
	v = appendTLV(v, 0x8A, f.State.fcp())
	if len(f.AID) != 0 {
		v = appendTLV(v, 0x84, f.AID...)
	}
	v = appendTLV(v, 0xA1, f.Rules.fcp()...)
	return appendTLV(nil, 0x62, append(v, f.Proprietary...)...)
}

func (f *File) controlParameters() []byte {
	var v []byte
	if f.Structure == Transparent || f.Structure == LinearVariable {
		v = appendTLV(v, 0x80, be16(f.Size)...)
	}
	d := []byte{descriptors[f.Structure]}
	if f.Structure != Transparent {
		// Data coding byte, record size, number of records (ISO 7816-4; the
		// traces show no such file).
		d = append(d, 0x01, byte(f.MaxRecord>>8), byte(f.MaxRecord), byte(f.MaxRecords))
	}
	v = appendTLV(v, 0x82, d...)
	v = appendTLV(v, 0x83, be16(int(f.FID))...)
	if f.SFID != 0 {
		v = appendTLV(v, 0x88, f.SFID<<3)
	}
	v = appendTLV(v, 0x8A, f.State.fcp())
	if f.Structure == Transparent {
		v = appendTLV(v, 0xC5, be16(len(f.Body))...)
	}
	v = appendTLV(v, 0xA1, f.Rules.fcp()...)
	return appendTLV(nil, 0x62, v...)
}

var interfaceCodes = [...]byte{Contact: 0x01, Contactless: 0x02}

// fcp codes the rules as they stand in tag A1.
func (r RuleSet) fcp() []byte {
	var out []byte
	for iface, list := range [...][]StateRules{Contact: r.Contact, Contactless: r.Contactless} {
		for _, s := range list {
			out = appendTLV(out, 0x91, interfaceCodes[iface], s.State.fcp(), byte(s.SE))
			var rules []byte
			for _, rule := range s.Rules {
				for _, p := range rule.Patterns {
					rules = append(rules, p.fcp()...)
				}
				rules = append(rules, rule.Cond.fcp()...)
			}
			out = appendTLV(out, 0xAB, rules...)
		}
	}
	return out
}

func (p Pattern) fcp() []byte {
	if p[2] == Any || p[3] == Any {
		return appendTLV(nil, 0x8C, byte(p[0]), byte(p[1]))
	}
	return appendTLV(nil, 0x8F, byte(p[0]), byte(p[1]), byte(p[2]), byte(p[3]))
}

// Usage qualifiers of tag 95.
const (
	usagePassword = 0x08
	usageSM       = 0x30
	usageCmdEnc   = 0x10
	usageRspEnc   = 0x20
	usageAuth     = 0x80 // inferred: the traces show no role authentication
)

func (c CHAT) fcp() []byte {
	v := appendTLV(nil, 0x06, c.OID.der()...)
	v = appendTLV(v, 0x53, c.Flags[:]...)
	return appendTLV(nil, 0x7F4C, v...)
}

func (c Cond) fcp() []byte {
	with := func(tag uint16, usage byte, more ...byte) []byte {
		return appendTLV(nil, tag, append([]byte{0x95, 0x01, usage}, more...)...)
	}
	kids := func(tag uint16) []byte {
		var v []byte
		for _, k := range c.Kids {
			v = append(v, k.fcp()...)
		}
		return appendTLV(nil, tag, v...)
	}
	switch c.Op {
	case Always:
		return []byte{0x90, 0x00}
	case And:
		return kids(0xAF)
	case Or:
		return kids(0xA0)
	case PWD:
		return with(0xA4, usagePassword, 0x83, 0x01, c.Ref)
	case AuthCHAT:
		return with(0xA4, usageAuth, c.CHAT.fcp()...)
	case SMKey:
		return with(0xB4, usageSM, 0x83, 0x01, c.Ref)
	case SMCHAT:
		return with(0xB4, usageSM, c.CHAT.fcp()...)
	case CmdEnc:
		return with(0xB8, usageCmdEnc)
	case RspEnc:
		return with(0xB8, usageRspEnc)
	}
	return []byte{0x97, 0x00}
}

// ParseFCPRules reads the rules out of file control parameters (tag 62), so
// that a card can be given the rules another one has shown.
func ParseFCPRules(fcp []byte) (RuleSet, error) {
	var out RuleSet
	v, err := onlyTLV(fcp, 0x62)
	if err != nil {
		return out, err
	}
	for len(v) > 0 {
		tag, value, rest, err := nextTLV(v)
		if err != nil {
			return out, err
		}
		v = rest
		if tag == 0xA1 {
			return parseRuleTLV(value)
		}
	}
	return out, errors.New("control parameters without access rules")
}

func parseRuleTLV(v []byte) (RuleSet, error) {
	var out RuleSet
	for len(v) > 0 {
		head, rest, err := expectTLV(v, 0x91)
		if err != nil || len(head) != 3 {
			return out, errTLV
		}
		body, rest, err := expectTLV(rest, 0xAB)
		if err != nil {
			return out, err
		}
		v = rest
		sr := StateRules{SE: int(head[2])}
		switch head[1] {
		case 0x05:
			sr.State = Activated
		case 0x04:
			sr.State = Deactivated
		case 0x0C, 0x0D, 0x0E, 0x0F:
			sr.State = Terminated
		default:
			return out, fmt.Errorf("life-cycle state %02X", head[1])
		}
		if sr.Rules, err = parseRuleList(body); err != nil {
			return out, err
		}
		switch head[0] {
		case interfaceCodes[Contact]:
			out.Contact = append(out.Contact, sr)
		case interfaceCodes[Contactless]:
			out.Contactless = append(out.Contactless, sr)
		default:
			return out, fmt.Errorf("interface %02X", head[0])
		}
	}
	return out, nil
}

func parseRuleList(v []byte) ([]Rule, error) {
	var (
		rules []Rule
		open  Rule
	)
	for len(v) > 0 {
		tag, value, rest, err := nextTLV(v)
		if err != nil {
			return nil, err
		}
		switch {
		case tag == 0x8C && len(value) == 2:
			open.Patterns = append(open.Patterns, Pattern{int16(value[0]), int16(value[1]), Any, Any})
		case tag == 0x8F && len(value) == 4:
			open.Patterns = append(open.Patterns, Pattern{int16(value[0]), int16(value[1]), int16(value[2]), int16(value[3])})
		case len(open.Patterns) == 0:
			return nil, errTLV
		default:
			if open.Cond, err = parseCondTLV(tag, value, 0); err != nil {
				return nil, err
			}
			rules = append(rules, open)
			open = Rule{}
		}
		v = rest
	}
	if len(open.Patterns) != 0 {
		return nil, errTLV
	}
	return rules, nil
}

func parseCondTLV(tag uint16, value []byte, depth int) (Cond, error) {
	if depth > maxCondDepth {
		return Cond{}, errTLV
	}
	switch tag {
	case 0x90:
		return Cond{Op: Always}, nil
	case 0x97:
		return Cond{Op: Never}, nil
	case 0xA0, 0xAF:
		c := Cond{Op: Or}
		if tag == 0xAF {
			c.Op = And
		}
		for len(value) > 0 {
			t, v, rest, err := nextTLV(value)
			if err != nil {
				return Cond{}, err
			}
			k, err := parseCondTLV(t, v, depth+1)
			if err != nil {
				return Cond{}, err
			}
			c.Kids, value = append(c.Kids, k), rest
		}
		return c, nil
	case 0xA4, 0xB4, 0xB8:
	default:
		return Cond{}, fmt.Errorf("condition %02X", tag)
	}
	usage, rest, err := expectTLV(value, 0x95)
	if err != nil || len(usage) != 1 {
		return Cond{}, errTLV
	}
	if len(rest) == 0 && tag == 0xB8 {
		switch usage[0] {
		case usageCmdEnc:
			return Cond{Op: CmdEnc}, nil
		case usageRspEnc:
			return Cond{Op: RspEnc}, nil
		case usageCmdEnc | usageRspEnc:
			return Cond{Op: And, Kids: []Cond{{Op: CmdEnc}, {Op: RspEnc}}}, nil
		}
		return Cond{}, errTLV
	}
	t, v, rest, err := nextTLV(rest)
	if err != nil || len(rest) != 0 {
		return Cond{}, errTLV
	}
	var chat CHAT
	if t == 0x7F4C {
		oid, after, err := expectTLV(v, 0x06)
		if err != nil {
			return Cond{}, err
		}
		flags, err := onlyTLV(after, 0x53)
		if err != nil || len(flags) != len(chat.Flags) {
			return Cond{}, errTLV
		}
		var ok bool
		if chat.OID, ok = parseFlagOID(oid); !ok {
			return Cond{}, errTLV
		}
		copy(chat.Flags[:], flags)
	} else if t != 0x83 || len(v) != 1 {
		return Cond{}, errTLV
	}
	switch {
	case tag == 0xA4 && usage[0] == usagePassword && t == 0x83:
		return Cond{Op: PWD, Ref: v[0]}, nil
	case tag == 0xA4 && usage[0] == usageAuth && t == 0x7F4C:
		return Cond{Op: AuthCHAT, CHAT: chat}, nil
	case tag == 0xB4 && usage[0] == usageSM && t == 0x83:
		return Cond{Op: SMKey, Ref: v[0]}, nil
	case tag == 0xB4 && usage[0] == usageSM:
		return Cond{Op: SMCHAT, CHAT: chat}, nil
	}
	return Cond{}, errTLV
}
