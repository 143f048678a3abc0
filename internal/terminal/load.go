package terminal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"ktradv/internal/readers"
)

// MaxFile bounds the configuration file in octets.
const MaxFile = 64 << 10

// maxProblems bounds what is told of one file; the screen that shows them is not longer either.
const maxProblems = 100

// Load reads a configuration file and checks it: its form, every value, whether the values fit each other, and whether the
// files that it names are there. An empty list means that the configuration may be used; otherwise it holds what could be
// understood, with defaults for the rest. What is in the files named (certificates, CVC roots, design) is checked by
// those who read them: `adv-kiosk -check` does all of it.
func Load(path string) (Config, []Problem) {
	b, err := read(path)
	if err != nil {
		c, _ := Parse([]byte("{}"), path)
		return c, []Problem{{File: path, What: "cannot be read: " + reason(err), Fix: "lay the file there, readable for the terminal's programs"}}
	}
	c, problems := Parse(b, path)
	return c, append(problems, c.files(path)...)
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxFile+1))
}

// reason gives an error of the file system without the path, which stands beside it.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// Parse checks the content of a configuration file: everything that Load checks but the files it names. Relative paths
// are taken from the folder of path, which names the file in the problems; nothing is read.
func Parse(b []byte, path string) (Config, []Problem) {
	p := &parser{file: path, set: map[string]bool{}}
	var c Config
	p.object(&c, b)
	p.defaults(&c, filepath.Dir(path))
	p.fit(&c)
	return c, p.problems
}

type parser struct {
	file     string
	problems []Problem
	set      map[string]bool // keys with a value, or with a mistake that is named
}

func (p *parser) bad(key, what, fix string) {
	if len(p.problems) < maxProblems {
		p.problems = append(p.problems, Problem{p.file, key, what, fix})
	}
}

// node is a JSON value: nil, bool, json.Number, string, []node or []member.
type node any

type member struct {
	key   string
	value node
}

const maxDepth = 8

// object reads the file into c.
func (p *parser) object(c *Config, b []byte) {
	if len(b) > MaxFile {
		p.bad("", fmt.Sprintf("longer than %d octets", MaxFile), "shorten the file")
		return
	}
	if err := json.Unmarshal(b, new(json.RawMessage)); err != nil {
		what := "is empty"
		var se *json.SyntaxError
		if errors.As(err, &se) && len(bytes.TrimSpace(b)) > 0 {
			line, column := position(b, se.Offset)
			what = fmt.Sprintf("no JSON at line %d, column %d: %v", line, column, err)
		}
		p.bad("", what, "mend the syntax")
		return
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	n, err := parse(dec, 0)
	if err != nil {
		p.bad("", err.Error(), "mend the syntax")
		return
	}
	p.bind(reflect.ValueOf(c).Elem(), n, "", "")
}

func position(b []byte, offset int64) (line, column int) {
	before := b[:min(max(offset-1, 0), int64(len(b)))]
	return 1 + bytes.Count(before, []byte("\n")), 1 + len(before) - (bytes.LastIndexByte(before, '\n') + 1)
}

func parse(dec *json.Decoder, depth int) (node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("more than %d levels", maxDepth)
	}
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	d, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if d == '[' {
		list := []node{}
		for dec.More() {
			n, err := parse(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, n)
		}
		_, err := dec.Token()
		return list, err
	}
	var o []member
	for dec.More() {
		k, err := dec.Token()
		if err != nil {
			return nil, err
		}
		n, err := parse(dec, depth+1)
		if err != nil {
			return nil, err
		}
		o = append(o, member{k.(string), n})
	}
	_, err = dec.Token()
	return o, err
}

// kind names what a node is, in the words of the file.
func kind(n node) string {
	switch n := n.(type) {
	case bool:
		return fmt.Sprint(n)
	case json.Number:
		return "the number " + n.String()
	case string:
		return "a text"
	case []node:
		return "a list"
	case []member:
		return "an object"
	}
	return "null"
}

