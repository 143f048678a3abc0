package card

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"slices"

	"ktradv/internal/brainpool"
)

// selected is a key chosen by MANAGE SECURITY ENVIRONMENT for one purpose.
type selected struct {
	key    Object
	folder *Folder
	alg    Algorithm
}

// agreement is what the card keeps between the two steps of GENERAL
// AUTHENTICATE.
type agreement struct {
	own       *PrivateKey
	ephemeral *brainpool.PrivateKey
	peer      *PublicKey
}

// key finds a private or secret key by its reference.
func (c *Card) key(ref byte) (Object, *Folder) {
	var found Object
	f := c.search(ref, c.ch.folder, func(o Object, id byte) bool {
		switch k := o.(type) {
		case *PrivateKey:
			if k.ID == id {
				found = k
			}
		case *SecretKey:
			if k.ID == id {
				found = k
			}
		case *PaceKey:
			if k.ID == id {
				found = k
			}
		}
		return found != nil
	})
	return found, f
}

// publicKeys are the keys the card trusts, then those it has imported.
func (c *Card) publicKeys() []*PublicKey {
	var all []*PublicKey
	for _, o := range c.sys.Root.Children {
		if k, ok := o.(*PublicKey); ok && k.Key != nil {
			all = append(all, k)
		}
	}
	return append(all, c.cache...)
}

func (c *Card) publicKey(ref []byte) *PublicKey {
	for _, k := range c.publicKeys() {
		if bytes.Equal(k.Ref, ref) {
			return k
		}
	}
	return nil
}

// keep puts an imported key into the cache. The key that was used longest ago
// gives way; keys that verify certificates and keys that authenticate do not
// push each other out.
func (c *Card) keep(k *PublicKey) {
	k.cached, k.parent = true, c.sys.Root
	c.cache = slices.DeleteFunc(c.cache, func(o *PublicKey) bool { return bytes.Equal(o.Ref, k.Ref) })
	c.cache = append(c.cache, k)
	same := 0
	for _, o := range c.cache {
		if o.Authentication == k.Authentication {
			same++
		}
	}
	if same > max(c.sys.CacheSlots, 1) {
		i := slices.IndexFunc(c.cache, func(o *PublicKey) bool { return o.Authentication == k.Authentication })
		c.cache = slices.Delete(c.cache, i, i+1)
	}
}

// used notes that a key was used just now.
func (c *Card) used(k *PublicKey) {
	if i := slices.Index(c.cache, k); i >= 0 {
		c.cache = append(slices.Delete(c.cache, i, i+1), k)
	}
}

