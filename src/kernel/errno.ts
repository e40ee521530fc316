/** The kernel's errno numbers as names and as errors for people. */
import { constants } from 'node:os';
import { getSystemErrorMap } from 'node:util';
import { type ErrorCode, type ErrorDetails, PipewrightError } from '../errors.ts';

/** Two names of one number in os.constants, of which iproute2 and strace print these. */
const preferred: Readonly<Record<number, string>> = { 11: 'EAGAIN', 35: 'EDEADLK', 95: 'EOPNOTSUPP' };
/** Numbers that the kernel uses inside and lets slip out. */
const internal: Readonly<Record<number, string>> = { 512: 'ERESTARTSYS', 524: 'ENOTSUPP' };

let names: Map<number, string> | undefined;

/** `EEXIST` of 17; `errno 9999` of a number without a name. */
export function errnoName(errno: number): string {
  names ??= new Map([
    ...Object.entries(constants.errno).map(([name, nr]) => [nr, name] as const),
    ...[preferred, internal].flatMap((table) =>
      Object.entries(table).map(([nr, name]) => [Number(nr), name] as const),
    ),
  ]);
  return names.get(errno) ?? `errno ${errno}`;
}

/** What was refused, and the code when it is not the usual one. */
export interface Refusal extends ErrorDetails {
  readonly code?: ErrorCode | undefined;
}

/** The error for a positive errno: NOT_PERMITTED for EPERM and EACCES, else KERNEL_REFUSED or the given code. */
export function refused(errno: number, { code, ...details }: Refusal): PipewrightError {
  const name = errnoName(errno);
  const denied = name === 'EPERM' || name === 'EACCES';
  const detail = details.detail ?? (denied ? undefined : getSystemErrorMap().get(-errno)?.[1]);
  return new PipewrightError(denied ? 'NOT_PERMITTED' : (code ?? 'KERNEL_REFUSED'), {
    ...details,
    errno: name,
    detail,
  });
}

/** The same for an exception of node:fs; anything else is thrown on as it is, being a mistake of the program. */
export function refusedByFs(error: unknown, details: Refusal): PipewrightError {
  const errno = error instanceof Error && 'errno' in error ? error.errno : undefined;
  if (typeof errno !== 'number') throw error;
  return refused(-errno, { ...details, cause: error });
}
