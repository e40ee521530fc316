/** Operations in words: the commands that a person would have typed. */
import { formatCidr } from './address.ts';
import type { ChildMode, RuleSpec } from './attachment.ts';
import type { Route } from './link.ts';
import type {
  KindChange,
  LinkChange,
  Operation,
  PlannedLink,
  PlannedRoute,
  PortMirror,
  PortVlans,
} from './operation.ts';
import { formatVids, formatVlan } from './port-vlan.ts';
import { mainTable } from './route.ts';
import type { VfSettings } from './sriov.ts';

function route(route: PlannedRoute): string {
  const dst = route.dst ? formatCidr(route.dst) : 'default';
  const via = route.gateway ? ` via ${route.gateway}` : '';
  const table = route.table === undefined ? '' : ` table ${route.table}`;
  const metric = route.metric === undefined ? '' : ` metric ${route.metric}`;
  return `${dst}${via} dev ${route.link}${table}${metric}`;
}

function formerRoute({ dst, gateway, table }: Route): string {
  const where = table === mainTable ? '' : ` table ${table}`;
  return `${dst ? formatCidr(dst) : 'default'}${gateway ? ` via ${gateway}` : ''}${where}`;
}

function newLink(name: string, link: PlannedLink): string {
  const mtu = link.mtu === undefined ? '' : ` mtu ${link.mtu}`;
  const mac = 'mac' in link && link.mac ? ` address ${link.mac}` : '';
  switch (link.kind) {
    case 'bridge':
      return `link add ${name}${mtu} type bridge${link.vlanFiltering ? ' vlan_filtering 1' : ''}`;
    case 'dummy':
      return `link add ${name}${mtu}${mac} type dummy`;
    case 'ifb':
      return `link add ${name} up netns GUEST type ifb`;
    case 'vlan':
      return `link add link ${link.uplink} name ${name}${mtu} type vlan id ${link.vid}`;
    case 'veth':
      return `link add ${name} up${mtu}${link.master ? ` master ${link.master}` : ''} type veth peer name ${link.peer}${mtu}${mac} netns GUEST`;
    case 'macvlan':
    case 'ipvlan':
      return `link add link ${link.uplink} name ${name}${mtu}${mac} netns GUEST type ${childMode(link)}`;
    case 'ipoib':
      return `link add link ${link.uplink} name ${name}${mtu} netns GUEST type ipoib${link.pkey === undefined ? '' : ` pkey 0x${link.pkey.toString(16)}`}`;
  }
}

function change(set: LinkChange): string {
  const words: string[] = [];
  if (set.mac !== undefined) words.push(`address ${set.mac}`);
  if (set.mtu !== undefined) words.push(`mtu ${set.mtu}`);
  if (set.master !== undefined) words.push(set.master === '' ? 'nomaster' : `master ${set.master}`);
  if (set.group !== undefined) words.push(`group ${set.group}`);
  if (set.up !== undefined) words.push(set.up ? 'up' : 'down');
  return words.join(' ');
}

function vfSettings({ mac, vid, spoofCheck }: VfSettings): string {
  const words = [
    ...(mac === undefined ? [] : ['mac', mac]),
    ...(vid === undefined ? [] : ['vlan', vid]),
    ...(spoofCheck === undefined ? [] : ['spoofchk', spoofCheck ? 'on' : 'off']),
  ];
  return words.map((word) => ` ${word}`).join('');
}

function kindChange(change: KindChange): string {
  return change.kind === 'bridge'
    ? `type bridge vlan_filtering ${Number(change.vlanFiltering)}`
    : `type ${childMode(change)}`;
}

function childMode(of: ChildMode): string {
  if (of.kind === 'ipvlan') return `ipvlan mode ${of.mode}${of.flag ? ` ${of.flag}` : ''}`;
  const sources = of.sourceMacs && ` macaddr set ${of.sourceMacs.join(' ')}`;
  return `macvlan mode ${of.mode}${sources ?? ''}`;
}

function rule({ from, to, table, priority }: RuleSpec): string {
  const words = [from && `from ${formatCidr(from)}`, to && `to ${formatCidr(to)}`, `lookup ${table}`];
  if (priority !== undefined) words.push(`priority ${priority}`);
  return words.filter((word) => word !== undefined).join(' ');
}

/** Columns of the table Port as ovs-vsctl takes them; `[]` is none. */
function portVlans({ vid, trunks, vlanMode, cvlans, qinqEthtype }: PortVlans): string {
  const list = (vids: readonly number[] | undefined): string | undefined =>
    vids && (vids.length === 0 ? '[]' : vids.join(','));
  const one = <T>(value: T | null | undefined): T | '[]' | undefined => (value === null ? '[]' : value);
  const columns = {
    tag: one(vid),
    trunks: list(trunks),
    vlan_mode: one(vlanMode),
    cvlans: list(cvlans),
    // Absent is the default.
    'other_config:qinq-ethtype': qinqEthtype === null ? '802.1ad' : qinqEthtype,
  };
  return Object.entries(columns)
    .filter(([, value]) => value !== undefined)
    .map(([column, value]) => ` ${column}=${value}`)
    .join('');
}

function mirror(bridge: string, port: string, { all, src, dst, vlans }: PortMirror): string {
  const gets = [...new Set([...src, ...dst])].map((name) => ` -- --id=@${name} get port ${name}`);
  const refs = (names: readonly string[]): string => names.map((name) => `@${name}`).join(',');
  const words = [
    ...(all ? ['select-all=true'] : []),
    ...(src.length > 0 ? [`select-src-port=${refs(src)}`] : []),
    ...(dst.length > 0 ? [`select-dst-port=${refs(dst)}`] : []),
    ...(vlans.length > 0 ? [`select-vlan=${vlans.join(',')}`] : []),
    `output-port=@p`,
  ];
  const create = `--id=@m create mirror name=${port} ${words.join(' ')}`;
  return `ovs-vsctl -- --id=@p get port ${port}${gets.join('')} -- ${create} -- add bridge ${bridge} mirrors @m`;
}

