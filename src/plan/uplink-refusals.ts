/** Why a NIC cannot become the uplink of a bridge. Pure. */
import { PipewrightError } from '../errors.ts';
import type { Link } from '../model/link.ts';
import { isOurGroup } from '../model/naming.ts';
import type { ObservedUplink, UplinkWant } from '../model/uplink.ts';

/** ARPHRD_ETHER, ARPHRD_LOOPBACK. */
const ethernet = 1;
const loopback = 772;

interface Reason {
  readonly detail: string;
  readonly hint?: string;
}

/** @returns the NIC, which is there and can be moved. @throws PipewrightError with the reason when it cannot */
export function checkUplink(want: UplinkWant, seen: ObservedUplink, op = 'uplink.add'): Link {
  const { nic } = seen;
  const why = nic ? (whyNotNic(nic, want, seen) ?? whyNotBridge(want, seen)) : whyNoNic(want, seen);
  if (nic && !why) return nic;
  throw new PipewrightError('UPLINK_REFUSED', {
    op,
    subject: `${want.nic} on ${want.bridge.name}`,
    ...(why ?? whyNoNic(want, seen)),
  });
}

function whyNoNic({ nic }: UplinkWant, { takenBy, alias }: ObservedUplink): Reason {
  if (alias !== undefined) return { detail: `${nic} is another name of ${alias}`, hint: `say ${alias}` };
  return takenBy === undefined
    ? { detail: `there is no ${nic} on this host`, hint: 'see: ip link' }
    : {
        detail: `${nic} was moved into the container ${takenBy}`,
        hint: `pipewright detach ${takenBy} brings it back`,
      };
}

function whyNotNic(nic: Link, want: UplinkWant, seen: ObservedUplink): Reason | undefined {
  const { name } = nic;
  if (nic.arphrd === loopback) return { detail: `${name} is the loopback interface` };
  if (name === want.bridge.name) return { detail: `${name} is the bridge itself` };
  if (nic.arphrd !== ethernet)
    return { detail: `${name} is not an Ethernet interface (type ${nic.arphrd}): a bridge takes no other` };
  if (seen.wireless) {
    return {
      detail: `${name} is a Wi-Fi interface: an access point takes no frames from the addresses behind it`,
      hint: 'use a wired NIC, or route instead of bridging',
    };
  }
  if (nic.kind === 'bridge' || nic.kind === 'openvswitch')
    return { detail: `${name} is a bridge, and bridges cannot be ports of one another` };
  if (nic.kind === 'ipvlan' || nic.kind === 'macvlan')
    return { detail: `${name} is a ${nic.kind} on another NIC, which lets through only its own MAC address` };
  if (nic.kind === 'veth' && isOurGroup(nic.group))
    return { detail: `${name} is the host's end of a container's interface` };
  return whyPort(nic, want, seen) ?? whyBusy(name, seen);
}

function whyPort(
  nic: Link,
  want: UplinkWant,
  { master, ovsBridgeOfNic, uplinkOf }: ObservedUplink,
): Reason | undefined {
  const { name } = nic;
  const other = uplinkOf === want.bridge.name ? undefined : uplinkOf;
  if (other !== undefined && [master?.name, ovsBridgeOfNic].includes(other))
    return { detail: `${name} is the uplink of ${other} already`, hint: `pipewright uplink remove ${name}` };
  if (ovsBridgeOfNic !== undefined && ovsBridgeOfNic !== want.bridge.name)
    return {
      detail: `${name} is a port of the Open vSwitch bridge ${ovsBridgeOfNic} already`,
      hint: `ovs-vsctl del-port ${ovsBridgeOfNic} ${name}`,
    };
  if (nic.master === undefined || ovsBridgeOfNic !== undefined) return undefined;
  if (master?.kind === 'bond' || master?.kind === 'team')
    return {
      detail: `${name} is a member of the ${master.kind} ${master.name}`,
      hint: `make ${master.name} the uplink`,
    };
  return master?.name === want.bridge.name
    ? undefined
    : {
        detail: `${name} is a port of ${master?.name ?? `link ${nic.master}`} already`,
        hint: `ip link set ${name} nomaster`,
      };
}

function whyBusy(name: string, { riders }: ObservedUplink): Reason | undefined {
  if (riders.length === 0) return undefined;
  return {
    detail: `${riders.join(', ')} ${riders.length > 1 ? 'ride' : 'rides'} on ${name}, and the kernel lets a NIC have either such interfaces or a bridge`,
    hint: `ip link del ${riders[0]}`,
  };
}

function whyNotBridge({ bridge, trunks }: UplinkWant, seen: ObservedUplink): Reason | undefined {
  const { name, kind } = bridge;
  if (seen.bridge && seen.bridgeKind !== kind) {
    const is =
      seen.bridgeKind === 'other'
        ? `a ${seen.bridge.kind ?? 'NIC'}`
        : seen.bridgeKind === 'ovs'
          ? 'an Open vSwitch bridge'
          : 'a Linux bridge';
    return { detail: `${name} is ${is}, not ${kind === 'ovs' ? 'an Open vSwitch' : 'a Linux'} bridge` };
  }
  const [other] = seen.otherUplinks;
  if (other !== undefined)
    return {
      detail: `${name} has the uplink ${other} already, and two uplinks of one bridge can make a loop`,
      hint: `pipewright uplink remove ${other}, or: ip link set ${other} nomaster`,
    };
  if (seen.bridge?.data.stp)
    return {
      detail: `STP is on on ${name}: a new port would carry nothing for 30 s`,
      hint: `ip link set ${name} type bridge stp_state 0`,
    };
  const taken = seen.vlanLinks.find(({ data }) => data.vid !== undefined && trunks.includes(data.vid));
  if (taken)
    return {
      detail: `what comes with tag ${taken.data.vid} goes to ${taken.name} before the bridge sees it`,
      hint: `ip link del ${taken.name}`,
    };
  return undefined;
}
