/** The containers that run, with their processes: asked for once in each life, not at each round. */
import { statSync } from 'node:fs';
import type { RunningContainer } from '../apply/wanted.ts';
import { hostNetns } from '../kernel/netns.ts';
import { Bundles } from './bundle.ts';
import { type ContainerEvent, type Engine, eventAttributes } from './docker.ts';
import { startTimeOf } from './proc.ts';

/** Containers of one engine. A list does not say which process is a container's, and 500 questions take long. */
export class ContainerCache {
  readonly #engine: Engine;
  readonly #known = new Map<string, RunningContainer>();
  readonly #bundles = new Bundles();
  /** What an event said of containers that have started since they were last asked about. */
  readonly #started = new Map<string, Pick<ContainerEvent, 'name' | 'attributes'>>();
  /** Of which only an event is known, and not all that the engine has to say. */
  readonly #unasked = new Set<string>();

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** An event of the engine that is about to be looked into. */
  heard({ action, id, name, attributes }: ContainerEvent): void {
    if (action === 'start' && this.#engine.runtime === 'docker') this.#started.set(id, { name, attributes });
    else this.#started.delete(id);
  }

  /** All that run. */
  async all(): Promise<RunningContainer[]> {
    const listed = await this.#engine.listContainers();
    const ids = new Set(listed.map(({ id }) => id));
    for (const id of this.#known.keys()) if (!ids.has(id)) this.#known.delete(id);
    const unknown = listed.filter(({ id, name }) => {
      const known = this.#known.get(id);
      return !known || this.#unasked.has(id) || !isSame(known, name);
    });
    await Promise.all(unknown.map(({ id }) => this.#inspect(id)));
    return listed.flatMap(({ id }) => this.#known.get(id) ?? []);
  }

  /** Names of all that exist, stopped ones too. */
  async existing(): Promise<ReadonlySet<string>> {
    const listed = await this.#engine.listContainers({ all: true });
    return new Set(listed.map(({ name }) => name));
  }

  /** Those of these ids that run, asked anew. */
  async some(ids: readonly string[]): Promise<RunningContainer[]> {
    await Promise.all(ids.map((id) => this.#takeStarted(id) || this.#inspect(id)));
    return ids.flatMap((id) => this.#known.get(id) ?? []);
  }

  /** All that were running when they were last asked for. */
  known(): RunningContainer[] {
    return [...this.#known.values()];
  }

  /** One that has just started need not be asked about. @returns whether all that is needed is known of it */
  #takeStarted(id: string): boolean {
    const said = this.#started.get(id);
    this.#started.delete(id);
    const process = said && this.#bundles.processOf(id);
    if (!process || isOnHost(process.pid)) return false;
    const labels = Object.fromEntries(
      Object.entries(said.attributes).filter(([key]) => !eventAttributes.includes(key)),
    );
    this.#remember({ id, name: said.name, labels }, process);
    this.#unasked.add(id);
    return true;
  }

  async #inspect(id: string): Promise<void> {
    const found = await this.#engine.inspectContainer(id);
    this.#known.delete(id);
    this.#unasked.delete(id);
    const startTime = found && found.pid > 0 ? startTimeOf(found.pid) : undefined;
    // The host's own network is nobody's to connect.
    if (!found || startTime === undefined || found.networkMode === 'host') return;
    this.#remember(found, { pid: found.pid, startTime });
    this.#bundles.learn(found.id, found.pid);
  }

  #remember(
    { id, name, labels }: Pick<RunningContainer['listed'], 'id' | 'name' | 'labels'>,
    { pid, startTime }: { readonly pid: number; readonly startTime: string },
  ): void {
    const { runtime } = this.#engine;
    this.#known.set(id, {
      listed: { runtime, id, name, labels },
      container: { runtime, id, name, pid, netnsPath: `/proc/${pid}/ns/net`, startTime, labels },
    });
  }
}

/** Whether it shares the host's network, which the event does not say. */
function isOnHost(pid: number): boolean {
  const own = statSync(`/proc/${pid}/ns/net`, { throwIfNoEntry: false });
  return own === undefined || own.ino === hostNetns().inode;
}

function isSame({ container }: RunningContainer, name: string): boolean {
  return (
    container.name === name &&
    container.pid !== undefined &&
    startTimeOf(container.pid) === container.startTime
  );
}
