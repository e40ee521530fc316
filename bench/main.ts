/** `make bench`: this program beside others that do the same, in one run. */
import os from 'node:os';
import { parseArgs } from 'node:util';
import { type AgentFigures, names as agentNames, measureAgent } from './agent.ts';
import { claim } from './claim.ts';
import { type Counts, count } from './counts.ts';
import { Attacher, Cleanup, keepBridge } from './ground.ts';
import { measureOvs, names as ovsNames } from './ovs.ts';
import { measureProcesses, names as processNames } from './processes.ts';
import { isMet, type Target, targetLines, timingLines } from './report.ts';
import type { Timing } from './rounds.ts';
import { measureMany, measureOne, names as runningNames } from './running.ts';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '20' },
    /** `commands` takes one minute, `agent` five. */
    only: { type: 'string' },
  },
});
const rounds = Number(values.rounds);

/** Groups of variants, in the order in which they are measured. */
interface CommandResults {
  readonly processes: readonly Timing[];
  readonly one: readonly Timing[];
  readonly many: readonly Timing[];
  readonly ovs: readonly Timing[];
  readonly counts: Counts;
}

/** What was measured. */
interface Results {
  readonly commands?: CommandResults;
  readonly agent?: AgentFigures;
}

async function measureAll(): Promise<Results> {
  const cleanup = new Cleanup();
  try {
    claim(cleanup);
    return {
      ...(values.only === 'agent' ? {} : { commands: await measureCommands() }),
      ...(values.only === 'commands' ? {} : { agent: await measureAgent(cleanup, rounds) }),
    };
  } finally {
    await cleanup.run();
  }
}

async function measureCommands(): Promise<CommandResults> {
  const cleanup = new Cleanup();
  try {
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

function commandTargets({ processes, one, many, ovs }: CommandResults): Target[] {
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

function agentTargets({
  latencies,
  idleRound,
  applies,
  handover,
  rssMb,
  cpuPercent,
}: AgentFigures): Target[] {
  const full = latencies.find(({ containers }) => containers === 100);
  const msEach = (count: number): number =>
    applies.find(({ attachments }) => attachments === count)?.msEach ?? Number.NaN;
  const ms = (name: string): number => handover.find((timing) => timing.name === name)?.median ?? Number.NaN;
  return [
    {
      what: 'start to usable, 100 containers, median',
      value: full?.median ?? Number.NaN,
      target: 8,
      unit: ' ms',
    },
    { what: 'start to usable, 100 containers, p99', value: full?.p99 ?? Number.NaN, target: 40, unit: ' ms' },
    { what: 'an attachment, 500 / 10', value: msEach(500) / msEach(10), target: 1.5, unit: '' },
    { what: 'a round, 500 attachments', value: idleRound.median, target: 150, unit: ' ms' },
    {
      what: 'handed over - node -e 0',
      value: ms(agentNames.handover) - ms(agentNames.node),
      target: 15,
      unit: ' ms',
    },
    { what: 'RSS, 500 attachments', value: rssMb, target: 90, unit: ' MB' },
    { what: 'processor at rest', value: cpuPercent, target: 0.5, unit: ' %' },
  ];
}

function commandLines({ processes, one, many, ovs, counts }: CommandResults): string[] {
  return [
    ...timingLines('Whole processes', processes),
    ...timingLines('In a running process', one),
    ...timingLines('Two hundred on one bridge, in a running process', many),
    ...timingLines('A port of Open vSwitch', ovs),
    ...countLines(counts),
  ];
}

function agentLines({ latencies, idleRound, applies, handover, rssMb, cpuPercent }: AgentFigures): string[] {
  return [
    "From Docker's start event to the agent telling that the interface is made",
    ...latencies.map(
      ({ containers, samples, median, p99, max }) =>
        `  ${containers} connected: median ${median.toFixed(1)}, p99 ${p99.toFixed(1)}, max ${max.toFixed(1)} of ${samples}`,
    ),
    '',
    'Made by the agent, each',
    ...applies.map(({ attachments, msEach }) => `  of ${attachments}: ${msEach.toFixed(2)}`),
    '',
    ...timingLines('With five hundred attachments', [idleRound, ...handover]),
    `  RSS ${rssMb.toFixed(0)} MB, ${cpuPercent.toFixed(2)} % of a processor at rest`,
    '',
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
const { commands, agent } = results;
const targets = [...(commands ? commandTargets(commands) : []), ...(agent ? agentTargets(agent) : [])];
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
    ...(commands ? commandLines(commands) : []),
    ...(agent ? agentLines(agent) : []),
    'Targets',
    ...targetLines(targets),
  ];
  console.log(lines.join('\n'));
}
