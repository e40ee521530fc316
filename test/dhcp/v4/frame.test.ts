import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { clientFrame, receivedFrame } from '../../../src/dhcp/v4/frame.ts';
import { run } from '../../lab.ts';

const srcMac = Buffer.from('020000000001', 'hex');

/** A file of libpcap with one frame. */
function pcap(frame: Uint8Array): Buffer {
  const head = Buffer.alloc(24);
  head.writeUInt32LE(0xa1b2c3d4, 0);
  head.writeUInt16LE(2, 4);
  head.writeUInt16LE(4, 6);
  head.writeUInt32LE(65535, 16);
  head.writeUInt32LE(1, 20);
  const record = Buffer.alloc(16);
  record.writeUInt32LE(frame.length, 8);
  record.writeUInt32LE(frame.length, 12);
  return Buffer.concat([head, record, frame]);
}

test('both checksums are right, for tcpdump too, and for an odd number of bytes', (t) => {
  for (const length of [300, 301]) {
    const file = path.join(tmpdir(), `pwt-frame-${process.pid}`);
    t.after(() => run('rm', ['-f', file]));
    const payload = Buffer.alloc(length, 7);
    writeFileSync(file, pcap(clientFrame({ srcMac, srcIp: '0.0.0.0', dstIp: '255.255.255.255' }, payload)));
    const { stdout } = run('tcpdump', ['-nvvr', file, '-e']);
    assert.match(stdout, /0\.0\.0\.0\.68 > 255\.255\.255\.255\.67: \[udp sum ok\]/);
    assert.match(stdout, /02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff/);
    assert.doesNotMatch(stdout, /bad cksum/);
  }
});

/** What a server's answer looks like: the ports turned round, the checksum as `sum` makes it. */
function answer(change: (frame: Buffer) => void): Buffer {
  const frame = clientFrame({ srcMac, srcIp: '10.0.0.1', dstIp: '10.0.0.9' }, Buffer.from('hello'));
  frame.writeUInt16BE(67, 34);
  frame.writeUInt16BE(68, 36);
  change(frame);
  return frame;
}

test('an answer is read with a whole checksum, none, and one that hardware was to complete', () => {
  // The sum does not change when the ports do.
  assert.deepEqual(receivedFrame(answer(() => {}))?.payload.toString(), 'hello');
  assert.ok(receivedFrame(answer((frame) => frame.writeUInt16BE(0, 40))));
  // CHECKSUM_PARTIAL: the pseudo header alone, 0a00+0001+0a00+0009+0011+000d
  assert.ok(receivedFrame(answer((frame) => frame.writeUInt16BE(0x1428, 40))));
  assert.equal(receivedFrame(answer((frame) => frame.writeUInt16BE(0x1429, 40))), undefined);
});

test('what is damaged, cut, a fragment, or to another port is no answer', () => {
  const whole = answer(() => {});
  for (let length = 0; length < whole.length; length++)
    assert.equal(receivedFrame(whole.subarray(0, length)), undefined);
  const bad: ((frame: Buffer) => void)[] = [
    (frame) => frame.writeUInt16BE(0x86dd, 12),
    (frame) => frame.writeUInt8(0x46, 14),
    (frame) => frame.writeUInt8(0x44, 14),
    (frame) => frame.writeUInt8(6, 23),
    (frame) => frame.writeUInt16BE(0x2000, 20),
    (frame) => frame.writeUInt16BE(69, 36),
    (frame) => frame.writeUInt16BE(0xffff, 38),
    (frame) => frame.writeUInt16BE(3, 38),
    (frame) => frame.writeUInt8(frame.readUInt8(44) ^ 1, 44),
    (frame) => frame.writeUInt16BE(0xffff, 16),
  ];
  for (const change of bad) assert.equal(receivedFrame(answer(change)), undefined);
  // Filled up to the least size of a frame.
  assert.equal(receivedFrame(Buffer.concat([whole, Buffer.alloc(20)]))?.payload.toString(), 'hello');
});
