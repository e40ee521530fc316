import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readlinkSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { hostNetns, inNetns, Netns } from '../../src/kernel/netns.ts';
import { createLab } from './lab.ts';

const here = (): string => readlinkSync('/proc/thread-self/ns/net');

test('inNetns runs the body there, returns what it returns, and comes back', (t) => {
  const lab = createLab(t);
  const home = here();
  assert.equal(inNetns(lab.netns, here), `net:[${lab.netns.inode}]`);
  assert.equal(lab.netns.inode, statSync(`/run/netns/${lab.name}`).ino);
  assert.equal(here(), home);
  assert.equal(home, `net:[${hostNetns().inode}]`);
});

test('inNetns comes back when the body throws, and from within another', (t) => {
  const [one, two] = [createLab(t), createLab(t)];
  const home = here();
  const fails = (): never => {
    throw new RangeError('no');
  };
  assert.throws(() => inNetns(one.netns, fails), RangeError);
  assert.equal(here(), home);
  const way = inNetns(one.netns, () => [
    inNetns(two.netns, here),
    here(),
    inNetns(hostNetns(), here),
    inNetns(one.netns, here),
  ]);
  const inOne = `net:[${one.netns.inode}]`;
  assert.deepEqual(way, [`net:[${two.netns.inode}]`, inOne, home, inOne]);
  assert.equal(here(), home);
});

test('an asynchronous body does not compile', (t) => {
  const lab = createLab(t);
  // @ts-expect-error what follows an await would run in another namespace
  const refused = (): unknown => inNetns(lab.netns, async () => 3);
  assert.equal(typeof refused, 'function');
  const value: number = inNetns(lab.netns, () => 3);
  assert.equal(value, 3);
});

test('asynchronous reads stay at home, also when the first comes after a visit', async (t) => {
  const lab = createLab(t);
  lab.ip('link add pwtonly type veth peer name pwtpeer');
  assert.match(
    inNetns(lab.netns, () => readlinkSync('/proc/thread-self/ns/net')),
    new RegExp(`${lab.netns.inode}`),
  );
  const seen = await Promise.all(
    Array.from({ length: 8 }, () => readFile('/proc/thread-self/net/dev', 'utf8')),
  );
  assert.ok(seen.every((text) => !text.includes('pwtonly')));
});

test('a path that is no namespace is refused with its errno', () => {
  const error = { code: 'KERNEL_REFUSED', op: 'netns.open', errno: 'ENOENT' };
  assert.throws(() => Netns.open('/run/netns/pwt-k-none', 'none'), error);
  using wrong = Netns.open('/proc/self/ns/uts', 'uts');
  assert.throws(() => inNetns(wrong, here), { op: 'setns', errno: 'EINVAL', subject: 'uts' });
});

test('without rights it says so', { skip: process.getuid?.() === 0 ? false : 'needs root' }, (t) => {
  const lab = createLab(t);
  const inode = lab.netns.inode;
  process.seteuid?.(65534);
  try {
    assert.throws(() => inNetns(lab.netns, here), { code: 'NOT_PERMITTED', op: 'setns', errno: 'EPERM' });
  } finally {
    process.seteuid?.(0);
  }
  assert.equal(inNetns(lab.netns, here), `net:[${inode}]`);
});

test('a child process started in the body lives there', (t) => {
  const lab = createLab(t);
  const child = inNetns(
    lab.netns,
    () => spawnSync('readlink', ['/proc/self/ns/net'], { encoding: 'utf8' }).stdout,
  );
  assert.equal(child.trim(), `net:[${lab.netns.inode}]`);
});
