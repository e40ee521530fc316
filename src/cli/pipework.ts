/** The `pipework` program: the original's command line, on this program's layers. */
import { type PipeworkPassthrough, parsePipework } from '../config/pipework.ts';
import { PipeworkRefusal, refusals } from '../config/pipework-messages.ts';
import { PipewrightError } from '../errors.ts';
import { getLink } from '../kernel/netlink/link.ts';
import { failureText } from './output.ts';
import { connect, findGuest } from './pipework-connect.ts';
import { requirePrivileges } from './privileges.ts';
import { OwnSession, printErrorTo, printTo, type Session } from './session.ts';
import { version } from './version.ts';

/** Runs a command line; the answer is the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  await using session = new OwnSession();
  // Awaited here: the session is needed until it is done.
  return await runCommand(argv, session);
}

/** Likewise, with what it acts on. */
export async function runCommand(argv: readonly string[], session: Session): Promise<number> {
  try {
    return await run(argv, session);
  } catch (error) {
    return report(error, session);
  }
}

async function run(argv: readonly string[], session: Session): Promise<number> {
  const command = parsePipework(argv, {
    linkExists: (name) => getLink(session.host().rtnl, name)?.name === name,
  });
  switch (command.do) {
    case 'usage': {
      const { help, usage } = await import('../config/pipework-usage.ts');
      printTo(session, command.exitCode === 0 ? help : usage);
      return command.exitCode;
    }
    case 'version':
      printTo(session, `pipework (pipewright ${version})`);
      return 0;
    case 'wait': {
      const { waitForLink } = await import('./wait.ts');
      await waitForLink(command.ifname);
      return 0;
    }
    case 'keep-lease': {
      const { keepLease } = await import('../dhcp/stay.ts');
      await keepLease(session.host(), command.containerKey, command.ifname);
      return 0;
    }
    case 'passthrough':
      requirePrivileges();
      return passThrough(command, session);
    case 'attach':
      requirePrivileges();
      return connect(session, command);
  }
}

async function passThrough({ guest, program, args }: PipeworkPassthrough, session: Session): Promise<number> {
  const { openContainerNetns } = await import('../containers/resolve.ts');
  const { runInNetns } = await import('./passthrough.ts');
  const container = await findGuest(guest, session);
  using netns = openContainerNetns(container);
  return runInNetns(netns, program, args);
}

/** Prints what went wrong as the original would; the answer is its exit code. */
function report(error: unknown, session: Session): number {
  const refusal = asOriginal(error);
  if (refusal) {
    const show = refusal.stream === 'stdout' ? printTo : printErrorTo;
    show(session, refusal.lines.join('\n'));
    if (refusal.hint !== undefined && session.onTerminal) printErrorTo(session, refusal.hint);
    return refusal.exitCode;
  }
  printErrorTo(session, failureText('pipework', error));
  if (!(error instanceof PipewrightError)) return 70;
  return ['KERNEL_REFUSED', 'KIND_UNSUPPORTED', 'LINK_EXISTS', 'NAME_TAKEN'].includes(error.code) ? 2 : 1;
}

function asOriginal(error: unknown): PipeworkRefusal | undefined {
  if (error instanceof PipeworkRefusal) return error;
  if (!(error instanceof PipewrightError)) return undefined;
  if (error.code === 'CONTAINER_NOT_RUNNING' && error.message.includes('invalid PID 0'))
    return refusals.invalidPid();
  if (error.code === 'CONTAINER_AMBIGUOUS') return refusals.ambiguousGuest(error.subject);
  if (error.code === 'LINK_EXISTS' && error.message.includes(`Link ${error.subject} exists and is up`)) {
    return refusals.linkExistsAndIsUp(error.subject);
  }
  return undefined;
}
