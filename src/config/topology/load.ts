/** The texts of topology files -> one Topology, or everything that is wrong with them, each with its place. */
import { PipewrightError } from '../../errors.ts';
import { familyOf } from '../../model/address.ts';
import type { ExpectSpec, Place, Selector, Topology } from '../../model/topology.ts';
import { printable } from '../names.ts';
import { type KnownNetworks, readAttachment } from './attachment.ts';
import { checkAttachments, checkNetworks } from './conflicts.ts';
import { readDocument, type Said } from './document.ts';
import { didYouMean } from './hints.ts';
import { checkHosts, HostPart, readHosts, type SaidPart } from './hosts.ts';
import { complainOf } from './issues.ts';
import { readNetwork, type SaidNetwork } from './network.ts';
import { matchesPattern } from './pattern.ts';
import { Complaints, formatPlace } from './problem.ts';
import { envelopeSchema, expectSchema } from './schema.ts';
import { containerSchema } from './schema-attachment.ts';

/** A file's name, as messages are to show it, and its text. */
export interface TopologyFile {
  readonly file: string;
  readonly text: string;
}

/**
 * What the files say together. An empty file says nothing.
 * @param host this host, where the files are about several
 * @throws TopologyError (BAD_TOPOLOGY) with all problems, in the order of the files and lines
 */
export function parseTopology(files: readonly TopologyFile[], host?: string): Topology {
  const complaints = new Complaints();
  const said = files.flatMap(({ file, text }) => readDocument(file, text, complaints) ?? []);
  const sections = said.map((file) => sectionsOf(file, complaints));
  const names = readHosts(
    sections.flatMap((section) => section.hosts ?? []),
    complaints,
  );
  const parts = (names.length === 0 ? [undefined] : names).map((name) =>
    readPart(sections, new HostPart(name, names, complaints), complaints),
  );
  checkHosts(parts, complaints);
  complaints.throwIfAny(files.map(({ file }) => file));
  const topologies = parts.map(topologyOf);
  const [first] = topologies;
  if (names.length === 0 && first) return first;
  const own = topologies.find((topology) => topology.host === host);
  if (!own) throw notAmong(names, host);
  return { ...own, elsewhere: topologies.filter((topology) => topology !== own) };
}

function notAmong(names: readonly string[], host: string | undefined): PipewrightError {
  return new PipewrightError('BAD_ARGUMENT', {
    op: 'topology',
    subject: 'hosts',
    detail: `the files are about ${names.join(', ')}, and this host is ${host ?? 'none of them'}`,
    hint: 'say which of them this is: --host NAME',
  });
}

/** What is said of one host: everything, where the files name none. */
function readPart(sections: readonly Sections[], host: HostPart, complaints: Complaints): SaidPart {
  const networks = readNetworks(
    sections
      .flatMap((section) => section.networks)
      .filter(([, network]) => host.has(network))
      .map(([name, network]) => [name, host.network(network)]),
    complaints,
  );
  checkNetworks(networks.said, complaints);
  const entries = sections.flatMap((section) => section.attachments);
  const own = entries.filter((entry) => host.has(entry));
  const attachments = own.flatMap((entry) => readAttachment(entry, networks, complaints) ?? []);
  checkAttachments(networks.said, attachments, complaints);
  const selectors = entries.flatMap(selectorOf);
  const told = new Map<string, ExpectSpec>();
  const ownSelectors = own.flatMap(selectorOf);
  const expects = sections
    .flatMap((section) => section.expect)
    .flatMap((entry) => readExpectation(entry, selectors, complaints))
    .filter((expect) => isNew(expect, told, complaints))
    // It is tried from where it begins.
    .filter(({ from }) => ownSelectors.some((selector) => canSelect(selector, from)));
  return { host: host.name, networks: networks.said, attachments, expects };
}

function topologyOf({ host, networks, attachments, expects }: SaidPart): Topology {
  return {
    ...(host !== undefined && { host }),
    networks: networks.map(({ spec }) => spec),
    attachments: attachments.map(({ spec }) => spec),
    expects,
  };
}

