/**
 * The scripts that the DHCP clients run when they have got, renewed or lost a lease. The clients' stock scripts write
 * the resolv.conf and the host name of the machine, which are none of a container's business; these do not.
 */

const head = `#!/bin/sh
# Part of pipewright: puts a DHCP lease on one interface of a container, and touches nothing else.

run_ip() {
  if command -v ip >/dev/null 2>&1; then ip "$@"; else busybox ip "$@"; fi
}

# A client that outlived its container would keep the network namespace alive, and the host's end of the link with it.
owner_lives() {
  [ -n "\${PIPEWRIGHT_OWNER:-}" ] || return 0
  stat=$(cat "/proc/\${PIPEWRIGHT_OWNER%:*}/stat" 2>/dev/null) || return 1
  set -- \${stat##*) }
  case $1 in Z | X) return 1 ;; esac
  shift 19
  [ "$1" = "\${PIPEWRIGHT_OWNER#*:}" ]
}
owner_lives || { kill "\${pid:-$PPID}"; exit 1; }
`;

const lease = `
# ADDRESS/LENGTH BROADCAST LIFETIME; the last two may be empty.
set_address() {
  run_ip -4 addr replace "$1" \${2:+broadcast "$2"} dev "$interface" \${3:+valid_lft "$3" preferred_lft "$3"} ||
    run_ip -4 addr replace "$1" \${2:+broadcast "$2"} dev "$interface"
}

# Some servers send 0, and below 576 IPv4 need not work.
set_mtu() {
  case \${1:-} in '' | *[!0-9]*) return ;; esac
  [ "$1" -lt 576 ] || run_ip link set dev "$interface" mtu "$1" 2>/dev/null || :
}

# A default route by another interface stays, as it does with the clients' own scripts.
set_default() {
  run_ip -4 route show default dev "$interface" | grep -q "via $1 " && return
  run_ip -4 route flush exact 0.0.0.0/0 dev "$interface" 2>/dev/null
  run_ip -4 route add default via "$1" dev "$interface" 2>/dev/null ||
    run_ip -4 route add default via "$1" dev "$interface" onlink 2>/dev/null || :
}

# RFC 3442: a gateway of zeros means that the destination is on the link.
set_route() {
  case $1:$2 in
    0.0.0.0/0:0.0.0.0) run_ip -4 route replace default dev "$interface" scope link ;;
    0.0.0.0/0:*) set_default "$2" ;;
    *:0.0.0.0) run_ip -4 route replace "$1" dev "$interface" scope link ;;
    *) run_ip -4 route replace "$1" via "$2" dev "$interface" ;;
  esac
}
`;

/** `udhcpc -s`: the event is the argument, the lease is in variables. */
export const udhcpcScript = `${head}${lease}
case $1 in
  deconfig)
    run_ip link set dev "$interface" up
    run_ip -4 addr flush dev "$interface"
    ;;
  bound | renew)
    set_mtu "\${mtu:-}"
    set_address "$ip/\${mask:-32}" "\${broadcast:-}" ''
    set -- \${staticroutes:-}
    if [ $# -ge 2 ]; then
      # RFC 3442: with these, the router option is to be ignored.
      while [ $# -ge 2 ]; do set_route "$1" "$2"; shift 2; done
    elif [ -n "\${router:-}" ]; then
      set_default "\${router%% *}"
    fi
    ;;
esac
`;

/** dhclient-script(8): event and lease are in variables. Without success on BOUND, dhclient declines the lease. */
export const dhclientScript = `${head}${lease}
# Each route is LENGTH, the destination's bytes that count, and the four bytes of the gateway.
set_classless_routes() {
  while [ $# -ge 5 ]; do
    length=$1 dst='' i=0
    shift
    while [ $i -lt 4 ]; do
      byte=0
      if [ $((i * 8)) -lt "$length" ]; then byte=$1; shift; fi
      dst=$dst\${dst:+.}$byte i=$((i + 1))
    done
    [ $# -ge 4 ] || return
    set_route "$dst/$length" "$1.$2.$3.$4"
    shift 4
  done
}

case $reason in
  PREINIT)
    run_ip link set dev "$interface" up
    ;;
  BOUND | RENEW | REBIND | REBOOT | TIMEOUT)
    if [ -n "\${old_ip_address:-}" ] && [ "$old_ip_address" != "$new_ip_address" ]; then
      run_ip -4 addr del "$old_ip_address/\${old_subnet_mask:-32}" dev "$interface" 2>/dev/null
    fi
    set_mtu "\${new_interface_mtu:-}"
    set_address "$new_ip_address/\${new_subnet_mask:-32}" "\${new_broadcast_address:-}" "\${new_dhcp_lease_time:-}" || exit 1
    if [ -n "\${new_rfc3442_classless_static_routes:-}" ]; then
      set_classless_routes $new_rfc3442_classless_static_routes
    elif [ -n "\${new_routers:-}" ]; then
      set_default "\${new_routers%% *}"
    fi
    ;;
  EXPIRE | FAIL | RELEASE | STOP)
    if [ -n "\${old_ip_address:-}" ]; then
      run_ip -4 addr del "$old_ip_address/\${old_subnet_mask:-32}" dev "$interface" 2>/dev/null
    fi
    ;;
  PREINIT6)
    run_ip link set dev "$interface" up
    # DHCPv6 is spoken from the link-local address, which is usable when its duplicate detection is over.
    i=0
    while [ $i -lt 50 ] && ! run_ip -6 addr show dev "$interface" | grep fe80: | grep -qv tentative; do
      sleep 0.1
      i=$((i + 1))
    done
    ;;
  BOUND6 | RENEW6 | REBIND6)
    if [ -n "\${new_ip6_address:-}" ]; then
      run_ip -6 addr replace "$new_ip6_address/\${new_ip6_prefixlen:-128}" dev "$interface" \\
        valid_lft "\${new_max_life:-forever}" preferred_lft "\${new_preferred_life:-forever}" || exit 1
    fi
    ;;
  DEPREF6)
    run_ip -6 addr change "$cur_ip6_address/\${cur_ip6_prefixlen:-128}" dev "$interface" preferred_lft 0
    ;;
  EXPIRE6 | RELEASE6 | STOP6)
    if [ -n "\${old_ip6_address:-}" ]; then
      run_ip -6 addr del "$old_ip6_address/\${old_ip6_prefixlen:-128}" dev "$interface" 2>/dev/null
    fi
    ;;
esac
exit 0
`;

/** In place of dhcpcd's hooks: it sets addresses and routes itself. */
export const dhcpcdScript = head;

/**
 * Starts a client where its files are its own: `DIR [SOURCE TARGET]... -- PROGRAM ARG...`, run by `unshare --mount`.
 * Each SOURCE covers a TARGET that exists. DIR, which holds the scripts, is made executable: /run often is `noexec`.
 */
export const startScript = `#!/bin/sh
# Part of pipewright: starts a DHCP client in a mount namespace of its own.
set -e
mount --bind "$1" "$1"
mount -o remount,bind,exec "$1"
shift
while [ "$1" != -- ]; do
  mount --bind "$1" "$2"
  shift 2
done
shift
exec "$@"
`;
