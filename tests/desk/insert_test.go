//go:build pcsc

package desk

import (
	"context"
	"errors"
	"image"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gioui.org/cpurender"

	"ktradv/hw/reader"
	"ktradv/hw/reader/pcsc"
	"ktradv/hw/reader/pcscd"
	"ktradv/hw/sim/ifd"
	"ktradv/hw/sim/persona"
	simreader "ktradv/hw/sim/reader"
	"ktradv/internal/terminal"
	"ktradv/internal/testpki"
	"ktradv/kiosk/app"
	"ktradv/kiosk/control"
	"ktradv/kiosk/platform/memory"
	"ktradv/kiosk/platform/remote"
)

// BenchmarkInsertToScreen measures what a person waits for after putting the card in: from the moment the card sits in
// the reader to the first changed pixel of the reading screen, through pcscd, session, screens, renderer and the display
// shared with the supervisor. Each round is a session process of its own in everything but the process.
func BenchmarkInsertToScreen(b *testing.B) {
	if err := pcscd.Available(); err != nil {
		b.Skip(err)
	}
	dir, err := os.MkdirTemp("", "insert-")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	sim := simreader.New(simreader.Config{Profile: simreader.MCT})
	srv, err := ifd.Serve(sim, dir)
	if err != nil {
		b.Fatal(err)
	}
	defer srv.Close()
	daemon, err := ifd.StartPCSCD(ctx, dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer daemon.Close()
	b.Setenv("PCSCLITE_CSOCK_NAME", ifd.PCSCDSocket(dir)) // read by libpcsclite at its first call
	pki, err := testpki.New(testpki.Config{})
	if err != nil {
		b.Fatal(err)
	}
	card, err := persona.Build("healthy-g21", pki, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	certPEM, _, err := pki.IssueTLSServer([]string{"localhost"}, nil)
	if err != nil {
		b.Fatal(err)
	}
	for name, content := range map[string][]byte{"roots/root.cvc": pki.Root.Certificate, "trust/server.pem": certPEM} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	kiosk, problems := terminal.Parse([]byte(`{"display":{"platform":"memory"},"server":{"address":"localhost:1",
		"trust_store":"trust"},"card_roots":"roots"}`), filepath.Join(dir, "terminal.json"))
	if len(problems) > 0 {
		b.Fatal(problems)
	}
	display, err := memory.New(memory.Config{Size: image.Pt(1280, 800)})
	if err != nil {
		b.Fatal(err)
	}
	defer display.Close()
	host := remote.NewHost(display, nil)
	go host.Run(ctx)

	var times []time.Duration
	for b.Loop() { // runs this function once: libpcsclite keeps the first socket it was told
		times = append(times, insertOnce(b, ctx, kiosk, host, display, sim, card))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "insert-ms")
	b.ReportMetric(float64(times[len(times)-1].Microseconds())/1000, "max-ms")
}

// openWhenFree opens the reader once the round before has let it go; a process of the product opens it only once.
func openWhenFree() (reader.Reader, error) {
	for {
		r, err := pcsc.Open(pcsc.Config{})
		if !errors.Is(err, pcsc.ErrOpen) {
			return r, err
		}
		time.Sleep(time.Millisecond)
	}
}

func insertOnce(b *testing.B, ctx context.Context, kiosk terminal.Config, host *remote.Host, display *memory.Display, sim *simreader.Reader, card simreader.Card) time.Duration {
	b.Helper()
	hostEnd, sessionEnd, err := remote.Pair()
	if err != nil {
		b.Fatal(err)
	}
	attached := make(chan *remote.Session, 1)
	go func() {
		s, err := host.Attach(hostEnd)
		if err != nil {
			b.Error(err)
		}
		attached <- s
	}()
	client, err := remote.NewClient(sessionEnd, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	shown := <-attached
	mine, theirs := net.Pipe()
	sup := control.New(mine)
	defer sup.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- app.Run(ctx, app.Config{
			Kiosk: kiosk, Platform: client, Renderer: cpurender.New(cpurender.Options{}), Control: control.New(theirs),
			OpenReader: openWhenFree,
		})
	}()
	if m, err := sup.Receive(); err != nil || m.Kind != control.Ready {
		b.Fatal(m, err)
	}
	if err := shown.Drawn(ctx); err != nil {
		b.Fatal(err)
	}
	if err := sup.Send(control.Message{Kind: control.Activate}); err != nil {
		b.Fatal(err)
	}
	if m, err := sup.Receive(); err != nil || m.Kind != control.Visible {
		b.Fatal(m, err)
	}
	if err := host.Activate(shown); err != nil {
		b.Fatal(err)
	}
	go sup.Receive()                   // how it ended
	time.Sleep(400 * time.Millisecond) // the session waits for a card by then; nothing is drawn meanwhile
	updated := display.Updated()
	start := time.Now()
	sim.Insert(card)
	select {
	case <-updated:
	case <-ctx.Done():
		b.Fatal("nothing is drawn")
	}
	took := time.Since(start)
	sim.Remove()
	cancel()
	<-done
	return took
}
