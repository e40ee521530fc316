/** YAML text -> plain values, each knowing its place. */
import {
  Alias,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  type Scalar,
  type YAMLMap,
  type YAMLSeq,
} from 'yaml';
import type { Place } from '../../model/topology.ts';
import { printable } from '../names.ts';
import type { Complaints } from './problem.ts';
import { syntaxProblems } from './syntax.ts';

/** Something that a file says: the value, where it is written, and the same of everything in it. */
export interface Said {
  readonly value: unknown;
  readonly place: Place;
  /** Where its key is written, when it has one. */
  readonly keyPlace?: Place;
  /** A number or the like as it is written. */
  readonly source?: string;
  readonly parts: ReadonlyMap<string, Said>;
  /** It could not be read, and why has been said. */
  readonly unread?: boolean;
}

/** Where `path` is written below `said`; where it is missing, what it is missing from. */
export function placeOf(said: Said, ...path: readonly PropertyKey[]): Place {
  let found = said;
  for (const step of path) {
    const part = found.parts.get(String(step));
    if (part === undefined) return found.keyPlace ?? found.place;
    found = part;
  }
  return found.place;
}

/** Where the key of `path` is written; the place of a list's entry is its own. */
export function keyPlaceOf(said: Said, ...path: readonly PropertyKey[]): Place {
  const found = partOf(said, path);
  return found?.keyPlace ?? found?.place ?? placeOf(said, ...path);
}

/** What is said at `path`, if anything. */
export function partOf(said: Said, path: readonly PropertyKey[]): Said | undefined {
  return path.reduce<Said | undefined>((found, step) => found?.parts.get(String(step)), said);
}

/** More than a topology needs, and less than the stack holds. */
const deepest = 24;
/** Values that aliases may repeat: ten thousand entries of some fields, but no bomb. */
const mostRepeated = 50_000;
/** Characters. */
const largest = 1 << 20;

/**
 * Reads the text of one file; problems go to `complaints`. Undefined for an empty file, and for one of which nothing can
 * be told. YAML 1.2 (core schema) in one document, with aliases and `<<`; keys are text.
 */
export function readDocument(file: string, text: string, complaints: Complaints): Said | undefined {
  const start = { file, line: 1, column: 1 };
  if (text.length > largest) {
    complaints.add(start, 'the file is larger than 1 MiB, which no topology needs');
    return undefined;
  }
  const foreign = /[^\P{Cc}\t\n\r]/u.exec(text);
  if (foreign) {
    const before = text.slice(0, foreign.index).split('\n');
    const place = { file, line: before.length, column: (before.at(-1)?.length ?? 0) + 1 };
    complaints.add(place, `the character ${printable(foreign[0])} cannot be in a topology file`);
    return undefined;
  }
  const lines = new LineCounter();
  // Its own search for duplicate keys takes minutes for a file of the largest size: see read().
  const options = { lineCounter: lines, prettyErrors: false, stringKeys: true, uniqueKeys: false } as const;
  const document = parseDocument(text.replace(/^\ufeff/, ''), options);
  const placeAt = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { file, line: Math.max(1, line), column: Math.max(1, col) };
  };
  const problems = syntaxProblems(document);
  const told = new Set<number>();
  for (const { at, message, hint } of problems) {
    const place = placeAt(at);
    // One mistake is often several to the parser.
    if (!told.has(place.line)) complaints.add(place, message, hint);
    told.add(place.line);
  }
  if (problems.length > 0 || document.contents === null) return undefined;
  const said = new Reader(placeAt, complaints).read(document.contents, 0);
  return said.value === null ? undefined : said;
}

const kept: readonly (string | undefined)[] = [
  undefined,
  ...['str', 'int', 'float', 'bool', 'null', 'map', 'seq'].map((name) => `tag:yaml.org,2002:${name}`),
];

/** What has a zero before it is octal to YAML 1.1, and not to 1.2; hexadecimal and exponents are no way to write a VLAN. */
const plainNumber = /^-?(0|[1-9]\d*)(\.\d+)?$/;

class Reader {
  readonly #placeAt: (offset: number) => Place;
  readonly #complaints: Complaints;
  readonly #anchors = new Map<string, Node>();
  /** What is being read, to tell an alias of what it is part of. */
  readonly #open = new Set<Node>();
  #aliases = 0;
  #repeated = 0;
  #stopped = false;

  constructor(placeAt: (offset: number) => Place, complaints: Complaints) {
    this.#placeAt = placeAt;
    this.#complaints = complaints;
  }

