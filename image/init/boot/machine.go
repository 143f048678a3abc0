//go:build linux

package boot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/u-root/u-root/pkg/kmodule"
	"golang.org/x/sys/unix"

	"ktradv/image/init/data"
	"ktradv/image/init/modules"
	"ktradv/image/init/release"
	"ktradv/image/init/sandbox"
	"ktradv/image/init/service"
	"ktradv/image/init/state"
	"ktradv/image/init/users"
	image "ktradv/image/modules"
	"ktradv/internal/initctl"
	"ktradv/internal/terminal"
)

// Places of the running terminal.
const (
	kioskProgram = "/usr/bin/adv-kiosk"
	pcscdProgram = "/usr/sbin/pcscd"
	pcscdSocket  = terminal.CardSocket
	notifyDir    = "/run/adv/notify"
	rebootsFile  = "/data/init/reboots"
)

// Machine is the running terminal.
type Machine struct {
	setup   Setup
	journal *journal
	store   *state.Store
	reaper  *service.Reaper
	self    string
	config  terminal.Config
	uptime  func() time.Duration

	mu       sync.Mutex
	services map[string]*running
	fault    bool // the kiosk shows the technician's screen
}

type running struct {
	service *service.Service
	cancel  context.CancelFunc
	done    chan struct{}
}

// command is how the machine ends.
type command int

const (
	powerOff = command(unix.LINUX_REBOOT_CMD_POWER_OFF)
	restart  = command(unix.LINUX_REBOOT_CMD_RESTART)
)

// Run is the life of the terminal; it returns only to end in a power off or restart, which it has done by then.
func Run() {
	m := newMachine(Setup{Kernel: Linux{}})
	ends := make(chan command, 4)
	err := m.setup.Mounts()
	m.journal = newJournal(commandLine())
	m.journal.step(stepInit)
	m.journal.problem(stepInit, err)
	ctx := context.Background() // each service has an end of its own; what else runs, ends with the machine
	go m.reaper.Collect(ctx.Done())
	ignoreSignals()
	m.boot(ctx, ends)
	m.shutdown(<-ends)
}

func newMachine(s Setup) *Machine {
	return &Machine{
		setup: s, journal: newJournal(nil), store: state.New(), reaper: service.NewReaper(), self: "/init", services: make(map[string]*running),
		uptime: sinceKernel,
	}
}

// boot starts everything; it does not wait for what may take long.
func (m *Machine) boot(ctx context.Context, ends chan<- command) {
	m.journal.problem(stepInit, m.setup.folders(folders))
	m.journal.problem(stepInit, m.setup.links())
	cfg, problems := terminal.Load(terminal.Path)
	problems = append(problems, cfg.Appliance(terminal.Path)...)
	m.config = cfg
	m.journal.step(stepConfig)
	loader := m.loader()
	extra := cfg.Modules.Extra
	if len(problems) > 0 {
		// The file may not tell what drives the display: everything that the image has is tried.
		extra = append(slices.Clone(extra), m.setup.allModules()...)
	}
	early, late := split(extra)
	base, rest := split(baseModules())
	// Before anybody else runs.
	m.journal.problem(stepSettings, m.setup.set(settings))
	m.journal.problem(stepSettings, m.setup.Kernel.Hostname(hostname(cfg)))
	// The kiosk needs longest until it has something to show, and waits for display and data partition itself.
	m.journal.problem(stepControl, m.serveControl(ctx))
	dataReady := make(chan struct{})
	if len(problems) == 0 {
		m.startKiosk(ctx, nil, ends)
	} else {
		go func() {
			<-dataReady // the technician reads about it, and about what else is there by then
			m.startKiosk(ctx, problems, ends)
		}()
	}
	var loaded sync.WaitGroup // everything that loads modules or changes the root
	// Whoever asks for the card service before it runs waits for it.
	cards, err := listenPCSCD()
	m.journal.problem(stepServices, err)
	// First what the kiosk shows itself on and is touched by; until then the processors are its own.
	first := func() {
		if len(problems) == 0 {
			m.kioskServes(ctx)
		}
	}
	loaded.Go(func() {
		loader.Load(early...) // display
		loader.Load(base...)  // input, USB
		m.journal.step(stepModules)
		m.run(ctx, m.usb())
		first()
		m.startPCSCD(ctx, cards, ends)
	})
	loaded.Go(func() {
		first()
		drivers := disks(late)
		loaded.Go(func() {
			m.openData(ctx, func() { loader.Load(drivers...) })
			close(dataReady)
		})
		select { // what else there is does not wait for a disk that does not answer
		case <-dataReady:
		case <-time.After(dataSoon):
		}
		loader.Load(slices.DeleteFunc(append(late, rest...), func(n string) bool { return slices.Contains(drivers, n) })...)
		m.run(ctx, m.network())
		m.run(ctx, m.clock())
	})
	go func() {
		loaded.Wait()
		if failed := loader.Failed(); len(failed) > 0 {
			m.store.Update(func(s *initctl.State) { s.Modules = failed })
			m.journal.modules(failed, m.moduleNames())
		}
		m.seal()
		m.watchPower(ctx, ends)
	}()
}

