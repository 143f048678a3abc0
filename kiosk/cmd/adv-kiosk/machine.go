package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"ktradv/hw/reader/pcscd"
	"ktradv/internal/advlog"
	"ktradv/internal/initctl"
	"ktradv/internal/terminal"
	"ktradv/kiosk/app"
	"ktradv/kiosk/service"
	"ktradv/kiosk/supervise"
)

// machine is what else there is of the terminal.
type machine struct {
	cards  supervise.CardService // nil: the system's
	client *initctl.Client       // the first process; nil where it is none of ours
	staff  *service.Watch        // how the terminal is, as client tells
	stop   func()
	wg     sync.WaitGroup
	// patience is how long nobody is served because the data partition is not there.
	patience time.Duration
	early    string // where the logs are that were written to memory meanwhile
}

// onAppliance tells whether the first process is ours.
func onAppliance() bool {
	_, err := os.Stat(initctl.Socket)
	return err == nil
}

// openMachine finds out who runs the card service: the kiosk itself, where the configuration says so; the terminal's first
// process, where there is one, which also tells how the terminal is; or the system, of which the kiosk knows nothing.
func openMachine(ctx context.Context, cfg terminal.Config) (*machine, error) {
	if cfg.Reader.PCSCDConfig != "" {
		isolation := pcscd.Shared
		if cfg.Reader.PCSCDPrivate {
			isolation = pcscd.Private
		}
		d, err := pcscd.Start(ctx, pcscd.Config{ConfigDir: cfg.Reader.PCSCDConfig, Socket: cfg.Reader.Socket, Isolation: isolation})
		if err != nil {
			return nil, fmt.Errorf("card service: %w", err)
		}
		return &machine{cards: d, stop: func() { d.Close() }}, nil
	}
	if !onAppliance() {
		return &machine{stop: func() {}}, nil
	}
	socket := cfg.Reader.Socket
	if socket == "" {
		socket = terminal.CardSocket // where the system has it, too
	}
	soon, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client, err := initctl.Dial(soon, initctl.Socket, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		return pcscd.Ping(ctx, socket)
	})
	if err != nil {
		return nil, err
	}
	return &machine{
		cards: &initCards{client}, client: client, staff: service.New(client), patience: dataPatience, early: terminal.EarlyLogDir,
		stop: func() { client.Close() },
	}, nil
}

// openLog opens the supervisor's log when its place is there, and writes down how the terminal is until ctx ends. For a data
// partition that does not come it waits no longer than patience: the first process gives the logs a place in memory
// meanwhile, and what was written there follows to the partition.
func (m *machine) openLog(ctx context.Context, cfg terminal.Log) (*advlog.Log, error) {
	if err := m.place(ctx, cfg.Dir); err != nil {
		return nil, err
	}
	log, err := app.OpenLog(cfg, advlog.Supervisor)
	if err == nil && m.staff != nil {
		m.wg.Go(func() { m.staff.Run(ctx, log) })
	}
	if m.client != nil {
		m.wg.Go(func() {
			if _, err := m.client.Wait(ctx, dataKnown); err == nil {
				m.follow(ctx, cfg, log)
			}
		})
	}
	return log, err
}

// dataPatience is the patience of a terminal. After three seconds the first process has given the logs a place in memory.
const dataPatience = 5 * time.Second

func dataKnown(s initctl.State) bool { return s.Data != initctl.DataOpening }

// place waits for the place of the logs: the data partition, or the folder that stands in for it while it is still being looked
// for.
func (m *machine) place(ctx context.Context, dir string) error {
	if m.client == nil {
		return nil
	}
	wait := m.patience
	for {
		soon, cancel := context.WithTimeout(ctx, wait)
		_, err := m.client.Wait(soon, dataKnown)
		late := soon.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err == nil:
			return nil
		case !late:
			return fmt.Errorf("wait for the data partition: %w", err)
		}
		if r := ownFolder(dir); r != nil {
			r.Close()
			return nil
		}
		wait = 100 * time.Millisecond
	}
}

// ownFolder opens a folder that belongs to this process's user, nil where there is none.
func ownFolder(dir string) *os.Root {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil
	}
	if fi, err := r.Stat("."); err == nil {
		if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) == os.Geteuid() {
			return r
		}
	}
	r.Close()
	return nil
}

var codeNotMoved = advlog.NewCode(11005, "EARLY-LOGS-NOT-MOVED")

// follow moves what was logged before the place of the logs was there, be it by a kiosk that has ended meanwhile.
func (m *machine) follow(ctx context.Context, cfg terminal.Log, log *advlog.Log) {
	early := ownFolder(m.early)
	if early == nil {
		return // the disk was quick
	}
	defer early.Close()
	before, err := early.Stat(".")
	if now, nerr := os.Stat(cfg.Dir); err == nil && nerr == nil && os.SameFile(before, now) {
		return // it was the place itself
	}
	for _, c := range []advlog.Component{advlog.App, advlog.Supervisor} {
		err = errors.Join(err, advlog.Adopt(app.LogConfig(cfg, c), early))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "adv-kiosk:", err)
		log.Error(ctx, advlog.ErrorEvent{Code: codeNotMoved, Severity: advlog.Error, Name: advlog.L("log.early"), Result: advlog.ResultFailed})
	}
}

// free tells whether the first process remembers that nobody's card can be in the slot, as soon as it can know.
func (m *machine) free(ctx context.Context) bool {
	s, err := m.client.Wait(ctx, dataKnown)
	return err == nil && s.Slot == initctl.SlotEmpty
}

// setSlot has the first process remember what is in the slot. One that is gone remembers nothing more: the staff is told.
func (m *machine) setSlot(slot initctl.Slot) { _ = m.client.SetSlot(slot) }

// close ends what openMachine began; the context of openLog has ended.
func (m *machine) close() {
	m.wg.Wait()
	m.stop()
}

// initCards is the card service that the terminal's first process runs. That process brings a service back that ended by
// itself; only one that hangs, or that served a person, is replaced at the kiosk's word.
type initCards struct{ client *initctl.Client }

// Ping asks a service that runs; one that is on its way needs no second nudge.
func (c *initCards) Ping(ctx context.Context) error {
	if s, _ := c.client.State(); s.Services[initctl.PCSCD].State != initctl.ServiceRunning {
		return nil
	}
	return c.client.Ping(ctx)
}

// Restart replaces the service.
func (c *initCards) Restart(ctx context.Context) error { return c.client.Restart(ctx) }

// Exited never says that the service is gone: the first process knows before the kiosk.
func (c *initCards) Exited() <-chan struct{} { return nil }
