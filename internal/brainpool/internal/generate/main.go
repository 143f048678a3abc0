// Command generate writes the arithmetic of the three curves, curve_p256.go and its siblings: one template for the group
// law and ECDSA, unrolled code with the modulus as constants for the numbers modulo the field's prime and modulo the
// order. Run it by go generate in the directory of package brainpool; a test there tells when the files are not up to date.
package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"go/format"
	"math/big"
	"os"
	"strings"
	"text/template"

	"ktradv/internal/brainpool/internal/rfc5639"
)

//go:embed curve.go.tmpl
var source string

func main() {
	for i := range rfc5639.Domains {
		file, content, err := generate(&rfc5639.Domains[i])
		if err == nil {
			err = os.WriteFile(file, content, 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "generate:", err)
			os.Exit(1)
		}
	}
}

// generate returns the file of one curve and its name.
func generate(d *rfc5639.Domain) (file string, content []byte, err error) {
	tmpl, err := template.New("curve.go.tmpl").Funcs(templateFuncs).Parse(source)
	if err != nil {
		return "", nil, err
	}
	g := newGenerated(d)
	var out bytes.Buffer
	if err := tmpl.Execute(&out, g); err != nil {
		return "", nil, err
	}
	content, err = format.Source(out.Bytes())
	return "curve_" + g.Prefix + ".go", content, err
}

// generated is what curve.go.tmpl is executed with.
type generated struct {
	Curve, Prefix, Upper string
	Limbs, Bits          int
	Moduli               []generatedModulus
}

type generatedModulus struct {
	Curve, Type, What       string
	Limbs, Bits             int
	Modulus, Less2, One, RR string
	words                   []uint64
	m0                      uint64 // -1/modulus mod 2^64
}

func words(v *big.Int, n int) []uint64 {
	out := make([]uint64, n)
	for i := range out {
		out[i] = new(big.Int).Rsh(v, uint(64*i)).Uint64()
	}
	return out
}

func list(v *big.Int, n int) string {
	var s []string
	for _, w := range words(v, n) {
		s = append(s, fmt.Sprintf("%#016x", w))
	}
	return strings.Join(s, ", ")
}

func newGenerated(d *rfc5639.Domain) generated {
	short := strings.TrimSuffix(strings.TrimPrefix(d.Name, "brainpool"), "r1") // P256
	g := generated{Curve: d.Name, Prefix: strings.ToLower(short), Upper: short, Bits: 4 * len(d.P), Limbs: len(d.P) / 16}
	for _, m := range []struct{ kind, what, hex string }{{"Field", "field's prime", d.P}, {"Scalar", "group order", d.N}} {
		v, _ := new(big.Int).SetString(m.hex, 16)
		r := new(big.Int).Lsh(big.NewInt(1), uint(g.Bits))
		r.Mod(r, v)
		rr := new(big.Int).Mul(r, r)
		rr.Mod(rr, v)
		word := new(big.Int).Lsh(big.NewInt(1), 64)
		inv := new(big.Int).ModInverse(v, word)
		g.Moduli = append(g.Moduli, generatedModulus{
			Curve: d.Name, Type: g.Prefix + m.kind, What: m.what, Limbs: g.Limbs, Bits: g.Bits,
			Modulus: list(v, g.Limbs), Less2: list(new(big.Int).Sub(v, big.NewInt(2)), g.Limbs), One: list(r, g.Limbs), RR: list(rr, g.Limbs),
			words: words(v, g.Limbs), m0: new(big.Int).Sub(word, inv).Uint64(),
		})
	}
	return g
}

// code collects lines of Go.
type code struct{ bytes.Buffer }

func (c *code) line(format string, args ...any) { fmt.Fprintf(c, format+"\n", args...) }

// chain writes an addition or subtraction of numbers of n limbs: dst, carry = op(a, b, carry).
func (c *code) chain(op, carry string, n int, line func(i int) (dst, a, b string)) {
	in := "0"
	for i := range n {
		dst, a, b := line(i)
		c.line("%s, %s = bits.%s(%s, %s, %s)", dst, carry, op, a, b, in)
		in = carry
	}
}

func declare(prefix string, n int) string {
	var s []string
	for i := range n {
		s = append(s, fmt.Sprintf("%s%d", prefix, i))
	}
	return strings.Join(s, ", ")
}

func name(prefix string, i int) string { return fmt.Sprintf("%s%d", prefix, i) }

