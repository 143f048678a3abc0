package visit

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/encoding/charmap"

	"ktradv/hw/sim/persona"
	"ktradv/internal/advlog"
	"ktradv/internal/req"
	"ktradv/kiosk/session"
	"ktradv/kiosk/view"
	"ktradv/server/api"
)

// canary is a person whose data occur nowhere else.
func canary(p *persona.Persona) {
	p.ICCSN = "80276003110000090210"
	p.Person = persona.Person{
		KVNR: "X987654328", Birth: "19311107", Given: "Zäzilie Quendolin", Surname: "Žwirnfähnchen-Ÿpsilon", Sex: "D",
		NameParticle: "opm", NameAffix: "Baronesse-Kanarie", Title: "Dr. canar.",
		Address: &persona.Address{Zip: "90217", City: "Kanariengrün", Country: "D", Street: "Vogelflüsterweg", Number: "4711q", Extra: "Käfig-Süd"},
		POBox:   &persona.Address{Zip: "90218", City: "Käfigheim", Country: "D", Box: "Fach-8675309"},
	}
	p.Insurer.Name = "Kanarienkasse Tirili"
	p.Insurance = persona.Insurance{Begin: "20031213", End: "20991130", Kind: "1", WOP: "46"}
	p.Protected = persona.Protected{Exempt: "1", Until: "20981029", Group: "9", DMP: "57"}
}

// needle is something that must not be found.
type needle struct {
	name, text string
}

// needles are the texts of a persona that identify a person: all but codes of one or two letters, which stand everywhere.
func needles(p *persona.Persona) []needle {
	x := p.Person
	list := []needle{
		{"iccsn", p.ICCSN}, {"kvnr", x.KVNR}, {"given name", x.Given}, {"surname", x.Surname}, {"date of birth", x.Birth},
		{"name particle", x.NameParticle}, {"name affix", x.NameAffix}, {"title", x.Title}, {"insurer", p.Insurer.Name},
		{"begin of insurance", p.Insurance.Begin}, {"end of insurance", p.Insurance.End}, {"exempt until", p.Protected.Until},
	}
	for _, a := range []*persona.Address{x.Address, x.POBox} {
		if a != nil {
			list = append(list, needle{"zip", a.Zip}, needle{"city", a.City}, needle{"street", a.Street}, needle{"number", a.Number},
				needle{"address line", a.Extra}, needle{"box", a.Box})
		}
	}
	// Parts of names count, too; short words and numbers occur by chance.
	var out []needle
	for _, n := range list {
		for _, part := range append([]string{n.text}, strings.FieldsFunc(n.text, func(r rune) bool { return r == ' ' || r == '-' })...) {
			if len(part) >= 6 && !slices.ContainsFunc(out, func(o needle) bool { return o.text == part }) {
				out = append(out, needle{n.name, part})
			}
		}
	}
	return out
}

// in returns in which form the needle stands in b, "" when it does not.
func (n needle) in(b []byte) string {
	for _, f := range n.forms() {
		hay := b
		if f.fold {
			hay = bytes.ToLower(b)
		}
		if bytes.Contains(hay, f.octets) {
			return f.name
		}
	}
	return ""
}

type form struct {
	name   string
	octets []byte
	fold   bool // of lower case
}

func (n needle) forms() []form {
	out := []form{}
	add := func(encoding string, raw []byte) {
		out = append(out, form{encoding, raw, false}, form{encoding + ", any case", bytes.ToLower(raw), true},
			form{encoding + " as hexadecimal", []byte(hex.EncodeToString(raw)), true})
		for shift := range 3 { // the three ways in which it can lie in base64
			padded := append(bytes.Repeat([]byte{0}, shift), raw...)
			whole := len(padded) / 3 * 3
			text := base64.StdEncoding.EncodeToString(padded[:whole])
			if shift > 0 {
				text = text[4:]
			}
			if len(text) >= 8 {
				out = append(out, form{encoding + " as base64", []byte(text), false},
					form{encoding + " as base64url", []byte(strings.NewReplacer("+", "-", "/", "_").Replace(text)), false})
			}
		}
	}
	add("UTF-8", []byte(n.text))
	if latin, err := charmap.ISO8859_15.NewEncoder().Bytes([]byte(n.text)); err == nil && !bytes.Equal(latin, []byte(n.text)) {
		add("ISO-8859-15", latin)
	}
	quoted := []byte(strings.Trim(strings.ToLower(escaped(n.text)), `"`))
	if !bytes.Equal(quoted, []byte(strings.ToLower(n.text))) {
		out = append(out, form{"JSON escapes", quoted, true})
	}
	if digits := strings.TrimLeft(n.text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"); len(digits) >= 9 && strings.Trim(digits, "0123456789") == "" {
		add("digits", []byte(digits))
		if len(digits)%2 == 0 {
			if bcd, err := hex.DecodeString(digits); err == nil {
				add("BCD", bcd)
			}
		}
	}
	return out
}