// kioskFirst is how long everything that the first picture does not need waits for it.
const kioskFirst = 2 * time.Second

// kioskServes waits until the kiosk serves, or for kioskFirst.
func (m *Machine) kioskServes(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, kioskFirst)
	defer cancel()
	for {
		s, changed := m.store.State()
		if s.Services[sandbox.Kiosk].State == initctl.ServiceRunning {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// kioskLogs is the one folder that the kiosk may write to: kioskData, bound to a place below logPlace. earlyLogs is what was
// there before, in memory, if the disk was slow.
const (
	logPlace  = "/log"
	kioskLogs = terminal.LogDir
	earlyLogs = terminal.EarlyLogDir
	kioskData = "/data/log/kiosk"
)

// seal is the end of the set-up: from here on nothing is loaded and nothing changes the root. The root is memory, so that
// modules that cannot be loaded any more give theirs back.
func (m *Machine) seal() {
	m.journal.problem(stepSealed, m.setup.set(lastSettings))
	m.journal.problem(stepSealed, os.RemoveAll(m.setup.path("/lib/modules")))
	m.journal.problem(stepSealed, m.setup.Kernel.Mount("", m.setup.path("/"), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""))
	m.journal.step(stepSealed)
}

// allModules names the modules in the image.
func (s Setup) allModules() (names []string) {
	files, err := filepath.Glob(s.path("/lib/modules/*/modules.dep"))
	if err != nil || len(files) == 0 {
		return nil
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		return nil
	}
	for l := range strings.Lines(string(b)) {
		if file, _, ok := strings.Cut(l, ":"); ok {
			name, _, _ := strings.Cut(filepath.Base(file), ".ko")
			names = append(names, modules.Name(name))
		}
	}
	return names
}

// moduleNames are all names of modules that the image knows: of its files, of its configuration, of every terminal.
func (m *Machine) moduleNames() []string {
	names := append(m.setup.allModules(), baseModules()...)
	for _, n := range m.config.Modules.Extra {
		names = append(names, modules.Name(n))
	}
	return names
}

func baseModules() (names []string) {
	for _, b := range image.Base {
		names = append(names, b.Name)
	}
	return names
}

// later lists modules that the first picture does not need: file systems and disks, which come first among them, and
// network.
var later = []string{"crc32c_generic", "ext4", "virtio_blk", "virtio_scsi", "ahci", "sd_mod", "nvme"}

// last lists those that nothing waits for.
var last = []string{"button", "8021q", "virtio_net", "e1000", "e1000e", "igb", "igc", "r8169", "tg3"}

// split tells modules that are loaded at once from those that are loaded later, in their order.
func split(names []string) (early, late []string) {
	for _, n := range names {
		if n = modules.Name(n); slices.Contains(later, n) || slices.Contains(last, n) {
			late = append(late, n)
		} else {
			early = append(early, n)
		}
	}
	return early, late
}

// disks are the modules that the data partition needs.
func disks(late []string) []string {
	names := []string{"crc32c_generic", "ext4"}
	for _, n := range late {
		if slices.Contains(later, n) {
			names = append(names, n)
		}
	}
	return names
}

type noModules struct{ err error }

func (n noModules) Probe(string, string) error { return n.err }

func (m *Machine) loader() *modules.Loader {
	p, err := kmodule.NewProber(kmodule.ProbeOpts{})
	if err != nil {
		m.journal.problem(stepModules, err)
		return modules.New(noModules{err})
	}
	return modules.New(p)
}

func commandLine() []string {
	b, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil
	}
	return strings.Fields(string(b))
}

// hostname is the terminal's id, so that a network's operator can tell terminals apart.
func hostname(c terminal.Config) string { return "ktr-adv-" + strings.ToLower(c.TerminalID) }

// openData mounts the data partition, whose disk needs the drivers that load loads.
func (m *Machine) openData(ctx context.Context, load func()) {
	cfg := m.dataConfig()
	st, early, err := m.mountData(func() (initctl.Data, error) {
		load() // a driver may wait for a disk that does not answer, too
		return data.Open(ctx, cfg)
	})
	m.journal.problem(stepData, err)
	m.journal.problem(stepData, m.setup.prepareData())
	if st == initctl.DataOK && !m.setup.hasFolders(dataFolders) { // it mounts, and is no good all the same
		st = initctl.DataDamaged
		m.doubtSlot()
		m.journal.problem(stepData, errors.Join(m.setup.Kernel.Unmount("/data"), data.Memory(m.setup.Kernel, "/data"), m.setup.prepareData()))
	}
	if err := m.setup.bind(kioskData, kioskLogs); err != nil {
		if st == initctl.DataOK {
			m.doubtSlot()
		}
		st = initctl.DataDamaged
		if !early {
			err = errors.Join(err, m.setup.memoryLogs())
		}
		m.journal.problem(stepData, err)
	}
	slot := initctl.SlotUnknown
	if st == initctl.DataOK {
		slot, err = m.setup.readSlot()
		m.journal.problem(stepData, err)
	}
	m.dataIs(st, slot)
	if slot != initctl.SlotUnknown {
		go m.keepSlot(ctx, slot)
	}
	m.journal.step(stepData)
	m.journal.open("/data/log/init", m.config.Log)
	if st != initctl.DataOK {
		m.journal.failure(codeData, 1)
		return
	}
	go func() {
		tick := time.NewTicker(30 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				now := data.Watch(cfg)
				m.store.Update(func(s *initctl.State) {
					if s.Data != now && now != initctl.DataOK {
						m.journal.failure(codeData, 1)
					}
					s.Data = now
				})
			}
		}
	}()
}

