package roundtrip

import (
	"context"
	"testing"
	"time"

	"ktradv/hw/egk"
	"ktradv/hw/sim/adapter"
	"ktradv/hw/sim/persona"
	simreader "ktradv/hw/sim/reader"
	"ktradv/hw/vsd"
	"ktradv/internal/testpki"
)

// A reader that moves short commands only reads the same card, in more and smaller pieces.
func TestShortOnlyReader(t *testing.T) {
	t.Parallel()
	pki, err := testpki.New(testpki.Config{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := persona.Build("healthy-g21", pki, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	sim := simreader.New(simreader.Config{})
	sim.SetFailures(simreader.Failures{ShortOnly: true})
	sim.Insert(c)
	r := adapter.New(sim, adapter.Config{})
	defer r.Close()
	ctx := context.Background()
	conn, err := r.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Disconnect()
	info, err := egk.ReadInfo(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := egk.ReadCertificate(ctx, conn, info.Generation, egk.CertAUT); err != nil {
		t.Errorf("certificate: %v", err)
	}
	d, err := vsd.Read(ctx, conn, false)
	if err != nil || len(d.Sections) == 0 {
		t.Errorf("insured person's data: %v", err)
	}
}
