// This program compiles: it logs a constant, and a value from outside only as one of a known set.
package main

import (
	"context"
	"os"

	"ktradv/internal/advlog"
)

const name = "test.constant"

func main() {
	var l *advlog.Log
	l.Debug(context.Background(), advlog.DebugEvent{Name: advlog.L(name)})
	l.Debug(context.Background(), advlog.DebugEvent{Name: advlog.OneOf(os.Args[1], "a", "b")})
}
