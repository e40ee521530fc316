/** The agent as a process: parts, sources, server, signals. */
import { mkdirSync } from 'node:fs';
import { Host } from '../apply/host.ts';
import { agentLockPath } from '../apply/wanted.ts';
import { Engines, enginesOfHost } from '../containers/engines.ts';
import { PipewrightError } from '../errors.ts';
import { acquireLock } from '../kernel/lock.ts';
import type { Topology } from '../model/topology.ts';
import { FileStore } from '../store/file-store.ts';
import { Agent } from './agent.ts';
import { createLog, type Log } from './log.ts';
import { SmallHeap } from './memory.ts';
import { notify } from './notify.ts';
import { startServer } from './server.ts';
import { openSources } from './sources.ts';

/** How the agent is started. */
export interface AgentOptions {
  /** Topology files and folders of them. */
  readonly paths: readonly string[];
  /** For what outlives a reboot: /var/lib/pipewright. */
  readonly stateDir: string;
  readonly socketPath: string;
  readonly logFormat: 'text' | 'json';
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error';
  readonly firewall: boolean;
  readonly trustLabels: boolean;
  readonly version: string;
  readonly loadTopology: () => Topology | undefined;
}

/** Milliseconds after SIGTERM at which the agent ends whatever is under way. */
const patienceMs = 4000;

/** Runs until SIGTERM or SIGINT; the network stays as it is then. @throws PipewrightError when it cannot start */
export async function runAgent(options: AgentOptions): Promise<void> {
  const log = createLog({ format: options.logFormat, level: options.logLevel });
  mkdirSync(options.stateDir, { recursive: true, mode: 0o755 });
  using _only = await onlyOne(options.stateDir);
  await using host = new Host();
  const store = new FileStore(options.stateDir);
  store.sweep();
  const containers = new Engines(enginesOfHost({ keepAlive: true }));
  const { firewall, loadTopology, socketPath, trustLabels, version } = options;
  const heap = new SmallHeap();
  const agent = new Agent({
    host,
    store,
    containers,
    log,
    firewall,
    loadTopology,
    trustLabels,
    onRound: () => heap.worked(),
  });
  const stopped = signalled(agent, log);
  const engines = containers.list;
  const serve = async (): Promise<void> => {
    using _sources = openSources(agent, { host, engines, paths: options.paths, firewall });
    await using _server = await startServer({ agent, host, engines, socketPath, version, log });
    notify('READY=1');
    log.info({ socketPath, attachments: agent.status().attachments.length }, 'ready');
    await stopped;
    await agent.close();
  };
  const isReady = await Promise.race([agent.start().then(() => true), stopped.then(() => false)]);
  await (isReady ? serve() : agent.close());
  for (const engine of engines) engine.close();
}

/** A second agent on the same state would undo what the first one does. */
async function onlyOne(stateDir: string): Promise<Disposable> {
  try {
    return await acquireLock(agentLockPath(stateDir), 0);
  } catch (error) {
    if (!(error instanceof PipewrightError) || error.code !== 'LOCK_TIMEOUT') throw error;
    throw new PipewrightError('LOCK_TIMEOUT', {
      op: 'agent.start',
      subject: stateDir,
      detail: 'another agent runs on this state directory',
      hint: 'see: pipewright status',
    });
  }
}

/**
 * Resolves at SIGTERM or SIGINT, from when on the process has {@link patienceMs} left, whatever it waits for: an engine
 * that does not answer may hold up the first round for half a minute. SIGHUP reads the files anew.
 */
function signalled(agent: Agent, log: Log): Promise<void> {
  process.on('SIGHUP', () => {
    notify('RELOADING=1');
    agent.reload();
    void agent.idle().then(() => notify('READY=1'));
  });
  return new Promise((resolve) => {
    const stop = (): void => {
      notify('STOPPING=1');
      log.info({}, 'stopping; the network stays as it is');
      setTimeout(() => process.exit(0), patienceMs).unref();
      resolve();
    };
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, stop);
  });
}
