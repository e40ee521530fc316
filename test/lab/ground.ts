/** Things that a test stands on: containers, namespaces, NICs, bridges. Whatever is made goes when the test ends. */
import { spawn } from 'node:child_process';
import { existsSync, readlinkSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasProgram } from './capability.ts';
import { nsenter, root, run, runIn, type Where } from './run.ts';

/** A container of the Docker Engine. */
export interface Container {
  readonly name: string;
  /** 64 hexadecimal digits. */
  readonly id: string;
  readonly pid: number;
}

export interface ContainerOptions {
  /** `docker run --network`, default `none`. */
  readonly network?: string;
  /** More options of `docker run`. */
  readonly args?: readonly string[];
  /** The container's command; default: the image's, which waits. */
  readonly command?: readonly string[];
}

let image: string | undefined;
let swept = false;

/** The tests' image (busybox and nothing else), made when it is not there. */
export function ensureImage(): string {
  image ??= run(path.join(root, 'scripts/image.sh'), []).stdout.trim();
  return image;
}

/** Removes what earlier runs left that were killed before they could. Another run at the same time keeps its own. */
function sweep(): void {
  if (swept) return;
  swept = true;
  const format = '{{.ID}} {{.Label "pwt.pid"}}';
  const { stdout } = run('docker', ['ps', '-a', '--filter', 'label=pwt.pid', '--format', format]);
  for (const line of stdout.split('\n').filter(Boolean)) {
    const [id = '', pid = ''] = line.split(' ');
    if (!existsSync(`/proc/${pid}`)) run('docker', ['rm', '-f', id], { expect: 'any' });
  }
}

let sweptNamespaces = false;

/** The same for namespaces: `pwt-NAME-<pid of a run that is over>`. */
function sweepNamespaces(): void {
  if (sweptNamespaces) return;
  sweptNamespaces = true;
  for (const line of run('ip', ['netns', 'list']).stdout.split('\n')) {
    const [, name, pid] = /^(pwt-\S+-(\d+))(?: |$)/.exec(line) ?? [];
    if (name && !existsSync(`/proc/${pid}`)) run('ip', ['netns', 'del', name], { expect: 'any' });
  }
}

/** The pid of a container's first process now; 0 when it is not running. Another one after each start. */
export function containerPid(name: string): number {
  return Number(run('docker', ['inspect', '-f', '{{.State.Pid}}', name]).stdout);
}

/** A running container `pwt-NAME-<pid of this run>`. */
export function runContainer(t: TestContext, name: string, options: ContainerOptions = {}): Container {
  sweep();
  const full = `pwt-${name}-${process.pid}`;
  t.after(() => void run('docker', ['rm', '-f', full], { expect: 'any' }));
  const label = `pwt.pid=${process.pid}`;
  const given = [
    '--name',
    full,
    '--label',
    label,
    '--network',
    options.network ?? 'none',
    ...(options.args ?? []),
  ];
  const started = run('docker', ['run', '-d', ...given, ensureImage(), ...(options.command ?? [])]);
  return { name: full, id: started.stdout.trim(), pid: containerPid(full) };
}

/** A named network namespace `pwt-NAME-<pid of this run>` and a process in it. */
export async function plainNetns(
  t: TestContext,
  name: string,
): Promise<{ name: string; path: string; pid: number }> {
  sweepNamespaces();
  const full = `pwt-${name}-${process.pid}`;
  t.after(() => void run('ip', ['netns', 'del', full], { expect: 'any' }));
  run('ip', ['netns', 'add', full]);
  run('ip', ['-n', full, 'link', 'set', 'lo', 'up']);
  const [command = '', ...args] = [...nsenter(full), 'sleep', '3600'];
  const holder = spawn(command, args, { stdio: 'ignore' });
  t.after(() => void holder.kill('SIGKILL'));
  holder.unref();
  const pid = holder.pid ?? 0;
  const host = readlinkSync('/proc/self/ns/net');
  for (let waited = 0; readlinkSync(`/proc/${pid}/ns/net`) === host; waited += 5) {
    if (waited > 5000) throw new Error(`nsenter did not enter ${full}`);
    await sleep(5);
  }
  return { name: full, path: `/run/netns/${full}`, pid };
}

/** Removes a folder that what is just ending may still write to. */
export async function removeFolder(folder: string): Promise<void> {
  for (let left = 100; ; left -= 1) {
    try {
      rmSync(folder, { recursive: true, force: true });
      return;
    } catch (error) {
      if (left === 0) throw error;
      await sleep(100);
    }
  }
}

/** Whether a link of this name is in the namespace. */
export function linkExists(where: Where, name: string): boolean {
  return runIn(where, 'ip', ['link', 'show', 'dev', name], { expect: 'any' }).code === 0;
}

/** Removes a link of the host when the test ends, if it is there then. */
export function cleanupLink(t: TestContext, name: string): void {
  t.after(() => void run('ip', ['link', 'del', name], { expect: 'any' }));
}

/** A stand-in for a NIC: one end of a veth pair, up; the other end, the wire, is `NAMEp`. Up to 14 bytes. */
export function makeNic(t: TestContext, name: string, ...attributes: readonly string[]): string {
  cleanupLink(t, `${name}p`);
  cleanupLink(t, name);
  run('ip', ['link', 'add', 'name', name, ...attributes, 'type', 'veth', 'peer', 'name', `${name}p`]);
  run('ip', ['link', 'set', name, 'up']);
  run('ip', ['link', 'set', `${name}p`, 'up']);
  return `${name}p`;
}

function removeFirewallRules(bridge: string): void {
  for (const command of ['iptables', 'ip6tables'].filter(hasProgram)) {
    const { stdout } = run(command, ['-w', '-S', 'DOCKER-USER'], { expect: 'any' });
    for (const line of stdout.split('\n').filter((rule) => rule.split(' ').includes(bridge))) {
      const words = (line.match(/"[^"]*"|\S+/g) ?? []).map((word) => word.replaceAll('"', ''));
      run(command, ['-w', '-D', ...words.slice(1)], { expect: 'any' });
    }
  }
}

/** Removes a Linux bridge and the firewall rules for it when the test ends. */
export function cleanupBridge(t: TestContext, name: string): void {
  t.after(() => {
    run('ip', ['link', 'del', name], { expect: 'any' });
    removeFirewallRules(name);
  });
}

/** Removes an Open vSwitch bridge and its ports' links when the test ends. */
export function cleanupOvsBridge(t: TestContext, name: string): void {
  t.after(() => {
    const ports = run('ovs-vsctl', ['list-ports', name], { expect: 'any' })
      .stdout.split('\n')
      .filter(Boolean);
    run('ovs-vsctl', ['--if-exists', 'del-br', name], { expect: 'any' });
    for (const port of ports) run('ip', ['link', 'del', port], { expect: 'any' });
  });
}

/** An Open vSwitch bridge, with the userspace datapath where the kernel has no openvswitch. */
export function makeOvsBridge(t: TestContext, name: string): void {
  cleanupOvsBridge(t, name);
  const type = existsSync('/sys/module/openvswitch') ? 'system' : 'netdev';
  run('ovs-vsctl', ['--may-exist', 'add-br', name, '--', 'set', 'bridge', name, `datapath_type=${type}`]);
}

/** Whether an echo request is answered. With `tries`, until one is: DAD, ARP and STP may need a moment. */
export function ping(from: Where, ip: string, tries = 1): boolean {
  for (let i = 0; i < tries; i++) {
    if (runIn(from, 'ping', ['-n', '-c1', '-W1', ip], { expect: 'any' }).code === 0) return true;
  }
  return false;
}
