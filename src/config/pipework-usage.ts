/** What `pipework` prints about itself. */

/** Printed without arguments (exit 1): the forms of the original, as it prints them. */
export const usage = [
  'Syntax:',
  ...['<hostinterface>', 'mac:<hostinterface_macaddress>'].flatMap((hostif) => [
    `pipework ${hostif} [-i containerinterface] [-l localinterfacename] [-a addressfamily] <guest> <ipaddr>/<subnet>[@default_gateway] [macaddr][@vlan]`,
    `pipework ${hostif} [-i containerinterface] [-l localinterfacename] <guest> dhcp [macaddr][@vlan]`,
  ]),
  ...['route', 'rule', 'tc'].map((tool) => `pipework ${tool} <guest> <${tool}_command>`),
  'pipework --wait [-i containerinterface]',
].join('\n');

/** Printed by `--help` (exit 0): the forms, and what each word may be. */
export const help = `${usage}

<hostinterface>  a NIC, a Linux or Open vSwitch bridge (br... and ovs... are created), or dummy
<guest>          a container of Docker, Podman or LXC, pid:PID, netns:NAME or netns:/PATH
<ipaddr>/...     IPv4 or IPv6; several with commas, each with its gateway:
                 10.0.0.2/24@10.0.0.1,fd00::2/64@fd00::1; 0/0 for no address
dhcp             by DHCP; or udhcpc, udhcpc-f, dhclient, dhclient-f, dhcpcd: by that program;
                 any of them with :OPTIONS
macaddr          aa:bb:cc:dd:ee:ff, or U:TEXT for an address made from the text

Options, in any order before <guest>:
  -i NAME        name of the interface in the container (eth1)
  -l NAME        name of the host's end, on a bridge
  -a 4|6         accept only addresses of this family
  --bridge-vlan  take @vlan on a Linux bridge, which filters VLANs then;
                 PIPEWORK_BRIDGE_VLAN=1 in the environment does the same
  --direct-phys  move the NIC itself into the container
  --stay         with dhcp and without the agent: leave a process that renews the lease
  --no-firewall  leave out the firewall rule that lets containers on one bridge reach each other
  --wait         wait until the interface (-i) is there
  -h, --help     this text
  --version      name and version`;
