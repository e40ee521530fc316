/** Who else configures a NIC: found by the files that such programs leave, so that they can be told of the bridge. */
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import path from 'node:path';
import type { ExportTarget } from '../plan/uplink-export.ts';

/** A program that has the NIC. */
export interface UplinkManager {
  readonly name:
    | 'netplan'
    | 'systemd-networkd'
    | 'NetworkManager'
    | 'ifupdown'
    | 'dhclient'
    | 'dhcpcd'
    | 'udhcpc';
  /** The file, or process, that says so. */
  readonly evidence: string;
  /** It has asked a DHCP server, as far as can be seen. */
  readonly dhcp: boolean;
  /** Whose configuration has to know of the bridge; undefined: a client that is started by hand. */
  readonly target: ExportTarget | undefined;
  /** Of NetworkManager: the connection that has the NIC, by its UUID. */
  readonly connection?: string;
}

/** Of which NIC, and where to look. */
export interface ManagedNic {
  readonly nic: string;
  readonly ifindex: number;
  /** In the place of `/`, for tests. */
  readonly root?: string;
}

/** All that are found. Of netplan and what it writes for, netplan alone: the others' files are made from its own. */
export function uplinkManagers(where: ManagedNic): UplinkManager[] {
  const byNetplan = netplan(where);
  return [
    ...byNetplan,
    ...(byNetplan.length > 0 ? [] : [...networkd(where), ...networkManager(where)]),
    ...ifupdown(where),
    ...clients(where),
  ];
}

function text(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function filesIn(folder: string, pattern: RegExp): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => pattern.test(name))
      .sort()
      .map((name) => path.join(folder, name));
  } catch {
    return [];
  }
}

const escaped = (name: string): string => name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** A name below `ethernets:`; cloud-init writes such files too. */
function netplan({ nic, root = '/' }: ManagedNic): UplinkManager[] {
  const folders = ['etc/netplan', 'run/netplan', 'usr/lib/netplan', 'lib/netplan'];
  const section = new RegExp(`^( *)["']?${escaped(nic)}["']?:[^\\n]*\\n((?:\\1 +[^\\n]*\\n?|\\s*\\n)*)`, 'm');
  return folders
    .flatMap((folder) => filesIn(path.join(root, folder), /\.yaml$/))
    .flatMap((file) => {
      const [found, , body = ''] = section.exec(text(file)) ?? [];
      if (found === undefined) return [];
      return [
        {
          name: 'netplan',
          evidence: file,
          dhcp: /dhcp[46]: *(true|yes)/.test(`${found}${body}`),
          target: 'netplan',
        },
      ];
    });
}

/** networkctl's own source: a file for each link, and one for each lease. */
function networkd({ ifindex, root = '/' }: ManagedNic): UplinkManager[] {
  const file = path.join(root, `run/systemd/netif/links/${ifindex}`);
  const [, state = 'unmanaged'] = /^ADMIN_STATE=(.*)$/m.exec(text(file)) ?? [];
  if (state === 'unmanaged' || state === 'linger') return [];
  const dhcp = existsSync(path.join(root, `run/systemd/netif/leases/${ifindex}`));
  return [{ name: 'systemd-networkd', evidence: file, dhcp, target: 'networkd' }];
}

function networkManager({ nic, ifindex, root = '/' }: ManagedNic): UplinkManager[] {
  const file = path.join(root, `run/NetworkManager/devices/${ifindex}`);
  const said = text(file);
  if (!/^managed=(1|true|full)/m.test(said) && !/^connection-uuid=/m.test(said)) return [];
  const [, uuid = ''] = /^connection-uuid=(.*)$/m.exec(said) ?? [];
  const leases = filesIn(path.join(root, 'var/lib/NetworkManager'), /\.lease$/);
  const dhcp = leases.some((lease) => uuid !== '' && lease.includes(uuid) && lease.includes(nic));
  const connection = /^[0-9a-f-]{36}$/i.test(uuid) ? { connection: uuid } : {};
  return [{ name: 'NetworkManager', evidence: file, dhcp, target: 'nmcli', ...connection }];
}

function ifupdown({ nic, root = '/' }: ManagedNic): UplinkManager[] {
  const files = [
    path.join(root, 'etc/network/interfaces'),
    ...filesIn(path.join(root, 'etc/network/interfaces.d'), /^[\w.-]+$/),
  ];
  const stanza = new RegExp(`^\\s*iface\\s+${escaped(nic)}\\s+inet6?\\s+(\\w+)`, 'gm');
  return files.flatMap((file) => {
    const methods = [...text(file).matchAll(stanza)].map(([, method]) => method);
    if (methods.length === 0 || methods.every((method) => method === 'manual')) return [];
    return [{ name: 'ifupdown', evidence: file, dhcp: methods.includes('dhcp'), target: 'ifupdown' }];
  });
}

const clientNames = ['dhclient', 'dhcpcd', 'udhcpc'] as const;

/** DHCP clients that run for this NIC, in our own namespace. dhcpcd without a name serves all NICs. */
function clients({ nic, root = '/' }: ManagedNic): UplinkManager[] {
  const proc = path.join(root, 'proc');
  const home = namespaceOf(path.join(proc, 'self'));
  return filesIn(proc, /^\d+$/).flatMap((folder) => {
    const words = text(path.join(folder, 'cmdline')).split('\0').filter(Boolean);
    // busybox's clients are named in the first or the second word.
    const name = clientNames.find((client) =>
      words.slice(0, 2).some((word) => path.basename(word) === client),
    );
    if (name === undefined || namespaceOf(folder) !== home) return [];
    const isMeant = words.includes(nic) || words.some((word) => word === `-i${nic}`);
    const servesAll = name === 'dhcpcd' && words.slice(1).every((word) => word.startsWith('-'));
    if (!isMeant && !servesAll) return [];
    return [{ name, evidence: `process ${path.basename(folder)}`, dhcp: true, target: undefined }];
  });
}

function namespaceOf(folder: string): string {
  try {
    return readlinkSync(path.join(folder, 'ns/net'));
  } catch {
    return '';
  }
}
