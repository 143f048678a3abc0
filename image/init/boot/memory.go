//go:build linux

package boot

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"ktradv/image/init/sandbox"
	"ktradv/image/init/users"
	"ktradv/internal/advlog"
)

// Memory is the anonymous memory of all processes of a user: what they hold that no file backs.
type Memory struct {
	Processes int
	Bytes     int64
}

// MemoryOf reads the status of every process below /proc of a root ("" is the machine's own). A process that ends
// meanwhile counts for nothing.
func MemoryOf(root string, user users.ID) (m Memory) {
	names, _ := filepath.Glob(filepath.Join(root, "/proc/[0-9]*/status"))
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			continue
		}
		var uid, kib int64 = -1, -1
		for line := range strings.Lines(string(b)) {
			key, value, _ := strings.Cut(line, ":")
			f := strings.Fields(value)
			if len(f) == 0 {
				continue
			}
			switch key {
			case "Uid":
				uid, _ = strconv.ParseInt(f[0], 10, 64)
			case "RssAnon":
				kib, _ = strconv.ParseInt(f[0], 10, 64)
			}
		}
		if uid == int64(user) && kib > 0 {
			m.Processes++
			m.Bytes += kib << 10
		}
	}
	return m
}

// memory notes how much memory the kiosk and the card service hold, as the terminal goes off.
func (j *journal) memory() {
	since := sinceKernel()
	for name, user := range map[advlog.Label]users.ID{
		advlog.L("memory." + sandbox.Kiosk): users.Kiosk, advlog.L("memory." + sandbox.PCSCD): users.PCSCD,
	} {
		m := MemoryOf("", user)
		j.do(func(l *advlog.Log) {
			l.Perf(context.Background(), advlog.PerfEvent{Name: name, Duration: since, Values: []advlog.Value{
				advlog.Int("processes", int64(m.Processes)), advlog.Int("anon_bytes", m.Bytes),
			}})
		})
	}
}
