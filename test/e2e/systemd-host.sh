#!/bin/sh
# usage: unshare --pid --mount --net ... systemd-host.sh FOLDER PROJECT CGROUP
# Boots systemd in the namespaces that it is started in, on a copy-on-write view of this machine's files: with Docker Engine,
# and the agent installed as docs/guide/agent.md says. FOLDER has pipewright.yaml, image.tar and an empty folder fs; CGROUP is
# the name of a control group of each hierarchy.
set -eu
folder=$1 project=$2 cgroup=$3
for hierarchy in /sys/fs/cgroup/*/; do
  if [ -d "$hierarchy$cgroup" ]; then echo 0 >"$hierarchy$cgroup/cgroup.procs"; fi
done
exec unshare --cgroup sh -eu -c '
folder=$1 project=$2 cgroup=$3
mount --make-rprivate /
hierarchies=$(cd /sys/fs/cgroup && for name in *; do if [ -d "$name/$cgroup" ]; then echo "$name"; fi; done)
fs=$folder/fs
mount -t tmpfs tmpfs "$fs"
mkdir "$fs/upper" "$fs/work" "$fs/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$fs/upper,workdir=$fs/work" "$fs/root"
root=$fs/root
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/dev"
for name in null zero full random urandom tty net/tun; do
  mkdir -p "$(dirname "$root/dev/$name")"
  touch "$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
for name in $hierarchies; do
  mkdir "$root/sys/fs/cgroup/$name"
  option=$name
  if [ "$name" = systemd ]; then option=none,name=systemd; fi
  mount -t cgroup -o "$option" cgroup "$root/sys/fs/cgroup/$name"
done

mkdir -p "$root/usr/local/lib/pipewright" "$root/usr/local/bin" "$root/etc/pipewright" "$root/mnt/machine"
mount --bind "$project" "$root/usr/local/lib/pipewright"
ln -sf ../lib/pipewright/bin/pipewright ../lib/pipewright/bin/pipework "$root/usr/local/bin/"
rm -rf "$root"/etc/pipewright/* "$root/var/lib/pipewright" "$root/etc/docker/daemon.json"
cp "$project/packaging/systemd/pipewright.service" "$root/etc/systemd/system/"
cp "$folder/pipewright.yaml" "$root/etc/pipewright/"
cp "$folder/image.tar" "$root/srv/"
# As its package has it: whoever asks before it runs waits until it does.
cat >"$root/etc/systemd/system/docker.socket" <<UNIT
[Unit]
DefaultDependencies=no
[Socket]
ListenStream=/run/docker.sock
UNIT
cat >"$root/etc/systemd/system/docker.service" <<UNIT
[Unit]
DefaultDependencies=no
Requires=docker.socket
After=docker.socket
[Service]
ExecStart=/usr/sbin/dockerd --storage-driver=vfs --data-root=/srv/docker -H fd:// --bridge=none --log-level=error
UNIT
cat >"$root/etc/systemd/system/test.target" <<UNIT
[Unit]
DefaultDependencies=no
Requires=sysinit.target
After=sysinit.target
Wants=systemd-journald.service pipewright.service docker.service
UNIT
cd "$root"
pivot_root . mnt/machine
umount -l /mnt/machine
exec env -i container=other PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --unit=test.target --show-status=0
' sh "$@"
