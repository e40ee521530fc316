/** The `pipewright` program: its commands, each loaded when it is the one that was asked for. */
import {
  buildApplication,
  buildCommand,
  buildRouteMap,
  proposeCompletions,
  run,
  text_en,
} from '@stricli/core';
import { printable } from '../config/names.ts';
import { PipewrightError } from '../errors.ts';
import { interfaceIds, ipv6Modes } from '../model/attachment.ts';
import { failureText, writeText } from './output.ts';
import { flag, repeated, text, valued } from './parameters.ts';
import { type CommandContext, OwnSession, type Session } from './session.ts';
import { agent, apply, check, destroy, importing, plan, status } from './topology-commands.ts';
import { confirm, uplink } from './uplink-commands.ts';
import { version } from './version.ts';

/** What commands are run with: output that does not go through process.stdout, which takes 3 ms to open. */
/** Characters; what was typed is repeated in messages, and may be anything. */
const messageMax = 400;

/** @param said collects what the library has to say of the command line */
function contextOf(session: Session, said: string[]): CommandContext {
  return {
    process: {
      env: { STRICLI_SKIP_VERSION_CHECK: '1' },
      stdout: { write: (text) => session.write(1, text) },
      stderr: { write: (text) => said.push(text) },
    },
    session,
  };
}

const container = {
  brief: 'Docker name, id or id prefix; or docker:, podman:, lxc:, pid:, netns: and a name',
  placeholder: 'CONTAINER',
  parse: text,
  proposeCompletions: async () => (await import('./propose.ts')).runningContainers(),
} as const;

const json = flag('Print the result as JSON');

const attach = buildCommand({
  docs: {
    brief: 'Connect a container to a network',
    fullDescription:
      'Makes the interface, or changes what differs when it is there already; a second call changes nothing. ' +
      'If a step fails, everything is as it was before.',
  },
  parameters: {
    positional: { kind: 'tuple', parameters: [container] },
    flags: {
      network: {
        kind: 'parsed',
        parse: text,
        brief:
          'bridge:NAME, ovs:NAME, macvlan:NIC, ipvlan:NIC, phys:NIC, sriov:NIC, ipoib:NIC, dummy; or the name of a bridge or NIC',
        placeholder: 'NETWORK',
        proposeCompletions: async () => (await import('./propose.ts')).hostLinks(),
      },
      ifname: valued('Name of the interface in the container (eth1)', 'NAME'),
      hostIfname: valued("Name of the host's end", 'NAME'),
      address: repeated('IP/PREFIX[@GATEWAY], IPv4 or IPv6; several by commas or by repeating', 'ADDR'),
      gateway: repeated('Default gateway, one for each address family; with --dhcp and --ipv6: none', 'IP'),
      route: repeated(
        '"PREFIX via GATEWAY table TABLE metric METRIC", or less of it; without via it is directly connected',
        'ROUTE',
      ),
      dhcp: flag('Addresses, routes and MTU from a DHCP server of the network'),
      ipv6: valued(
        'IPv6 addresses from the network: slaac, dhcp, or auto: as routers say',
        'MODE',
        ipv6Modes,
      ),
      interfaceId: valued('With --ipv6: stable-privacy (default) or eui64', 'WAY', interfaceIds),
      dns: valued("container: name servers of leases go into the container's resolv.conf", 'WHERE', [
        'container',
      ]),
      hostname: valued("Name for the server to know it by (the container's)", 'NAME'),
      clientId: valued('Client identifier, bytes as 01:02:... or text (stable)', 'ID'),
      duid: valued('DHCPv6: who the container is, bytes as 00:03:... (stable)', 'BYTES'),
      vendorClass: valued('Vendor class', 'TEXT'),
      enterprise: valued('DHCPv6: number of the enterprise whose word that is (0)', 'NUMBER'),
      userClass: repeated('User class', 'TEXT'),
      requestAddress: repeated('Address to ask the server for, one of each family', 'IP'),
      dhcpOption: repeated('Further DHCP option: NUMBER=BYTES or NUMBER=TEXT', 'OPTION'),
      dhcp6Option: repeated('Further DHCPv6 option, likewise', 'OPTION'),
      stay: flag('Without the agent: leave one small process that renews the leases'),
      mac: valued('MAC address, or U:TEXT for a stable one made from the text', 'MAC'),
      vlan: valued('VLAN id, 1 to 4094', 'VID'),
      trunks: repeated(
        'VLANs that the port of a bridge or Open vSwitch carries with their tags: 100,200-299',
        'VIDS',
      ),
      vlanMode: valued('ovs: native-untagged, native-tagged, dot1q-tunnel', 'MODE'),
      guestVlan: repeated(
        'Interface NAME.VID in the container for a VLAN that comes with tags: VID=ADDR,ADDR',
        'VLAN',
      ),
      vlanFiltering: flag('Have a bridge filter VLANs that pipewright did not make'),
      mtu: valued('Bytes; by default that of the network', 'MTU'),
      mode: valued(
        'macvlan: bridge, private, vepa, passthru, source; ipvlan: l2, l3, l3s; ovs: veth, internal',
        'MODE',
      ),
      mirror: repeated(
        'ovs, for capture: it gets a copy of all that passes the bridge (all), or these: CONTAINER, CONTAINER/IFNAME, port:NAME',
        'OF',
      ),
      mirrorDirection: valued('Of these: what they send (src), receive (dst), or both', 'DIRECTION'),
      mirrorVlans: repeated('Only what is in these VLANs: 100,200-299', 'VIDS'),
      policing: valued(
        'ovs: what it sends beyond this rate is dropped, as 10mbit or 10mbit,1mbit',
        'RATE[,BURST]',
      ),
      ipvlanFlag: valued('ipvlan: bridge, private, vepa', 'FLAG'),
      spoofCheck: valued('sriov: on or off, whether the NIC checks MAC addresses', 'SWITCH'),
      sourceMac: repeated('MAC addresses that a macvlan of mode source takes frames of', 'MAC'),
      dad: flag('Ask the link whether somebody has the addresses, before they are used'),
      noFirewall: flag("Do not add the bridge's rule to Docker's firewall"),
      once: flag('Do not keep it: with the agent, it ends with the container'),
      dryRun: flag('Only show what would be done, and why'),
      json,
    },
  },
  loader: async () => (await import('./attach.ts')).runAttach,
});

