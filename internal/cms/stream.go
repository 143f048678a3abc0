package cms

import (
	"crypto"
	"fmt"
	"hash"
	"io"

	"ktradv/internal/ber"
)

// StreamOptions are the bounds of ParseStream.
type StreamOptions struct {
	MaxContent int64 // octets of the content; 0 means 16 GiB
}

// ParseStream reads a message from a stream and writes its content to consumer as it arrives; consumer may be nil. Memory
// does not depend on the size of the content: its digests are computed on the way, with the functions that
// digestAlgorithms announces. What the consumer got counts only when the signature, which comes last, is right.
//
// Octet strings of the result are in memory of their own.
func ParseStream(source io.Reader, consumer io.Writer, o StreamOptions) (*SignedData, error) {
	if o.MaxContent == 0 {
		o.MaxContent = 16 << 30
	}
	sd := new(SignedData)
	s := ber.NewStream(source)
	if err := s.Enter(ber.Sequence); err != nil {
		return nil, at("ContentInfo", err)
	}
	kind, err := s.Element(maxSmall)
	if err != nil {
		return nil, at("contentType", err)
	}
	if kind.Tag != ber.ObjectID {
		return nil, at("contentType", ber.ErrTag)
	}
	if !kind.IsOID(oidSignedData) {
		return nil, ErrNotSignedData
	}
	if err := s.Enter(ber.Context(0)); err != nil {
		return nil, at("content", err)
	}
	if err := s.Enter(ber.Sequence); err != nil {
		return nil, at("SignedData", err)
	}
	version, err := s.Element(maxSmall)
	if err != nil {
		return nil, at("version", err)
	}
	algorithms, err := s.Element(maxSmall)
	if err != nil {
		return nil, at("digestAlgorithms", err)
	}
	var in ber.Input
	if err := sd.readHead(&in, version, algorithms); err != nil {
		return nil, err
	}
	if err := sd.streamContent(s, consumer, o); err != nil {
		return nil, err
	}
	der := isDER(version) && isDER(algorithms)
	if err := sd.readTail(&in, func() (ber.Element, bool, error) {
		more, err := s.More()
		if err != nil || !more {
			return ber.Element{}, false, err
		}
		e, err := s.Element(MaxPart)
		der = der && err == nil && isDER(e)
		return e, true, err
	}); err != nil {
		return nil, err
	}
	for range 3 { // SignedData, [0], ContentInfo
		if err := s.Leave(); err != nil {
			return nil, at("end", err)
		}
	}
	if more, err := s.More(); more || err != nil {
		return nil, fmt.Errorf("%w: something after the message", ErrMalformed)
	}
	sd.DER = der && s.DER()
	return sd, nil
}

// maxSmall is the longest element at the beginning of a message.
const maxSmall = 1024

func isDER(e ber.Element) bool { return !e.Indefinite && ber.IsDER(e.Raw) }

// streamContent reads encapContentInfo and computes the digests of the content.
func (sd *SignedData) streamContent(s *ber.Stream, consumer io.Writer, o StreamOptions) error {
	if err := s.Enter(ber.Sequence); err != nil {
		return at("encapContentInfo", err)
	}
	kind, err := s.Element(maxSmall)
	if err != nil {
		return at("eContentType", err)
	}
	if kind.Tag != ber.ObjectID {
		return at("eContentType", ber.ErrTag)
	}
	if sd.ContentType, err = kind.OID(); err != nil {
		return at("eContentType", err)
	}
	more, err := s.More()
	if err != nil {
		return at("encapContentInfo", err)
	}
	if !more {
		sd.Detached = true
		return at("encapContentInfo", s.Leave())
	}
	if err := s.Enter(ber.Context(0)); err != nil {
		return at("eContent", err)
	}
	var writers []io.Writer
	functions := map[crypto.Hash]hash.Hash{}
	for _, oid := range sd.DigestAlgorithms {
		if f := hashOf(oid); f != 0 && functions[f] == nil {
			functions[f] = f.New()
			writers = append(writers, functions[f])
		}
	}
	if consumer != nil {
		writers = append(writers, consumer)
	}
	writers = append(writers, &headWriter{&sd.head})
	if sd.ContentLength, err = s.CopyOctets(io.MultiWriter(writers...), o.MaxContent); err != nil {
		return at("eContent", err)
	}
	sd.digests.set(functions)
	for range 2 { // [0], encapContentInfo
		if err := s.Leave(); err != nil {
			return at("encapContentInfo", err)
		}
	}
	return nil
}

// maxHead is how much of a streamed content is kept, to be looked at when the signature covers the content directly.
const maxHead = 64 << 10

// headWriter keeps the first maxHead octets.
type headWriter struct{ head *[]byte }

func (w *headWriter) Write(b []byte) (int, error) {
	*w.head = append(*w.head, b[:min(len(b), maxHead-len(*w.head))]...)
	return len(b), nil
}

// set takes over digests that were computed.
func (d *digests) set(functions map[crypto.Hash]hash.Hash) {
	for i, to := range [...]struct {
		hash crypto.Hash
		sum  []byte
	}{{crypto.SHA256, d.sha256[:]}, {crypto.SHA384, d.sha384[:]}, {crypto.SHA512, d.sha512[:]}} {
		if f := functions[to.hash]; f != nil {
			d.has[i] = true
			f.Sum(to.sum[:0]) // into the array: it is as long as the digest
		}
	}
}
