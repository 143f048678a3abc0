package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"ktradv/hw/reader/pcscd"
	"ktradv/internal/advlog"
	"ktradv/internal/initctl"
	"ktradv/internal/terminal"
	"ktradv/kiosk/service"
	"ktradv/kiosk/supervise"
)

// systemSocket is where pcscd listens when the configuration names no other place.
const systemSocket = "/run/pcscd/pcscd.comm"

// openMachine finds out who runs the card service: the kiosk itself, where the configuration says so; the terminal's first
// process, where there is one, which also tells how the terminal is; or the system, of which the kiosk knows nothing.
func openMachine(ctx context.Context, cfg terminal.Config, log *advlog.Log) (cards supervise.CardService, staff supervise.Service, stop func(), err error) {
	if cfg.Reader.PCSCDConfig != "" {
		isolation := pcscd.Shared
		if cfg.Reader.PCSCDPrivate {
			isolation = pcscd.Private
		}
		d, err := pcscd.Start(ctx, pcscd.Config{ConfigDir: cfg.Reader.PCSCDConfig, Socket: cfg.Reader.Socket, Isolation: isolation})
		if err != nil {
			return nil, nil, nil, fmt.Errorf("card service: %w", err)
		}
		return d, nil, func() { d.Close() }, nil
	}
	if _, err := os.Stat(initctl.Socket); err != nil {
		return nil, nil, func() {}, nil
	}
	socket := cfg.Reader.Socket
	if socket == "" {
		socket = systemSocket
	}
	soon, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client, err := initctl.Dial(soon, initctl.Socket, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		return pcscd.Ping(ctx, socket)
	})
	if err != nil {
		return nil, nil, nil, err
	}
	watch := service.New(client, log)
	ctx, end := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); watch.Run(ctx) }()
	return &initCards{client}, watch, func() { end(); <-done; client.Close() }, nil
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
