/** What the systems that configure this host have to be told of an uplink. */
import { PipewrightError } from '../errors.ts';
import { listLinks } from '../kernel/netlink/link.ts';
import { listAllRules } from '../kernel/netlink/rule.ts';
import type { UplinkBridge, UplinkWant } from '../model/uplink.ts';
import type { UplinkFacts } from '../model/uplink-facts.ts';
import { observeUplink } from '../observe/uplink.ts';
import { hasMoved, uplinkFacts } from '../observe/uplink-facts.ts';
import { type UplinkManager, uplinkManagers } from '../observe/uplink-managers.ts';
import { type Exported, type ExportTarget, exportUplink } from '../plan/uplink-export.ts';
import { checkUplink } from '../plan/uplink-refusals.ts';
import type { Host } from './host.ts';

/** A program that has the NIC, and the lines for its own configuration. */
export interface ToldManager extends UplinkManager, Exported {}

const nothing: Exported = { files: [], notes: [] };

/** Those that configure the NIC, each with what it has to be told. */
export async function managersOf(host: Host, want: UplinkWant): Promise<ToldManager[]> {
  const { facts, managers } = await factsOf(host, want);
  return managers.map((manager) => ({
    ...manager,
    ...(manager.target === undefined ? nothing : exportUplink(manager.target, facts)),
  }));
}

/**
 * The files, or commands, for one system.
 * @param bridge of a NIC that is no uplink yet
 * @throws PipewrightError UPLINK_UNKNOWN when neither says which bridge is meant; UPLINK_REFUSED when it cannot be its uplink
 */
export async function exportOf(
  host: Host,
  nic: string | undefined,
  target: ExportTarget,
  bridge: UplinkBridge | undefined,
): Promise<Exported> {
  const uplinks = host.state.uplinks();
  const [only] =
    nic === undefined && uplinks.length === 1 ? uplinks : uplinks.filter((one) => one.nic === nic);
  const name = nic ?? only?.nic;
  const plug = bridge ?? only?.record.want.bridge;
  if (name === undefined || plug === undefined) {
    throw new PipewrightError('UPLINK_UNKNOWN', {
      op: 'uplink.export',
      subject: nic ?? 'uplinks',
      detail:
        nic === undefined
          ? `there ${uplinks.length === 0 ? 'is none' : 'are several'}: say which NIC`
          : 'it is no uplink yet: say of which bridge it is to be one',
      hint: 'pipewright uplink export NIC --network bridge:br0 --for TARGET',
    });
  }
  const noted = only?.record.want;
  const isNoted = noted?.bridge.kind === plug.kind && noted.bridge.name === plug.name;
  const want = isNoted && noted ? noted : { nic: name, bridge: plug, keepMac: false, trunks: [] };
  return exportUplink(target, (await factsOf(host, want)).facts);
}

async function factsOf(
  host: Host,
  want: UplinkWant,
): Promise<{ readonly facts: UplinkFacts; readonly managers: readonly UplinkManager[] }> {
  const { nic, bridge } = want;
  const seen = await observeUplink(host, nic, bridge);
  if (!hasMoved(seen, want)) checkUplink(want, seen, 'uplink.export');
  const managers = seen.nic ? uplinkManagers({ nic, ifindex: seen.nic.ifindex }) : [];
  const names = new Map(listLinks(host.rtnl).map(({ ifindex, name }) => [ifindex, name]));
  const came = new Set(host.state.uplink(nic)?.record.nicAddrs.map(({ cidr }) => cidr.ip));
  const facts = uplinkFacts({
    seen,
    want,
    rules: listAllRules(host.rtnl),
    nameOf: (ifindex) => names.get(ifindex),
    ours: host.state
      .networkRecords()
      .filter(({ hostLink }) => hostLink === bridge.name)
      .flatMap(({ addrs }) => addrs)
      .filter(({ ip }) => !came.has(ip)),
    leased: managers.some(({ dhcp }) => dhcp),
    connection: managers.find(({ connection }) => connection !== undefined)?.connection,
  });
  return { facts, managers };
}
