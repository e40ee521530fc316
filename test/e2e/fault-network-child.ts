/** One network made or taken away in a process of its own, which ends itself by SIGKILL before a given step. */
import { dropNetworks } from '../../src/apply/drop-networks.ts';
import { Host } from '../../src/apply/host.ts';
import { ensureNetwork } from '../../src/apply/networks.ts';
import { Netns } from '../../src/kernel/netns.ts';
import type { Step } from '../../src/model/operation.ts';
import type { NetworkSpec } from '../../src/model/topology.ts';

/** What the parent asks for. */
export interface NetworkOrder {
  readonly netnsPath: string;
  readonly ovsdbSocket: string;
  /** To be made; absent: all that are noted go. */
  readonly network?: NetworkSpec;
  readonly killAt: number;
}

const { netnsPath, ovsdbSocket, network, killAt } = JSON.parse(process.argv[2] ?? '') as NetworkOrder;
const beforeStep = (_step: Step, index: number): void => {
  if (index === killAt) process.kill(process.pid, 'SIGKILL');
};
await using host = new Host({ netns: Netns.open(netnsPath, 'host'), ovsdbSocket });
if (network) await ensureNetwork(host, network, { beforeStep });
else await dropNetworks(host, host.state.networkRecords(), { beforeStep });
