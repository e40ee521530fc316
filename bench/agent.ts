/** The agent: how soon a container that starts is connected, what a round and what five hundred attachments take. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent } from '../src/agent/agent.ts';
import { Host } from '../src/apply/host.ts';
import { parseTopology } from '../src/config/topology/load.ts';
import { Engine } from '../src/containers/docker.ts';
import { Engines } from '../src/containers/engines.ts';
import { FileStore } from '../src/store/file-store.ts';
import { root, run } from '../test/lab/run.ts';
import { RunningAgent, Told } from './agent-process.ts';
import { type Cleanup, exec, program } from './ground.ts';
import { checkInterrupted, measure, median, type Timing, timingOf } from './rounds.ts';

/** Milliseconds from Docker's start event until the agent tells of the interface, with so many containers connected. */
export interface Latency {
  readonly containers: number;
  readonly samples: number;
  readonly median: number;
  readonly p99: number;
  readonly max: number;
}

/** What was seen of the agent. */
export interface AgentFigures {
  readonly latencies: readonly Latency[];
  /** Of five hundred attachments that are all right. */
  readonly idleRound: Timing;
  /** Milliseconds for each attachment, when so many are made. */
  readonly applies: readonly { readonly attachments: number; readonly msEach: number }[];
  /** A command that is handed over, and Node doing nothing. */
  readonly handover: readonly Timing[];
  /** Of the agent with five hundred attachments, after rest. */
  readonly rssMb: number;
  /** Of one core, at rest. */
  readonly cpuPercent: number;
}

const most = 100;
const interfacesEach = 5;
/** Rounds until the agent's code is compiled as it is in one that has run for a while, and the fewest that count. */
const warmUp = 5;
const fewestRounds = 10;
/** Milliseconds until it is quiet: a bridge tells of each of its ports once more when its forward delay, 15 s, is over. */
const settleMs = 25_000;

const nameOf = (index: number): string => `pwbench-w${index}`;

/** @param interfaces of each container @param containers only the first so many */
function topologyOf(interfaces: number, containers = most): string {
  const entries = Array.from({ length: containers }, (_, index) =>
    Array.from(
      { length: interfaces },
      (_, i) =>
        `  - container: ${nameOf(index + 1)}\n    network: n${i + 1}\n    ifname: eth${i + 1}\n    addresses: [10.${100 + i}.0.${index + 1}/24]`,
    ),
  ).flat();
  const networks = Array.from(
    { length: interfaces },
    (_, i) => `  n${i + 1}: { kind: bridge, bridge: brpwbench${i + 1}, subnet: 10.${100 + i}.0.0/24 }`,
  );
  return `networks:\n${networks.join('\n')}\nattachments:\n${entries.join('\n')}\n`;
}

/** Starts those of the first `count` containers that do not run yet. */
class Containers {
  readonly #image = run(path.join(root, 'scripts/image.sh'), []).stdout.trim();
  #running = 0;