/** The command a person would have typed for this operation. GUEST stands for the container's namespace. */
export function describe(op: Operation): string {
  const ip = 'side' in op && op.side === 'guest' ? 'ip -n GUEST' : 'ip';
  switch (op.do) {
    case 'link.add':
      // A child of a NIC is made by the host, for the container.
      return `${op.link.kind === 'vlan' ? ip : 'ip'} ${newLink(op.name, op.link)}`;
    case 'link.set':
      return `${ip} link set ${op.name} ${change(op.set)}`;
    case 'link.change':
      return `${ip} link set ${op.name} ${kindChange(op.change)}`;
    case 'vf.set':
      return `ip link set ${op.uplink} vf ${op.vf}${vfSettings(op.set)}`;
    case 'altname.add':
      return `ip link property add dev ${op.name} altname ${op.altname}`;
    case 'altname.del':
      return `ip link property del dev ${op.name} altname ${op.altname}`;
    case 'vlan.add':
      return `bridge vlan add dev ${op.link} vid ${formatVlan(op.vlan)}${op.self ? ' self' : ''}`;
    case 'vlan.del':
      return `bridge vlan del dev ${op.link} vid ${formatVids(op.vlan)}${op.self ? ' self' : ''}`;
    case 'link.del':
      return `${ip} link del ${op.name}`;
    case 'link.give':
      return op.wireless
        ? `iw phy ${op.wireless.phy} set netns ${op.wireless.pid}`
        : `ip link set ${op.name} netns GUEST name ${op.ifname}`;
    case 'link.take':
      return `ip -n GUEST link set ${op.ifname} netns HOST name ${op.saved.name}`;
    case 'link.stash':
      return `ip -n GUEST link set ${op.name} down name ${op.as}`;
    case 'link.restore':
      return `ip -n GUEST link set ${op.name} name ${op.saved.name} (and all else as before)`;
    case 'addr.add':
      return `${ip} addr add ${formatCidr(op.cidr)}${op.broadcast ? ` brd ${op.broadcast}` : ''} dev ${op.link}${op.nodad ? ' nodad' : ''}`;
    case 'addr.probe': {
      const arping = op.side === 'guest' ? 'ip netns exec GUEST arping' : 'arping';
      return `${arping} -D -c 3 -I ${op.link} ${op.ips.join(' ')}`;
    }
    case 'ipv6.enable':
      return `ip netns exec GUEST sysctl net.ipv6.conf.${op.link}.disable_ipv6=${op.enable ? 0 : 1}`;
    case 'sysctl.set':
      if (op.side === 'host') return `sysctl net/${op.key.replace('/', `/conf/${op.link}/`)}=${op.value}`;
      return `ip netns exec GUEST sysctl net/${op.key.replace('/', `/conf/${op.link}/`)}=${op.value}`;
    case 'rule.add':
      return `ip -n GUEST rule add ${rule(op.rule)}`;
    case 'rule.del':
      return `ip -n GUEST rule del ${rule(op.rule)}`;
    case 'qdisc.set': {
      const tc = op.side === 'guest' ? 'tc -n GUEST' : 'tc';
      if (op.rate === undefined) return `${tc} qdisc del dev ${op.link} root`;
      return `${tc} qdisc replace dev ${op.link} root tbf rate ${op.rate}bit`;
    }
    case 'ingress.redirect':
      if (op.to === undefined) return `tc -n GUEST qdisc del dev ${op.link} ingress`;
      return `tc -n GUEST filter add dev ${op.link} ingress matchall action mirred egress redirect dev ${op.to}`;
    case 'addr.del':
      return `${ip} addr del ${formatCidr(op.cidr)} dev ${op.link}`;
    case 'route.replace':
      return `${ip} route replace ${route(op.route)}`;
    case 'route.del':
      return `${ip} route del ${route(op.route)}`;
    case 'route.restore':
      return `${ip} route replace ${formerRoute(op.route)} (as before)`;
    case 'ovs.bridge.add':
      return `ovs-vsctl add-br ${op.name}`;
    case 'ovs.bridge.del':
      return `ovs-vsctl --if-exists del-br ${op.name}`;
    case 'ovs.port.add':
      return `ovs-vsctl add-port ${op.bridge} ${op.port}${portVlans(op.vlans)}${op.internal ? ` -- set interface ${op.port} type=internal` : ''}`;
    case 'ovs.port.set':
      return `ovs-vsctl set port ${op.port}${portVlans(op.set)}`;
    case 'ovs.port.del':
      return `ovs-vsctl --if-exists del-port ${op.port}`;
    case 'ovs.mirror.set':
      return mirror(op.bridge, op.port, op.mirror);
    case 'ovs.mirror.del':
      return `ovs-vsctl destroy mirror ${op.port}`;
    case 'ovs.policing.set': {
      const { rate, burst } = op.policing;
      return `ovs-vsctl set interface ${op.port} ingress_policing_rate=${rate} ingress_policing_burst=${burst}`;
    }
    case 'firewall.allow':
      return `iptables -I DOCKER-USER -i ${op.bridge} -o ${op.bridge} -j ACCEPT`;
    case 'firewall.revoke':
      return `iptables -D DOCKER-USER -i ${op.bridge} -o ${op.bridge} -j ACCEPT`;
  }
}
