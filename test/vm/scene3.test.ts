/** Scene 3 of the brief on two virtual machines: Open vSwitch in the kernel, a wire between them, and a reboot. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Scene3, type SceneHost, tagsExpected, tagsOf } from '../e2e/scene3.ts';
import { ensureImage, type Ran, type RunOptions, root, run, skipUnless } from '../lab.ts';
import { quoted } from './guest-tests.ts';
import { accelerator, Machine, whyNoMachine } from './machine.ts';

const shell = (words: readonly string[]): string => words.map(quoted).join(' ');

/** Read by the agent, as its unit starts it. */
const topology = '/etc/pipewright/pipewright.yaml';

/**
 * What happens at every boot beside what is enabled there: programs are run as they are asked for. /run/ready is there when
 * the daemons answer.
 */
const boot = `
echo up >>/run/share/boots
. ${quoted(path.join(root, 'scripts/vm/ready.sh'))}
(ready; touch /run/ready) &
exec sh ${quoted(path.join(root, 'scripts/vm/serve.sh'))}
`;

/** All is slower than on a processor by this much, where it is made in software. */
const patience = 40;

class VirtualHost implements SceneHost {
  readonly #machine: Machine;
  #orders = 0;

  private constructor(machine: Machine) {
    this.#machine = machine;
  }

  static async start(t: TestContext, folder: string, name: string, other: string): Promise<VirtualHost> {
    const disk = path.join(folder, `${name}.disk`);
    run('truncate', ['-s', '2G', disk]);
    run('mkfs.ext4', ['-q', disk]);
    const socket = (of: string): string => path.join(folder, `${of}.sock`);
    const wire = {
      local: socket(name),
      remote: socket(other),
      mac: `02:00:00:00:00:${name === 'a' ? '0a' : '0b'}`,
      record: path.join(folder, `${name}.pcap`),
    };
    const machine = await Machine.start({
      name,
      script: boot,
      systemd: true,
      disk,
      wires: [wire],
    });
    t.after(() => machine.remove());
    return new VirtualHost(machine);
  }

  get #boots(): number {
    const file = path.join(this.#machine.share, 'boots');
    return existsSync(file) ? readFileSync(file, 'utf8').split('\n').length - 1 : 0;
  }

  /** Waits until it has booted that many times. */
  async booted(times: number): Promise<void> {
    const deadline = Date.now() + 60_000 * patience;
    while (this.#boots < times) {
      if (!this.#machine.isOn || Date.now() > deadline)
        throw new Error(`it did not boot: ${this.#machine.said}`);
      await sleep(100);
    }
  }

  /** As by its button: without a word to what runs there. */
  async reboot(): Promise<void> {
    const booted = this.#boots;
    this.#order('sync; echo b >/proc/sysrq-trigger');
    await this.booted(booted + 1);
  }

  /** @returns the name of the files, without what comes after the point */
  #order(script: string): string {
    const name = path.join(this.#machine.share, String(++this.#orders));
    writeFileSync(`${name}.part`, script);
    renameSync(`${name}.part`, `${name}.do`);
    return name;
  }

  async run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
    const name = this.#order(shell([program, ...args]));
    const deadline = Date.now() + 1000 * patience * (options.timeout ?? 60);
    while (!existsSync(`${name}.code`)) {
      if (!this.#machine.isOn || Date.now() > deadline)
        throw new Error(`no answer to ${program} ${args.join(' ')}`);
      await sleep(50);
    }
    const read = (what: string): string => readFileSync(`${name}.${what}`, 'utf8');
    const ran = { code: Number(read('code')), stdout: read('out'), stderr: read('err') };
    if (options.expect !== 'any')
      assert.equal(ran.code, options.expect ?? 0, `${program} ${args.join(' ')}: ${ran.stderr}`);
    return ran;
  }

  pipewright(args: readonly string[], options?: RunOptions): Promise<Ran> {
    return this.run('pipewright', args, options);
  }

  check(): Promise<Ran> {
    return this.pipewright(['check', '--json', topology], { expect: 'any' });
  }

  async keep(yaml: string): Promise<void> {
    await this.run('sh', ['-c', `printf %s "$1" >${topology}`, 'sh', yaml]);
    // What it was given by hand is its system's own configuration from now on: eth0 has it again at the next boot.
    await this.run('sh', ['-c', "ip -br -4 addr show dev eth0 | awk '{ print $3 }' >/run/lasting/address"]);
    await this.run('cp', [path.join(root, 'packaging/systemd/pipewright.service'), '/etc/systemd/system/']);
    const { code, stderr } = await this.run('systemctl', ['enable', '--now', 'pipewright'], {
      expect: 'any',
    });
    if (code === 0) return;
    const { stdout } = await this.run('journalctl', ['--no-pager', '-n', '30', '-u', 'pipewright']);
    assert.fail(`${stderr}${stdout}`);
  }
}

/** The lines that tcpdump makes of what was recorded of a wire. */
const linesOf = (pcap: string): string[] =>
  run('tcpdump', ['-n', '-e', '-r', pcap], { expect: 'any' }).stdout.split('\n').filter(Boolean);

test('VLANs across two machines, with Open vSwitch in the kernel', { timeout: 3_600_000 }, async (t) => {
  const why = whyNoMachine();
  if (why !== undefined) return t.skip(why);
  if (skipUnless(t, 'docker', 'ovs', 'program:tcpdump')) return;
  t.diagnostic(`processor: ${await accelerator()}`);
  const folder = mkdtempSync(path.join(tmpdir(), 'pwt-wire-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const start = (name: string, other: string): Promise<VirtualHost> =>
    VirtualHost.start(t, folder, name, other);
  const [a, b] = await Promise.all([start('a', 'b'), start('b', 'a')]);
  await Promise.all([a.booted(1), b.booted(1)]);
  const ready = 'until [ -e /run/ready ]; do sleep 1; done';
  await Promise.all([a, b].map((host) => host.run('sh', ['-c', ready])));
  const scene = new Scene3(a, b, 'system');
  await scene.setUp(ensureImage());
  let before = 0;
  const check = async (): Promise<void> => {
    await scene.settled(30 * patience);
    await scene.ping();
    const lines = linesOf(path.join(folder, 'a.pcap'));
    assert.deepEqual(tagsOf(lines.slice(before)), tagsExpected);
    before = lines.length;
    await scene.check();
  };
  await t.test('six pings, tags on the wire, and what check says', check);
  await t.test('one machine is rebooted: all comes back with no command typed', async () => {
    await a.reboot();
    await check();
  });
});
