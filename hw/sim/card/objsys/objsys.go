// Package objsys holds the object systems of the two generations of the
// electronic health card (eGK G2 and G2.1) as tables: folders, files,
// passwords, keys and the access rules of both interfaces. The files are
// empty and the keys without values; package persona fills them.
package objsys

import (
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ktradv/hw/sim/card"
	"ktradv/internal/brainpool"
)

//go:embed g21.txt
var tableG21 string

//go:embed g2.txt
var tableG2 string

// G21 returns a new object system of an eGK G2.1, contact and contactless.
func G21() (*card.System, error) {
	return read(tableG21, &card.System{
		Name:       "eGK G2.1",
		ColdATR:    []byte{0x3B, 0x90, 0x96, 0x81, 0xB1, 0xFE, 0x45, 0x1F, 0x03, 0x91},
		WarmATR:    []byte{0x3B, 0x90, 0x95, 0x81, 0xB1, 0xFE, 0x45, 0x1F, 0x03, 0x92},
		CacheSlots: 5,
	}, true)
}

// G2 returns a new object system of an eGK G2; it has no contactless interface.
func G2() (*card.System, error) {
	return read(tableG2, &card.System{
		Name:       "eGK G2",
		ColdATR:    []byte{0x3B, 0x90, 0x18, 0x81, 0xB1, 0xFE, 0x45, 0x1F, 0x03, 0x1F},
		WarmATR:    []byte{0x3B, 0x90, 0x95, 0x81, 0xB1, 0xFE, 0x45, 0x1F, 0x03, 0x92},
		CacheSlots: 5,
	}, false)
}

// wild stands in a header for any value.
const wild = card.Any

// ref stands in a header for the reference of the object the rule belongs to,
// or for 80 + SFID of a file.
const ref int16 = -2

// transport tells what a command needs from secure messaging on the
// contactless interface, on top of the condition of the contact interface.
type transport struct {
	same           bool // nothing: the contact rule holds
	never          bool
	cmdEnc, rspEnc bool
}

