/** `pipewright attach` */

import { adviceOn } from '../apply/advice.ts';
import type { AttachResult } from '../apply/attach.ts';
import type { Host } from '../apply/host.ts';
import { attachLeased } from '../apply/leased.ts';
import { containerKey } from '../apply/state.ts';
import { decideNetwork, parseNetworkName } from '../config/attach-network.ts';
import { type AttachOptionTexts, isWithoutGateway, parseAttachment } from '../config/attach-options.ts';
import { parseContainerRef } from '../config/container-ref.ts';
import type { Container } from '../containers/container.ts';
import { resolveContainer } from '../containers/resolve.ts';
import { PipewrightError } from '../errors.ts';
import type { Attachment } from '../model/attachment.ts';
import { asNoted } from '../observe/known.ts';
import { observeNetwork } from '../observe/network.ts';
import { HostView } from '../observe/view.ts';
import { stepLines } from './output.ts';
import { requirePrivileges } from './privileges.ts';
import { type CommandContext, printErrorTo, printTo, type Session } from './session.ts';

/** What is asked for. */
export interface AttachRequest extends AttachOptionTexts {
  readonly dad: boolean;
  readonly dhcp: boolean;
  readonly vlanFiltering: boolean;
  readonly noFirewall: boolean;
  readonly dryRun: boolean;
  readonly once: boolean;
  readonly stay: boolean;
}

interface AttachFlags extends AttachRequest {
  readonly json: boolean;
}

/** What came of it, as `--json` has it. */
export interface Attached extends Omit<AttachResult, 'change'> {
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
  const leasedFor = await readLeased(options);
  requirePrivileges();
  const host = session.host();
  const { type } = await observeNetwork(new HostView(host), named.name);
  const plain = parseAttachment(ref, decideNetwork(named, type, options), options);
  const resolved = await resolveContainer(ref, session.resolve);
  const isDirect = resolved.runtime === 'pid' || resolved.runtime === 'netns';
  const container = isDirect ? asNoted(resolved, host.state.records(), plain.ifname) : resolved;
  const leased = leasedFor ? leasedFor(plain, container.name) : presentLease(host, container, plain);
  const want = { ...plain, ...leased };
  using _progress = session.progress(`connecting ${want.ifname} of ${containerText}`);
  const { dryRun, once } = options;
  const firewall = !options.noFirewall;
  const isKept = session.keepsLeasesOf(container.runtime) && !once;
  const {
    leases: _,
    change: __,
    ...result
  } = await attachLeased(host, container, want, {
    ifPresent: 'converge',
    firewall,
    dryRun,
    origin: once ? 'once' : 'command',
    get: isKept ? 'made' : 'missing',
  });
  const warnings = dryRun ? [] : await session.attached({ container, want, firewall, once });
  if (leasedFor && !dryRun) {
    const { seeToRenewal } = await import('./renewal.ts');
    await seeToRenewal(session, options, container, want.ifname);
  }
  const { name, runtime } = container;
  const changed = result.steps.length > 0;
  const advice = changed && !dryRun ? await adviceOn(host, want) : [];
  const all = { ...result, warnings: [...result.warnings, ...warnings, ...advice] };
  return { container: name, runtime, ifname: want.ifname, changed, dryRun, ...all };
}

/** A command that says nothing of addresses leaves those that there are, also where they come from the network. */
function presentLease(
  host: Host,
  container: Container,
  { ifname, addrs }: Attachment,
): Pick<Attachment, 'dhcp' | 'ipv6' | 'dns' | 'sysctls'> {
  const record = host.state.record(containerKey(container), ifname);
  const { dhcp, ipv6, dns, sysctls } = record?.want ?? {};
  const isSame =
    record?.container.pid === container.pid && record?.container.startTime === container.startTime;
  if (!isSame || addrs.length > 0 || !(dhcp || ipv6)) return {};
  return { ...(dhcp && { dhcp }), ...(ipv6 && { ipv6 }), ...(dns && { dns }), ...(sysctls && { sysctls }) };
}

/** Addresses from the network, where they are asked for: made when network and container are known. */
async function readLeased(options: AttachRequest) {
  const { dhcp, ipv6, stay } = options;
  if (stay && !dhcp && (ipv6 === undefined || ipv6 === 'slaac')) {
    const detail = 'there is no lease to renew without --dhcp, or --ipv6 dhcp or auto';
    throw new PipewrightError('BAD_ARGUMENT', { op: '--stay', subject: 'attach', detail });
  }
  if (!leasedOptions.some((name) => options[name] !== undefined && options[name] !== false)) return undefined;
  const { checkReach, parseDhcpOptions } = await import('../config/attach-dhcp.ts');
  const { stableSecretOf } = await import('../dhcp/identity.ts');
  const { machineId } = await import('../dhcp/machine-id.ts');
  const noGateway = isWithoutGateway(options);
  parseDhcpOptions(options, { noGateway, secret: '' });
  return ({ network, ifname }: Attachment, containerName: string) => {
    const secret = stableSecretOf(machineId(), containerName, ifname);
    const leased = parseDhcpOptions(options, { noGateway, secret });
    checkReach(leased, network);
    return leased;
  };
}

const leasedOptions = [
  'dhcp',
  'ipv6',
  'interfaceId',
  'dns',
  'hostname',
  'clientId',
  'duid',
  'vendorClass',
  'enterprise',
  'userClass',
  'requestAddress',
  'dhcpOption',
  'dhcp6Option',
] as const;
