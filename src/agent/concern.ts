/** Which containers anything is wanted of: what happens to the others of a host is nothing to look at. */
import { labelPrefix } from '../config/topology/labels.ts';
import { type ContainerEvent, type EngineName, eventAttributes } from '../containers/docker.ts';
import { type ContainerRef, qualifiedName } from '../model/attachment.ts';
import type { Selector, Topology } from '../model/topology.ts';
import { type KnownContainer, selects } from '../plan/topology.ts';

/** All that can want something of a container. */
interface Wishes {
  readonly topology: Topology;
  readonly trustLabels: boolean;
  /** The containers of kept commands. */
  readonly kept: readonly ContainerRef[];
}

/** Whether an event can be about a container of which something is wanted; in doubt it is. */
export function isConcerned(
  runtime: EngineName,
  { action, id, name, attributes }: ContainerEvent,
  { topology, trustLabels, kept }: Wishes,
): boolean {
  // By a new name it may be wanted, and by the old one it was.
  if (action === 'rename') return true;
  const container = { runtime, id, name, labels: attributes };
  const said = qualifiedName(container);
  return (
    topology.attachments.some(({ selector }) => maySelect(selector, container)) ||
    kept.some((ref) => qualifiedName(ref) === said) ||
    (trustLabels &&
      (saysNoLabels(runtime) || Object.keys(attributes).some((key) => key.startsWith(labelPrefix))))
  );
}

function maySelect(selector: Selector, container: KnownContainer): boolean {
  if (selector.by === 'name' || selector.by === 'pattern') return selects(selector, container);
  if (saysNoLabels(container.runtime)) return true;
  // What the event itself adds (`image`, `name`) takes the place of a label of that name.
  return selector.by === 'label' ? selector.key in container.labels : selects(selector, container);
}

/** Not every version of Podman has the labels in its events. */
function saysNoLabels(runtime: KnownContainer['runtime']): boolean {
  return runtime === 'podman';
}

/** Whether events say of a container all that can be asked of it: not when a label is, in whose place they say something else. */
export function isToldWhole({ attachments }: Topology): boolean {
  return attachments.every(
    ({ selector }) => selector.by !== 'label' || !eventAttributes.includes(selector.key),
  );
}
