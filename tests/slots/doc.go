// Package slots proves how the firmware chooses between the two slots of the terminal's disk: it boots the builder's disk
// under OVMF, with Debian's kernel and an init of the test's own that says which slot it is and ends the machine.
// The tests need the build tag vm (make test-image).
package slots
