#!/bin/busybox sh
# Runs once, as the first thing busybox's init does. Says on the console what failed; the harness shows that text.
/bin/busybox --install -s /usr/bin 2>/dev/null
export PATH=/usr/local/bin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /run /tmp
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t debugfs debugfs /sys/kernel/debug || echo "PI3B-FAULT debugfs"
mount -t configfs configfs /sys/kernel/config || echo "PI3B-FAULT configfs"
mount -t cgroup2 cgroup2 /sys/fs/cgroup || echo "PI3B-FAULT cgroup2"
mkdir /run/freezer
mount -t cgroup -o freezer freezer /run/freezer || echo "PI3B-FAULT the freezer of cgroup v1"

parameter() { sed -n "s/.*picontroller\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }

# The machine's time when QEMU started, so what the boot took is added; the harness sets it exactly afterwards.
epoch=$(parameter epoch)
[ -n "$epoch" ] && date -s "@$((epoch + $(cut -d. -f1 /proc/uptime)))" >/dev/null

hostname "$(parameter hostname)"
ip link set lo up
ip address add 10.0.2.15/24 dev eth0 || echo "PI3B-FAULT no network interface"
ip link set eth0 up
ip route add default via 10.0.2.2
