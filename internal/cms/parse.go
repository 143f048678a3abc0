package cms

import (
	"fmt"
	"time"

	"ktradv/internal/ber"
)

var (
	oidData       = ber.NewOID(1, 2, 840, 113549, 1, 7, 1)
	oidSignedData = ber.NewOID(1, 2, 840, 113549, 1, 7, 2)
	oidOCSPRevo   = ber.NewOID(1, 3, 6, 1, 5, 5, 7, 16, 2)
	oidOCSPBasic  = ber.NewOID(1, 3, 6, 1, 5, 5, 7, 48, 1, 1)
)

// wellKnown are the object identifiers that most messages have: reading one of these needs no memory.
var wellKnown = []ber.OID{
	oidData, oidSHA256, oidECDSA256, oidPSS, oidRSA256, oidRSA, oidSHA384, oidSHA512,
	TypeContentType, TypeMessageDigest, TypeSigningTime, TypeCountersignature, TypeAlgorithmProtection,
	TypeSigningCertificateV2, TypeSigningCertificate, TypeRevocationValues,
	ber.NewOID(1, 2, 840, 113549, 1, 9, 16, 2, 4), // contentHints
	ber.NewOID(1, 2, 840, 113549, 1, 9, 15),       // smimeCapabilities
}

func readOID(in *ber.Input) (ber.OID, error) {
	e, err := in.Read(ber.ObjectID)
	if err != nil {
		return "", err
	}
	for _, oid := range wellKnown {
		if e.IsOID(oid) {
			return oid, nil
		}
	}
	return e.OID()
}

func at(part string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cms: %s: %w", part, err)
}

// Parse reads a message from memory. It does not copy: what it returns are parts of data, except for a content that came
// in pieces. After the message there may be nothing else.
func Parse(data []byte) (*SignedData, error) {
	sd := new(SignedData)
	if err := sd.parse(data); err != nil {
		return nil, err
	}
	return sd, nil
}

// ParseCertificates reads the certificates of a message that may be unsigned: the form in which a certification authority
// answers (.p7c, "certs-only") and publishes its directories. They are as they are encoded, in their order; who issued them is
// for the caller to find out. At most max are read; where there are more the error wraps ErrLimit. With an error come the
// certificates that were read before it: whether they are of use is for the caller to decide.
func ParseCertificates(data []byte, max int) ([][]byte, error) {
	sd := &SignedData{unsigned: true, maxCertificates: max}
	err := sd.parse(data)
	return sd.Certificates, err
}

func (sd *SignedData) parse(data []byte) error {
	in := ber.New(data)
	outer, err := in.Read(ber.Sequence)
	if err != nil {
		return at("ContentInfo", err)
	}
	if err := in.End(); err != nil {
		return at("ContentInfo", err)
	}
	info, err := in.Enter(outer)
	if err != nil {
		return at("ContentInfo", err)
	}
	kind, err := info.Read(ber.ObjectID)
	if err != nil {
		return at("contentType", err)
	}
	if !kind.IsOID(oidSignedData) {
		return ErrNotSignedData
	}
	wrapped, err := info.Inside(ber.Context(0))
	if err != nil {
		return at("content", err)
	}
	if err := info.End(); err != nil {
		return at("ContentInfo", err)
	}
	body, err := wrapped.Inside(ber.Sequence)
	if err != nil {
		return at("SignedData", err)
	}
	if err := wrapped.End(); err != nil {
		return at("content", err)
	}
	version, err := body.Next()
	if err != nil {
		return at("version", err)
	}
	algorithms, err := body.Next()
	if err != nil {
		return at("digestAlgorithms", err)
	}
	if err := sd.readHead(&body, version, algorithms); err != nil {
		return err
	}
	if err := sd.readContent(&body); err != nil {
		return err
	}
	if err := sd.readTail(&body, func() (ber.Element, bool, error) {
		if body.Empty() {
			return ber.Element{}, false, nil
		}
		e, err := body.Next()
		return e, true, err
	}); err != nil {
		return err
	}
	sd.DER = !outer.Indefinite && ber.IsDER(data)
	return nil
}

