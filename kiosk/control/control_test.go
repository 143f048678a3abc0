package control

import (
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
)

func TestExchange(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	left, right := New(a), New(b)
	want := []Message{
		{Kind: Ready}, {Kind: Activate}, {Kind: Activate, Slot: SlotEmpty, Wait: true}, {Kind: Cards}, {Kind: Free, Slot: SlotEmpty}, {Kind: Free}, {Kind: Visit}, {Kind: Empty},
		{Kind: Service, Codes: []string{"CLOCK-WRONG", "A1"}},
		{Kind: Service, Codes: []string{"MODULE-FAILED 8021q virtio_net +2"}},
		{Kind: Service}, {Kind: Hung}, {Kind: Ended, Reason: Served, Slot: SlotNew},
	}
	go func() {
		for _, m := range want {
			if err := left.Send(m); err != nil {
				t.Error(err)
			}
		}
		left.Close()
	}()
	for _, w := range want {
		if got, err := right.Receive(); err != nil || !reflect.DeepEqual(got, w) {
			t.Errorf("Receive = %+v, %v; want %+v", got, err, w)
		}
	}
	if _, err := right.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last message: %v; want EOF", err)
	}
}

type readOnly struct{ io.Reader }

func (readOnly) Write(p []byte) (int, error) { return len(p), nil }
func (readOnly) Close() error                { return nil }

func TestRefuses(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		`{"kind":"service","codes":["A "]}` + "\n", `{"kind":"service","codes":[" a"]}` + "\n", `{"kind":"service","codes":["A B"]}` + "\n",
		`{"kind":"service","codes":["A Erika Mustermann"]}` + "\n", `{"kind":"service","codes":["A ` + strings.Repeat("a", maxAbout+1) + `"]}` + "\n",
		"\n", "{}\n", "no json\n", `{"kind":"shell"}` + "\n", `{"kind":"ended","reason":"?"}` + "\n",
		`{"kind":"ready","reason":"served"}` + "\n", `{"kind":"ready","slot":"new"}` + "\n",
		`{"kind":"visit","slot":"new"}` + "\n", `{"kind":"cards","slot":"empty"}` + "\n", `{"kind":"free","wait":true}` + "\n", `{"kind":"empty","slot":"empty"}` + "\n",
		`{"kind":"activate","slot":"full"}` + "\n", `{"kind":"cards","wait":true}` + "\n", `{"kind":"hung","codes":["A"]}` + "\n",
		`{"kind":"service","codes":["a"]}` + "\n", `{"kind":"service","codes":[""]}` + "\n", `{"kind":"service","codes":["` + strings.Repeat("A", maxCode+1) + `"]}` + "\n",
		`{"kind":"service","codes":["A"` + strings.Repeat(`,"A"`, maxCodes) + `]}` + "\n", `{"kind":"` + strings.Repeat("a", 2*maxLine) + `"}` + "\n",
	} {
		if m, err := New(readOnly{strings.NewReader(line)}).Receive(); !errors.Is(err, ErrProtocol) {
			t.Errorf("Receive(%.40q) = %+v, %v; want a protocol error", line, m, err)
		}
	}
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte(`{"kind":"ready"}` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := New(readOnly{strings.NewReader(string(b))})
		for range 10 {
			if _, err := c.Receive(); err != nil {
				return
			}
		}
	})
}