// manageEnvironment is MANAGE SECURITY ENVIRONMENT; it needs no right.
func (c *Card) manageEnvironment(cmd *command) ([]byte, uint16) {
	if cmd.p1 == 0xF3 {
		if cmd.hasData {
			return nil, swWrongLength
		}
		if cmd.p2 < 1 || cmd.p2 > 4 {
			return nil, swWrongP1P2
		}
		c.ch.se[c.ch.folder] = int(cmd.p2)
		return nil, swOK
	}
	do := map[uint16][]byte{}
	for rest := cmd.data; len(rest) > 0; {
		tag, v, more, err := nextTLV(rest)
		if _, twice := do[tag]; err != nil || twice {
			return nil, swVerificationError
		}
		do[tag], rest = v, more
	}
	var tags []uint16
	for t := range do {
		tags = append(tags, t)
	}
	slices.Sort(tags)
	has := func(want ...uint16) bool { return slices.Equal(tags, want) }

	switch p := uint16(cmd.p1)<<8 | uint16(cmd.p2); {
	case p == 0x41A4 && (has(0x80, 0x84) || has(0x80, 0x83)):
		_, asymmetric := do[0x84]
		return nil, c.choose(&c.ch.intern, useInternal, append(do[0x83], do[0x84]...), do[0x80], asymmetric)
	case p == 0x81A4 && has(0x80, 0x83) && len(do[0x83]) == 12:
		k := c.publicKey(do[0x83])
		switch {
		case k == nil || !k.Authentication:
			return nil, swNotFound
		case !bytes.Equal(do[0x80], []byte{0x00}):
			return nil, swUnsupportedFunction
		}
		c.ch.extern = &selected{k, c.sys.Root, elcRoleCheck}
		return nil, swOK
	case p == 0x81A4 && has(0x80, 0x83):
		return nil, c.choose(&c.ch.extern, useExternal, do[0x83], do[0x80], false)
	case p == 0xC1A4 && (has(0x80, 0x83) || has(0x80, 0x83, 0x84)):
		return nil, c.choosePACE(do)
	case p == 0x41B6 && has(0x80, 0x84):
		return nil, c.choose(&c.ch.sign, useSign, do[0x84], do[0x80], true)
	case p == 0x41B8 && has(0x80, 0x84):
		return nil, c.choose(&c.ch.cipher, useDecipher, do[0x84], do[0x80], true)
	case p == 0x81B6 && has(0x83):
		k := c.publicKey(do[0x83])
		if k == nil || k.Authentication {
			return nil, swNotFound
		}
		c.ch.verify = k
		return nil, swOK
	case p == 0x41A4, p == 0x81A4, p == 0xC1A4, p == 0x41B6, p == 0x81B6, p == 0x41B8:
		return nil, swVerificationError
	}
	return nil, swWrongP1P2
}

// choose selects a private or secret key for a purpose.
func (c *Card) choose(slot **selected, u use, ref, alg []byte, asymmetric bool) uint16 {
	if len(ref) != 1 || len(alg) != 1 {
		return swVerificationError
	}
	o, f := c.key(ref[0])
	var can map[int][]Algorithm
	switch k := o.(type) {
	case *PrivateKey:
		if !asymmetric {
			return swNotFound
		}
		can = k.Algorithms
	case *SecretKey:
		if asymmetric {
			return swNotFound
		}
		can = k.Algorithms
	default:
		return swNotFound
	}
	for _, a := range algorithmIDs[u][alg[0]] {
		if slices.Contains(can[c.environment(f)], a) {
			*slot = &selected{o, f, a}
			return swOK
		}
	}
	return swUnsupportedFunction
}

func (c *Card) choosePACE(do map[uint16][]byte) uint16 {
	domain, given := do[0x84]
	if len(do[0x83]) != 1 || given && len(domain) != 1 {
		return swVerificationError
	}
	o, f := c.key(do[0x83][0])
	k, ok := o.(*PaceKey)
	switch {
	case !ok:
		return swNotFound
	case !bytes.Equal(do[0x80], k.OID), given && domain[0] != paceP256Domain:
		return swUnsupportedFunction
	}
	c.ch.intern = &selected{k, f, pace}
	return swOK
}

// performOperation is PERFORM SECURITY OPERATION.
func (c *Card) performOperation(cmd *command) ([]byte, uint16) {
	switch uint16(cmd.p1)<<8 | uint16(cmd.p2) {
	case 0x00BE:
		return nil, c.importKey(cmd)
	case 0x9E9A:
		return c.sign(cmd)
	case 0x8E80, 0x00A2, 0x8680, 0x00A8:
		// Checksums, enciphering, verifying signatures: there is no object on
		// these cards that could be selected for it.
		return nil, swConditions
	case 0x8086, 0x86B8: // DECIPHER, TRANSCIPHER
		if c.ch.cipher == nil {
			return nil, swConditions
		}
		k, ok := c.ch.cipher.key.(*PrivateKey)
		if !ok || !c.access(&k.Header, c.ch.cipher.folder, cmd) {
			return nil, swSecurityStatus
		}
		return nil, swUnsupportedFunction
	}
	return nil, swWrongP1P2
}