// readHead reads version and digestAlgorithms.
func (sd *SignedData) readHead(in *ber.Input, version, algorithms ber.Element) error {
	if version.Tag != ber.Integer {
		return at("version", ber.ErrTag)
	}
	v, err := version.Int()
	if err != nil {
		return at("version", err)
	}
	if v != 1 && v != 3 && v != 4 && v != 5 {
		return fmt.Errorf("%w: version %d", ErrMalformed, v)
	}
	sd.Version = int(v)
	if algorithms.Tag != ber.Set {
		return at("digestAlgorithms", ber.ErrTag)
	}
	set, err := in.Enter(algorithms)
	if err != nil {
		return at("digestAlgorithms", err)
	}
	sd.DigestAlgorithms = sd.space.algorithms[:0]
	for !set.Empty() {
		if len(sd.DigestAlgorithms) == MaxAlgorithms {
			return fmt.Errorf("%w: digestAlgorithms", ErrLimit)
		}
		oid, err := readHash(&set)
		if err != nil {
			return at("digestAlgorithms", err)
		}
		sd.DigestAlgorithms = append(sd.DigestAlgorithms, oid)
	}
	return nil
}

// readAlgorithm reads an AlgorithmIdentifier. parameters are as encoded, nil when absent or NULL.
func readAlgorithm(in *ber.Input) (oid ber.OID, parameters []byte, err error) {
	seq, err := in.Inside(ber.Sequence)
	if err != nil {
		return "", nil, err
	}
	return readAlgorithmContent(&seq)
}

func readAlgorithmContent(seq *ber.Input) (oid ber.OID, parameters []byte, err error) {
	if oid, err = readOID(seq); err != nil {
		return "", nil, err
	}
	if seq.Empty() {
		return oid, nil, nil
	}
	e, err := seq.Next()
	if err != nil {
		return "", nil, err
	}
	if err := seq.End(); err != nil {
		return "", nil, err
	}
	if e.Tag == ber.Null {
		if len(e.Content) != 0 {
			return "", nil, fmt.Errorf("%w: NULL with a content", ErrMalformed)
		}
		return oid, nil, nil
	}
	return oid, e.Raw, nil
}

// readContent reads encapContentInfo.
func (sd *SignedData) readContent(in *ber.Input) error {
	seq, err := in.Inside(ber.Sequence)
	if err != nil {
		return at("encapContentInfo", err)
	}
	if sd.ContentType, err = readOID(&seq); err != nil {
		return at("eContentType", err)
	}
	if seq.Empty() {
		sd.Detached = true
		return nil
	}
	wrapped, err := seq.Inside(ber.Context(0))
	if err != nil {
		return at("eContent", err)
	}
	if err := seq.End(); err != nil {
		return at("encapContentInfo", err)
	}
	octets, err := wrapped.Read(ber.OctetString)
	if err != nil {
		return at("eContent", err)
	}
	if err := wrapped.End(); err != nil {
		return at("eContent", err)
	}
	if sd.Content, err = octets.Octets(); err != nil {
		return at("eContent", err)
	}
	sd.ContentLength = int64(len(sd.Content))
	return nil
}

// readTail reads what follows the content: certificates, crls and signerInfos.
func (sd *SignedData) readTail(in *ber.Input, next func() (ber.Element, bool, error)) error {
	e, ok, err := next()
	if ok && err == nil && e.Tag == ber.Context(0) {
		if err := sd.readCertificates(in, e); err != nil {
			return err
		}
		e, ok, err = next()
	}
	if ok && err == nil && e.Tag == ber.Context(1) {
		if err := sd.readRevocations(in, e); err != nil {
			return err
		}
		e, ok, err = next()
	}
	switch {
	case err != nil:
		return at("signerInfos", err)
	case !ok || e.Tag != ber.Set:
		return at("signerInfos", ber.ErrTag)
	}
	set, err := in.Enter(e)
	if err != nil {
		return at("signerInfos", err)
	}
	sd.Signers = sd.space.signers[:0]
	if sd.Signers, err = readSigners(sd.Signers, &set); err != nil {
		return err
	}
	if len(sd.Signers) == 0 && !sd.unsigned {
		return fmt.Errorf("%w: no signature", ErrMalformed)
	}
	if _, more, err := next(); more || err != nil {
		return fmt.Errorf("%w: something after signerInfos", ErrMalformed)
	}
	return nil
}

func (sd *SignedData) readCertificates(in *ber.Input, e ber.Element) error {
	set, err := in.Enter(e)
	if err != nil {
		return at("certificates", err)
	}
	sd.Certificates = sd.space.certificates[:0]
	most := MaxCertificates
	if sd.unsigned {
		most = sd.maxCertificates
	}
	for !set.Empty() {
		e, err := set.Next()
		if err != nil {
			return at("certificates", err)
		}
		if len(sd.Certificates)+sd.OtherCertificates >= most {
			return fmt.Errorf("%w: certificates", ErrLimit)
		}
		if e.Tag == ber.Sequence {
			sd.Certificates = append(sd.Certificates, e.Raw)
		} else {
			sd.OtherCertificates++
		}
	}
	return nil
}

