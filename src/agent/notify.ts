/** Tells the service manager how the agent is doing: sd_notify(3), without libsystemd. */
import { closeSync, writeSync } from 'node:fs';
import { connectUnix } from '../kernel/unix-socket.ts';

/** Assignments of sd_notify(3) that are used here; `STATUS=` is a line for people. */
export type Notification = 'READY=1' | 'STOPPING=1' | 'RELOADING=1' | `STATUS=${string}`;

/**
 * Sends to the socket that the service manager named. That it cannot be told is no reason to stop working.
 * @param socket a path, or `@NAME` for the abstract namespace; by default $NOTIFY_SOCKET
 * @returns whether it was told
 */
export function notify(state: Notification, socket = process.env.NOTIFY_SOCKET): boolean {
  if (socket === undefined || !/^[/@]./.test(socket)) return false;
  try {
    const fd = connectUnix(socket, { type: 'datagram', timeoutMs: 1000 });
    try {
      // One datagram, or EMSGSIZE: never a part of it.
      writeSync(fd, messageOf(state));
    } finally {
      closeSync(fd);
    }
    return true;
  } catch {
    return false;
  }
}

function messageOf(state: Notification): string {
  // What Type=notify-reload asks for; on Linux hrtime is CLOCK_MONOTONIC.
  if (state === 'RELOADING=1') return `${state}\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`;
  return state.replaceAll('\n', ' ');
}
