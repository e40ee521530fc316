/** Many clients of one process, all at once. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { getLink, setLink } from '../../../src/kernel/netlink/link.ts';
import { NetlinkSocket } from '../../../src/kernel/netlink/socket.ts';
import { Netns } from '../../../src/kernel/netns.ts';
import { run, runIn, skipUnless } from '../../lab.ts';
import { until } from '../support.ts';
import { clientIn, lan } from './ground.ts';

const count = 200;

test(`${count} clients at once get a lease of one dnsmasq, and hold no socket afterwards`, async (t) => {
  if (skipUnless(t, 'root', 'program:dnsmasq')) return;
  const net = await lan(t, 'many');
  const server = await net.server('dnsmasq');
  await server.start({ pool: [0, 0], wide: ['10.77.1.0', '10.77.20.255'], lease: 600 });
  // Namespaces without a process, made by one `ip` each way.
  const names = Array.from({ length: count }, (_, at) => `pwt-m${at}-${process.pid}`);
  t.after(() => {
    const left = names.filter((name) => existsSync(`/run/netns/${name}`));
    run('ip', ['-batch', '-'], { input: left.map((name) => `netns del ${name}`).join('\n'), expect: 'any' });
  });
  run('ip', ['-batch', '-'], { input: names.map((name) => `netns add ${name}`).join('\n') });
  const links = names.flatMap((name, at) => [
    `link add m${at} type veth peer name eth1 netns ${name}`,
    `link set m${at} master br0 up`,
  ]);
  runIn(net.name, 'ip', ['-batch', '-'], { input: links.join('\n') });
  for (const name of names) {
    using netns = Netns.open(`/run/netns/${name}`, name);
    using rtnl = NetlinkSocket.open(netns);
    rtnl.request(setLink({ ifindex: getLink(rtnl, 'eth1')?.ifindex ?? 0 }, { up: true }));
  }
  const clients = names.map((name) => clientIn(t, name));
  const descriptors = (): number => readdirSync('/proc/self/fd').length;
  const [rss, fds] = [process.memoryUsage().rss, descriptors()];
  const began = performance.now();
  for (const { client } of clients) client.start();
  const startedMs = performance.now() - began;
  const late = monitorEventLoopDelay({ resolution: 5 });
  late.enable();
  const isBound = (): number => clients.filter(({ client }) => client.status().state === 'BOUND').length;
  while (isBound() < count && performance.now() - began < 120_000) await sleep(10);
  const ms = performance.now() - began;
  late.disable();
  assert.equal(isBound(), count);
  const mib = (bytes: number): string => (bytes / 1024 / 1024).toFixed(1);
  t.diagnostic(`${count} bound after ${ms.toFixed(0)} ms; begun in ${startedMs.toFixed(0)} ms`);
  t.diagnostic(`the loop was late by ${(late.max / 1e6).toFixed(0)} ms at most after that`);
  t.diagnostic(`memory ${mib(rss)} -> ${mib(process.memoryUsage().rss)} MiB`);
  const leases = clients.map(({ client }) => client.status().lease?.addresses[0]?.cidr.ip);
  assert.equal(new Set(leases).size, count);
  await until('sockets are closed', () => descriptors() <= fds + 5);
  assert.ok(descriptors() <= fds + 5, `${fds} -> ${descriptors()}`);
});
