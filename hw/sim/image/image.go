// Package image reads card images: the XML files in which gematik publishes
// the object systems of test cards (eGK, SMC-B, HBA), with every file, access
// rule, PIN and key. The result is a card.System.
package image

import (
	"crypto/rsa"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"

	"ktradv/hw/sim/card"
	"ktradv/internal/brainpool"
)

// MaxSize bounds an image; published ones have about 250 KiB.
const MaxSize = 4 << 20

const maxDepth = 8 // of folders

type xmlAttribute struct {
	ID    string   `xml:"id,attr"`
	Text  string   `xml:",chardata"`
	Child xmlChild `xml:"child"`
}

type xmlChild struct {
	ID         string         `xml:"id,attr"`
	Type       string         `xml:"objectType,attr"`
	Attributes []xmlAttribute `xml:"attributes>attribute"`
	Records    []xmlRecord    `xml:"records>record"`
	Children   []xmlChild     `xml:"children>child"`
}

type xmlRecord struct {
	Attributes []xmlAttribute `xml:"attribute"`
}

type xmlCard struct {
	Name       string         `xml:"name,attr"`
	Attributes []xmlAttribute `xml:"objectSystem>attribute"`
}

// Read reads one image.
func Read(r io.Reader) (*card.System, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("card image: %w", err)
	}
	if len(b) > MaxSize {
		return nil, errors.New("card image: too large")
	}
	var x xmlCard
	if err := xml.Unmarshal(b, &x); err != nil {
		return nil, fmt.Errorf("card image: %w", err)
	}
	sys, err := x.system()
	if err != nil {
		return nil, fmt.Errorf("card image %.60q: %w", x.Name, err)
	}
	return sys, nil
}

func (x *xmlCard) system() (*card.System, error) {
	a := attributes{list: x.Attributes}
	sys := &card.System{
		Name:       x.Name,
		ColdATR:    a.bytes("coldAnswerToReset"),
		WarmATR:    a.bytes("warmAnswerToReset"),
		CacheSlots: a.num("reservedPersistentCacheSlots"),
	}
	copy(sys.ICCSN8[:], a.fixed("iccsn8", len(sys.ICCSN8)))
	sys.PointInTime = a.date("pointInTime")
	if a.err != nil {
		return nil, a.err
	}
	for _, at := range x.Attributes {
		if at.ID != "root" {
			continue
		}
		o, err := at.Child.object(0)
		if err != nil {
			return nil, err
		}
		root, ok := o.(*card.Folder)
		if !ok {
			return nil, errors.New("root is not a folder")
		}
		sys.Root = root
	}
	if sys.Root == nil {
		return nil, errors.New("no root")
	}
	return sys, nil
}

// attributes reads typed values and keeps the first error.
type attributes struct {
	list []xmlAttribute
	err  error
}

func (a *attributes) get(id string) (string, bool) {
	for _, x := range a.list {
		if x.ID == id {
			return strings.TrimSpace(x.Text), true
		}
	}
	return "", false
}

func (a *attributes) fail(id, format string, args ...any) {
	if a.err == nil {
		a.err = fmt.Errorf("attribute %s: %s", id, fmt.Sprintf(format, args...))
	}
}

func (a *attributes) text(id string) string {
	s, ok := a.get(id)
	if !ok {
		a.fail(id, "missing")
	}
	return s
}

// bytes reads hexadecimal digits; the image writes "AttributeNotSet" and
// "Wildcard" where there is no value.
func (a *attributes) bytes(id string) []byte {
	s := a.text(id)
	if s == "AttributeNotSet" || s == "Wildcard" {
		return nil
	}
	b, err := hex.DecodeString(strings.Trim(s, "{}"))
	if err != nil {
		a.fail(id, "%v", err)
	}
	return b
}

func (a *attributes) fixed(id string, n int) []byte {
	b := a.bytes(id)
	if len(b) != n {
		a.fail(id, "%d octets, want %d", len(b), n)
	}
	return b
}

// num reads a hexadecimal number.
func (a *attributes) num(id string) int {
	s := a.text(id)
	n, err := strconv.ParseUint(s, 16, 16)
	if err != nil {
		a.fail(id, "number %.20q", s)
	}
	return int(n)
}

func (a *attributes) flag(id string) bool {
	switch s := a.text(id); strings.ToUpper(s) {
	case "TRUE":
		return true
	case "FALSE":
		return false
	default:
		a.fail(id, "flag %.20q", s)
		return false
	}
}

func (a *attributes) date(id string) card.Date {
	d, err := card.ParseDate(a.bytes(id))
	if err != nil {
		a.fail(id, "%v", err)
	}
	return d
}

func (a *attributes) rules(id string) card.RuleSet {
	r, err := card.ParseRules(a.text(id))
	if err != nil {
		a.fail(id, "%v", err)
	}
	return r
}