interface Sections {
  readonly hosts: Said | undefined;
  readonly networks: readonly (readonly [name: string, network: Said])[];
  readonly attachments: readonly Said[];
  readonly expect: readonly Said[];
}

/** The entries of a file, each to be read by itself: what is wrong with one hides nothing that is wrong with others. */
function sectionsOf(file: Said, complaints: Complaints): Sections {
  const parsed = envelopeSchema.safeParse(withoutExtensions(file.value));
  if (!parsed.success) complainOf(parsed.error.issues, file, complaints);
  const networks = file.parts.get('networks');
  const listed = (key: string): Said[] => {
    const section = file.parts.get(key);
    return Array.isArray(section?.value) ? [...section.parts.values()] : [];
  };
  return {
    hosts: file.parts.get('hosts'),
    networks: networks === undefined || Array.isArray(networks.value) ? [] : [...networks.parts],
    attachments: listed('attachments'),
    expect: listed('expect'),
  };
}

/** Keys that begin with x- are the user's: a place for what aliases repeat, as in Compose files. */
function withoutExtensions(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).filter(([key]) => !key.startsWith('x-')));
}

function readNetworks(
  entries: Sections['networks'],
  complaints: Complaints,
): KnownNetworks & { said: SaidNetwork[] } {
  const places = new Map<string, Place>();
  const said: SaidNetwork[] = [];
  for (const [name, entry] of entries) {
    const place = entry.keyPlace ?? entry.place;
    const first = places.get(name);
    if (first !== undefined) {
      const message = `there is a network "${printable(name)}" already`;
      complaints.add(place, message, `see ${formatPlace(first)}`);
      continue;
    }
    places.set(name, place);
    const network = readNetwork(name, entry, complaints);
    if (network !== undefined) said.push(network);
  }
  const specs = new Map(said.map(({ spec }) => [spec.name, spec]));
  return { said, specs, names: new Set(places.keys()) };
}

function readExpectation(said: Said, selectors: readonly Selector[], complaints: Complaints): ExpectSpec[] {
  const parsed = expectSchema.safeParse(said.value);
  if (!parsed.success) {
    complainOf(parsed.error.issues, said, complaints);
    return [];
  }
  const { from, to } = parsed.data;
  for (const end of [from, to]) {
    if (familyOf(end) !== undefined || selectors.some((selector) => canSelect(selector, end))) continue;
    const names = selectors.flatMap((selector) => (selector.by === 'name' ? [selector.name] : []));
    complaints.add(said.place, `no attachment is of a container "${printable(end)}"`, didYouMean(end, names));
  }
  return [{ ...parsed.data, place: said.place }];
}

/** Whether nothing before says the same, or the opposite. */
function isNew(expect: ExpectSpec, told: Map<string, ExpectSpec>, complaints: Complaints): boolean {
  const { from, to, probe, reachable, place } = expect;
  const key = `${from} ${to} ${JSON.stringify(probe)}`;
  const first = told.get(key);
  if (!first) told.set(key, expect);
  else if (first.reachable !== reachable)
    complaints.add(place, 'the opposite is expected already', `see ${formatPlace(first.place)}`);
  return !first;
}

/** Whether a container of this name can be one that the entry is about: what labels it has, the files do not say. */
function canSelect(selector: Selector, name: string): boolean {
  const [, runtime, own = name] = /^(docker|podman):(.*)$/.exec(name) ?? [];
  const mayBe = (other: string | undefined): boolean => (other ?? runtime) === (runtime ?? other);
  switch (selector.by) {
    case 'name':
      return own === selector.name && mayBe(selector.runtime);
    case 'pattern':
      return matchesPattern(selector.pattern, own) && mayBe(selector.runtime);
    case 'label':
      return true;
    case 'compose':
      // Containers of a service can be given any name (container_name); most are project-service-1.
      return true;
  }
}

/** The selector of an attachment, also of one that has something else wrong with it. */
function selectorOf(said: Said): Selector[] {
  const parsed = containerSchema.safeParse(said.parts.get('container')?.value);
  return parsed.success ? [parsed.data] : [];
}
