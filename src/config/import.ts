/** A script or crontab full of `pipework` lines -> a topology file that says the same. Pure. */

import { PipewrightError } from '../errors.ts';
import { formatCidr } from '../model/address.ts';
import { type FoundLine, findPipework } from './import-lines.ts';
import { addPassthrough, containerOf } from './import-passthrough.ts';
import { printable } from './names.ts';
import { type PipeworkAttach, type PipeworkPassthrough, parsePipework, parseVid } from './pipework.ts';
import { PipeworkRefusal } from './pipework-messages.ts';
import { readContainer } from './topology/selector.ts';
import { settle } from './topology/settle.ts';
import { Refused } from './topology/values.ts';
import {
  type WrittenAttachment,
  type WrittenEntry,
  type WrittenNetwork,
  writeTopology,
} from './topology/write.ts';

/** What became of a script. */
export interface Imported {
  /** A file that parseTopology takes; comments tell what was left out. */
  readonly yaml: string;
  /** `line 3: ...`: what was left out or has to be looked at. */
  readonly notes: readonly string[];
}

/**
 * Reads `pipework` lines, with sudo, a path, quotes, continuation lines, crontab fields or `&&` around them. `route`,
 * `rule` and `tc` lines go to the attachment that they are about. What cannot be told without running the script
 * (variables, `$(...)`) or said in a topology is left as a comment, and noted.
 */
export function importPipework(text: string): Imported {
  const draft = new Draft();
  const lines = findPipework(text);
  const later: { readonly found: FoundLine; readonly command: PipeworkPassthrough }[] = [];
  for (const found of lines) {
    draft.comments.push(...found.comments);
    if (found.why !== undefined) draft.leaveOut(found, found.why);
    else if (found.argv !== undefined) {
      const command = draft.try(found, () => parsePipework(found.argv ?? [], { linkExists: isNic }));
      if (command?.do === 'attach') draft.try(found, () => draft.attach(found, command));
      else if (command?.do === 'passthrough') later.push({ found, command });
      else if (command !== undefined) draft.leaveOut(found, `this does not connect a container`);
    }
  }
  for (const { found, command } of later) {
    const why = addPassthrough(command, draft.attachments());
    if (why !== undefined) draft.leaveOut(found, why);
  }
  return draft.finish();
}

/** The host is not asked: what has none of pipework's prefixes can only be a link that exists. */
function isNic(name: string): boolean {
  return !/^(br|ovs|route|rule|tc|dummy)/.test(name);
}

/** What is likely to be a NIC by its name. */
const nicName = /^(eth|en|em|wl|bond|team|p\d+p|usb)\w*(\.\d+)?$/;

class Draft {
  readonly comments: string[] = [];
  readonly #notes: { readonly line: number; readonly note: string }[] = [];
  readonly #networks = new Map<string, WrittenNetwork>();
  readonly #entries: { readonly found: FoundLine; entry: WrittenEntry }[] = [];

  note(line: number, note: string): void {
    this.#notes.push({ line, note });
  }

  /** The line as a comment where it would have gone. */
  leaveOut({ line, text }: FoundLine, why: string): void {
    this.note(line, `left out: ${why}: ${printable(text)}`);
    this.comments.push(...leftOut({ line, text }, why));
  }

  attachments(): WrittenAttachment[] {
    return this.#entries.flatMap(({ entry }) => entry.value ?? []);
  }

  /** A refusal leaves the line out. */
  try<T>(found: FoundLine, act: () => T): T | undefined {
    try {
      return act();
    } catch (error) {
      if (error instanceof PipeworkRefusal)
        this.leaveOut(
          found,
          lower([...error.lines, ...(error.hint === undefined ? [] : [error.hint])].join(' ')),
        );
      else if (error instanceof PipewrightError) this.leaveOut(found, error.message);
      else throw error;
      return undefined;
    }
  }

  attach(found: FoundLine, command: PipeworkAttach): void {
    const { line } = found;
    const container = nameOf(command.guest);
    const why = container instanceof Refused ? `"${command.guest}" ${container.why}` : whyNot(command);
    if (why !== undefined || container instanceof Refused) {
      this.leaveOut(found, why ?? '');
      return;
    }
    const network = this.#networkOf(found, command);
    const { address } = command;
    if (address.how === 'dhcp' && (address.client !== 'dhcp' || address.options.length > 0)) {
      this.note(
        line,
        `a file does not choose the DHCP client, nor its options: ${printable(found.words.join(' '))}`,
      );
    }
    if (command.hostIfname !== undefined)
      this.note(line, `the host's end is not named: -l ${command.hostIfname}`);
    if (!command.firewall) this.note(line, '--no-firewall goes to the command line of apply or the agent');
    const value: WrittenAttachment = {
      container,
      network,
      ...(command.ifname !== undefined && command.ifname !== 'eth1' && { ifname: command.ifname }),
      ...(address.how === 'dhcp' ? { addresses: 'dhcp' as const } : staticOf(address.addrs)),
      ...(command.mac !== undefined && { mac: command.mac }),
    };
    const same = this.#entries.find(({ entry }) => JSON.stringify(entry.value) === JSON.stringify(value));
    if (same !== undefined) this.note(line, `the same as line ${same.found.line}`);
    else this.#entries.push({ found, entry: { comments: this.comments.splice(0), value } });
  }

