// Package fedcmd is the command line of `adv-server federation`: the registration of a service at the Federation Master of
// the TI-Föderation, from the first key to the watch that runs for years.
package fedcmd

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ktradv/server/federation"
	"ktradv/server/keystore"
)

// Exit statuses, for scripts and monitoring.
const (
	Clean   = 0 // no errors found
	Found   = 1 // errors found, nothing was written
	Unknown = 2 // could not be checked: network, file, usage
)

// Env is what a command gets from outside.
type Env struct {
	Stdout, Stderr io.Writer
	// Client fetches statements.
	Client federation.Doer
	// Now is the clock.
	Now func() time.Time
	// Passphrase asks for the passphrase of the keys; nil asks at the terminal.
	Passphrase func(new bool) ([]byte, error)
}

// Main runs the command of the process.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return Run(ctx, Env{
		Stdout: stdout, Stderr: stderr, Now: time.Now,
		Client: federation.NewClient(http.DefaultTransport.(*http.Transport).Clone()),
	}, args)
}

const usage = `adv-server federation: registration of a service at the Federation Master of the TI-Föderation

  init              make a configuration, the keys and the TLS client certificate
  entity-statement  write the Entity Statement, or serve it (--serve)
  register          write the registration XML from the live statement
  change            write the XML of a change, with what differs
  deregister        write the XML that takes the service out
  check             judge any registration XML and Entity Statement (file or address), field by field
  watch             compare what was registered, what is live and what the Federation Master publishes
  keys              list the signing keys, or make the next one (keys new)

Each command explains its options with -h. Exit status: 0 nothing wrong, 1 errors found, 2 could not be checked.

The way to a registration:
  1. ask ` + federation.Office + ` for a Member-ID
  2. adv-server federation init ...              once per environment (RU, TU, PU: TU before PU)
  3. adv-server federation entity-statement --serve :8080   behind your TLS front end, reachable from the internet
  4. adv-server federation register              writes <member id>.xml; send it to the office, about 5 working days
  5. adv-server federation watch                 every hour from then on
`

// command is one of the commands.
type command struct {
	name string
	run  func(context.Context, *call) int
}

// call is a running command.
type call struct {
	Env
	flags  *flag.FlagSet
	args   []string
	config *string
	fd     *int
	json   *bool
	header http.Header
}

var commands = []command{
	{"init", initialise}, {"entity-statement", statement}, {"register", register}, {"change", register}, {"deregister", deregister},
	{"check", check}, {"watch", watch}, {"keys", keys},
}

// Run runs a command.
func Run(ctx context.Context, env Env, args []string) int {
	if len(args) == 0 || slices.Contains([]string{"help", "-h", "-help", "--help"}, args[0]) {
		fmt.Fprint(env.Stdout, usage)
		if len(args) == 0 {
			return Unknown
		}
		return Clean
	}
	i := slices.IndexFunc(commands, func(c command) bool { return c.name == args[0] })
	if i < 0 {
		fmt.Fprintf(env.Stderr, "adv-server federation: no command %q\n\n%s", args[0], usage)
		return Unknown
	}
	c := &call{Env: env, args: args, flags: flag.NewFlagSet("adv-server federation "+args[0], flag.ContinueOnError), header: http.Header{}}
	c.flags.SetOutput(env.Stderr)
	c.config = c.flags.String("config", "federation.json", "configuration `file`")
	c.fd = c.flags.Int("passphrase-fd", -1, "read the passphrase of the keys from this file `descriptor`")
	c.json = c.flags.Bool("json", false, "write the report as JSON")
	c.flags.Func("header", "`name: value` to send when fetching the service's statement; can be repeated", func(v string) error {
		name, value, ok := strings.Cut(v, ":")
		if !ok {
			return errors.New("write it as name: value")
		}
		c.header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
		return nil
	})
	return commands[i].run(ctx, c)
}

// parse reads the options; done is true where the command ends with that.
func (c *call) parse(least, most int) (status int, done bool) {
	if err := c.flags.Parse(c.args[1:]); errors.Is(err, flag.ErrHelp) {
		return Clean, true
	} else if err != nil {
		return Unknown, true
	}
	if n := c.flags.NArg(); n < least || n > most {
		fmt.Fprintf(c.Stderr, "%s: %d arguments; see -h\n", c.flags.Name(), n)
		return Unknown, true
	}
	return 0, false
}

