/** The tests that this project's small kernels leave out or see differently: what is run on Debian's. */

import { loadObservedOn } from '../conformance/conform.ts';
import type { GuestTests } from './guest-tests.ts';

const recorded = loadObservedOn('full').map(({ name }) => `^pipework: ${name}( |$)`);

/** 8021q, dummy, ipvlan, netem, bridge VLAN filtering, Open vSwitch's kernel datapath. */
export const kernelTests: readonly GuestTests[] = [
  { file: 'test/kernel/netlink/link.test.ts' },
  { file: 'test/kernel/netlink/bridge-vlan.test.ts' },
  { file: 'test/e2e/bridge-vlan.test.ts' },
  { file: 'test/e2e/guest-vlan.test.ts' },
  { file: 'test/e2e/uplink-vlan.test.ts' },
  { file: 'test/e2e/uplink-export.test.ts', only: ['^a bridge that filters VLANs is exported'] },
  { file: 'test/e2e/child-modes.test.ts' },
  { file: 'test/ovs/bridge.test.ts' },
  { file: 'test/ovs/port.test.ts' },
  { file: 'test/e2e/conformance.test.ts', only: [...recorded, '^pipework: ovs-'] },
  { file: 'test/e2e/pipework-phys.test.ts', only: ['^pipework: VLANs of a NIC$', '^pipework: dummy$'] },
  {
    file: 'test/e2e/topology-drop.test.ts',
    only: ['^what is taken away with a topology$', '^the sub-interface of a VLAN '],
  },
  { file: 'test/e2e/pipework-ovs.test.ts', only: ['^pipework on Open vSwitch$', '^VLANs on one host'] },
  { file: 'test/e2e/pipework-route-rule-tc.test.ts', only: ['^pipework tc with netem$'] },
  { file: 'test/e2e/pipewright-attach.test.ts', only: ['^pipewright attach: ipvlan$'] },
  { file: 'test/e2e/pipewright-detach.test.ts', only: ["^pipewright detach of a VLAN's sub-interface$"] },
  {
    file: 'test/e2e/fault-error.test.ts',
    only: ['^an error .*: (macvlan on a VLAN of a NIC|ipvlan|dummy)$'],
  },
];

/** A part of them, what is only here at the least cost: for every run of the suite. */
export const shortTests: readonly GuestTests[] = [
  { file: 'test/kernel/netlink/link.test.ts', only: ['^bridge: VLAN', '^ipvlan', '^vlan', '^dummy'] },
  { file: 'test/kernel/netlink/bridge-vlan.test.ts' },
  { file: 'test/ovs/port.test.ts' },
  {
    file: 'test/e2e/bridge-vlan.test.ts',
    only: ['^VLANs on a Linux bridge by a topology, kept by the agent$'],
  },
  { file: 'test/e2e/conformance.test.ts', only: ['^pipework: (phys-vlan|dummy|ovs-vlan)( |$)'] },
];

/** Tests that are skipped on Debian's kernel too, and the beginning of the reason. Any other skip there is a failure. */
export const allowedSkips: Readonly<Record<string, string>> = {
  'a bridge whose datapath cannot be opened is refused and taken back':
    'this kernel has the openvswitch module',
  'a kernel whose bridges filter no VLANs says EOPNOTSUPP': 'the kernel has vlan-filtering',
  'a kernel whose bridges filter no VLANs: trunks of an uplink are refused, and nothing is changed':
    'the kernel has vlan-filtering',
  'pipework: err-dhcp-client-missing': 'this machine fails: ! command -v dhclient',
};
