/** Whole processes, as a user at a terminal waits for them. */
import path from 'node:path';
import type { Container } from '../src/containers/container.ts';
import { resolveContainer } from '../src/containers/resolve.ts';
import { root, run } from '../test/lab/run.ts';
import { type Attacher, bridge, type Cleanup, exec, program } from './ground.ts';
import { measure, type Timing } from './rounds.ts';

const address = '10.99.0.2/24';

/** The work of an attachment by one program after the other, as the original does it; fewer of them than it needs. */
function chain(container: string, arping: boolean): string {
  return `set -e
pid=$(docker inspect --type container -f '{{.State.Pid}}' ${container})
guest="nsenter -t $pid -n"
ip link add name vpwb$pid type veth peer name vpwg$pid
ip link set vpwb$pid master ${bridge}
ip link set vpwb$pid up
ip link set vpwg$pid netns $pid
$guest ip link set vpwg$pid name eth1
$guest ip addr add ${address} brd + dev eth1
$guest ip link set eth1 up
${arping ? `$guest arping -q -c 1 -A -I eth1 ${address.split('/')[0]}` : ''}`;
}

async function startContainer(cleanup: Cleanup, name: string, network: string): Promise<Container> {
  const image = run(path.join(root, 'scripts/image.sh'), []).stdout.trim();
  cleanup.add(() => run('docker', ['rm', '-f', name], { expect: 'any' }));
  exec(['docker', 'run', '-d', '--name', name, '--network', network, image]);
  return resolveContainer({ runtime: 'docker', name });
}

/** `docker network create`, on a range that nobody uses. */
function makeDockerNetwork(cleanup: Cleanup, name: string, subnet: string): void {
  cleanup.add(() => run('docker', ['network', 'rm', name], { expect: 'any' }));
  exec(['docker', 'network', 'create', '--subnet', subnet, name]);
}

/** Names of the variants. */
export const names = {
  pipework: `bin/pipework ${bridge} C ${address}`,
  chain: 'docker inspect, ip, nsenter, one after the other',
  chainWithArping: 'the same with arping -c 1 -A',
  dockerConnect: 'docker network connect',
  node: 'node -e 0',
} as const;

export async function measureProcesses(
  cleanup: Cleanup,
  attacher: Attacher,
  rounds: number,
): Promise<Timing[]> {
  const guest = await startContainer(cleanup, 'pwbench-c', 'none');
  makeDockerNetwork(cleanup, 'pwbench-net0', '198.18.40.0/24');
  makeDockerNetwork(cleanup, 'pwbench-net1', '198.18.41.0/24');
  await startContainer(cleanup, 'pwbench-d', 'pwbench-net0');
  const pipework = [program('pipework'), bridge, guest.name, address];
  const unchain = (): void => exec(['ip', 'link', 'del', `vpwb${guest.pid}`]);
  const network = (verb: string): void => exec(['docker', 'network', verb, 'pwbench-net1', 'pwbench-d']);
  return measure(
    [
      { name: names.node, run: () => exec(['node', '-e', '0']) },
      { name: names.pipework, run: () => exec(pipework), after: () => attacher.detach(guest) },
      { name: names.chain, run: () => exec(['sh', '-c', chain(guest.name, false)]), after: unchain },
      { name: names.chainWithArping, run: () => exec(['sh', '-c', chain(guest.name, true)]), after: unchain },
      {
        name: names.dockerConnect,
        run: () => network('connect'),
        after: () => network('disconnect'),
      },
    ],
    { rounds },
  );
}
