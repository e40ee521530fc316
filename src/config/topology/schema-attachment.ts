/** Attachments of a topology file, see schema.ts. */
import * as z from 'zod';
import { everything } from '../../model/address.ts';
import { interfaceIds, ipv6Modes, mirrorDirections } from '../../model/attachment.ts';
import { printable } from '../names.ts';
import { parseMetric, parseTable, splitRoute } from '../route-words.ts';
import { dhcpFields } from './dhcp.ts';
import { fields, host, mtu, ovsMode, trunks, vlan } from './schema-parts.ts';
import { readCompose, readContainer, readLabel } from './selector.ts';
import * as v from './values.ts';

const selectorFields = fields({
  compose: v
    .textAs(readCompose)
    .optional()
    .meta({
      title: 'text',
      description: 'Containers of a Compose service, as PROJECT/SERVICE.',
      examples: ['shop/web'],
    }),
  label: v
    .textAs(readLabel)
    .optional()
    .meta({
      title: 'text',
      description: 'Containers with a label, as KEY=VALUE, or KEY for any value.',
      examples: ['tier=db'],
    }),
})
  .meta({ id: 'container' })
  .transform((said, context) => {
    const [selector, second] = [said.compose, said.label].filter((part) => part !== undefined);
    if (selector !== undefined && second === undefined) return selector;
    context.addIssue({ code: 'custom', message: 'takes one of compose and label' });
    return z.NEVER;
  });

const routeFields = fields({
  to: v.destination.meta({
    title: 'subnet or address',
    description: 'Where the route leads; `default` in another table than main, or with a metric.',
    examples: ['10.5.0.0/16', 'default'],
  }),
  via: v.ip.optional().meta({
    title: 'address',
    description: 'Next hop. Without one, the subnet is reached directly.',
  }),
  table: v.table.optional().meta({
    title: 'routing table',
    description:
      'Number of the routing table, or `main`, which it is by default. Rules say who looks into which.',
    examples: [100],
  }),
  metric: v.whole(1, 4_294_967_295).optional().meta({
    description:
      "Of several routes to one place the one with the least metric is used. By default the kernel's.",
  }),
})
  .meta({ id: 'route' })
  .transform(({ to, ...route }, context) => {
    if (to !== 'default') return { ...route, to };
    if (route.via !== undefined) return { ...route, to: everything(route.via.family) };
    const params = { hint: 'for a directly connected one: 0.0.0.0/0 or ::/0' };
    context.addIssue({ code: 'custom', message: 'a default route needs via', params });
    return z.NEVER;
  });

const route = z
  .union([
    z.string().transform((text, context) => {
      const read = readRoute(text);
      if (read.success) return read.data;
      const why = read.error?.issues[0];
      context.addIssue(
        why?.code === 'custom'
          ? { code: 'custom', message: why.message, params: why.params }
          : { code: 'custom', message: read.why ?? 'must be a route, as in 10.5.0.0/16 via 10.0.0.1' },
      );
      return z.NEVER;
    }),
    routeFields,
  ])
  .meta({ title: 'route', examples: ['10.5.0.0/16 via 10.0.0.1', 'default via 10.0.0.1 table 100'] });

/** In the words of `ip route`. */
function readRoute(text: string) {
  const words = splitRoute(text);
  const table = words?.table === undefined ? undefined : parseTable(words.table);
  const metric = words?.metric === undefined ? undefined : parseMetric(words.metric);
  const [bad, why] = typeof table === 'string' ? [words?.table, table] : [words?.metric, metric];
  if (typeof why === 'string')
    return { success: false as const, error: undefined, why: `"${printable(bad ?? '')}" ${why}` };
  return { why: undefined, ...routeFields.safeParse({ ...words, table, metric }) };
}

const rule = fields({
  from: v.prefix.optional().meta({ title: 'subnet or address', description: 'Source of the packets.' }),
  to: v.prefix.optional().meta({ title: 'subnet or address', description: 'Destination of the packets.' }),
  table: v.table.meta({
    title: 'routing table',
    description: 'Number of the routing table that is looked into, or `main`.',
  }),
  priority: v.whole(1, 4_294_967_295).optional().meta({
    description: "Rules are looked at in the order of their priority. By default the kernel's choice.",
  }),
}).meta({ id: 'rule', title: 'rule' });

