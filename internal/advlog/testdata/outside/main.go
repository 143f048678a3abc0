// This program must not compile: it tries to log text that came from outside.
package main

import (
	"context"
	"os"

	"ktradv/internal/advlog"
)

func main() {
	name := os.Args[1]
	var l *advlog.Log
	l.Debug(context.Background(), advlog.DebugEvent{Name: advlog.L(name)})
}
