package x509ti

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // the hash functions of the table below
	_ "crypto/sha512"
	"errors"
	"math/big"
	"strconv"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"ktradv/internal/brainpool"
)

var (
	oidECPublicKey = OID{1, 2, 840, 10045, 2, 1}
	oidRSA         = OID{1, 2, 840, 113549, 1, 1, 1}
	oidRSAPSS      = OID{1, 2, 840, 113549, 1, 1, 10}
	oidMGF1        = OID{1, 2, 840, 113549, 1, 1, 8}
)

var nistCurves = []struct {
	oid   OID
	curve elliptic.Curve
}{
	{OID{1, 2, 840, 10045, 3, 1, 7}, elliptic.P256()},
	{OID{1, 3, 132, 0, 34}, elliptic.P384()},
	{OID{1, 3, 132, 0, 35}, elliptic.P521()},
}

// Admissible sizes of an RSA modulus in bits (gemSpec_Krypt asks for 2048 at least; the upper bound limits the work).
const minRSA, maxRSA = 2048, 8192

func parsePublicKey(element cryptobyte.String) (key any, bits []byte, err error) {
	var spki, algorithm cryptobyte.String
	var oid OID
	if !element.ReadASN1(&spki, tags.SEQUENCE) || !spki.ReadASN1(&algorithm, tags.SEQUENCE) ||
		!algorithm.ReadASN1ObjectIdentifier(&oid) || !spki.ReadASN1BitStringAsBytes(&bits) || !spki.Empty() {
		return nil, nil, malformed("public key")
	}
	switch {
	case oid.Equal(oidECPublicKey):
		key, err = parseECKey(algorithm, bits)
	case oid.Equal(oidRSA):
		key, err = parseRSAKey(algorithm, bits)
	case oid.Equal(oidRSAPSS):
		// RFC 4055 chapter 3.1: absent parameters leave the key free; given ones bind it, which no profile here does.
		if !algorithm.Empty() {
			return nil, nil, malformed("RSASSA-PSS key with parameters")
		}
		key, err = parseRSAKey(algorithm, bits)
	default:
		err = malformed("public key algorithm " + oid.String())
	}
	return key, bits, err
}

func parseECKey(parameters cryptobyte.String, point []byte) (any, error) {
	var oid OID
	if !parameters.ReadASN1ObjectIdentifier(&oid) || !parameters.Empty() {
		return nil, malformed("curve is not given by name")
	}
	if c := brainpool.CurveByOID(oid); c != nil {
		key, err := brainpool.ParsePublicKey(c, point)
		if err != nil {
			return nil, errors.Join(malformed("public key"), err)
		}
		return key, nil
	}
	for _, n := range nistCurves {
		if n.oid.Equal(oid) {
			key, err := ecdsa.ParseUncompressedPublicKey(n.curve, point)
			if err != nil {
				return nil, errors.Join(malformed("public key"), err)
			}
			return key, nil
		}
	}
	return nil, malformed("curve " + oid.String())
}

func parseRSAKey(parameters cryptobyte.String, bits []byte) (any, error) {
	if !nullOrAbsent(parameters) {
		return nil, malformed("RSA parameters")
	}
	in := cryptobyte.String(bits)
	var seq cryptobyte.String
	key := &rsa.PublicKey{N: new(big.Int)}
	if !in.ReadASN1(&seq, tags.SEQUENCE) || !in.Empty() || !seq.ReadASN1Integer(key.N) || !seq.ReadASN1Integer(&key.E) || !seq.Empty() {
		return nil, malformed("RSA key")
	}
	if key.N.Sign() <= 0 || key.N.BitLen() < minRSA || key.N.BitLen() > maxRSA || key.E < 3 || key.E%2 == 0 || int64(key.E) > 1<<31-1 {
		return nil, malformed("RSA key size")
	}
	return key, nil
}

// nullOrAbsent takes what is left of an AlgorithmIdentifier whose parameters carry nothing.
func nullOrAbsent(s cryptobyte.String) bool {
	var null cryptobyte.String
	return s.Empty() || s.ReadASN1(&null, tags.NULL) && null.Empty() && s.Empty()
}

