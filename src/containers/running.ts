/** The containers that run, with their processes: asked for once in each life, not at each round. */
import type { RunningContainer } from '../apply/wanted.ts';
import type { Engine } from './docker.ts';
import { startTimeOf } from './proc.ts';

/** Containers of one engine. A list does not say which process is a container's, and 500 questions take long. */
export class ContainerCache {
  readonly #engine: Engine;
  readonly #known = new Map<string, RunningContainer>();

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** All that run. */
  async all(): Promise<RunningContainer[]> {
    const listed = await this.#engine.listContainers();
    const ids = new Set(listed.map(({ id }) => id));
    for (const id of this.#known.keys()) if (!ids.has(id)) this.#known.delete(id);
    const unknown = listed.filter(({ id, name }) => {
      const known = this.#known.get(id);
      return !known || !isSame(known, name);
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
    await Promise.all(ids.map((id) => this.#inspect(id)));
    return ids.flatMap((id) => this.#known.get(id) ?? []);
  }

  /** All that were running when they were last asked for. */
  known(): RunningContainer[] {
    return [...this.#known.values()];
  }

  async #inspect(id: string): Promise<void> {
    const found = await this.#engine.inspectContainer(id);
    this.#known.delete(id);
    const startTime = found && found.pid > 0 ? startTimeOf(found.pid) : undefined;
    // The host's own network is nobody's to connect.
    if (!found || startTime === undefined || found.networkMode === 'host') return;
    const { runtime } = this.#engine;
    const { name, pid, labels } = found;
    this.#known.set(found.id, {
      listed: { runtime, id: found.id, name, labels },
      container: { runtime, id: found.id, name, pid, netnsPath: `/proc/${pid}/ns/net`, startTime, labels },
    });
  }
}

function isSame({ container }: RunningContainer, name: string): boolean {
  return (
    container.name === name &&
    container.pid !== undefined &&
    startTimeOf(container.pid) === container.startTime
  );
}