func (a *attributes) chat(id string) card.CHAT {
	c, err := card.ParseCHAT(a.text(id))
	if err != nil {
		a.fail(id, "%v", err)
	}
	return c
}

func (a *attributes) state() card.LifeCycle {
	switch s := a.text("lifeCycleStatus"); s {
	case "ACTIVATED":
	case "DEACTIVATED":
		return card.Deactivated
	case "TERMINATED":
		return card.Terminated
	default:
		a.fail("lifeCycleStatus", "unknown state %.20q", s)
	}
	return card.Activated
}

func (a *attributes) curve() *brainpool.Curve {
	switch s := a.text("domainParameterOid"); s {
	case "brainpoolP256r1":
		return brainpool.P256r1()
	case "brainpoolP384r1":
		return brainpool.P384r1()
	case "brainpoolP512r1":
		return brainpool.P512r1()
	default:
		a.fail("domainParameterOid", "unknown %.30q", s)
		return nil
	}
}

func (a *attributes) transport() card.Transport {
	switch s := a.text("transportStatus"); s {
	case "regularPassword":
	case "leerPIN":
		return card.EmptyPIN
	case "transportPIN":
		return card.TransportPIN
	default:
		a.fail("transportStatus", "unknown %.30q", s)
	}
	return card.Regular
}

// block reads a PIN block; no value is a secret without digits.
func (a *attributes) block(id string) card.Block {
	b := a.bytes(id)
	if len(b) == 0 {
		return card.NoSecret
	}
	if len(b) != 8 {
		a.fail(id, "not a PIN block")
		return card.NoSecret
	}
	return card.Block(b)
}

// uses reads {(1,INFINITY),(2,00fa)}.
func (a *attributes) uses() map[int]int {
	const id = "startSSecList"
	out := map[int]int{}
	for _, w := range split(a.text(id), "(", ")") {
		se, n, ok := strings.Cut(w, ",")
		env, err := strconv.Atoi(se)
		if !ok || err != nil {
			a.fail(id, "entry %.20q", w)
			return nil
		}
		if n == "INFINITY" {
			out[env] = card.Forever
			continue
		}
		v, err := strconv.ParseUint(n, 16, 16)
		if err != nil {
			a.fail(id, "entry %.20q", w)
			return nil
		}
		out[env] = int(v)
	}
	return out
}

// algorithms reads {[1,(a,b)],[2,(c)]}.
func (a *attributes) algorithms() map[int][]card.Algorithm {
	const id = "listAlgorithmIdentifier"
	out := map[int][]card.Algorithm{}
	for _, w := range split(a.text(id), "[", "]") {
		se, list, ok := strings.Cut(w, ",")
		env, err := strconv.Atoi(se)
		if !ok || err != nil {
			a.fail(id, "entry %.40q", w)
			return nil
		}
		for name := range strings.SplitSeq(strings.Trim(list, "()"), ",") {
			out[env] = append(out[env], card.Algorithm(name))
		}
	}
	return out
}

// split returns the texts between pairs of open and close.
func split(s, open, end string) []string {
	var out []string
	for {
		_, rest, ok := strings.Cut(s, open)
		if !ok {
			return out
		}
		var w string
		if w, s, ok = strings.Cut(rest, end); !ok {
			return out
		}
		out = append(out, strings.ReplaceAll(w, " ", ""))
	}
}