var hashes = []struct {
	oid  OID
	hash crypto.Hash
}{
	{OID{2, 16, 840, 1, 101, 3, 4, 2, 1}, crypto.SHA256},
	{OID{2, 16, 840, 1, 101, 3, 4, 2, 2}, crypto.SHA384},
	{OID{2, 16, 840, 1, 101, 3, 4, 2, 3}, crypto.SHA512},
}

// HashByOID returns the SHA-2 function with that identifier, 0 for every other one (SHA-1 among them).
func HashByOID(oid OID) crypto.Hash {
	for _, h := range hashes {
		if h.oid.Equal(oid) {
			return h.hash
		}
	}
	return 0
}

// signatureSchemes are the algorithms whose identifier names hash and scheme; RSASSA-PSS has parameters of its own.
var signatureSchemes = []struct {
	oid  OID
	rsa  bool
	hash crypto.Hash
}{
	{OID{1, 2, 840, 10045, 4, 3, 2}, false, crypto.SHA256},
	{OID{1, 2, 840, 10045, 4, 3, 3}, false, crypto.SHA384},
	{OID{1, 2, 840, 10045, 4, 3, 4}, false, crypto.SHA512},
	{OID{1, 2, 840, 113549, 1, 1, 11}, true, crypto.SHA256},
	{OID{1, 2, 840, 113549, 1, 1, 12}, true, crypto.SHA384},
	{OID{1, 2, 840, 113549, 1, 1, 13}, true, crypto.SHA512},
}

// CheckSignature verifies a signature over signed with a key of the kinds that Certificate.PublicKey has. algorithm is
// the AlgorithmIdentifier (DER): ECDSA or RSA PKCS #1 v1.5 with SHA-256/384/512, or RSASSA-PSS with one of these for hash
// and mask. Everything else, and a signature that does not verify, is CertificateNotValidMath.
func CheckSignature(key any, algorithm, signed, signature []byte) error {
	return CheckSignatureWith(nil, key, algorithm, signed, signature)
}

// CheckSignatureWith is CheckSignature with a verifier for brainpool keys; nil is the plain one.
func CheckSignatureWith(v Verifier, key any, algorithm, signed, signature []byte) error {
	in := cryptobyte.String(algorithm)
	var seq cryptobyte.String
	var oid OID
	if !in.ReadASN1(&seq, tags.SEQUENCE) || !in.Empty() || !seq.ReadASN1ObjectIdentifier(&oid) {
		return CertificateNotValidMath.Because("signature algorithm is malformed")
	}
	if oid.Equal(oidRSAPSS) {
		return checkPSS(key, seq, signed, signature)
	}
	for _, scheme := range signatureSchemes {
		if !scheme.oid.Equal(oid) {
			continue
		}
		digest := sum(scheme.hash, signed)
		ok := false
		switch key := key.(type) {
		case *brainpool.PublicKey:
			ok = !scheme.rsa && seq.Empty() && verifyBrainpool(v, key, digest, signature)
		case *ecdsa.PublicKey:
			ok = !scheme.rsa && seq.Empty() && ecdsa.VerifyASN1(key, digest, signature)
		case *rsa.PublicKey:
			ok = scheme.rsa && nullOrAbsent(seq) && rsa.VerifyPKCS1v15(key, scheme.hash, digest, signature) == nil
		}
		if !ok {
			return CertificateNotValidMath.Because("signature does not verify")
		}
		return nil
	}
	return CertificateNotValidMath.Because("signature algorithm " + oid.String() + " is not admissible")
}

// verifyBrainpool gives the verifier the signature as it wants it.
func verifyBrainpool(v Verifier, key *brainpool.PublicKey, digest, der []byte) bool {
	if v == nil {
		return key.VerifyASN1(digest, der)
	}
	rs, ok := key.Curve().SignatureFromDER(der)
	return ok && v.VerifyECDSA(key, digest, rs)
}

// Admissibility says how the telematics infrastructure sees the strength of a key at a time (gemSpec_Krypt Tab_KRYPT_002).
type Admissibility int

// NeverAdmissible is the zero value.
const (
	NeverAdmissible Admissibility = iota
	PhasedOut                     // was admissible; verifiers warn and do not reject (A_23458)
	Admissible
)