// row writes the product of one limb and a number as l0..l(n-1), h(n-1), starting with the limb from.
func (c *code) row(n, from int, factor string, number func(i int) string) {
	for i := from; i < n; i++ {
		c.line("h%d, l%d = bits.Mul64(%s, %s)", i, i, factor, number(i))
	}
	in := "0"
	for i := from + 1; i < n; i++ {
		c.line("l%d, c = bits.Add64(l%d, h%d, %s)", i, i, i-1, in)
		in = "c"
	}
	if n-from > 1 {
		c.line("h%d += c", n-1)
	}
}

// subtractOnce writes the final reduction of t0..tn into z.
func (c *code) subtractOnce(m generatedModulus, limb func(i int) string, top string) {
	n := m.Limbs
	c.line("var %s uint64", declare("d", n))
	c.chain("Sub64", "c", n, func(i int) (string, string, string) { return name("d", i), limb(i), fmt.Sprintf("%#x", m.words[i]) })
	c.line("_, c = bits.Sub64(%s, 0, c)", top)
	c.line("keep := -c")
	for i := range n {
		c.line("z[%d] = d%d ^ (d%d^%s)&keep", i, i, i, limb(i))
	}
}

func writeMul(m generatedModulus) string {
	var c code
	n := m.Limbs
	c.line("var c, q, %s uint64", declare("t", n+1))
	c.line("var %s uint64", declare("h", n))
	c.line("var %s uint64", declare("l", n))
	for i := range n {
		c.row(n, 0, fmt.Sprintf("x[%d]", i), func(j int) string { return fmt.Sprintf("y[%d]", j) })
		if i == 0 {
			for j := range n {
				c.line("t%d = l%d", j, j)
			}
			c.line("t%d = h%d", n, n-1)
		} else {
			c.chain("Add64", "c", n, func(j int) (string, string, string) { return name("t", j), name("t", j), name("l", j) })
			c.line("t%d += h%d + c", n, n-1)
		}
		c.line("q = t0 * %#x", m.m0)
		c.row(n, 0, "q", func(j int) string { return fmt.Sprintf("%#x", m.words[j]) })
		c.chain("Add64", "c", n, func(j int) (string, string, string) {
			if j == 0 {
				return "_", "t0", "l0"
			}
			return name("t", j-1), name("t", j), name("l", j)
		})
		c.line("t%d, t%d = bits.Add64(t%d, h%d, c)", n-1, n, n, n-1)
	}
	c.subtractOnce(m, func(i int) string { return name("t", i) }, name("t", n))
	return c.String()
}

// writeSqr makes the products of different limbs once, doubles them, adds the squares and reduces at the end.
func writeSqr(m generatedModulus) string {
	var c code
	n := m.Limbs
	c.line("var c, q, e, %s uint64", declare("t", 2*n))
	c.line("var %s uint64", declare("h", n))
	c.line("var %s uint64", declare("l", n))
	for i := range n - 1 {
		c.row(n, i+1, fmt.Sprintf("x[%d]", i), func(j int) string { return fmt.Sprintf("x[%d]", j) })
		if i == 0 {
			for j := 1; j < n; j++ {
				c.line("t%d = l%d", j, j)
			}
			c.line("t%d = h%d", n, n-1)
			continue
		}
		c.chain("Add64", "c", n-1-i, func(k int) (string, string, string) {
			return name("t", 2*i+1+k), name("t", 2*i+1+k), name("l", i+1+k)
		})
		c.line("t%d = h%d + c", i+n, n-1)
	}
	c.line("t%d = t%d >> 63", 2*n-1, 2*n-2)
	for k := 2*n - 2; k > 1; k-- {
		c.line("t%d = t%d<<1 | t%d>>63", k, k, k-1)
	}
	c.line("t1 <<= 1")
	for j := range n {
		c.line("h%d, l%d = bits.Mul64(x[%d], x[%d])", j, j, j, j)
	}
	c.line("t0 = l0")
	c.chain("Add64", "c", 2*n-1, func(k int) (string, string, string) {
		return name("t", k+1), name("t", k+1), name([]string{"h", "l"}[k%2], (k+1)/2)
	})
	for i := range n {
		c.line("q = t%d * %#x", i, m.m0)
		c.row(n, 0, "q", func(j int) string { return fmt.Sprintf("%#x", m.words[j]) })
		c.chain("Add64", "c", n, func(j int) (string, string, string) {
			if j == 0 {
				return "_", name("t", i), "l0"
			}
			return name("t", i+j), name("t", i+j), name("l", j)
		})
		c.line("h%d += c", n-1)
		c.line("t%d, e = bits.Add64(t%d, h%d, e)", i+n, i+n, n-1)
	}
	c.subtractOnce(m, func(i int) string { return name("t", n+i) }, "e")
	return c.String()
}

