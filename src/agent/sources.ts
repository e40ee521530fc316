/** What wakes the agent: each source only says that something may have changed; the round looks for itself. */
import { existsSync, lstatSync, statSync, watch } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Host } from '../apply/host.ts';
import type { Engine } from '../containers/docker.ts';
import { openFirewallMonitor, openMonitor } from '../kernel/netlink/monitor.ts';
import { touched } from '../kernel/touched.ts';
import { OvsdbWatch } from '../ovs/watch.ts';
import type { Agent } from './agent.ts';
import { settle } from './settle.ts';

/** Everything is looked at this often even when nothing woke the agent. */
const periodMs = 60_000;
/** Milliseconds between two attempts to reach an engine at whose socket nobody answers. */
const firstPauseMs = 500;
const longestPauseMs = 5000;
/** Milliseconds until a socket is looked for that was not told of when it came. */
const longestAbsenceMs = 30_000;
/** What can make a difference to a container's network. */
const wakingActions = new Set(['start', 'die', 'died', 'destroy', 'remove', 'rename', 'unpause']);

/** Connects every source to the agent; disposing ends them. */
export function openSources(
  agent: Agent,
  parts: {
    readonly host: Host;
    readonly engines: readonly Engine[];
    readonly paths: readonly string[];
    /** Whether rules of the firewall are ours to keep. */
    readonly firewall: boolean;
  },
): Disposable {
  const stop = new AbortController();
  const { signal } = stop;
  const settled = settle(() => agent.wake(), agent.rest, signal);
  for (const engine of parts.engines) void followEngine(agent, engine, signal);
  openMonitor(parts.host.netns, { onWake: settled, onOverrun: settled, signal });
  if (parts.firewall) openFirewallMonitor(parts.host.netns, { onWake: settled, onOverrun: settled, signal });
  const ovs = watchOvs(parts.host, agent, settled);
  const files = watchFiles(
    parts.paths,
    settle(() => agent.reload(), agent.rest, signal),
  );
  const period = setInterval(() => agent.wake(), periodMs);
  return {
    [Symbol.dispose]: () => {
      stop.abort();
      clearInterval(period);
      for (const close of [ovs, ...files]) close();
    },
  };
}

/** Hears of containers for as long as there is an engine, and waits for one when there is none. */
async function followEngine(agent: Agent, engine: Engine, signal: AbortSignal): Promise<void> {
  const { socketPath } = engine;
  // Whether everything has been looked at since it was last heard of.
  let isKnownAway = true;
  let pauseMs = firstPauseMs;
  while (!signal.aborted) {
    // An engine may be there from some time on only: its socket costs less than a question.
    if (existsSync(socketPath) && (await hearOf(agent, engine, signal))) {
      isKnownAway = false;
      pauseMs = firstPauseMs;
      // One that is being stopped may still answer.
      await sleep(pauseMs, undefined, { signal }).catch(() => {});
      continue;
    }
    // That round finds and tells the same.
    if (!isKnownAway && !signal.aborted) agent.wake();
    isKnownAway = true;
    const wasThere = existsSync(socketPath);
    const ms = wasThere ? pauseMs : longestAbsenceMs;
    const isAnother = await touched(socketPath, { wasThere, ms, signal });
    pauseMs = isAnother ? firstPauseMs : Math.min(longestPauseMs, 2 * pauseMs);
  }
}

/**
 * Events name their container, so a start is served without looking at anything else. Resolves when the engine is there
 * no more. @returns whether it was there at all
 */
async function hearOf(agent: Agent, engine: Engine, signal: AbortSignal): Promise<boolean> {
  const { runtime } = engine;
  let wasThere = false;
  try {
    // What happens from here on is told, however long the first answers take.
    const since = (Date.now() / 1000).toFixed(3);
    await engine.ping();
    wasThere = true;
    // What happened while nobody listened is found by looking at everything.
    agent.retryNow();
    for await (const event of engine.events(since, signal)) {
      if (wakingActions.has(event.action)) agent.happened(runtime, event);
    }
  } catch {
    // The round that is asked for then finds the same.
  }
  return wasThere;
}

/** Columns that matter; statistics alone change every few seconds. */
const watchedColumns = {
  Open_vSwitch: ['bridges'],
  Bridge: ['name', 'ports', 'mirrors'],
  Port: ['name', 'tag', 'trunks', 'vlan_mode', 'cvlans', 'other_config', 'interfaces'],
  Interface: ['name', 'ofport', 'error', 'ingress_policing_rate', 'ingress_policing_burst'],
  Mirror: ['name', 'output_port', 'select_all', 'select_src_port', 'select_dst_port', 'select_vlan'],
};

/** Also where there is no Open vSwitch yet: at boot it may start after the agent. */
function watchOvs({ ovsdbSocket }: Host, agent: Agent, onWake: () => void): () => void {
  let isLost = false;
  const watched = new OvsdbWatch(watchedColumns, {
    path: ovsdbSocket,
    onWake: () => {
      // What failed for want of it need not wait any longer.
      if (isLost) agent.retryNow();
      isLost = false;
      onWake();
    },
    onLost: () => {
      isLost = true;
    },
  });
  return () => void watched[Symbol.asyncDispose]();
}

function watchFiles(paths: readonly string[], onWake: () => void): (() => void)[] {
  return paths
    .filter((place) => existsSync(place))
    .map((place) => {
      // Editors put a new file in the old one's place, so it is the folder that is watched.
      const folder = statSync(place).isDirectory() ? place : path.dirname(place);
      // A folder like /tmp has other files; what a link leads to is another one by another name.
      const only = lstatSync(place).isFile() ? path.basename(place) : undefined;
      const watcher = watch(folder, { persistent: false }, (_event, name) => {
        const isOther = only !== undefined && name !== null && name !== only;
        // The end of the folder itself is told with its own name.
        if (!isOther || name === path.basename(folder)) onWake();
      });
      // A folder that is deleted is told by an error; the next reload says what is missing.
      watcher.on('error', onWake);
      return () => watcher.close();
    });
}
