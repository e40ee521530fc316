/** Says in one line that root is needed, before anything has begun. */
import { readFileSync } from 'node:fs';
import { PipewrightError } from '../errors.ts';

/** CAP_NET_ADMIN and CAP_SYS_ADMIN, from <linux/capability.h>. */
const needed = [
  [12n, 'CAP_NET_ADMIN'],
  [21n, 'CAP_SYS_ADMIN'],
] as const;

/** @throws PipewrightError NOT_PERMITTED, naming what is missing */
export function requirePrivileges(): void {
  const [, hex = '0'] = /^CapEff:\s*([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  const effective = BigInt(`0x${hex}`);
  const missing = needed.filter(([bit]) => (effective & (1n << bit)) === 0n).map(([, name]) => name);
  if (missing.length === 0) return;
  throw new PipewrightError('NOT_PERMITTED', {
    op: 'start',
    subject: 'pipewright',
    detail: `this needs root: ${missing.join(' and ')} ${missing.length > 1 ? 'are' : 'is'} missing`,
    hint: 'run it with sudo',
  });
}