// commands are the names used in the tables with their headers and what the
// contactless interface adds (reference, section 1.4).
var commands = map[string]struct {
	headers []card.Pattern
	via     transport
}{
	"FINGERPRINT":                      {[]card.Pattern{{0x80, 0xFA, 0, 0}}, transport{never: true}},
	"GET RANDOM":                       {[]card.Pattern{{0x80, 0x84, 0, 0}}, transport{rspEnc: true}},
	"80 82":                            {[]card.Pattern{{0x80, 0x82, wild, wild}}, transport{same: true}},
	"LOAD APPLICATION":                 {[]card.Pattern{{0x10, 0xEA, 0, 0}, {0x00, 0xEA, 0, 0}}, transport{same: true}},
	"ACTIVATE":                         {[]card.Pattern{{0x00, 0x44, 0, 0}}, transport{}},
	"DEACTIVATE":                       {[]card.Pattern{{0x00, 0x04, 0, 0}}, transport{}},
	"READ BINARY":                      {[]card.Pattern{{0x00, 0xB0, wild, wild}}, transport{rspEnc: true}},
	"UPDATE BINARY":                    {[]card.Pattern{{0x00, 0xD6, wild, wild}}, transport{cmdEnc: true}},
	"WRITE BINARY":                     {[]card.Pattern{{0x00, 0xD0, wild, wild}}, transport{cmdEnc: true}},
	"ERASE BINARY":                     {[]card.Pattern{{0x00, 0x0E, wild, wild}}, transport{}},
	"SET LOGICAL EOF":                  {[]card.Pattern{{0x80, 0x0E, wild, wild}}, transport{}},
	"SET LOGICAL EOF AT START":         {[]card.Pattern{{0x80, 0x0E, ref, 0}}, transport{}},
	"READ RECORD":                      {[]card.Pattern{{0x00, 0xB2, wild, wild}}, transport{rspEnc: true}},
	"SEARCH RECORD":                    {[]card.Pattern{{0x00, 0xA2, wild, wild}}, transport{cmdEnc: true, rspEnc: true}},
	"UPDATE RECORD":                    {[]card.Pattern{{0x00, 0xDC, wild, wild}}, transport{cmdEnc: true}},
	"APPEND RECORD":                    {[]card.Pattern{{0x00, 0xE2, 0, wild}}, transport{cmdEnc: true}},
	"ERASE RECORD":                     {[]card.Pattern{{0x00, 0x0C, wild, wild}}, transport{}},
	"DELETE RECORD":                    {[]card.Pattern{{0x80, 0x0C, wild, wild}}, transport{}},
	"ACTIVATE RECORD":                  {[]card.Pattern{{0x00, 0x08, wild, wild}}, transport{}},
	"DEACTIVATE RECORD":                {[]card.Pattern{{0x00, 0x06, wild, wild}}, transport{}},
	"DELETE":                           {nil, transport{same: true}}, // header depends on the object
	"VERIFY":                           {[]card.Pattern{{0x00, 0x20, 0, ref}}, transport{cmdEnc: true}},
	"GET PIN STATUS":                   {[]card.Pattern{{0x80, 0x20, 0, ref}}, transport{}},
	"CHANGE REFERENCE DATA 00":         {[]card.Pattern{{0x00, 0x24, 0, ref}}, transport{cmdEnc: true}},
	"CHANGE REFERENCE DATA 01":         {[]card.Pattern{{0x00, 0x24, 1, ref}}, transport{cmdEnc: true}},
	"RESET RETRY COUNTER 00":           {[]card.Pattern{{0x00, 0x2C, 0, ref}}, transport{cmdEnc: true}},
	"RESET RETRY COUNTER 01":           {[]card.Pattern{{0x00, 0x2C, 1, ref}}, transport{cmdEnc: true}},
	"RESET RETRY COUNTER 02":           {[]card.Pattern{{0x00, 0x2C, 2, ref}}, transport{cmdEnc: true}},
	"DISABLE 00":                       {[]card.Pattern{{0x00, 0x26, 0, ref}}, transport{cmdEnc: true}},
	"ENABLE 00":                        {[]card.Pattern{{0x00, 0x28, 0, ref}}, transport{cmdEnc: true}},
	"INTERNAL AUTHENTICATE":            {[]card.Pattern{{0x00, 0x88, 0, 0}}, transport{cmdEnc: true, rspEnc: true}},
	"EXTERNAL AUTHENTICATE":            {[]card.Pattern{{0x00, 0x82, 0, 0}}, transport{same: true}},
	"GENERAL AUTHENTICATE":             {[]card.Pattern{{wild, 0x86, wild, wild}}, transport{same: true}},
	"PSO VERIFY CERTIFICATE":           {[]card.Pattern{{0x00, 0x2A, 0x00, 0xBE}}, transport{same: true}},
	"PSO COMPUTE SIGNATURE":            {[]card.Pattern{{0x00, 0x2A, 0x9E, 0x9A}}, transport{cmdEnc: true, rspEnc: true}},
	"PSO 9EAC":                         {[]card.Pattern{{0x00, 0x2A, 0x9E, 0xAC}}, transport{cmdEnc: true, rspEnc: true}},
	"PSO DECIPHER":                     {[]card.Pattern{{0x00, 0x2A, 0x80, 0x86}}, transport{cmdEnc: true, rspEnc: true}},
	"PSO TRANSCIPHER":                  {[]card.Pattern{{0x00, 0x2A, 0x86, 0xB8}}, transport{cmdEnc: true, rspEnc: true}},
	"GENERATE KEY PAIR 81":             {[]card.Pattern{{0x00, 0x46, 0x81, ref}}, transport{rspEnc: true}},
	"GENERATE KEY PAIR 81 OF SELECTED": {[]card.Pattern{{0x00, 0x46, 0x81, 0}}, transport{rspEnc: true}},
	"GENERATE KEY PAIR C0":             {[]card.Pattern{{0x00, 0x46, 0xC0, ref}}, transport{rspEnc: true}},
}

