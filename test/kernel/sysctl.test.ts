import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { readLinkConf, readSysctl, writeSysctl } from '../../src/kernel/sysctl.ts';
import { createLab, run } from './lab.ts';

test('a sysctl of the namespace is written and read there, and the host keeps its own', (t) => {
  const lab = createLab(t);
  const path = '/proc/sys/net/ipv4/ip_default_ttl';
  const before = readFileSync(path, 'utf8');
  writeSysctl(lab.netns, 'net/ipv4/ip_default_ttl', 77);
  assert.equal(readSysctl(lab.netns, 'net/ipv4/ip_default_ttl'), '77');
  assert.equal(run(`ip netns exec ${lab.name} sysctl -n net.ipv4.ip_default_ttl`).trim(), '77');
  assert.equal(readFileSync(path, 'utf8'), before);
});

test('a sysctl that is not there reads as undefined, and cannot be written', (t) => {
  const lab = createLab(t);
  assert.equal(readSysctl(lab.netns, 'net/ipv4/conf/eth1/forwarding'), undefined);
  assert.throws(() => writeSysctl(lab.netns, 'net/ipv4/conf/eth1/forwarding', 1), {
    code: 'KERNEL_REFUSED',
    op: 'sysctl.set',
    errno: 'ENOENT',
    subject: `net/ipv4/conf/eth1/forwarding in ${lab.name}`,
  });
  assert.throws(() => writeSysctl(lab.netns, 'net/ipv4/ip_default_ttl', 'many'), { errno: 'EINVAL' });
});

test("nothing but the namespace's own is touched", (t) => {
  const lab = createLab(t);
  assert.throws(() => readSysctl(lab.netns, 'kernel/hostname'), /not a sysctl/);
  assert.throws(() => writeSysctl(lab.netns, 'net/../kernel/hostname', 'x'), /not a sysctl/);
});

test('all settings of a link, of both families; those that cannot be read are left out', (t) => {
  const lab = createLab(t);
  lab.ip('link add eth1 type bridge');
  writeSysctl(lab.netns, 'net/ipv4/conf/eth1/rp_filter', 2);
  const conf = readLinkConf(lab.netns, 'eth1');
  assert.equal(conf['ipv4/rp_filter'], '2');
  assert.equal(conf['ipv6/accept_ra'], '1');
  assert.ok(!('ipv6/stable_secret' in conf));
  assert.deepEqual(readLinkConf(lab.netns, 'eth9'), {});
});
