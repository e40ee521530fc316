/** A real agent on a host of its own, with its API; and a client that is another program. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { Agent } from '../../src/agent/agent.ts';
import { startServer } from '../../src/agent/server.ts';
import { Host } from '../../src/apply/host.ts';
import { Engine } from '../../src/containers/docker.ts';
import { Engines } from '../../src/containers/engines.ts';
import { Netns } from '../../src/kernel/netns.ts';
import type { Topology } from '../../src/model/topology.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { plainNetns, runAsync } from '../lab.ts';

const nothing: Topology = { networks: [], attachments: [], expects: [] };

/** An agent that watches nothing by itself: it is woken by what the test does. */
export interface OwnAgent {
  readonly agent: Agent;
  readonly host: Host;
  /** The host's namespace, below /run/netns. */
  readonly name: string;
  readonly stateDir: string;
  readonly socketPath: string;
  readonly logged: string[];
  /** What the topology files say from the next reload on. */
  topology: Topology;
}

/** A folder that goes with the test. */
export function ownFolder(t: TestContext): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'pwta-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** @param name part of the name of the namespace */
export async function startAgent(t: TestContext, name: string): Promise<OwnAgent> {
  const folder = ownFolder(t);
  const { name: full, path: place } = await plainNetns(t, name);
  const netns = Netns.open(place, full);
  t.after(() => netns[Symbol.dispose]());
  // The number of a namespace may have been another one's.
  const notes = `/run/pipewright/net-${netns.inode}`;
  rmSync(notes, { recursive: true, force: true });
  const host = new Host({ netns });
  const engine = new Engine({ keepAlive: true });
  const logged: string[] = [];
  const log = {
    info: (fields: object, message: string) => void logged.push(`${message} ${JSON.stringify(fields)}`),
    warn: (fields: object, message: string) => void logged.push(`${message} ${JSON.stringify(fields)}`),
  };
  const stateDir = path.join(folder, 'state');
  const own = { topology: nothing };
  const agent = new Agent({
    host,
    store: new FileStore(stateDir),
    containers: new Engines([engine]),
    log,
    firewall: false,
    loadTopology: () => own.topology,
  });
  await agent.start();
  const socketPath = path.join(folder, 'agent.sock');
  const server = await startServer({ agent, host, engines: [engine], socketPath, version: '1.2.3', log });
  t.after(async () => {
    await server[Symbol.asyncDispose]();
    await agent.close();
    engine.close();
    rmSync(notes, { recursive: true, force: true });
    await host[Symbol.asyncDispose]();
  });
  return Object.assign(own, { agent, host, name: full, stateDir, socketPath, logged });
}

/** What curl got. */
export interface Got {
  readonly status: number;
  readonly type: string;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: a test looks at what it expects
  readonly json: any;
}

/** `curl --unix-socket SOCKET ...`. A body that is no text is sent as JSON. */
export async function request(
  socketPath: string,
  method: 'GET' | 'POST',
  url: string,
  body?: unknown,
  headers: readonly string[] = ['content-type: application/json'],
): Promise<Got> {
  const sent = typeof body === 'string' ? body : JSON.stringify(body);
  const given = sent === undefined ? [] : ['--data-binary', '@-', ...headers.flatMap((text) => ['-H', text])];
  const { stdout } = await runAsync(
    'curl',
    [
      '-sS',
      '--unix-socket',
      socketPath,
      '-X',
      method,
      ...given,
      '-w',
      '\n%{http_code} %{content_type}',
      `http://agent${url}`,
    ],
    sent === undefined ? {} : { input: sent },
  );
  const at = stdout.lastIndexOf('\n');
  const [status = '', type = ''] = stdout.slice(at + 1).split(' ');
  const text = stdout.slice(0, at);
  return { status: Number(status), type, text, json: type.includes('json') ? JSON.parse(text) : undefined };
}

/** An error answer's status and code. */
export function refusedWith({ status, json }: Got, wantStatus: number, code: string, message?: RegExp): void {
  assert.deepEqual([status, json?.error?.code], [wantStatus, code], JSON.stringify(json));
  if (message) assert.match(json.error.message, message);
}
