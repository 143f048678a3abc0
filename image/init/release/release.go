// Package release tells which image is running, as the image builder wrote it into os-release.
package release

import (
	"os"
	"strings"
	"time"
)

// File is where the image has it.
const File = "/etc/os-release"

const maxFile = 4096

// BuildID is the image's identification, "" where the file does not tell.
func BuildID(file string) string {
	b, err := os.ReadFile(file)
	if err != nil || len(b) > maxFile {
		return ""
	}
	for l := range strings.Lines(string(b)) {
		if id, ok := strings.CutPrefix(l, "BUILD_ID="); ok {
			return strings.TrimSpace(id)
		}
	}
	return ""
}

// Built is how old the youngest part of the image is; the zero time where the file does not tell. No clock can be before.
func Built(file string) time.Time {
	t, err := time.Parse("20060102150405", BuildID(file))
	if err != nil {
		return time.Time{}
	}
	return t
}