// bind puts a node into v. key is the place with its indexes, pattern the one in Fields.
func (p *parser) bind(v reflect.Value, n node, key, pattern string) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		before := len(p.problems)
		p.bind(v.Elem(), n, key, pattern)
		if len(p.problems) > before {
			v.SetZero()
		}
	case reflect.Struct:
		p.members(v, n, key, pattern)
	case reflect.Array, reflect.Slice:
		p.list(v, n, key, pattern)
	default:
		p.scalar(v, n, key, pattern)
	}
}

func (p *parser) members(v reflect.Value, n node, key, pattern string) {
	o, ok := n.([]member)
	if !ok {
		p.set[key] = true
		p.bad(key, "holds "+kind(n)+" where an object belongs", "write {…} there, or leave it out")
		return
	}
	names := map[string]int{}
	for i := range v.NumField() {
		names[v.Type().Field(i).Tag.Get("json")] = i
	}
	seen := map[string]bool{}
	for _, m := range o {
		i, known := names[m.key]
		at := join(key, m.key)
		switch {
		case !known:
			p.bad(join(key, short(m.key)), "is no key of this file", p.meant(m.key, pattern, names))
		case seen[m.key]:
			p.bad(at, "stands twice", "keep one of them")
		default:
			seen[m.key] = true
			p.bind(v.Field(i), m.value, at, join(pattern, m.key))
		}
	}
	if strings.HasSuffix(pattern, "[]") {
		for _, f := range Fields {
			if name, ok := strings.CutPrefix(f.Key, pattern+"."); ok && f.Absent == required && !seen[name] {
				p.bad(join(key, name), "is missing", "add it: "+f.Values)
			}
		}
	}
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

// short cuts a text from the file for a message.
func short(s string) string {
	const most = 40
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F {
			return '?'
		}
		return r
	}, s)
	if r := []rune(clean); len(r) > most {
		return string(r[:most]) + "…"
	}
	return clean
}

// meant says what a key that does not exist may have been meant to be.
func (p *parser) meant(name, pattern string, names map[string]int) string {
	best, distance := "", max(2, len(name)/3)+1
	var all []string
	for n := range names {
		all = append(all, n)
	}
	slices.Sort(all)
	for _, n := range all {
		if d := edits(strings.ToLower(name), n, distance); d < distance {
			best, distance = n, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", join(pattern, best))
	}
	for _, f := range Fields {
		if strings.HasSuffix(f.Key, "."+strings.ToLower(name)) {
			return fmt.Sprintf("did you mean %q?", f.Key)
		}
	}
	return "remove it; keys here are " + strings.Join(all, ", ")
}

// edits is the number of letters to change, add, drop or exchange with their neighbour to make b of a, or limit where it is not less.
func edits(a, b string, limit int) int {
	if len(a) > len(b)+limit || len(b) > len(a)+limit {
		return limit
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return min(rows[len(a)][len(b)], limit)
}

// field finds the entry of a pattern; the elements of a list of scalars share that of the list.
func field(pattern string) *Field {
	pattern = strings.TrimSuffix(pattern, "[]")
	i := slices.IndexFunc(Fields, func(f Field) bool { return f.Key == pattern })
	if i < 0 {
		return nil
	}
	return &Fields[i]
}

func (p *parser) list(v reflect.Value, n node, key, pattern string) {
	l, ok := n.([]node)
	if !ok {
		p.bad(key, "holds "+kind(n)+" where a list belongs", "write […] there, or leave it out")
		return
	}
	f := field(pattern)
	switch {
	case v.Kind() == reflect.Array && len(l) != v.Len():
		p.bad(key, fmt.Sprintf("has %d elements", len(l)), "write "+f.Values)
		return
	case v.Kind() == reflect.Slice && len(l) > f.max:
		p.bad(key, fmt.Sprintf("has %d elements", len(l)), fmt.Sprintf("write at most %d", f.max))
		return
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), len(l), len(l)))
	}
	for i, e := range l {
		p.bind(v.Index(i), e, fmt.Sprintf("%s[%d]", key, i), pattern+"[]")
	}
}