// escaped writes letters beyond ASCII as \uXXXX.
func escaped(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < 0x80 {
			b.WriteRune(r)
		} else {
			b.WriteString(`\u` + hex.EncodeToString([]byte{byte(r >> 8), byte(r)}))
		}
	}
	return b.String()
}

// finding is a needle in a file.
type finding struct{ file, needle, form string }

// search looks for the needles in every file below dir, and in the names of the files.
func search(dir string, list []needle) ([]finding, int, error) {
	var out []finding
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hay := []byte(d.Name())
		if d.Type().IsRegular() {
			files++
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			hay = append(append(b, '\n'), hay...)
		}
		for _, n := range list {
			if f := n.in(hay); f != "" {
				out = append(out, finding{path, n.name, f})
			}
		}
		return nil
	})
	return out, files, err
}

// canaryDir tells a child process where it may write.
const canaryDir = "KTRADV_CANARY_DIR"

// A person with unique data makes whole and failing visits, with the logs of app and server on, in a process of its own
// whose folders are all known. Then everything that was written, also to its output, is searched for the data
// (AdV-A_2407, AdV-A_2411, AdV-A_2412). The number of the card may stand in the error log, with card-related errors, and
// does (AdV-A_2424).
func TestCanary(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2407", "AdV-A_2411", "AdV-A_2412", "AdV-A_2424")
	dir := t.TempDir()
	for _, sub := range []string{"home", "tmp", "work"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestCanaryVisits$", "-test.v")
	cmd.Dir = filepath.Join(dir, "work")
	cmd.Env = []string{canaryDir + "=" + dir, "HOME=" + filepath.Join(dir, "home"), "TMPDIR=" + filepath.Join(dir, "tmp"), "PATH=" + os.Getenv("PATH")}
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("visits: %v\n%s", err, output)
	}
	if !bytes.Contains(output, []byte("--- PASS: TestCanaryVisits")) {
		t.Fatalf("no visits were made:\n%s", output)
	}
	if err := os.WriteFile(filepath.Join(dir, "output.txt"), output, 0o600); err != nil {
		t.Fatal(err)
	}

	var p persona.Persona
	canary(&p)
	found, files, err := search(dir, needles(&p))
	if err != nil {
		t.Fatal(err)
	}
	if files < 8 { // five streams of two components, less those that stay empty
		t.Errorf("only %d files were written", files)
	}
	for _, f := range found {
		if f.needle == "iccsn" && strings.HasSuffix(f.file, "-error.log") {
			continue
		}
		t.Errorf("%s holds the %s (%s)", f.file, f.needle, f.form)
	}

	// Where the number of the card stands, and only there: in its own field of card-related errors.
	numbers := map[string]int{}
	for _, component := range []string{"app-log", "server-log"} {
		for _, e := range readLogs(t, filepath.Join(dir, component)) {
			if e.ICCSN == "" {
				continue
			}
			if e.Log != "error" || e.ICCSN != p.ICCSN {
				t.Errorf("entry %s of %s holds the number %q", e.Text, e.Log, e.ICCSN)
			}
			numbers[e.Text]++
		}
	}
	for _, related := range []string{"WrongSecretWarning", "CARD-NOT-AUTHENTIC", "VSD-3011", "PUK-USED-UP"} {
		if numbers[related] == 0 {
			t.Errorf("no number of the card with %s; entries with one: %v", related, numbers)
		}
		delete(numbers, related)
	}
	for text := range numbers {
		switch text {
		case "PIN.CH is not verified", "certificate of the card is revoked or unknown": // of the server, card-related too
		default:
			t.Errorf("the number of the card stands with %q, which is not card-related", text)
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "app-log", "adv-app-error.log"))
	if err != nil {
		t.Fatal(err)
	}
	stray := bytes.ReplaceAll(raw, []byte(`"iccsn":"`+p.ICCSN+`"`), nil)
	if bytes.Contains(stray, []byte(p.ICCSN)) {
		t.Error("the number of the card stands outside its field")
	}
}