func writeAdd(m generatedModulus) string {
	var c code
	n := m.Limbs
	c.line("var c, e, %s uint64", declare("t", n))
	c.chain("Add64", "e", n, func(i int) (string, string, string) {
		return name("t", i), fmt.Sprintf("x[%d]", i), fmt.Sprintf("y[%d]", i)
	})
	c.subtractOnce(m, func(i int) string { return name("t", i) }, "e")
	return c.String()
}

func writeSub(m generatedModulus) string {
	var c code
	n := m.Limbs
	c.line("var c, %s uint64", declare("t", n))
	c.chain("Sub64", "c", n, func(i int) (string, string, string) {
		return name("t", i), fmt.Sprintf("x[%d]", i), fmt.Sprintf("y[%d]", i)
	})
	c.line("borrowed := -c")
	c.chain("Add64", "c", n, func(i int) (string, string, string) {
		return fmt.Sprintf("z[%d]", i), name("t", i), fmt.Sprintf("%#x&borrowed", m.words[i])
	})
	return strings.Replace(c.String(), fmt.Sprintf("z[%d], c =", n-1), fmt.Sprintf("z[%d], _ =", n-1), 1)
}

func writeHalf(m generatedModulus) string {
	var c code
	n := m.Limbs
	c.line("var c, %s uint64", declare("t", n))
	c.line("odd := -(x[0] & 1)")
	c.chain("Add64", "c", n, func(i int) (string, string, string) {
		return name("t", i), fmt.Sprintf("x[%d]", i), fmt.Sprintf("%#x&odd", m.words[i])
	})
	for i := range n - 1 {
		c.line("z[%d] = t%d>>1 | t%d<<63", i, i, i+1)
	}
	c.line("z[%d] = t%d>>1 | c<<63", n-1, n-1)
	return c.String()
}

// index is a limb of a variable.
func index(v string, i int) string { return fmt.Sprintf("%s[%d]", v, i) }

var templateFuncs = template.FuncMap{
	"mul": writeMul, "sqr": writeSqr, "add": writeAdd, "sub": writeSub, "half": writeHalf,
	"difference": func(m generatedModulus) string {
		var c code
		c.line("var borrow uint64")
		c.chain("Sub64", "borrow", m.Limbs, func(i int) (string, string, string) { return index("d", i), index("u", i), index("v", i) })
		return c.String()
	},
	"plainAdd": func(m generatedModulus, z, x string) string {
		var c code
		c.line("var carry uint64")
		c.chain("Add64", "carry", m.Limbs, func(i int) (string, string, string) { return index(z, i), index(z, i), index(x, i) })
		return strings.Replace(c.String(), index(z, m.Limbs-1)+", carry =", index(z, m.Limbs-1)+", _ =", 1)
	},
	"negate": func(m generatedModulus, z, x string) string {
		var c code
		c.line("var under uint64")
		c.chain("Sub64", "under", m.Limbs, func(i int) (string, string, string) { return index(z, i), "0", index(x, i) })
		return strings.Replace(c.String(), index(z, m.Limbs-1)+", under =", index(z, m.Limbs-1)+", _ =", 1)
	},
	"shift": func(m generatedModulus) string {
		var c code
		n := m.Limbs
		for i := range n - 1 {
			c.line("u[%d] = u[%d]>>t | u[%d]<<(64-t)", i, i, i+1)
		}
		c.line("u[%d] >>= t", n-1)
		for i := n - 1; i > 0; i-- {
			c.line("s[%d] = s[%d]<<t | s[%d]>>(64-t)", i, i, i-1)
		}
		c.line("s[0] <<= t")
		return c.String()
	},
	"pickAffine": func(g generated) string { return writePick(g, "x", "y") },
	"pickPoint":  func(g generated) string { return writePick(g, "x", "y", "z") },
}

func writePick(g generated, coordinates ...string) string {
	var c code
	for _, v := range coordinates {
		for i := range g.Limbs {
			c.line("r.%s[%d] |= t.%s[%d] & mask", v, i, v, i)
		}
	}
	return c.String()
}
