import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DhcpClient } from '../../src/config/pipework-address.ts';
import { clientCommand, fileNameOf, hostNameOf, programOf, staysRunning } from '../../src/dhcp/command.ts';

const files = {
  scriptDir: '/s',
  pidFile: '/p',
  leaseFile: '/l',
  dhclientOptions: ['-sf', '/s/dhclient'],
  owner: '42:7',
};
const common = { ifname: 'eth1', guest: 'web', options: ['-t', '3'] };
const owner = ['-e', 'PIPEWRIGHT_OWNER=42:7'];

const commands: Record<DhcpClient, string[]> = {
  udhcpc: ['udhcpc', '-q', '-i', 'eth1', '-x', 'hostname:web', '-p', '/p', '-s', '/s/udhcpc', '-t', '3'],
  'udhcpc-f': ['udhcpc', '-i', 'eth1', '-x', 'hostname:web', '-p', '/p', '-s', '/s/udhcpc', '-t', '3'],
  dhclient: ['dhclient', '-v', 'eth1', '-pf', '/p', '-lf', '/l', '-sf', '/s/dhclient', ...owner, '-t', '3'],
  'dhclient-f': [
    'dhclient',
    '-v',
    'eth1',
    '-pf',
    '/p',
    '-lf',
    '/l',
    '-sf',
    '/s/dhclient',
    ...owner,
    '-t',
    '3',
  ],
  dhcpcd: ['dhcpcd', '-q', 'eth1', '-h', 'web', '-L', '-c', '/s/dhcpcd', ...owner, '-t', '3'],
};
const dhcpClients = Object.keys(commands) as DhcpClient[];
for (const client of dhcpClients) {
  test(`what ${client} runs`, () => {
    assert.deepEqual(clientCommand({ ...common, client }, files), commands[client]);
  });
}

test('udhcpc-f never stays in the foreground', () => {
  const argv = clientCommand({ ...common, client: 'udhcpc-f', options: ['-f', '-n'] }, files);
  assert.deepEqual(argv.slice(-1), ['-n']);
  assert.ok(!argv.includes('-f'));
});

test('programs, and which of them stay', () => {
  assert.deepEqual(dhcpClients.map(programOf), ['udhcpc', 'udhcpc', 'dhclient', 'dhclient', 'dhcpcd']);
  assert.deepEqual(dhcpClients.filter(staysRunning), ['udhcpc-f', 'dhclient-f', 'dhcpcd']);
});

test('names in files and host names', () => {
  assert.equal(fileNameOf('web_1.a-b'), 'web_1.a-b');
  assert.equal(fileNameOf('/run/netns/blue'), '%2Frun%2Fnetns%2Fblue');
  assert.equal(fileNameOf('a+b'), 'a%2Bb');
  assert.match(fileNameOf('é'.repeat(200)), /^[0-9a-f]{64}$/);
  assert.doesNotThrow(() => fileNameOf('\ud800'));
  assert.equal(hostNameOf('/run/netns/blue'), 'run-netns-blue');
  assert.equal(hostNameOf('a"; b'), 'a---b');
  assert.equal(hostNameOf('x'.repeat(99)).length, 63);
});