// names are the conditions that the tables call by a name.
var names = func() map[string]card.Cond {
	cms := card.CHAT{OID: card.FlagsCMS, Flags: card.Flag(8)}
	vsd := card.CHAT{OID: card.FlagsCMS, Flags: card.Flag(9)}
	key := func(ref byte) card.Cond { return card.Cond{Op: card.SMKey, Ref: ref} }
	or := func(k ...card.Cond) card.Cond { return card.Cond{Op: card.Or, Kids: k} }
	return map[string]card.Cond{
		"ALW":    {Op: card.Always},
		"NEVER":  {Op: card.Never},
		"PACE":   key(0x02),
		"CMS":    or(key(0x13), key(0x18), card.Cond{Op: card.SMCHAT, CHAT: cms}),
		"VSD":    or(key(0x12), key(0x19), card.Cond{Op: card.SMCHAT, CHAT: vsd}),
		"CMDENC": {Op: card.CmdEnc},
		"RSPENC": {Op: card.RspEnc},
	}
}()

// byIssuer tells whether a condition is one of the issuer's, which needs no
// PACE on the contactless interface.
func byIssuer(c card.Cond) bool {
	switch c.Op {
	case card.SMKey, card.SMCHAT:
		return true
	case card.And:
		return slices.ContainsFunc(c.Kids, byIssuer)
	case card.Or:
		return !slices.ContainsFunc(c.Kids, func(k card.Cond) bool { return !byIssuer(k) })
	}
	return false
}

func and(k ...card.Cond) card.Cond {
	var out []card.Cond
	add := func(c card.Cond) {
		same := func(o card.Cond) bool { return o.String() == c.String() }
		if c.Op != card.Always && !slices.ContainsFunc(out, same) {
			out = append(out, c)
		}
	}
	for _, c := range k {
		if c.Op != card.And {
			add(c)
			continue
		}
		for _, kid := range c.Kids {
			add(kid)
		}
	}
	switch len(out) {
	case 0:
		return card.Cond{Op: card.Always}
	case 1:
		return out[0]
	}
	return card.Cond{Op: card.And, Kids: out}
}

// overContactless turns the condition of the contact interface into that of
// the contactless one. Alternatives of the card's issuer do not need PACE.
func overContactless(c card.Cond, via transport) card.Cond {
	if via.same {
		return c
	}
	var enc []card.Cond
	if via.cmdEnc {
		enc = append(enc, card.Cond{Op: card.CmdEnc})
	}
	if via.rspEnc {
		enc = append(enc, card.Cond{Op: card.RspEnc})
	}
	if byIssuer(c) {
		return and(append(enc, c)...)
	}
	if c.Op != card.Or {
		return and(append([]card.Cond{names["PACE"]}, append(enc, c)...)...)
	}
	var issuer, others []card.Cond
	for _, k := range c.Kids {
		if byIssuer(k) {
			issuer = append(issuer, and(append(slices.Clone(enc), k)...))
		} else {
			others = append(others, k)
		}
	}
	rest := card.Cond{Op: card.Or, Kids: others}
	if len(others) == 1 {
		rest = others[0]
	}
	out := and(append([]card.Cond{names["PACE"]}, append(enc, rest)...)...)
	if issuer == nil {
		return out
	}
	return card.Cond{Op: card.Or, Kids: append([]card.Cond{out}, issuer...)}
}

