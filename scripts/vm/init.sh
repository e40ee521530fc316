#!/bin/sh
# The init of a machine of test/vm: mounts what a Linux has mounted, starts Open vSwitch and Docker Engine with nothing
# in them, does what the script on the share says, which may call `ready`, leaves its exit code there and turns the
# machine off. With `systemd=yes` on the kernel's command line all that is systemd's: what is enabled there starts.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH HOME=/root LANG=C.UTF-8 NO_COLOR=1

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
ln -s /proc/self/fd /dev/fd
# The project stays where it is, also below one of these.
project=${0%/scripts/vm/*}
mount --bind "$project" /mnt
for folder in /dev/shm /run /tmp; do mount -t tmpfs -o mode=1777 tmpfs $folder; done
if ! [ -e "$0" ]; then mkdir -p "$project" && mount --bind /mnt "$project"; fi
umount /mnt
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec </dev/null >/dev/console 2>&1
stty -onlcr </dev/console

# word NAME: what the kernel's command line says of it
word() { tr ' ' '\n' </proc/cmdline | sed -n "s/^$1=//p"; }
mkdir /run/share
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none share /run/share
hostname "$(word host)"
mkdir -p /lib/modules
modules=$(word modules)
ln -sfn "$modules" "/lib/modules/${modules##*/}"
# Nobody here loads what the hardware asks for; the rest the kernel asks for itself.
for module in virtio_net virtio_blk tun openvswitch; do modprobe $module; done
ip link set lo up

# The files of the daemons on the machine around are not this machine's.
mkdir /run/lasting
if [ -b /dev/vda ]; then mount -t ext4 /dev/vda /run/lasting; else mount -t tmpfs tmpfs /run/lasting; fi
for folder in /var/lib/docker /var/lib/containerd /var/lib/openvswitch /etc/openvswitch /var/lib/pipewright \
  /etc/pipewright /etc/systemd/system; do
  mkdir -p $folder /run/lasting$folder
  mount --bind /run/lasting$folder $folder
done

scripts=${0%/*}
if [ "$(word systemd)" = yes ]; then . "$scripts/systemd.sh"; fi

. "$scripts/ready.sh"
if [ -x $ovs ]; then $ovs --system-id=random start >/run/ovs.log 2>&1 & fi
if command -v dockerd >/dev/null; then dockerd >/run/dockerd.log 2>&1 & fi

(. /run/share/script)
echo $? >/run/share/exit
sync
busybox poweroff -f
