/** The agent's socket: HTTP for this host's programs, and for nobody else. */
import { chownSync, existsSync, lstatSync, readFileSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import { connect } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import type { Host } from '../apply/host.ts';
import { agentSocket } from '../cli/handover.ts';
import type { ContainerRuntime } from '../containers/container.ts';
import type { Engine } from '../containers/docker.ts';
import { PipewrightError } from '../errors.ts';
import type { Agent } from './agent.ts';
import { createApi } from './api/app.ts';
import type { AgentLog } from './parts.ts';

/** What the server speaks for, and where. */
export interface ServerParts {
  readonly agent: Agent;
  readonly host: Host;
  readonly version: string;
  readonly log: AgentLog;
  /** By default {@link agentSocket}. */
  readonly socketPath?: string;
  /** The engines that the agent watches. */
  readonly engines: readonly Engine[];
}

/** Milliseconds that commands under way get when the server stops. */
const patienceMs = 3000;

/**
 * Serves the API until disposed of, which lets the commands under way end.
 * @throws PipewrightError NAME_TAKEN when another agent answers at this place, or something else is there
 */
export async function startServer(parts: ServerParts): Promise<AsyncDisposable> {
  const { agent, host, version, log, engines, socketPath = agentSocket } = parts;
  const stopping = new AbortController();
  const watched: ReadonlySet<ContainerRuntime> = new Set(engines.map(({ runtime }) => runtime));
  const { fetch } = createApi({
    agent,
    host,
    version,
    log,
    stopping: stopping.signal,
    resolve: Object.fromEntries(engines.map((engine) => [engine.runtime, engine])),
    watched,
  });
  // HTTP/1.1: nothing else was asked for.
  const server = createAdaptorServer({ fetch }) as Server;
  // A stream of events stays as long as it is read.
  server.requestTimeout = 60_000;
  const close = closer(server);
  await replaceStale(socketPath);
  await listen(server, socketPath);
  return {
    [Symbol.asyncDispose]: async () => {
      stopping.abort();
      await close();
    },
  };
}

/** Takes away the socket of an agent that is dead. */
async function replaceStale(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (!stat) return;
  if (!stat.isSocket()) throw taken(path, 'this is a file, and not the socket of an agent');
  if (await answers(path)) throw taken(path, 'another agent answers there');
  rmSync(path, { force: true });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false);
      else reject(taken(path, error.message));
    });
  });
}

function taken(path: string, detail: string): PipewrightError {
  return new PipewrightError('NAME_TAKEN', { op: 'agent.listen', subject: path, detail });
}

/** Mode 0660 from its first moment on, and of the group `pipewright` where there is one. */
async function listen(server: Server, path: string): Promise<void> {
  const listening = new Promise<void>((resolve, reject) => {
    server.once('listening', resolve);
    server.once('error', ({ message }) => reject(taken(path, message)));
  });
  // bind(2) is called inside of listen().
  const umask = process.umask(0o117);
  try {
    server.listen(path);
  } finally {
    process.umask(umask);
  }
  await listening;
  const gid = groupId('pipewright');
  if (gid !== undefined) chownSync(path, process.geteuid?.() ?? 0, gid);
}

/** From /etc/group, group(5). */
function groupId(name: string): number | undefined {
  if (!existsSync('/etc/group')) return undefined;
  const entry = readFileSync('/etc/group', 'utf8')
    .split('\n')
    .find((line) => line.startsWith(`${name}:`));
  const gid = Number(entry?.split(':')[2] ?? Number.NaN);
  return Number.isInteger(gid) ? gid : undefined;
}

/** Counts requests; the socket goes first, those under way get their answer, but for those that take too long. */
function closer(server: Server): () => Promise<void> {
  let underWay = 0;
  let isClosing = false;
  // A connection on which nothing was asked yet would stay for as long as its other end likes.
  const closeWhenIdle = (): void => {
    if (isClosing && underWay === 0) server.closeAllConnections();
  };
  server.on('request', (_request, response) => {
    underWay += 1;
    response.once('close', () => {
      underWay -= 1;
      setImmediate(closeWhenIdle);
    });
  });
  return async () => {
    isClosing = true;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    const timer = setTimeout(() => server.closeAllConnections(), patienceMs);
    closeWhenIdle();
    await closed;
    clearTimeout(timer);
  };
}