func (p *parser) scalar(v reflect.Value, n node, key, pattern string) {
	f := field(pattern)
	fix := "write " + f.Values
	wrong := func(kindWanted string) {
		p.bad(key, "holds "+kind(n)+" where "+kindWanted+" belongs", fix)
	}
	var value any
	switch v.Kind() {
	case reflect.String:
		s, ok := n.(string)
		if !ok {
			wrong("a text")
			return
		}
		value = s
	case reflect.Bool:
		b, ok := n.(bool)
		if !ok {
			wrong("true or false")
			return
		}
		value = b
	case reflect.Int:
		num, _ := n.(json.Number)
		i, err := num.Int64()
		if err != nil || int64(int32(i)) != i {
			wrong("a whole number")
			return
		}
		value = int(i)
	case reflect.Float64:
		num, _ := n.(json.Number)
		x, err := num.Float64()
		if err != nil {
			wrong("a number")
			return
		}
		value = x
	}
	if f.ok != nil && !f.ok(value) {
		shown := fmt.Sprint(value)
		if s, isText := value.(string); isText {
			shown = fmt.Sprintf("%q", short(s))
		}
		p.bad(key, shown+" is not allowed", fix)
		p.set[key] = true // the mistake is named; that it is missing as well would be wrong
		return
	}
	v.Set(reflect.ValueOf(value))
	p.set[key] = true
}

// at finds the value of a key without list elements.
func at(v reflect.Value, key string) reflect.Value {
	for name := range strings.SplitSeq(key, ".") {
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("json") == name {
				v = v.Field(i)
				break
			}
		}
	}
	return v
}

// defaults fills in what was left out, names what must not be, and makes paths absolute.
func (p *parser) defaults(c *Config, dir string) {
	root := reflect.ValueOf(c).Elem()
	for _, f := range Fields {
		if strings.Contains(f.Key, "[]") {
			continue
		}
		v := at(root, f.Key)
		if v.IsZero() && f.Default != "" {
			// The literals of the table fit their types; a test holds it.
			_ = json.Unmarshal([]byte(f.Default), v.Addr().Interface())
		}
		if f.Absent == required && v.IsZero() && !p.set[f.Key] {
			p.bad(f.Key, "is missing", "add it: "+f.Values)
		}
		if f.path && v.String() != "" && !filepath.IsAbs(v.String()) {
			v.SetString(filepath.Join(dir, v.String()))
		}
	}
	if c.Idle.WarnSeconds == 0 {
		c.Idle.WarnSeconds = min(240, max(1, c.Idle.EndSeconds*4/5))
	}
}

// fit checks what several keys say together.
func (p *parser) fit(c *Config) {
	if m := c.Touch.Calibration; m != nil {
		if det := m[0]*m[4] - m[1]*m[3]; math.Abs(det) < 0.01 {
			p.bad("touch.calibration", "maps all touches onto one line", "measure again: the first two columns must not be multiples of each other")
		}
	}
	if c.Reader.PCSCDConfig != "" && c.Reader.Socket == "" {
		p.bad("reader.socket", "is missing", "reader.pcscd_config needs it: the path of the socket to make")
	}
	if c.Reader.PCSCDPrivate && c.Reader.PCSCDConfig == "" {
		p.bad("reader.pcscd_private", "needs reader.pcscd_config", "remove it, or name the folder")
	}
	p.readers(c)
	p.usb(c)
	p.network(c)
	if c.Log.Level == "debug" && !c.Log.Test {
		p.bad("log.level", `"debug" is for test operation`, "use info, or set log.test on a test terminal")
	}
	if c.Idle.WarnSeconds >= c.Idle.EndSeconds && p.set["idle.warn_seconds"] {
		p.bad("idle.warn_seconds", fmt.Sprintf("%d is not before the end at %d", c.Idle.WarnSeconds, c.Idle.EndSeconds), "write fewer seconds than idle.end_seconds")
	}
}

