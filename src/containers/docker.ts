/** Docker's Engine API, which Podman answers too on a socket of its own. Paths carry no version: every daemon refuses some. */
import { PipewrightError } from '../errors.ts';
import { StatusError, UnixHttp, type UnixHttpOptions } from './http.ts';
import { type HttpResponse, WireError } from './http-parser.ts';
import { type Fields, fieldsOf, numberIn, parseJson, stringIn, stringsIn, textMapIn } from './json.ts';

/** What `docker inspect` says, as far as it is used here. */
export interface DockerContainer {
  /** 64 hexadecimal digits. */
  readonly id: string;
  /** Without the slash in front. */
  readonly name: string;
  /** 0 while it does not run. */
  readonly pid: number;
  readonly running: boolean;
  readonly paused: boolean;
  /** `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`. */
  readonly state: string;
  readonly labels: Readonly<Record<string, string>>;
  /** `bridge`, `host`, `none`, `container:ID`, a network's name. */
  readonly networkMode: string;
}

/** A line of `docker ps`, which holds no pid. */
export type ListedContainer = Omit<DockerContainer, 'pid'>;

/** An interface of a container that the engine itself has made. */
export interface Endpoint {
  /** Empty where it has none of its own. */
  readonly mac: string;
  readonly ips: readonly string[];
}

/** A line of `docker events --filter type=container`. */
export interface ContainerEvent {
  /** `start`, `die`, `destroy`, `rename`, `exec_create: sh`, ...; Podman says `died` for `die`. */
  readonly action: string;
  readonly id: string;
  readonly name: string;
  /** Labels and what the event adds, `exitCode` among others. */
  readonly attributes: Readonly<Record<string, string>>;
  /** `SECONDS.NANOSECONDS`: as `since` of the next call it gives this event and what followed it. */
  readonly time: string;
}

export type EngineName = 'docker' | 'podman';

/** Which engine is asked, and where. */
export interface EngineOptions extends UnixHttpOptions {
  readonly runtime?: EngineName;
  readonly socketPath?: string;
}

/** What events add to the labels of a container, in place of labels of these names. */
export const eventAttributes: readonly string[] = ['image', 'name'];

const titles = { docker: 'Docker', podman: 'Podman' } as const;
const variables = { docker: 'DOCKER_HOST', podman: 'CONTAINER_HOST' } as const;
const defaultSockets = { docker: '/var/run/docker.sock', podman: '/run/podman/podman.sock' } as const;
/** What a container can be called by; nothing else is ever put into a path. */
const nameForm = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

/**
 * Where the engine's socket is: what DOCKER_HOST (for Podman CONTAINER_HOST) says, else the usual place. Throws
 * RUNTIME_UNAVAILABLE when the variable names anything but a unix socket: a namespace is always on this host.
 */
export function engineSocket(runtime: EngineName, env: NodeJS.ProcessEnv = process.env): string {
  const variable = variables[runtime];
  const value = env[variable];
  if (value === undefined || value === '') return defaultSockets[runtime];
  if (/^unix:\/\/\/[^\0]+$/.test(value)) return value.slice('unix://'.length);
  throw new PipewrightError('RUNTIME_UNAVAILABLE', {
    op: `${runtime}.connect`,
    subject: `${variable}=${JSON.stringify(value)}`,
    detail: 'only a unix socket of this host can be used',
    hint: `Unset ${variable}, or set it to unix://${defaultSockets[runtime]}.`,
  });
}

/** Whether a variable says where the engine's socket is. */
export function isSocketChosen(runtime: EngineName, env: NodeJS.ProcessEnv = process.env): boolean {
  return Boolean(env[variables[runtime]]);
}

/** One container engine. Every call throws RUNTIME_UNAVAILABLE when it does not answer, or answers nonsense. */
export class Engine {
  readonly runtime: EngineName;
  /** `Docker` or `Podman`, for messages. */
  readonly title: string;
  readonly #http: UnixHttp;

  constructor(options: EngineOptions = {}) {
    this.runtime = options.runtime ?? 'docker';
    this.title = titles[this.runtime];
    this.#http = new UnixHttp(options.socketPath ?? engineSocket(this.runtime), options);
  }

  get socketPath(): string {
    return this.#http.socketPath;
  }

