# The rest of init.sh with systemd: Docker Engine by its packages' unit, pipewright installed as docs/guide/agent.md says,
# Open vSwitch there before them, as its own units now and then leave out ovs-vswitchd, and one unit of the tests' own, which does what the script on the share says.
mkdir -p /usr/local/lib/pipewright /run/systemd/system/multi-user.target.wants
# Not where it is on the machine around: units may be kept from looking into somebody's home.
mount --bind "$project" /usr/local/lib/pipewright
ln -sf ../lib/pipewright/bin/pipewright /usr/local/bin/pipewright

if ! [ -e /run/lasting/enabled ]; then
  systemctl --root=/ enable docker.service
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
ExecStart=/bin/sh -c 'ip link set eth0 up; for address in \$\$(cat /run/lasting/address); do ip addr add \$\$address dev eth0; done'
EOF
cat >/run/systemd/system/script.service <<EOF
[Service]
ExecStart=/bin/sh /run/share/script
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
EOF
ln -s ../nic.service ../script.service /run/systemd/system/multi-user.target.wants/
# ovs-vswitchd 3.1.0 finds no processor in the first ten seconds after a boot ("Overriding n-handler-threads to 0"). With a bridge in
# its database it then loses whatever the kernel asks it about, until it is started again.
while [ "$(cut -d. -f1 /proc/uptime)" -lt 11 ]; do sleep 0.5; done
if [ -x /usr/share/openvswitch/scripts/ovs-ctl ]; then
  /usr/share/openvswitch/scripts/ovs-ctl --system-id=random start >/run/ovs.log 2>&1
fi
exec /lib/systemd/systemd
