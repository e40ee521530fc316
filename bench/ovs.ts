/** A port of Open vSwitch with its VLAN: a transaction of ours against ovs-vsctl. */
import { addBridge, delBridge } from '../src/ovs/bridge.ts';
import { defaultWait } from '../src/ovs/commit.ts';
import { Ovsdb } from '../src/ovs/ovsdb.ts';
import { addPort, delPort } from '../src/ovs/port.ts';
import { run } from '../test/lab/run.ts';
import { ovsBridge as bridge, type Cleanup, exec } from './ground.ts';
import { measure, type Timing } from './rounds.ts';

const port = 'vpwbovs';
const tag = 100;

/** Names of the variants. */
export const names = {
  addPort: 'addPort() with its tag, not waiting',
  vsctl: 'ovs-vsctl --no-wait add-port ... tag=100',
  addPortWaiting: 'addPort(), until ovs-vswitchd has acted',
  vsctlWaiting: 'ovs-vsctl add-port ... tag=100',
} as const;

export async function measureOvs(cleanup: Cleanup, rounds: number): Promise<Timing[]> {
  const db = await Ovsdb.connect();
  cleanup.add(() => db[Symbol.asyncDispose]());
  cleanup.add(() => run('ip', ['link', 'del', port], { expect: 'any' }));
  exec(['ip', 'link', 'add', 'name', port, 'type', 'veth', 'peer', 'name', `${port}p`]);
  exec(['ip', 'link', 'set', port, 'up']);
  cleanup.add(() => delBridge(db, { name: bridge }));
  await addBridge(db, { name: bridge });
  const after = (): unknown => delPort(db, { port });
  const ours = (wait: typeof defaultWait) => () => addPort(db, { bridge, port, tag }, wait);
  const theirs =
    (...flags: readonly string[]) =>
    () =>
      exec(['ovs-vsctl', ...flags, 'add-port', bridge, port, `tag=${tag}`]);
  return measure(
    [
      { name: names.addPort, run: ours({ waitMs: undefined }), after },
      { name: names.vsctl, run: theirs('--no-wait'), after },
      { name: names.addPortWaiting, run: ours(defaultWait), after },
      { name: names.vsctlWaiting, run: theirs(), after },
    ],
    { rounds, warmUp: 5 },
  );
}
