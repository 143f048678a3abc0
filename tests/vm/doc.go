// Package vm tests the terminal as it is delivered: the production image boots in a virtual machine, with all its
// hardening, and serves insured persons there. Its tests need the build tag vm, QEMU and what the image builder needs
// (make test-vm).
//
// Nothing in the guest is made for tests. A test acts as a person does (card, PIN pad, touch, mains plug) and as fate does
// (USB, network, disk, debug stub), and sees what a person sees: screens are recognised by comparing their texts with
// pictures that the product's own renderer draws on the test's side, pixel by pixel. What the terminal noted is read
// from the data partition once it is off.
//
// Every test leaves its screen shots and a time line under out/vm; out/vm/index.html shows them all.
package vm
