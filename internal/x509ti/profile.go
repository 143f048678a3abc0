package x509ti

import (
	"errors"

	"ktradv/internal/brainpool"
)

// arc is the part of every identifier of the telematics infrastructure that comes before its own number.
var arc = OID{1, 2, 276, 0, 76, 4}

// TI returns the identifier with that number below 1.2.276.0.76.4, where gemSpec_OID keeps types, policies and roles.
func TI(number int) OID { return append(arc[:len(arc):len(arc)], number) }

// TINumber returns the number of an identifier below 1.2.276.0.76.4; ok is false for every other one.
func TINumber(oid OID) (number int, ok bool) {
	if len(oid) != len(arc)+1 || !oid[:len(arc)].Equal(arc) {
		return 0, false
	}
	return oid[len(arc)], true
}

// Policies of gemSpec_OID.
var (
	OIDPolicyHBA       = TI(145) // hba_cp
	OIDPolicyOR        = TI(163) // gem_or_cp
	OIDPolicyTSLSigner = TI(176) // gem_tsl_signer
)

// Extended key usages.
var (
	OIDServerAuth  = OID{1, 3, 6, 1, 5, 5, 7, 3, 1}
	OIDClientAuth  = OID{1, 3, 6, 1, 5, 5, 7, 3, 2}
	OIDOCSPSigning = OID{1, 3, 6, 1, 5, 5, 7, 3, 9}
	OIDTSLSigning  = OID{0, 4, 0, 2231, 3, 0}
)

// Certificate types (oid_... of gemSpec_OID), one of the policies of an end entity's certificate.
var (
	OIDEGKEnc     = TI(68)
	OIDEGKEncV    = TI(69)
	OIDEGKAut     = TI(70)
	OIDEGKAutN    = TI(71)
	OIDHBAQES     = TI(72)
	OIDSMBEnc     = TI(76)
	OIDSMBAut     = TI(77)
	OIDSMBOSig    = TI(78)
	OIDZDTLSS     = TI(157)
	OIDFDTLSC     = TI(168)
	OIDFDTLSS     = TI(169)
	OIDFDSig      = TI(203)
	OIDEGKAutAlt  = TI(212)
	OIDFDOSig     = TI(283)
	OIDTSLCCACert = TI(164) // mark of an announced trust anchor in the TSL
)

// Roles of the admission extension (gemSpec_OID).
var (
	OIDArzt                 = TI(30)
	OIDZahnarzt             = TI(31)
	OIDApotheker            = TI(32)
	OIDApothekerassistent   = TI(33)
	OIDPharmazieingenieur   = TI(34)
	OIDApothekenassistent   = TI(38)
	OIDPsychotherapeut      = TI(45)
	OIDPsychologischerPT    = TI(46)
	OIDKJPsychotherapeut    = TI(47)
	OIDVersicherter         = TI(49)
	OIDPraxisArzt           = TI(50)
	OIDZahnarztpraxis       = TI(51)
	OIDPraxisPsychotherapie = TI(52)
	OIDKrankenhaus          = TI(53)
	OIDApotheke             = TI(54)
	OIDKrankenhausapotheke  = TI(55)
	OIDBundeswehrapotheke   = TI(56)
	OIDKostentraeger        = TI(59)
	OIDStamp                = TI(184) // C.ZD.TLS-S of this role has no certHash
	OIDTSL                  = TI(189)
	OIDAdVKTR               = TI(190)
	OIDERezept              = TI(259)
	OIDAbrechnung           = TI(270) // abrechnungsdienstleister
	OIDWeitereKostentraeger = TI(284)
)

// Profile is what the check of a certificate expects beside signature and time.
type Profile struct {
	Name     string   // as in gemSpec_PKI chapter 5, for example "C.HCI.OSIG"
	Type     OID      // certificate type, one of the policies; nil: none is asked for
	AltType  OID      // a second type that is as good; nil: none
	Policy   OID      // certificate policy that the profile has; the check asks for the type only (TUC_PKI_007)
	Role     OID      // profession of the admission; nil: any or none, the caller looks at the roles
	KeyUsage KeyUsage // all of these
	// RSAKeyUsage stands in place of KeyUsage when the key is an RSA key; 0 is the same.
	RSAKeyUsage KeyUsage
	ExtKeyUsage OID // nil: none is asked for
	// ExtKeyUsageOptional: a certificate without any extended key usage passes ("failOnMissingEku" = false).
	ExtKeyUsageOptional bool
	QES                 bool // qualified: TUC_PKI_030 with the BNetzA-VL in place of TUC_PKI_018 with the TSL
	CA                  bool // an issuing CA
	// NoCertHash: the status answer need not carry certHash and one that is there is ignored (health cards).
	NoCertHash bool
	// Suspendable: the certificate may be revoked for a time only, so that no status answer is used again after its grace
	// period (GS-A_4943: health cards).
	Suspendable bool
}

