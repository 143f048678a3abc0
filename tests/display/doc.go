// Package display tests the kiosk's picture and input where they end up: on
// the kernel's mode setting and input devices, in a virtual machine. Its tests
// need the build tag vm, qemu-system-x86_64 and the Debian kernel package,
// which they fetch once (make test-display).
//
// The machine boots from an initramfs that holds the kernel modules, the init
// program of folder init and components-demo, which runs as an ordinary user.
// The tests move the mouse, type and touch, take screen shots, and compare
// them with what the memory platform shows after the same input: the pictures
// have to be equal to the last byte.
package display