// read builds an object system from a table.
func read(table string, sys *card.System, contactless bool) (*card.System, error) {
	folders := map[string]*card.Folder{}
	var cur *object
	finish := func() error {
		if cur == nil {
			return nil
		}
		o := cur.build(contactless)
		i := strings.LastIndexByte(cur.path, '/')
		if f, ok := o.(*card.Folder); ok {
			folders[cur.path] = f
			if i < 0 {
				sys.Root = f
				return nil
			}
		}
		parent := folders[cur.path[:max(i, 0)]]
		if parent == nil {
			return fmt.Errorf("%s: no such folder", cur.path)
		}
		parent.Children = append(parent.Children, o)
		return nil
	}
	for n, line := range strings.Split(table, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		var err error
		if line[0] == '\t' && cur != nil {
			err = cur.rule(strings.TrimSpace(line))
		} else if err = finish(); err == nil {
			cur, err = newObject(line)
		}
		if err != nil {
			return nil, fmt.Errorf("object system: line %d: %w", n+1, err)
		}
	}
	if err := finish(); err != nil {
		return nil, fmt.Errorf("object system: %w", err)
	}
	if sys.Root == nil {
		return nil, errors.New("object system: no root")
	}
	return sys, nil
}

type row struct {
	commands []string
	cond     card.Cond
}

type object struct {
	path, name, kind string
	attr             map[string]string
	activated        []row
	deactivated      []row
	authentication   []row
	override         map[string]card.Cond // contactless conditions by command
	err              error
}

func newObject(line string) (*object, error) {
	w := strings.Fields(line)
	if len(w) < 2 {
		return nil, errors.New("object without kind")
	}
	o := &object{path: w[0], kind: w[1], attr: map[string]string{}, override: map[string]card.Cond{}}
	o.name = o.path[strings.LastIndexByte(o.path, '/')+1:]
	for _, a := range w[2:] {
		k, v, _ := strings.Cut(a, "=")
		o.attr[k] = v
	}
	if _, err := o.make(); err != nil {
		return nil, fmt.Errorf("%s: %w", o.path, err)
	}
	return o, nil
}

func (o *object) rule(line string) error {
	ops, text, ok := strings.Cut(line, ": ")
	if !ok {
		return fmt.Errorf("rule %q", line)
	}
	list := &o.activated
	contactless := false
	if s, ok := strings.CutPrefix(ops, "deactivated "); ok {
		ops, list = s, &o.deactivated
	} else if s, ok := strings.CutPrefix(ops, "authentication "); ok {
		ops, list = s, &o.authentication
	} else if s, ok := strings.CutPrefix(ops, "contactless "); ok {
		ops, contactless = s, true
	}
	p := condParser{words: tokens(text)}
	cond, err := p.or()
	if err != nil {
		return err
	}
	if len(p.words) != 0 {
		return fmt.Errorf("condition: unexpected %q", p.words[0])
	}
	r := row{cond: cond}
	for op := range strings.SplitSeq(ops, ", ") {
		if _, ok := commands[op]; !ok {
			return fmt.Errorf("unknown command %q", op)
		}
		if contactless {
			o.override[op] = cond
		}
		r.commands = append(r.commands, op)
	}
	if !contactless {
		*list = append(*list, r)
	}
	return nil
}

func tokens(s string) []string {
	s = strings.NewReplacer("(", " ( ", ")", " ) ").Replace(s)
	return strings.Fields(s)
}

// condParser reads conditions: "or" binds weaker than "and".
type condParser struct{ words []string }

func (p *condParser) next(w string) bool {
	if len(p.words) == 0 || p.words[0] != w {
		return false
	}
	p.words = p.words[1:]
	return true
}

func (p *condParser) list(op card.Op, word string, term func() (card.Cond, error)) (card.Cond, error) {
	var kids []card.Cond
	for {
		c, err := term()
		if err != nil {
			return c, err
		}
		if c.Op == op {
			kids = append(kids, c.Kids...)
		} else {
			kids = append(kids, c)
		}
		if !p.next(word) {
			break
		}
	}
	if len(kids) == 1 {
		return kids[0], nil
	}
	return card.Cond{Op: op, Kids: kids}, nil
}

func (p *condParser) or() (card.Cond, error)  { return p.list(card.Or, "or", p.and) }
func (p *condParser) and() (card.Cond, error) { return p.list(card.And, "and", p.atom) }

