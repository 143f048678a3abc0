// Package state holds what adv-init knows about the machine, for everybody who follows it.
package state

import (
	"sync"

	"ktradv/internal/initctl"
)

// Store holds the state. Its methods may be called from several goroutines.
type Store struct {
	mu      sync.Mutex
	state   initctl.State
	changed chan struct{}
}

// New returns a store with the state of a machine of which nothing is known yet.
func New() *Store {
	return &Store{changed: make(chan struct{}), state: initctl.State{
		Reader: initctl.ReaderNone, Network: initctl.NetworkDown, Clock: initctl.ClockUnset, Data: initctl.DataOpening,
		Services: make(map[string]initctl.Service),
	}}
}

// State is the present state and a channel that is closed when there is a newer one.
func (s *Store) State() (initctl.State, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Clone(), s.changed
}

// Update changes the state. A change that changes nothing is told to nobody.
func (s *Store) Update(f func(*initctl.State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.state.Clone()
	f(&n)
	if n.Equal(s.state) {
		return
	}
	s.state = n
	close(s.changed)
	s.changed = make(chan struct{})
}