  /** Whether it answers, and what it is. `docker version` */
  async ping(): Promise<{ readonly version: string; readonly apiVersion: string }> {
    const response = await this.#get('ping', this.socketPath, '/version');
    const fields = this.#fields('ping', this.socketPath, response.body);
    return { version: stringIn(fields, 'Version') ?? '', apiVersion: stringIn(fields, 'ApiVersion') ?? '' };
  }

  /**
   * By name, id or unique beginning of an id; undefined when there is none. `docker inspect --type container`.
   * Throws CONTAINER_AMBIGUOUS.
   */
  async inspectContainer(nameOrId: string): Promise<DockerContainer | undefined> {
    if (!nameForm.test(nameOrId)) return undefined;
    const response = await this.#get('inspect', nameOrId, `/containers/${encodeURIComponent(nameOrId)}/json`);
    if (response.status === 404) return undefined;
    const container = readInspected(this.#fields('inspect', nameOrId, response.body));
    if (container === undefined) throw this.#nonsense('inspect', nameOrId);
    return container;
  }

  /** The interfaces that it has from the engine's networks: `docker inspect`, NetworkSettings; none when it is gone. */
  async endpoints(id: string): Promise<Endpoint[]> {
    const response = await this.#get('inspect', id, `/containers/${encodeURIComponent(id)}/json`);
    if (response.status === 404) return [];
    const settings = fieldsOf(this.#fields('inspect', id, response.body).NetworkSettings);
    return Object.values(fieldsOf(settings?.Networks) ?? {}).map((one) => {
      const fields = fieldsOf(one);
      const ips = ['IPAddress', 'GlobalIPv6Address'].flatMap((name) => stringIn(fields, name) || []);
      return { mac: stringIn(fields, 'MacAddress') ?? '', ips };
    });
  }

  /** Those that run, or with `all` every one. `docker ps [--all]` */
  async listContainers(options: { readonly all?: boolean } = {}): Promise<ListedContainer[]> {
    const path = `/containers/json${options.all ? '?all=true' : ''}`;
    const response = await this.#get('list', this.socketPath, path);
    const listed = parseJson(response.body);
    if (!Array.isArray(listed)) throw this.#nonsense('list', this.socketPath);
    return listed.map((entry) => {
      const container = readListed(fieldsOf(entry));
      if (container === undefined) throw this.#nonsense('list', this.socketPath);
      return container;
    });
  }

  /**
   * What happens to containers from now on, or first what happened since the time of an earlier event.
   * `docker events --filter type=container`. Ends when `signal` is aborted or the engine stops.
   */
  async *events(since?: string, signal?: AbortSignal): AsyncGenerator<ContainerEvent, void, undefined> {
    // Nothing narrower: Podman's filter for `die` finds nothing, because it calls the event `died`.
    const query = new URLSearchParams({ filters: '{"type":["container"]}' });
    if (since !== undefined) query.set('since', since);
    try {
      for await (const line of linesOf(this.#http.stream(`/events?${query}`, signal))) {
        const event = readEvent(line);
        if (event) yield event;
      }
    } catch (error) {
      if (error instanceof StatusError) this.#check('events', this.socketPath, error.response);
      throw this.#unavailable('events', error);
    }
  }

  /** Closes the connections that `keepAlive` keeps. */
  close(): void {
    this.#http.close();
  }

  async #get(op: string, subject: string, path: string): Promise<HttpResponse> {
    let response: HttpResponse;
    try {
      response = await this.#http.get(path);
    } catch (error) {
      throw this.#unavailable(op, error);
    }
    this.#check(op, subject, response);
    return response;
  }

  /** Lets through what has an answer, and 404. */
  #check(op: string, subject: string, response: HttpResponse): void {
    if (response.status === 200 || response.status === 404) return;
    const message = stringIn(fieldsOf(parseJson(response.body)), 'message')?.replace(/[\s\p{C}]+/gu, ' ');
    // "Multiple IDs found with provided prefix" (Docker, with status 500 or 400), "more than one result for" (Podman).
    const ambiguous = message !== undefined && /multiple ids found|more than one|ambiguous/i.test(message);
    throw new PipewrightError(ambiguous ? 'CONTAINER_AMBIGUOUS' : 'RUNTIME_UNAVAILABLE', {
      op: `${this.runtime}.${op}`,
      subject,
      detail: message ?? `${this.title} answered with status ${response.status}`,
      hint: ambiguous ? 'Give the whole name, or more digits of the id.' : undefined,
    });
  }

  #fields(op: string, subject: string, body: string): Fields {
    const fields = fieldsOf(parseJson(body));
    if (fields === undefined) throw this.#nonsense(op, subject);
    return fields;
  }

