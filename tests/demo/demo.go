// Package demo puts a whole KTR-AdV system up on one machine: test PKI, simulated central services, AdV-Server, the
// simulated class-3 reader under a real pcscd, the kiosk with its supervisor, and the control panel.
//
// [Start] brings everything up and [Env.Close] takes it down again; `make run` and `make demo` are thin commands over
// it, and tests use it for visits through real processes. Kiosk and server are the product's own programs, built by
// [Build]; the kiosk has the tag demo for the door through which the panel sees its screen.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"ktradv/hw/sim/ifd"
	"ktradv/hw/sim/persona"
	simreader "ktradv/hw/sim/reader"
	"ktradv/internal/testpki"
	"ktradv/server/tisim"
	"ktradv/tests/demo/panel"
)

// GuestHost is this machine as a virtual machine's guest sees it.
var GuestHost = net.IPv4(10, 0, 2, 2)

// InsurerIK is the insurer for which the demo's server has an identity.
const InsurerIK = "109500969"

// Config says how the demo is to be.
type Config struct {
	// Dir is a folder for sockets, keys, logs and configuration; it is created. Its absolute path must be short (sockets).
	Dir string
	// Bin holds the programs, see [Build].
	Bin string
	// Panel is the address of the control panel, for example "127.0.0.1:8077"; port 0 takes a free one. Only loopback
	// addresses are allowed.
	Panel string
	// Profile of the simulated reader.
	Profile simreader.Profile
	// Display is "memory" or "window".
	Display string
	// Width and Height of the screen; zero means 1280x800.
	Width, Height int
	// Logs switches the logs of the kiosk on (the server's always are).
	Logs bool
	// Idle shortens the idle times, for tests; nil keeps them.
	Idle map[string]int
	// Output takes what the programs say on standard error; nil means os.Stderr.
	Output io.Writer
}

// Env is a running demo.
type Env struct {
	Dir       string
	Reader    *simreader.Reader
	PKI       *testpki.PKI
	Responder *tisim.Responder
	Panel     *panel.Panel
	PanelURL  string
	// KioskPID is the process id of the kiosk's supervisor, ServerPID that of the AdV-Server.
	KioskPID, ServerPID int

	mu         sync.Mutex
	cfg        Config
	serverAddr string
	stopServer func()
	cards      map[string]simreader.Card
	closer     []func()
	died       chan error
}

// Build compiles kiosk and server into dir. Window adds the desktop window to the kiosk.
func Build(ctx context.Context, root, dir string, window bool) error {
	tags := "pcsc demo"
	if window {
		tags += " window"
	}
	if err := compile(ctx, root, filepath.Join(dir, "adv-kiosk"), "./kiosk/cmd/adv-kiosk", tags, "1"); err != nil {
		return err
	}
	return BuildServer(ctx, root, dir)
}

// BuildServer compiles the server alone into dir.
func BuildServer(ctx context.Context, root, dir string) error {
	return compile(ctx, root, filepath.Join(dir, "adv-server"), "./server/cmd/adv-server", "", "0")
}

func compile(ctx context.Context, root, out, pkg, tags, cgo string) error {
	out, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", tags, "-o", out, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo, "GOFLAGS=-buildvcs=false")
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", filepath.Base(out), err, b)
	}
	return nil
}

// Start brings the system up. It returns when the kiosk shows its neutral screen, or with everything taken down again.
func Start(ctx context.Context, cfg Config) (*Env, error) {
	return start(ctx, cfg, (*Env).startPKI, (*Env).StartServer, (*Env).startReader, (*Env).startPanel, (*Env).startKiosk)
}

// StartServices brings up what a terminal needs and is not part of it: test PKI, central services and AdV-Server, at
// an address of this machine that the guest of a virtual machine reaches as [GuestHost].
func StartServices(ctx context.Context, cfg Config) (*Env, error) {
	return start(ctx, cfg, (*Env).startPKI, (*Env).StartServer)
}

func start(ctx context.Context, cfg Config, steps ...func(*Env, context.Context) error) (_ *Env, err error) {
	if cfg.Output == nil {
		cfg.Output = os.Stderr
	}
	if cfg.Width == 0 {
		cfg.Width, cfg.Height = 1280, 800
	}
	if cfg.Display == "" {
		cfg.Display = "memory"
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("demo folder: %w", err)
	}
	e := &Env{Dir: cfg.Dir, cfg: cfg, cards: map[string]simreader.Card{}, died: make(chan error, 4)}
	defer func() {
		if err != nil {
			e.Close()
		}
	}()
	for _, step := range steps {
		if err := step(e, ctx); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Died gets the reason when a program ends by itself.
func (e *Env) Died() <-chan error { return e.died }

// Close takes everything down, last first.
func (e *Env) Close() {
	e.mu.Lock()
	closers := e.closer
	e.closer = nil
	e.mu.Unlock()
	for i := len(closers) - 1; i >= 0; i-- {
		closers[i]()
	}
}

func (e *Env) onClose(f func()) { e.mu.Lock(); e.closer = append(e.closer, f); e.mu.Unlock() }

// Card returns the card of a persona, made on first use.
func (e *Env) Card(id string) (simreader.Card, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c, ok := e.cards[id]; ok {
		return c, nil
	}
	c, err := persona.Build(id, e.PKI, time.Now())
	if err != nil {
		return nil, err
	}
	e.cards[id] = c
	return c, nil
}

func (e *Env) startPKI(ctx context.Context) error {
	ocsp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("ocsp responder: %w", err)
	}
	if e.PKI, err = testpki.New(testpki.Config{OCSPURL: "http://" + ocsp.Addr().String() + "/"}); err != nil {
		ocsp.Close()
		return fmt.Errorf("test pki: %w", err)
	}
	e.Responder = tisim.New(e.PKI, nil)
	sctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	go e.Responder.Serve(sctx, ocsp)
	e.onClose(stop)
	for name, content := range map[string][]byte{
		"trust/cvc/root.cvc":       e.PKI.Root.Certificate,
		"trust/egk-ca/egk.der":     e.PKI.EGKCA.Certificate,
		"trust/egk-ca/egk-rsa.der": e.PKI.EGKRSACA.Certificate,
		"kiosk/roots/root.cvc":     e.PKI.Root.Certificate,
	} {
		if err := e.write(name, content); err != nil {
			return err
		}
	}
	certPEM, keyPEM, err := e.PKI.IssueTLSServer([]string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1), GuestHost})
	if err != nil {
		return fmt.Errorf("tls certificate: %w", err)
	}
	for name, content := range map[string][]byte{"tls/cert.pem": certPEM, "tls/key.pem": keyPEM, "kiosk/trust/server.pem": certPEM} {
		if err := e.write(name, content); err != nil {
			return err
		}
	}
	return e.writeIdentity()
}

