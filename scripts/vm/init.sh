#!/bin/sh
# The init of a machine of test/vm: mounts what a Linux has mounted, starts Open vSwitch and Docker Engine with nothing
# in them, does what the script on the share says, which may call `ready`, leaves its exit code there and turns the
# machine off.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH HOME=/root LANG=C.UTF-8 NO_COLOR=1

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
ln -s /proc/self/fd /dev/fd
for folder in /dev/shm /run /tmp; do mount -t tmpfs -o mode=1777 tmpfs $folder; done
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
for folder in /var/lib/docker /var/lib/openvswitch /etc/openvswitch /var/lib/pipewright; do
  mkdir -p $folder /run/lasting$folder
  mount --bind /run/lasting$folder $folder
done

ovs=/usr/share/openvswitch/scripts/ovs-ctl
if [ -x $ovs ]; then $ovs --system-id=random start >/run/ovs.log 2>&1 & fi
if command -v dockerd >/dev/null; then dockerd >/run/dockerd.log 2>&1 & fi

# Waits until both answer, and gives Docker Engine the tests' image. A client that asks before there is a socket costs
# more than waiting.
ready() {
  if [ -x $ovs ]; then
    until [ -S /run/openvswitch/db.sock ] && ls /run/openvswitch/ovs-vswitchd.*.ctl; do sleep 0.5; done
    until ovs-appctl -t ovs-vswitchd version; do sleep 0.5; done
  fi
  if command -v dockerd; then
    until [ -S /run/docker.sock ] && docker version; do sleep 0.5; done
    if [ -e /run/share/image.tar ]; then docker load -i /run/share/image.tar; fi
  fi
} >/dev/null 2>&1

(. /run/share/script)
echo $? >/run/share/exit
sync
busybox poweroff -f
