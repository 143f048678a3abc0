package card

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Op is the kind of a condition.
type Op byte

// Kinds of conditions.
const (
	Never Op = iota // no way to satisfy it
	Always
	And      // all of Kids
	Or       // one of Kids
	PWD      // password Ref verified, or switched off
	AuthCHAT // role authentication with all bits of CHAT
	SMKey    // secure messaging with a key agreed with the key Ref
	SMCHAT   // secure messaging agreed with a holder of all bits of CHAT
	CmdEnc   // command data enciphered
	RspEnc   // response data to be enciphered
)

// Cond is the condition of an access rule. The zero value is Never.
type Cond struct {
	Op   Op
	Ref  byte
	CHAT CHAT
	Kids []Cond
}

// Pattern is a command header an access rule speaks about. An octet of -1 in
// it stands for any value.
type Pattern [4]int16

// Any is the wildcard of a Pattern.
const Any int16 = -1

func (p Pattern) matches(cla, ins, p1, p2 byte) bool {
	for i, b := range [4]byte{cla, ins, p1, p2} {
		if p[i] != Any && p[i] != int16(b) {
			return false
		}
	}
	return true
}

// Rule gives the condition for some commands.
type Rule struct {
	Patterns []Pattern
	Cond     Cond
}

// AnySE is a security environment number that stands for every environment.
const AnySE = 0

// StateRules are the rules of one life-cycle state and security environment.
type StateRules struct {
	State LifeCycle
	SE    int // AnySE or 1..4
	Rules []Rule
}

// RuleSet holds the rules of an object for the two interfaces, in the order
// in which the card lists them.
type RuleSet struct {
	Contact     []StateRules
	Contactless []StateRules
}

// find returns the condition for a command; ok is false when the command is
// not listed, which means never.
func (r RuleSet) find(i Interface, state LifeCycle, se int, cla, ins, p1, p2 byte) (Cond, bool) {
	list := r.Contact
	if i == Contactless {
		list = r.Contactless
	}
	for _, s := range list {
		if s.State != state || s.SE != AnySE && s.SE != se {
			continue
		}
		for _, rule := range s.Rules {
			if slices.ContainsFunc(rule.Patterns, func(p Pattern) bool { return p.matches(cla, ins, p1, p2) }) {
				return rule.Cond, true
			}
		}
	}
	return Cond{Op: Never}, false
}

// granted is the outcome of a satisfied condition.
type granted struct {
	rspEnc bool
	pwds   []pwdKey // passwords the decision used
}

// eval decides a condition in the security state of the channel. Password
// references are resolved from folder at, upwards.
func (c *Card) eval(cond Cond, at *Folder, g *granted) bool {
	switch cond.Op {
	case Always:
		return true
	case And:
		for _, k := range cond.Kids {
			if !c.eval(k, at, g) {
				return false
			}
		}
		return true
	case Or:
		for _, k := range cond.Kids {
			try := granted{rspEnc: g.rspEnc, pwds: slices.Clone(g.pwds)}
			if c.eval(k, at, &try) {
				*g = try
				return true
			}
		}
		return false
	case PWD:
		ref := c.password(cond.Ref, at)
		if ref == nil {
			return false
		}
		if ref.disabled() {
			return true
		}
		key := ref.key()
		if c.ch.pwd[key] == 0 {
			return false
		}
		g.pwds = append(g.pwds, key)
		return true
	case AuthCHAT:
		have, ok := c.ch.roles[cond.CHAT.OID]
		return ok && have.covers(cond.CHAT.Flags)
	case SMKey:
		return c.ch.session != nil && c.ch.secured && c.ch.session.key == int(cond.Ref)
	case SMCHAT:
		s := c.ch.session
		return s != nil && c.ch.secured && s.chat != nil && s.chat.OID == cond.CHAT.OID && s.chat.Flags.covers(cond.CHAT.Flags)
	case CmdEnc:
		return c.ch.secured && c.ch.cmdEnc
	case RspEnc:
		g.rspEnc = true
		return c.ch.secured
	}
	return false
}

// ParseRules reads access rules in the notation of the public card images:
//
//	CB{[ACTIVATED,1,{({00||b0||??||??},ALW)}]},CL{...}
//
// White space is ignored. Input is bounded by the caller.
func ParseRules(s string) (RuleSet, error) {
	p := ruleParser{s: strings.Map(func(r rune) rune {
		if r == ' ' || r == '\t' || r == '\n' || r == '\r' {
			return -1
		}
		return r
	}, s)}
	var out RuleSet
	for p.s != "" {
		var list *[]StateRules
		switch {
		case p.eat("CB{"):
			list = &out.Contact
		case p.eat("CL{"):
			list = &out.Contactless
		default:
			return RuleSet{}, fmt.Errorf("access rules: unexpected %.20q", p.s)
		}
		if *list != nil {
			return RuleSet{}, errors.New("access rules: interface given twice")
		}
		for {
			sr, err := p.stateRules()
			if err != nil {
				return RuleSet{}, fmt.Errorf("access rules: %w", err)
			}
			*list = append(*list, sr)
			if !p.eat(",") {
				break
			}
		}
		if !p.eat("}") {
			return RuleSet{}, fmt.Errorf("access rules: missing } before %.20q", p.s)
		}
		if !p.eat(",") && p.s != "" {
			return RuleSet{}, fmt.Errorf("access rules: unexpected %.20q", p.s)
		}
	}
	return out, nil
}

