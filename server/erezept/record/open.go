package record

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"

	"ktradv/internal/ber"
)

// maxLayers limits how often an input may be wrapped (base64 in base64 in FHIR...).
const maxLayers = 6

// Open finds the signed messages in an input, at least one. Which form it has is told from its content. Whether a message
// can be read is not looked at: what claims to be one (by its content type, or by the place where it stands) is handed on,
// so that it gets a verdict and is not lost silently.
//
// Errors wrap ErrUnknown, ErrMalformed, ErrNoMessage or ErrLimit.
func Open(data []byte) ([]Message, error) {
	if len(data) > MaxInput {
		return nil, fmt.Errorf("%w: input of %d octets", ErrLimit, len(data))
	}
	return open(data, nil)
}

// open finds messages in data, which was taken out of the given layers.
func open(data []byte, layers []Form) ([]Message, error) {
	if len(layers) > maxLayers {
		return nil, fmt.Errorf("%w: %d layers around a message", ErrLimit, len(layers))
	}
	if looksLikeCMS(data) {
		return []Message{{Forms: with(layers, CMS), Data: data}}, nil
	}
	text := bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), " \t\r\n")
	switch {
	case len(text) == 0:
		return nil, fmt.Errorf("%w: it is empty", ErrUnknown)
	case text[0] == '<':
		return openFHIR(data, layers, false)
	case text[0] == '{':
		return openFHIR(data, layers, true)
	case bytes.HasPrefix(text, []byte("-----BEGIN ")):
		return openPEM(text, layers)
	}
	decoded, err := decodeBase64(text)
	if err == nil {
		return open(decoded, with(layers, Base64))
	}
	return nil, fmt.Errorf("%w: %s", ErrUnknown, describe(data))
}

// with returns the layers and one more, in memory of its own.
func with(layers []Form, form Form) []Form {
	return append(append(make([]Form, 0, len(layers)+1), layers...), form)
}

// looksLikeCMS reports whether data begins like ContentInfo: a SEQUENCE with an object identifier inside.
func looksLikeCMS(data []byte) bool {
	if len(data) < 2 || data[0] != 0x30 {
		return false
	}
	header := 2
	if data[1] > 0x80 {
		header += int(data[1] & 0x7f)
	}
	return header <= 2+8 && len(data) > header && data[header] == byte(ber.ObjectID)
}

// foreign are kinds of files that are taken for records by mistake.
var foreign = []struct{ magic, name string }{
	{"%PDF", "a PDF document"},
	{"PK\x03\x04", "a ZIP archive"},
	{"\x1f\x8b", "gzip data, which must be unpacked first"},
	{"\xff\xfe", "text in UTF-16, which is not read"},
	{"\xfe\xff", "text in UTF-16, which is not read"},
	{"\x30", "ASN.1, but no signed message"},
}

func describe(data []byte) string {
	for _, f := range foreign {
		if bytes.HasPrefix(data, []byte(f.magic)) {
			return "it looks like " + f.name
		}
	}
	return "it is neither ASN.1, PEM, base64, XML nor JSON"
}

// decodeBase64 decodes base64 with any white space in it.
func decodeBase64(text []byte) ([]byte, error) {
	text = bytes.TrimSpace(text)
	out := make([]byte, 0, base64.StdEncoding.DecodedLen(len(text)))
	if out, err := base64.StdEncoding.AppendDecode(out, text); err == nil {
		return out, nil // CR and LF are left out by the decoder
	}
	clean := make([]byte, 0, len(text))
	for _, c := range text {
		if valueClass[c] != classSpace {
			clean = append(clean, c)
		}
	}
	return base64.StdEncoding.AppendDecode(out[:0], clean)
}

// pemLabels are the labels of signed messages.
var pemLabels = map[string]bool{"CMS": true, "PKCS7": true, "PKCS #7 SIGNED DATA": true}

// openPEM reads blocks with the labels that signed messages have (RFC 7468 chapter 9).
func openPEM(text []byte, layers []Form) ([]Message, error) {
	var out []Message
	for {
		text = bytes.TrimLeft(text, " \t\r\n")
		if len(text) == 0 {
			return out, nil
		}
		rest, ok := bytes.CutPrefix(text, []byte("-----BEGIN "))
		label, rest, ok2 := bytes.Cut(rest, []byte("-----"))
		body, rest, ok3 := bytes.Cut(rest, []byte("-----END "+string(label)+"-----"))
		if !ok || !ok2 || !ok3 {
			return nil, fmt.Errorf("%w PEM", ErrMalformed)
		}
		if !pemLabels[strings.ToUpper(string(label))] {
			return nil, fmt.Errorf("%w: PEM with something else than a signed message", ErrUnknown)
		}
		data, err := decodeBase64(body)
		if err != nil {
			return nil, fmt.Errorf("%w PEM: base64", ErrMalformed)
		}
		if len(out) == MaxMessages {
			return nil, fmt.Errorf("%w: messages in one input", ErrLimit)
		}
		out = append(out, Message{Forms: with(with(layers, PEM), CMS), Data: data})
		text = rest
	}
}

