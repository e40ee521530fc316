#!/bin/busybox sh
# The first process of a machine of test/vm: makes the file system of the machine around it the root, readable through
# 9p and writable in memory alone, and goes on with the script named by `next=` there.
set -eu
b=/bin/busybox
trap '$b echo "initramfs: failed"; $b poweroff -f' EXIT
$b mount -t proc proc /proc
for module in $($b cat /order); do $b insmod "/modules/$module"; done
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro root /lower
$b mount -t tmpfs -o size=75%,mode=755 tmpfs /upper
$b mkdir /upper/data /upper/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work overlay /root
for word in $($b cat /proc/cmdline); do
  case $word in next=*) next=${word#next=} ;; esac
done
$b umount /proc
trap - EXIT
exec $b switch_root /root /bin/sh "$next"
