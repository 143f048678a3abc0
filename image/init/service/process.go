package service

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Reaper starts processes and collects every process that ends, our own and orphans alike: the duty of the first process.
// There is one in a program, and nothing else in the program may wait for children.
type Reaper struct {
	mu       sync.Mutex // also held while a process starts, so that its end is never missed
	children map[int]*Process
}

// Process is a running program.
type Process struct {
	PID    int
	exited chan struct{}
	status syscall.WaitStatus // after exited
	reaper *Reaper
}

// NewReaper makes a reaper. Collect runs it.
func NewReaper() *Reaper { return &Reaper{children: make(map[int]*Process)} }

// Start starts a program.
func (r *Reaper) Start(path string, argv []string, attr *syscall.ProcAttr) (*Process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	p := &Process{PID: pid, exited: make(chan struct{}), reaper: r}
	r.children[pid] = p
	return p, nil
}

// Collect waits for children until stop is closed.
func (r *Reaper) Collect(stop <-chan struct{}) {
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGCHLD)
	defer signal.Stop(sig)
	for {
		r.sweep()
		select {
		case <-sig:
		case <-stop:
			return
		}
	}
}

func (r *Reaper) sweep() {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		r.mu.Lock()
		p := r.children[pid]
		delete(r.children, pid)
		if p != nil {
			p.status = ws
			close(p.exited)
		}
		r.mu.Unlock()
	}
}

// Exited is closed when the process is gone.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Pid is the process's number.
func (p *Process) Pid() int { return p.PID }

// ExitCode is the exit code, or 128 and the number of the signal that ended it; valid after Exited.
func (p *Process) ExitCode() int {
	if p.status.Signaled() {
		return 128 + int(p.status.Signal())
	}
	return p.status.ExitStatus()
}

// Signal sends a signal to the process and to all of its group. A process that is gone is left alone.
func (p *Process) Signal(s syscall.Signal) error {
	p.reaper.mu.Lock()
	defer p.reaper.mu.Unlock()
	if p.reaper.children[p.PID] != p {
		return nil
	}
	err := unix.Kill(-p.PID, unix.Signal(s))
	if errors.Is(err, unix.ESRCH) {
		err = unix.Kill(p.PID, unix.Signal(s))
	}
	return err
}