func (e *Env) write(name string, content []byte) error {
	path := filepath.Join(e.Dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}

func (e *Env) writeJSON(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return e.write(name, append(b, '\n'))
}

// freeAddr finds a free loopback port.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// run starts one of the product's programs and has it ended with the demo, or before by stop.
func (e *Env) run(name string, args ...string) (pid int, stop func(), err error) {
	cmd := exec.Command(filepath.Join(e.cfg.Bin, name), args...)
	cmd.Stdout, cmd.Stderr = e.cfg.Output, e.cfg.Output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM} // nothing outlives a demo that is killed
	done := make(chan struct{})
	closing := make(chan struct{})
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the kernel looks at the thread that started the program
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		err = cmd.Wait()
		close(done)
		select {
		case <-closing:
		default:
			select {
			case e.died <- fmt.Errorf("%s ended by itself: %w", name, errors.Join(err, errEnded)):
			default:
			}
		}
	}()
	if err := <-started; err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", name, err)
	}
	stop = sync.OnceFunc(func() {
		close(closing)
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-done
		}
	})
	e.onClose(stop)
	return cmd.Process.Pid, stop, nil
}

var errEnded = errors.New("see its messages above")

func (e *Env) startReader(ctx context.Context) error {
	e.Reader = simreader.New(simreader.Config{Profile: e.cfg.Profile})
	if _, err := ifd.Install(ctx, e.Dir); err != nil {
		return fmt.Errorf("reader driver: %w", err)
	}
	srv, err := ifd.Serve(e.Reader, e.Dir)
	if err != nil {
		return fmt.Errorf("reader: %w", err)
	}
	e.onClose(func() { srv.Close() })
	return nil
}

func (e *Env) startPanel(context.Context) error {
	return e.ServePanel(panel.Config{Reader: e.Reader, Door: filepath.Join(e.Dir, "door.sock")})
}

// ServePanel serves the control panel for a terminal; the wallet is filled in here.
func (e *Env) ServePanel(cfg panel.Config) error {
	host, _, err := net.SplitHostPort(e.cfg.Panel)
	if err != nil {
		return fmt.Errorf("panel address: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("panel address %s: only the loopback interface is allowed", e.cfg.Panel)
	}
	l, err := net.Listen("tcp", e.cfg.Panel)
	if err != nil {
		return fmt.Errorf("control panel: %w (is another demo running?)", err)
	}
	cfg.Card = e.Card
	for _, p := range persona.List() {
		cfg.Personas = append(cfg.Personas, panel.Persona{ID: p.ID, Title: p.Title, Description: p.Description, PIN: p.PIN, PUK: persona.PUK})
	}
	e.Panel = panel.New(cfg)
	srv := &http.Server{Handler: e.Panel.Handler(), ReadHeaderTimeout: 5 * time.Second}
	go srv.Serve(l)
	e.onClose(func() { srv.Close() })
	e.PanelURL = "http://" + l.Addr().String()
	return nil
}

func (e *Env) startKiosk(ctx context.Context) error {
	cfg, server := e.cfg, e.serverAddr
	idle := cfg.Idle
	if idle == nil {
		idle = map[string]int{}
	}
	err := e.writeJSON("kiosk.json", map[string]any{
		"display":     map[string]any{"platform": cfg.Display, "width": cfg.Width, "height": cfg.Height},
		"reader":      map[string]any{"name": "SIM", "socket": ifd.PCSCDSocket(e.Dir), "pcscd_config": ifd.ConfigDir(e.Dir), "pcscd_private": true},
		"server":      map[string]any{"address": server, "trust_store": "kiosk/trust"},
		"card_roots":  "kiosk/roots",
		"log":         map[string]any{"enabled": cfg.Logs, "dir": "kiosk/log"},
		"idle":        idle,
		"terminal_id": "4B54522D41645630",
		"door":        "door.sock",
	})
	if err != nil {
		return err
	}
	if e.KioskPID, _, err = e.run("adv-kiosk", "-config", filepath.Join(e.Dir, "kiosk.json")); err != nil {
		return err
	}
	return e.WaitScreen(ctx, "neutral", 30*time.Second)
}

// WaitScreen waits until the kiosk shows one screen.
func (e *Env) WaitScreen(ctx context.Context, screen string, atMost time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	last := ""
	for {
		if last = e.Panel.State(ctx).Screen; last == screen {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the kiosk does not show %q within %v; it shows %q", screen, atMost, last)
		case err := <-e.died:
			e.died <- err
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}