func (p *condParser) atom() (card.Cond, error) {
	if p.next("(") {
		c, err := p.or()
		if err == nil && !p.next(")") {
			err = errors.New("condition: missing )")
		}
		return c, err
	}
	if len(p.words) == 0 {
		return card.Cond{}, errors.New("condition: unexpected end")
	}
	w := p.words[0]
	p.words = p.words[1:]
	if c, ok := names[w]; ok {
		return c, nil
	}
	if s, ok := strings.CutPrefix(w, "PWD"); ok {
		n, err := strconv.ParseUint(s, 16, 8)
		return card.Cond{Op: card.PWD, Ref: byte(n)}, err
	}
	var bits []int
	for f := range strings.SplitSeq(w, "+") {
		n, err := strconv.Atoi(strings.TrimPrefix(f, "f"))
		if err != nil || f[0] != 'f' || n < 0 || n > 55 {
			return card.Cond{}, fmt.Errorf("condition: unknown %q", w)
		}
		bits = append(bits, n)
	}
	return card.Cond{Op: card.AuthCHAT, CHAT: card.CHAT{OID: card.FlagsTI, Flags: card.Flag(bits...)}}, nil
}

// reference is the value of ref in the headers of the object's rules.
func (o *object) reference() int16 {
	n := o.hex("id")
	if o.kind == "transparent" {
		return int16(0x80 | o.hex("sfid"))
	}
	if strings.Count(o.path, "/") > 1 {
		n |= 0x80
	}
	return int16(n)
}

func (o *object) headers(command string) []card.Pattern {
	if command == "DELETE" {
		switch o.kind {
		case "ec", "rsa", "secret", "pace":
			return []card.Pattern{{0x00, 0xE4, 0x20, o.reference()}}
		case "public":
			return []card.Pattern{{0x00, 0xE4, 0x21, 0}}
		}
		return []card.Pattern{{0x00, 0xE4, 0, 0}}
	}
	out := slices.Clone(commands[command].headers)
	for i := range out {
		for j := range out[i] {
			if out[i][j] == ref {
				out[i][j] = o.reference()
			}
		}
	}
	return out
}

func (o *object) rules(activated, deactivated []row, contactless bool) card.RuleSet {
	state := func(rows []row, air bool) []card.Rule {
		var out []card.Rule
		for _, r := range rows {
			if !air {
				rule := card.Rule{Cond: r.cond}
				for _, op := range r.commands {
					rule.Patterns = append(rule.Patterns, o.headers(op)...)
				}
				out = append(out, rule)
				continue
			}
			// On the contactless interface commands of one rule may need
			// different things.
			var done []string
			for _, op := range r.commands {
				if commands[op].via.never || slices.Contains(done, op) {
					continue
				}
				cond := o.contactless(op, r.cond)
				rule := card.Rule{Cond: cond}
				for _, other := range r.commands {
					if !commands[other].via.never && o.contactless(other, r.cond).String() == cond.String() {
						rule.Patterns = append(rule.Patterns, o.headers(other)...)
						done = append(done, other)
					}
				}
				out = append(out, rule)
			}
		}
		return out
	}
	set := func(air bool) []card.StateRules {
		s := []card.StateRules{{State: card.Activated, SE: 1, Rules: state(activated, air)}}
		if len(deactivated) != 0 {
			s = append(s, card.StateRules{State: card.Deactivated, SE: card.AnySE, Rules: state(deactivated, air)})
		}
		return s
	}
	rs := card.RuleSet{Contact: set(false)}
	if contactless {
		rs.Contactless = set(true)
	}
	return rs
}

func (o *object) contactless(op string, c card.Cond) card.Cond {
	if over, ok := o.override[op]; ok {
		return over
	}
	return overContactless(c, commands[op].via)
}

func (o *object) build(contactless bool) card.Object {
	obj, _ := o.make() // checked by newObject
	rs := o.rules(o.activated, o.deactivated, contactless)
	switch x := obj.(type) {
	case *card.Folder:
		x.Rules = rs
	case *card.File:
		x.Rules = rs
	case *card.Password:
		x.Rules = rs
	case *card.MultiPassword:
		x.Rules = rs
	case *card.PrivateKey:
		x.Rules = rs
	case *card.SecretKey:
		x.Rules = rs
	case *card.PaceKey:
		x.Rules = rs
	case *card.PublicKey:
		x.Rules, x.VerificationRules = rs, rs
		x.AuthenticationRules = o.rules(o.authentication, nil, contactless)
	}
	return obj
}