// readRevocations reads crls. OCSP responses are other [1] { id-ri-ocsp-response, OCSPResponse } (RFC 5940 chapter 2.1).
func (sd *SignedData) readRevocations(in *ber.Input, e ber.Element) error {
	set, err := in.Enter(e)
	if err != nil {
		return at("crls", err)
	}
	sd.OCSP = sd.space.ocsp[:0]
	for n := 0; !set.Empty(); n++ {
		if n == MaxRevocations {
			return fmt.Errorf("%w: crls", ErrLimit)
		}
		e, err := set.Next()
		if err != nil {
			return at("crls", err)
		}
		if e.Tag == ber.Sequence {
			sd.CRLs = append(sd.CRLs, e.Raw)
			continue
		}
		if e.Tag != ber.Context(1) {
			sd.OtherRevocations++
			continue
		}
		other, err := set.Enter(e)
		if err != nil {
			return at("crls", err)
		}
		format, err := other.Read(ber.ObjectID)
		if err != nil {
			return at("crls", err)
		}
		info, err := other.Next()
		if err != nil {
			return at("crls", err)
		}
		if err := other.End(); err != nil {
			return at("crls", err)
		}
		if !format.IsOID(oidOCSPRevo) {
			sd.OtherRevocations++
			continue
		}
		response, err := info.DER()
		if err != nil {
			response = info.Raw // nobody signed it: what is wrong with it is said when it is judged
		}
		sd.OCSP = append(sd.OCSP, response)
	}
	return nil
}

// readSigners appends the SignerInfos of one level.
func readSigners(signers []SignerInfo, set *ber.Input) ([]SignerInfo, error) {
	for !set.Empty() {
		if len(signers) == MaxSigners {
			return nil, fmt.Errorf("%w: signerInfos", ErrLimit)
		}
		signers = append(signers, SignerInfo{})
		if err := signers[len(signers)-1].read(set); err != nil {
			return nil, at("SignerInfo", err)
		}
	}
	return signers, nil
}

func (si *SignerInfo) read(set *ber.Input) error {
	in, err := set.Inside(ber.Sequence)
	if err != nil {
		return err
	}
	version, err := in.Read(ber.Integer)
	if err != nil {
		return err
	}
	v, err := version.Int()
	if err != nil {
		return err
	}
	if v != 1 && v != 3 {
		return fmt.Errorf("%w: version %d", ErrMalformed, v)
	}
	si.Version = int(v)
	sid, err := in.Next()
	if err != nil {
		return err
	}
	switch sid.Tag {
	case ber.Sequence:
		name, err := in.Enter(sid)
		if err != nil {
			return err
		}
		if si.Issuer, si.Serial, err = readIssuerSerial(&name); err != nil {
			return err
		}
		if err := name.End(); err != nil {
			return err
		}
	case ber.Context(0):
		if si.SubjectKeyID, err = sid.Octets(); err != nil {
			return err
		}
	default:
		return ber.ErrTag
	}
	if si.DigestAlgorithm, err = readHash(&in); err != nil {
		return err
	}
	signed, ok, err := in.Optional(ber.Context(0))
	if err != nil {
		return err
	}
	if ok {
		si.HasSignedAttributes = true
		si.signedRaw = signed.Raw
		if si.SignedAttributes, err = readAttributes(si.space.signed[:0], &in, signed); err != nil {
			return err
		}
	}
	si.SigningTime = si.readSigningTime()
	if si.SignatureAlgorithm, si.SignatureParameters, err = readAlgorithm(&in); err != nil {
		return err
	}
	signature, err := in.Read(ber.OctetString)
	if err != nil {
		return err
	}
	if si.Signature, err = signature.Octets(); err != nil {
		return err
	}
	unsigned, ok, err := in.Optional(ber.Context(1))
	if err != nil {
		return err
	}
	if ok {
		if si.UnsignedAttributes, err = readAttributes(si.space.unsigned[:0], &in, unsigned); err != nil {
			return err
		}
	}
	return in.End()
}

// readIssuerSerial reads issuer (as DER) and serial number.
func readIssuerSerial(in *ber.Input) (issuer, serial []byte, err error) {
	name, err := in.Read(ber.Sequence)
	if err != nil {
		return nil, nil, err
	}
	if issuer, err = name.DER(); err != nil {
		return nil, nil, err
	}
	number, err := in.Read(ber.Integer)
	if err != nil {
		return nil, nil, err
	}
	serial, err = number.IntBytes()
	return issuer, serial, err
}

