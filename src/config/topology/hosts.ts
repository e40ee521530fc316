/** Files that are about several hosts: what they say of one of them. */
import { ipToBytes } from '../../model/address.ts';
import type { AddressRange, ExpectSpec, Place } from '../../model/topology.ts';
import { printable } from '../names.ts';
import type { SaidAttachment } from './attachment.ts';
import { placeOf, type Said } from './document.ts';
import { didYouMean } from './hints.ts';
import { complainOf } from './issues.ts';
import { itemPlace, type SaidNetwork } from './network.ts';
import { type Complaints, formatPlace } from './problem.ts';
import { hostsSchema } from './schema.ts';

/** The fields of a network that can be said for each host: `uplink: { a: eth0, b: enp3s0 }`. */
const perHost = ['bridge', 'uplink', 'hostAddress', 'range'] as const;

/** The names under `hosts:`, of all files; none when they are about whatever host reads them. */
export function readHosts(sections: readonly Said[], complaints: Complaints): string[] {
  const names: string[] = [];
  for (const said of sections) {
    const parsed = hostsSchema.safeParse(said.value);
    if (!parsed.success) complainOf(parsed.error.issues, said, complaints);
    else names.push(...parsed.data);
  }
  return [...new Set(names)];
}

/** Finds what is said of one host, and complains of hosts that there are not. */
export class HostPart {
  readonly name: string | undefined;
  readonly #names: readonly string[];
  readonly #complaints: Complaints;

  /** @param host one of `names`; undefined where the files name none */
  constructor(host: string | undefined, names: readonly string[], complaints: Complaints) {
    this.name = host;
    this.#names = names;
    this.#complaints = complaints;
  }

  /** Whether an attachment or network is of this host: it says so, or says nothing of hosts. */
  has(said: Said): boolean {
    const part = said.parts.get('host');
    if (part === undefined) return true;
    const listed = Array.isArray(part.value) ? [...part.parts.values()] : [part];
    for (const one of listed) if (typeof one.value === 'string') this.#check(one.value, one.place);
    return this.name === undefined || listed.some(({ value }) => value === this.name);
  }

  /** A network with the values of this host. */
  network(said: Said): Said {
    let found = said;
    for (const key of perHost) {
      const part = said.parts.get(key);
      if (part && isMap(part.value)) found = this.#pick(found, key, part);
    }
    return found;
  }

  #pick(network: Said, key: string, part: Said): Said {
    for (const [name, value] of part.parts) this.#check(name, value.keyPlace ?? value.place);
    const picked = this.name === undefined ? undefined : part.parts.get(this.name);
    const parts = new Map(network.parts);
    const value = { ...(network.value as Record<string, unknown>) };
    if (picked === undefined) {
      parts.delete(key);
      delete value[key];
    } else {
      parts.set(key, { ...picked, keyPlace: placeOfKey(part) });
      value[key] = picked.value;
    }
    return { ...network, parts, value };
  }

  #check(name: string, place: Place): void {
    if (this.#names.includes(name)) return;
    const message =
      this.#names.length === 0
        ? `"${printable(name)}" is a host, and these files have no hosts`
        : `there is no host "${printable(name)}" in these files`;
    const hint = this.#names.length === 0 ? `say hosts: [${printable(name)}, ...]` : undefined;
    this.#complaints.add(place, message, didYouMean(name, this.#names) ?? hint);
  }
}

function placeOfKey(part: Said): Place {
  return part.keyPlace ?? placeOf(part);
}

function isMap(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What the files say of one host, with the places. */
export interface SaidPart {
  readonly host: string | undefined;
  readonly networks: readonly SaidNetwork[];
  readonly attachments: readonly SaidAttachment[];
  readonly expects: readonly ExpectSpec[];
}

/** One network is on several hosts, and its addresses are the same network's. */
export function checkHosts(parts: readonly SaidPart[], complaints: Complaints): void {
  const seen = new Map<string, Use>();
  for (const part of parts) {
    for (const use of usesOf(part)) {
      const key = `${use.network} ${use.what}`;
      const other = seen.get(key);
      if (other === undefined) seen.set(key, use);
      // One entry can be of several hosts: its container runs on one of them.
      else if (formatPlace(other.place) !== formatPlace(use.place) && other.host !== use.host) {
        complaints.add(
          use.place,
          `${use.what} is given to another on host ${other.host} as well`,
          `see ${formatPlace(other.place)}`,
        );
      }
    }
  }
  checkRanges(parts, complaints);
}

interface Use {
  readonly what: string;
  readonly network: string;
  readonly host: string | undefined;
  readonly place: Place;
}

function usesOf({ host, networks, attachments }: SaidPart): Use[] {
  const hosts = networks.flatMap(({ spec, said }) =>
    spec.hostAddresses.map(({ ip }, at) => ({
      what: ip,
      network: spec.name,
      host,
      place: itemPlace(said, 'hostAddress', at),
    })),
  );
  const guests = attachments.flatMap(({ spec, said }) => {
    if (spec.selector.by !== 'name' || typeof spec.addresses === 'string') return [];
    const { network } = spec;
    return spec.addresses.map(({ ip }, at) => ({
      what: ip,
      network,
      host,
      place: itemPlace(said, 'addresses', at),
    }));
  });
  return [...hosts, ...guests];
}

/** Two hosts that give out addresses of one range would give out the same. */
function checkRanges(parts: readonly SaidPart[], complaints: Complaints): void {
  const giving = parts.flatMap(({ host, networks, attachments }) =>
    networks
      .filter(({ spec }) => spec.kind !== 'dummy')
      .filter(({ spec }) =>
        attachments.some((one) => one.spec.network === spec.name && one.spec.addresses === 'auto'),
      )
      .map((network) => ({ host, network })),
  );
  for (const [at, { host, network }] of giving.entries()) {
    for (const other of giving.slice(0, at)) {
      if (other.network.spec.name !== network.spec.name) continue;
      const both = network.spec.ranges.some((range) =>
        other.network.spec.ranges.some((theirs) => meet(range, theirs)),
      );
      if (!both) continue;
      complaints.add(
        placeOf(network.said, 'range'),
        `hosts ${other.host} and ${host} would give out the same addresses`,
        `say the range of each: range: { ${other.host}: ..., ${host}: ... }`,
      );
    }
  }
}

function meet(a: AddressRange, b: AddressRange): boolean {
  if (a.family !== b.family) return false;
  const [aFirst, aLast, bFirst, bLast] = [a.first, a.last, b.first, b.last].map((ip) =>
    Buffer.from(ipToBytes(ip)),
  );
  if (!aFirst || !aLast || !bFirst || !bLast) return false;
  return Buffer.compare(aFirst, bLast) <= 0 && Buffer.compare(bFirst, aLast) <= 0;
}
