// What no test may leave changed: files of the host outside the state directory, by checksum.
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import path from 'node:path';

/**
 * Files, folders with all that is in them, and (`flat`) folders with the files that are right in them: configuration, and
 * where DHCP clients, servers and what they call write by themselves.
 */
const usualPlaces = [
  '/etc',
  '/root/',
  '/run/resolvconf',
  '/run/systemd/resolve',
  '/run/NetworkManager',
  '/run/dhcpcd',
  '/run/dnsmasq',
  '/run/kea',
  '/var/lib/dhcp',
  '/var/lib/dhcpcd',
  '/var/lib/kea',
  '/var/lib/misc',
  '/var/lib/NetworkManager',
  '/usr/lib/dhcpcd',
  '/usr/share/udhcpc',
  '/usr/sbin/dhclient-script',
  '/usr/local/bin/',
  '/usr/local/sbin/',
];

/** What others write while the tests run, and who. */
const others = [
  // ovsdb-server: its database, where no link leads to /var/lib, as the tests make bridges in it.
  /^\/etc\/openvswitch\//,
  // dockerd makes its key when it starts for the first time; setup starts it.
  /^\/etc\/docker\/key\.json$/,
  // The kernel's list of mounts, where it is a file.
  /^\/etc\/mtab$/,
  // Shells, editors and other programs of whoever works here note what they did.
  /^\/root\/\.([a-z_]*history|\w*hst|viminfo\w*|[\w.-]*\.json[\w.-]*|Xauthority)$/,
  // systemd-resolved, NetworkManager: what they know of the host's own links. Their resolv.conf is not in here.
  /^\/run\/systemd\/resolve\/netif\//,
  /^\/run\/NetworkManager\/(?!.*resolv\.conf$)/,
  /^\/var\/lib\/NetworkManager\/(timestamps|seen-bssids|.*\.lease)$/,
];

/** The packages that are installed; when somebody installs others meanwhile, most of these places change. */
const packages = '/var/lib/dpkg/status';
/** And these do not, or not by themselves. */
const neverPackaged =
  /^\/(etc\/(resolv\.conf|hosts|hostname|network\/.*|netplan\/.*)|run\/.*|var\/lib\/(?!dpkg).*|root\/.*)$/;

const digestOf = (bytes) => createHash('sha256').update(bytes).digest('hex').slice(0, 16);

/** Larger files are programs, known by their size and time, so that this takes no seconds. */
const mostDigested = 1_000_000;

function lineOf(file) {
  try {
    const { mode, size, mtimeMs } = lstatSync(file);
    const kind = mode & 0o170000;
    if (kind === 0o120000) return `-> ${readlinkSync(file)}`;
    if (kind !== 0o100000) return mode.toString(8);
    return `${mode.toString(8)} ${size > mostDigested ? `${size} ${mtimeMs}` : digestOf(readFileSync(file))}`;
  } catch (error) {
    // Gone since it was listed.
    return error.code === 'ENOENT' ? undefined : error.code;
  }
}

function filesIn(place) {
  const flat = place.endsWith('/');
  const entries = (() => {
    try {
      return readdirSync(place, { withFileTypes: true, recursive: !flat });
    } catch {
      return [];
    }
  })();
  const inside = entries
    .filter((entry) => !flat || !entry.isDirectory())
    .map((entry) => path.join(entry.parentPath ?? entry.path, entry.name));
  return [path.join(place), ...inside];
}

/** Path -> mode and checksum (or where a link leads) of everything that is to stay as it is. */
export function hostFiles(places = usualPlaces) {
  const found = new Map();
  for (const file of places.flatMap(filesIn)) {
    if (others.some((pattern) => pattern.test(file))) continue;
    const line = lineOf(file);
    if (line !== undefined) found.set(file, line);
  }
  // Wherever its name leads to.
  if (places.includes('/etc')) {
    for (const file of ['/etc/resolv.conf', packages]) {
      try {
        found.set(`content of ${file}`, digestOf(readFileSync(file)));
      } catch {
        // Not every system has it.
      }
    }
  }
  return found;
}

/** `new: FILE`, `gone: FILE`, `changed: FILE`, for what is not as it was. */
export function differences(before, after) {
  const all = [...new Set([...before.keys(), ...after.keys()])].sort();
  const installed = `content of ${packages}`;
  const isPackaged = before.get(installed) !== after.get(installed);
  return all
    .filter((file) => file !== installed && before.get(file) !== after.get(file))
    .filter((file) => !isPackaged || neverPackaged.test(file.replace('content of ', '')))
    .map((file) => `${before.has(file) ? (after.has(file) ? 'changed' : 'gone') : 'new'}: ${file}`);
}
