package xmlsig

import (
	"cmp"
	"slices"
)

// canonicalizer writes exclusive canonical XML 1.0 without comments (xml-exc-c14n).
type canonicalizer struct {
	out      []byte
	rendered []declaration // what the open elements of the output declare, inner ones last
	without  *Node         // left out, with everything in it
}

// Canonical returns the document in canonical form, without the element given (nil: all of it): the input of a digest whose
// reference is the whole document with an enveloped signature.
func (d *Document) Canonical(without *Node) []byte {
	c := &canonicalizer{without: without}
	for _, n := range d.before {
		c.instruction(n)
		c.out = append(c.out, '\n')
	}
	c.element(d.Root)
	for _, n := range d.after {
		c.out = append(c.out, '\n')
		c.instruction(n)
	}
	return c.out
}

// Canonical returns the element with everything in it in canonical form, as the digest of a reference to it has it.
func (n *Node) Canonical() []byte {
	c := &canonicalizer{}
	c.element(n)
	return c.out
}

func (c *canonicalizer) instruction(n *Node) {
	c.out = append(c.out, "<?"...)
	c.out = append(c.out, n.Local...)
	if n.data != "" {
		c.out = append(c.out, ' ')
		for i := range len(n.data) {
			if n.data[i] == '\r' {
				c.out = append(c.out, "&#xD;"...)
			} else {
				c.out = append(c.out, n.data[i])
			}
		}
	}
	c.out = append(c.out, "?>"...)
}

// element writes n. The depth is bounded by the reader.
func (c *canonicalizer) element(n *Node) {
	if n == c.without {
		return
	}
	mark := len(c.rendered)
	c.out = append(c.out, '<')
	c.name(n.prefix, n.Local)

	var use []declaration
	visible := func(prefix, space string) {
		if prefix == "xml" || c.isRendered(prefix, space) {
			return
		}
		for _, u := range use {
			if u.prefix == prefix {
				return
			}
		}
		use = append(use, declaration{prefix, space})
	}
	visible(n.prefix, n.Space)
	for _, a := range n.Attributes {
		if a.prefix != "" {
			visible(a.prefix, a.Space)
		}
	}
	slices.SortFunc(use, func(a, b declaration) int { return cmp.Compare(a.prefix, b.prefix) })
	for _, u := range use {
		if u.prefix == "" {
			c.out = append(c.out, " xmlns"...)
		} else {
			c.out = append(append(c.out, " xmlns:"...), u.prefix...)
		}
		c.value(u.space)
	}
	c.rendered = append(c.rendered, use...)

	attributes := n.Attributes
	if len(attributes) > 1 {
		attributes = slices.Clone(attributes)
		slices.SortFunc(attributes, func(a, b Attribute) int {
			return cmp.Or(cmp.Compare(a.Space, b.Space), cmp.Compare(a.Local, b.Local))
		})
	}
	for _, a := range attributes {
		c.out = append(c.out, ' ')
		c.name(a.prefix, a.Local)
		c.value(a.Value)
	}
	c.out = append(c.out, '>')
	for _, child := range n.children {
		switch child.kind {
		case element:
			c.element(child)
		case text:
			c.text(child.data)
		case instruction:
			c.instruction(child)
		}
	}
	c.out = append(c.out, "</"...)
	c.name(n.prefix, n.Local)
	c.out = append(c.out, '>')
	c.rendered = c.rendered[:mark]
}

// isRendered reports whether an open element of the output gives the prefix that meaning already; the default namespace
// means nothing before it is declared.
func (c *canonicalizer) isRendered(prefix, space string) bool {
	for i := len(c.rendered) - 1; i >= 0; i-- {
		if c.rendered[i].prefix == prefix {
			return c.rendered[i].space == space
		}
	}
	return prefix == "" && space == ""
}

func (c *canonicalizer) name(prefix, local string) {
	if prefix != "" {
		c.out = append(append(c.out, prefix...), ':')
	}
	c.out = append(c.out, local...)
}

// value writes ="..." of an attribute.
func (c *canonicalizer) value(s string) {
	c.out = append(c.out, `="`...)
	for i := range len(s) {
		switch s[i] {
		case '&':
			c.out = append(c.out, "&amp;"...)
		case '<':
			c.out = append(c.out, "&lt;"...)
		case '"':
			c.out = append(c.out, "&quot;"...)
		case '\t':
			c.out = append(c.out, "&#x9;"...)
		case '\n':
			c.out = append(c.out, "&#xA;"...)
		case '\r':
			c.out = append(c.out, "&#xD;"...)
		default:
			c.out = append(c.out, s[i])
		}
	}
	c.out = append(c.out, '"')
}

func (c *canonicalizer) text(s string) {
	start := 0
	for i := range len(s) {
		var escape string
		switch s[i] {
		case '&':
			escape = "&amp;"
		case '<':
			escape = "&lt;"
		case '>':
			escape = "&gt;"
		case '\r':
			escape = "&#xD;"
		default:
			continue
		}
		c.out = append(append(c.out, s[start:i]...), escape...)
		start = i + 1
	}
	c.out = append(c.out, s[start:]...)
}