func (p *parser) readers(c *Config) {
	names, ids := map[string]int{}, map[string]int{}
	for i, m := range c.Readers {
		key := fmt.Sprintf("readers[%d]", i)
		if m.Name == "" && m.USB == "" && !p.set[key] && !p.set[key+".name"] && !p.set[key+".usb"] {
			p.bad(key, "names no reader", "add name or usb")
		}
		for _, d := range []struct {
			seen     map[string]int
			own, key string
		}{{names, strings.ToLower(m.Name), ".name"}, {ids, strings.ToUpper(m.USB), ".usb"}} {
			if first, twice := d.seen[d.own]; twice && d.own != "" {
				p.bad(key+d.key, fmt.Sprintf("stands in readers[%d] already", first), "keep one of them")
			} else {
				d.seen[d.own] = i
			}
		}
	}
}

func (p *parser) usb(c *Config) {
	seen := map[readers.USBID]int{}
	for i, d := range c.USB.Allow {
		id, err := readers.ParseUSB(d.ID)
		if err != nil {
			continue // named already
		}
		if first, twice := seen[id]; twice {
			p.bad(fmt.Sprintf("usb.allow[%d].id", i), fmt.Sprintf("stands in usb.allow[%d] already", first), "keep one of them")
			continue
		}
		seen[id] = i
	}
}

func (p *parser) network(c *Config) {
	n := c.Network
	if n.Mode != NetworkStatic {
		for _, k := range []string{"address", "gateway"} {
			if p.set["network."+k] {
				p.bad("network."+k, "has no meaning with dhcp", `remove it, or set network.mode to "static"`)
			}
		}
		if len(n.DNS) > 0 {
			p.bad("network.dns", "has no meaning with dhcp", `remove it, or set network.mode to "static"`)
		}
		return
	}
	own := n.Prefix()
	if !own.IsValid() {
		if !p.set["network.address"] {
			p.bad("network.address", "is missing", `add it, for example "192.0.2.10/24", or set network.mode to "dhcp"`)
		}
	} else if gw, err := netip.ParseAddr(n.Gateway); err == nil {
		switch {
		case gw == own.Addr():
			p.bad("network.gateway", "is the terminal's own address", "write the router's")
		case !own.Contains(gw):
			p.bad("network.gateway", fmt.Sprintf("%s is not in %s", gw, own.Masked()), "write a router of the terminal's own network, or mend the prefix length")
		}
	}
	if h, _, err := net.SplitHostPort(c.Server.Address); err == nil && len(n.DNS) == 0 {
		if _, err := netip.ParseAddr(h); err != nil && h != "localhost" {
			p.bad("network.dns", fmt.Sprintf("is missing, and server.address has the name %s", h), "add a name server, or write the server's number")
		}
	}
	if len(c.Time.Servers) == 0 {
		p.bad("time.servers", "is missing", "add an NTP server: there is no DHCP to name one, and certificates need the right time")
	}
}

// rootFile tells the names of files with card roots.
func rootFile(name string) bool {
	return strings.HasSuffix(name, ".cvc") || strings.HasSuffix(name, "_ELC-PublicKey.der")
}

// files checks that what the configuration names is there.
func (c *Config) files(path string) (problems []Problem) {
	folder := func(dir, key, what string, wanted func(name string) bool) {
		if dir == "" {
			return
		}
		entries, err := os.ReadDir(dir)
		switch {
		case err != nil:
			problems = append(problems, Problem{dir, key, "the folder cannot be read: " + reason(err), "lay it there, with " + what})
		case !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return wanted(e.Name()) }):
			problems = append(problems, Problem{dir, key, "the folder holds none of what belongs there", "put " + what + " into it"})
		}
	}
	folder(c.Server.TrustStore, "server.trust_store", "the AdV-Server's TLS certificate (*.pem)", func(n string) bool { return strings.HasSuffix(n, ".pem") })
	folder(c.CardRoots, "card_roots", "the published CVC roots (*.cvc or *_ELC-PublicKey.der)", rootFile)
	folder(c.Design, "design", "the insurer's ui.json", func(n string) bool { return n == "ui.json" })
	folder(c.Reader.PCSCDConfig, "reader.pcscd_config", "reader.conf files", func(string) bool { return true })
	return problems
}
