/** What is taken on the networks of a topology: addresses, MAC addresses, default routes, whole networks. */
import { qualifiedName, vidOf } from '../../model/attachment.ts';
import type { AttachmentSpec, NetworkSpec, Place, Selector } from '../../model/topology.ts';
import type { SaidAttachment } from './attachment.ts';
import { keyPlaceOf, placeOf } from './document.ts';
import { itemPlace, type SaidNetwork } from './network.ts';
import { formatPlace, type Problem } from './problem.ts';

/** Where a network's packets go: two networks of one segment meet. `vlan` tells apart those on one bridge or uplink. */
interface Segment {
  readonly plug: string;
  readonly vlan: number | undefined;
}

/** What a port with trunks carries without a tag, as its interface itself does, is in none of their VLANs. */
export function segmentOf(network: NetworkSpec, own: Pick<AttachmentSpec, 'vid' | 'trunks'> = {}): Segment {
  const vlan = own.vid ?? (own.trunks === undefined ? vidOf(network) : undefined);
  if (network.kind === 'dummy') return { plug: `dummy ${network.name}`, vlan };
  if ('bridge' in network) return { plug: `bridge ${network.bridge}`, vlan };
  return { plug: `uplink ${network.uplink}`, vlan };
}

/** Different VLANs of one bridge or uplink are kept apart on purpose: what is in one may be in another again. */
export function areApart(a: Segment, b: Segment): boolean {
  return a.plug === b.plug && a.vlan !== b.vlan;
}

/** Where the other one is. */
export const also = (place: Place): string => `see ${formatPlace(place)}`;

interface Use {
  /** An address or a MAC address. */
  readonly what: string;
  readonly segment: Segment;
  readonly place: Place;
  readonly owner: object;
}

/** Grows with each entry that is added, and tells what a further one would take from them. */
export class Occupied {
  readonly #uses = new Map<string, Use[]>();
  /** By container and family: who has the default route. */
  readonly #gateways = new Map<string, AttachmentSpec>();
  /** By network: who is the only one on it. */
  readonly #singles = new Map<string, AttachmentSpec>();

  /** The host's own addresses. @returns those that are taken already */
  addNetwork({ spec, said }: SaidNetwork): Problem[] {
    const segment = segmentOf(spec);
    const uses = spec.hostAddresses.map(({ ip }, at): Use => {
      return { what: ip, segment, place: itemPlace(said, 'hostAddress', at), owner: spec };
    });
    return uses.flatMap((use) => {
      const problems = this.#clashes(use);
      this.#occupy(use);
      return problems;
    });
  }

  /** What an entry contradicts. */
  conflictsOf(entry: SaidAttachment): Problem[] {
    return [
      ...usesOf(entry).flatMap((use) => this.#clashes(use)),
      ...this.#gatewayConflicts(entry),
      ...this.#singleConflicts(entry),
    ];
  }

  add(entry: SaidAttachment): void {
    const { spec } = entry;
    for (const use of usesOf(entry)) this.#occupy(use);
    for (const key of gatewayKeys(spec)) if (!this.#gateways.has(key)) this.#gateways.set(key, spec);
    const single = singleKey(entry);
    if (single !== undefined && !this.#singles.has(single)) this.#singles.set(single, spec);
  }

  #clashes(use: Use): Problem[] {
    const before = this.#uses.get(use.what) ?? [];
    const other = before.find((earlier) => earlier.owner !== use.owner && canMeet(earlier, use));
    if (other === undefined) return [];
    return [
      { place: use.place, message: `${use.what} is given to another as well`, hint: also(other.place) },
    ];
  }

  #occupy(use: Use): void {
    const list = this.#uses.get(use.what);
    if (list) list.push(use);
    else this.#uses.set(use.what, [use]);
  }

  /**
   * Two interfaces that each want to be the default route of one container. Gateways that come with networks give way: a
   * container on two networks has one.
   */
  #gatewayConflicts({ spec, said }: SaidAttachment): Problem[] {
    return gatewayKeys(spec).flatMap((key) => {
      const first = this.#gateways.get(key);
      if (first === undefined || first.ifname === spec.ifname) return [];
      const [name, family] = key.split(' ');
      const message = `${name} has an IPv${family} gateway by ${first.ifname} already`;
      return [{ place: keyPlaceOf(said, 'gateway'), message, hint: also(first.place) }];
    });
  }

  /** Networks that only one container can be on. */
  #singleConflicts(entry: SaidAttachment): Problem[] {
    const key = singleKey(entry);
    const first = key === undefined ? undefined : this.#singles.get(key);
    if (first === undefined) return [];
    const place = placeOf(entry.said, 'network');
    return [
      { place, message: `${entry.spec.network} can be in one container only`, hint: also(first.place) },
    ];
  }
}

function usesOf({ spec, said, network }: SaidAttachment): Use[] {
  if (network === undefined || spec.selector.by !== 'name') return [];
  const segment = segmentOf(network, spec);
  const addresses = typeof spec.addresses === 'string' ? [] : spec.addresses;
  const macs = spec.mac === undefined ? [] : [{ what: spec.mac, place: placeOf(said, 'mac') }];
  const tagged = (spec.vlans ?? []).flatMap(({ vid, cidrs }, at) =>
    cidrs.map(({ ip }) => ({
      what: ip,
      place: placeOf(said, 'vlans', at),
      segment: segmentOf(network, { vid }),
      owner: spec,
    })),
  );
  const plain = [
    ...addresses.map(({ ip }, at) => ({ what: ip, place: itemPlace(said, 'addresses', at) })),
    ...macs,
  ];
  return [...plain.map((use) => ({ ...use, segment, owner: spec })), ...tagged];
}

/** `web 4` */
function gatewayKeys({ selector, gateways }: AttachmentSpec): string[] {
  if (selector.by !== 'name') return [];
  return [...new Set(gateways.map(({ family }) => `${nameIn(selector)} ${family}`))];
}

function singleKey({ network, spec }: SaidAttachment): string | undefined {
  if (network?.kind !== 'phys' && !(network?.kind === 'macvlan' && network.mode === 'passthru'))
    return undefined;
  const { plug, vlan } = segmentOf(network, spec);
  return `${plug} ${vlan}`;
}

function canMeet(a: Use, b: Use): boolean {
  // Link-local and MAC addresses are of one segment only; a dummy leads nowhere.
  const local = a.what.startsWith('fe80:') || /^..(:..){5}$/.test(a.what) || /^dummy /.test(a.segment.plug);
  return local || /^dummy /.test(b.segment.plug)
    ? a.segment.plug === b.segment.plug &&
        a.segment.vlan === b.segment.vlan &&
        !/^dummy /.test(a.segment.plug)
    : !areApart(a.segment, b.segment);
}

/** A plain name is Docker's first of all, so that `docker:web` is no other container. */
export function nameIn({ name, runtime = 'docker' }: Extract<Selector, { by: 'name' }>): string {
  return qualifiedName({ runtime, name });
}