func (x *xmlChild) object(depth int) (card.Object, error) {
	if depth > maxDepth {
		return nil, errors.New("folders nested too deeply")
	}
	a := &attributes{list: x.Attributes}
	h := card.Header{Name: x.ID, State: a.state(), Rules: a.rules("accessRules")}
	var o card.Object
	switch x.Type {
	case "ADF", "Application", "DedicatedFile":
		f := &card.Folder{Header: h}
		if s, ok := a.get("applicationIdentifier"); ok && s != "" {
			f.AID = a.bytes("applicationIdentifier")
		}
		if _, ok := a.get("fileIdentifier"); ok {
			f.FID = uint16(a.num("fileIdentifier"))
		}
		for _, child := range x.Children {
			k, err := child.object(depth + 1)
			if err != nil {
				return nil, err
			}
			f.Children = append(f.Children, k)
		}
		o = f
	case "TransparentElementaryFile":
		f := &card.File{Header: h, Size: a.num("numberOfOctet"), Body: a.bytes("body")}
		if end := a.num("positionLogicalEndOfFile"); end != len(f.Body) || end > f.Size {
			a.fail("positionLogicalEndOfFile", "%d, but the body has %d of %d octets", end, len(f.Body), f.Size)
		}
		o = fileIDs(f, a)
	case "LinearFixedElementaryFile":
		o = fileIDs(x.records(&card.File{Header: h, Structure: card.LinearFixed}, a), a)
	case "LinearVariableElementaryFile":
		o = fileIDs(x.records(&card.File{Header: h, Structure: card.LinearVariable, Size: a.num("numberOfOctet")}, a), a)
	case "CyclicElementaryFile":
		o = fileIDs(x.records(&card.File{Header: h, Structure: card.Cyclic}, a), a)
	case "PWD":
		o = &card.Password{
			Header: h, ID: byte(a.num("pwdIdentifier")), Min: a.num("minimumLength"), Max: a.num("maximumLength"),
			Start: a.num("startRetryCounter"), Retry: a.num("retryCounter"), Transport: a.transport(),
			Disabled: !a.flag("flagEnabled"), Uses: a.uses(), PUKUses: a.num("pukUsage"),
			Secret: a.block("secret"), PUK: a.block("PUK"),
		}
	case "MultireferencePWD":
		o = &card.MultiPassword{
			Header: h, ID: byte(a.num("pwdIdentifier")), Target: byte(a.num("passwordReference")),
			Disabled: !a.flag("flagEnabled"), Uses: a.uses(),
		}
	case "PrivateElcKey":
		k := &card.PrivateKey{Header: h, ID: byte(a.num("keyIdentifier")), Algorithms: a.algorithms(), Curve: a.curve()}
		if d := a.bytes("privateKey"); len(d) > 0 && a.err == nil {
			var err error
			if k.EC, err = brainpool.NewPrivateKey(k.Curve, d); err != nil {
				a.fail("privateKey", "%v", err)
			}
		}
		o = k
	case "PrivateRsaKey":
		o = rsaKey(&card.PrivateKey{Header: h, ID: byte(a.num("keyIdentifier")), Algorithms: a.algorithms(), RSABits: a.num("modulusLength")}, a)
	case "SymmetricAutKey":
		o = &card.SecretKey{
			Header: h, ID: byte(a.num("keyIdentifier")), Enc: a.bytes("encKey"), Mac: a.bytes("macKey"),
			Algorithms: map[int][]card.Algorithm{1: {card.Algorithm(a.text("algorithmIdentifier"))}},
		}
	case "SymmetricConnectionKey":
		if s := a.text("algorithmIdentifier"); s != "id-PACE-ECDH-GM-AES-CBC-CMAC-128" {
			a.fail("algorithmIdentifier", "unknown %.40q", s)
		}
		o = &card.PaceKey{Header: h, ID: byte(a.num("keyIdentifier")), OID: card.PACEOID, Secret: a.block("can")}
	case "PublicElcVerificationKey":
		k := &card.PublicKey{
			Header: h, Ref: a.fixed("keyIdentifier", 8), CHAT: a.chat("CHAT"), Expires: a.date("expirationDate"),
			VerificationRules: a.rules("accessRulesVerification"), AuthenticationRules: a.rules("accessRulesAuthentication"),
		}
		if c, p := a.curve(), a.bytes("P"); a.err == nil {
			var err error
			if k.Key, err = brainpool.ParsePublicKey(c, p); err != nil {
				a.fail("P", "%v", err)
			}
		}
		o = k
	default:
		return nil, fmt.Errorf("%s: unknown object type %.40q", x.ID, x.Type)
	}
	if a.err != nil {
		return nil, fmt.Errorf("%s: %w", x.ID, a.err)
	}
	return o, nil
}

func fileIDs(f *card.File, a *attributes) *card.File {
	f.FID, f.SFID = uint16(a.num("fileIdentifier")), byte(a.num("shortFileIdentifier"))
	return f
}

func (x *xmlChild) records(f *card.File, a *attributes) *card.File {
	f.MaxRecords, f.MaxRecord = a.num("maximumNumberOfRecords"), a.num("maximumRecordLength")
	f.RecordState = a.flag("flagRecordLifeCycleStatus")
	if len(x.Records) > f.MaxRecords {
		a.fail("maximumNumberOfRecords", "%d records, at most %d", len(x.Records), f.MaxRecords)
	}
	for _, r := range x.Records {
		ra := attributes{list: r.Attributes}
		rec := card.Record{Data: ra.bytes("recordValue")}
		if s, ok := ra.get("recordLifeCycleStatus"); ok && s == "DEACTIVATED" {
			rec.State = card.Deactivated
		}
		if ra.err != nil {
			a.fail("record", "%v", ra.err)
		}
		f.Records = append(f.Records, rec)
	}
	return f
}

func rsaKey(k *card.PrivateKey, a *attributes) *card.PrivateKey {
	num := func(id string) *big.Int { return new(big.Int).SetBytes(a.bytes(id)) }
	n, e, d := num("n"), num("e"), num("d")
	if n.Sign() == 0 || a.err != nil {
		return k
	}
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: n, E: int(e.Int64())}, D: d,
		Primes: []*big.Int{num("p"), num("q")},
	}
	if err := key.Validate(); err != nil {
		a.fail("n", "%v", err)
		return k
	}
	key.Precompute()
	k.RSA = key
	return k
}
