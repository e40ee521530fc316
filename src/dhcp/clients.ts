/** Runs the host's DHCP clients for the DHCP words of `pipework`, so that nothing of the host itself is changed. */
import { refusals } from '../config/pipework-messages.ts';
import type { Container } from '../containers/container.ts';
import { PipewrightError } from '../errors.ts';
import type { Netns } from '../kernel/netns.ts';
import { type DhcpTarget, programOf, staysRunning } from './command.ts';
import {
  type ClientKey,
  dhclientHasLease,
  findClient,
  prepareClient,
  publishPidFile,
  removeClientFiles,
} from './files.ts';
import { endProcess, findProgram, run } from './process.ts';

/** One DHCP word, and where it is to work. */
export interface DhcpRequest extends DhcpTarget, ClientKey {
  readonly container: Pick<Container, 'runtime' | 'pid' | 'startTime'>;
  readonly netns: Netns;
  /** Ends the client. */
  readonly signal?: AbortSignal;
}

/**
 * Refuses what cannot work, before anything is made: a client that is not installed.
 * @throws PipeworkRefusal, with the original's messages; PipewrightError BAD_ARGUMENT
 */
export function checkDhcp({ client, ifname, guest }: DhcpTarget): void {
  const program = programOf(client);
  if (findProgram(program) === undefined) throw refusals.clientMissing(program);
  if (ifname.startsWith('-')) {
    const detail = `${program} would take the interface's name for an option`;
    throw new PipewrightError('BAD_ARGUMENT', { op: 'dhcp', subject: `${ifname} in ${guest}`, detail });
  }
}

/**
 * Gets the interface its addresses from a DHCP server. Returns when there is a lease; the clients of `udhcpc-f`,
 * `dhclient-f` and `dhcpcd` then stay and renew it, until {@link stopDhcpClient}, or a while after the container is
 * gone.
 * Throws like {@link checkDhcp}, and PROGRAM_FAILED when there is no lease: no client and no file of it is left then.
 */
export async function runDhcpClient(request: DhcpRequest): Promise<void> {
  const { client, ifname, guest, netns, container, signal } = request;
  checkDhcp(request);
  const failure = { op: 'dhcp', subject: `${ifname} in ${guest}` };

  await stopDhcpClient(request);
  const owner = container.pid === undefined ? undefined : `${container.pid}:${container.startTime ?? ''}`;
  try {
    await run({ ...prepareClient(request, owner), netns, failure, signal });
    // Out of patience, dhclient goes on trying in the background and calls that success.
    if (programOf(client) === 'dhclient' && !dhclientHasLease(request)) {
      throw new PipewrightError('PROGRAM_FAILED', { ...failure, detail: 'dhclient got no lease' });
    }
    if (staysRunning(client) && client !== 'dhcpcd') await publishPidFile(request, programOf(client));
  } catch (error) {
    await stopDhcpClient(request);
    throw error;
  }
  if (!staysRunning(client)) await stopDhcpClient(request);
}

/** Ends the client that {@link runDhcpClient} left running for this interface, if any, and removes its files. */
export async function stopDhcpClient(key: ClientKey): Promise<void> {
  const found = findClient(key);
  if (found === undefined) return;
  await Promise.all(found.pids.map(endProcess));
  removeClientFiles(key, found.program);
}
