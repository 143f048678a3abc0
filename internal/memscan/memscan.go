// Package memscan looks for octet patterns in the memory of a running process, so that a test can show that a secret is
// not, or is, in it. It reads every readable mapping, also those that a core dump would leave out.
//
// A pattern that the searching process holds is found in the searching process; a search in another one is not disturbed
// by that. Patterns have to be distinctive: four octets turn up by chance.
package memscan

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// MinPattern is the length of the shortest pattern that is searched for, in octets.
const MinPattern = 6

// ErrPattern: a pattern is too short to prove anything.
var ErrPattern = errors.New("pattern is too short")

// Hit is one occurrence of a pattern.
type Hit struct {
	Pattern int    // index of the pattern
	Address uint64 // in the process
	Mapping string // path or name of the mapping, "" when it has none
}

// Result tells what was read and what was found.
type Result struct {
	Hits     []Hit
	Mappings int    // mappings that were read
	Octets   uint64 // octets that were read
	// Unread are the mappings that could not be read at all, though readable by their permissions. Those of devices are
	// expected here, and the kernel's own.
	Unread []string
}

// maxHits bounds the result; more occurrences prove nothing new.
const maxHits = 1000

// Process searches the memory of the process pid. The process should not change its mappings meanwhile; a test stops it
// or lets it wait. It needs the permission to trace the process: the same user, or root.
func Process(pid int, patterns ...[]byte) (Result, error) {
	overlap := 0
	for i, p := range patterns {
		if len(p) < MinPattern {
			return Result{}, fmt.Errorf("pattern %d of %d octets: %w", i, len(p), ErrPattern)
		}
		overlap = max(overlap, len(p)-1)
	}
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return Result{}, fmt.Errorf("mappings of process %d: %w", pid, err)
	}
	defer maps.Close()
	mappings, err := parseMaps(maps)
	if err != nil {
		return Result{}, fmt.Errorf("mappings of process %d: %w", pid, err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return Result{}, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	defer mem.Close()
	var res Result
	for _, m := range mappings {
		if m.readable {
			res.search(mem, m, patterns, overlap)
		}
	}
	if res.Octets == 0 {
		return res, fmt.Errorf("memory of process %d: nothing could be read", pid)
	}
	return res, nil
}

type mapping struct {
	start, end uint64
	readable   bool
	name       string
}

// parseMaps reads /proc/PID/maps, see proc(5).
func parseMaps(r io.Reader) ([]mapping, error) {
	var list []mapping
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		fields := strings.Fields(sc.Text())
		if len(fields) < 5 || len(fields[1]) < 4 {
			return nil, fmt.Errorf("line %d: %d fields", len(list)+1, len(fields))
		}
		from, to, ok := strings.Cut(fields[0], "-")
		if !ok {
			return nil, fmt.Errorf("line %d: no address range", len(list)+1)
		}
		m := mapping{readable: fields[1][0] == 'r'}
		var err error
		if m.start, err = strconv.ParseUint(from, 16, 64); err == nil {
			m.end, err = strconv.ParseUint(to, 16, 64)
		}
		if err != nil || m.end < m.start {
			return nil, fmt.Errorf("line %d: address range", len(list)+1)
		}
		if len(fields) > 5 {
			m.name = strings.Join(fields[5:], " ")
		}
		list = append(list, m)
	}
	return list, sc.Err()
}

// search reads a mapping in pieces that overlap by the longest pattern less one octet.
func (res *Result) search(mem io.ReaderAt, m mapping, patterns [][]byte, overlap int) {
	const piece, page = 1 << 20, 1 << 12
	buf := make([]byte, piece+overlap)
	kept := 0 // octets at the start of buf that were read before
	read := false
	for at := m.start; at < m.end && at < 1<<63; { // above are the kernel's own mappings
		n, err := mem.ReadAt(buf[kept:kept+int(min(piece, m.end-at))], int64(at))
		if n == 0 {
			// A page that cannot be read, a guard page for example: go on behind it.
			if err == nil {
				break
			}
			at, kept = at+page-at%page, 0
			continue
		}
		read = true
		res.Octets += uint64(n)
		have := buf[:kept+n]
		for i, p := range patterns {
			for off := 0; len(res.Hits) < maxHits; {
				j := bytes.Index(have[off:], p)
				if j < 0 {
					break
				}
				off += j
				if off+len(p) > kept { // not entirely in the part that was searched before
					res.Hits = append(res.Hits, Hit{Pattern: i, Address: at - uint64(kept) + uint64(off), Mapping: m.name})
				}
				off++
			}
		}
		at += uint64(n)
		keep := min(overlap, len(have))
		copy(buf, have[len(have)-keep:])
		kept = keep
	}
	if read {
		res.Mappings++
	} else if m.end > m.start {
		res.Unread = append(res.Unread, m.name)
	}
}
