/** `pipewright detach` */
import { detach, type Target } from '../apply/detach.ts';
import { Host } from '../apply/host.ts';
import { parseContainerRef } from '../config/container-ref.ts';
import { checkIfname, printable } from '../config/names.ts';
import type { Container } from '../containers/container.ts';
import { resolveContainer } from '../containers/resolve.ts';
import { PipewrightError } from '../errors.ts';
import type { ContainerRef } from '../model/attachment.ts';
import type { AttachmentRecord } from '../model/observed.ts';
import { containerOf, recordsIn } from '../observe/known.ts';
import { lives } from '../observe/lives.ts';
import { print, printError, stepLines } from './output.ts';
import { requirePrivileges } from './privileges.ts';
import { onProgressLine } from './progress.ts';

interface DetachFlags {
  readonly ifname?: string | undefined;
  readonly all: boolean;
  readonly dryRun: boolean;
  readonly json: boolean;
}

/** Disconnects the container, or shows what that would take. @throws PipewrightError */
export async function runDetach(flags: DetachFlags, containerText: string): Promise<void> {
  parseContainerRef(containerText);
  const { ifname = 'eth1' } = flags;
  const why = checkIfname(ifname);
  if (why !== undefined) {
    throw new PipewrightError('BAD_ARGUMENT', {
      op: '--ifname',
      subject: `"${printable(ifname)}"`,
      detail: `the name ${why}`,
    });
  }
  requirePrivileges();
  await using host = new Host();
  const ref = parseContainerRef(containerText);
  const records = host.state.records();
  const container = await findContainer(ref, records);
  const noted = notedOf(container, ref, records);
  const chosen = flags.all ? noted : noted.filter((record) => record.ifname === ifname).slice(0, 1);
  const targets: Target[] = chosen.map((record) => ({
    container: containerOf(record),
    ifname: record.ifname,
  }));
  if (targets.length === 0 && !flags.all) targets.push({ container, ifname });
  const ifnames = targets.map((target) => target.ifname);
  using _progress = onProgressLine(`disconnecting ${containerText}`);
  const result = await detach(host, targets, { dryRun: flags.dryRun });
  for (const warning of result.warnings) printError(`warning: ${warning}`);
  if (flags.json)
    print(JSON.stringify({ container: container.name, ifnames, dryRun: flags.dryRun, ...result }));
  else
    print(
      result.steps.length === 0
        ? `nothing of ${containerText} is left to take away`
        : stepLines(result.steps),
    );
}

/** The container, as its runtime knows it; one that is gone, as it was noted. */
async function findContainer(ref: ContainerRef, records: readonly AttachmentRecord[]): Promise<Container> {
  try {
    return await resolveContainer(ref);
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
