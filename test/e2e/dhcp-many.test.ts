/**
 * Many leases of one agent, all asked for at once of one dnsmasq. PWT_DHCP_CONTAINERS and PWT_DHCP_INTERFACES: how many
 * containers, and interfaces of each; 200 and 1, or 170 and 3, by hand.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { cidrs, containerPid, ensureImage, run, skipUnless } from '../lab.ts';
import { agentHost, soon } from './agent-ground.ts';
import { bridgeWith } from './dhcp-ground.ts';

const containers = Number(process.env.PWT_DHCP_CONTAINERS ?? 20);
const interfaces = Number(process.env.PWT_DHCP_INTERFACES ?? 1);

/**
 * Runs in the agent: writes once a second its memory, how late its timers were, and the most that it computed between two
 * of them, which does not depend on what else the machine does.
 */
const watcher = `const { monitorEventLoopDelay } = require('node:perf_hooks');
const { renameSync, writeFileSync } = require('node:fs');
const file = process.env.PWT_WATCH;
const delay = monitorEventLoopDelay({ resolution: 5 });
delay.enable();
let cpu;
let most = 0;
const look = () => {
  const { user, system } = cpu ? process.cpuUsage(cpu) : { user: 0, system: 0 };
  cpu = process.cpuUsage();
  most = Math.max(most, (user + system) / 1000);
};
const write = () => {
  const late = { max: delay.max / 1e6, p99: delay.percentile(99) / 1e6 };
  const figures = { rss: process.memoryUsage().rss, ...late, most };
  writeFileSync(file + '.new', JSON.stringify(figures));
  renameSync(file + '.new', file);
};
if (process.argv[2] === 'agent') for (const [act, ms] of [[write, 1000], [look, 5]]) setInterval(act, ms).unref();
`;

interface Figures {
  readonly rss: number;
  /** Milliseconds. */
  readonly max: number;
  readonly p99: number;
  /** Milliseconds of processor time, all threads. */
  readonly most: number;
}

/** Containers that run, four started at a time. */
async function runMany(t: TestContext, names: readonly string[]): Promise<void> {
  const image = ensureImage();
  const docker = promisify(execFile);
  t.after(() => {
    run('docker', ['rm', '-f', ...names], { expect: 'any' });
  });
  const left = [...names];
  const worker = async (): Promise<void> => {
    for (let name = left.pop(); name !== undefined; name = left.pop()) {
      const label = ['--label', `pwt.pid=${process.pid}`, '--network', 'none'];
      await docker('docker', ['run', '-d', '--name', name, ...label, image]);
    }
  };
  await Promise.all([worker(), worker(), worker(), worker()]);
}

test(`${containers * interfaces} leases of ${containers} containers, kept by one agent`, async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:dnsmasq')) return;
  const host = await agentHost(t, 'dhcpm');
  const names = Array.from({ length: containers }, (_, nr) => `pwt-many${nr}-${process.pid}`);
  await runMany(t, names);
  const server = await bridgeWith(t, host, 'dnsmasq');
  await server.start({ pool: [0, 0], wide: ['10.77.1.0', '10.77.20.255'], lease: 600 });
  const entries = Array.from({ length: interfaces }, (_, nr) => nr + 1).map(
    (nr) =>
      `  - {container: "pwt-many*-${process.pid}", network: lan, ifname: eth${nr}, addresses: dhcp${nr > 1 ? ', gateway: none' : ''}}`,
  );
  host.write(`networks:\n  lan: {kind: bridge, bridge: br1}\nattachments:\n${entries.join('\n')}\n`);
  const folder = mkdtempSync(path.join(tmpdir(), 'pwt-watch-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const [script, figures] = [path.join(folder, 'watch.cjs'), path.join(folder, 'figures')];
  writeFileSync(script, watcher);
  host.env.NODE_OPTIONS = `--require=${script}`;
  host.env.PWT_WATCH = figures;
  const began = Date.now();
  const agent = await host.agent(t);
  delete host.env.NODE_OPTIONS;
  const leases = (): number => agent.log().split('"what":"lease"').length - 1;
  const all = containers * interfaces;
  await soon(() => leases() >= all, 30_000 + 1000 * all);
  const bound = Date.now() - began;
  assert.equal(leases(), all, agent.log().slice(-2000));
  const pids = names.map(containerPid);
  const addresses = pids.flatMap((pid) =>
    Array.from({ length: interfaces }, (_, nr) => cidrs(pid, `eth${nr + 1}`)).flat(),
  );
  assert.equal(new Set(addresses).size, all);
  await soon(() => host.status().every(({ state }) => state === 'healthy'), 30_000);
  assert.deepEqual([...new Set(host.status().map(({ state }) => state))], ['healthy']);
  await soon(() => existsSync(figures), 30_000);
  const { rss, max, p99, most } = JSON.parse(readFileSync(figures, 'utf8')) as Figures;
  t.diagnostic(`${all} bound ${bound} ms after the agent was started`);
  t.diagnostic(`memory of the agent: ${(rss / 2 ** 20).toFixed(0)} MiB`);
  t.diagnostic(`its loop was late by ${p99.toFixed(0)} ms (99 of 100 times), ${max.toFixed(0)} ms at most`);
  t.diagnostic(`between two turns of it ${most.toFixed(0)} ms of processor time were used at most`);
});
