/** `pipewright destroy` */
import { existsSync } from 'node:fs';
import { containerOf, firstOfEach, keyOf } from '../apply/converge.ts';
import { detach } from '../apply/detach.ts';
import { dropNetworks } from '../apply/drop-networks.ts';
import { Host } from '../apply/host.ts';
import { removeUplink } from '../apply/uplink.ts';
import { sshPeer } from '../apply/uplink-check.ts';
import { agentLockPath, forgetAll, kept } from '../apply/wanted.ts';
import { PipewrightError } from '../errors.ts';
import { acquireLock } from '../kernel/lock.ts';
import { FileStore } from '../store/file-store.ts';
import { agrees, hasTerminal } from './ask.ts';
import { print, stepLines } from './output.ts';
import { requirePrivileges } from './privileges.ts';
import { askAgent } from './status.ts';
import { defaultStateDir } from './topology.ts';

/** Options of `pipewright destroy`. */
export interface DestroyFlags {
  readonly stateDir?: string | undefined;
  readonly dryRun: boolean;
  readonly yes: boolean;
  readonly json: boolean;
}

/**
 * Takes away everything of ours, and nothing else, and forgets what was kept: commands, and addresses given out.
 * @throws PipewrightError of what could not be taken away; AGENT_RUNS
 */
export async function destroyAll({ stateDir, dryRun, yes, json }: DestroyFlags): Promise<number> {
  requirePrivileges();
  await using host = new Host();
  const folder = stateDir ?? defaultStateDir;
  // Held until the end, so that no agent starts in the middle.
  using _only = dryRun ? undefined : await withoutAgent(host, folder);
  if (!yes && !dryRun && hasTerminal()) {
    const planned = await takeAll(host, folder, true);
    if (planned.steps.length > 0 && !agrees(textOf(planned), 'Take it all away?')) return 1;
  }
  const taken = await takeAll(host, folder, dryRun);
  print(json ? JSON.stringify({ ...taken, dryRun }) : textOf(taken));
  return 0;
}

/** All of it, or what it would be. */
async function takeAll(host: Host, stateDir: string, dryRun: boolean) {
  const records = host.state.records();
  const targets = records.map((record) => ({ container: containerOf(record), ifname: record.ifname }));
  const { steps } = await detach(host, targets, { dryRun });
  const uplinks = [];
  for (const { nic } of host.state.uplinks())
    uplinks.push(await removeUplink(host, nic, { confirmMs: 0, dryRun, ssh: sshPeer() }));
  const networks = await dropNetworks(host, host.state.networkRecords(), { dryRun, leaving: records });
  const store = existsSync(stateDir) ? new FileStore(stateDir) : undefined;
  const forgotten = await (store ? kept(store) : { commands: [], addresses: 0 });
  if (store && !dryRun) {
    store.sweep();
    await forgetAll(store);
  }
  return {
    attachments: records.map(keyOf),
    networks: networks.map(({ network }) => network),
    uplinks: uplinks.map(({ nic }) => nic),
    steps: [
      ...steps,
      ...uplinks.flatMap((uplink) => uplink.steps),
      ...networks.flatMap((network) => network.steps),
    ].filter(firstOfEach()),
    forgotten,
  };
}

function textOf({ steps, forgotten }: Awaited<ReturnType<typeof takeAll>>): string {
  const { commands, addresses } = forgotten;
  return [
    steps.length === 0 ? 'there is nothing of pipewright on this host' : stepLines(steps),
    ...(commands.length > 0 ? [`forget what was kept: ${commands.join(', ')}`] : []),
    ...(addresses > 0 ? [`forget addresses that were given out: ${addresses}`] : []),
  ].join('\n');
}

/** @throws PipewrightError AGENT_RUNS */
async function withoutAgent(host: Host, stateDir: string): Promise<Disposable | undefined> {
  if (await askAgent(host.netns.inode)) throw agentRuns();
  if (!existsSync(stateDir)) return undefined;
  try {
    return await acquireLock(agentLockPath(stateDir), 0);
  } catch (error) {
    if (error instanceof PipewrightError && error.code === 'LOCK_TIMEOUT') throw agentRuns();
    throw error;
  }
}

function agentRuns(): PipewrightError {
  return new PipewrightError('AGENT_RUNS', {
    op: 'destroy',
    subject: 'this host',
    detail: 'the agent runs, and would make everything anew',
    hint: 'stop it first: systemctl stop pipewright',
  });
}
