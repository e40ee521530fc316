/** Who an interface is to DHCP servers: the same after each restart of its container, whatever its MAC address. Pure. */
import { createHash } from 'node:crypto';

/**
 * The DUID of a container, for DHCPv6 and (RFC 4361) DHCPv4 alike: a DUID-UUID (RFC 6355), made from its name.
 * @param machine of this host: containers of one name on two hosts are two to a server
 */
export function duidOf(machine: string, container: string): Uint8Array {
  const digest = createHash('sha256').update(`pipewright duid ${machine}\0${container}`).digest();
  const uuid = Buffer.from(digest.subarray(0, 16));
  // Version 8 of RFC 9562: made by a way of one's own.
  uuid[6] = 0x80 | ((uuid[6] ?? 0) & 0x0f);
  uuid[8] = 0x80 | ((uuid[8] ?? 0) & 0x3f);
  return Buffer.concat([Buffer.from([0, 4]), uuid]);
}

/** The four bytes by which the interfaces of one container are told apart (IAID). */
export function iaidOf(ifname: string): Uint8Array {
  return createHash('sha256').update(`pipewright iaid ${ifname}`).digest().subarray(0, 4);
}

/** Option 61 of DHCPv4, of type 255: RFC 4361. */
export function clientIdOf(machine: string, container: string, ifname: string): Uint8Array {
  return Buffer.concat([Buffer.from([255]), iaidOf(ifname), duidOf(machine, container)]);
}

/**
 * The secret of RFC 7217 that an interface's own IPv6 addresses are made from, for `net.ipv6.conf.IFNAME.stable_secret`,
 * written as the kernel prints it. With it they are the same in each life of the container.
 */
export function stableSecretOf(machine: string, container: string, ifname: string): string {
  const digest = createHash('sha256').update(`pipewright stable_secret ${machine}\0${container}\0${ifname}`);
  const words = digest.digest('hex').slice(0, 32).match(/.{4}/g) ?? [];
  return words.join(':');
}
