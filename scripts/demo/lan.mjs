// A LAN in a namespace of its own: a gateway with something behind it, and a DHCP server.
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findProgramsIn, must, run, start } from './command.mjs';
import { mark } from './ground.mjs';

export const lan = {
  netns: `${mark}-lan`,
  /** The host's end of the cable to it; in the place of eth0. */
  uplink: `${mark}-nic`,
  gateway: '10.10.101.254',
  /** An address behind the gateway, from the range for documentation. */
  beyond: '203.0.113.1',
};

/** Makes the LAN; the function that is returned takes it away. */
export async function startLan() {
  const { netns, uplink, gateway, beyond } = lan;
  const scratch = mkdtempSync(path.join(tmpdir(), `${mark}-`));
  let stopServer = async () => {};
  const remove = async () => {
    await stopServer();
    await run(['ip', 'link', 'del', uplink]);
    await run(['ip', 'netns', 'del', netns]);
    rmSync(scratch, { recursive: true, force: true });
  };
  try {
    await must(['ip', 'netns', 'add', netns]);
    await must(['ip', 'link', 'add', uplink, 'type', 'veth', 'peer', 'name', 'lan0', 'netns', netns]);
    await must(['ip', '-n', netns, 'addr', 'add', `${gateway}/24`, 'dev', 'lan0']);
    await must(['ip', '-n', netns, 'addr', 'add', `${beyond}/32`, 'dev', 'lo']);
    for (const link of ['lo', 'lan0']) await must(['ip', '-n', netns, 'link', 'set', link, 'up']);
    await must(['ip', 'link', 'set', uplink, 'up']);
    stopServer = await startDhcpServer(scratch);
    return { remove, dhcpWord: await dhcpWord(scratch) };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function startDhcpServer(scratch) {
  const { netns, gateway } = lan;
  const pidFile = `${scratch}/dnsmasq.pid`;
  const stop = start([
    ...['nsenter', `--net=/run/netns/${netns}`],
    ...['dnsmasq', '--keep-in-foreground', '--port=0', '--conf-file=/dev/null', '--interface=lan0'],
    ...['--bind-interfaces', '--dhcp-authoritative', '--no-ping', '--user=root'],
    ...['--dhcp-range=10.10.101.50,10.10.101.99,255.255.255.0,10m', `--dhcp-option=3,${gateway}`],
    ...[`--dhcp-leasefile=${scratch}/leases`, `--pid-file=${pidFile}`, `--log-facility=${scratch}/log`],
  ]);
  // It writes its pid when its socket is open.
  for (let waitedMs = 0; !holdsNumber(pidFile); waitedMs += 20) {
    if (waitedMs > 5000) {
      await stop();
      throw new Error('dnsmasq did not start');
    }
    await sleep(20);
  }
  return stop;
}

function holdsNumber(file) {
  try {
    return Number(readFileSync(file, 'utf8')) > 0;
  } catch {
    return false;
  }
}

/** A DHCP client of this host. Without one, busybox, which has one inside, under its name. */
async function dhcpWord(scratch) {
  for (const word of ['udhcpc', 'dhclient', 'dhcpcd']) {
    if ((await run(['which', word])).code === 0) return word;
  }
  const busybox = (await must(['which', 'busybox'])).trim();
  symlinkSync(busybox, `${scratch}/udhcpc`);
  findProgramsIn(scratch);
  return 'udhcpc';
}
