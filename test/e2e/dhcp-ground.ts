/** What the tests of DHCP with an agent share: a bridge with a server on it, and what agent and server tell. */
import type { TestContext } from 'node:test';
import { type DhcpServer, dhcpServer, type ServerProgram } from '../dhcp/servers.ts';
import { plainNetns, run } from '../lab.ts';
import type { AgentHost, RunningAgent } from './agent-ground.ts';

/** The lease of an attachment as the agent tells it. */
export function leaseOf(host: AgentHost, key: string) {
  const line = host.status().find((one) => one.key === key) as
    | { state: string; detail: string; leases?: { state: string; lease?: { server: string } }[] }
    | undefined;
  return { ...line, lease: line?.leases?.[0] };
}

/** A bridge `br1` of the host, and a server on it. */
export async function bridgeWith(
  t: TestContext,
  host: AgentHost,
  program: ServerProgram,
): Promise<DhcpServer> {
  host.ip('link', 'add', 'br1', 'type', 'bridge');
  host.ip('link', 'set', 'br1', 'up');
  const server = await dhcpServer(t, program, { where: host.name, wire: 'lan0', suffix: 'e' });
  host.ip('link', 'set', 'lan0', 'master', 'br1');
  return server;
}

/** A topology with one container on that bridge. */
export const lanOf = (container: string): string => `networks:
  lan: {kind: bridge, bridge: br1}
attachments:
  - {container: ${container}, network: lan, addresses: dhcp}
`;

/** An agent that can be killed and started again. */
export function restartable(t: TestContext, host: AgentHost) {
  let agent: RunningAgent | undefined;
  return {
    kill: async () => void (await agent?.stop('SIGKILL')),
    start: async () => {
      agent = await host.agent(t);
    },
    log: () => agent?.log() ?? '',
  };
}

/** A host on the bridge `br1`, whose NIC is `eth1`. @returns the name of its namespace */
export async function neighbour(
  t: TestContext,
  host: AgentHost,
  wire: string,
  address: string,
): Promise<string> {
  const { name: netns } = await plainNetns(t, `${wire}k`);
  const peer = ['peer', 'name', 'eth1', 'netns', netns];
  run('ip', ['-n', host.name, 'link', 'add', wire, 'type', 'veth', ...peer]);
  run('ip', ['-n', host.name, 'link', 'set', wire, 'master', 'br1', 'up']);
  run('ip', ['-n', netns, 'link', 'set', 'eth1', 'up']);
  run('ip', ['-n', netns, 'addr', 'add', address, 'dev', 'eth1']);
  return netns;
}
