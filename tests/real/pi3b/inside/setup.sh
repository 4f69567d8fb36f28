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
mount -t debugfs debugfs /sys/kernel/debug
# cgroup v2, where the firmware of a Pi has it too.
mount -t cgroup2 cgroup2 /sys/fs/cgroup

parameter() { sed -n "s/.*picontroller\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }

# The machine's time when QEMU started, so what the boot took is added; a second or two late, until the harness sets it exactly.
# Without the parameter the clock stays in 1970.
epoch=$(parameter epoch)
[ -n "$epoch" ] && date -s "@$((epoch + $(cut -d. -f1 /proc/uptime)))" >/dev/null

hostname "$(parameter hostname)"
while read -r module; do
    insmod "$module" || echo "PI3B-FAULT insmod $module"
done </pi3b/modules

ip link set lo up
# The USB network card appears a moment after its driver.
waited=0
while interface=$(ls /sys/class/net | grep -v '^lo$' | head -n 1); [ -z "$interface" ]; do
    waited=$((waited + 1))
    [ "$waited" -gt 600 ] && echo "PI3B-FAULT no network interface" && break
    usleep 100000
done
ip address add 10.0.2.15/24 dev "$interface"
ip link set "$interface" up
ip route add default via 10.0.2.2