// importKey is PSO VERIFY CERTIFICATE. Flags that the issuer does not have
// are masked. Every imported certificate may move the card's point in time
// forward to its effective date; expired issuers and expired certificates are
// refused.
func (c *Card) importKey(cmd *command) uint16 {
	if !cmd.hasData {
		return swWrongLength
	}
	issuer := c.ch.verify
	if issuer == nil || c.publicKey(issuer.Ref) != issuer {
		return swConditions
	}
	if !c.access(&issuer.Header, c.sys.Root, cmd) {
		return swSecurityStatus
	}
	cert, err := parseCertificate(cmd.data)
	if err != nil {
		return swVerificationError
	}
	switch {
	case !bytes.Equal(cert.car, issuer.Ref):
		return swNotFound // InconsistentKeyReference
	case issuer.Expires.before(c.sys.PointInTime):
		return swBlocked // KeyExpired
	case !cert.signedBy(issuer.Key), cert.chat.OID != issuer.CHAT.OID, !cert.fits(issuer.CHAT.Flags):
		return swVerificationError
	case cert.expires.before(c.sys.PointInTime):
		return swBlocked
	}
	c.used(issuer)
	if own := c.publicKey(cert.chr); own != nil && !own.cached {
		return swOK // a key of the object system is not overwritten
	}
	if !c.write() {
		return swMemoryFailure
	}
	granted := cert.chat.Flags.and(issuer.CHAT.Flags)
	if granted != cert.chat.Flags {
		c.onMask(slices.Clone(cert.chr), cert.chat.Flags, granted)
	}
	k := &PublicKey{
		Ref:                 slices.Clone(cert.chr),
		Authentication:      cert.auth,
		Key:                 cert.key,
		CHAT:                CHAT{cert.chat.OID, granted},
		Expires:             cert.expires,
		VerificationRules:   issuer.VerificationRules,
		AuthenticationRules: issuer.AuthenticationRules,
	}
	k.Rules = issuer.VerificationRules
	if cert.auth {
		k.Rules = issuer.AuthenticationRules
	}
	c.keep(k)
	if c.sys.PointInTime.before(cert.effective) {
		c.sys.PointInTime = cert.effective
	}
	return swOK
}

