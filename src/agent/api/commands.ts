/** Command lines that are handed over to the agent. */
import { parsePipework } from '../../config/pipework.ts';
import { getLink } from '../../kernel/netlink/link.ts';
import type { AgentLog } from '../parts.ts';
import { ApiError } from './failure.ts';
import { AgentSession, type AgentSessionParts } from './session.ts';

/** What a command line has come to. */
export interface Answer {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A mistake of this program, whose stack the command prints. */
const internalError = 70;

/** `pipework ARGV`. @throws ApiError ACT_DIRECTLY on what only the caller's own process can do */
export async function runPipework(
  parts: AgentSessionParts,
  log: AgentLog,
  argv: readonly string[],
): Promise<Answer> {
  if (!isConnect(parts, argv)) throw actDirectly('it runs a program, waits, or explains');
  const { runCommand } = await import('../../cli/pipework.ts');
  return answerOf('pipework', runCommand, parts, log, argv);
}

/** `pipewright ARGV`. @throws ApiError ACT_DIRECTLY on all but attach and detach */
export async function runPipewright(
  parts: AgentSessionParts,
  log: AgentLog,
  argv: readonly string[],
): Promise<Answer> {
  if (argv[0] !== 'attach' && argv[0] !== 'detach') throw actDirectly('only attach and detach are');
  const { runCommand } = await import('../../cli/pipewright.ts');
  return answerOf('pipewright', runCommand, parts, log, argv);
}

/** @throws ApiError ACT_DIRECTLY when the caller's host is not the agent's */
export function requireSameHost({ host }: AgentSessionParts, netnsInode: number | undefined): void {
  if (netnsInode !== undefined && netnsInode !== host.netns.inode)
    throw actDirectly("it is given in another network namespace than the agent's");
}

function actDirectly(why: string): ApiError {
  return new ApiError(409, 'ACT_DIRECTLY', `this command is not for the agent: ${why}`);
}

type RunCommand = (argv: readonly string[], session: AgentSession) => Promise<number>;

async function answerOf(
  program: string,
  runCommand: RunCommand,
  parts: AgentSessionParts,
  log: AgentLog,
  argv: readonly string[],
): Promise<Answer> {
  const session = new AgentSession(parts);
  const exitCode = await runCommand(argv, session);
  const answer = { exitCode, stdout: session.output(1), stderr: session.output(2) };
  if (exitCode === internalError) log.warn({ program, argv, stderr: answer.stderr }, 'a command broke off');
  return answer;
}

/** Whether it connects a container and needs nothing of the caller. A line that cannot be read gets its answer here. */
function isConnect({ host }: AgentSessionParts, argv: readonly string[]): boolean {
  try {
    const command = parsePipework(argv, { linkExists: (name) => getLink(host.rtnl, name)?.name === name });
    if (command.do !== 'attach') return false;
    return command.address.how === 'static' || command.address.client === 'dhcp';
  } catch {
    return true;
  }
}
