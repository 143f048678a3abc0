package build

import (
	"io/fs"
	"strings"
)

// Cmdline is the kernel's command line: in the UKI, and beside the kernel for who starts it directly.
var Cmdline = strings.Join([]string{
	// Nothing is written where a passer-by could see it, and no cursor blinks.
	"quiet", "loglevel=0", "console=null", "vt.global_cursor_default=0",
	// Memory is wiped when it is given back and when it is given out; its layout is hard to guess.
	"init_on_free=1", "init_on_alloc=1", "slab_nomerge", "page_alloc.shuffle=1", "randomize_kstack_offset=on", "vsyscall=none",
	// Root cannot change or read the kernel; modules need Debian's signature.
	"lsm=lockdown,yama,landlock", "lockdown=confidentiality", "module.sig_enforce=1", "debugfs=off",
	// Keyboards on PS/2 are not asked for: input comes from USB devices that were let in.
	"i8042.nokbd", "i8042.noaux",
	// Small programs in a small memory: no pages of 2 MiB of which most stays empty.
	"transparent_hugepage=never",
	// A terminal that nobody sits at starts anew by itself.
	"oops=panic", "panic=10",
	// Start faster: the kernel's tests of its own ciphers and key derivation, of which the terminal uses none, are left out.
	// The latter looks for a module by name and waits for the whole initramfs to be unpacked for that.
	"cryptomgr.notests", "initcall_blacklist=crypto_kdf108_init", "random.trust_cpu=on",
}, " ")

// packages are the Debian packages that files are taken from, with the reason. What is not listed in the tables below or
// needed by a program is left out.
var packages = []struct{ name, reason string }{
	{"pcscd", "card service"},
	{"libccid", "driver of USB card readers"},
	{"libpcsclite1", "the kiosk's way to the card service"},
	{"libusb-1.0-0", "for libccid"},
	{"libudev1", "for pcscd and libusb: which devices come and go"},
	{"libsystemd0", "for pcscd"},
	{"libcap2", "for libsystemd"},
	{"libgcrypt20", "for libsystemd"},
	{"libgpg-error0", "for libgcrypt"},
	{"liblz4-1", "for libsystemd"},
	{"liblzma5", "for libsystemd"},
	{"libzstd1", "for libsystemd"},
	{"libc6", "C library and loader"},
	{"libgcc-s1", "C library: end of a thread"},
	{"gcc-12-base", "licence of libgcc-s1; no file of it is in the image"},
	{"tzdata", "German time"},
	{"systemd-boot-efi", "start of the UKI; not in the initramfs"},
}

// efiStub starts the kernel out of the UKI.
const efiStub = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// programs are ours.
var programs = []struct{ name, pkg, tags, reason string }{
	{"init", "image/cmd/adv-init", "", "first process: starts and watches everything else"},
	{kioskName, "kiosk/cmd/adv-kiosk", "pcsc,grpcnotrace", "the AdV-App"},
}

const kioskName = "usr/bin/adv-kiosk"

// files are taken from packages as they are.
var files = []struct {
	name    string
	program bool
	reason  string
}{
	{"usr/sbin/pcscd", true, "card service"},
	{"usr/lib/pcsc/drivers/ifd-ccid.bundle/Contents/Linux/libccid.so", true, "driver of USB card readers"},
	{"usr/lib/pcsc/drivers/ifd-ccid.bundle/Contents/Info.plist", false, "which readers the driver knows"},
	{"usr/share/zoneinfo/Europe/Berlin", false, "German time"},
}

// loaded are libraries that no program names, because they are opened while it runs.
var loaded = []struct{ name, reason string }{
	{"libgcc_s.so.1", "the C library opens it when a thread ends; pcscd aborts without it"},
}

// folders must be there before anything is mounted on them.
var folders = []struct {
	name   string
	mode   fs.FileMode
	reason string
}{
	{"dev", 0o755, "devtmpfs"},
	{"proc", 0o755, "proc"},
	{"sys", 0o755, "sysfs"},
	{"run", 0o755, "sockets and state, in memory"},
	{"tmp", 0o755, "programs expect the folder; nothing is mounted there, and it stays empty"},
	{"data", 0o755, "data partition"},
	{"etc/adv", 0o755, "configuration, from the overlay"},
}
