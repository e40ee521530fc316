/** The systemd unit: strict enough, and not too strict to connect a container. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { cidrs, linkExists, nsenter, plainNetns, root, run, runContainer, skipUnless } from '../lab.ts';
import { ownFolder } from './lab.ts';

const file = path.join(root, 'packaging/systemd/pipewright.service');
const unit = readFileSync(file, 'utf8');

/** All values of a setting. */
const setting = (name: string): string[] =>
  [...unit.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))].map(([, value = '']) => value);

test('systemd rates its exposure 3.5 at most', (t) => {
  if (skipUnless(t, 'program:systemd-analyze')) return;
  const words = ['security', '--offline=true', '--no-pager', '--threshold=35', file];
  const { code, stdout, stderr } = run('systemd-analyze', words, { expect: 'any' });
  if (/unrecognized option|invalid option/.test(stderr)) return t.skip('systemd-analyze is too old');
  const [, exposure] = /exposure level for pipewright\.service: (\S+)/.exec(stdout) ?? [];
  assert.ok(Number(exposure) <= 3.5, stdout + stderr);
  assert.equal(code, 0);
});

test('systemd understands every line', (t) => {
  if (skipUnless(t, 'program:systemd-analyze')) return;
  // What it starts need not be installed here.
  const copy = path.join(ownFolder(t), 'pipewright.service');
  writeFileSync(copy, unit.replace(/^ExecStart=\S+/m, 'ExecStart=/bin/true'));
  const { stdout, stderr } = run('systemd-analyze', ['verify', '--man=no', copy], { expect: 'any' });
  const complaints = `${stdout}${stderr}`.split('\n').filter((line) => line.includes('pipewright.service'));
  assert.deepEqual(complaints, []);
});

/** The namespaces that the unit makes, as far as they can be in the program's way: `sh -c SCRIPT sh CAPS COMMAND...`. */
const confined = `
set -e
mount --make-rslave /
mount -t proc -o hidepid=invisible proc /proc
lock() { mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"; }
for place in /proc/sys /sys /usr /etc /var /tmp; do lock "$place"; done
mount --bind /proc/sys/net /proc/sys/net
mount -o remount,bind,rw /proc/sys/net
caps=$1
shift
exec setpriv --no-new-privs --inh-caps=-all --bounding-set="-all,$caps" "$@"`;

test('what it leaves is enough to connect containers', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:setpriv', 'program:unshare')) return;
  assert.deepEqual(setting('ReadWritePaths'), ['/run /proc/sys/net']);
  assert.deepEqual(setting('ProtectKernelTunables'), ['yes']);
  const caps = setting('CapabilityBoundingSet')[0]
    ?.split(' ')
    .map((name) => `+${name.replace(/^CAP_/, '').toLowerCase()}`)
    .join(',');
  const { name: host } = await plainNetns(t, 'ub');
  const pipewright = (...args: string[]) => {
    const program = [process.execPath, path.join(root, 'bin/pipewright'), ...args];
    const words = [
      ...nsenter(host),
      'unshare',
      '--mount',
      'sh',
      '-c',
      confined,
      'sh',
      caps ?? '',
      ...program,
    ];
    return run(words[0] ?? '', words.slice(1), { expect: 'any' });
  };
  for (const [what, args] of [
    ['a container of root', []],
    ['a container of another user without capabilities', ['--user', '1000', '--cap-drop', 'ALL']],
  ] as const) {
    await t.test(what, (t) => {
      const container = runContainer(t, `ub${args.length}`, { args });
      // The IPv6 address needs a sysctl of the interface: Docker has switched IPv6 off in a container without a network.
      const address = `10.70.0.${args.length + 1}/24,fd70::${args.length + 1}/64`;
      const made = pipewright('attach', container.name, '--network', 'bridge:br1', '--address', address);
      assert.equal(made.code, 0, made.stderr);
      assert.deepEqual(cidrs(container.pid, 'eth1'), address.split(','));
      const gone = pipewright('detach', container.name);
      assert.equal(gone.code, 0, gone.stderr);
      assert.ok(!linkExists(container.pid, 'eth1'));
    });
  }
});