// Profiles are the certificate profiles of gemSpec_PKI chapter 5 that this project checks, as data. A test holds the table
// next to the reference.
var Profiles = []Profile{
	{Name: "C.CH.AUT", Type: OIDEGKAut, AltType: OIDEGKAutAlt, Policy: OIDPolicyOR, Role: OIDVersicherter, KeyUsage: DigitalSignature, ExtKeyUsage: OIDClientAuth, ExtKeyUsageOptional: true, NoCertHash: true, Suspendable: true},
	{Name: "C.CH.AUTN", Type: OIDEGKAutN, Policy: OIDPolicyOR, Role: OIDVersicherter, KeyUsage: DigitalSignature, ExtKeyUsage: OIDClientAuth, NoCertHash: true, Suspendable: true},
	{Name: "C.CH.ENC", Type: OIDEGKEnc, Policy: OIDPolicyOR, Role: OIDVersicherter, KeyUsage: KeyAgreement, RSAKeyUsage: KeyEncipherment | DataEncipherment, NoCertHash: true, Suspendable: true},
	{Name: "C.CH.ENCV", Type: OIDEGKEncV, Policy: OIDPolicyOR, Role: OIDVersicherter, KeyUsage: KeyAgreement, RSAKeyUsage: KeyEncipherment | DataEncipherment, NoCertHash: true, Suspendable: true},
	{Name: "C.HCI.AUT", Type: OIDSMBAut, Policy: OIDPolicyOR, KeyUsage: DigitalSignature, ExtKeyUsage: OIDClientAuth},
	{Name: "C.HCI.ENC", Type: OIDSMBEnc, Policy: OIDPolicyOR, KeyUsage: KeyAgreement, RSAKeyUsage: KeyEncipherment | DataEncipherment},
	{Name: "C.HCI.OSIG", Type: OIDSMBOSig, Policy: OIDPolicyOR, KeyUsage: NonRepudiation},
	{Name: "C.HP.QES", Type: OIDHBAQES, Policy: OIDPolicyHBA, KeyUsage: NonRepudiation, QES: true},
	{Name: "C.FD.SIG", Type: OIDFDSig, Policy: OIDPolicyOR, KeyUsage: DigitalSignature},
	{Name: "C.FD.OSIG", Type: OIDFDOSig, Policy: OIDPolicyOR, KeyUsage: NonRepudiation},
	{Name: "C.FD.TLS-S", Type: OIDFDTLSS, Policy: OIDPolicyOR, KeyUsage: DigitalSignature, ExtKeyUsage: OIDServerAuth},
	{Name: "C.FD.TLS-C", Type: OIDFDTLSC, Policy: OIDPolicyOR, KeyUsage: DigitalSignature, ExtKeyUsage: OIDClientAuth},
	{Name: "C.ZD.TLS-S", Type: OIDZDTLSS, Policy: OIDPolicyOR, KeyUsage: DigitalSignature, ExtKeyUsage: OIDServerAuth},
	{Name: "C.GEM.OCSP", Policy: OIDPolicyOR, KeyUsage: NonRepudiation, ExtKeyUsage: OIDOCSPSigning},
	{Name: "C.TSL.SIG", Policy: OIDPolicyTSLSigner, KeyUsage: NonRepudiation, ExtKeyUsage: OIDTSLSigning},
	{Name: "issuing CA nonQES", Policy: OIDPolicyOR, KeyUsage: CertSign, CA: true},
}

// ProfileByName returns the profile of that name in [Profiles]; it fails for a name that is not there.
func ProfileByName(name string) (Profile, error) {
	for _, p := range Profiles {
		if p.Name == name {
			return p, nil
		}
	}
	return Profile{}, errors.New("x509ti: no profile has the name " + name)
}

// byName serves the variables below, whose names a test looks up.
func byName(name string) Profile {
	p, _ := ProfileByName(name)
	return p
}

// The profiles that callers name.
var (
	EGKAUT  = byName("C.CH.AUT")
	EGKAUTN = byName("C.CH.AUTN") // PL_TUC_EGK_STATUS (TIP1-A_6901)
	HCIAUT  = byName("C.HCI.AUT")
	HCIOSIG = byName("C.HCI.OSIG")
	HPQES   = byName("C.HP.QES")
	FDSIG   = byName("C.FD.SIG")
	FDOSIG  = byName("C.FD.OSIG")
	FDTLSS  = byName("C.FD.TLS-S")
	ZDTLSS  = byName("C.ZD.TLS-S")
	GEMOCSP = byName("C.GEM.OCSP")
	TSLSIG  = byName("C.TSL.SIG")
)

// Verifier checks ECDSA signatures on brainpool curves; a cache of tables for keys seen often is one. digest is the hash
// of what was signed, rs R || S, each of the curve's width. It must be safe for concurrent use.
type Verifier interface {
	VerifyECDSA(key *brainpool.PublicKey, digest, rs []byte) bool
}
