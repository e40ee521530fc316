/** What tells this host from others, machine-id(5). */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';

let machine: string | undefined;

/** Tells hosts apart that have containers of one name. */
export function machineId(): string {
  machine ??= readMachineId();
  return machine;
}

function readMachineId(): string {
  try {
    const id = readFileSync('/etc/machine-id', 'utf8').trim();
    if (id !== '') return id;
  } catch {
    // Not every system has one.
  }
  return hostname();
}