  #nonsense(op: string, subject: string): PipewrightError {
    return new PipewrightError('RUNTIME_UNAVAILABLE', {
      op: `${this.runtime}.${op}`,
      subject,
      errno: 'EPROTO',
      detail: `what answers at ${this.socketPath} does not speak the Docker Engine API`,
    });
  }

  #unavailable(op: string, error: unknown): unknown {
    if (error instanceof PipewrightError || !(error instanceof Error)) return error;
    const errno = (error as NodeJS.ErrnoException).code;
    const path = this.socketPath;
    const variable = variables[this.runtime];
    const details: Record<string, readonly [detail: string, hint: string]> = {
      ENOENT: [
        `${this.title} is not there: no socket ${path}`,
        `Start it, or say where its socket is: ${variable}=unix://PATH.`,
      ],
      ECONNREFUSED: [
        `${this.title} is not running: nothing listens at ${path}`,
        `Start it: systemctl start ${this.runtime}`,
      ],
      EACCES: [`no permission to use ${path}`, 'Run this as root.'],
    };
    const [detail, hint] = (errno && details[errno]) || [
      `${this.title} at ${path} does not answer: ${error.message}`,
      error instanceof WireError ? `Look at its log: journalctl -u ${this.runtime}` : undefined,
    ];
    return new PipewrightError('RUNTIME_UNAVAILABLE', {
      op: `${this.runtime}.${op}`,
      subject: path,
      errno,
      detail,
      hint,
      cause: error,
    });
  }
}

function readInspected(json: Fields): DockerContainer | undefined {
  const id = stringIn(json, 'Id');
  const name = stringIn(json, 'Name');
  const state = fieldsOf(json.State);
  const pid = numberIn(state, 'Pid');
  if (id === undefined || name === undefined || state === undefined || pid === undefined) return undefined;
  return {
    id,
    name: name.replace(/^\//, ''),
    pid,
    running: state.Running === true,
    paused: state.Paused === true,
    state: stringIn(state, 'Status') ?? '',
    labels: textMapIn(fieldsOf(json.Config), 'Labels'),
    networkMode: stringIn(fieldsOf(json.HostConfig), 'NetworkMode') ?? '',
  };
}

function readListed(json: Fields | undefined): ListedContainer | undefined {
  const id = stringIn(json, 'Id');
  if (json === undefined || id === undefined) return undefined;
  // A container that others link to is listed with those names too: /other/alias.
  const name = stringsIn(json, 'Names').find((each) => each.lastIndexOf('/') <= 0) ?? id;
  const state = stringIn(json, 'State') ?? '';
  return {
    id,
    name: name.replace(/^\//, ''),
    running: state === 'running' || state === 'paused',
    paused: state === 'paused',
    state,
    labels: textMapIn(json, 'Labels'),
    networkMode: stringIn(fieldsOf(json.HostConfig), 'NetworkMode') ?? '',
  };
}

function readEvent(line: string): ContainerEvent | undefined {
  const json = fieldsOf(parseJson(line));
  const action = stringIn(json, 'Action');
  const actor = fieldsOf(json?.Actor);
  const id = stringIn(actor, 'ID');
  if (action === undefined || id === undefined) return undefined;
  const attributes = textMapIn(actor, 'Attributes');
  // As text: the number has more digits than a JSON number keeps here. Inside a string the quotes would be escaped.
  const nanoseconds = /"timeNano":(\d{10,})/.exec(line)?.[1] ?? `${numberIn(json, 'time') ?? 0}000000000`;
  const time = `${nanoseconds.slice(0, -9)}.${nanoseconds.slice(-9)}`;
  return { action, id, name: attributes.name ?? '', attributes, time };
}

async function* linesOf(pieces: AsyncIterable<Buffer>): AsyncGenerator<string, void, undefined> {
  let rest = Buffer.alloc(0);
  for await (const piece of pieces) {
    rest = Buffer.concat([rest, piece]);
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      // Cut as bytes: a character may be split between two pieces.
      yield rest.subarray(0, end).toString();
      rest = rest.subarray(end + 1);
    }
  }
  if (rest.length > 0) yield rest.toString();
}
