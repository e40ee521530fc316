/** What wakes the agent: each source only says that something may have changed; the round looks for itself. */
import { existsSync, statSync, watch } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Host } from '../apply/host.ts';
import type { Engine } from '../containers/docker.ts';
import { openFirewallMonitor, openMonitor } from '../kernel/netlink/monitor.ts';
import { OvsdbWatch } from '../ovs/watch.ts';
import type { Agent } from './agent.ts';
import { settle } from './settle.ts';

/** Everything is looked at this often even when nothing woke the agent. */
const periodMs = 60_000;
/** Between two attempts to hear of an engine's events. */
const reconnectMs = 500;
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

/** Events name their container, so a start is served without looking at anything else. */
async function followEngine(agent: Agent, engine: Engine, signal: AbortSignal): Promise<void> {
  const { runtime } = engine;
  let isDown = true;
  while (!signal.aborted) {
    try {
      // What happens from here on is told, however long the first answers take.
      const since = (Date.now() / 1000).toFixed(3);
      // An engine may be there from some time on only: its socket costs less than a question.
      if (existsSync(engine.socketPath)) {
        await engine.ping();
        isDown = false;
        // What happened while nobody listened is found by looking at everything.
        agent.retryNow();
        for await (const { action, id } of engine.events(since, signal)) {
          if (wakingActions.has(action)) agent.wake({ runtime, id });
        }
        continue;
      }
    } catch {
      // The round that is asked for below finds and tells the same.
    } finally {
      await sleep(reconnectMs, undefined, { signal }).catch(() => {});
    }
    if (!isDown && !signal.aborted) agent.wake();
    isDown = true;
  }
}

/** Columns that matter; statistics alone change every few seconds. */
const watchedColumns = {
  Open_vSwitch: ['bridges'],
  Bridge: ['name', 'ports'],
  Port: ['name', 'tag', 'trunks', 'vlan_mode', 'cvlans', 'other_config', 'interfaces'],
  Interface: ['name', 'ofport', 'error'],
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
    .filter((path) => existsSync(path))
    .map((path) => {
      // Editors put a new file in the old one's place, so it is the folder that is watched.
      const folder = statSync(path).isDirectory() ? path : dirname(path);
      const watcher = watch(folder, { persistent: false }, onWake);
      // A folder that is deleted is told by an error; the next reload says what is missing.
      watcher.on('error', onWake);
      return () => watcher.close();
    });
}
