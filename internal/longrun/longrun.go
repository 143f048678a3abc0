// Package longrun says whether tests may take minutes in place of seconds: with LONG=1 in the environment, as `make
// test-long` has it, they try every place, thousands of cases and gigabytes where they otherwise try some.
package longrun

import "os"

// Long reports whether the tests may take long.
func Long() bool { return os.Getenv("LONG") == "1" }
