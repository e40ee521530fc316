/** The operations of Open vSwitch and of the firewall, for the executor. Each backend is loaded when first needed. */
import { heldLocks } from '../kernel/lock.ts';
import type { Operation } from '../model/operation.ts';
import type { Backends } from './execute.ts';
import type { Host } from './host.ts';

/** The external_ids key of what pipewright made in Open vSwitch; its value is the group of the transaction. */
export const ovsMark = 'pipewright.group';

/** Backends that work on `host`. */
export function backendsOf(host: Host): Backends {
  return {
    ovs: (op) => runOvs(host, op),
    firewall: (op) => runFirewall(host, op),
  };
}

async function runOvs(host: Host, op: Extract<Operation, { do: `ovs.${string}` }>): Promise<void> {
  if (op.do === 'ovs.mirror.set' || op.do === 'ovs.mirror.del') return runMirror(host, op);
  const [db, { addBridge, delBridge }, { addPort, delPort }, { setPolicing, setPortVlans }] =
    await Promise.all([
      host.ovs(),
      import('../ovs/bridge.ts'),
      import('../ovs/port.ts'),
      import('../ovs/port-settings.ts'),
    ]);
  const onlyIf =
    'onlyGroup' in op && op.onlyGroup !== undefined
      ? { onlyIf: { key: ovsMark, value: String(op.onlyGroup) } }
      : {};
  switch (op.do) {
    case 'ovs.bridge.add':
      return addBridge(db, { name: op.name, externalIds: { [ovsMark]: String(op.group) } });
    case 'ovs.bridge.del':
      await delBridge(db, { name: op.name, onlyIfEmpty: true, ...onlyIf });
      return;
    case 'ovs.port.add': {
      const externalIds = { ...op.externalIds };
      const portExternalIds = { [ovsMark]: String(op.group) };
      const { bridge, port, vlans } = op;
      const { vid: tag, ...others } = vlans;
      const type = op.internal ? 'internal' : undefined;
      await addPort(db, { bridge, port, tag, ...others, type, externalIds, portExternalIds });
      return;
    }
    case 'ovs.port.set': {
      const { vid, ...others } = op.set;
      await setPortVlans(db, op.port, { ...others, ...(vid === undefined ? {} : { tag: vid }) });
      return;
    }
    case 'ovs.port.del':
      await delPort(db, { port: op.port, mirrorKey: ovsMark, ...onlyIf });
      return;
    case 'ovs.policing.set':
      return setPolicing(db, op.port, op.policing);
  }
}

async function runMirror(host: Host, op: Extract<Operation, { do: `ovs.mirror.${string}` }>): Promise<void> {
  const [db, { delMirror, setMirror }] = await Promise.all([host.ovs(), import('../ovs/mirror.ts')]);
  if (op.do === 'ovs.mirror.del') return delMirror(db, { name: op.port, key: ovsMark });
  const { bridge, port, mirror, group } = op;
  await setMirror(db, { ...mirror, bridge, port, key: ovsMark, externalIds: { [ovsMark]: String(group) } });
}

async function runFirewall(host: Host, op: Extract<Operation, { do: `firewall.${string}` }>): Promise<void> {
  const { allowBridge, revokeBridge } = await import('../firewall/docker-user.ts');
  if (op.do === 'firewall.allow') await allowBridge(host.netns, op.bridge, heldLocks());
  else await revokeBridge(host.netns, op.bridge, heldLocks());
}
