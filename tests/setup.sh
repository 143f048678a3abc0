#!/usr/bin/env bash
# Installs the Debian packages that a make target needs and that are missing. Usage: setup.sh GROUP...
# Groups: base (tests, demo), image (the terminal's image), vm (the image in a virtual machine), vm-window (with a window), display (virtual machine of the display tests), window (desktop window), oracle (Gio's own renderer on llvmpipe).
set -euo pipefail

declare -A packages=(
  [base]="gcc libc6-dev pkg-config pcscd libpcsclite-dev openssl qemu-user-static poppler-utils libxml2-utils xmlsec1 softhsm2"
  [image]="zstd mtools dosfstools e2fsprogs fdisk"
  [vm]="qemu-system-x86 ovmf e2fsprogs"
  [vm-peer]="mmdebstrap e2fsprogs zstd"
  [vm-window]="qemu-system-gui"
  [display]="qemu-system-x86 zstd"
  [window]="libegl-dev libgles-dev libegl-mesa0 libgl1-mesa-dri libgles2 libwayland-dev libx11-dev libx11-xcb-dev libxkbcommon-x11-dev libxkbcommon-dev libxcursor-dev libxfixes-dev libvulkan-dev"
)
packages[oracle]=${packages[window]} # the same libraries draw in memory there

command -v "${GO:-go}" >/dev/null || {
  echo "setup: Go is missing. Install Go 1.26 or newer (the one thing this project does not install itself) and put it on the PATH." >&2
  exit 1
}

missing=()
for group in "$@"; do
  for p in ${packages[$group]:?unknown group $group}; do
    [ "$(dpkg-query -W -f='${Status}' "$p" 2>/dev/null)" = "install ok installed" ] || missing+=("$p")
  done
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || {
    echo "setup: these packages are missing and neither root nor sudo is at hand: ${missing[*]}" >&2
    exit 1
  }
  as_root=(sudo)
fi
echo "setup: installing ${missing[*]}" >&2
log=$(mktemp)
if ! { "${as_root[@]}" apt-get update -q && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -20 "$log" >&2
  echo "setup: installing failed; the lines above say why. Check the package mirror and try again." >&2
  exit 1
fi
rm -f "$log"
