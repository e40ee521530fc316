/** The commands of `pipewright` that work on topology files, and the agent. */
import { buildCommand } from '@stricli/core';
import type { AgentFlags } from './agent.ts';
import type { ApplyFlags } from './apply.ts';
import type { CheckFlags } from './check.ts';
import type { DestroyFlags } from './destroy.ts';
import type { ImportFlags } from './import.ts';
import { flag, repeated, text, valued } from './parameters.ts';
import type { PlanFlags } from './plan.ts';
import type { CommandContext } from './session.ts';
import type { StatusFlags } from './status.ts';
import { version } from './version.ts';

const files = {
  kind: 'array',
  parameter: {
    brief: 'Topology file, or folder of them; by default pipewright.yaml here, else /etc/pipewright',
    placeholder: 'FILE',
    parse: text,
  },
} as const;
const stateDir = valued('For what outlives a reboot (/var/lib/pipewright)', 'FOLDER');
const host = valued('Which host of the files this is; by default its host name', 'NAME');
const noFirewall = flag("Do not add the bridges' rules to Docker's firewall");
const trustLabels = flag('Labels of containers (pipewright.NETWORK=...) are entries as well');
const yes = flag('Do not ask');
const json = flag('Print the result as JSON');

/** A command whose function answers with its exit code. */
function exits<F, A extends readonly string[]>(load: () => Promise<(flags: F, args: A) => Promise<number>>) {
  return async () => {
    const run = await load();
    return async function (this: CommandContext, flags: F, ...args: A): Promise<void> {
      this.process.exitCode = await run(flags, args);
    };
  };
}

export const plan = buildCommand<PlanFlags, string[], CommandContext>({
  docs: {
    brief: 'Show what apply would change',
    fullDescription: 'Exit code 0: nothing; 2: something; 1: something cannot be had.',
  },
  parameters: { positional: files, flags: { stateDir, host, noFirewall, trustLabels, json } },
  loader: exits(async () => (await import('./plan.ts')).planTopology),
});

export const apply = buildCommand<ApplyFlags, string[], CommandContext>({
  docs: {
    brief: 'Make it as the topology says',
    fullDescription:
      'Shows the plan and asks, on a terminal. What fails is taken back by itself, and the rest goes on. Then tries what the ' +
      'file expects to be reachable, and what not.',
  },
  parameters: {
    positional: files,
    flags: {
      stateDir,
      host,
      noFirewall,
      trustLabels,
      yes,
      rollback: flag('Take everything back when something fails or is not reachable as expected'),
      json,
    },
  },
  loader: exits(async () => (await import('./apply.ts')).applyTopology),
});

export const destroy = buildCommand<DestroyFlags, [], CommandContext>({
  docs: {
    brief: 'Take away everything that pipewright made on this host, and nothing else',
    fullDescription:
      'Shows it and asks, on a terminal. Forgets kept commands and addresses that were given out as well. Topology files stay. The agent has to be stopped first.',
  },
  parameters: {
    positional: { kind: 'tuple', parameters: [] },
    flags: { stateDir, yes, dryRun: flag('Only show what would be done'), json },
  },
  loader: exits(async () => (await import('./destroy.ts')).destroyAll),
});

export const status = buildCommand<StatusFlags, string[], CommandContext>({
  docs: {
    brief: 'Show how every attachment is doing',
    fullDescription:
      'Asks the agent; where none runs, compares the topology, and what commands have made, with what is there. Exit code 1 when ' +
      'something is not well.',
  },
  parameters: { positional: files, flags: { stateDir, host, trustLabels, json } },
  loader: exits(async () => (await import('./status.ts')).showStatus),
});

export const check = buildCommand<CheckFlags, string[], CommandContext>({
  docs: {
    brief: 'Try who reaches whom from this host, and who must not',
    fullDescription:
      'Asks on the link, from inside of each container, for every end on the same network, on this host and on the others of the ' +
      'files, and for those in other VLANs of the same bridge or NIC, of which none may answer. Then tries what the files ' +
      'expect. Exit code 1 when something is not as it should be.',
  },
  parameters: {
    positional: files,
    flags: {
      stateDir,
      host,
      trustLabels,
      peer: repeated('Only pairs with this container, or with this host and what is on it', 'NAME'),
      json,
    },
  },
  loader: exits(async () => (await import('./check.ts')).checkTopology),
});

export const agent = buildCommand<AgentFlags, string[], CommandContext>({
  docs: {
    brief: 'Keep it as the topology says, until stopped',
    fullDescription:
      'Makes what files and kept commands want, and keeps it so through restarts and accidents. SIGHUP reads the files anew.',
  },
  parameters: {
    positional: files,
    flags: {
      stateDir,
      host,
      noFirewall,
      trustLabels,
      logFormat: valued('text or json (text)', 'FORMAT'),
      logLevel: valued('debug, info, warn or error (info)', 'LEVEL'),
    },
  },
  loader: exits(async () => {
    const { startAgent } = await import('./agent.ts');
    return (flags, paths) => startAgent(flags, paths, version);
  }),
});

export const importing = buildCommand<ImportFlags, string[], CommandContext>({
  docs: {
    brief: 'Turn pipework command lines, or what is on the host, into a topology file',
    fullDescription:
      'Reads scripts or crontabs, or the standard input, and prints YAML. What could not be understood is noted with its ' +
      'line. With --from-host, says what running containers are connected by now, whoever made it.',
  },
  parameters: {
    positional: {
      kind: 'array',
      parameter: { brief: 'Script with pipework commands', placeholder: 'FILE', parse: text },
    },
    flags: { fromHost: flag('What is on this host now, instead of command lines'), json },
  },
  loader: exits(async () => (await import('./import.ts')).importTopology),
});
