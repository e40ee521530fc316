// What is on this host, so that after the demo it can be said that nothing of it is left.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { run } from './command.mjs';
import { mark } from './ground.mjs';

/** A digest of the host's resolver configuration, which DHCP clients like to rewrite. */
export function resolverDigest() {
  try {
    return createHash('sha256').update(readFileSync('/etc/resolv.conf')).digest('hex');
  } catch (error) {
    return error.code;
  }
}

const commands = [
  { what: 'link', words: ['ip', '-o', 'link', 'show'] },
  { what: 'address', words: ['ip', '-o', 'addr', 'show'] },
  { what: 'route', words: ['ip', 'route', 'show', 'table', 'all'] },
  { what: 'namespace', words: ['ip', 'netns', 'list'] },
  { what: 'container', words: ['docker', 'ps', '-a', '--format', '{{.Names}}'], needs: 'docker' },
  { what: 'Open vSwitch bridge', words: ['ovs-vsctl', 'list-br'], needs: 'ovs' },
  {
    what: 'Open vSwitch port',
    words: ['ovs-vsctl', '--no-headings', '--columns=name', 'list', 'Port'],
    needs: 'ovs',
  },
  { what: 'firewall rule', words: ['iptables', '-w', '-S'] },
  { what: 'firewall rule', words: ['ip6tables', '-w', '-S'] },
];

/** Everything of these kinds, a line each. @param present { docker, ovs }: whether they can be asked */
export async function inventory(present) {
  const lists = await Promise.all(
    commands
      .filter(({ needs }) => needs === undefined || present[needs])
      .map(async ({ what, words }) => {
        const { stdout } = await run(words);
        return stdout.split('\n').flatMap((line) => (line.trim() === '' ? [] : `${what}: ${line.trim()}`));
      }),
  );
  return new Set([...lists.flat(), ...notes(), ...processes()]);
}

/** The files in which pipewright notes what it made. */
function notes() {
  const root = '/run/pipewright';
  return read(() => readdirSync(root, { recursive: true }), []).flatMap((name) => {
    const text = read(() => readFileSync(`${root}/${name}`, 'utf8'), '');
    return text === '' ? [] : `file: ${root}/${name}: ${text.trim()}`;
  });
}

/** Servers and clients that work for a container of the demo. */
function processes() {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      const words = read(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8'), '').split('\0');
      return /(dnsmasq|udhcpc|dhclient|dhcpcd)$/.test(words[0]) ? `process: ${pid} ${words.join(' ')}` : [];
    });
}

function read(from, otherwise) {
  try {
    return from();
  } catch {
    return otherwise;
  }
}

/**
 * What was not there before and is the demo's: it carries its mark or is one of its host ends. Other programs may have
 * made other things meanwhile.
 */
export function leftOver(before, after, hostEnds) {
  const names = [mark, ...hostEnds];
  return [...after].filter((line) => !before.has(line) && names.some((name) => line.includes(name)));
}
