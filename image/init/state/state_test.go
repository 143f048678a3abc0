package state

import (
	"testing"

	"ktradv/internal/initctl"
)

func TestStore(t *testing.T) {
	t.Parallel()
	s := New()
	before, changed := s.State()
	s.Update(func(st *initctl.State) { st.Network = initctl.NetworkDown })
	select {
	case <-changed:
		t.Error("a change that changes nothing was told")
	default:
	}
	s.Update(func(st *initctl.State) { st.Services["x"] = initctl.Service{State: initctl.ServiceRunning} })
	<-changed
	after, _ := s.State()
	if len(before.Services) != 0 || len(after.Services) != 1 {
		t.Errorf("before %v, after %v; a state handed out must not change", before.Services, after.Services)
	}
	after.Services["y"] = initctl.Service{}
	if again, _ := s.State(); len(again.Services) != 1 {
		t.Error("a state handed out shares its map with the store")
	}
}
