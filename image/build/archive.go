package build

import (
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"
)

// archive packs a tree as the kernel reads it (cpio, format newc). Names in order, times 0 and inode numbers counted:
// the same tree gives the same bytes.
func archive(tree map[string]entry) ([]byte, error) {
	var out bytes.Buffer
	w := cpio.Newc.Writer(&out)
	for i, e := range packed(tree) {
		info := cpio.Info{Ino: uint64(i + 1), Mode: uint64(e.mode.Perm()), UID: uint64(e.uid), GID: uint64(e.uid), NLink: 1, Name: e.name}
		data := e.data
		switch e.mode.Type() {
		case 0:
			info.Mode |= cpio.S_IFREG
		case fs.ModeDir:
			info.Mode |= cpio.S_IFDIR
			info.NLink = 2
		case fs.ModeSymlink:
			info.Mode |= cpio.S_IFLNK
			data = []byte(e.link)
		case fs.ModeDevice | fs.ModeCharDevice:
			info.Mode |= cpio.S_IFCHR
			info.Rmajor, info.Rminor = uint64(e.major), uint64(e.minor)
		default:
			return nil, fmt.Errorf("pack %s: no place for a file of the type %v", e.name, e.mode.Type())
		}
		if err := w.WriteRecord(cpio.StaticRecord(data, info)); err != nil {
			return nil, fmt.Errorf("pack %s: %w", e.name, err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// packed lists a tree in the order of packing: our programs first, side by side, because the compressor finds what they
// have in common only where it is near; and every folder before what is in it.
func packed(tree map[string]entry) []entry {
	list := sorted(tree)
	rank := func(e entry) int {
		for _, p := range programs {
			if e.name == p.name || strings.HasPrefix(p.name, e.name+"/") {
				return 0
			}
		}
		return 1
	}
	slices.SortStableFunc(list, func(a, b entry) int { return cmp.Compare(rank(a), rank(b)) })
	return list
}
