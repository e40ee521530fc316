/** `pipewright detach` */
import { type DetachResult, detach, type Target } from '../apply/detach.ts';
import { parseContainerRef } from '../config/container-ref.ts';
import { checkIfname, printable } from '../config/names.ts';
import type { Container } from '../containers/container.ts';
import { type ResolveOptions, resolveContainer } from '../containers/resolve.ts';
import { PipewrightError } from '../errors.ts';
import type { ContainerRef } from '../model/attachment.ts';
import type { AttachmentRecord } from '../model/observed.ts';
import { containerOf, recordsIn } from '../observe/known.ts';
import { lives } from '../observe/lives.ts';
import { stepLines } from './output.ts';
import { requirePrivileges } from './privileges.ts';
import { type CommandContext, printErrorTo, printTo, type Session } from './session.ts';

/** What is asked for. */
export interface DetachRequest {
  readonly ifname?: string | undefined;
  readonly all: boolean;
  readonly dryRun: boolean;
}

interface DetachFlags extends DetachRequest {
  readonly json: boolean;
}

/** What came of it, as `--json` has it. */
export interface Detached extends DetachResult {
  readonly container: string;
  readonly ifnames: readonly string[];
  readonly dryRun: boolean;
}

/** Disconnects the container, or shows what that would take. @throws PipewrightError */
export async function runDetach(
  this: CommandContext,
  flags: DetachFlags,
  containerText: string,
): Promise<void> {
  const { session } = this;
  const result = await detachByOptions(session, flags, containerText);
  for (const warning of result.warnings) printErrorTo(session, `warning: ${warning}`);
  if (flags.json) printTo(session, JSON.stringify(result));
  else if (result.steps.length === 0) printTo(session, `nothing of ${containerText} is left to take away`);
  else printTo(session, stepLines(result.steps));
}

/** The work of `pipewright detach`, without its output. @throws PipewrightError */
export async function detachByOptions(
  session: Session,
  options: DetachRequest,
  containerText: string,
): Promise<Detached> {
  const ref = parseContainerRef(containerText);
  const { ifname = 'eth1', all, dryRun } = options;
  const why = checkIfname(ifname);
  if (why !== undefined) {
    throw new PipewrightError('BAD_ARGUMENT', {
      op: '--ifname',
      subject: `"${printable(ifname)}"`,
      detail: `the name ${why}`,
    });
  }
  requirePrivileges();
  const host = session.host();
  const records = host.state.records();
  let container: Container;
  try {
    container = await findContainer(ref, records, session.resolve);
  } catch (error) {
    // A container that does not run, or is no more, may be remembered all the same.
    const forgotten = dryRun ? [] : await session.forget(ref, all ? undefined : ifname);
    if (forgotten.length === 0) throw error;
    return { container: ref.name, ifnames: forgotten, dryRun, steps: [], warnings: [] };
  }
  const noted = notedOf(container, ref, records);
  const chosen = all ? noted : noted.filter((record) => record.ifname === ifname).slice(0, 1);
  const targets: Target[] = chosen.map((record) => ({
    container: containerOf(record),
    ifname: record.ifname,
  }));
  if (targets.length === 0 && !all) targets.push({ container, ifname });
  const ifnames = targets.map((target) => target.ifname);
  using _progress = session.progress(`disconnecting ${containerText}`);
  const before = dryRun ? undefined : await session.detaching(container, all ? undefined : ifnames);
  const done = await detach(host, targets, { dryRun }).catch((error: unknown) => {
    // What was kept may be nowhere at the moment: then to forget it is all there is to do.
    const isAbsent = error instanceof PipewrightError && error.code === 'NETWORK_UNKNOWN';
    if (!isAbsent || !before?.forgotten.length) throw error;
    return { steps: [], warnings: [] };
  });
  const warnings = [...(before?.warnings ?? []), ...done.warnings];
  return { container: container.name, ifnames, dryRun, ...done, warnings };
}

/** The container, as its runtime knows it; one that is gone, as it was noted. */
async function findContainer(
  ref: ContainerRef,
  records: readonly AttachmentRecord[],
  options: ResolveOptions,
): Promise<Container> {
  try {
    return await resolveContainer(ref, options);
  } catch (error) {
    const noted = records.find((record) => isNamed(record, ref));
    if (!noted) throw error;
    return containerOf(noted);
  }
}

function isNamed({ container }: AttachmentRecord, { name, runtime }: ContainerRef): boolean {
  if (runtime !== 'any' && runtime !== container.runtime) return false;
  const isPrefix = name.length >= 4 && container.id.startsWith(name);
  return container.name === name || container.id === name || isPrefix;
}

/** The notes of this container, whatever it was called; then those of earlier ones of its name that are gone. */
function notedOf(
  container: Container,
  ref: ContainerRef,
  records: readonly AttachmentRecord[],
): AttachmentRecord[] {
  const isOf = ({ container: { runtime, id } }: AttachmentRecord): boolean =>
    runtime === container.runtime && id === container.id;
  const gone = records.filter((record) => isNamed(record, ref) && !lives(record.container));
  return [...new Set([...records.filter(isOf), ...recordsIn(container, records), ...gone])];
}