const rate = v.rate.meta({ title: 'rate', examples: ['10mbit'] });
const rateFields = fields({
  in: rate.optional().meta({
    description:
      "What the container receives: limited at the host's end of a pair; on networks of kind macvlan, ipvlan and phys, which " +
      'have none, on its way through a link `ifb-IFNAME` in the container.',
  }),
  out: rate.optional().meta({ description: 'What the container sends.' }),
}).meta({ id: 'rate', title: 'rate' });

const mirrored = v.mirrored.meta({
  title: 'attachment or port',
  examples: ['web', 'web/eth1', 'port:eth0'],
});
const mirrorFields = fields({
  of: z
    .union([z.literal('all'), v.oneOrMore(mirrored)])
    .default('all')
    .meta({
      title: 'attachments or ports',
      description:
        'Whose traffic is copied: `all` ports of the bridge, or those of containers (`web`, `web/eth1`) and other ports ' +
        '(`port:eth0`), each from when it is there.',
    }),
  direction: z.enum(mirrorDirections).optional().meta({
    description: 'Only with a list: what they send (`src`), what they receive (`dst`), or both, the default.',
  }),
  vlans: trunks.meta({ title: 'VLAN ids', description: 'Only what is in one of these VLANs.' }),
}).meta({ id: 'mirror', title: 'mirror' });

const policingFields = fields({
  rate: v.rate.meta({ title: 'rate', description: '`ingress_policing_rate`.', examples: ['10mbit'] }),
  burst: v.rate.optional().meta({
    title: 'bits',
    description: '`ingress_policing_burst`: 8mbit when nothing is said.',
    examples: ['1mbit'],
  }),
}).meta({ id: 'policing', title: 'policing' });

const guestVlanFields = fields({
  vid: vlan.meta({ description: 'VLAN id of the tag.' }),
  addresses: v
    .oneOrMore(v.hostAddress.meta({ title: 'address/length', examples: ['10.100.0.2/24'] }))
    .default([])
    .meta({ description: '`ip addr add`. Only for a container by name.' }),
}).meta({ id: 'guest-vlan', title: 'VLAN of a trunk' });

const sysctls = z
  .record(z.string(), z.union([z.int(), z.string()]))
  .meta({ examples: [{ 'ipv4.forwarding': 1, 'ipv6.accept_ra': 0 }] });

/** Which containers an attachment is about. */
export const containerSchema = z.union([v.textAs(readContainer), selectorFields]).meta({
  title: 'container',
  description:
    'Which containers: one by its name, several by a pattern of names with `*` and `?`, or by Compose service or label. ' +
    'Before a name or pattern may go docker: or podman: where it is to be of that engine only.',
  examples: ['web', 'podman:web', 'web-*', { compose: 'shop/web' }, { label: 'tier=db' }],
});