// readAttributes appends the attributes inside e.
func readAttributes(attributes []Attribute, in *ber.Input, e ber.Element) ([]Attribute, error) {
	set, err := in.Enter(e)
	if err != nil {
		return nil, err
	}
	for !set.Empty() {
		if len(attributes) == MaxAttributes {
			return nil, fmt.Errorf("%w: attributes", ErrLimit)
		}
		seq, err := set.Inside(ber.Sequence)
		if err != nil {
			return nil, err
		}
		var a Attribute
		if a.Type, err = readOID(&seq); err != nil {
			return nil, err
		}
		values, err := seq.Read(ber.Set)
		if err != nil {
			return nil, err
		}
		if err := seq.End(); err != nil {
			return nil, err
		}
		a.Values = values.Content
		// Each value must at least be an element, read or not.
		for in := ber.New(a.Values); !in.Empty(); {
			if _, err := in.Next(); err != nil {
				return nil, err
			}
		}
		attributes = append(attributes, a)
	}
	return attributes, nil
}

// one returns the only value of the only attribute of a type. found tells a missing attribute from one that is there more
// than once, or without exactly one value.
func one(attributes []Attribute, kind ber.OID) (value ber.Element, found, ok bool) {
	for i := range attributes {
		if attributes[i].Type != kind {
			continue
		}
		if found {
			return ber.Element{}, true, false
		}
		found = true
		in := ber.New(attributes[i].Values)
		var err error
		value, err = in.Next()
		ok = err == nil && in.Empty()
	}
	return value, found, ok
}

func (si *SignerInfo) readSigningTime() (t time.Time) {
	if value, _, ok := one(si.SignedAttributes, TypeSigningTime); ok {
		t, _ = value.Time()
	}
	return t
}

// Countersignatures reads the countersignatures on this signature. Their content is Signature.
func (si *SignerInfo) Countersignatures() ([]SignerInfo, error) {
	var out []SignerInfo
	for i := range si.UnsignedAttributes {
		if si.UnsignedAttributes[i].Type != TypeCountersignature {
			continue
		}
		in := ber.New(si.UnsignedAttributes[i].Values)
		var err error
		if out, err = readSigners(out, &in); err != nil {
			return nil, fmt.Errorf("cms: countersignature: %w", err)
		}
	}
	return out, nil
}

// RevocationValues returns the OCSP responses of the unsigned attribute revocation-values (ETSI TS 101 733 chapter 6.3.4),
// brought into the form OCSPResponse that SignedData.OCSP has: the attribute holds BasicOCSPResponse.
func (si *SignerInfo) RevocationValues() ([][]byte, error) {
	var out [][]byte
	for i := range si.UnsignedAttributes {
		if si.UnsignedAttributes[i].Type != TypeRevocationValues {
			continue
		}
		for in := ber.New(si.UnsignedAttributes[i].Values); !in.Empty(); {
			values, err := in.Inside(ber.Sequence)
			if err != nil {
				return nil, at("revocation-values", err)
			}
			for !values.Empty() {
				field, err := values.Next()
				if err != nil {
					return nil, at("revocation-values", err)
				}
				if field.Tag != ber.Context(1) {
					continue
				}
				list, err := values.Enter(field)
				if err == nil {
					list, err = list.Inside(ber.Sequence)
				}
				if err != nil {
					return nil, at("revocation-values", err)
				}
				for !list.Empty() {
					basic, err := list.Read(ber.Sequence)
					if err != nil {
						return nil, at("revocation-values", err)
					}
					if len(out) == MaxRevocations {
						return nil, fmt.Errorf("%w: revocation-values", ErrLimit)
					}
					der, err := basic.DER()
					if err != nil {
						return nil, at("revocation-values", err)
					}
					out = append(out, wrapOCSP(der))
				}
			}
		}
	}
	return out, nil
}

// wrapOCSP makes OCSPResponse { successful, { id-pkix-ocsp-basic, OCTET STRING basic } } (RFC 6960 chapter 4.2.1).
func wrapOCSP(basic []byte) []byte {
	bytes := append(ber.AppendHeader(nil, ber.ObjectID, false, len(oidOCSPBasic)), oidOCSPBasic...)
	bytes = append(ber.AppendHeader(bytes, ber.OctetString, false, len(basic)), basic...)
	seq := append(ber.AppendHeader(nil, ber.Sequence, true, len(bytes)), bytes...)
	explicit := append(ber.AppendHeader(nil, ber.Context(0), true, len(seq)), seq...)
	out := ber.AppendHeader(nil, ber.Sequence, true, 3+len(explicit))
	out = append(out, byte(ber.Enumerated), 1, 0)
	return append(out, explicit...)
}
