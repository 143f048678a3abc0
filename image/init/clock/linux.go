//go:build linux

package clock

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/beevik/ntp"
	"golang.org/x/sys/unix"
)

// Query asks a server by SNTP and refuses an answer that cannot be right (RFC 5905: unsynchronised, kiss of death, ...).
func Query(ctx context.Context, server string) (Answer, error) {
	timeout := queryIn
	if d, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(d))
	}
	if timeout <= 0 {
		return Answer{}, context.DeadlineExceeded
	}
	r, err := ntp.QueryWithOptions(server, ntp.QueryOptions{Timeout: timeout, Dialer: func(_, remote string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp4", remote)
	}})
	if err == nil {
		err = r.Validate()
	}
	if err != nil {
		return Answer{}, fmt.Errorf("ask time server: %w", err)
	}
	return Answer{r.ClockOffset}, nil
}

// System is the machine's own clock.
type System struct{}

// Now is the time.
func (System) Now() time.Time { return time.Now() }

// Step sets the clock.
func (System) Step(offset time.Duration) error {
	ts := unix.NsecToTimespec(time.Now().Add(offset).UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	return synchronised()
}

// Slew lets the clock drift: at most half a millisecond in a second.
func (System) Slew(offset time.Duration) error {
	const singleShot = 0x8001 // ADJ_OFFSET_SINGLESHOT
	if _, err := unix.Adjtimex(&unix.Timex{Modes: singleShot, Offset: offset.Microseconds()}); err != nil {
		return fmt.Errorf("slew the clock: %w", err)
	}
	return synchronised()
}

// synchronised tells the kernel that the clock is right; from then on it keeps the battery's clock right, too.
func synchronised() error {
	_, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_STATUS | unix.ADJ_MAXERROR | unix.ADJ_ESTERROR, Status: 0})
	if err != nil {
		return fmt.Errorf("mark the clock as synchronised: %w", err)
	}
	return nil
}