/** An attachment. */
export const attachmentSchema = fields({
  container: containerSchema,
  host,
  network: z.string().meta({ title: 'network', description: 'Name of a network of the files.' }),
  ifname: v.ifname.default('eth1').meta({
    title: 'interface name',
    description: 'Name of the interface in the container, at most 15 bytes.',
  }),
  addresses: z
    .union([
      z.enum(['auto', 'dhcp']),
      v.oneOrMore(v.address.meta({ title: 'address/length', examples: ['10.0.0.2/24'] })),
    ])
    .default([])
    .meta({
      description:
        '`ip addr add`. With `auto` one of each family that the network has a range of, and the same again whenever the ' +
        'container comes back; with `dhcp` what a server on the network gives. Listed addresses only for a container by name.',
      examples: ['auto', 'dhcp', '10.0.0.2/24', ['10.0.0.2/24', 'fd00::2/64']],
    }),
  dhcp: dhcpFields.optional().meta({
    title: 'dhcp',
    description: 'With `addresses: dhcp`, and with `ipv6: dhcp` or `auto`: what is said to the servers.',
  }),
  ipv6: z
    .enum(ipv6Modes)
    .optional()
    .meta({
      description:
        'IPv6 addresses besides those of `addresses`: with `slaac` as routers advertise them, with `dhcp` from a DHCPv6 ' +
        'server, with `auto` whichever of the two routers say. Routers are listened to in each case. By default the ' +
        'container is left as it is. DHCPv6 needs the agent.',
    }),
  interfaceId: z
    .enum(interfaceIds)
    .optional()
    .meta({
      description:
        'With `ipv6`: how the latter half of an address is made. `stable-privacy` (RFC 7217), the default, from a secret ' +
        'of this host and the names of container and interface, so that it stays the same in every life of the container; ' +
        '`eui64` from the MAC address.',
    }),
  dns: z
    .literal('container')
    .optional()
    .meta({
      description:
        "With `addresses: dhcp` or `ipv6`: name servers and domains of leases go into the container's own /etc/resolv.conf, " +
        'and what was there before comes back on detach. By default they are shown and no more.',
    }),
  gateway: z
    .union([z.literal('none'), v.oneOrMore(v.gateway.meta({ title: 'address' }))])
    .optional()
    .meta({
      description:
        'Default gateway, at most one of each family, on or off the subnet: `ip route replace default via GATEWAY`. By ' +
        "default the network's; `none` for no default route by this interface.",
      examples: ['10.10.101.254', 'none'],
    }),
  mac: v.mac.optional().meta({
    title: 'MAC address',
    description: '`ip link set address`. By default the kernel chooses. Only for a container by name.',
    examples: ['02:00:00:00:00:01'],
  }),
  unique: v.unique.optional().meta({
    title: 'text',
    description:
      "Instead of `mac`: a MAC address made from this text, the same each time, as `pipework`'s U:TEXT; for several " +
      "containers, from it and each one's name.",
  }),
  vlan: vlan.optional().meta({
    description:
      "VLAN of this attachment, before the network's; on kinds bridge, ovs, macvlan, ipvlan and phys.",
  }),
  trunks: trunks.meta({
    title: 'VLAN ids',
    description:
      "VLANs of this attachment's port with their tags, before what the network says; on kinds bridge and ovs.",
  }),
  vlans: z
    .array(guestVlanFields)
    .default([])
    .meta({
      description:
        'VLANs that come with tags, each an interface IFNAME.VID in the container: ' +
        '`ip link add link IFNAME name IFNAME.VID type vlan id VID`.',
      examples: [[{ vid: 100, addresses: '10.100.0.2/24' }]],
    }),
  mode: ovsMode.optional().meta({
    description: 'On kind ovs: `veth` or `internal`, before what the network says.',
  }),
  mirror: z
    .union([z.literal('all'), v.oneOrMore(mirrored), mirrorFields])
    .optional()
    .meta({
      title: 'mirror',
      description:
        'On kind ovs, for capture: the interface gets a copy of what passes the bridge, or of what some attachments send and ' +
        'receive, and nothing else: `ovs-vsctl create mirror name=PORT select-all=true output-port=PORT`. It has no ' +
        'addresses then, and what it sends is dropped.',
      examples: ['all', ['web', 'db/eth1'], { of: 'web', direction: 'src', vlans: [100] }],
    }),
  policing: z
    .union([v.rate.transform((bits) => ({ rate: bits, burst: undefined })), policingFields])
    .optional()
    .meta({
      title: 'policing',
      description:
        "On kind ovs: what the container sends beyond this rate is dropped at the host's end, where the container cannot change " +
        "it: `ovs-vsctl set interface PORT ingress_policing_rate=KBIT ingress_policing_burst=KBIT`. The kernel's datapath only; " +
        '`rate` works on both.',
      examples: ['10mbit', { rate: '10mbit', burst: '1mbit' }],
    }),
  mtu: mtu.optional().meta({ description: "Bytes, before the network's." }),
  dad: z
    .boolean()
    .optional()
    .meta({
      description:
        'Duplicate address detection: `arping -D` (and its IPv6 counterpart) before an address is used, which takes a quarter ' +
        'of a second; an address that somebody answers for is refused, or with `auto` the next one is taken. By default ' +
        'true for `auto`, else only what other containers of pipewright have is refused; with `false` not even that.',
    }),
  routes: z.array(route).default([]).meta({
    description: '`ip route add TO via VIA table TABLE metric METRIC`, each as text or as below.',
  }),
  rules: z.array(rule).default([]).meta({
    description: '`ip rule add from FROM to TO lookup TABLE priority PRIORITY`.',
  }),
  sysctls: sysctls.default({}).meta({
    title: 'sysctls',
    description: 'Of the interface: `ipv4.forwarding` is net.ipv4.conf.IFNAME.forwarding.',
  }),
  rate: rateFields.optional().meta({
    title: 'rate',
    description:
      'Limits, with the units of `tc`: bit, kbit, mbit, gbit per second, and bps, kbps, mbps for bytes.',
  }),
});