// TestCanaryVisits is the process that TestCanary starts.
func TestCanaryVisits(t *testing.T) {
	dir := os.Getenv(canaryDir)
	if dir == "" {
		t.Skip("is started by TestCanary")
	}
	appLog, _ := openLog(t, filepath.Join(dir, "app-log"), advlog.App)
	serverLog, _ := openLog(t, filepath.Join(dir, "server-log"), advlog.Server)
	good := serve(t, world, ServerConfig{Log: serverLog})
	bad := serve(t, world, ServerConfig{Log: serverLog, Service: &rogue{world: world, commands: at(steps[3], func(_ stream, c *api.Commands) (*api.Commands, error) {
		insert(c, -1, unhex(t, "00B0830000"))
		return c, nil
	})}})
	visit := func(name string, dial func(context.Context) (session.Server, error), change func(*persona.Persona), answer func(int, []byte) []byte, play func(r *rig)) {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, TerminalConfig{Dial: dial, Log: appLog})
			r.insertTap(tapped(t, world, "healthy-g2", func(p *persona.Persona) {
				canary(p)
				if change != nil {
					change(p)
				}
			}, answer))
			play(r)
		})
	}
	fails := func(code string) func(r *rig) {
		return func(r *rig) {
			if c := r.visit(persona.PIN); c != code {
				r.t.Errorf("problem %q; want %q", c, code)
			}
		}
	}
	visit("whole", dialer(good), nil, nil, func(r *rig) {
		r.screen(view.PIN)
		r.enter("pin", oneWrong)
		r.screen(view.PINWrong)
		r.Choose(view.ChoiceRetry)
		r.startToMenu()
		r.Choose("vsd.show")
		v := r.screen(view.Data)
		if !shows(v, "Žwirnfähnchen-Ÿpsilon") || !shows(v, "X987654328") || !shows(v, "Kanarienkasse Tirili") {
			r.t.Error("the data are not on the screen: nothing could leak")
		}
		r.Choose(view.ChoiceEnd)
		r.screen(view.TakeCard)
		r.leave()
	})
	visit("pulled", dialer(good), nil, nil, func(r *rig) {
		r.startToMenu()
		r.Choose("vsd.show")
		r.screen(view.Data)
		r.leave()
	})
	visit("copied", dialer(good), func(p *persona.Persona) { p.WrongKey = true }, nil, fails("CARD-NOT-AUTHENTIC"))
	visit("damaged", dialer(good), func(p *persona.Persona) { p.Damage = "EF.PD" }, nil, fails("VSD-3011"))
	visit("revoked", dialer(good), func(p *persona.Persona) { p.Certificate.Revoked = true }, nil, fails(""))
	visit("no SM-B", dialer(good), func(p *persona.Persona) { p.Insurer.IK = "101575519" }, nil, fails("NO-INSURER-IDENTITY"))
	visit("blocked", dialer(good), func(p *persona.Persona) { p.PINState.Tries, p.PINState.PUKUses = new(int), new(int) }, nil, fails("PUK-USED-UP"))
	visit("forbidden command", dialer(bad), nil, nil, fails("SERVER-FORBIDDEN-COMMAND"))
	visit("no server", func(context.Context) (session.Server, error) { return nil, errors.New("none") }, nil, nil, fails("SERVER-UNREACHABLE"))
	visit("lying terminal", dialer(good), nil, func(_ int, cmd []byte) []byte {
		if bytes.Equal(cmd, []byte{0x80, 0x20, 0x00, 0x01}) {
			return []byte{0x90, 0x00}
		}
		return nil
	}, fails("PIN-STATUS-NOT-SET"))
	visit("silent card", dialer(good), nil, func(n int, _ []byte) []byte {
		if n == 5 {
			return []byte{}
		}
		return nil
	}, fails("CARD-READ-ERROR"))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := errors.Join(good.WaitUnconnected(ctx), bad.WaitUnconnected(ctx)); err != nil {
		t.Error(err)
	}
}

// shows tells whether a value stands on the data screen.
func shows(v view.View, value string) bool {
	for _, s := range v.Data {
		for _, row := range s.Rows {
			if row.Value.Reveal() == value {
				return true
			}
		}
	}
	return false
}

