/** What the shell's completion proposes that only the host knows. Proposals fail silently: nobody asked for an error. */
import { readdirSync } from 'node:fs';
import { enginesOfHost } from '../containers/engines.ts';

/** Names of running containers. */
export async function runningContainers(): Promise<string[]> {
  try {
    const lists = await Promise.allSettled(enginesOfHost().map((engine) => engine.listContainers()));
    const names = lists
      .flatMap((list) => (list.status === 'fulfilled' ? list.value : []))
      .map(({ name }) => name);
    return [...new Set(names)];
  } catch {
    return [];
  }
}

/** Names of the host's links. */
export function hostLinks(): string[] {
  return readdirSync('/sys/class/net').filter((name) => name !== 'lo');
}
