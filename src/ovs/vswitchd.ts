/** Questions to ovs-vswitchd itself, as `ovs-appctl` asks them. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { PipewrightError } from '../errors.ts';
import { JsonRpc } from './jsonrpc.ts';

/**
 * What ovs-vswitchd answers, or why it refuses; empty when nobody is there to be asked.
 * @param dbSocket path of the database's socket: ovs-vswitchd's pid file and control socket lie next to it
 */
export async function askVswitchd(
  dbSocket: string,
  command: string,
  args: readonly string[],
  timeoutMs = 2000,
): Promise<string> {
  const runDir = path.dirname(dbSocket);
  let rpc: JsonRpc | undefined;
  try {
    const pid = readFileSync(path.join(runDir, 'ovs-vswitchd.pid'), 'utf8').trim();
    rpc = await JsonRpc.open(path.join(runDir, `ovs-vswitchd.${pid}.ctl`), timeoutMs);
    return String(await rpc.request(command, [...args]));
  } catch (error) {
    // No pid file or socket: nobody to ask. A PipewrightError carries ovs-vswitchd's refusal in its text.
    return error instanceof PipewrightError && error.code === 'OVS_REFUSED' ? error.message : '';
  } finally {
    rpc?.close();
  }
}