// The negative twin: whatever is planted, in any form and at any place of a file or its name, is found.
func TestCanaryIsFound(t *testing.T) {
	t.Parallel()
	var p persona.Persona
	canary(&p)
	list := needles(&p)
	if len(list) < 20 {
		t.Errorf("only %d needles", len(list))
	}
	latin := func(s string) string {
		b, err := charmap.ISO8859_15.NewEncoder().String(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	bcd := string(unhex(t, p.ICCSN))
	for name, content := range map[string]string{
		"utf8":        "x" + p.Person.Surname + "x",
		"part":        "Kanariengrün",
		"case":        strings.ToUpper(p.Person.Given),
		"latin9":      "<Nachname>" + latin(p.Person.Surname) + "</Nachname>",
		"hex":         hex.EncodeToString([]byte("abc" + p.Person.Given)),
		"HEX":         strings.ToUpper(hex.EncodeToString([]byte(latin(p.Person.Given)))),
		"base64-0":    base64.StdEncoding.EncodeToString([]byte(p.Person.Given + "suffix")),
		"base64-1":    base64.StdEncoding.EncodeToString([]byte("1" + p.Person.Given + "suffix")),
		"base64-2":    base64.StdEncoding.EncodeToString([]byte("12" + p.Person.Given + "suffix")),
		"base64url":   base64.URLEncoding.EncodeToString([]byte("12" + latin(p.Person.Surname) + "suffix")),
		"json":        `{"name":"` + escaped(p.Person.Given) + `"}`,
		"kvnr":        "987654328",
		"iccsn":       `"iccsn":"` + p.ICCSN + `"`,
		"iccsn-bcd":   "\x5A\x0A" + bcd,
		"iccsn-hex":   hex.EncodeToString([]byte(p.ICCSN)),
		"iccsn-b64":   base64.StdEncoding.EncodeToString([]byte(bcd)),
		"date":        p.Person.Birth,
		"insurer":     p.Insurer.Name,
		"Tirili-name": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "sub", name+".log")
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			noise := bytes.Repeat([]byte("nothing of anyone\n"), 100)
			if err := os.WriteFile(file, slices.Concat(noise, []byte(content), noise), 0o600); err != nil {
				t.Fatal(err)
			}
			found, files, err := search(dir, list)
			if err != nil || files != 1 {
				t.Fatalf("%d files: %v", files, err)
			}
			if len(found) == 0 {
				t.Error("not found")
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "empty.log"), []byte("nothing of anyone"), 0o600); err != nil {
			t.Fatal(err)
		}
		if found, _, err := search(dir, list); err != nil || len(found) != 0 {
			t.Errorf("found %v, %v", found, err)
		}
	})
}

// One operation id leads from the touch, here the card's insertion, through app and server to the OCSP request
// (AdV-A_2440, AdV-A_2441), each with its beginning, end and result (AdV-A_2428, AdV-A_2429).
func TestOneOperationID(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2440", "AdV-A_2441", "AdV-A_2428", "AdV-A_2429", "AdV-A_2430", "AdV-A_2431")
	app, readApp := appLog(t)
	srvLog, readServer := openLog(t, t.TempDir(), advlog.Server)
	srv := serve(t, world, ServerConfig{Log: srvLog})
	r := newRig(t, TerminalConfig{Dial: dialer(srv), Log: app})
	menu := r.toMenu("healthy-g2")
	r.Choose("vsd.show")
	data := r.screen(view.Data)
	r.Choose(view.ChoiceEnd)
	r.screen(view.TakeCard)
	if err := srv.WaitUnconnected(r.ctx); err != nil {
		t.Fatal(err)
	}
	id := menu.Operation.ID
	if id == "" || menu.Operation.Name != "session.start" || data.Operation.ID == id || data.Operation.Name != "vsd.show" {
		t.Errorf("operations %+v, %+v", menu.Operation, data.Operation)
	}
	find := func(entries []advlog.Entry, log, name, op string) {
		t.Helper()
		n := count(entries, func(e advlog.Entry) bool {
			if e.Log != log || e.Name != name || e.Operation != op {
				return false
			}
			return log != "flow" || e.Start != "" && e.End != "" && e.Result == "ok"
		})
		if n != 1 {
			t.Errorf("%d entries %s/%s of the operation; want 1", n, log, name)
		}
	}
	a := readApp()
	for _, name := range []string{"card.read", "pin.verify", "session.unlock", "card.log", "card.validity"} {
		find(a, "flow", name, id)
		find(a, "performance", name, id)
	}
	find(a, "flow", "vsd.show", data.Operation.ID)
	var s []advlog.Entry
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); { // the server writes its last entry when the app has gone
		if s = readServer(); count(s, func(e advlog.Entry) bool { return e.Name == "server.session" }) > 0 {
			break
		}
	}
	for _, name := range []string{"server.session_start", "server.certificate_check", "ocsp.request"} {
		find(s, "flow", name, id)
		find(s, "performance", name, id)
	}
	for _, e := range append(a, s...) {
		if e.Operation == "" && e.Log != "debug" {
			t.Errorf("entry %s/%s without operation", e.Log, e.Name)
		}
	}
	// The twin: another visit has other ids.
	r.leave()
	if again := r.toMenu("healthy-g2"); again.Operation.ID == id || again.Session == menu.Session {
		t.Error("two visits share an id")
	}
}
