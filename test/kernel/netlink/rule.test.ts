import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addRule, delRule, listAllRules, listRules } from '../../../src/kernel/netlink/rule.ts';
import { parseCidr } from '../../../src/model/address.ts';
import { createLab, type Json } from '../lab.ts';

test('rules of both families: added, listed, deleted', (t) => {
  const lab = createLab(t);
  const rules = [
    { family: 4, priority: 100, src: parseCidr('10.0.0.0/24')!, table: 100 },
    { family: 6, priority: 101, dst: parseCidr('fd00::/64')!, iif: 'lo', fwmark: 7, table: 1000 },
    { family: 4, priority: 102, oif: 'eth9', table: 254 },
  ] as const;
  assert.deepEqual(lab.rtnl.batch(rules.map(addRule)).filter(Boolean), []);
  const [four] = lab.ipJson('rule show priority 100');
  assert.deepEqual([four.src, four.srclen, four.table], ['10.0.0.0', 24, '100']);
  const [six] = lab.ipJson('-6 rule show priority 101');
  assert.deepEqual(
    [six.dst, six.dstlen, six.iif, six.fwmark, six.table],
    ['fd00::', 64, 'lo', '0x7', '1000'],
  );
  assert.equal(lab.ipJson('rule show priority 102')[0].oif, 'eth9');
  const ours = listRules(lab.rtnl).filter(({ priority }) => priority >= 100 && priority <= 102);
  assert.deepEqual(
    ours.map(({ unknown: _, ...rule }) => rule).sort((a, b) => a.priority - b.priority),
    rules,
  );
  assert.throws(() => lab.rtnl.request(addRule(rules[0])), { op: 'rule.add', errno: 'EEXIST' });
  assert.deepEqual(lab.rtnl.batch(rules.map(delRule)).filter(Boolean), []);
  assert.throws(() => lab.rtnl.request(delRule(rules[0])), { op: 'rule.del', errno: 'ENOENT' });
  assert.equal(lab.ipJson('rule show').length, 3);
});

test('a rule as it was read can be added again, with what is not understood', (t) => {
  const lab = createLab(t);
  lab.ip('rule add priority 50 from 10.0.0.0/24 lookup 100 suppress_prefixlength 0 proto static');
  lab.ip('rule add priority 51 fwmark 0x10/0xf0 lookup 101 ipproto tcp dport 80-90');
  lab.ip('-6 rule add priority 52 uidrange 5-10 lookup 500');
  const theirs = (): Json[] => [...lab.ipJson('rule show'), ...lab.ipJson('-6 rule show')];
  const before = theirs();
  const rules = listRules(lab.rtnl).filter(({ priority }) => priority >= 50 && priority < 60);
  assert.equal(rules.length, 3);
  assert.deepEqual(lab.rtnl.batch(rules.map(delRule)).filter(Boolean), []);
  assert.deepEqual(lab.rtnl.batch(rules.map(addRule)).filter(Boolean), []);
  assert.deepEqual(theirs(), before);
  // Rules that look up no table are not listed.
  lab.ip('rule add priority 60 to 10.9.0.0/24 blackhole');
  assert.equal(
    listRules(lab.rtnl, 4).some(({ priority }) => priority === 60),
    false,
  );
  assert.ok(listRules(lab.rtnl, 6).every(({ family }) => family === 6));
});

test('rules that look up no table, inverted ones and those for a type of service, as they were read', (t) => {
  const lab = createLab(t);
  lab.ip('rule add priority 70 iif eth9 prohibit');
  lab.ip('rule add priority 71 not oif eth9 lookup 100');
  lab.ip('rule add priority 72 tos 0x10 iif eth9 lookup 101');
  lab.ip('rule add priority 73 iif eth9 goto 32766');
  const before = lab.ipJson('rule show');
  const rules = listAllRules(lab.rtnl, 4).filter(({ priority }) => priority >= 70 && priority < 80);
  assert.equal(rules.length, 4);
  assert.deepEqual(lab.rtnl.batch(rules.map(delRule)).filter(Boolean), []);
  assert.equal(lab.ipJson('rule show').length, 3);
  assert.deepEqual(lab.rtnl.batch(rules.map(addRule)).filter(Boolean), []);
  assert.deepEqual(lab.ipJson('rule show'), before);
});