  constructor(cleanup: Cleanup) {
    cleanup.add(() => {
      const names = Array.from({ length: this.#running }, (_, index) => nameOf(index + 1));
      if (names.length > 0) run('docker', ['rm', '-f', ...names], { expect: 'any' });
    });
  }

  upTo(count: number): void {
    for (; this.#running < count; this.#running++) {
      checkInterrupted();
      exec(['docker', 'run', '-d', '--name', nameOf(this.#running + 1), '--network', 'none', this.#image]);
    }
  }
}

async function measureLatency(containers: number, samples: number): Promise<Latency> {
  const told = new Told();
  await told.open();
  const stop = new AbortController();
  // Docker's own time of the event, and not when it is heard of.
  const started = new Map<string, (at: number) => void>();
  const engine = new Engine();
  void (async () => {
    for await (const { action, name, time } of engine.events(undefined, stop.signal))
      if (action === 'start') started.get(name)?.(Number(time) * 1000);
  })().catch(() => {});
  await sleep(200);
  const times: number[] = [];
  try {
    for (let sample = 0; sample < samples; sample++) {
      checkInterrupted();
      const name = nameOf((sample % containers) + 1);
      const began = new Promise<number>((resolve) => started.set(name, resolve));
      const usable = told.next(`${name}/eth1`);
      const docker = spawn('docker', ['restart', '-t', '0', name], { stdio: 'ignore' });
      const ended = once(docker, 'exit');
      times.push((await usable) - (await began));
      await ended;
      // A round about everything follows; a start in its midst is another matter than a start.
      await sleep(200);
    }
  } finally {
    stop.abort();
    told.close();
  }
  const sorted = [...times].sort((a, b) => a - b);
  return {
    containers,
    samples,
    median: median(times),
    p99: sorted[Math.ceil(sorted.length * 0.99) - 1] ?? Number.NaN,
    max: Math.max(...times),
  };
}

/** An agent in this process, so that a round alone can be timed. */
async function measureRounds(
  file: string,
  stateDir: string,
  rounds: number,
): Promise<{ applyMs: number; idle: Timing }> {
  await using host = new Host();
  const engine = new Engine({ keepAlive: true });
  const text = readFileSync(file, 'utf8');
  const agent = new Agent({
    host,
    store: new FileStore(stateDir),
    containers: new Engines([engine]),
    log: { info: () => {}, warn: (fields, message) => console.error(message, fields) },
    firewall: true,
    loadTopology: () => parseTopology([{ file, text }]),
  });
  const began = performance.now();
  await agent.start();
  const applyMs = performance.now() - began;
  const times: number[] = [];
  for (let round = 0; round < warmUp + rounds; round++) {
    const start = performance.now();
    agent.wake();
    await agent.idle();
    if (round >= warmUp) times.push(performance.now() - start);
  }
  await agent.close();
  engine.close();
  return { applyMs, idle: timingOf('a round that finds nothing to do', times) };
}

/** Names of the variants. */
export const names = { node: 'node -e 0', handover: 'bin/pipework, handed over and refused' } as const;

/** There is no such container, so what is measured is the way to the agent and back, and its question to Docker. */
function measureHandover(rounds: number): Promise<Timing[]> {
  const words = [program('pipework'), 'brpwbench1', 'pwbench-nobody', '10.100.9.9/16'];
  return measure(
    [
      { name: names.node, run: () => exec(['node', '-e', '0']) },
      { name: names.handover, run: () => run(words[0] ?? '', words.slice(1), { expect: 'any' }) },
    ],
    { rounds },
  );
}

/** Everything about the agent; takes minutes, most of them Docker's. */
export async function measureAgent(cleanup: Cleanup, rounds: number): Promise<AgentFigures> {
  const scratch = mkdtempSync(path.join(tmpdir(), 'pwbench-'));
  cleanup.add(() => rmSync(scratch, { recursive: true, force: true }));
  const file = path.join(scratch, 'bench.yaml');
  const destroy = (): unknown => run(program('pipewright'), ['destroy'], { expect: 'any' });
  cleanup.add(destroy);
  const containers = new Containers(cleanup);
  const latencies: Latency[] = [];
  for (const count of [1, 10, most]) {
    containers.upTo(count);
    writeFileSync(file, topologyOf(1));
    await using _agent = await RunningAgent.start(file, path.join(scratch, 'lib'));
    latencies.push(await measureLatency(count, rounds * (count === most ? 5 : 2)));
  }
  destroy();
  const applies: { attachments: number; msEach: number }[] = [];
  let idle: Timing | undefined;
  for (const [count, interfaces] of [
    [10, 1],
    [100, 1],
    [100, 5],
  ] as const) {
    writeFileSync(file, topologyOf(interfaces, count));
    const seen = await measureRounds(
      file,
      path.join(scratch, `lib-${count}-${interfaces}`),
      Math.max(rounds, fewestRounds),
    );
    applies.push({ attachments: count * interfaces, msEach: seen.applyMs / (count * interfaces) });
    idle = seen.idle;
    if (interfaces !== interfacesEach) destroy();
  }
  await using agent = await RunningAgent.start(file, path.join(scratch, 'lib-rest'));
  await sleep(settleMs);
  const before = agent.cpuMs();
  const restMs = 20_000;
  await sleep(restMs);
  const cpuPercent = ((agent.cpuMs() - before) / restMs) * 100;
  const rssMb = agent.rssMb();
  const handover = await measureHandover(rounds);
  if (!idle) throw new Error('no round was measured');
  return { latencies, idleRound: idle, applies, handover, rssMb, cpuPercent };
}
