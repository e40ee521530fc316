# The rest of init.sh with systemd: Docker Engine and Open vSwitch by their packages' units, pipewright installed as
# docs/guide/agent.md says, and one unit of the tests' own, which does what the script on the share says.
project=$(cd "$scripts/../.." && pwd)
mkdir -p /usr/local/lib/pipewright /run/systemd/system/multi-user.target.wants
# Not where it is on the machine around: units may be kept from looking into somebody's home.
mount --bind "$project" /usr/local/lib/pipewright
ln -sf ../lib/pipewright/bin/pipewright /usr/local/bin/pipewright

if ! [ -e /run/lasting/enabled ]; then
  systemctl --root=/ enable docker.service openvswitch-switch.service
  touch /run/lasting/enabled
fi 2>/dev/null

# Where that is a container, this is none.
rm -f /.dockerenv

# Services of the old kind, and disks, are the machine around's.
for level in 2 3 4 5; do
  if [ -d /etc/rc$level.d ]; then mount -t tmpfs tmpfs /etc/rc$level.d; fi
done

# What a system's own configuration of its network does: the NIC is there before all that needs a network.
cat >/run/systemd/system/nic.service <<EOF
[Unit]
Wants=network-pre.target
Before=network-pre.target
[Service]
Type=oneshot
ExecStart=ip link set eth0 up
EOF
cat >/run/systemd/system/script.service <<EOF
[Service]
ExecStart=/bin/sh /run/share/script
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
EOF
ln -s ../nic.service ../script.service /run/systemd/system/multi-user.target.wants/
exec /lib/systemd/systemd
