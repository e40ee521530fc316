/**
 * A bridge with its uplink in the words of the systems that configure hosts at boot: netplan, systemd-networkd, ifupdown,
 * NetworkManager. Pure.
 */
import { PipewrightError } from '../errors.ts';
import type { UplinkFacts } from '../model/uplink-facts.ts';
import { exportIfupdown } from './export-ifupdown.ts';
import { exportNetplan } from './export-netplan.ts';
import { exportNetworkd } from './export-networkd.ts';
import { exportNmcli } from './export-nmcli.ts';

/** The systems. */
export const exportTargets = ['netplan', 'networkd', 'ifupdown', 'nmcli'] as const;
export type ExportTarget = (typeof exportTargets)[number];

/** A file of a system, or with no path commands to be typed. */
export interface ExportedFile {
  readonly path: string | undefined;
  readonly text: string;
}

/** What is to be written down, and what the system has no words for. */
export interface Exported {
  readonly files: readonly ExportedFile[];
  /** One line each: the command that nobody gives at boot, and why. The files have them as comments. */
  readonly notes: readonly string[];
}

const exporters = {
  netplan: exportNetplan,
  networkd: exportNetworkd,
  ifupdown: exportIfupdown,
  nmcli: exportNmcli,
} as const;

/** Characters that no system takes for a pattern, an escape, or the end of a word. */
const plainName = /^[A-Za-z0-9][\w.-]*$/;

/**
 * The files, or commands, that make the same at every boot.
 * @throws PipewrightError BAD_ARGUMENT for a name that the system's files cannot have
 */
export function exportUplink(target: ExportTarget, facts: UplinkFacts): Exported {
  const odd = [facts.nic, facts.bridge.name].find((name) => !plainName.test(name));
  if (odd !== undefined && target !== 'nmcli') {
    throw new PipewrightError('BAD_ARGUMENT', {
      op: 'uplink.export',
      subject: odd,
      detail: `the files of ${target} cannot have a name with such characters`,
      hint: `ip link set ${odd} name NEW`,
    });
  }
  return exporters[target](facts);
}
