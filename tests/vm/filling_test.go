//go:build vm

package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"ktradv/image/disk"
	"ktradv/internal/req"
	"ktradv/tests/demo/appliance"
)

// block is the size of a block of the data partition.
const block = 4096

// free is how many blocks of the data partition are left for files, as the kernel counts them when it has mounted it: it
// keeps a fiftieth back for itself, and 4096 blocks at most.
func free(t *testing.T, file string) int64 {
	t.Helper()
	out := debugfs(t, file, "show_super_stats -h", false)
	number := func(name string) int64 {
		m := regexp.MustCompile(`(?m)^` + name + `:\s+(\d+)$`).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("debugfs does not say %q:\n%s", name, out)
		}
		n, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return number("Free blocks") - number("Reserved block count") - min(disk.Data.Size/block/50, 4096)
}

// fill leaves so many blocks of the data partition.
func fill(t *testing.T, file string, leave int64) {
	t.Helper()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// A large file takes some blocks for its own description; a small one for what is left then does not.
	const about = 16
	for _, f := range []struct {
		name string
		keep int64
	}{{"large", about}, {"small", 0}} {
		size := free(t, file) - leave - f.keep
		debugfs(t, file, "write "+empty+" "+f.name, true)
		debugfs(t, file, fmt.Sprintf("fallocate %s 0 %d", f.name, size-1), true)
		debugfs(t, file, fmt.Sprintf("sif %s size %d", f.name, size*block), true)
	}
	if got := free(t, file); got != leave {
		t.Fatalf("%d blocks of the data partition are left, want %d", got, leave)
	}
}

// TestDataFillsUp has a data partition that has room enough at power on, and no more once the logs of the first visit are on
// it: the terminal notices while it runs and says so. (How it serves then: TestData.)
func TestDataFillsUp(t *testing.T) {
	req.Covers(t, "AdV-A_2405", "AdV-A_2423")
	const reserve, room = 16 << 20 / block, 2
	file := copyFile(t, world.Image.Disk)
	fill(t, file, reserve+room)
	r := boot(t, appliance.Options{Disk: file})
	r.showsView("room enough", neutral())
	r.touchable()
	r.visit("end")
	r.showsView("filled up", neutral("DATA-FULL"))
	n := r.off()
	r.logged(n, began("DATA-FULL"), map[string]string{"component": "adv-init", "log": "error", "text": "DATA-PARTITION-NOT-USABLE"})
	if n.has(ended("DATA-FULL")) {
		t.Error("the data partition is said to have room again")
	}
}
