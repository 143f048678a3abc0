// Command adv-server is the AdV-Server of the KTR-AdV: it unlocks health cards in terminals for the insurers whose SM-B it
// holds (gemSpec_KTR-AdV).
//
//	adv-server -config server.json
//	adv-server -config server.json -check   # only read and check the configuration
//	adv-server verify -help                 # check signatures of E-Rezept billing records
//	adv-server trustcenter                  # a certificate for test procedures of software makers
//	adv-server federation                   # registration in the TI-Föderation
//
// It stops on SIGTERM and SIGINT after letting session starts finish. Exit status: 0 stopped, 1 cannot start or run,
// 2 wrong configuration or usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"ktradv/server/advserver"
	"ktradv/server/config"
	"ktradv/server/federation/fedcmd"
	"ktradv/server/trustcenter/tccmd"
	"ktradv/server/verify"
)

func main() {
	if len(os.Args) > 1 {
		if command, ok := commands[os.Args[1]]; ok {
			os.Exit(runCommand(command))
		}
	}
	if err := eraseMemory(); err != nil {
		fmt.Fprintf(os.Stderr, "adv-server: %v\n", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// commands are the operator's tools.
var commands = map[string]func(ctx context.Context, args []string) int{
	"verify": func(ctx context.Context, args []string) int {
		return verify.Command(ctx, args, os.Stdin, os.Stdout, os.Stderr)
	},
	"trustcenter": func(ctx context.Context, args []string) int { return tccmd.Main(ctx, args, os.Stdout, os.Stderr) },
	"federation":  func(ctx context.Context, args []string) int { return fedcmd.Main(ctx, args, os.Stdout, os.Stderr) },
}

const usage = `adv-server: the AdV-Server of the KTR-AdV, and its operator's tools

  adv-server -config FILE     serve the terminals
  adv-server verify           check signatures of E-Rezept billing records
  adv-server trustcenter      a certificate for test procedures of software makers
  adv-server federation       registration in the TI-Föderation

Each tool explains itself with -help. The handbooks are docs/operator.md and docs/registration.md.

options of the server:
`

// runCommand runs a tool. The first signal asks it to end; the next one ends the program.
func runCommand(command func(context.Context, []string) int) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop)
	return command(ctx, os.Args[2:])
}

// eraseMemory starts the program anew, in the same process, with the runtime setting that makes Go overwrite memory when it
// frees it (AdV-A_2409). The runtime takes it from the environment, and only at its start.
func eraseMemory() error {
	if advserver.ErasesMemory() {
		return nil
	}
	setting := advserver.EraseSetting
	if old := os.Getenv("GODEBUG"); old != "" {
		setting = old + "," + setting
	}
	if err := os.Setenv("GODEBUG", setting); err != nil {
		return fmt.Errorf("set GODEBUG: %w", err)
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	if err := syscall.Exec(exe, os.Args, os.Environ()); err != nil {
		return fmt.Errorf("start anew with %s: %w", advserver.EraseSetting, err)
	}
	return nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("adv-server", flag.ContinueOnError)
	flags.SetOutput(stderr)
	path := flags.String("config", "/etc/adv-server/server.json", "configuration `file`")
	check := flags.Bool("check", false, "check the configuration and stop")
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "adv-server: unexpected argument %q; see adv-server -help\n", flags.Arg(0))
		return 2
	}
	cfg, err := config.Load(*path)
	if err != nil {
		fmt.Fprintf(stderr, "adv-server: %v\n", err)
		return 2
	}
	if *check {
		fmt.Fprintln(stdout, "configuration is complete")
		return 0
	}
	s, err := advserver.Start(cfg)
	if err != nil {
		fmt.Fprintf(stderr, "adv-server: %v\n", err)
		return 1
	}
	fmt.Fprintf(stdout, "listening on %s\n", s.Addr())
	if ops := s.OpsAddr(); ops != nil {
		fmt.Fprintf(stdout, "health and metrics on http://%s\n", ops)
	}
	if err := s.Run(ctx); err != nil {
		fmt.Fprintf(stderr, "adv-server: %v\n", err)
		return 1
	}
	return 0
}