// dataIn is how long the data partition may take to be there. A disk that answers nothing keeps the kernel, and whoever
// mounts, waiting for ever. After dataSoon the kiosk gets a place for its logs in memory, so that it can serve; what it has
// written there it moves to the partition itself.
const (
	dataSoon = 3 * time.Second
	dataIn   = 20 * time.Second
)

// mountData waits for the data partition, or mounts memory in its place when that takes too long. early tells that the kiosk
// has been given memory for its logs meanwhile.
func (m *Machine) mountData(open func() (initctl.Data, error)) (state initctl.Data, early bool, err error) {
	type result struct {
		state initctl.Data
		err   error
	}
	opened := make(chan result, 1)
	go func() {
		st, err := open()
		opened <- result{st, err}
	}()
	select {
	case r := <-opened:
		return r.state, false, r.err
	case <-time.After(dataSoon):
	}
	slow := m.setup.memoryLogs()
	if slow == nil {
		m.journal.problem(stepData, m.setup.bind(kioskLogs, earlyLogs))
	}
	select {
	case r := <-opened:
		return r.state, slow == nil, errors.Join(slow, r.err)
	case <-time.After(dataIn - dataSoon):
	}
	go func() {
		if r := <-opened; r.state == initctl.DataOK {
			within(flushIn, m.doubtSlot) // it may not answer again
		}
		// Whatever it has mounted covers what the services use by now.
		m.journal.problem(stepData, m.setup.Kernel.Unmount("/data"))
	}()
	return initctl.DataDamaged, slow == nil, errors.Join(slow, errors.New("the disk does not answer"), data.Memory(m.setup.Kernel, "/data"))
}

