/** `pipewright attach` */
import { adviceOn } from '../apply/advice.ts';
import { type AttachResult, attach } from '../apply/attach.ts';
import {
  type AttachOptionTexts,
  decideNetwork,
  parseAttachment,
  parseNetworkName,
} from '../config/attach-options.ts';
import { parseContainerRef } from '../config/container-ref.ts';
import type { Container } from '../containers/container.ts';
import { resolveContainer } from '../containers/resolve.ts';
import { asNoted } from '../observe/known.ts';
import { observeNetwork } from '../observe/network.ts';
import { HostView } from '../observe/view.ts';
import { stepLines } from './output.ts';
import { requirePrivileges } from './privileges.ts';
import { type CommandContext, printErrorTo, printTo, type Session } from './session.ts';

/** What is asked for. */
export interface AttachRequest extends AttachOptionTexts {
  readonly dad: boolean;
  readonly vlanFiltering: boolean;
  readonly noFirewall: boolean;
  readonly dryRun: boolean;
  readonly once: boolean;
}

interface AttachFlags extends AttachRequest {
  readonly json: boolean;
}

/** What came of it, as `--json` has it. */
export interface Attached extends AttachResult {
  readonly container: string;
  readonly runtime: Container['runtime'];
  readonly ifname: string;
  readonly changed: boolean;
  readonly dryRun: boolean;
}

/** Connects the container, or shows what that would take. @throws PipewrightError */
export async function runAttach(
  this: CommandContext,
  flags: AttachFlags,
  containerText: string,
): Promise<void> {
  const { session } = this;
  const result = await attachByOptions(session, flags, containerText);
  for (const warning of result.warnings) printErrorTo(session, `warning: ${warning}`);
  if (flags.json) printTo(session, JSON.stringify(result));
  else if (!result.changed)
    printTo(session, `${result.ifname} of ${containerText} is as asked: nothing to do`);
  else printTo(session, stepLines(result.steps));
}

/** The work of `pipewright attach`, without its output. @throws PipewrightError */
export async function attachByOptions(
  session: Session,
  options: AttachRequest,
  containerText: string,
): Promise<Attached> {
  const ref = parseContainerRef(containerText);
  const named = parseNetworkName(options.network);
  // Read once with a stand-in for the network, so that what is wrong with the line is said before anything is asked.
  parseAttachment(ref, { kind: 'dummy' }, options);
  requirePrivileges();
  const host = session.host();
  const { type } = await observeNetwork(new HostView(host), named.name);
  const want = parseAttachment(ref, decideNetwork(named, type, options), options);
  const resolved = await resolveContainer(ref, session.resolve);
  const isDirect = resolved.runtime === 'pid' || resolved.runtime === 'netns';
  const container = isDirect ? asNoted(resolved, host.state.records(), want.ifname) : resolved;
  using _progress = session.progress(`connecting ${want.ifname} of ${containerText}`);
  const { dryRun, once } = options;
  const firewall = !options.noFirewall;
  const result = await attach(host, container, want, {
    ifPresent: 'converge',
    firewall,
    dryRun,
    origin: once ? 'once' : 'command',
  });
  const warnings = dryRun ? [] : await session.attached({ container, want, firewall, once });
  const { name, runtime } = container;
  const changed = result.steps.length > 0;
  const advice = changed && !dryRun ? await adviceOn(host, want) : [];
  const all = { ...result, warnings: [...result.warnings, ...warnings, ...advice] };
  return { container: name, runtime, ifname: want.ifname, changed, dryRun, ...all };
}
