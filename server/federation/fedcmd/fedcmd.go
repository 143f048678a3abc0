// Package fedcmd is the command line of `adv-server federation`: the registration of a service at the Federation Master of
// the TI-Föderation, from the first key to the watch that runs for years.
package fedcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"ktradv/server/federation"
	"ktradv/server/internal/tool"
)

// Env is what a command gets from outside.
type Env struct {
	tool.Env
	// Client fetches statements.
	Client federation.Doer
}

// Main runs the command of the process.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return Run(ctx, Env{
		Env:    tool.Env{Stdout: stdout, Stderr: stderr, Now: time.Now},
		Client: federation.NewClient(http.DefaultTransport.(*http.Transport).Clone()),
	}, args)
}

const usage = `adv-server federation: registration of a service at the Federation Master of the TI-Föderation

  init              make a configuration, the keys and the TLS client certificate
  entity-statement  write the Entity Statement, or serve it (--serve)
  register          write the registration XML from the live statement
  change            write the XML of a change, with what differs
  deregister        write the XML that takes the service out
  sent              note that the XML was sent: from then on it counts as registered
  check             judge any registration XML and Entity Statement (file or address), field by field
  watch             compare what was registered, what is live and what the Federation Master publishes
  keys              list the signing keys, make the next one (keys new) or the next client keys (keys new-client)

Each command explains its options with -h. Exit status: 0 nothing wrong, 1 errors found, 2 could not be checked.

The way to a registration:
  1. ask ` + federation.Office + ` for a Member-ID
  2. adv-server federation init ...              once per environment (RU, TU, PU: TU before PU)
  3. adv-server federation entity-statement --serve :8080   behind your TLS front end, reachable from the internet
  4. adv-server federation register              writes <member id>.xml; send it to the office, about 5 working days
  5. adv-server federation sent                  when you have sent it
  6. adv-server federation watch                 every hour from then on

The way to a change, before the Entity Statement shows it:
  1. edit the configuration; what is served stays as it is
  2. adv-server federation entity-statement --out next.jws   the next statement, not yet published
  3. adv-server federation change --statement next.jws       writes the XML; send it, then: adv-server federation sent
  4. start entity-statement --serve anew when the office has answered; it reads the configuration when it starts
After keys new there is nothing to edit: begin with step 2.
`

// call is a running command.
type call struct {
	*tool.Call
	client federation.Doer
	header http.Header // sent when fetching the service's statement
}

// commands by name.
var commands = []struct {
	name string
	run  func(context.Context, *call) int
}{
	{"init", initialise}, {"entity-statement", statement}, {"register", register}, {"change", register}, {"deregister", deregister},
	{"sent", sent}, {"check", check}, {"watch", watch}, {"keys", keys},
}

// Run runs a command.
func Run(ctx context.Context, env Env, args []string) int {
	t := tool.Tool{Name: "adv-server federation", Usage: usage, Config: "federation.json"}
	for _, c := range commands {
		t.Commands = append(t.Commands, tool.Command{Name: c.name, Run: func(ctx context.Context, base *tool.Call) int {
			return c.run(ctx, &call{Call: base, client: env.Client, header: http.Header{}})
		}})
	}
	return t.Run(ctx, env.Env, args)
}

// headers adds the option for headers.
func (c *call) headers() {
	c.Flags.Func("header", "`name: value` to send when fetching the service's statement; can be repeated", func(v string) error {
		name, value, ok := strings.Cut(v, ":")
		if !ok {
			return errors.New("write it as name: value")
		}
		c.header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
		return nil
	})
}

// unreached says whether a finding means that nothing could be judged.
func unreached(found federation.Findings) bool {
	return found.Has("ES-NETZ") || found.Has("ES-DATEI")
}

// load reads a registration XML or a statement from a file or an address. Offline nothing is fetched that a statement points to.
func (c *call) load(ctx context.Context, source string, opts federation.XMLOptions, offline bool) (*federation.Registration, *federation.Statement, federation.Findings) {
	if strings.Contains(source, "://") {
		s, _, found := federation.Inspect(ctx, source, federation.Inspection{Client: c.client, Header: c.header, Now: c.Now(), Offline: offline})
		return nil, s, found
	}
	b, err := tool.ReadFile(source, federation.MaxStatement)
	if err != nil {
		return nil, nil, federation.Findings{{Code: "ES-DATEI", Severity: federation.Error, Source: source, What: err.Error(), Fix: "name a file that can be read"}}
	}
	if federation.IsXML(b) {
		opts.Source, opts.FileName = source, filepath.Base(source)
		r, found := federation.ParseXML(b, opts)
		return r, nil, found
	}
	s, found := federation.ParseStatement(b, source)
	if s != nil {
		found = append(found, federation.CheckStatement(s, federation.StatementOptions{Source: source, Now: c.Now()})...)
	}
	return nil, s, found
}

// fetchable says whether an address can be asked, in spite of what was found about it.
func fetchable(found federation.Findings) bool {
	for _, f := range found {
		if strings.HasPrefix(string(f.Code), "REG-URI-") && f.Severity == federation.Error && f.Code != "REG-URI-WELLKNOWN" || f.Code == "REG-FELD-FEHLT" && f.Field == "fachdiensturi" {
			return false
		}
	}
	return true
}

// check judges files and addresses, and what two of them say of each other.
func check(ctx context.Context, c *call) int {
	c.headers()
	kind := c.Flags.String("kind", "", "`diga or other`, for the rules that depend on it")
	change := c.Flags.Bool("change", false, "the XML is that of a change")
	offline := c.Flags.Bool("offline", false, "do not fetch the statement of the address in the XML, nor the key set behind a statement's signed_jwks_uri")
	c.Flags.Usage = func() {
		fmt.Fprint(c.Stderr, "usage: adv-server federation check [options] FILE-OR-ADDRESS [FILE-OR-ADDRESS]\n\n"+
			"Judges a registration XML (also one written by hand) or an Entity Statement, and of two every disagreement. For an XML alone\n"+
			"the live statement of its fachdiensturi is fetched.\n\n")
		c.Flags.PrintDefaults()
	}
	if status, done := c.Parse(1, 2); done {
		return status
	}
	opts := federation.XMLOptions{Kind: federation.Kind(*kind)}
	if opts.Kind != "" && opts.Kind != federation.DiGA && opts.Kind != federation.Other {
		return c.Fail(fmt.Errorf("--kind %q is not diga or other", *kind))
	}
	if *change {
		opts.Purpose = federation.Change
	}
	var form *federation.Registration
	var stat *federation.Statement
	var found federation.Findings
	sources := c.Flags.Args()
	for i := 0; i < len(sources); i++ {
		r, s, f := c.load(ctx, sources[i], opts, *offline)
		found = append(found, f...)
		switch {
		case r != nil && form != nil, s != nil && stat != nil:
			return c.Fail(errors.New("two of the same kind: name one XML and one statement"))
		case r != nil:
			if form = r; len(sources) == 1 && !*offline && !r.Deregister && fetchable(f) {
				sources = append(sources, r.ServiceURI)
			}
		case s != nil:
			stat = s
		}
	}
	if form != nil && stat != nil && !stat.Subordinate() { // of that one it was said that it is not the service's
		found = append(found, federation.Compare(form, stat)...)
	}
	status := c.Report(found)
	if unreached(found) {
		return tool.Unknown
	}
	return status
}
