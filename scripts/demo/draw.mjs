// Draws what is connected to what, from what `pipewright list` and `ip` say is there.
import { must } from './command.mjs';

/**
 * The attachments of these containers, as `pipewright list --json` gives them, by network.
 * @returns a Map from the network's name to its attachments, each with the `vid` of its port
 */
export async function connections(containers) {
  const { attachments } = JSON.parse(await must(['bin/pipewright', 'list', '--json']));
  const networks = new Map();
  for (const attachment of attachments.filter(({ container }) => containers.includes(container))) {
    const [, name, vid] = /^[^:]*:([^@]*)(?:@(\d+))?$/.exec(attachment.network);
    networks.set(name, [...(networks.get(name) ?? []), { ...attachment, vid }]);
  }
  return networks;
}

/** The links of the host that are on this Linux bridge. */
async function portsOf(bridge) {
  const links = JSON.parse(await must(['ip', '-j', 'link', 'show']));
  return links.filter(({ master }) => master === bridge).map(({ ifname }) => ifname);
}

/**
 * Lines of a drawing: uplink, network, ports with their VLANs, interfaces of containers.
 * @param networks from {@link connections}
 * @param notes what is said of an uplink, by its name, and of a network, by its name
 */
export async function draw(networks, notes) {
  const cells = [];
  for (const [name, attachments] of networks) {
    const ports = attachments.map(({ hostIfname }) => hostIfname);
    const uplinks = (await portsOf(name)).filter((port) => !ports.includes(port));
    const left = uplinks.map((uplink) => `${notes[uplink] ?? ''} ─── ${uplink}`);
    const network = notes[name] ? `${name}, ${notes[name]}` : name;
    attachments.forEach(({ hostIfname, vid, ifname, container, addrs }, i) => {
      cells.push({
        left: left[i] ?? '',
        network: i === 0 ? network : '',
        branch: branch(i, attachments.length),
        port: vid === undefined ? hostIfname : `${hostIfname}, tag ${vid}`,
        guest: `${ifname}  ${container}  ${addrs.join(', ')}`,
      });
    });
    cells.push(undefined);
  }
  return layOut(cells.slice(0, -1));
}

function branch(index, count) {
  if (count === 1) return '─';
  if (index === 0) return '┬';
  return index === count - 1 ? '└' : '├';
}

function layOut(rows) {
  const widest = (column) => Math.max(...rows.map((row) => row?.[column].length ?? 0));
  const [left, network, port] = ['left', 'network', 'port'].map(widest);
  const head = [
    ...(left > 0 ? ['LAN'.padEnd(left + 3)] : []),
    'host'.padEnd(network + port + 9),
    'containers',
  ].join(' ');
  const lines = rows.map((row) => {
    if (!row) return '';
    const uplink = row.left === '' ? ''.padEnd(left + 3) : `${row.left.padEnd(left, '─')} ──`;
    const trunk = row.network === '' ? ''.padEnd(network + 2) : `${row.network} `.padEnd(network + 2, '─');
    const cable = `─ ${row.port} `.padEnd(port + 6, '─');
    return `${left > 0 ? `${uplink} ` : ''}${trunk}${row.branch}${cable} ${row.guest}`;
  });
  return [head, '', ...lines];
}