  #networkOf({ line }: FoundLine, { hostif, directPhys, vlanText }: PipeworkAttach): string {
    const vlan = vlanText === undefined ? undefined : parseVid(vlanText);
    const tagged = vlan === undefined ? {} : { vlan };
    const suffix = vlan === undefined ? '' : `-${vlan}`;
    const name = hostif.replace(/[^a-zA-Z0-9_.-]/g, '-').replace(/^[^a-zA-Z0-9]+/, '');
    if (isNic(hostif)) {
      if (!nicName.test(hostif)) {
        this.note(
          line,
          `${printable(hostif)} is taken to be a NIC; if it is a bridge, say kind: bridge or ovs`,
        );
      }
      return directPhys
        ? this.#network(`${name}${suffix}-phys`, { kind: 'phys', uplink: hostif, ...tagged })
        : this.#network(`${name}${suffix}`, { kind: 'macvlan', uplink: hostif, ...tagged });
    }
    if (hostif.startsWith('br'))
      return this.#network(`${name}${suffix}`, { kind: 'bridge', bridge: hostif, ...tagged });
    if (hostif.startsWith('ovs'))
      return this.#network(`${name}${suffix}`, { kind: 'ovs', bridge: hostif, ...tagged });
    return this.#network('dummy', { kind: 'dummy' });
  }

  /** The name of this network in the file; another's name gets a number. */
  #network(name: string, network: WrittenNetwork): string {
    for (let number = 1; ; number++) {
      const candidate = number === 1 && name !== '' ? name : `${name}_${number}`;
      const there = this.#networks.get(candidate);
      if (there === undefined) this.#networks.set(candidate, network);
      if (there === undefined || JSON.stringify(there) === JSON.stringify(network)) return candidate;
    }
  }

  /** The file, without what contradicts itself in the script. */
  finish(): Imported {
    const entries = (): WrittenEntry[] => this.#entries.map(({ entry }) => entry);
    const yaml = settle({
      write: () => this.#write(),
      get entries() {
        return entries();
      },
      leaveOut: (at, why) => this.#dropEntry(at, why),
    });
    const notes = this.#notes.sort((a, b) => a.line - b.line);
    return { yaml, notes: notes.map(({ line, note }) => `line ${line}: ${note}`) };
  }

  #dropEntry(at: number, why: string): void {
    const dropped = this.#entries[at];
    if (!dropped) return;
    const { line, text } = dropped.found;
    this.note(line, `left out: ${why}: ${printable(text)}`);
    dropped.entry = { comments: [...dropped.entry.comments, ...leftOut(dropped.found, why)] };
  }

  #write() {
    const used = new Set(this.attachments().map(({ network }) => network));
    const networks = new Map([...this.#networks].filter(([name]) => used.has(name)));
    return writeTopology(networks, [...this.#entries.map(({ entry }) => entry), { comments: this.comments }]);
  }
}

function leftOut({ line, text }: Pick<FoundLine, 'line' | 'text'>, why: string): string[] {
  return [`line ${line} was left out: ${why}`, `  ${text}`];
}

/** As a file has it. */
function nameOf(guest: string): string | Refused {
  const name = containerOf(guest);
  const selector = readContainer(name);
  if (selector instanceof Refused) return selector;
  if (selector.by !== 'name') return new Refused('is a pattern');
  if (/^([0-9a-f]{12}|[0-9a-f]{64})$/.test(selector.name))
    return new Refused('is the id of a container, which has a name as well');
  return name;
}

/** Why a topology cannot say this, if it cannot. */
function whyNot({ hostif, byMac, once, ifname }: PipeworkAttach): string | undefined {
  if (byMac !== undefined) return 'a file names the NIC, not its MAC address';
  if (once) return '--once is for what is not kept';
  if (/^ib\d/.test(hostif)) return 'InfiniBand is not in a file';
  return ifname === 'lo' ? 'lo is the loopback interface' : undefined;
}

function staticOf(addrs: Extract<PipeworkAttach['address'], { how: 'static' }>['addrs']) {
  const addresses = addrs.flatMap(({ cidr }) => (cidr === undefined ? [] : [formatCidr(cidr)]));
  const gateways = addrs.flatMap(({ gateway }) => (gateway === undefined ? [] : [gateway.ip]));
  return {
    ...(addresses.length > 0 && { addresses: oneOrAll(addresses) }),
    ...(gateways.length > 0 && { gateway: oneOrAll(gateways) }),
  };
}

function oneOrAll(list: string[]): string | string[] {
  const [first = ''] = list;
  return list.length === 1 ? first : list;
}

/** A sentence of pipework's as a part of one of ours. */
function lower(sentence: string): string {
  const begin = /^[A-Z][a-z]/.test(sentence) ? sentence.charAt(0).toLowerCase() : sentence.charAt(0);
  return `${begin}${sentence.slice(1)}`.replace(/[ .?!]+$/, '');
}