func (m *Machine) dataConfig() data.Config {
	return data.Config{Kernel: dataKernel{}, Target: "/data", Reserve: uint64(m.config.Data.MinFreeMiB) << 20, Appear: 2 * time.Second, Unused: m.doubtSlot}
}

type dataKernel struct{ Linux }

func (dataKernel) Free(target string) (data.Free, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(target, &st); err != nil {
		return data.Free{}, err
	}
	return data.Free{Bytes: st.Bavail * uint64(st.Bsize), ReadOnly: st.Flags&unix.ST_RDONLY != 0}, nil
}

// serveControl opens the door for the kiosk.
func (m *Machine) serveControl(ctx context.Context) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: initctl.Socket, Net: "unix"})
	if err == nil {
		err = errors.Join(os.Chmod(initctl.Socket, 0o600), os.Chown(initctl.Socket, int(users.Kiosk), int(users.Root)))
	}
	if err != nil {
		return err
	}
	go func() {
		err := initctl.Serve(ctx, l, func(uid uint32) bool { return uid == uint32(users.Kiosk) }, m)
		m.journal.problem(stepControl, err)
	}()
	return nil
}

// State implements initctl.Handler.
func (m *Machine) State() (initctl.State, <-chan struct{}) { return m.store.State() }

// Restart implements initctl.Handler. The kiosk may have the card service replaced, and nothing else.
func (m *Machine) Restart(ctx context.Context, name string, start int) initctl.Fault {
	if name != initctl.PCSCD {
		return initctl.FaultRefused
	}
	m.mu.Lock()
	r := m.services[name]
	m.mu.Unlock()
	if r == nil { // it has not started yet, and will be a fresh one
		return initctl.FaultNone
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return r.service.Restart(ctx, start)
}

// spec is what the machine adds to a service's configuration.
type spec struct {
	service.Config
	user users.ID
	argv func() []string
	env  []string
	// listener is passed as descriptor 3 (socket activation).
	listener *os.File
	// notifies says that it sends READY=1.
	notifies bool
}

// run starts a service and keeps it.
func (m *Machine) run(ctx context.Context, s spec) {
	cfg := s.Config
	env := append([]string{"LANG=de_DE.UTF-8", "TZ=Europe/Berlin"}, s.env...)
	var pid struct {
		sync.Mutex
		now int
	}
	if s.notifies {
		sock := filepath.Join(notifyDir, cfg.Name)
		notes, _, err := service.Listen(sock, uint32(s.user), func(from int) bool {
			pid.Lock()
			defer pid.Unlock()
			return from == pid.now
		})
		if err != nil {
			m.journal.problem(stepServices, err)
			return
		}
		cfg.Notifications = notes
		env = append(env, "NOTIFY_SOCKET="+sock)
		if cfg.Watchdog > 0 {
			env = append(env, "WATCHDOG_USEC="+strconv.FormatInt(cfg.Watchdog.Microseconds(), 10))
		}
	}
	if s.listener != nil {
		env = append(env, "LISTEN_FDS=1")
	}
	cfg.Start = func(int) (service.Running, error) {
		pid.Lock() // until its number is known, no message is judged
		defer pid.Unlock()
		null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		defer null.Close()
		out := null.Fd()
		if c := m.journal.console; c != nil {
			out = c.Fd()
		}
		files := []uintptr{null.Fd(), out, out}
		if s.listener != nil {
			files = append(files, s.listener.Fd())
		}
		argv := append([]string{"adv-init", sandbox.Arg, cfg.Name}, s.argv()...)
		p, err := m.reaper.Start(m.self, argv, &syscall.ProcAttr{Dir: "/", Env: env, Files: files, Sys: &syscall.SysProcAttr{Setsid: true}})
		if err != nil {
			return nil, err
		}
		pid.now = p.Pid()
		return p, nil
	}
	up := false
	cfg.Changed = func(st initctl.Service) {
		m.store.Update(func(s *initctl.State) { s.Services[cfg.Name] = st })
		if st.State == initctl.ServiceRunning && !up {
			up = true
			m.journal.service(cfg.Name)
		}
	}
	cfg.Replaced = func(c service.Cause, code int) {
		m.journal.replaced(cfg.Name, c, code)
		if s.Replaced != nil {
			s.Replaced(c, code)
		}
	}
	svc := service.New(cfg)
	ctx, cancel := context.WithCancel(ctx)
	r := &running{svc, cancel, make(chan struct{})}
	m.mu.Lock()
	m.services[cfg.Name] = r
	m.mu.Unlock()
	go func() {
		defer close(r.done)
		svc.Run(ctx)
	}()
}

// stop ends a service in order and waits for it.
func (m *Machine) stop(name string) {
	m.mu.Lock()
	r := m.services[name]
	m.mu.Unlock()
	if r == nil {
		return
	}
	r.cancel()
	select {
	case <-r.done:
	case <-time.After(8 * time.Second): // longer than its own patience
	}
}

// shutdown ends the machine: the kiosk first (it ends the session), then what it used.
func (m *Machine) shutdown(end command) {
	m.journal.step(stepStopping)
	m.journal.memory()
	for _, name := range []string{sandbox.Kiosk, sandbox.PCSCD, sandbox.Time, sandbox.Network, sandbox.USB} {
		m.stop(name)
	}
	m.journal.step(stepStopped)
	within(flushIn, func() {
		m.journal.close()
		unix.Sync()
		for _, name := range []string{kioskLogs, "/data"} {
			if err := unix.Unmount(name, 0); err != nil {
				// Somebody still holds it: at least nothing is written any more.
				_ = unix.Mount("", name, "", unix.MS_REMOUNT|unix.MS_RDONLY|data.Flags, "")
			}
		}
		unix.Sync()
	})
	_ = unix.Reboot(int(end))
	// The kernel refused, or takes its time: the first process must not end.
	select {}
}

// flushIn is how long a disk may take for the last that is written to it: one that does not answer any more keeps no terminal
// from starting anew.
const flushIn = 15 * time.Second

// within calls f and returns when it has returned, or after d.
func within(d time.Duration, f func()) {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(d):
	}
}

