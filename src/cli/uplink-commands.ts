/** The commands of `pipewright` that move NICs. */
import { buildCommand, buildRouteMap } from '@stricli/core';
import { flag, text, valued } from './parameters.ts';

const nic = {
  brief: 'NIC of this host',
  placeholder: 'NIC',
  parse: text,
  proposeCompletions: async () => (await import('./propose.ts')).hostLinks(),
} as const;
const json = flag('Print the result as JSON');
const dryRun = flag('Only show what would be done, and why');
const confirmTime = valued(
  'Time for `pipewright confirm`, after which everything goes back (30s); 0: none is needed',
  'TIME',
);

const add = buildCommand({
  docs: {
    brief: 'Make a NIC the uplink of a bridge, with all that it has',
    fullDescription:
      'Moves addresses, routes, rules and neighbours to the bridge, without an interruption. If a gateway or the peer of the ' +
      'SSH session does not answer afterwards, or no `pipewright confirm` comes in time, everything goes back as it was, ' +
      'also when this command is killed.',
  },
  parameters: {
    positional: { kind: 'tuple', parameters: [nic] },
    flags: {
      network: {
        kind: 'parsed',
        parse: text,
        brief: 'bridge:NAME or ovs:NAME, made when it is missing',
        placeholder: 'NETWORK',
      },
      confirm: confirmTime,
      keepMac: flag("The bridge keeps a MAC address of its own, instead of the NIC's"),
      trunks: valued(
        'VLANs that the NIC carries with their tags: 100,200; by default all, of a Linux bridge that filters VLANs those used there',
        'VIDS',
      ),
      vlanFiltering: flag('Have a bridge filter VLANs that pipewright did not make'),
      dryRun,
      json,
    },
  },
  loader: async () => (await import('./uplink.ts')).runUplinkAdd,
});

const remove = buildCommand({
  docs: {
    brief: 'Take a NIC off its bridge again, and give it back what it had',
    fullDescription: 'As safe as the way there, see `uplink add`.',
  },
  parameters: {
    positional: { kind: 'tuple', parameters: [nic] },
    flags: { confirm: confirmTime, dryRun, json },
  },
  loader: async () => (await import('./uplink.ts')).runUplinkRemove,
});

const list = buildCommand({
  docs: { brief: 'Show which NICs are uplinks, and what waits to be confirmed' },
  parameters: { positional: { kind: 'tuple', parameters: [] }, flags: { json } },
  loader: async () => (await import('./uplink.ts')).runUplinkList,
});

const exporting = buildCommand({
  docs: {
    brief: 'Print an uplink in the words of what configures this host at boot',
    fullDescription:
      'The files, or with nmcli the commands, that make the same bridge with the same addresses at every boot.',
  },
  parameters: {
    positional: { kind: 'tuple', parameters: [{ ...nic, optional: true }] },
    flags: {
      for: {
        kind: 'parsed',
        parse: text,
        brief: 'netplan, networkd, ifupdown or nmcli',
        placeholder: 'SYSTEM',
        proposeCompletions: () => ['netplan', 'networkd', 'ifupdown', 'nmcli'],
      },
      network: valued('bridge:NAME or ovs:NAME, of a NIC that is no uplink yet', 'NETWORK'),
      json,
    },
  },
  loader: async () => (await import('./uplink.ts')).runUplinkExport,
});

export const uplink = buildRouteMap({
  routes: { add, remove, list, export: exporting },
  docs: { brief: 'Make a NIC of this host the uplink of a bridge, or take it back' },
});

export const confirm = buildCommand({
  docs: {
    brief: 'Make the move of a NIC final',
    fullDescription: 'Of this NIC, or of all that wait for it.',
  },
  parameters: { positional: { kind: 'tuple', parameters: [{ ...nic, optional: true }] }, flags: { json } },
  loader: async () => (await import('./uplink.ts')).runConfirm,
});
