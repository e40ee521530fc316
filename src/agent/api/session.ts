/** A command that is run by the agent for somebody else: what it prints is collected, what it makes is kept. */
import type { Host } from '../../apply/host.ts';
import { containerKey } from '../../apply/state.ts';
import type { Detaching, Made, Session } from '../../cli/session.ts';
import type { Container, ContainerRuntime } from '../../containers/container.ts';
import type { ResolveOptions } from '../../containers/resolve.ts';
import { PipewrightError } from '../../errors.ts';
import { acquireLock } from '../../kernel/lock.ts';
import { type ContainerRef, qualifiedName } from '../../model/attachment.ts';
import type { Place } from '../../model/topology.ts';
import type { Agent } from '../agent.ts';

/** What the agent lends to a command. */
export interface AgentSessionParts {
  readonly agent: Agent;
  readonly host: Host;
  readonly resolve: ResolveOptions;
  /** Runtimes whose containers the agent sees start: of others nothing can be kept. */
  readonly watched: ReadonlySet<ContainerRuntime>;
}

/** One command. */
export class AgentSession implements Session {
  readonly onTerminal = false;
  readonly #parts: AgentSessionParts;
  readonly #written: { readonly fd: 1 | 2; readonly text: string }[] = [];

  constructor(parts: AgentSessionParts) {
    this.#parts = parts;
  }

  get resolve(): ResolveOptions {
    return this.#parts.resolve;
  }

  host(): Host {
    return this.#parts.host;
  }

  write(fd: 1 | 2, text: string): void {
    this.#written.push({ fd, text });
  }

  /** All that was written there. */
  output(fd: 1 | 2): string {
    return this.#written
      .filter((piece) => piece.fd === fd)
      .map(({ text }) => text)
      .join('');
  }

  keepsLeasesOf(runtime: ContainerRuntime): boolean {
    return this.#parts.watched.has(runtime);
  }

  /** The caller shows that it waits. */
  progress(): Disposable {
    return { [Symbol.dispose]: () => {} };
  }

  async attached({ container, want, firewall, once }: Made): Promise<readonly string[]> {
    const { agent, watched } = this.#parts;
    const { name, runtime } = container;
    const key = `${qualifiedName(container)}/${want.ifname}`;
    const place = this.#placeOf(container, want.ifname);
    if (place)
      return [`${key} is in ${placeText(place)}, which goes before a command: it will be as said there`];
    if (once) {
      const isKept = agent.status().attachments.some((status) => status.key === key);
      return isKept ? [`${key} is kept as it was, and will be again: see pipewright detach`] : [];
    }
    if (!watched.has(runtime)) {
      // What was named by its process or its namespace has no next life; of the others it has to be said.
      const ends = runtime === 'pid' || runtime === 'netns';
      return ends
        ? []
        : [`${key} ends with the container: the agent does not see containers of ${runtime} start`];
    }
    try {
      await agent.keep({ want: { ...want, container: { runtime, name } }, firewall });
    } catch (error) {
      // It is connected: what cannot be had is its next life.
      if (!(error instanceof PipewrightError)) throw error;
      return [`${key} is connected, and ends with the container, for it cannot be kept: ${error.message}`];
    }
    await this.#markKept(container, want.ifname);
    return [];
  }

  /**
   * Only now: a note that says so, of something that is not kept yet, would be taken for a leftover. Killed in between,
   * the next agent adopts it.
   */
  async #markKept(container: Container, ifname: string): Promise<void> {
    const { state } = this.#parts.host;
    using _lock = await acquireLock(state.lockPath);
    const key = containerKey(container);
    const record = state.record(key, ifname);
    if (record && record.origin !== 'kept') state.writeRecord(key, { ...record, origin: 'kept' });
  }

  async detaching(container: Container, ifnames: readonly string[] | undefined): Promise<Detaching> {
    const { agent, host } = this.#parts;
    const name = qualifiedName(container);
    const noted = host.state
      .records()
      .filter((record) => qualifiedName(record.container) === name)
      .map((record) => record.ifname);
    const names = ifnames ?? [...new Set([...this.#keptOf(name), ...noted])];
    const warnings: string[] = [];
    const forgotten: string[] = [];
    for (const ifname of names) {
      if (await agent.forget(name, ifname)) forgotten.push(ifname);
      const place = this.#placeOf(container, ifname);
      if (place) warnings.push(`${name}/${ifname} is in ${placeText(place)}: it will be made again`);
    }
    return { forgotten, warnings };
  }

  async forget(ref: ContainerRef, ifname: string | undefined): Promise<readonly string[]> {
    // Of Docker first, as everywhere.
    const runtimes = ref.runtime === 'any' ? ['docker', 'podman'] : [ref.runtime];
    for (const runtime of runtimes) {
      const name = qualifiedName({ runtime, name: ref.name });
      const forgotten: string[] = [];
      for (const one of ifname === undefined ? this.#keptOf(name) : [ifname])
        if (await this.#parts.agent.forget(name, one)) forgotten.push(one);
      if (forgotten.length > 0) return forgotten;
    }
    return [];
  }

  #keptOf(container: string): string[] {
    const prefix = `${container}/`;
    return this.#parts.agent
      .status()
      .attachments.filter(({ key }) => key.startsWith(prefix))
      .map(({ key }) => key.slice(prefix.length));
  }

  /** Where a topology file, or a label, asks for the same interface. */
  #placeOf({ runtime, id, name, labels = {} }: Container, ifname: string): Place | undefined {
    if (runtime === 'pid' || runtime === 'netns') return undefined;
    return this.#parts.agent.placeOf({ runtime, id, name, labels }, ifname);
  }
}

function placeText({ file, line }: Place): string {
  return line === 0 ? file : `${file}:${line}`;
}