type ruleParser struct{ s string }

func (p *ruleParser) eat(t string) bool {
	rest, ok := strings.CutPrefix(p.s, t)
	p.s = rest
	return ok
}

func (p *ruleParser) upTo(stop string) string {
	i := strings.IndexAny(p.s, stop)
	if i < 0 {
		i = len(p.s)
	}
	w := p.s[:i]
	p.s = p.s[i:]
	return w
}

func (p *ruleParser) stateRules() (StateRules, error) {
	var sr StateRules
	if !p.eat("[") {
		return sr, fmt.Errorf("missing [ before %.20q", p.s)
	}
	switch w := p.upTo(","); w {
	case "ACTIVATED":
		sr.State = Activated
	case "DEACTIVATED":
		sr.State = Deactivated
	case "TERMINATED":
		sr.State = Terminated
	default:
		return sr, fmt.Errorf("unknown life-cycle state %.20q", w)
	}
	p.eat(",")
	switch w := p.upTo(","); w {
	case "??":
		sr.SE = AnySE
	case "1", "2", "3", "4":
		sr.SE = int(w[0] - '0')
	default:
		return sr, fmt.Errorf("unknown security environment %.20q", w)
	}
	if !p.eat(",{") {
		return sr, fmt.Errorf("missing { before %.20q", p.s)
	}
	for {
		r, err := p.rule()
		if err != nil {
			return sr, err
		}
		sr.Rules = append(sr.Rules, r)
		if !p.eat(",") {
			break
		}
	}
	if !p.eat("}]") {
		return sr, fmt.Errorf("missing }] before %.20q", p.s)
	}
	return sr, nil
}

func (p *ruleParser) rule() (Rule, error) {
	var r Rule
	if !p.eat("({") {
		return r, fmt.Errorf("missing ({ before %.20q", p.s)
	}
	for {
		pat, err := ParsePattern(p.upTo(",}"))
		if err != nil {
			return r, err
		}
		r.Patterns = append(r.Patterns, pat)
		if !p.eat(",") {
			break
		}
	}
	if !p.eat("},") {
		return r, fmt.Errorf("missing } before %.20q", p.s)
	}
	var err error
	if r.Cond, err = p.cond(0); err != nil {
		return r, err
	}
	if !p.eat(")") {
		return r, fmt.Errorf("missing ) before %.20q", p.s)
	}
	return r, nil
}

// ParsePattern reads a command header such as 00||b0||??||??.
func ParsePattern(s string) (Pattern, error) {
	parts := strings.Split(s, "||")
	var p Pattern
	if len(parts) != len(p) {
		return p, fmt.Errorf("command header %.40q", s)
	}
	for i, w := range parts {
		if w == "??" {
			p[i] = Any
			continue
		}
		v, err := strconv.ParseUint(w, 16, 8)
		if err != nil || len(w) != 2 {
			return p, fmt.Errorf("command header %.40q", s)
		}
		p[i] = int16(v)
	}
	return p, nil
}

const maxCondDepth = 16

func (p *ruleParser) cond(depth int) (Cond, error) {
	if depth > maxCondDepth {
		return Cond{}, errors.New("condition nested too deeply")
	}
	switch {
	case p.eat("ALW"):
		return Cond{Op: Always}, nil
	case p.eat("NEV"):
		return Cond{Op: Never}, nil
	case p.eat("SMCMDENC"):
		return Cond{Op: CmdEnc}, nil
	case p.eat("SMRSPENC"):
		return Cond{Op: RspEnc}, nil
	case p.eat("AND{"):
		return p.kids(And, depth)
	case p.eat("OR{"):
		return p.kids(Or, depth)
	case p.eat("PWD("):
		v, err := strconv.ParseUint(p.upTo(")"), 16, 8)
		if err != nil || !p.eat(")") {
			return Cond{}, errors.New("password reference")
		}
		return Cond{Op: PWD, Ref: byte(v)}, nil
	case p.eat("AUTCHAT("):
		chat, err := ParseCHAT(p.upTo(")"))
		if err != nil || !p.eat(")") {
			return Cond{}, fmt.Errorf("flag list in AUTCHAT: %w", err)
		}
		return Cond{Op: AuthCHAT, CHAT: chat}, nil
	case p.eat("SMMAC("):
		w := p.upTo(")")
		if !p.eat(")") {
			return Cond{}, errors.New("missing ) after SMMAC")
		}
		if strings.Contains(w, ":") {
			chat, err := ParseCHAT(w)
			if err != nil {
				return Cond{}, fmt.Errorf("flag list in SMMAC: %w", err)
			}
			return Cond{Op: SMCHAT, CHAT: chat}, nil
		}
		v, err := strconv.ParseUint(w, 16, 8)
		if err != nil {
			return Cond{}, errors.New("key reference in SMMAC")
		}
		return Cond{Op: SMKey, Ref: byte(v)}, nil
	}
	return Cond{}, fmt.Errorf("unknown condition %.20q", p.s)
}

