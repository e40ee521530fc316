// Who else configures a NIC, by the files that such programs leave.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { uplinkManagers } from '../../src/observe/uplink-managers.ts';

interface Case {
  readonly files: Readonly<Record<string, string>>;
  readonly found: readonly (readonly [name: string, dhcp: boolean, target: string | undefined])[];
}

const cases: Readonly<Record<string, Case>> = {
  nobody: { files: {}, found: [] },
  'ifupdown with DHCP': {
    files: { 'etc/network/interfaces': 'auto eth0\nallow-hotplug eth0\niface eth0 inet dhcp\n' },
    found: [['ifupdown', true, 'ifupdown']],
  },
  'ifupdown, in a file of its own, by hand': {
    files: { 'etc/network/interfaces.d/lan': 'iface eth0 inet static\n  address 10.0.0.5/24\n' },
    found: [['ifupdown', false, 'ifupdown']],
  },
  'ifupdown has it as a port, or another NIC': {
    files: { 'etc/network/interfaces': 'iface eth0 inet manual\niface eth01 inet dhcp\n' },
    found: [],
  },
  'systemd-networkd with a lease': {
    files: {
      'run/systemd/netif/links/7': 'ADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/a.network\n',
      'run/systemd/netif/leases/7': 'ADDRESS=10.0.0.5\n',
    },
    found: [['systemd-networkd', true, 'networkd']],
  },
  'systemd-networkd leaves it alone': {
    files: { 'run/systemd/netif/links/7': 'ADMIN_STATE=unmanaged\n' },
    found: [],
  },
  'netplan, which writes for networkd': {
    files: {
      'etc/netplan/50-cloud-init.yaml':
        'network:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: true\n    eth1: {}\n',
      'run/systemd/netif/links/7': 'ADMIN_STATE=configured\n',
    },
    found: [['netplan', true, 'netplan']],
  },
  'netplan, the DHCP being that of another NIC': {
    files: {
      'etc/netplan/a.yaml':
        'network:\n  ethernets:\n    eth0:\n      addresses: [10.0.0.5/24]\n    eth1:\n      dhcp4: true\n',
    },
    found: [['netplan', false, 'netplan']],
  },
  NetworkManager: {
    files: {
      'run/NetworkManager/devices/7': '[device]\nmanaged=1\nconnection-uuid=11-22\n',
      'var/lib/NetworkManager/internal-11-22-eth0.lease': 'ADDRESS=10.0.0.5\n',
    },
    found: [['NetworkManager', true, 'nmcli']],
  },
  'DHCP clients of their own': {
    files: {
      'proc/41/cmdline': '/sbin/dhclient\0-v\0eth0\0',
      'proc/42/cmdline': '/sbin/dhclient\0-v\0eth1\0',
      'proc/43/cmdline': 'busybox\0udhcpc\0-b\0-i\0eth0\0',
      'proc/44/cmdline': '/usr/sbin/dhcpcd\0-q\0',
      'proc/45/cmdline': 'vim\0notes\0dhclient\0eth0\0',
    },
    found: [
      ['dhclient', true, undefined],
      ['udhcpc', true, undefined],
      ['dhcpcd', true, undefined],
    ],
  },
};

for (const [name, { files, found }] of Object.entries(cases)) {
  test(name, (t) => {
    const root = mkdtempSync(path.join(tmpdir(), 'pwt-managers-'));
    t.after(() => rmSync(root, { recursive: true, force: true }));
    for (const [file, text] of Object.entries(files)) {
      const place = path.join(root, file);
      mkdirSync(path.dirname(place), { recursive: true });
      writeFileSync(place, text);
    }
    const managers = uplinkManagers({ nic: 'eth0', ifindex: 7, root });
    assert.deepEqual(
      managers.map((manager) => [manager.name, manager.dhcp, manager.target]),
      found,
    );
    for (const { evidence } of managers)
      assert.ok(evidence.startsWith(root) || /^process \d+$/.test(evidence));
  });
}

test('a client of another network namespace is none of ours', (t) => {
  const root = mkdtempSync(path.join(tmpdir(), 'pwt-managers-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  for (const [pid, ns] of Object.entries({ self: 'net:[1]', 41: 'net:[2]', 42: 'net:[1]' })) {
    mkdirSync(path.join(root, `proc/${pid}/ns`), { recursive: true });
    symlinkSync(ns, path.join(root, `proc/${pid}/ns/net`));
    writeFileSync(path.join(root, `proc/${pid}/cmdline`), 'dhclient\0eth0\0');
  }
  const managers = uplinkManagers({ nic: 'eth0', ifindex: 7, root });
  assert.deepEqual(
    managers.map(({ evidence }) => evidence),
    ['process 42'],
  );
});
