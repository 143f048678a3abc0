package card

import (
	"crypto/rsa"
	"fmt"
	"strings"

	"ktradv/internal/brainpool"
)

// LifeCycle is the life-cycle state of an object. The zero value is Activated.
type LifeCycle byte

// Life-cycle states an operational card knows.
const (
	Activated LifeCycle = iota
	Deactivated
	Terminated
)

// fcp returns the byte of the state in tag 8A of the control parameters.
func (l LifeCycle) fcp() byte {
	switch l {
	case Deactivated:
		return 0x04
	case Terminated:
		return 0x0C
	}
	return 0x05
}

// String returns the name used in card images.
func (l LifeCycle) String() string {
	switch l {
	case Activated:
		return "ACTIVATED"
	case Deactivated:
		return "DEACTIVATED"
	case Terminated:
		return "TERMINATED"
	}
	return fmt.Sprintf("LifeCycle(%d)", byte(l))
}

// Interface tells how the card is connected.
type Interface byte

// The two interfaces of a health card.
const (
	Contact Interface = iota
	Contactless
)

// System is a whole object system: everything that is personalised onto one
// card. New takes possession of it.
type System struct {
	Name        string
	ICCSN8      [8]byte
	PointInTime Date
	ColdATR     []byte
	WarmATR     []byte
	// CacheSlots is how many imported keys of each kind (certificate
	// verification, authentication) survive a reset.
	CacheSlots int
	Root       *Folder
}

// Header is what every object has: a name for people, a state and rules.
type Header struct {
	Name  string
	State LifeCycle
	Rules RuleSet
}

func (h *Header) header() *Header { return h }

// Object is one of Folder, File, Password, MultiPassword, PrivateKey,
// SecretKey, PaceKey and PublicKey.
type Object interface{ header() *Header }

// Folder is a dedicated file (MF, DF, application).
type Folder struct {
	Header
	AID      []byte
	FID      uint16 // 0: none
	Children []Object
	// Proprietary is appended to the control parameters, for a card that
	// shows data objects of its manufacturer there.
	Proprietary []byte

	parent *Folder
}

// Structure is the structure of an elementary file.
type Structure byte

// Structures of elementary files.
const (
	Transparent Structure = iota
	LinearFixed
	LinearVariable
	Cyclic
)

// File is an elementary file.
type File struct {
	Header
	FID         uint16
	SFID        byte // 0: none
	Structure   Structure
	Size        int // numberOfOctet, of transparent and variable files
	MaxRecords  int
	MaxRecord   int  // maximumRecordLength, octets
	RecordState bool // flagRecordLifeCycleStatus
	// Body is the content of a transparent file up to the logical end.
	Body []byte
	// Records are in the order of their numbers: Records[0] is record 1,
	// in a cyclic file the newest.
	Records []Record

	parent *Folder
}

// Record is one record of a file with records.
type Record struct {
	State LifeCycle
	Data  []byte
}

// Transport is the transport status of a password.
type Transport byte

// Transport states.
const (
	Regular Transport = iota
	EmptyPIN
	TransportPIN
)

// Forever is the number of uses of a verified password without limit.
const Forever = -1

// Password is a password object with a secret of its own.
type Password struct {
	Header
	ID        byte // 0..31
	Min, Max  int  // digits
	Start     int  // retry counter after success
	Retry     int  // retry counter now, 0: blocked
	Transport Transport
	Disabled  bool
	Uses      map[int]int // security environment -> uses after VERIFY
	PUKUses   int
	Secret    Block
	PUK       Block

	parent *Folder
}

// MultiPassword is a multi-reference password: another name, with a security
// state and a switch of its own, for the secret of a Password.
type MultiPassword struct {
	Header
	ID       byte
	Target   byte // reference of the password that holds the secret
	Disabled bool
	Uses     map[int]int

	parent *Folder
}

// PrivateKey is a private key object, elliptic curve or RSA.
type PrivateKey struct {
	Header
	ID         byte
	Algorithms map[int][]Algorithm // by security environment
	Curve      *brainpool.Curve    // nil: RSA
	EC         *brainpool.PrivateKey
	RSA        *rsa.PrivateKey
	RSABits    int

	parent *Folder
}

// available tells whether the object holds a key.
func (k *PrivateKey) available() bool { return k.EC != nil || k.RSA != nil }

// can tells whether the object holds a key for the algorithm.
func (k *PrivateKey) can(a Algorithm) bool {
	switch a {
	case SignPSS, SignPKCS1, Sign9796, RSAClientAuth, RSADecipherOAEP, RSADecipherPKCS1:
		return k.RSA != nil
	}
	return k.EC != nil
}

// SecretKey is a symmetric authentication object (SK.CMS, SK.VSD, ...).
type SecretKey struct {
	Header
	ID         byte
	Algorithms map[int][]Algorithm
	Enc, Mac   []byte

	parent *Folder
}

// PaceKey is a symmetric connection object: the card access number.
type PaceKey struct {
	Header
	ID     byte
	OID    []byte // protocol
	Secret Block

	parent *Folder
}

