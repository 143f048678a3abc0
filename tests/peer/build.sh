#!/usr/bin/env bash
# Builds what the terminal's image is compared with: a kiosk of Debian's own parts, as people build it today. Debian's kernel
# and initramfs, systemd, the compositor cage and Chromium in kiosk mode, which shows one page. What a careful builder would
# leave out is left out: no recommended packages, no documentation, no login, no timers, no network service to wait for.
# Usage: build.sh FOLDER (as root). Writes vmlinuz, initrd.img, root.img (ext4) and sizes (bytes, compressed).
set -euo pipefail
out=$(realpath -m "$1")
[ -s "$out/sizes" ] && exit 0
[ "$(id -u)" = 0 ] || { echo "build.sh: has to run as root: it makes a file system with the owners of its files" >&2; exit 1; }
rm -rf --one-file-system "$out" && mkdir -p "$out"
sources=()
for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
  [ -s "$f" ] && sources+=("$f")
done
root=$out/root
mmdebstrap --quiet --mode=root --variant=apt \
  --include=linux-image-amd64,initramfs-tools,zstd,systemd-sysv,udev,dbus,seatd,cage,xwayland,chromium,fonts-dejavu-core,libgl1-mesa-dri \
  --aptopt='APT::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  bookworm "$out/root.tar" "${sources[@]}" # an archive: nothing of this machine stays mounted in the folder below
mkdir "$root"
tar -C "$root" -xf "$out/root.tar" --exclude=./dev/\*
rm "$out/root.tar"
chroot "$root" useradd -m -G video kiosk # the group that seatd serves
mkdir -p "$root/usr/share/kiosk"
cat >"$root/usr/share/kiosk/index.html" <<'HTML'
<!doctype html><meta charset="utf-8"><title>Kiosk</title>
<body style="margin:0;background:#00a040;color:#fff;font:48px sans-serif;text-align:center;padding-top:30vh">Bitte Gesundheitskarte einstecken</body>
HTML
cat >"$root/etc/systemd/system/kiosk.service" <<'UNIT'
[Unit]
Requires=seatd.service
StartLimitIntervalSec=0
After=seatd.service systemd-udev-trigger.service dev-dri-card0.device dbus.socket
Wants=dev-dri-card0.device dbus.socket
[Service]
User=kiosk
RuntimeDirectory=kiosk
RuntimeDirectoryMode=0700
Environment=XDG_RUNTIME_DIR=/run/kiosk LIBSEAT_BACKEND=seatd WLR_BACKENDS=drm,libinput WLR_RENDERER=pixman WLR_LIBINPUT_NO_DEVICES=1 WLR_NO_HARDWARE_CURSORS=1 LIBGL_ALWAYS_SOFTWARE=1
ExecStart=/usr/bin/cage -d -- /usr/bin/chromium --ozone-platform=wayland --kiosk --incognito --no-first-run --disable-gpu --noerrdialogs --password-store=basic --disable-extensions --disable-sync --disable-background-networking --disable-component-update file:///usr/share/kiosk/index.html
Restart=on-failure
RestartSec=100ms
[Install]
WantedBy=multi-user.target
UNIT
echo 'SUBSYSTEM=="drm", KERNEL=="card[0-9]", TAG+="systemd"' >"$root/etc/udev/rules.d/99-kiosk.rules"
chroot "$root" systemctl -q enable kiosk.service
chroot "$root" systemctl -q mask getty@tty1.service console-getty.service systemd-timesyncd.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
  fstrim.timer e2scrub_reap.service systemd-networkd-wait-online.service systemd-update-utmp.service systemd-rfkill.socket
echo '/dev/vda / ext4 ro,noatime 0 1
tmpfs /tmp tmpfs defaults 0 0
tmpfs /var tmpfs defaults 0 0
tmpfs /home/kiosk tmpfs uid=1000,gid=1000 0 0' >"$root/etc/fstab"
printf 'MODULES=list\nCOMPRESS=zstd\n' >"$root/etc/initramfs-tools/conf.d/kiosk"
printf 'virtio_pci\nvirtio_blk\next4\nvirtio_gpu\n' >>"$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u >/dev/null
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
cp "$root"/boot/vmlinuz-* "$out/vmlinuz"
cp "$root"/boot/initrd.img-* "$out/initrd.img"
rm -rf "$root"/boot/*
used=$(du -sm "$root" | cut -f1)
truncate -s $((used + used / 5 + 64))M "$out/root.img"
mkfs.ext4 -q -F -m 0 -d "$root" "$out/root.img"
packed=$(tar -C "$root" -c . | zstd -9 -T0 -q -c | wc -c)
rm -rf --one-file-system "$root"
echo $((packed + $(stat -c %s "$out/vmlinuz") + $(stat -c %s "$out/initrd.img"))) >"$out/sizes"