const detach = buildCommand({
  docs: {
    brief: 'Disconnect a container',
    fullDescription:
      'Takes the interface away, with what was made for it and nothing else uses, and gives back the default route that ' +
      'its gateway replaced.',
  },
  parameters: {
    positional: { kind: 'tuple', parameters: [container] },
    flags: {
      ifname: valued('Name of the interface in the container (eth1)', 'NAME'),
      all: flag('All interfaces that pipewright made in the container'),
      dryRun: flag('Only show what would be done, and why'),
      json,
    },
  },
  loader: async () => (await import('./detach.ts')).runDetach,
});

const list = buildCommand({
  docs: { brief: 'Show what is connected to what' },
  parameters: { positional: { kind: 'tuple', parameters: [] }, flags: { json } },
  loader: async () => (await import('./list.ts')).runList,
});

const wait = buildCommand({
  docs: {
    brief: 'Wait until an interface can be used',
    fullDescription:
      'Returns when the interface is up, has carrier, and its addresses are past duplicate detection.',
  },
  parameters: {
    positional: { kind: 'tuple', parameters: [{ ...container, optional: true }] },
    flags: {
      ifname: valued('Name of the interface (eth1)', 'NAME'),
      timeout: valued('Seconds to wait; without it, for ever', 'SECONDS'),
      json,
    },
  },
  loader: async () => (await import('./wait-ready.ts')).runWait,
});

const completion = buildCommand({
  docs: { brief: 'Print the completion script of a shell: bash, zsh or fish' },
  parameters: {
    positional: {
      kind: 'tuple',
      parameters: [
        {
          brief: 'bash, zsh or fish',
          placeholder: 'SHELL',
          parse: text,
          proposeCompletions: () => ['bash', 'zsh', 'fish'],
        },
      ],
    },
    flags: {},
  },
  loader: async () => (await import('./completion.ts')).runCompletion,
});

const application = buildApplication(
  buildRouteMap({
    routes: {
      attach,
      detach,
      list,
      wait,
      plan,
      apply,
      check,
      destroy,
      status,
      uplink,
      confirm,
      agent,
      import: importing,
      completion,
    },
    docs: { brief: 'Connects running containers to any network' },
  }),
  {
    name: 'pipewright',
    versionInfo: { currentVersion: version },
    scanner: { caseStyle: 'allow-kebab-for-camel', allowArgumentEscapeSequence: true },
    documentation: { caseStyle: 'convert-camel-to-kebab', useAliasInUsageLine: true, disableAnsiColor: true },
    determineExitCode: (error) => (error instanceof PipewrightError ? 1 : 70),
    localization: {
      text: {
        ...text_en,
        exceptionWhileRunningCommand: (error) => failureText('pipewright', error),
        exceptionWhileParsingArguments: (error) =>
          `pipewright: ${printable(asTyped(text_en.exceptionWhileParsingArguments(error, false)), messageMax)}`,
        noCommandRegisteredForInput: (asked) =>
          `pipewright: ${printable(text_en.noCommandRegisteredForInput(asked), messageMax)}`,
      },
    },
  },
);

/** The library proposes options by the names that they have in the code: `--dryRun`. */
function asTyped(message: string): string {
  const [said = '', ...proposals] = message.split('did you mean ');
  const kebab = (text: string): string => text.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  return [said, ...proposals.map(kebab)].join('did you mean ');
}

/** Runs a command line; the answer is the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  // Started by a move of a NIC, and by nobody else.
  if (argv[0] === '__guard-uplink')
    return await (await import('../apply/uplink-guard.ts')).runGuard(argv.slice(1));
  await using session = new OwnSession();
  if (argv[0] === '--keep-lease') {
    // What `--stay` has left behind; nobody types this.
    const { keepLease } = await import('../dhcp/stay.ts');
    await keepLease(session.host(), argv[1] ?? '', argv[2] ?? '');
    return 0;
  }
  // Awaited here: the session is needed until it is done.
  if (argv[0] === '__complete') return await complete(argv.slice(1), session);
  return await runCommand(argv, session);
}

/** Likewise, with what it acts on. */
export async function runCommand(argv: readonly string[], session: Session): Promise<number> {
  const said: string[] = [];
  const context = contextOf(session, said);
  await run(application, argv.length === 0 ? ['--help'] : argv, context);
  // All that is wrong with a command line in one line.
  if (said.length > 0) session.write(2, said.join('').replaceAll('\npipewright: ', '; '));
  if (argv.length === 0) return 1;
  // The library tells its own refusals by negative codes: unknown commands, bad arguments.
  const code = Number(context.process.exitCode ?? 0);
  return code < 0 ? 1 : code;
}

/** One proposal a line, for the scripts of `pipewright completion`. */
async function complete(words: readonly string[], session: Session): Promise<number> {
  const proposals = await proposeCompletions(application, words, contextOf(session, []));
  writeText(1, proposals.map(({ completion }) => `${completion}\n`).join(''));
  return 0;
}
