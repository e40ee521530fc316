/** What the benchmark stands on: all of its names begin with `pwbench`, and all of it goes. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import type { AttachResult } from '../src/apply/attach.ts';
import { attach } from '../src/apply/attach.ts';
import { detach } from '../src/apply/detach.ts';
import { Host } from '../src/apply/host.ts';
import type { Container } from '../src/containers/container.ts';
import { resolveContainer } from '../src/containers/resolve.ts';
import { parseCidr } from '../src/model/address.ts';
import type { Attachment } from '../src/model/attachment.ts';
import { root, run } from '../test/lab/run.ts';

/** The bridge that everything is connected to, made by the first attachment. */
export const bridge = 'brpwbench';
/** The bridge of Open vSwitch. */
export const ovsBridge = 'ovspwbench';

/** Runs a program whose output nobody wants, with as little around it as Node allows. Throws when it fails. */
export function exec(words: readonly string[], input?: string): void {
  const [program = '', ...args] = words;
  const done = spawnSync(program, args, {
    input,
    stdio: [input === undefined ? 'ignore' : 'pipe', 'ignore', 'pipe'],
  });
  if (done.status === 0) return;
  throw new Error(`${words.join(' ')}: ${done.error?.message ?? done.stderr.toString().trim()}`);
}

/** Things to take away at the end, the last one first. */
export class Cleanup {
  readonly #steps: (() => unknown)[] = [];

  add(step: () => unknown): void {
    this.#steps.push(step);
  }

  /** Goes on when a step fails. */
  async run(): Promise<void> {
    for (const step of this.#steps.splice(0).reverse()) {
      try {
        await step();
      } catch (error) {
        console.error(`taking away: ${error instanceof Error ? error.message : error}`);
      }
    }
  }
}

/** Named network namespaces, made by one program and taken away by one. */
export function makeNamespaces(cleanup: Cleanup, names: readonly string[]): void {
  const remove = (): unknown =>
    run('ip', ['-force', '-batch', '-'], {
      input: names.map((name) => `netns del ${name}\n`).join(''),
      expect: 'any',
    });
  cleanup.add(remove);
  exec(['ip', '-batch', '-'], names.map((name) => `netns add ${name}\n`).join(''));
}

export function namespaceContainer(name: string): Promise<Container> {
  return resolveContainer({ runtime: 'netns', name });
}

/** Makes and removes attachments in this process, as an agent would. */
export class Attacher {
  readonly host = new Host();

  /** @param address `10.99.0.2/24` */
  attach(container: Container, address: string, ifname = 'eth1'): Promise<AttachResult> {
    const cidr = parseCidr(address);
    const want: Attachment = {
      container: { runtime: 'netns', name: container.name },
      network: { kind: 'bridge', name: bridge },
      ifname,
      addrs: cidr ? [{ cidr }] : [],
      routes: [],
    };
    return attach(this.host, container, want, { ifPresent: 'refuse', firewall: true });
  }

  async detach(...containers: readonly Container[]): Promise<void> {
    await detach(
      this.host,
      containers.map((container) => ({ container, ifname: 'eth1' })),
    );
  }
}

/** A container that stays on the bridge, so that the bridge stays, and its rule in the firewall is made only once. */
export async function keepBridge(cleanup: Cleanup, attacher: Attacher): Promise<void> {
  const name = 'pwbench-keep';
  makeNamespaces(cleanup, [name]);
  const keeper = await namespaceContainer(name);
  await attacher.attach(keeper, '10.99.0.1/24');
  cleanup.add(() => attacher.detach(keeper));
}

/** `bin/NAME` of this tree. */
export function program(name: string): string {
  return path.join(root, 'bin', name);
}
