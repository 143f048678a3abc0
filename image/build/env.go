package build

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// passed are the variables that a build gets from the person who builds: where tools, caches and modules are. None of them
// shows in the programs.
var passed = []string{
	"PATH", "HOME", "USER", "TMPDIR", "XDG_CACHE_HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "GOMAXPROCS",
}

// asked are the settings of the go command that come from its environment or from what "go env -w" keeps, and that say
// where modules come from.
var asked = []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOSUMDB", "GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOINSECURE", "GOVCS", "GOAUTH", "GOTOOLCHAIN"}

// fixed are the settings that show in the programs.
var fixed = []string{"GOENV=off", "GOWORK=off", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "CGO_CFLAGS=-O2", "LC_ALL=C"}

// goEnv is the environment in which programs are built: nothing of the person's own that would show in them.
func goEnv(ctx context.Context, dir string, environ []string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"env", "-json"}, asked...)...)
	cmd.Dir, cmd.Env = dir, environ
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ask go for its settings: %w", err)
	}
	var settings map[string]string
	if err := json.Unmarshal(out, &settings); err != nil {
		return nil, fmt.Errorf("ask go for its settings: %w", err)
	}
	var env []string
	for _, v := range environ {
		if name, _, _ := strings.Cut(v, "="); slices.Contains(passed, name) {
			env = append(env, v)
		}
	}
	for _, name := range asked {
		env = append(env, name+"="+settings[name])
	}
	return append(env, fixed...), nil
}
