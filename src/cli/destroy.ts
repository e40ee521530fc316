/** `pipewright destroy` */
import { containerOf, keyOf } from '../apply/converge.ts';
import { detach } from '../apply/detach.ts';
import { Host } from '../apply/host.ts';
import { dropNetworks } from '../apply/networks.ts';
import { print, stepLines } from './output.ts';
import { requirePrivileges } from './privileges.ts';

/** Options of `pipewright destroy`. */
export interface DestroyFlags {
  readonly dryRun: boolean;
  readonly json: boolean;
}

/** Takes away everything of ours, and nothing else. @throws PipewrightError of what could not be taken away */
export async function destroyAll({ dryRun, json }: DestroyFlags): Promise<number> {
  requirePrivileges();
  await using host = new Host();
  const records = host.state.records();
  const targets = records.map((record) => ({ container: containerOf(record), ifname: record.ifname }));
  const { steps } = await detach(host, targets, { dryRun });
  const networks = await dropNetworks(host, host.state.networkRecords(), { dryRun });
  const all = [...steps, ...networks.flatMap((network) => network.steps)];
  if (json)
    print(
      JSON.stringify({
        attachments: records.map(keyOf),
        networks: networks.map(({ network }) => network),
        steps: all,
        dryRun,
      }),
    );
  else print(all.length === 0 ? 'there is nothing of pipewright on this host' : stepLines(all));
  return 0;
}
