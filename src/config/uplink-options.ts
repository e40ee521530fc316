/** The options of `pipewright uplink` as text -> what is asked for. Pure. */
import { PipewrightError } from '../errors.ts';
import type { UplinkBridge, UplinkWant } from '../model/uplink.ts';
import { type ExportTarget, exportTargets } from '../plan/uplink-export.ts';
import { checkIfname, checkVid, printable } from './names.ts';

/** What is typed. */
export interface UplinkTexts {
  readonly network: string;
  readonly confirm?: string | undefined;
  readonly keepMac: boolean;
  readonly trunks?: string | undefined;
  readonly vlanFiltering?: boolean | undefined;
}

/** Seconds that a move waits for its confirmation, when nothing else is said. */
const usualConfirm = '30s';
/** One hour: a host that is not reached for longer is gone to be fetched. */
const longestConfirmMs = 3_600_000;

function bad(subject: string, detail: string, hint?: string): PipewrightError {
  return new PipewrightError('BAD_ARGUMENT', {
    op: 'uplink',
    subject: printable(subject) || '""',
    detail,
    hint,
  });
}

/** @throws PipewrightError BAD_ARGUMENT */
export function parseUplink(
  nic: string,
  { network, keepMac, trunks, vlanFiltering }: UplinkTexts,
): UplinkWant {
  const bridge = parseBridge(network);
  if (vlanFiltering && bridge.kind === 'ovs')
    throw bad('--vlan-filtering', 'Open vSwitch filters VLANs in any case');
  return {
    nic: parseNic(nic),
    bridge,
    keepMac,
    trunks: parseTrunks(trunks),
    ...(vlanFiltering ? { vlanFiltering } : {}),
  };
}

/** @throws PipewrightError BAD_ARGUMENT */
export function parseNic(text: string): string {
  const why = checkIfname(text);
  if (why !== undefined) throw bad(text, `the name of a NIC ${why}`);
  return text;
}

/** `bridge:br0`, `ovs:ovs0`. @throws PipewrightError BAD_ARGUMENT */
export function parseBridge(text: string): UplinkBridge {
  const [, kind, name = ''] = /^(bridge|ovs):(.*)$/s.exec(text) ?? [];
  if (kind !== 'bridge' && kind !== 'ovs')
    throw bad(
      text,
      'the network of an uplink is bridge:NAME or ovs:NAME',
      `bridge:${checkIfname(text) === undefined ? text : 'br0'}`,
    );
  const why = checkIfname(name);
  if (why !== undefined) throw bad(text, `the name of a bridge ${why}`);
  return { kind, name };
}

/** @throws PipewrightError BAD_ARGUMENT */
export function parseTarget(text: string): ExportTarget {
  const target = exportTargets.find((known) => known === text);
  if (target === undefined) throw bad(text, `an uplink is exported for one of ${exportTargets.join(', ')}`);
  return target;
}

function parseTrunks(text: string | undefined): number[] {
  if (text === undefined) return [];
  const vids = text.split(',').map((word) => word.trim());
  const wrong = vids.find((word) => checkVid(word) !== undefined);
  if (wrong !== undefined) throw bad(text, `"${printable(wrong)}" ${checkVid(wrong)}`);
  return [...new Set(vids.map(Number))].sort((a, b) => a - b);
}

/** `30s`, `2m`, `1500ms`, `45`: milliseconds; `0` for none. @throws PipewrightError BAD_ARGUMENT */
export function parseConfirm(text: string = usualConfirm): number {
  const [, digits, unit = 's'] = /^(\d{1,7})(ms|s|m)?$/.exec(text) ?? [];
  const ms = Number(digits) * { ms: 1, s: 1000, m: 60_000 }[unit as 'ms' | 's' | 'm'];
  if (digits === undefined || ms > longestConfirmMs)
    throw bad(text, 'the time for a confirmation is seconds, or 30s, 2m; at most an hour; 0 for none');
  return ms;
}