// PublicKey is a public key the card trusts or has imported.
type PublicKey struct {
	Header
	// Ref is the certificate holder reference: 8 octets name a key that
	// verifies certificates, 12 one that authenticates its holder.
	Ref []byte
	// Authentication tells the two uses apart.
	Authentication bool
	Key            *brainpool.PublicKey
	CHAT           CHAT
	Expires        Date
	// VerificationRules and AuthenticationRules are what keys imported
	// below this one inherit.
	VerificationRules   RuleSet
	AuthenticationRules RuleSet

	cached bool
	parent *Folder
}

// Algorithm is an algorithm a key object can be selected for.
type Algorithm string

// Algorithms of gemSpec_COS, by the names used in card images.
const (
	ELCRoleAuthentication Algorithm = "elcRoleAuthentication"
	ELCSessionKey4SM      Algorithm = "elcSessionkey4SM"
	ELCAsynchronAdmin     Algorithm = "elcAsynchronAdmin"
	ELCSharedSecret       Algorithm = "elcSharedSecretCalculation"
	SignECDSA             Algorithm = "signECDSA"
	SignPSS               Algorithm = "signPSS"
	SignPKCS1             Algorithm = "signPKCS1_V1_5"
	Sign9796              Algorithm = "sign9796_2_DS2"
	RSAClientAuth         Algorithm = "rsaClientAuthentication"
	RSADecipherOAEP       Algorithm = "rsaDecipherOaep"
	RSADecipherPKCS1      Algorithm = "rsaDecipherPKCS1_V1_5"
	AESSessionKey4SM      Algorithm = "aesSessionkey4SM"
	elcRoleCheck          Algorithm = "elcRoleCheck"
	pace                  Algorithm = "id-PACE-ECDH-GM-AES-CBC-CMAC-128"
)

// PACEOID is id-PACE-ECDH-GM-AES-CBC-CMAC-128 (0.4.0.127.0.7.2.2.4.2.2).
var PACEOID = []byte{0x04, 0x00, 0x7F, 0x00, 0x07, 0x02, 0x02, 0x04, 0x02, 0x02}

// paceP256Domain is the only domain parameter set of the card's PACE.
const paceP256Domain = 0x0D

// use is the purpose a key is selected for by MANAGE SECURITY ENVIRONMENT.
type use byte

const (
	useInternal use = iota
	useExternal
	useVerifyCert
	useSign
	useDecipher
)

// algorithmIDs are the identifiers of gemSpec_COS tables 268 to 270.
var algorithmIDs = map[use]map[byte][]Algorithm{
	useInternal: {0x00: {ELCRoleAuthentication}, 0x54: {ELCSessionKey4SM, AESSessionKey4SM}, 0xF4: {ELCAsynchronAdmin}, 0x05: {RSAClientAuth}},
	useExternal: {0x00: {elcRoleCheck}, 0x54: {AESSessionKey4SM}},
	useSign:     {0x00: {SignECDSA}, 0x05: {SignPSS}, 0x02: {SignPKCS1}, 0x07: {Sign9796}},
	useDecipher: {0x85: {RSADecipherOAEP}, 0x81: {RSADecipherPKCS1}, 0x0B: {ELCSharedSecret}},
}

// adopt sets the parent links below f.
func (f *Folder) adopt() {
	for _, o := range f.Children {
		switch o := o.(type) {
		case *Folder:
			o.parent = f
			o.adopt()
		case *File:
			o.parent = f
		case *Password:
			o.parent = f
		case *MultiPassword:
			o.parent = f
		case *PrivateKey:
			o.parent = f
		case *SecretKey:
			o.parent = f
		case *PaceKey:
			o.parent = f
		case *PublicKey:
			o.parent = f
		}
	}
}

// Walk calls visit for f and every object below it with its path ("MF",
// "MF/DF.HCA/EF.PD").
func (f *Folder) Walk(visit func(path string, o Object)) { f.walk(f.Name, visit) }

func (f *Folder) walk(path string, visit func(string, Object)) {
	visit(path, f)
	for _, o := range f.Children {
		p := path + "/" + o.header().Name
		if d, ok := o.(*Folder); ok {
			d.walk(p, visit)
			continue
		}
		visit(p, o)
	}
}

// Lookup returns the object with the given path, nil when there is none.
func (f *Folder) Lookup(path string) Object {
	name, rest, more := strings.Cut(path, "/")
	if name != f.Name {
		return nil
	}
	if !more {
		return f
	}
	for _, o := range f.Children {
		if d, ok := o.(*Folder); ok {
			if x := d.Lookup(rest); x != nil {
				return x
			}
			continue
		}
		if o.header().Name == rest {
			return o
		}
	}
	return nil
}

// folders visits f and the folders below it, parents first.
func (f *Folder) folders(visit func(*Folder) bool) bool {
	if !visit(f) {
		return false
	}
	for _, o := range f.Children {
		if d, ok := o.(*Folder); ok && !d.folders(visit) {
			return false
		}
	}
	return true
}

// within tells whether f is d or lies below d.
func (f *Folder) within(d *Folder) bool {
	for ; f != nil; f = f.parent {
		if f == d {
			return true
		}
	}
	return false
}

// effective is the state that access rules are chosen by: an object below a
// deactivated folder is deactivated whatever its own state is. The reference
// says so for the rules of the multi-reference passwords of a hidden
// application on G2 cards.
func effective(own LifeCycle, parent *Folder) LifeCycle {
	for ; parent != nil; parent = parent.parent {
		own = max(own, parent.State)
	}
	return own
}
