/** What the systems that configure this host have to be told of an uplink. */
import { PipewrightError } from '../errors.ts';
import type { UplinkBridge } from '../model/uplink.ts';
import { observeUplink } from '../observe/uplink.ts';
import { type UplinkManager, uplinkManagers } from '../observe/uplink-managers.ts';
import { type ExportedFile, type ExportTarget, exportUplink, uplinkFacts } from '../plan/uplink-export.ts';
import type { Host } from './host.ts';

/** A program that has the NIC, and the lines for its own configuration. */
export interface ToldManager extends UplinkManager {
  readonly files: readonly ExportedFile[];
}

/** Those that configure the NIC, each with what it has to be told. */
export async function managersOf(host: Host, nic: string, bridge: UplinkBridge): Promise<ToldManager[]> {
  const { facts, managers } = await factsOf(host, nic, bridge);
  return managers.map((manager) => ({
    ...manager,
    files: manager.target === undefined ? [] : exportUplink(manager.target, facts),
  }));
}

/**
 * The files, or commands, for one system.
 * @param bridge of a NIC that is no uplink yet
 * @throws PipewrightError UPLINK_UNKNOWN when neither says which bridge is meant
 */
export async function exportOf(
  host: Host,
  nic: string | undefined,
  target: ExportTarget,
  bridge: UplinkBridge | undefined,
): Promise<ExportedFile[]> {
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
  return exportUplink(target, (await factsOf(host, name, plug)).facts);
}

async function factsOf(host: Host, nic: string, bridge: UplinkBridge) {
  const seen = await observeUplink(host, nic, bridge);
  const want = host.state.uplink(nic)?.record.want;
  const isPort = seen.nic?.master !== undefined && seen.nic.master === seen.bridge?.ifindex;
  const hasMoved = isPort || seen.ovsBridgeOfNic === bridge.name;
  const what = {
    nic,
    bridge,
    mac: want?.keepMac ? undefined : seen.nic?.mac,
    trunks: want?.trunks ?? [],
  };
  const facts = uplinkFacts(what, hasMoved ? seen.bridgeState : seen.state);
  const managers = seen.nic ? uplinkManagers({ nic, ifindex: seen.nic.ifindex }) : [];
  // Some clients give an address no end, so that it looks like one given by hand.
  const leased = !facts.dhcp4 && managers.some(({ dhcp }) => dhcp);
  if (!leased) return { facts, managers };
  const is6 = ({ family }: { readonly family: 4 | 6 }): boolean => family === 6;
  const given = { addresses: facts.addresses.filter(is6), routes: facts.routes.filter(is6) };
  return { facts: { ...facts, ...given, dhcp4: true }, managers };
}