func (o *object) hex(key string) uint64 {
	v, ok := o.attr[key]
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(v, 16, 16)
	if err != nil {
		o.err = fmt.Errorf("%s: %w", key, err)
	}
	return n
}

func (o *object) dec(key string) int {
	n, err := strconv.ParseUint(o.attr[key], 10, 16)
	if err != nil {
		o.err = fmt.Errorf("%s: %w", key, err)
	}
	return int(n)
}

var structures = map[string]card.Structure{
	"transparent": card.Transparent, "fixed": card.LinearFixed, "variable": card.LinearVariable, "cyclic": card.Cyclic,
}

// make creates the object without its rules.
func (o *object) make() (card.Object, error) {
	h := card.Header{Name: o.name}
	id := byte(o.hex("id"))
	var obj card.Object
	switch o.kind {
	case "folder":
		f := &card.Folder{Header: h, FID: uint16(o.hex("fid"))}
		for i := 0; i+2 <= len(o.attr["aid"]); i += 2 {
			n, err := strconv.ParseUint(o.attr["aid"][i:i+2], 16, 8)
			if err != nil {
				return nil, fmt.Errorf("aid: %w", err)
			}
			f.AID = append(f.AID, byte(n))
		}
		obj = f
	case "transparent", "fixed", "variable", "cyclic":
		f := &card.File{Header: h, Structure: structures[o.kind], FID: uint16(o.hex("fid")), SFID: byte(o.hex("sfid"))}
		if o.kind == "transparent" || o.kind == "variable" {
			f.Size = o.dec("size")
		}
		if o.kind != "transparent" {
			f.MaxRecords, f.MaxRecord = o.dec("records"), o.dec("record")
			_, f.RecordState = o.attr["lcs"]
		}
		obj = f
	case "password":
		p := &card.Password{Header: h, ID: id, Start: o.dec("retry"), Retry: o.dec("retry"), PUKUses: o.dec("puk"),
			Secret: card.NoSecret, PUK: card.NoSecret, Uses: map[int]int{1: card.Forever}}
		if _, err := fmt.Sscanf(o.attr["digits"], "%d-%d", &p.Min, &p.Max); err != nil {
			return nil, fmt.Errorf("digits: %w", err)
		}
		obj = p
	case "multi":
		_, off := o.attr["off"]
		obj = &card.MultiPassword{Header: h, ID: id, Target: byte(o.hex("target")), Disabled: off, Uses: map[int]int{1: card.Forever}}
	case "ec", "rsa":
		k := &card.PrivateKey{Header: h, ID: id, Algorithms: map[int][]card.Algorithm{1: o.algorithms()}}
		if o.kind == "ec" {
			k.Curve = brainpool.P256r1()
		} else {
			k.RSABits = 2048
		}
		obj = k
	case "secret":
		obj = &card.SecretKey{Header: h, ID: id, Algorithms: map[int][]card.Algorithm{1: o.algorithms()}}
	case "pace":
		obj = &card.PaceKey{Header: h, ID: id, OID: card.PACEOID, Secret: card.NoSecret}
	case "public":
		chat, err := card.ParseCHAT("cvc_FlagList_" + o.attr["chat"])
		if err != nil {
			return nil, err
		}
		obj = &card.PublicKey{Header: h, CHAT: chat}
	default:
		return nil, fmt.Errorf("unknown kind %q", o.kind)
	}
	return obj, o.err
}

func (o *object) algorithms() []card.Algorithm {
	var out []card.Algorithm
	for a := range strings.SplitSeq(o.attr["alg"], ",") {
		out = append(out, card.Algorithm(a))
	}
	return out
}
