/** `pipewright uplink` and `pipewright confirm` */
import {
  addUplink,
  confirmUplinks,
  type ListedUplink,
  listUplinks,
  removeUplink,
  type UplinkOptions,
  type UplinkResult,
} from '../apply/uplink.ts';
import { sshPeer } from '../apply/uplink-check.ts';
import { exportOf, managersOf, type ToldManager } from '../apply/uplink-export.ts';
import { monotonicMs } from '../apply/uplink-journal.ts';
import {
  parseBridge,
  parseConfirm,
  parseNic,
  parseTarget,
  parseUplink,
  type UplinkTexts,
} from '../config/uplink-options.ts';
import type { ExportedFile } from '../plan/uplink-export.ts';
import { stepLines, table } from './output.ts';
import { requirePrivileges } from './privileges.ts';
import { type CommandContext, printErrorTo, printTo, type Session } from './session.ts';

/** What both directions take. */
interface MoveFlags {
  readonly confirm?: string | undefined;
  readonly dryRun: boolean;
  readonly json: boolean;
}

export type UplinkAddFlags = MoveFlags & UplinkTexts & { readonly vlanFiltering: boolean };

function optionsOf({ confirm, dryRun }: MoveFlags): UplinkOptions {
  return { confirmMs: parseConfirm(confirm), dryRun, ssh: sshPeer() };
}

/** `pipewright uplink add NIC --network bridge:br0` @throws PipewrightError */
export async function runUplinkAdd(this: CommandContext, flags: UplinkAddFlags, nic: string): Promise<void> {
  const want = parseUplink(nic, flags);
  const options = optionsOf(flags);
  requirePrivileges();
  const { session } = this;
  using _progress = session.progress(`moving ${nic} to ${want.bridge.name}`);
  const host = session.host();
  const result = await addUplink(host, want, options);
  report(session, { ...result, managers: await managersOf(host, want) }, flags);
}

/** `pipewright uplink remove NIC` @throws PipewrightError */
export async function runUplinkRemove(this: CommandContext, flags: MoveFlags, nic: string): Promise<void> {
  const name = parseNic(nic);
  const options = optionsOf(flags);
  requirePrivileges();
  const { session } = this;
  using _progress = session.progress(`taking ${name} back`);
  report(session, { ...(await removeUplink(session.host(), name, options)), managers: [] }, flags);
}

/** With whoever else configures the NIC. */
type Reported = UplinkResult & { readonly managers: readonly ToldManager[] };

function report(session: Session, result: Reported, flags: MoveFlags): void {
  for (const warning of result.warnings) printErrorTo(session, `warning: ${warning}`);
  const { json, dryRun } = flags;
  const changed = result.steps.length > 0;
  printTo(session, json ? JSON.stringify({ ...result, changed, dryRun }) : textOf(result, flags));
}

/** Who will fight us, and the lines that make peace. */
function managerLines({ name, evidence, files, dhcp }: ToldManager, nic: string, bridge: string): string[] {
  const what = dhcp ? 'asks a DHCP server by it' : 'configures it';
  const why = `note: ${name} has ${nic} too (${evidence}) and ${what}`;
  if (files.length === 0) return [`${why}: run it on ${bridge} instead, or it loses its lease`];
  return [
    `${why}: at its next start it would take ${nic} back. For its own configuration:`,
    ...files.map(fileText),
  ];
}

function fileText({ path, text }: ExportedFile): string {
  return `${path === undefined ? '' : `# ${path}\n`}${text.trimEnd()}`;
}

function textOf(result: Reported, { dryRun, confirm }: MoveFlags): string {
  const { nic, bridge, steps, reached, toConfirm, managers } = result;
  const notes = managers.flatMap((manager) => managerLines(manager, nic, bridge.name));
  if (steps.length === 0) return `${nic} is the uplink of ${bridge.name}: nothing to do`;
  if (dryRun) return [stepLines(steps), ...notes].join('\n');
  const seconds = parseConfirm(confirm) / 1000;
  return [
    stepLines(steps),
    ...(reached.length > 0 ? [`reached after it as before: ${reached.join(', ')}`] : []),
    ...notes,
    ...(toConfirm ? [`within ${seconds} s: pipewright confirm   # else everything goes back as it was`] : []),
  ].join('\n');
}

/** `pipewright confirm [NIC]` @throws PipewrightError UPLINK_UNKNOWN */
export async function runConfirm(
  this: CommandContext,
  { json }: { readonly json: boolean },
  nic?: string,
): Promise<void> {
  const name = nic === undefined ? undefined : parseNic(nic);
  requirePrivileges();
  const { session } = this;
  const confirmed = await confirmUplinks(session.host(), name);
  if (json) printTo(session, JSON.stringify({ confirmed }));
  else
    printTo(
      session,
      confirmed
        .map((one) =>
          one.action === 'add'
            ? `${one.nic} stays the uplink of ${one.bridge}`
            : `${one.nic} stays off ${one.bridge}`,
        )
        .join('\n'),
    );
}

interface ExportFlags {
  readonly for: string;
  readonly network?: string | undefined;
  readonly json: boolean;
}

/** `pipewright uplink export [NIC] --for netplan` @throws PipewrightError */
export async function runUplinkExport(this: CommandContext, flags: ExportFlags, nic?: string): Promise<void> {
  const target = parseTarget(flags.for);
  const name = nic === undefined ? undefined : parseNic(nic);
  const bridge = flags.network === undefined ? undefined : parseBridge(flags.network);
  requirePrivileges();
  const { session } = this;
  const { files, notes } = await exportOf(session.host(), name, target, bridge);
  for (const note of notes) printErrorTo(session, `warning: ${note}`);
  printTo(session, flags.json ? JSON.stringify({ files, notes }) : files.map(fileText).join('\n\n'));
}

/** `pipewright uplink list` @throws PipewrightError */
export async function runUplinkList(
  this: CommandContext,
  { json }: { readonly json: boolean },
): Promise<void> {
  requirePrivileges();
  const { session } = this;
  const uplinks = (await listUplinks(session.host())).map(lineOf);
  if (json) printTo(session, JSON.stringify({ uplinks }));
  else if (uplinks.length === 0) printTo(session, 'pipewright has made no uplink');
  else
    printTo(
      session,
      table([
        ['NIC', 'BRIDGE', 'MAC', 'STATE'],
        ...uplinks.map(({ nic, network, mac, state }) => [nic, network, mac, state]),
      ]),
    );
}

function lineOf({ nic, record, phase, deadline, action, torn }: ListedUplink) {
  const { want, mac } = record;
  const left = Math.max(0, Math.ceil((deadline - monotonicMs()) / 1000));
  const waiting = `${action === 'add' ? 'made' : 'removed'}, to be confirmed in ${left} s`;
  const settled = torn ?? 'up';
  const state = phase === 'settled' ? settled : phase === 'moved' ? waiting : 'being moved';
  const { kind, name } = want.bridge;
  return { nic, network: `${kind}:${name}`, mac, state };
}
