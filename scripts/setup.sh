#!/bin/sh
# Makes a Debian machine ready and says what it did; run again, it does nothing.
#   setup.sh demo   what `make demo` cannot do without: no daemon is installed or started
#   setup.sh test   also Docker Engine, Open vSwitch and the programs that tests judge by; started where not running
#   setup.sh vm     also QEMU and, unpacked only, Debian's kernel for virtual machines
# setup.sh vm SECONDS gives up, with nothing changed, when what it is to fetch has not come by then.
set -eu

say() { echo "setup: $*"; }
die() { echo "setup: $*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
# With systemd as pid 1 services are its business.
systemd() { [ -d /run/systemd/system ]; }

# program:package, the program being what is used of it. dhcpcd-base, not dhcpcd: that one has a service which would
# configure every NIC of this machine.
demo='ip:iproute2 dnsmasq:dnsmasq-base busybox:busybox-static ping:iputils-ping nsenter:util-linux'
test="$demo dockerd:docker.io ovs-vswitchd:openvswitch-switch iptables:iptables arping:iputils-arping
  tcpdump:tcpdump strace:strace udhcpc:udhcpc dhclient:isc-dhcp-client dhcpcd:dhcpcd-base
  kea-dhcp4:kea-dhcp4-server kea-dhcp6:kea-dhcp6-server dhcpd:isc-dhcp-server dhcrelay:isc-dhcp-relay ps:procps
  podman:podman ethtool:ethtool"
vm="$test qemu-system-x86_64:qemu-system-x86 depmod:kmod mkfs.ext4:e2fsprogs xz:xz-utils"

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# A package that is installed counts, and so does the program from elsewhere (busybox apart: it must be static).
missing() {
  for pair in $1; do
    program=${pair%%:*} package=${pair#*:}
    if installed "$package"; then continue; fi
    if [ "$package" != busybox-static ] && has "$program"; then continue; fi
    printf ' %s' "$package"
  done
}

# Keeps packages from starting their services while they are installed, and this machine's network as it is.
# Starting what is wanted is done below, with its own log and detached from this terminal.
guard=/usr/sbin/policy-rc.d
guard_made=no
hold_services() {
  if [ -e "$guard" ]; then
    "$guard" docker start >/dev/null 2>&1 && die "$guard lets services start: not installing packages"
    return 0
  fi
  printf '#!/bin/sh\n# Made by pipewright scripts/setup.sh for the time of one installation.\nexit 101\n' >"$guard"
  chmod 755 "$guard"
  guard_made=yes
}
release_services() {
  if [ "$guard_made" = yes ]; then rm -f "$guard"; fi
  guard_made=no
}
trap release_services EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# fetch COMMAND...: within the time that was given, if one was; it is never installing that is broken off.
until=
fetch() {
  if [ -z "$until" ]; then "$@" </dev/null >/dev/null; return; fi
  left=$((until - $(date +%s)))
  [ "$left" -gt 0 ] || die 'out of time'
  timeout "$left" "$@" </dev/null >/dev/null || die "$1 $2 failed, or took too long"
}

resolv_sum() { sha256sum /etc/resolv.conf 2>/dev/null | cut -d ' ' -f 1; }

install() {
  packages=$(missing "$1")
  if [ -z "$packages" ]; then say 'all packages are there'; return 0; fi
  has apt-get || die "needs the programs of Debian's$packages, and there is no apt-get to install them with"
  say "installing$packages"
  before=$(resolv_sum)
  hold_services
  fetch apt-get update -qq
  # shellcheck disable=SC2086 # a list of words
  fetch apt-get install -y -qq --no-install-recommends --download-only $packages
  # shellcheck disable=SC2086 # a list of words
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold $packages </dev/null >/dev/null
  release_services
  # Servers for tests, each run by its test alone: none of them is to start with this machine.
  for unit in kea-dhcp4-server kea-dhcp6-server isc-dhcp-server isc-dhcp-relay; do
    if has systemctl; then systemctl disable "$unit" </dev/null >/dev/null 2>&1 || true; fi
  done
  [ "$(resolv_sum)" = "$before" ] || die 'the installation changed /etc/resolv.conf: look at it before going on'
  left=$(missing "$1")
  [ -z "$left" ] || die "could not install$left"
}

# Debian's kernel for virtual machines: never installed, as that would make it this machine's own. Where test/vm/kernel.ts
# looks for it.
kernels=/var/cache/pipewright-vm
# Programs by which tests judge what is written for them: never installed, as they would take over this machine's network.
# Where test/lab/judges.ts looks for them. Tests go on without.
judges=/var/cache/pipewright-judges
judge_packages='netplan.io libnetplan0 ifupdown network-manager libnm0 libreadline8'
unpack_judges() {
  if [ -d "$judges" ] || ! has apt-get; then return 0; fi
  say "fetching $judge_packages, unpacked only, into $judges"
  half=$(mktemp -d "$judges.XXXXXX")
  for package in $judge_packages; do
    (cd "$half" && fetch apt-get download -qq -o APT::Sandbox::User=root "$package") 2>/dev/null || say "there is no $package"
  done
  for file in "$half"/*.deb; do
    if [ -e "$file" ]; then dpkg-deb -x "$file" "$half"; rm "$file"; fi
  done
  chmod 755 "$half"
  mv -T "$half" "$judges"
}
# decompress VMLINUZ VMLINUX: what the first would do at every boot, which takes a processor made in software as long as all
# the rest of it. Where it does not hold what this knows, there is no second file, and the first is booted.
decompress() {
  start=$(LC_ALL=C grep -abom 1 "$(printf '\3757zXZ')" "$1" | head -n 1 | cut -d : -f 1)
  if [ -n "$start" ]; then tail -c "+$((start + 1))" "$1" | xz -dc >"$2" 2>/dev/null || true; fi
  if [ "$(head -c 4 "$2" 2>/dev/null)" != "$(printf '\177ELF')" ]; then rm -f "$2"; fi
}
unpack_kernel() {
  if [ -d "$kernels" ]; then say "Debian's kernel $(ls "$kernels/lib/modules") is in $kernels"; return 0; fi
  has apt-get || die "needs Debian's kernel, and there is no apt-get to fetch it with"
  kernel=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | tail -n 1)
  if [ -z "$kernel" ]; then
    fetch apt-get update -qq
    kernel=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | tail -n 1)
  fi
  [ -n "$kernel" ] || die 'apt-get knows no linux-image-amd64'
  say "fetching $kernel into $kernels"
  half=$(mktemp -d "$kernels.XXXXXX")
  # In that folder, as apt-get downloads to where it is.
  if ! (cd "$half" && fetch apt-get download -qq -o APT::Sandbox::User=root "$kernel"); then rm -rf "$half"; exit 1; fi
  (cd "$half" && dpkg-deb -x ./*.deb . && rm ./*.deb)
  version=$(ls "$half/lib/modules")
  depmod -b "$half" "$version"
  decompress "$half/boot/vmlinuz-$version" "$half/boot/vmlinux-$version"
  chmod 755 "$half"
  mv -T "$half" "$kernels"
}

# until_ok SECONDS COMMAND: tries again every 0.2 s
until_ok() {
  deadline=$(($(date +%s) + $1)); shift
  while ! "$@" >/dev/null 2>&1; do
    [ "$(date +%s)" -lt "$deadline" ] || return 1
    sleep 0.2
  done
}

# quiet LOG COMMAND...: runs it holding none of our files open, as make and CI wait until their pipes are closed.
quiet() {
  log=$1; shift
  nohup "$@" </dev/null >>"$log" 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
}

docker_version() { timeout 5 docker version --format '{{.Server.Version}}' 2>/dev/null; }

start_docker() {
  if version=$(docker_version); then say "Docker Engine $version is running: used as it is"; return 0; fi
  log=/var/log/pipewright-dockerd.log
  if systemd; then
    log='journalctl -u docker'
    systemctl start docker </dev/null >/dev/null 2>&1 || true
  else
    # Without systemd nobody may have mounted the control groups.
    if ! grep -Eq '^[^ ]+ [^ ]+ cgroup2? ' /proc/mounts; then
      say 'mounting cgroup2 on /sys/fs/cgroup'
      mount -t cgroup2 cgroup2 /sys/fs/cgroup
    fi
    quiet "$log" setsid -f dockerd
  fi
  until_ok 60 docker_version || die "Docker Engine did not start: see $log"
  say "started Docker Engine $(docker_version), log: $log"
}

# Both daemons: the database answers, and the switch that acts on it.
ovs_answers() { timeout 2 ovs-vsctl show && timeout 2 ovs-appctl -t ovs-vswitchd version; }

start_ovs() {
  if ovs_answers >/dev/null 2>&1; then say 'Open vSwitch is running: used as it is'; return 0; fi
  log=/var/log/pipewright-ovs.log
  if systemd; then
    systemctl start openvswitch-switch </dev/null >/dev/null 2>&1 || true
  else
    # READ_INTERFACES=no: what /etc/network/interfaces says about this machine is none of our business.
    # Its script gives up where the kernel lacks the openvswitch module; a netdev datapath works without.
    READ_INTERFACES=no quiet "$log" /etc/init.d/openvswitch-switch start ||
      quiet "$log" ovs-vswitchd unix:/var/run/openvswitch/db.sock --pidfile --detach --monitor --log-file || true
  fi
  until_ok 30 ovs_answers || die "Open vSwitch did not start: see /var/log/openvswitch and $log"
  say "started Open vSwitch $(ovs-vswitchd --version | sed -n '1s/.* //p'), log: /var/log/openvswitch"
}

[ "$(id -u)" = 0 ] || die 'needs root'
case ${1:-test} in
  demo)
    install "$demo"
    ;;
  test)
    install "$test"
    unpack_judges
    start_docker
    start_ovs
    ;;
  vm)
    if [ -n "${2:-}" ]; then until=$(($(date +%s) + $2)); fi
    install "$vm"
    unpack_judges
    start_docker
    start_ovs
    unpack_kernel
    ;;
  *) die 'usage: setup.sh [demo | test | vm [SECONDS]]' ;;
esac