  /** @param otherwise where the value would be, when nothing is written */
  read(node: unknown, depth: number, otherwise = 0): Said {
    const place = this.#placeAt(startOf(node) ?? otherwise);
    const nothing: Said = { value: null, place, parts: new Map(), unread: true };
    if (this.#stopped) return nothing;
    if (this.#aliases > 0 && ++this.#repeated > mostRepeated) {
      return this.#stop(place, `aliases repeat more than ${mostRepeated} values`);
    }
    if (depth > deepest) return this.#stop(place, 'this is nested too deeply');
    if (isAlias(node)) return this.#readAlias(node, place, depth);
    if (!isMap(node) && !isSeq(node) && !isScalar(node)) return { value: null, place, parts: new Map() };
    if (!kept.includes(node.tag)) {
      this.#complaints.add(place, `the tag ${printable(node.tag ?? '')} means nothing here`);
      return nothing;
    }
    if (node.anchor !== undefined && this.#aliases === 0) this.#anchors.set(node.anchor, node);
    if (isScalar(node)) return this.#readScalar(node, place);
    this.#open.add(node);
    try {
      return isMap(node) ? this.#readMap(node, place, depth) : this.#readSeq(node, place, depth);
    } finally {
      this.#open.delete(node);
    }
  }

  #stop(place: Place, message: string): Said {
    this.#stopped = true;
    this.#complaints.add(place, message);
    return { value: null, place, parts: new Map(), unread: true };
  }

  #readScalar(node: Scalar, place: Place): Said {
    const parts = new Map<string, Said>();
    const { value, source } = node;
    if (typeof value === 'number' && Number.isFinite(value) && !plainNumber.test(source ?? '')) {
      const hint = `write ${value}, or quotes around it where text is meant`;
      this.#complaints.add(place, `${printable(source ?? '')} is not written as a plain number`, hint);
      return { value: null, place, parts, unread: true };
    }
    return typeof value === 'string' || source === undefined
      ? { value, place, parts }
      : { value, place, parts, source };
  }

  #readAlias(node: Alias, place: Place, depth: number): Said {
    const name = printable(node.source);
    const target = this.#anchors.get(node.source);
    if (target === undefined) {
      this.#complaints.add(place, `nothing before this has the anchor &${name}`);
    } else if (this.#open.has(target)) {
      this.#complaints.add(place, `*${name} stands for something that it is a part of: that has no end`);
    } else {
      this.#aliases++;
      const read = this.read(target, depth);
      this.#aliases--;
      // Its parts are where they are written, itself is where it is used.
      return { ...read, place };
    }
    return { value: null, place, parts: new Map(), unread: true };
  }

  #readSeq(node: YAMLSeq, place: Place, depth: number): Said {
    const items = node.items.map((item) => this.read(item, depth + 1, endOf(node)));
    const parts = new Map(items.map((item, at) => [String(at), item]));
    return { value: items.map(({ value }) => value), place, parts };
  }

  #readMap(node: YAMLMap, place: Place, depth: number): Said {
    const parts = new Map<string, Said>();
    const merged: Said[] = [];
    for (const pair of node.items as Pair[]) {
      const { key } = pair;
      const keyPlace = this.#placeAt(startOf(key) ?? startOf(node) ?? 0);
      const name = isScalar(key) ? key.value : undefined;
      const said = this.read(pair.value, depth + 1, endOf(key));
      if (typeof name !== 'string' || name === '')
        this.#complaints.add(keyPlace, 'a key is missing before the colon');
      else if (name === '__proto__') this.#complaints.add(keyPlace, 'this cannot be a key');
      else if (name === '<<' && isScalar(key) && key.type === 'PLAIN')
        merged.push(...this.#mapsOf(said, keyPlace));
      else if (parts.has(name)) this.#complainTwice(name, keyPlace, parts.get(name));
      else parts.set(name, { ...said, keyPlace });
    }
    for (const other of merged) {
      for (const [name, said] of other.parts) if (!parts.has(name)) parts.set(name, said);
    }
    const value = Object.fromEntries([...parts].map(([name, said]) => [name, said.value]));
    return { value, place, parts };
  }

  #complainTwice(name: string, place: Place, first: Said | undefined): void {
    const line = first?.keyPlace?.line;
    this.#complaints.add(place, `"${printable(name)}" is there twice, the first time in line ${line}`);
  }

  /** What `<<` brings in: a map, or a list of maps of which the first goes before. */
  #mapsOf(said: Said, place: Place): Said[] {
    const candidates = Array.isArray(said.value) ? [...said.parts.values()] : [said];
    const maps = candidates.filter(({ value }) => isRecord(value));
    if (maps.length < candidates.filter(({ unread }) => !unread).length && !this.#stopped) {
      this.#complaints.add(place, '<< takes the alias of a map, or a list of those');
    }
    return maps;
  }
}

function isRecord(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function startOf(node: unknown): number | undefined {
  if (!(node instanceof Alias) && !isMap(node) && !isSeq(node) && !isScalar(node)) return undefined;
  return node.range?.[0];
}

function endOf(node: unknown): number {
  return isMap(node) || isSeq(node) || isScalar(node) ? (node.range?.[1] ?? 0) : 0;
}