// fail reports an error of the command itself.
func (c *call) fail(err error) int {
	fmt.Fprintf(c.Stderr, "%s: %v\n", c.flags.Name(), err)
	return Unknown
}

// store opens the key store of a configuration.
func (c *call) store(cfg federation.Config) keystore.Store {
	ask := c.Passphrase
	switch {
	case *c.fd >= 0:
		ask = keystore.FromDescriptor(uintptr(*c.fd))
	case ask == nil:
		ask = keystore.FromTerminal()
	}
	return &keystore.Files{Dir: cfg.Keys, Passphrase: ask, Now: c.Now}
}

// report writes findings and returns the exit status.
func (c *call) report(found federation.Findings) int {
	if *c.json {
		if found == nil {
			found = federation.Findings{}
		}
		enc := json.NewEncoder(c.Stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(found); err != nil {
			return c.fail(err)
		}
	} else if err := found.WriteText(c.Stdout); err != nil {
		return c.fail(err)
	}
	if found.Worst() == federation.Error {
		return Found
	}
	return Clean
}

// unreached says whether a finding means that nothing could be judged.
func unreached(found federation.Findings) bool {
	return found.Has("ES-NETZ") || found.Has("ES-DATEI")
}

// load reads a registration XML or a statement from a file or an address.
func (c *call) load(ctx context.Context, source string, opts federation.XMLOptions) (*federation.Registration, *federation.Statement, federation.Findings) {
	if strings.Contains(source, "://") {
		s, address, found := federation.FetchStatement(ctx, c.Client, c.header, source)
		if s != nil {
			found = append(found, federation.CheckStatement(s, federation.StatementOptions{Source: address, Now: c.Now(), URL: address})...)
		}
		return nil, s, found
	}
	b, err := readFile(source)
	if err != nil {
		return nil, nil, federation.Findings{{Code: "ES-DATEI", Severity: federation.Error, Source: source, What: err.Error(), Fix: "name a file that can be read"}}
	}
	if t := strings.TrimLeft(strings.TrimPrefix(string(b), "\ufeff"), " \t\r\n"); strings.HasPrefix(t, "<") {
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

// readFile reads a bounded file.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, federation.MaxStatement+1))
	if err == nil && len(b) > federation.MaxStatement {
		err = fmt.Errorf("%s is longer than %d octets", path, federation.MaxStatement)
	}
	return b, err
}

// check judges files and addresses, and what two of them say of each other.
func check(ctx context.Context, c *call) int {
	kind := c.flags.String("kind", "", "`diga or other`, for the rules that depend on it")
	change := c.flags.Bool("change", false, "the XML is that of a change")
	offline := c.flags.Bool("offline", false, "do not fetch the statement of the address in the XML")
	c.flags.Usage = func() {
		fmt.Fprint(c.Stderr, "usage: adv-server federation check [options] FILE-OR-ADDRESS [FILE-OR-ADDRESS]\n\n"+
			"Judges a registration XML (also one written by hand) or an Entity Statement, and of two every disagreement. For an XML alone\n"+
			"the live statement of its fachdiensturi is fetched.\n\n")
		c.flags.PrintDefaults()
	}
	if status, done := c.parse(1, 2); done {
		return status
	}
	opts := federation.XMLOptions{Kind: federation.Kind(*kind)}
	if *change {
		opts.Purpose = federation.Change
	}
	var form *federation.Registration
	var stat *federation.Statement
	var found federation.Findings
	sources := c.flags.Args()
	for i := 0; i < len(sources); i++ {
		r, s, f := c.load(ctx, sources[i], opts)
		found = append(found, f...)
		switch {
		case r != nil && form != nil, s != nil && stat != nil:
			return c.fail(errors.New("two of the same kind: name one XML and one statement"))
		case r != nil:
			if form = r; len(sources) == 1 && !*offline && !r.Deregister && !f.Has("REG-URI-FORM") && !f.Has("REG-URI-SCHEMA") && !f.Has("REG-URI-HOST") {
				sources = append(sources, r.ServiceURI)
			}
		case s != nil:
			stat = s
		}
	}
	if form != nil && stat != nil {
		found = append(found, federation.Compare(form, stat)...)
	}
	status := c.report(found)
	if unreached(found) {
		return Unknown
	}
	return status
}
