/** `make bench`: this program beside others that do the same, in one run. */
import os from 'node:os';
import { parseArgs } from 'node:util';
import { claim } from './claim.ts';
import { type Counts, count } from './counts.ts';
import { Attacher, Cleanup, keepBridge } from './ground.ts';
import { measureOvs, names as ovsNames } from './ovs.ts';
import { measureProcesses, names as processNames } from './processes.ts';
import { isMet, type Target, targetLines, timingLines } from './report.ts';
import type { Timing } from './rounds.ts';
import { measureMany, measureOne, names as runningNames } from './running.ts';

const { values } = parseArgs({
  options: { json: { type: 'boolean', default: false }, rounds: { type: 'string', default: '20' } },
});
const rounds = Number(values.rounds);

/** Groups of variants, in the order in which they are measured. */
interface Results {
  readonly processes: readonly Timing[];
  readonly one: readonly Timing[];
  readonly many: readonly Timing[];
  readonly ovs: readonly Timing[];
  readonly counts: Counts;
}

async function measureAll(): Promise<Results> {
  const cleanup = new Cleanup();
  try {
    claim(cleanup);
    const attacher = new Attacher();
    cleanup.add(() => attacher.host[Symbol.asyncDispose]());
    await keepBridge(cleanup, attacher);
    return {
      processes: await measureProcesses(cleanup, attacher, rounds),
      // First, so that then one attachment is made by a process that has made thousands, as an agent has.
      many: await measureMany(cleanup, attacher, rounds),
      one: await measureOne(cleanup, attacher, rounds),
      ovs: await measureOvs(cleanup, rounds),
      counts: await count(cleanup, attacher),
    };
  } finally {
    await cleanup.run();
  }
}

function targetsOf({ processes, one, many, ovs }: Results): Target[] {
  const ms = (name: string): number =>
    [...processes, ...one, ...many, ...ovs].find((timing) => timing.name === name)?.median ?? Number.NaN;
  const ratio = (name: string, to: string): number => ms(name) / ms(to);
  const { pipework, node, chain, chainWithArping } = processNames;
  const { attach, batches, manyAttaches, manyDetaches } = runningNames;
  const { addPort, vsctl, addPortWaiting, vsctlWaiting } = ovsNames;
  return [
    { what: 'bin/pipework / node -e 0', value: ratio(pipework, node), target: 1.8, unit: '' },
    {
      what: 'chain with arping / bin/pipework',
      value: ratio(chainWithArping, pipework),
      target: 20,
      atLeast: true,
      unit: '',
    },
    {
      what: 'chain without arping / bin/pipework',
      value: ratio(chain, pipework),
      target: 1,
      atLeast: true,
      unit: '',
    },
    { what: 'attach() / 2 x ip -batch', value: ratio(attach, batches), target: 0.3, unit: '' },
    { what: '200 attaches', value: ms(manyAttaches), target: 600, unit: ' ms' },
    { what: '200 detaches', value: ms(manyDetaches), target: 600, unit: ' ms' },
    { what: 'addPort() / ovs-vsctl, not waiting', value: ratio(addPort, vsctl), target: 0.1, unit: '' },
    {
      what: 'addPort() / ovs-vsctl, waiting',
      value: ratio(addPortWaiting, vsctlWaiting),
      target: 0.6,
      unit: '',
    },
  ];
}

function countLines({ sends, messages, systemCalls, processSystemCalls, childProcesses }: Counts): string[] {
  return [
    'One attachment takes',
    `  in a running process: ${messages} netlink messages in ${sends} sends, ${systemCalls ?? '? (no strace)'} system calls`,
    processSystemCalls === undefined
      ? '  as a process: not counted, there is no strace'
      : `  as a process: ${processSystemCalls} system calls more than node -e 0, ${childProcesses} child processes`,
    '',
  ];
}

const results = await measureAll().catch((error: unknown) => {
  console.error(`bench: ${error instanceof Error ? error.message : error}`);
  process.exit(1);
});
const targets = targetsOf(results);
const machine = {
  node: process.version,
  kernel: os.release(),
  cpus: os.cpus().length,
  load: os.loadavg()[0]?.toFixed(1),
};
if (values.json) {
  const judged = targets.map((target) => ({ ...target, met: isMet(target) }));
  console.log(JSON.stringify({ machine, rounds, ...results, targets: judged }, undefined, 2));
} else {
  const { node, kernel, cpus, load } = machine;
  const lines = [
    `Node.js ${node}, Linux ${kernel}, ${cpus} CPUs, load ${load}; milliseconds, ${rounds} rounds`,
    '',
    ...timingLines('Whole processes', results.processes),
    ...timingLines('In a running process', results.one),
    ...timingLines('Two hundred on one bridge, in a running process', results.many),
    ...timingLines('A port of Open vSwitch', results.ovs),
    ...countLines(results.counts),
    'Targets',
    ...targetLines(targets),
  ];
  console.log(lines.join('\n'));
}
