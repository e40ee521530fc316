/** Options of DHCPv4, both ways, with each of three servers: judged by what passes, by the routes and by `status`. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dhcpServer, programOf, type ServerProgram, serverPrograms } from '../dhcp/servers.ts';
import { type Capture, capture } from '../dhcp/v4/ground.ts';
import { type Container, cidrs, ipRoutes, run, runContainer, skipUnless } from '../lab.ts';
import { agentHost, soon } from './agent-ground.ts';

/** Patience for what takes a second or so. */
const patience = 60_000;

/** More than one option holds, and nothing of it in common. */
const long = Array.from({ length: 12 }, (_, nr) => `department-${nr}.branch-${nr}.example${nr}`);
/** As many as a resolver takes. */
const taken = long.slice(0, 6);
/** dnsmasq refuses to send more than one option holds. */
const searchOf = (program: ServerProgram): readonly string[] => (program === 'dnsmasq' ? taken : long);

interface Spot {
  readonly program: ServerProgram;
  /** The first three bytes of all addresses. */
  readonly network: string;
  readonly web: Container;
  readonly seen: Capture;
}

/** As `pipewright status --json` has it. */
interface ShownLease {
  readonly dns: readonly string[];
  readonly search: readonly string[];
  readonly ntp: readonly string[];
  readonly vendorSpecific?: string;
}

const topologyOf = (spots: readonly Spot[]): string => `networks:
${spots.map((_, nr) => `  n${nr}: {kind: bridge, bridge: br${nr}}`).join('\n')}
attachments:
${spots
  .map(
    ({ web, network }, nr) => `  - container: ${web.name}
    network: n${nr}
    addresses: dhcp
    dns: container
    dhcp:
      hostname: db.lan.test
      vendorClass: pipewright
      userClass: [gold, b]
      requestAddress: ${network}.77
      options: {43: "02:01:ff"}`,
  )
  .join('\n')}
`;

/** What tcpdump has of a message, in one line. */
const messageIn = ({ seen }: Spot, kind: string): string =>
  seen.lines().find((line) => line.includes(`length 1: ${kind}`)) ?? '';

test('options as the user says them, and what servers say: 43, 60, 77 and 81; 42, 43, 119 in pieces, 121 before 3', async (t) => {
  const programs = serverPrograms.map((program) => `program:${programOf[program]}` as const);
  if (skipUnless(t, 'root', 'docker', ...programs, 'program:tcpdump')) return;
  const host = await agentHost(t, 'dhcpx');
  const spots = await Promise.all(
    serverPrograms.map(async (program, nr): Promise<Spot> => {
      const network = `10.${80 + nr}.0`;
      host.ip('link', 'add', `br${nr}`, 'type', 'bridge');
      host.ip('link', 'set', `br${nr}`, 'up');
      const server = await dhcpServer(t, program, { where: host.name, wire: `lan${nr}`, suffix: `x${nr}` });
      host.ip('link', 'set', `lan${nr}`, 'master', `br${nr}`);
      const routes = [`10.9.0.0/16 ${network}.3`, `0.0.0.0/0 ${network}.2`];
      const said = { search: searchOf(program), classNtp: `${network}.123`, vendor: '0a0b0c', routes };
      await server.start({ network, pool: [50, 99], lease: 600, ...said });
      const web = runContainer(t, `dhcpx${nr}`);
      return { program, network, web, seen: await capture(t, server.netns, 's0') };
    }),
  );
  host.write(topologyOf(spots));
  const agent = await host.agent(t);
  await soon(() => spots.every(({ web }) => cidrs(web.pid, 'eth1').length === 1), patience);
  const resolvConf = (name: string): string =>
    run('docker', ['exec', name, 'cat', '/etc/resolv.conf']).stdout;
  for (const spot of spots) {
    const { program, network, web } = spot;
    assert.deepEqual(cidrs(web.pid, 'eth1'), [`${network}.77/24`], `${program}: ${agent.log()}`);
    // Option 3 names the server itself.
    assert.deepEqual(
      ipRoutes(web.pid)
        .map(({ dst, gateway = 'direct' }) => `${dst} ${gateway}`)
        .sort(),
      [`${network}.0/24 direct`, `10.9.0.0/16 ${network}.3`, `default ${network}.2`].sort(),
      program,
    );
    await soon(() => messageIn(spot, 'ACK') !== '', patience);
    const ack = messageIn(spot, 'ACK');
    assert.match(
      ack,
      new RegExp(`Default-Gateway \\(3\\), length 4: ${network.replaceAll('.', '\\.')}\\.1`),
      program,
    );
    assert.equal(ack.split('(119)').length > 2, program !== 'dnsmasq', `119 in pieces: ${ack}`);
    for (const kind of ['Discover', 'Request']) {
      const message = messageIn(spot, kind);
      assert.match(message, /Vendor-Option \(43\), length 3: 2\.1\.255/, program);
      assert.match(message, /Vendor-Class \(60\), length 10: "pipewright"/, program);
      assert.match(message, /User-Class \(77\), length 7: instance#1: "gold", .*instance#2: "b"/, program);
      assert.match(message, /Hostname \(12\), length 11: "db\.lan\.test"/, program);
      assert.match(message, /FQDN \(81\), length 16: \[SE\] "\^Bdb\^Clan\^Dtest\^@"/, program);
    }
    const line = host.status().find(({ key }) => key === `${web.name}/eth1`);
    const { leases = [] } = line as unknown as { leases?: { lease: ShownLease }[] };
    const { dns, ntp, vendorSpecific, search: domains } = leases[0]?.lease ?? { search: [] };
    assert.deepEqual(
      { dns, ntp, vendorSpecific, domains },
      {
        dns: [`${network}.53`],
        ntp: [`${network}.123`],
        vendorSpecific: '01030a0b0c',
        domains: searchOf(program),
      },
      program,
    );
    await soon(() => resolvConf(web.name).includes('time server'), patience);
    const text = resolvConf(web.name);
    assert.ok(text.includes(`\nsearch ${taken.join(' ')}\nnameserver ${network}.53\n`), text);
    assert.ok(text.includes(`\n# time server: ${network}.123\n`), text);
  }
  assert.match(host.on('status').stdout, /vendor options 01:03:0a:0b:0c/);
});