func (p *ruleParser) kids(op Op, depth int) (Cond, error) {
	c := Cond{Op: op}
	for {
		k, err := p.cond(depth + 1)
		if err != nil {
			return Cond{}, err
		}
		c.Kids = append(c.Kids, k)
		if !p.eat(",") {
			break
		}
	}
	if !p.eat("}") {
		return Cond{}, fmt.Errorf("missing } before %.20q", p.s)
	}
	return c, nil
}

// String writes the condition in the notation of the card images.
func (c Cond) String() string {
	switch c.Op {
	case Always:
		return "ALW"
	case And, Or:
		kids := make([]string, len(c.Kids))
		for i, k := range c.Kids {
			kids[i] = k.String()
		}
		name := "AND"
		if c.Op == Or {
			name = "OR"
		}
		return name + "{" + strings.Join(kids, ",") + "}"
	case PWD:
		return fmt.Sprintf("PWD(%02x)", c.Ref)
	case AuthCHAT:
		return "AUTCHAT(" + c.CHAT.String() + ")"
	case SMKey:
		return fmt.Sprintf("SMMAC(%02x)", c.Ref)
	case SMCHAT:
		return "SMMAC(" + c.CHAT.String() + ")"
	case CmdEnc:
		return "SMCMDENC"
	case RspEnc:
		return "SMRSPENC"
	}
	return "NEV"
}

// String writes the header in the notation of the card images.
func (p Pattern) String() string {
	var w [4]string
	for i, v := range p {
		w[i] = "??"
		if v != Any {
			w[i] = fmt.Sprintf("%02x", v)
		}
	}
	return strings.Join(w[:], "||")
}

// CHAT is a card holder authorisation template: which flag list, and the
// flags in it.
type CHAT struct {
	OID   FlagOID
	Flags Flags
}

// FlagOID names one of the two flag lists.
type FlagOID byte

// The flag lists of gemSpec_PKI.
const (
	FlagsTI  FlagOID = 0x18 // oid_cvc_fl_ti
	FlagsCMS FlagOID = 0x19 // oid_cvc_fl_cms
)

// Flags is a flag list of 56 bits; bit 0 is the most significant.
type Flags [7]byte

// covers tells whether every bit of need is set.
func (f Flags) covers(need Flags) bool { return f.and(need) == need }

func (f Flags) and(g Flags) Flags {
	for i := range f {
		f[i] &= g[i]
	}
	return f
}

// Flag returns the list in which only the given bits are set.
func Flag(bits ...int) Flags {
	var f Flags
	for _, b := range bits {
		f[b/8] |= 0x80 >> (b % 8)
	}
	return f
}

// flagOIDPrefix is 1.2.276.0.76.4 followed by the last arc (152 or 153).
var flagOIDPrefix = []byte{0x2A, 0x82, 0x14, 0x00, 0x4C, 0x04, 0x81}

func (o FlagOID) der() []byte { return append(slices.Clone(flagOIDPrefix), byte(o)) }

func parseFlagOID(b []byte) (FlagOID, bool) {
	if len(b) != 8 || !slices.Equal(b[:7], flagOIDPrefix) {
		return 0, false
	}
	o := FlagOID(b[7])
	return o, o == FlagsTI || o == FlagsCMS
}

// ParseCHAT reads "cvc_FlagList_TI:00000000400000".
func ParseCHAT(s string) (CHAT, error) {
	name, list, _ := strings.Cut(s, ":")
	var c CHAT
	switch name {
	case "cvc_FlagList_TI":
		c.OID = FlagsTI
	case "cvc_FlagList_CMS":
		c.OID = FlagsCMS
	default:
		return c, fmt.Errorf("unknown flag list %.20q", name)
	}
	b, err := hex.DecodeString(list)
	if err != nil || len(b) != len(c.Flags) {
		return c, fmt.Errorf("flag list %.20q", list)
	}
	copy(c.Flags[:], b)
	return c, nil
}

// String writes the template in the notation of the card images.
func (c CHAT) String() string {
	name := "cvc_FlagList_TI"
	if c.OID == FlagsCMS {
		name = "cvc_FlagList_CMS"
	}
	return name + ":" + hex.EncodeToString(c.Flags[:])
}

// Find returns the condition of the rule set for a command header; Never when
// the command is not listed.
func (r RuleSet) Find(i Interface, state LifeCycle, se int, header [4]byte) Cond {
	c, _ := r.find(i, state, se, header[0], header[1], header[2], header[3])
	return c
}
