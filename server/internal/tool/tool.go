// Package tool is what the operator's commands of adv-server have in common: what they get from outside, the choice of the
// command, options, reports and exit statuses.
package tool

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"ktradv/server/internal/finding"
	"ktradv/server/keystore"
)

// Exit statuses, for scripts and monitoring.
const (
	Clean   = 0 // no errors found
	Found   = 1 // errors found
	Unknown = 2 // could not be checked: network, file, usage
)

// Env is what a command gets from outside.
type Env struct {
	Stdout, Stderr io.Writer
	// Now is the clock.
	Now func() time.Time
	// Passphrase asks for the passphrase of keys; nil asks at the terminal.
	Passphrase func(new bool) ([]byte, error)
}

// Command is one command of a tool.
type Command struct {
	Name string
	Run  func(context.Context, *Call) int
}

// Tool is a group of commands.
type Tool struct {
	// Name is how it is called, for example "adv-server federation". Usage explains all of it.
	Name, Usage string
	Commands    []Command
	// Config is the default of the option -config.
	Config string
}

// Call is a running command.
type Call struct {
	Env
	// Flags takes the command's own options before [Call.Parse].
	Flags *flag.FlagSet
	// Name is the command's word.
	Name   string
	Config *string
	JSON   *bool

	args          []string
	fd            *int
	module, token *string
}

// Run chooses and runs a command.
func (t Tool) Run(ctx context.Context, env Env, args []string) int {
	if len(args) == 0 || slices.Contains([]string{"help", "-h", "-help", "--help"}, args[0]) {
		fmt.Fprint(env.Stdout, t.Usage)
		if len(args) == 0 {
			return Unknown
		}
		return Clean
	}
	i := slices.IndexFunc(t.Commands, func(c Command) bool { return c.Name == args[0] })
	if i < 0 {
		fmt.Fprintf(env.Stderr, "%s: no command %q\n\n%s", t.Name, args[0], t.Usage)
		return Unknown
	}
	c := &Call{Env: env, Name: args[0], args: args[1:], Flags: flag.NewFlagSet(t.Name+" "+args[0], flag.ContinueOnError)}
	c.Flags.SetOutput(env.Stderr)
	c.Config = c.Flags.String("config", t.Config, "configuration `file`")
	c.JSON = c.Flags.Bool("json", false, "write the report as JSON")
	c.fd = c.Flags.Int("passphrase-fd", -1, "read the passphrase of the keys from this file `descriptor`")
	c.module = c.Flags.String("hsm-module", "", "keep keys in an HSM: its PKCS#11 `library`")
	c.token = c.Flags.String("hsm-token", "", "with -hsm-module: `label` of the token; its PIN is asked for like a passphrase")
	return t.Commands[i].Run(ctx, c)
}

// Parse reads the options, which may stand before, between and after the arguments up to a "--"; done is true where the command
// ends with that. The number of arguments is within least and most.
func (c *Call) Parse(least, most int) (status int, done bool) {
	var words []string
	for args := c.args; ; {
		if err := c.Flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			return Clean, true
		} else if err != nil {
			return Unknown, true
		}
		rest := c.Flags.Args()
		if read := len(args) - len(rest); len(rest) == 0 || read > 0 && args[read-1] == "--" {
			words = append(words, rest...)
			break
		}
		words, args = append(words, rest[0]), rest[1:]
	}
	if err := c.Flags.Parse(append([]string{"--"}, words...)); err != nil { // they are the arguments now
		return Unknown, true
	}
	if n := len(words); n < least || n > most {
		want := fmt.Sprint(least)
		if most != least {
			want = fmt.Sprintf("%d to %d", least, most)
		}
		fmt.Fprintf(c.Stderr, "%s: takes %s arguments besides its options, not %d %q; see -h\n", c.Flags.Name(), want, n, words)
		return Unknown, true
	}
	return 0, false
}

// Many collects the values of an option that can be repeated.
func (c *Call) Many(name, help string) *[]string {
	var out []string
	c.Flags.Func(name, help+"; can be repeated", func(v string) error { out = append(out, v); return nil })
	return &out
}

// Fail reports an error of the command itself.
func (c *Call) Fail(err error) int {
	fmt.Fprintf(c.Stderr, "%s: %s\n", c.Flags.Name(), finding.Safe(err.Error()))
	return Unknown
}

// Say tells people what was done and what comes next. With -json the standard output belongs to the report alone, so this goes
// to the standard error.
func (c *Call) Say(format string, a ...any) {
	w := c.Stdout
	if *c.JSON {
		w = c.Stderr
	}
	fmt.Fprintf(w, format, a...)
}

// Keys opens the key store of a folder, or the HSM of the options. With force a key in a file is replaced, and the former one
// kept; one in an HSM never is.
func (c *Call) Keys(dir string, force bool) keystore.Store {
	ask := c.Passphrase
	switch {
	case *c.fd >= 0:
		ask = keystore.FromDescriptor(uintptr(*c.fd))
	case ask == nil:
		what := "Passphrase of the private keys"
		if *c.module != "" {
			what = "PIN of the token " + *c.token
		}
		ask = keystore.FromTerminal(what)
	}
	if *c.module != "" {
		return keystore.HSM{Module: *c.module, Token: *c.token, PIN: ask}.Deferred()
	}
	return &keystore.Files{Dir: dir, Passphrase: ask, Force: force, Now: c.Now}
}

// Report writes findings and returns the exit status.
func (c *Call) Report(found finding.List) int {
	if *c.JSON {
		if found == nil {
			found = finding.List{}
		}
		if err := c.WriteJSON(found); err != nil {
			return c.Fail(err)
		}
	} else if err := found.WriteText(c.Stdout); err != nil {
		return c.Fail(err)
	}
	return Status(found)
}

// WriteJSON writes a report for programs.
func (c *Call) WriteJSON(v any) error {
	enc := json.NewEncoder(c.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// Status is the exit status for findings.
func Status(found finding.List) int {
	if found.Worst() == finding.Error {
		return Found
	}
	return Clean
}

// ReadFile reads a file of at most max octets.
func ReadFile(path string, max int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(max)+1))
	if err == nil && len(b) > max {
		err = fmt.Errorf("%s is longer than %d octets", path, max)
	}
	return b, err
}
