//go:build linux

package boot

import (
	"context"
	"syscall"
	"testing"

	"ktradv/image/init/service"
	"ktradv/internal/initctl"
)

// process is a card service that lives until it is killed.
type process struct {
	exited chan struct{}
	killed chan<- int
	number int
}

func (p *process) Pid() int                { return 1000 + p.number }
func (p *process) Exited() <-chan struct{} { return p.exited }
func (p *process) ExitCode() int           { return 0 }
func (p *process) Signal(s syscall.Signal) error {
	select {
	case <-p.exited:
	default:
		if s == syscall.SIGKILL {
			p.killed <- p.number
		}
		close(p.exited)
	}
	return nil
}

// After a kiosk that is gone the card service is another one; the kiosk may have nothing else replaced.
func TestCardsAreForgotten(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	m := newMachine(Setup{k, k.root})
	m.forgetCards(t.Context()) // no service yet: nothing to forget, and no harm
	killed, started := make(chan int, 8), make(chan int, 8)
	svc := service.New(service.Config{Name: initctl.PCSCD, Start: func(n int) (service.Running, error) {
		started <- n
		return &process{make(chan struct{}), killed, n}, nil
	}})
	m.services[initctl.PCSCD] = &running{service: svc}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); svc.Run(ctx) }()
	if n := <-started; n != 1 {
		t.Fatalf("start %d", n)
	}
	m.forgetCards(ctx)
	if dead, born := <-killed, <-started; dead != 1 || born != 2 {
		t.Errorf("process %d was killed and %d started; want 1 and 2", dead, born)
	}
	if f := m.Restart(ctx, "kiosk", 0); f != initctl.FaultRefused {
		t.Errorf("restart of the kiosk = %q; want refused", f)
	}
	cancel()
	<-done
}
