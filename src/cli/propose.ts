/** What the shell's completion proposes that only the host knows. Proposals fail silently: nobody asked for an error. */
import { readdirSync } from 'node:fs';
import { Engine } from '../containers/docker.ts';

/** Names of running containers. */
export async function runningContainers(): Promise<string[]> {
  try {
    return (await new Engine().listContainers()).map(({ name }) => name);
  } catch {
    return [];
  }
}

/** Names of the host's links. */
export function hostLinks(): string[] {
  return readdirSync('/sys/class/net').filter((name) => name !== 'lo');
}
