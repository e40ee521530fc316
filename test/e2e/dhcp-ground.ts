/** What the tests of DHCP with an agent share: a bridge with a server on it, and what agent and server tell. */
import type { TestContext } from 'node:test';
import { type DhcpServer, dhcpServer, type ServerProgram } from '../dhcp/servers.ts';
import type { AgentHost } from './agent-ground.ts';

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
