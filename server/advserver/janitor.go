package advserver

import (
	"context"
	"os"
	"runtime"
	"strings"
	"time"

	"google.golang.org/grpc/stats"
)

// A server lives on when a session ends, so what the session held has to leave its memory (AdV-A_2409). The proxy
// overwrites what it can reach; copies in buffers of TLS, HTTP/2 and the decoders are garbage then, which Go's collector
// leaves as it is until the memory is used again. With [EraseSetting] in GODEBUG it overwrites an object when it frees it,
// and the janitor has it run soon after a connection has ended.

// EraseSetting is the runtime setting that makes the collector overwrite what it frees. The process needs it from its
// start; see [ErasesMemory].
const EraseSetting = "clobberfree=1"

// ErasesMemory reports whether the process was started with EraseSetting.
func ErasesMemory() bool { return strings.Contains(","+os.Getenv("GODEBUG")+",", ","+EraseSetting+",") }

const (
	// eraseDelay collects the sessions that end together, so that a busy server spends little on it.
	eraseDelay = time.Second
	// eraseCycles: pools of buffers give up what nobody uses in the second cycle, and the third frees it.
	eraseCycles = 3
)

// janitor runs the collector after connections have ended. It is a stats.Handler, by which gRPC tells of them.
type janitor struct {
	dirty  chan struct{}
	forget func() // gives up what is kept for later use, such as idle connections
}

var _ stats.Handler = (*janitor)(nil)

func newJanitor(forget func()) *janitor { return &janitor{make(chan struct{}, 1), forget} }

func (j *janitor) run(ctx context.Context) {
	for {
		select {
		case <-j.dirty:
		case <-ctx.Done():
			return
		}
		t := time.NewTimer(eraseDelay)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		j.forget()
		for range eraseCycles {
			runtime.GC()
		}
	}
}

// HandleConn implements stats.Handler.
func (j *janitor) HandleConn(_ context.Context, s stats.ConnStats) {
	if _, ok := s.(*stats.ConnEnd); !ok {
		return
	}
	select {
	case j.dirty <- struct{}{}:
	default:
	}
}

// TagConn implements stats.Handler.
func (*janitor) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// TagRPC implements stats.Handler.
func (*janitor) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler.
func (*janitor) HandleRPC(context.Context, stats.RPCStats) {}