// String returns the word for reports.
func (a Admissibility) String() string {
	switch a {
	case Admissible:
		return "ok"
	case PhasedOut:
		return "phased out"
	}
	return "not admissible"
}

// rsa2048End is the end of the period in which RSA keys below 3000 bits are admissible.
var rsa2048End = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// KeyAdmissible judges a public key as [Certificate].PublicKey has it, at a time: brainpoolP256r1, P384r1, P512r1, P-256
// and P-384 without end; RSA from 3000 bits without end, from 2048 bits until the end of 2025.
func KeyAdmissible(key any, at time.Time) Admissibility {
	switch key := key.(type) {
	case *brainpool.PublicKey:
		return Admissible
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() {
			return Admissible
		}
	case *rsa.PublicKey:
		switch {
		case key.N.BitLen() >= 3000:
			return Admissible
		case key.N.BitLen() >= minRSA && at.Before(rsa2048End):
			return Admissible
		case key.N.BitLen() >= minRSA:
			return PhasedOut
		}
	}
	return NeverAdmissible
}

// KeyName describes a key for reports, for example "brainpoolP256r1" or "RSA 2048".
func KeyName(key any) string {
	switch key := key.(type) {
	case *brainpool.PublicKey:
		return key.Curve().Name()
	case *ecdsa.PublicKey:
		return key.Curve.Params().Name
	case *rsa.PublicKey:
		return "RSA " + strconv.Itoa(key.N.BitLen())
	}
	return "unknown"
}

// checkPSS reads RSASSA-PSS-params (RFC 4055 chapter 3.1). The defaults stand for SHA-1, so hash and mask must be given.
func checkPSS(key any, parameters cryptobyte.String, signed, signature []byte) error {
	var seq, field, mgf, inner cryptobyte.String
	var mgfOID OID
	if !parameters.ReadASN1(&seq, tags.SEQUENCE) || !parameters.Empty() || !seq.ReadASN1(&field, explicit(0)) {
		return CertificateNotValidMath.Because("RSASSA-PSS without a hash")
	}
	hash := readHash(&field)
	if hash == 0 || !field.Empty() {
		return CertificateNotValidMath.Because("RSASSA-PSS with an inadmissible hash")
	}
	if !seq.ReadASN1(&field, explicit(1)) || !field.ReadASN1(&mgf, tags.SEQUENCE) || !field.Empty() ||
		!mgf.ReadASN1ObjectIdentifier(&mgfOID) || !mgfOID.Equal(oidMGF1) || readHash(&mgf) != hash || !mgf.Empty() {
		return CertificateNotValidMath.Because("RSASSA-PSS with an inadmissible mask")
	}
	salt, trailer := 20, 1
	var has bool
	if !seq.ReadOptionalASN1(&inner, &has, explicit(2)) || has && (!inner.ReadASN1Integer(&salt) || !inner.Empty()) ||
		!seq.ReadOptionalASN1(&inner, &has, explicit(3)) || has && (!inner.ReadASN1Integer(&trailer) || !inner.Empty()) ||
		!seq.Empty() || salt < 0 || salt > hash.Size() || trailer != 1 {
		return CertificateNotValidMath.Because("RSASSA-PSS parameters")
	}
	// A salt of length 0 is a constant of the rsa package that means "find out".
	public, ok := key.(*rsa.PublicKey)
	if !ok || salt == 0 || rsa.VerifyPSS(public, hash, sum(hash, signed), signature, &rsa.PSSOptions{SaltLength: salt, Hash: hash}) != nil {
		return CertificateNotValidMath.Because("signature does not verify")
	}
	return nil
}

// ReadAlgorithm reads an AlgorithmIdentifier whose parameters are absent or NULL, as hash functions have it.
func ReadAlgorithm(s *cryptobyte.String) (oid OID, ok bool) {
	var seq cryptobyte.String
	ok = s.ReadASN1(&seq, tags.SEQUENCE) && seq.ReadASN1ObjectIdentifier(&oid) && nullOrAbsent(seq)
	return oid, ok
}

func readHash(s *cryptobyte.String) crypto.Hash {
	oid, ok := ReadAlgorithm(s)
	if !ok {
		return 0
	}
	return HashByOID(oid)
}

func sum(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}
