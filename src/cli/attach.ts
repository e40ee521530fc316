/** `pipewright attach` */
import { attach } from '../apply/attach.ts';
import { Host } from '../apply/host.ts';
import {
  type AttachOptionTexts,
  decideNetwork,
  parseAttachment,
  parseNetworkName,
} from '../config/attach-options.ts';
import { parseContainerRef } from '../config/container-ref.ts';
import { resolveContainer } from '../containers/resolve.ts';
import { asNoted } from '../observe/known.ts';
import { observeNetwork } from '../observe/network.ts';
import { print, printError, stepLines } from './output.ts';
import { requirePrivileges } from './privileges.ts';
import { onProgressLine } from './progress.ts';

interface AttachFlags extends AttachOptionTexts {
  readonly noFirewall: boolean;
  readonly dryRun: boolean;
  readonly json: boolean;
}

/** Connects the container, or shows what that would take. @throws PipewrightError */
export async function runAttach(flags: AttachFlags, containerText: string): Promise<void> {
  const ref = parseContainerRef(containerText);
  const named = parseNetworkName(flags.network);
  // Read once with a stand-in for the network, so that what is wrong with the line is said before anything is asked.
  parseAttachment(ref, { kind: 'dummy' }, flags);
  requirePrivileges();
  await using host = new Host();
  const { type } = await observeNetwork(host, named.name);
  const want = parseAttachment(ref, decideNetwork(named, type, flags), flags);
  const resolved = await resolveContainer(ref);
  const isDirect = resolved.runtime === 'pid' || resolved.runtime === 'netns';
  const container = isDirect ? asNoted(resolved, host.state.records(), want.ifname) : resolved;
  using _progress = onProgressLine(`connecting ${want.ifname} of ${containerText}`);
  const { dryRun } = flags;
  const result = await attach(host, container, want, {
    ifPresent: 'converge',
    firewall: !flags.noFirewall,
    dryRun,
  });
  for (const warning of result.warnings) printError(`warning: ${warning}`);
  const changed = result.steps.length > 0;
  if (flags.json) {
    const { name, runtime } = container;
    const { ifname } = want;
    print(JSON.stringify({ container: name, runtime, ifname, changed, dryRun, ...result }));
  } else if (!changed) print(`${want.ifname} of ${containerText} is as asked: nothing to do`);
  else print(stepLines(result.steps));
}
