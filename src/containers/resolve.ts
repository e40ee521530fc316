/** From the name of a container to its open network namespace. */
import { hasErrno, PipewrightError } from '../errors.ts';
import { hostNetns, Netns } from '../kernel/netns.ts';
import { type ContainerRef, formatContainer } from '../model/attachment.ts';
import type { Container } from './container.ts';
import type { DockerContainer, Engine, EngineName } from './docker.ts';
import type { LxcOptions } from './lxc.ts';
import { resolveNetns, resolvePid, startTimeOf } from './proc.ts';

/** Where the runtimes are, and how long to wait for them. */
export interface ResolveOptions extends LxcOptions {
  /** Instead of DOCKER_HOST or /var/run/docker.sock. */
  readonly dockerSocket?: string;
  /** Instead of CONTAINER_HOST or /run/podman/podman.sock. */
  readonly podmanSocket?: string;
  /** Engines whose connections are kept between calls, for a daemon. */
  readonly docker?: Engine;
  readonly podman?: Engine;
  /** Milliseconds to wait for a container that has no process yet; 3000 when not given. */
  readonly startTimeoutMs?: number;
  /** Milliseconds to wait for an answer of an engine; 30 000 when not given. */
  readonly timeoutMs?: number;
}

/**
 * Finds what `ref` names. `any` asks Docker, Podman and LXC in turn, those that are on this host, and takes the first that
 * knows it. Throws CONTAINER_UNKNOWN, CONTAINER_AMBIGUOUS, CONTAINER_NOT_RUNNING, CONTAINER_GONE, RUNTIME_UNAVAILABLE.
 */
export async function resolveContainer(ref: ContainerRef, options: ResolveOptions = {}): Promise<Container> {
  switch (ref.runtime) {
    case 'pid':
      return resolvePid(ref.name);
    case 'netns':
      return resolveNetns(ref.name);
    case 'docker':
    case 'podman':
      return (await findInEngine(ref.runtime, ref.name, options)) ?? unknown(ref);
    case 'lxc': {
      const { findLxc } = await import('./lxc.ts');
      return (await findLxc(ref.name, options)) ?? unknown(ref);
    }
    case 'any':
      return resolveAny(ref, options);
  }
}

async function resolveAny(ref: ContainerRef, options: ResolveOptions): Promise<Container> {
  const absent: PipewrightError[] = [];
  for (const runtime of ['docker', 'podman'] as const) {
    try {
      const found = await findInEngine(runtime, ref.name, options);
      if (found) return found;
    } catch (error) {
      // A runtime that was never started or was stopped is passed over; one that fails otherwise might know the name.
      const missing = hasErrno(error, 'ENOENT', 'ECONNREFUSED');
      if (!missing || !(error instanceof PipewrightError)) throw error;
      absent.push(error);
    }
  }
  const { findLxc, lxcPresent } = await import('./lxc.ts');
  const found = await findLxc(ref.name, options);
  if (found) return found;
  const stopped = absent.find((error) => hasErrno(error, 'ECONNREFUSED'));
  if (stopped) throw stopped;
  if (absent[0] && absent.length === 2 && !lxcPresent(options)) throw absent[0];
  return unknown(ref);
}

function unknown(ref: ContainerRef): never {
  throw new PipewrightError('CONTAINER_UNKNOWN', {
    op: 'container.resolve',
    subject: formatContainer(ref),
    detail: `No such object: ${ref.name}`,
  });
}

async function findInEngine(
  runtime: EngineName,
  name: string,
  options: ResolveOptions,
): Promise<Container | undefined> {
  const engine = options[runtime] ?? (await engineFor(runtime, options));
  const inspected = await engine.inspectContainer(name);
  if (inspected === undefined) return undefined;
  const { id, pid, name: fullName, labels } = await waitForPid(engine, inspected, options.startTimeoutMs);
  const startTime = startTimeOf(pid);
  if (startTime === undefined) {
    throw new PipewrightError('CONTAINER_GONE', {
      op: `${runtime}.inspect`,
      subject: name,
      detail: `${engine.title} says its process is ${pid}, which does not exist here`,
      hint: 'It just stopped; or this program runs in a pid namespace of its own and needs --pid=host.',
    });
  }
  return { runtime, id, name: fullName, pid, netnsPath: `/proc/${pid}/ns/net`, startTime, labels };
}

async function engineFor(runtime: EngineName, options: ResolveOptions): Promise<Engine> {
  const { Engine } = await import('./docker.ts');
  const socketPath = runtime === 'docker' ? options.dockerSocket : options.podmanSocket;
  const { timeoutMs } = options;
  return new Engine({
    runtime,
    ...(socketPath === undefined ? {} : { socketPath }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  });
}

/**
 * The container once it has a process: `docker start` may be under way in another terminal. Asks every 100 ms for
 * `timeoutMs` (3000). Throws CONTAINER_NOT_RUNNING with the words of the original, CONTAINER_UNKNOWN when it was removed.
 */
export async function waitForPid(
  engine: Engine,
  container: DockerContainer,
  timeoutMs = 3000,
): Promise<DockerContainer> {
  const deadline = Date.now() + timeoutMs;
  let current = container;
  while (current.pid === 0 && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    const again = await engine.inspectContainer(container.id);
    if (again === undefined) return unknown({ runtime: engine.runtime, name: container.name });
    current = again;
  }
  if (current.pid > 0) return current;
  throw new PipewrightError('CONTAINER_NOT_RUNNING', {
    op: `${engine.runtime}.inspect`,
    subject: container.name,
    detail: `${engine.title} inspect returned invalid PID 0`,
    hint: `It is ${current.state || 'not running'}; start it: ${engine.runtime} start ${container.name}`,
  });
}

/**
 * Opens the container's network namespace and makes sure that it is still the same container's: a pid can be used again.
 * Throws CONTAINER_GONE when it is not, CONTAINER_ON_HOST_NETWORK when the namespace is the host's own.
 */
export function openContainerNetns(container: Container): Netns {
  let netns: Netns;
  try {
    netns = Netns.open(container.netnsPath, container.name);
  } catch (error) {
    throw isSameProcess(container) ? error : gone(container, error);
  }
  try {
    // In this order: the open file keeps the namespace, so what is true now stays true of it.
    if (!isSameProcess(container)) throw gone(container);
    if (netns.inode === hostNetns().inode) throw onHostNetwork(container);
    return netns;
  } catch (error) {
    netns[Symbol.dispose]();
    throw error;
  }
}

function isSameProcess({ pid, startTime }: Container): boolean {
  return pid === undefined || startTimeOf(pid) === startTime;
}

function gone(container: Container, cause?: unknown): PipewrightError {
  return new PipewrightError('CONTAINER_GONE', {
    op: 'container.open',
    subject: container.name,
    detail: `its process ${container.pid} ended while it was being connected`,
    hint: 'Run the command again when the container is up.',
    cause,
  });
}

function onHostNetwork(container: Container): PipewrightError {
  return new PipewrightError('CONTAINER_ON_HOST_NETWORK', {
    op: 'container.open',
    subject: container.name,
    hint: "It has no network of its own (--network host); what would be configured is the host's.",
  });
}
