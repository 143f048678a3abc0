//go:build vm

package vm

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"image"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/encoding/charmap"

	"ktradv/hw/sim/card"
	"ktradv/hw/sim/persona"
	simreader "ktradv/hw/sim/reader"
	"ktradv/internal/memscan"
	"ktradv/internal/req"
	"ktradv/qemu/machine"
	"ktradv/tests/demo/appliance"
)

// canary is a person whose data occur nowhere else, and the person's card.
func canary(t *testing.T) (*persona.Persona, *card.Card) {
	t.Helper()
	p, err := persona.Find(healthy)
	if err != nil {
		t.Fatal(err)
	}
	p.ICCSN = "80276003110000073519"
	p.Insurance.Begin, p.Protected.Until = "19571113", "20981107"
	p.Person = persona.Person{
		KVNR: "X765432107", Birth: "19311107", Given: "Zäzilie Quendolin", Surname: "Žwirnfähnchen-Ÿpsilon", Sex: "D",
		Address: &persona.Address{Zip: "90217", City: "Kanariengrün", Country: "D", Street: "Vogelflüsterweg", Number: "4711q"},
	}
	c, err := p.Card(world.PKI, time.Now(), card.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return p, c
}

// secret is something that must not be found, and the octets by which it is found.
type secret struct {
	what    string
	pattern []byte
}

// forms are the spellings in which a text may lie in memory.
func forms(what, text string) []secret {
	wide := func(big bool) (b []byte) {
		for _, u := range utf16.Encode([]rune(text)) {
			if big {
				b = append(b, byte(u>>8), byte(u))
			} else {
				b = append(b, byte(u), byte(u>>8))
			}
		}
		return b
	}
	out := []secret{{what + ", UTF-8", []byte(text)}, {what + ", UTF-16LE", wide(false)}, {what + ", UTF-16BE", wide(true)}}
	if latin, err := charmap.ISO8859_15.NewEncoder().Bytes([]byte(text)); err == nil && string(latin) != text {
		out = append(out, secret{what + ", ISO 8859-15", latin})
	}
	return out
}

// wide tells that a secret is spelled in a form that nothing in the terminal writes. It is searched for all the same;
// that it would be found shows TestScan alone.
func (s secret) wide() bool { return strings.Contains(s.what, "UTF-16") }

// found tells whether a search has found one of some secrets.
func found(some []secret, in map[string]string) bool {
	return slices.ContainsFunc(some, func(s secret) bool { return in[s.what] != "" })
}

// secrets of a person and a card.
func secrets(t *testing.T, p *persona.Persona, c *card.Card) (out []secret) {
	t.Helper()
	out = append(out, forms("surname", p.Person.Surname)...)
	out = append(out, forms("given name", p.Person.Given)...)
	out = append(out, forms("street", p.Person.Address.Street)...)
	out = append(out, forms("KVNR", p.Person.KVNR)...)
	out = append(out, forms("ICCSN", p.ICCSN)...)
	bcd, err := hex.DecodeString(p.ICCSN)
	if err != nil {
		t.Fatal(err)
	}
	out = append(out, secret{"ICCSN, BCD", bcd})
	// The insured data as they lie on the card, and unpacked: pieces of 24 octets of each, since they travel in pieces.
	c.View(func(s *card.System) {
		for _, f := range []struct{ name, mark string }{{"PD", p.Person.KVNR}, {"VD", p.Insurance.Begin}, {"GVD", p.Protected.Until}} {
			file, ok := s.Root.Lookup("MF/DF.HCA/EF." + f.name).(*card.File)
			if !ok {
				t.Errorf("the card has no EF.%s", f.name)
				continue
			}
			marked := false
			for packed := file.Body; ; packed = packed[16:] {
				i := bytes.Index(packed, []byte{0x1F, 0x8B, 0x08})
				if i < 0 {
					break
				}
				packed = packed[i:]
				z, err := gzip.NewReader(bytes.NewReader(packed))
				if err != nil {
					t.Errorf("EF.%s: %v", f.name, err)
					return
				}
				z.Multistream(false)
				plain, err := io.ReadAll(z)
				if err != nil {
					t.Errorf("EF.%s: %v", f.name, err)
					return
				}
				for at := 32; at+24 < len(packed) && at < 2000 && !zero(packed[at:at+24]); at += 96 {
					out = append(out, secret{fmt.Sprintf("%s%s at %d", compressed, f.name, at), bytes.Clone(packed[at : at+24])})
				}
				if i := bytes.Index(plain, []byte(f.mark)); i > 8 && !marked {
					out = append(out, secret{plainVSD + f.name, bytes.Clone(plain[i-8 : i+16])})
					marked = true
				}
			}
			if !marked {
				t.Errorf("EF.%s: %s is not in it", f.name, f.mark)
			}
		}
	})
	return out
}

// The insured data in their two forms; the name of the file follows.
const (
	compressed = "compressed VSD, EF."
	plainVSD   = "plain VSD, EF."
)

func zero(b []byte) bool { return strings.Trim(string(b), "\x00") == "" }

// pinBlock is the format-2 block of the PIN.
var pinBlock = secret{"PIN block", []byte{0x26, 0x12, 0x34, 0x56, 0xFF, 0xFF, 0xFF, 0xFF}}

// dump copies the guest's memory and searches it. It returns which secrets are in it, with the place of each.
func (r *run) dump(name string, want []secret) map[string]string {
	r.t.Helper()
	file := filepath.Join(r.t.TempDir(), "memory")
	r.must(r.Dump(r.ctx, file))
	f, err := os.Open(file)
	r.must(err)
	defer f.Close()
	fi, err := f.Stat()
	r.must(err)
	if fi.Size() < 128<<20 {
		r.t.Fatalf("the dump has %d octets only", fi.Size())
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, int(fi.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	r.must(err)
	defer syscall.Munmap(m)
	found := map[string]string{}
	scan(m, want, func(s secret, at int) {
		found[s.what] += fmt.Sprintf(" %#x", at)
		if os.Getenv("VM_CONTEXT") != "" { // for who looks for the holder of a copy
			r.t.Logf("%s at %#x: %q", s.what, at, m[max(0, at-96):min(len(m), at+96)])
		}
	})
	r.note("memory searched %s: %d octets, %d of %d patterns found", name, len(m), len(found), len(want))
	os.Remove(file)
	return found
}

// scan searches memory for all patterns at once. None may begin with two zeros: empty pages are passed over.
func scan(m []byte, want []secret, hit func(s secret, at int)) {
	// Where two octets begin some pattern, those patterns are compared.
	var first [1 << 16][]int
	for i, s := range want {
		k := int(s.pattern[0])<<8 | int(s.pattern[1])
		first[k] = append(first[k], i)
	}
	const page = 4096
	empty := make([]byte, page)
	for at := 0; at+1 < len(m); at++ {
		if at%page == 0 && at+page+1 < len(m) && m[at+page-1] == 0 && bytes.Equal(m[at:at+page], empty) && m[at+page] == 0 {
			at += page - 1
			continue
		}
		for _, i := range first[int(m[at])<<8|int(m[at+1])] {
			if bytes.HasPrefix(m[at:], want[i].pattern) {
				hit(want[i], at)
			}
		}
	}
}

// TestScan finds patterns wherever they lie, at the borders of empty pages too, and a text in each of its spellings.
func TestScan(t *testing.T) {
	m := make([]byte, 5*4096)
	want := []secret{{"a", []byte("\x00canary")}, {"b", []byte("needle")}, {"c", []byte("x\x00\x00z")}}
	places := map[string][]int{"a": {4095, 9000}, "b": {0, 8190, len(m) - 6}, "c": {4090 + 4096*2}}
	spellings := forms("name", "Žwirnfähnchen-Ÿpsilon")
	for i, s := range spellings {
		places[s.what] = []int{1001 + 100*i, 4096*4 - 7 - 60*i}
	}
	if len(spellings) != 4 {
		t.Errorf("%d spellings", len(spellings))
	}
	want = append(want, spellings...)
	for _, s := range want {
		for _, at := range places[s.what] {
			copy(m[at:], s.pattern)
		}
	}
	got := map[string][]int{}
	scan(m, want, func(s secret, at int) { got[s.what] = append(got[s.what], at) })
	if diff := cmp.Diff(places, got); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]string{
		"name, UTF-8": "\xC5\xBDw", "name, UTF-16LE": "\x7D\x01w\x00", "name, UTF-16BE": "\x01\x7D\x00w", "name, ISO 8859-15": "\xB4w",
	} {
		if !slices.ContainsFunc(spellings, func(s secret) bool { return s.what == text && bytes.HasPrefix(s.pattern, []byte(want)) }) {
			t.Errorf("%s does not begin with %x", text, want)
		}
	}
}

// pixels are pieces of lines of the data on a page that are on none of the other pictures: as they lie in a frame buffer,
// and as they lie in the renderer's memory.
func pixels(t *testing.T, page *image.RGBA, others ...*image.RGBA) (out []secret) {
	t.Helper()
	const width = 32
	for y := 150; y < 640 && len(out) < 80; y += 3 {
		for x := 40; x+width < 1200; x += width {
			colours := map[uint32]bool{}
			var rgba, bgrx, bgra []byte
			for i := range width {
				p := page.RGBAAt(x+i, y)
				colours[uint32(p.R)<<16|uint32(p.G)<<8|uint32(p.B)] = true
				rgba = append(rgba, p.R, p.G, p.B, 0xFF)
				bgrx = append(bgrx, p.B, p.G, p.R, 0x00)
				bgra = append(bgra, p.B, p.G, p.R, 0xFF)
			}
			row := image.Rect(x, y, x+width, y+1)
			if len(colours) < 14 || slices.ContainsFunc(others, func(o *image.RGBA) bool { return same(page, o, row) }) {
				continue
			}
			for _, b := range [][]byte{rgba, bgrx, bgra} {
				out = append(out, secret{fmt.Sprintf("pixels, line %d", y), b})
			}
			break // one piece of a line
		}
	}
	if len(out) < 15 {
		t.Fatalf("only %d pieces of the page of data are distinctive", len(out))
	}
	return out
}

// video searches the machine itself, which holds the memory of the display adapter.
func (r *run) video(want []secret) (hits int) {
	r.t.Helper()
	var patterns [][]byte
	for i, s := range want {
		if i%9 < 3 { // every third line is enough: each pattern is a search of its own
			patterns = append(patterns, s.pattern)
		}
	}
	res, err := memscan.Process(r.PID(), patterns...)
	r.must(err)
	if res.Octets < 128<<20 {
		r.t.Fatalf("only %d octets of the machine were read", res.Octets)
	}
	return len(res.Hits)
}

// live are forms that the kiosk holds as long as it shows the page of data.
var live = []string{"surname, UTF-8", "given name, UTF-8", "street, UTF-8", "KVNR, UTF-8", "ICCSN, UTF-8", "ICCSN, BCD"}

// small is a machine with little memory, which is searched sooner.
func small(c *machine.Config) { c.MemoryMB = 256 }

// forgotten searches memory and display adapter after a visit, when the next person may come. The processes that served end
// while the neutral screen comes: a machine that was caught in that moment is searched once more. What nobody has let go of
// by then, nobody lets go of later.
func (r *run) forgotten(after string, what, pix []secret) {
	r.t.Helper()
	all := append(slices.Clone(what), pix...)
	left := r.dump("after "+after, all)
	if len(left) > 0 {
		time.Sleep(3 * time.Second)
		left = r.dump("a moment later", all)
	}
	for what, at := range left {
		r.t.Errorf("after %s the memory holds: %s at%s", after, what, at)
	}
	if len(pix) == 0 {
		return
	}
	if n := r.video(pix); n != 0 {
		r.t.Errorf("after %s pixels of the page of data are %d times in the machine", after, n)
	}
}

// The functions of the kiosk at which the insured data lie in its memory: as they were on the card, all three files; and
// in the clear, one document after the other.
const (
	decompress = "ktradv/hw/vsd.decompress"
	parse      = "ktradv/hw/vsd.document.parse"
)

// TestMemory searches the whole memory of the guest for the insured person: during the visit the search finds name, numbers,
// insured data in every form in which the terminal holds them, and pixels; after it nothing, whether the person ends the
// visit or just pulls the card.
func TestMemory(t *testing.T) {
	req.Covers(t, "AdV-A_2407", "AdV-A_2409", "AdV-A_2499", "AdV-A_2562") // what is never in the terminal goes from pad to card only
	entries, _ := addresses(t, decompress, parse)
	r := boot(t, appliance.Options{Change: small})
	empty := r.shows("neutral")
	r.touchable()
	p, c := canary(t)
	what := append(secrets(t, p, c), pinBlock)
	r.put(c, "the canary")
	r.follow("menu")
	menu := r.shows("menu")

	// The negative twin: each form has to be found where the terminal must hold it.
	during := map[string]string{}
	look := func(name string, want []secret) {
		for what, at := range r.dump(name, want) {
			during[what] += at
		}
	}
	stub := r.stopsAt(entries[decompress], func() { r.tap("menu", showData) })
	look("with the data as on the card", what)
	for i, name := range []string{"PD", "VD", "GVD"} {
		if i > 0 {
			r.at(stub, entries[decompress], func() {})
		}
		r.at(stub, entries[parse], func() {})
		look("with EF."+name+" in the clear", what)
		if during[plainVSD+name] == "" {
			t.Errorf("EF.%s: not found where it is in the clear", name)
		}
	}
	r.must(stub.Close())
	data := r.shows("data")
	pix := pixels(t, data, empty, menu)
	look("with the page of data", append(slices.Clone(what), pix...))
	for _, s := range what {
		name, _, pieces := strings.Cut(strings.TrimPrefix(s.what, compressed), " ")
		switch {
		case s.what == pinBlock.what:
			if at := during[s.what]; at != "" {
				t.Errorf("the PIN block is in the memory:%s", at)
			}
		case s.wide():
		case pieces && strings.HasPrefix(s.what, compressed) && found(slices.DeleteFunc(slices.Clone(what), func(o secret) bool { return !strings.HasPrefix(o.what, compressed+name+" ") }), during):
		case during[s.what] == "":
			t.Errorf("%s: not found during the session, so that not finding it afterwards would prove nothing", s.what)
		}
	}
	if !found(pix, during) || r.video(pix) == 0 {
		t.Error("pixels of the page of data are not found in the machine while it shows them")
	}

	r.tap("data", end)
	r.shows("take_card")
	r.remove()
	r.shows("neutral")
	r.forgotten("the visit", what, pix)

	r.put(c, "the canary")
	r.follow("data")
	r.remove()
	r.shows("neutral")
	r.forgotten("the card was pulled", what, pix)
	n := r.off()
	for _, s := range what {
		if bytes.Contains(n.raw, s.pattern) {
			t.Errorf("the data partition holds: %s", s.what)
		}
	}
}

// judge is the function of the kiosk that gets a reader's answer to a PIN entry.
const judge = "ktradv/hw/reader.judge"

// TestEcho is a reader that gives away the PIN: the terminal refuses to go on, says so, notes it as a security event, and
// keeps nothing of it.
func TestEcho(t *testing.T) {
	req.Covers(t, "AdV-A_2435", "AdV-A_2504", "AdV-A_2499")
	entries, _ := addresses(t, judge)
	r := boot(t, appliance.Options{Change: small})
	r.shows("neutral")
	r.Reader().SetFailures(simreader.Failures{EchoPIN: true})
	r.insert(healthy)
	// The negative twin: the reader's answer is in the kiosk's memory, not judged yet.
	stub := r.stopsAt(entries[judge], func() { r.pin(pin) })
	if during := r.dump("with the reader's answer", []secret{pinBlock}); len(during) == 0 {
		t.Error("the PIN block is not found where the reader's answer holds it, so that not finding it afterwards would prove nothing")
	}
	r.must(stub.Close())
	r.problem("PIN-READER-LEAK")
	r.remove()
	r.shows("neutral")
	r.forgotten("the session", []secret{pinBlock}, nil)
	n := r.off()
	if bytes.Contains(n.raw, pinBlock.pattern) || bytes.Contains(n.raw, []byte("26123456")) {
		t.Error("the PIN is in the logs")
	}
	r.logged(n, map[string]string{"component": "adv-app", "log": "security", "text": "PIN-READER-LEAK", "result": "refused"})
}
