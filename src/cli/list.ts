/** `pipewright list` */
import { Host } from '../apply/host.ts';
import { type ListedAttachment, listAttachments } from '../observe/list.ts';
import { print, table } from './output.ts';
import { requirePrivileges } from './privileges.ts';

/** Shows every attachment as it is now. @throws PipewrightError */
export async function runList({ json }: { readonly json: boolean }): Promise<void> {
  requirePrivileges();
  await using host = new Host();
  const attachments = listAttachments(host);
  if (json) print(JSON.stringify({ attachments }));
  else print(attachments.length === 0 ? 'nothing is connected' : table([header, ...attachments.map(row)]));
}

const header = ['CONTAINER', 'INTERFACE', 'NETWORK', 'ADDRESSES', 'MAC', 'STATE'];

function row({ container, ifname, network, addrs, mac, state }: ListedAttachment): string[] {
  return [container, ifname, network, addrs.join(',') || '-', mac ?? '-', state];
}
