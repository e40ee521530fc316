/** What every runtime's answer is brought down to: who owns a network namespace, and where it is. */

/** Who keeps the container. `pid` and `netns` are no runtime: the namespace was named directly. */
export type ContainerRuntime = 'docker' | 'podman' | 'lxc' | 'pid' | 'netns';

/** A container that runs (or a namespace that exists), as found at one moment. */
export interface Container {
  readonly runtime: ContainerRuntime;
  /** Docker's and Podman's full id; LXC's name; the pid as text; the path of the namespace. */
  readonly id: string;
  /** Docker's name without its slash; the name as it was given for the others. */
  readonly name: string;
  /** Its init process as this process' pid namespace numbers it; undefined for `netns:`. */
  readonly pid: number | undefined;
  /** `/proc/PID/ns/net`, or the path that was named. */
  readonly netnsPath: string;
  /** Field 22 of /proc/PID/stat, clock ticks since boot: with the pid it names one process for ever. */
  readonly startTime: string | undefined;
  readonly labels?: Readonly<Record<string, string>>;
}