// sign is PSO COMPUTE DIGITAL SIGNATURE.
func (c *Card) sign(cmd *command) ([]byte, uint16) {
	s := c.ch.sign
	if s == nil {
		return nil, swConditions
	}
	k, ok := s.key.(*PrivateKey)
	if !ok || !c.access(&k.Header, s.folder, cmd) {
		return nil, swSecurityStatus
	}
	if !k.can(s.alg) {
		return nil, swKeyInvalid
	}
	var (
		sig []byte
		err error
	)
	switch s.alg {
	case SignECDSA:
		if len(cmd.data) != k.EC.Curve().Size() {
			return nil, swWrongLength
		}
		sig, err = k.EC.Sign(c.rand, cmd.data)
	case SignPKCS1:
		if len(cmd.data) > k.RSA.Size()*2/5 {
			return nil, swWrongLength
		}
		sig, err = rsa.SignPKCS1v15(c.rand, k.RSA, crypto.Hash(0), cmd.data)
	case SignPSS:
		if len(cmd.data) != sha256.Size {
			return nil, swWrongLength
		}
		sig, err = rsa.SignPSS(c.rand, k.RSA, crypto.SHA256, cmd.data, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	default:
		return nil, swUnsupportedFunction
	}
	if err != nil {
		return nil, swRandomFailure
	}
	return output(cmd, sig)
}

// getChallenge is GET CHALLENGE; it needs no right.
func (c *Card) getChallenge(cmd *command) ([]byte, uint16) {
	if cmd.p1 != 0 || cmd.p2 != 0 {
		return nil, swWrongP1P2
	}
	if cmd.hasData || cmd.ne != 8 && cmd.ne != 16 {
		return nil, swWrongLength
	}
	rnd, ok := c.random(cmd.ne)
	if !ok {
		return nil, swRandomFailure
	}
	c.ch.rnd = rnd
	return rnd, swOK
}

// getRandom is GET RANDOM.
func (c *Card) getRandom(cmd *command) ([]byte, uint16) {
	if cmd.p1 != 0 || cmd.p2 != 0 {
		return nil, swWrongP1P2
	}
	if cmd.hasData || !cmd.hasLe {
		return nil, swWrongLength
	}
	if !c.folderAccess(c.ch.folder, cmd) {
		return nil, swSecurityStatus
	}
	rnd, ok := c.random(min(cmd.ne, 256))
	if !ok {
		return nil, swRandomFailure
	}
	return rnd, swOK
}

// fingerprint is FINGERPRINT: a hash over the prefix and what stands for the
// operating system here.
func (c *Card) fingerprint(cmd *command) ([]byte, uint16) {
	if cmd.p1 != 0 || cmd.p2 != 0 {
		return nil, swWrongP1P2
	}
	if len(cmd.data) != 128 {
		return nil, swWrongLength
	}
	if !c.folderAccess(c.ch.folder, cmd) {
		return nil, swSecurityStatus
	}
	h := sha256.Sum256(append(slices.Clone(cmd.data), c.sys.Name...))
	return output(cmd, h[:])
}

// listPublicKeys is LIST PUBLIC KEY; it needs no right.
func (c *Card) listPublicKeys(cmd *command) ([]byte, uint16) {
	if cmd.p1 != 0x01 || cmd.p2 != 0 {
		return nil, swWrongP1P2
	}
	if cmd.hasData || !cmd.hasLe {
		return nil, swWrongLength
	}
	var out []byte
	for _, k := range c.publicKeys() {
		tag := uint16(0xB6)
		if k.Authentication {
			tag = 0xA4
		}
		v := appendTLV(nil, 0x4F, c.sys.Root.AID...)
		v = appendTLV(v, tag, appendTLV(nil, 0x83, k.Ref...)...)
		out = appendTLV(out, 0xE0, v...)
	}
	if len(out) > cmd.ne {
		return out[:cmd.ne], swDataTruncated
	}
	return out, swOK
}

// manageChannel is MANAGE CHANNEL: this card has the basic channel only.
func (c *Card) manageChannel(cmd *command) ([]byte, uint16) {
	if cmd.hasData {
		return nil, swWrongLength
	}
	switch uint16(cmd.p1)<<8 | uint16(cmd.p2) {
	case 0x0000:
		return nil, swNoMoreChannels
	case 0x4000, 0x4001: // reset the channel, reset the application level
		c.reset()
		return nil, swOK
	}
	return nil, swWrongP1P2
}

// generateKeyPair is GENERATE ASYMMETRIC KEY PAIR. P1: 81 read the public key;
// 80 and C0 generate and return it, 84 and C4 generate; with bit 7 (C0, C4)
// an existing key is replaced.
func (c *Card) generateKeyPair(cmd *command) ([]byte, uint16) {
	switch cmd.p1 {
	case 0x81, 0x80, 0x84, 0xC0, 0xC4:
	default:
		return nil, swWrongP1P2
	}
	ref := cmd.p2
	o, f := c.key(ref)
	if ref == 0 && c.ch.sign != nil {
		o, f = c.ch.sign.key, c.ch.sign.folder
	}
	k, ok := o.(*PrivateKey)
	if !ok {
		return nil, swNotFound
	}
	if !c.access(&k.Header, f, cmd) {
		return nil, swSecurityStatus
	}
	if cmd.p1 != 0x81 {
		if sw := c.generate(k, cmd.p1&0x40 != 0); sw != swOK || cmd.p1&0x04 != 0 {
			return nil, sw
		}
	}
	switch {
	case k.EC != nil:
		return output(cmd, appendTLV(nil, 0x7F49, appendTLV(nil, 0x86, k.EC.Public().Bytes()...)...))
	case k.RSA != nil:
		v := appendTLV(nil, 0x81, k.RSA.N.Bytes()...)
		v = appendTLV(v, 0x82, byte(k.RSA.E>>16), byte(k.RSA.E>>8), byte(k.RSA.E))
		return output(cmd, appendTLV(nil, 0x7F49, v...))
	}
	return nil, swKeyInvalid
}

func (c *Card) generate(k *PrivateKey, replace bool) uint16 {
	if k.available() && !replace {
		return swConditions // KeyAlreadyPresent
	}
	if k.Curve == nil {
		return swUnsupportedFunction
	}
	fresh, ok := c.ephemeral(k.Curve)
	if !ok {
		return swRandomFailure
	}
	if !c.write() {
		return swMemoryFailure
	}
	k.EC = fresh
	return swOK
}

// ephemeral takes a private key from the card's generator.
func (c *Card) ephemeral(curve *brainpool.Curve) (*brainpool.PrivateKey, bool) {
	for range 64 { // each draw fails with probability below 1/2
		d, ok := c.random(curve.Size())
		if !ok {
			return nil, false
		}
		if k, err := brainpool.NewPrivateKey(curve, d); err == nil {
			return k, true
		}
	}
	return nil, false
}

// internalAuthenticate is INTERNAL AUTHENTICATE.
func (c *Card) internalAuthenticate(cmd *command) ([]byte, uint16) {
	if cmd.p1 != 0 || cmd.p2 != 0 {
		return nil, swWrongP1P2
	}
	if !cmd.hasData || !cmd.hasLe {
		return nil, swWrongLength
	}
	s := c.ch.intern
	if s == nil {
		return nil, swConditions
	}
	k, ok := s.key.(*PrivateKey)
	if !ok {
		return nil, swUnsupportedFunction
	}
	if !c.access(&k.Header, s.folder, cmd) {
		return nil, swSecurityStatus
	}
	if !k.can(s.alg) {
		return nil, swKeyInvalid
	}
	switch s.alg {
	case ELCRoleAuthentication:
		if len(cmd.data) != 24 {
			return nil, swVerificationError // WrongToken
		}
		// The signed number is the token and the algorithm identifier, as
		// they are, without a hash.
		sig, err := k.EC.Sign(c.rand, append(slices.Clone(cmd.data), 0x00))
		if err != nil {
			return nil, swRandomFailure
		}
		return output(cmd, sig)
	case RSAClientAuth:
		if len(cmd.data) > k.RSA.Size()*2/5 {
			return nil, swVerificationError
		}
		sig, err := rsa.SignPKCS1v15(c.rand, k.RSA, crypto.Hash(0), cmd.data)
		if err != nil {
			return nil, swRandomFailure
		}
		return output(cmd, sig)
	}
	return nil, swUnsupportedFunction
}

// externalAuthenticate is EXTERNAL AUTHENTICATE: the holder of the selected
// public key has signed the card's last challenge, which is used up by that.
func (c *Card) externalAuthenticate(cmd *command) ([]byte, uint16) {
	if cmd.p1 != 0 || cmd.p2 != 0 {
		return nil, swWrongP1P2
	}
	if !cmd.hasData {
		return nil, swWrongLength
	}
	s := c.ch.extern
	if s == nil {
		return nil, swConditions
	}
	k, ok := s.key.(*PublicKey)
	if !ok {
		sk, ok := s.key.(*SecretKey)
		if !ok || !c.access(&sk.Header, s.folder, cmd) {
			return nil, swSecurityStatus
		}
		return nil, swUnsupportedFunction
	}
	if c.publicKey(k.Ref) != k {
		return nil, swNotFound
	}
	if !c.access(&k.Header, c.sys.Root, cmd) {
		return nil, swSecurityStatus
	}
	rnd := c.ch.rnd
	c.ch.rnd = nil
	switch {
	case len(rnd) != 16:
		return nil, swConditions // NoRandom, WrongRandomLength
	case k.Expires.before(c.sys.PointInTime):
		return nil, swBlocked // KeyExpired
	case !k.Key.Verify(slices.Concat(rnd, c.sys.ICCSN8[:], []byte{0x00}), cmd.data):
		return nil, swAuthenticationFailure
	}
	c.used(k)
	c.ch.roles[k.CHAT.OID] = k.CHAT.Flags
	return nil, swOK
}

// generalAuthenticate is GENERAL AUTHENTICATE with elcSessionkey4SM: step 1
// (chained) names the peer's certificate and returns an ephemeral key, step 2
// takes the peer's ephemeral key and starts secure messaging.
func (c *Card) generalAuthenticate(cmd *command) ([]byte, uint16) {
	if cmd.p1 != 0 || cmd.p2 != 0 {
		return nil, swWrongP1P2
	}
	if !cmd.hasData {
		return nil, swWrongLength
	}
	begun := c.ch.agree
	c.ch.agree = nil
	s := c.ch.intern
	if s == nil {
		return nil, swConditions
	}
	// The chaining bit is no part of the command an access rule speaks about.
	asked := *cmd
	asked.cla = claInterindustry
	h := s.key.header()
	if !c.access(h, s.folder, &asked) {
		return nil, swSecurityStatus
	}
	k, ok := s.key.(*PrivateKey)
	if !ok || s.alg != ELCSessionKey4SM {
		return nil, swUnsupportedFunction
	}
	if !k.can(s.alg) {
		return nil, swKeyInvalid
	}
	v, err := onlyTLV(cmd.data, 0x7C)
	if err != nil {
		return nil, swVerificationError
	}
	if cmd.cla == claChained {
		return c.agreementStep1(cmd, k, v)
	}
	return nil, c.agreementStep2(begun, v)
}

func (c *Card) agreementStep1(cmd *command, own *PrivateKey, v []byte) ([]byte, uint16) {
	chr, err := onlyTLV(v, 0xC3)
	if err != nil {
		return nil, swVerificationError
	}
	if !cmd.hasLe {
		return nil, swWrongLength
	}
	peer := c.publicKey(chr)
	switch {
	case peer == nil || !peer.Authentication:
		return nil, swNotFound
	case bytes.HasSuffix(chr, c.sys.ICCSN8[:]):
		return nil, swNotFound // N085.052a: no authentication against itself
	case peer.Expires.before(c.sys.PointInTime):
		return nil, swBlocked // N085.052d KeyExpired
	case peer.Key.Curve() != own.EC.Curve():
		return nil, swKeyInvalid // ParameterMismatch
	}
	e, ok := c.ephemeral(own.EC.Curve())
	if !ok {
		return nil, swRandomFailure
	}
	c.used(peer)
	c.ch.agree = &agreement{own, e, peer}
	return output(cmd, appendTLV(nil, 0x7C, appendTLV(nil, 0x85, e.Public().Bytes()...)...))
}

func (c *Card) agreementStep2(a *agreement, v []byte) uint16 {
	if a == nil {
		return swConditions
	}
	point, err := onlyTLV(v, 0x85)
	if err != nil {
		return swVerificationError
	}
	curve := a.own.EC.Curve()
	theirs, err := brainpool.ParsePublicKey(curve, point)
	if err != nil {
		return swKeyInvalid // ParameterMismatch
	}
	k1, err := a.own.EC.ECDH(theirs)
	if err != nil {
		return swKeyInvalid
	}
	k2, err := a.ephemeral.ECDH(a.peer.Key)
	if err != nil {
		return swKeyInvalid
	}
	enc, mac := sessionKeys(slices.Concat(k1, k2), curve.Size())
	chat := a.peer.CHAT
	c.ch.session = &session{enc: enc, mac: mac, key: noKey, chat: &chat}
	return swOK
}