// writeFault leaves word for the technician's screen.
func (m *Machine) writeFault(cause terminal.Cause, problems []terminal.Problem) {
	b, err := json.Marshal(terminal.Fault{Cause: cause, Problems: problems, Facts: m.facts()})
	if err == nil {
		err = os.WriteFile(m.setup.path(terminal.FaultPath), b, 0o644)
	}
	m.journal.problem(stepConfig, err)
}

// facts are what a technician asks first.
func (m *Machine) facts() []terminal.Fact {
	s, _ := m.store.State()
	facts := []terminal.Fact{{Name: "image", Value: release.BuildID(m.setup.path(release.File))}}
	for _, pattern := range []string{"/dev/dri/card*", "/dev/input/event*", "/sys/class/net/e*"} {
		names, _ := filepath.Glob(pattern)
		for _, n := range names {
			facts = append(facts, terminal.Fact{Name: "device", Value: n})
		}
	}
	facts = append(facts, terminal.Fact{Name: "data", Value: string(s.Data)}, terminal.Fact{Name: "network", Value: string(s.Network)},
		terminal.Fact{Name: "reader", Value: string(s.Reader)})
	if len(s.Modules) > 0 {
		facts = append(facts, terminal.Fact{Name: "modules not loaded", Value: strings.Join(s.Modules, " ")})
	}
	return facts
}

// readReboots is how often in a row the machine started itself anew.
func (s Setup) readReboots() int {
	// Whatever somebody put there: opening it does not wait, and a link leads nowhere.
	f, err := os.OpenFile(s.path(rebootsFile), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return 0
	}
	b, err := io.ReadAll(io.LimitReader(f, 9))
	if err != nil || len(b) > 8 {
		return 0
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil || n < 0 || n > 1000 {
		return 0
	}
	return n
}

// writeReboots keeps the number over the power cut that may follow.
func (s Setup) writeReboots(n int) error {
	name := s.path(rebootsFile)
	tmp := name + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("count reboots: %w", err)
	}
	_, err = f.WriteString(strconv.Itoa(n))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, name)
	}
	if d, derr := os.Open(filepath.Dir(name)); derr == nil {
		err = errors.Join(err, d.Sync(), d.Close())
	}
	if err != nil {
		return fmt.Errorf("count reboots: %w", err)
	}
	return nil
}
