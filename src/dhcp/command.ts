/** What is run for each DHCP word, as plain data. */
import { createHash } from 'node:crypto';
import type { DhcpClient } from '../config/pipework-address.ts';

/** What a client is started for. */
export interface DhcpTarget {
  readonly client: DhcpClient;
  /** What the user wrote after the colon. */
  readonly options: readonly string[];
  /** In the container. */
  readonly ifname: string;
  /** The container as the user named it. It is the host name that is sent, and a part of the pid file's name. */
  readonly guest: string;
}

/** Whether the client goes on after the first lease. */
export function staysRunning(client: DhcpClient): boolean {
  return client.endsWith('-f') || client === 'dhcpcd';
}

/** The program of a DHCP word. */
export function programOf(client: DhcpClient): string {
  return client.replace(/-f$/, '');
}

/** A container's name in a file's name: as it is when it can be, and never two names as one. */
export function fileNameOf(name: string): string {
  const encoded = encodeURIComponent(name.replace(/\p{Cs}/gu, '\ufffd'));
  return encoded.length <= 100 ? encoded : createHash('sha256').update(name).digest('hex');
}

/** The host name sent to the server. */
export function hostNameOf(guest: string): string {
  return guest
    .replace(/[^A-Za-z0-9_.-]/g, '-')
    .replace(/^[-.]+/, '')
    .slice(0, 63);
}

/** Where the files of one client are. */
export interface ClientFiles {
  /** Executable scripts: `udhcpc`, `dhclient`, `dhcpcd`. */
  readonly scriptDir: string;
  readonly pidFile: string;
  readonly leaseFile: string;
  /** `-sf` and `-cf`, where dhclient's stock files are not there to be covered. */
  readonly dhclientOptions: readonly string[];
  /** `PID:STARTTIME` of the container's init process. */
  readonly owner: string | undefined;
}

/** The client's program and arguments. What the user wrote comes last and has the last word. */
export function clientCommand(target: DhcpTarget, files: ClientFiles): readonly string[] {
  const { client, ifname, guest, options } = target;
  const { scriptDir, pidFile, leaseFile, dhclientOptions, owner } = files;
  const hostName = hostNameOf(guest);
  const env = owner === undefined ? [] : ['-e', `PIPEWRIGHT_OWNER=${owner}`];
  switch (client) {
    case 'udhcpc':
    case 'udhcpc-f': {
      // Without -q it goes to the background when it has its lease, and renews it. The original's own -f, which
      // means foreground, never had an effect beside its -q, and without that it would not return.
      const stays = client === 'udhcpc-f';
      const own = [...(stays ? [] : ['-q']), '-i', ifname, '-x', `hostname:${hostName}`];
      const rest = stays ? options.filter((option) => option !== '-f') : options;
      return ['udhcpc', ...own, '-p', pidFile, '-s', `${scriptDir}/udhcpc`, ...rest];
    }
    case 'dhclient':
    case 'dhclient-f':
      return [
        'dhclient',
        '-v',
        ifname,
        '-pf',
        pidFile,
        '-lf',
        leaseFile,
        ...dhclientOptions,
        ...env,
        ...options,
      ];
    case 'dhcpcd':
      // -L: without a server it is to fail, not to take an address of 169.254.0.0/16 and call that success.
      return ['dhcpcd', '-q', ifname, '-h', hostName, '-L', '-c', `${scriptDir}/dhcpcd`, ...env, ...options];
  }
}
