import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { before, type TestContext, test } from 'node:test';
import type { Container } from '../../../src/containers/container.ts';
import { resolvePid } from '../../../src/containers/proc.ts';
import { offerDns } from '../../../src/dhcp/dns/offers.ts';
import { PipewrightError } from '../../../src/errors.ts';
import { lacks, run, runContainer } from '../../lab.ts';

const skip = lacks('docker') ?? false;
const lan = { dns: ['10.77.0.53'], search: ['lan.test'], ntp: [] };

const digest = (): string => createHash('md5').update(readFileSync('/etc/resolv.conf')).digest('hex');
let untouched = '';
before(() => {
  untouched = digest();
});

function containerOf(t: TestContext, name: string, args: readonly string[] = []) {
  const made = runContainer(t, name, { args });
  const container: Container = { ...resolvePid(String(made.pid)), runtime: 'docker', id: made.id, name };
  const sh = (script: string): string => run('docker', ['exec', made.name, 'sh', '-c', script]).stdout;
  return { container, sh, name: made.name };
}

test('written in place into the file that Docker mounts, and put back', { skip }, async (t) => {
  const { container, sh } = containerOf(t, 'dnsa');
  const former = sh('cat /etc/resolv.conf');
  const inode = sh('stat -c %i /etc/resolv.conf');
  assert.equal(await offerDns(container, 'eth1/4', lan), true);
  assert.match(sh('cat /etc/resolv.conf'), /^search lan\.test\nnameserver 10\.77\.0\.53$/m);
  assert.equal(sh('stat -c %i /etc/resolv.conf'), inode, 'the same file: the container sees it');
  assert.equal(await offerDns(container, 'eth1/4', lan), false, 'the same again');
  const six = { dns: ['fd77::53'], search: [], ntp: [] };
  await Promise.all([offerDns(container, 'eth1/6', six), offerDns(container, 'eth2/4', lan)]);
  assert.match(sh('cat /etc/resolv.conf'), /^nameserver fd77::53$/m);
  await Promise.all(
    (['eth1/4', 'eth1/6', 'eth2/4'] as const).map((source) => offerDns(container, source, undefined)),
  );
  assert.equal(sh('cat /etc/resolv.conf'), former);
  assert.equal(digest(), untouched);
});

test('a restart of the container: Docker writes the file anew, and so do we', { skip }, async (t) => {
  const { container, sh, name } = containerOf(t, 'dnsb');
  const former = sh('cat /etc/resolv.conf');
  await offerDns(container, 'eth1/4', lan);
  run('docker', ['restart', '-t', '0', name]);
  const pid = Number(run('docker', ['inspect', '-f', '{{.State.Pid}}', name]).stdout);
  const again = { ...container, ...resolvePid(String(pid)), name };
  await assert.rejects(offerDns(container, 'eth1/4', lan), PipewrightError);
  await offerDns(again, 'eth1/4', lan);
  assert.match(sh('cat /etc/resolv.conf'), /^nameserver 10\.77\.0\.53$/m);
  await offerDns(again, 'eth1/4', undefined);
  assert.equal(sh('cat /etc/resolv.conf'), former);
});

/** What root in a container can put there, one after the other. */
const hostile: Record<string, string> = {
  'nothing at all': 'true',
  "a link to the first process's root": 'ln -s /proc/1/root/etc/resolv.conf /etc/resolv.conf',
  'a link upwards': 'ln -s ../../../../etc/resolv.conf /etc/resolv.conf',
  'a link to another file': 'echo x > /tmp/victim; ln -s /tmp/victim /etc/resolv.conf',
  'a FIFO': 'mkfifo /etc/resolv.conf',
  'a device': 'mknod /etc/resolv.conf c 1 3',
  'a folder': 'mkdir /etc/resolv.conf',
  'a hard link': 'echo x > /etc/other; ln /etc/other /etc/resolv.conf',
  'a huge file': 'truncate -s 100000 /etc/resolv.conf',
  '/etc is a link': 'mv /etc /etc2; ln -s /proc/1/root/etc /etc',
  '/etc is a link upwards': 'rm /etc; ln -s /../../etc /etc',
  '/etc is a file': 'rm /etc; echo x > /etc',
};

test('whatever is at the path, nothing outside of the container is written', { skip }, async (t) => {
  const { container, sh } = containerOf(t, 'dnsh', ['--cap-add=SYS_ADMIN', '--pid=host']);
  sh('umount /etc/resolv.conf /etc/hosts /etc/hostname');
  for (const [what, script] of Object.entries(hostile)) {
    sh(`[ -L /etc ] || rm -rf /etc/resolv.conf; ${script}`);
    await assert.rejects(
      offerDns(container, 'eth1/4', lan),
      (error) => error instanceof PipewrightError && error.code === 'DNS_REFUSED',
      what,
    );
    assert.equal(digest(), untouched, what);
  }
  assert.equal(sh('cat /tmp/victim'), 'x\n');
});

test("the host's own files are refused: its mounts, its /etc, its resolv.conf", { skip }, async (t) => {
  const refused = async (container: Container, why: RegExp): Promise<void> => {
    await assert.rejects(
      offerDns(container, 'eth1/4', lan),
      (error) => error instanceof PipewrightError && error.code === 'DNS_REFUSED' && why.test(error.message),
    );
  };
  await refused(resolvePid(String(process.pid)), /shares the host's files/);
  // Read-only, for the day that this fails.
  const etc = containerOf(t, 'dnse', ['-v', '/etc:/etc:ro']);
  await refused(etc.container, /its \/etc is the host's/);
  const file = containerOf(t, 'dnsf', ['-v', '/etc/resolv.conf:/etc/resolv.conf:ro']);
  await refused(file.container, /its \/etc\/resolv\.conf is the host's/);
  assert.equal(digest(), untouched);
});

test('a read-only container stays so', { skip }, async (t) => {
  const { container } = containerOf(t, 'dnsr', ['--read-only']);
  await assert.rejects(
    offerDns(container, 'eth1/4', lan),
    (error) => error instanceof PipewrightError && error.code === 'DNS_REFUSED' && error.errno === 'EROFS',
  );
});