// openFHIR finds the messages in a FHIR resource: Binaries at any place, and signatures of Bundles.
func openFHIR(data []byte, layers []Form, json bool) ([]Message, error) {
	f := finder{input: data, json: json}
	var err error
	if json {
		err = parseJSON(data, &f)
	} else {
		err = parseXML(data, &f, false)
	}
	if err != nil {
		return nil, err
	}
	var out []Message
	for _, c := range f.found {
		messages, err := c.open(with(layers, c.form(json)))
		if err != nil {
			return nil, err
		}
		for i := range messages {
			if messages[i].ID == "" {
				messages[i].ID = c.id
			}
			if c.bundle {
				messages[i].Outer = readCopy(data[c.from:c.to], json)
			}
		}
		if out = append(out, messages...); len(out) > MaxMessages {
			return nil, fmt.Errorf("%w: messages in one input", ErrLimit)
		}
	}
	if len(out) == 0 {
		return nil, ErrNoMessage
	}
	return out, nil
}

// carrier is a resource that may carry a message.
type carrier struct {
	bundle      bool // a Bundle with signature; otherwise a Binary
	id          string
	contentType string
	data        []byte
	has         bool
	from, to    int // place of the resource in the input

	// Of a scanner, when the data was too long to be held: what came of it.
	streamed bool
	big      *Message
	problem  error
}

// claimed reports whether the resource says that it carries a signed message.
func (c *carrier) claimed() bool {
	return strings.Contains(c.contentType, "pkcs7") || c.bundle && c.contentType == ""
}

// form is the layer that the resource is.
func (c *carrier) form(json bool) Form {
	switch {
	case c.bundle && json:
		return JSONSignature
	case c.bundle:
		return XMLSignature
	case json:
		return JSONBinary
	}
	return XMLBinary
}

// open takes the messages out of the data. Data that neither claims to be a message nor looks like one gives none.
func (c *carrier) open(layers []Form) ([]Message, error) {
	decoded, err := decodeBase64(c.data)
	if err == nil && !looksLikeCMS(decoded) {
		// Twice base64, or base64 of something else that carries messages.
		if messages, err := open(decoded, layers); err == nil {
			return messages, nil
		}
	}
	if err == nil && (looksLikeCMS(decoded) || c.claimed()) {
		return []Message{{Forms: with(layers, CMS), Data: decoded}}, nil
	}
	if err != nil && c.claimed() {
		return nil, fmt.Errorf("%w FHIR: data of resource %q is not base64", ErrMalformed, c.id)
	}
	return nil, nil
}

// finder is the handler that looks for carriers.
type finder struct {
	input []byte
	json  bool
	names [MaxDepth + 1]string // open elements as far as they matter, "" for others
	open  []carrier            // Bundles and Binaries that are open, from the outside to the inside
	depth []int                // their depths
	level int
	found []carrier
}

// elements are the names that matter to the finder, so that comparing them needs no memory.
var elements = []string{"Bundle", "Binary", "data", "contentType", "sigFormat", "signature", "id"}

func (f *finder) start(name []byte, offset int) bool {
	known := ""
	for _, e := range elements {
		if e == string(name) {
			known = e
			break
		}
	}
	if f.level >= len(f.names) {
		f.level++
		return false
	}
	f.names[f.level] = known
	f.level++
	if known == "Bundle" || known == "Binary" {
		f.open = append(f.open, carrier{bundle: known == "Bundle", from: offset})
		f.depth = append(f.depth, f.level)
	}
	return true
}

func (f *finder) url([]byte) {}

func (f *finder) value(v []byte) {
	if len(f.open) == 0 || f.level > len(f.names) {
		return
	}
	c := &f.open[len(f.open)-1]
	name, below := f.names[f.level-1], f.level-f.depth[len(f.depth)-1]
	switch {
	case below == 1 && name == "id":
		c.id = string(v)
	case below == 1 && name == "contentType" && !c.bundle:
		c.contentType = string(v)
	case below == 1 && name == "data" && !c.bundle, below == 2 && name == "data" && c.bundle && f.names[f.level-2] == "signature":
		c.data, c.has = v, true
	case below == 2 && name == "sigFormat" && c.bundle && f.names[f.level-2] == "signature":
		c.contentType = string(v)
	}
}

func (f *finder) end(offset int) {
	if last := len(f.depth) - 1; last >= 0 && f.depth[last] == f.level {
		c := f.open[last]
		c.to = offset
		f.open, f.depth = f.open[:last], f.depth[:last]
		if c.has {
			f.found = append(f.found, c)
		}
	}
	f.level--
}
