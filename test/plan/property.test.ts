// What holds of every plan.
import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { addressBits, broadcastOf, formatCidr, networkOf } from '../../src/model/address.ts';
import type { AddrSpec, Attachment, Network } from '../../src/model/attachment.ts';
import { describe } from '../../src/model/describe.ts';
import type { Link, Route } from '../../src/model/link.ts';
import type { Observed } from '../../src/model/observed.ts';
import type { Operation, Step } from '../../src/model/operation.ts';
import { planAttach } from '../../src/plan/plan.ts';
import { addr, earlier, link, now, recordOf, route, seen, wanted } from './support.ts';

const ipv4 = fc
  .tuple(fc.integer({ min: 1, max: 250 }), fc.integer({ min: 8, max: 30 }))
  .map(([host, prefixLen]) => {
    const cidr = { family: 4 as const, ip: `10.${host}.0.5`, prefixLen };
    return { cidr, gateway: { family: 4 as const, ip: `10.${host}.0.6` } };
  });
const ipv6 = fc.integer({ min: 1, max: 0xfffe }).map((subnet) => {
  const ip = `fd00:${subnet.toString(16)}::5`;
  return {
    cidr: { family: 6 as const, ip, prefixLen: 64 },
    gateway: { family: 6 as const, ip: ip.replace(/5$/, '6') },
  };
});

/** At most one gateway of each family, some of them off the subnet. */
const addrs: fc.Arbitrary<AddrSpec[]> = fc
  .tuple(
    fc.uniqueArray(fc.oneof(ipv4, ipv6), {
      maxLength: 4,
      selector: ({ cidr }) => networkOf({ ...cidr, prefixLen: 16 }) + cidr.ip,
    }),
    fc.constantFrom('none', 'first', 'off the subnet'),
  )
  .map(([all, gateways]) =>
    all.map(({ cidr, gateway }, i): AddrSpec => {
      const isFirst = all.findIndex((other) => other.cidr.family === cidr.family) === i;
      if (!isFirst || gateways === 'none') return { cidr };
      const off = { family: cidr.family, ip: cidr.family === 4 ? '192.168.77.1' : 'fd77::1' };
      return { cidr, gateway: gateways === 'first' ? gateway : off };
    }),
  );

const networks: fc.Arbitrary<Network> = fc.oneof(
  fc.constantFrom<Network>({ kind: 'bridge', name: 'br1' }, { kind: 'ovs', name: 'ovs0' }, { kind: 'dummy' }),
  fc.integer({ min: 1, max: 4094 }).map((vid): Network => ({ kind: 'ovs', name: 'ovs0', vid })),
  fc
    .record({
      mode: fc.constantFrom('bridge', 'private', 'vepa'),
      vid: fc.option(fc.constantFrom(10, 20), { nil: undefined }),
    })
    .map(
      ({ mode, vid }): Network => ({
        kind: 'macvlan',
        uplink: 'nic0',
        mode,
        ...(vid === undefined ? {} : { vid }),
      }),
    ),
  fc.constantFrom<Network>({ kind: 'ipvlan', uplink: 'nic0', mode: 'l2' }, { kind: 'phys', uplink: 'nic0' }),
);

const attachments: fc.Arbitrary<Attachment> = fc
  .record({
    network: networks,
    addrs,
    mac: fc.option(fc.constant('02:00:00:00:00:01'), { nil: undefined }),
    mtu: fc.option(fc.integer({ min: 1280, max: 9000 }), { nil: undefined }),
    routes: fc.constantFrom([], [{ dst: { family: 4 as const, ip: '10.251.0.0', prefixLen: 16 } }]),
  })
  .map(({ network, addrs: specs, mac, mtu, routes }) =>
    wanted(network, [], {
      addrs: specs,
      routes,
      // An ipvlan has the MAC address of its NIC.
      ...(mac === undefined || network.kind === 'ipvlan' ? {} : { mac }),
      ...(mtu === undefined ? {} : { mtu }),
    }),
  );

const nic = link('nic0', 4);

/** A host and a container of all sorts, without the interface. */
const grounds: fc.Arbitrary<(network: Network) => Observed> = fc
  .record({
    exists: fc.boolean(),
    up: fc.boolean(),
    firewallMissing: fc.boolean(),
    ipv6Disabled: fc.boolean(),
    hasDefaults: fc.boolean(),
    hasWays: fc.boolean(),
  })
  .map(({ exists, up, firewallMissing, ipv6Disabled, hasDefaults, hasWays }) => (network) => {
    const onNic = 'uplink' in network;
    const kind = network.kind === 'bridge' ? 'bridge' : 'tun';
    const there = onNic ? { ...nic, up } : exists ? link('br1', 5, { kind, up }) : undefined;
    const type = onNic ? 'nic' : network.kind === 'bridge' ? 'bridge' : 'ovs';
    return seen({
      host: {
        network: network.kind === 'dummy' ? undefined : there,
        networkType: there && network.kind !== 'dummy' ? type : undefined,
        firewallMissing: firewallMissing && network.kind === 'bridge',
        moving: network.kind === 'phys' ? { link: nic, addrs: [], routes: [] } : undefined,
      },
      guest: {
        ipv6Disabled,
        ipv6DisabledOnNew: ipv6Disabled,
        defaults: hasDefaults
          ? [route('default via 172.17.0.1', 2), route('default via fd17::1', 2, { metric: 1024 })]
          : [],
        hostRoutes: hasWays ? [route('192.168.77.1/32', 2), route('fd77::1/128', 2, { metric: 1024 })] : [],
      },
    });
  });

/** What is there when a plan for `want` has been run: the interface with all it was given. */
function achieved(want: Attachment, before: Observed): Observed {
  const { network } = want;
  const isPair = network.kind === 'bridge' || network.kind === 'ovs';
  const lower =
    network.kind === 'macvlan' || network.kind === 'ipvlan' ? (network.vid === undefined ? 4 : 8) : 6;
  const kinds = {
    bridge: 'veth',
    ovs: 'veth',
    macvlan: 'macvlan',
    ipvlan: 'ipvlan',
    dummy: 'dummy',
    phys: undefined,
    sriov: undefined,
    ipoib: 'ipoib',
  };
  const eth1: Link = link('eth1', 7, {
    kind: kinds[network.kind],
    group: earlier,
    lower,
    mtu: want.mtu ?? 1500,
    mac: want.mac ?? '02:00:00:00:00:99',
    data: 'mode' in network ? { mode: network.mode } : {},
  });
  const gateways = want.addrs.flatMap(({ gateway }) => gateway ?? []);
  const routes: Route[] = [
    ...gateways.map(({ family, ip }) =>
      route(`default via ${ip}`, 7, { ...(family === 6 ? { metric: 1024 } : {}) }),
    ),
    ...gateways.flatMap(({ family, ip }) =>
      ip === '192.168.77.1' || ip === 'fd77::1'
        ? [route(`${ip}/${addressBits[family]}`, 7, family === 6 ? { metric: 1024 } : {})]
        : [],
    ),
    ...want.routes.map(({ dst }) => route(formatCidr(dst), 7)),
  ];
  const base = link('br1', 5, { kind: 'bridge' });
  return {
    ...before,
    host: {
      ...before.host,
      network: 'uplink' in network ? nic : network.kind === 'dummy' ? undefined : base,
      networkType:
        'uplink' in network
          ? 'nic'
          : network.kind === 'bridge'
            ? 'bridge'
            : network.kind === 'ovs'
              ? 'ovs'
              : undefined,
      vlanLink:
        'vid' in network && 'uplink' in network
          ? link(`nic0.${network.vid}`, 8, { kind: 'vlan', lower: 4, data: { vid: network.vid ?? 0 } })
          : undefined,
      firewallMissing: false,
      moving: undefined,
      hostEnd: isPair
        ? link('veth1pl42', 6, {
            kind: 'veth',
            group: earlier,
            mtu: want.mtu ?? 1500,
            master: network.kind === 'bridge' ? 5 : undefined,
          })
        : undefined,
      hostEndMaster: network.kind === 'bridge' ? 'br1' : undefined,
      ovsPort:
        network.kind === 'ovs'
          ? {
              name: 'veth1pl42',
              isInternal: false,
              bridge: 'ovs0',
              vid: network.vid,
              trunks: network.trunks ?? [],
            }
          : undefined,
    },
    guest: {
      ...before.guest,
      ipv6Disabled: false,
      sysctls: { 'ipv4/promote_secondaries': '0' },
      link: {
        link: eth1,
        addrs: want.addrs.flatMap(({ cidr }) => (cidr ? [addr(formatCidr(cidr), 7)] : [])),
        routes,
      },
      defaults: [
        ...routes.filter(({ dst }) => dst === undefined),
        ...before.guest.defaults.filter(
          ({ family }) => !gateways.some((gateway) => gateway.family === family),
        ),
      ],
      hostRoutes: routes.filter(({ dst, family }) => dst?.prefixLen === addressBits[family]),
    },
    record: recordOf({
      network,
      taken:
        network.kind === 'phys'
          ? { name: 'nic0', up: true, mac: '', mtu: 1500, group: 0, addrs: [], routes: [] }
          : undefined,
    }),
  };
}

const undoOf = (steps: readonly Step[]): Operation[] => [...steps].reverse().flatMap(({ undo }) => undo);

test('of what is already right the plan is empty', () => {
  fc.assert(
    fc.property(attachments, grounds, (want, groundOf) => {
      const steps = planAttach(want, achieved(want, groundOf(want.network)), 'converge');
      assert.deepEqual(
        steps.map(({ op, because }) => [describe(op), because]),
        [],
      );
    }),
    { numRuns: 500 },
  );
});

test('each step that makes something is taken back, in the opposite order, and by what deletes nothing of others', () => {
  fc.assert(
    fc.property(attachments, grounds, (want, groundOf) => {
      const steps = planAttach(want, groundOf(want.network), 'refuse');
      const undo = undoOf(steps);
      const takesBack = (made: Operation): number =>
        undo.findIndex((op) => {
          if (made.do === 'link.add')
            return (
              op.do === 'link.del' && op.name === made.name && op.side === made.side && op.onlyGroup === now
            );
          if (made.do === 'link.give')
            return op.do === 'link.take' && op.ifname === made.ifname && op.group === now;
          if (made.do === 'ovs.bridge.add')
            return op.do === 'ovs.bridge.del' && op.name === made.name && op.onlyGroup === now;
          if (made.do === 'ovs.port.add')
            return op.do === 'ovs.port.del' && op.port === made.port && op.onlyGroup === now;
          return made.do === 'firewall.allow' && op.do === 'firewall.revoke' && op.bridge === made.bridge;
        });
      const made = steps
        .map(({ op }) => op)
        .filter(({ do: verb }) => /\.(add|give|allow)$/.test(verb) && verb !== 'addr.add');
      const order = made.map(takesBack);
      assert.ok(
        order.every((at) => at >= 0),
        made.map(describe).join('\n'),
      );
      assert.deepEqual(
        order,
        [...order].sort((a, b) => b - a),
      );
    }),
    { numRuns: 500 },
  );
});

test('a default route is never deleted before its successor is there, and each that is replaced comes back', () => {
  fc.assert(
    fc.property(attachments, grounds, (want, groundOf) => {
      const before = groundOf(want.network);
      const steps = planAttach(want, before, 'refuse');
      assert.ok(!steps.some(({ op }) => op.do === 'route.del'));
      const undo = undoOf(steps);
      for (const { op } of steps) {
        if (op.do !== 'route.replace') continue;
        const { family, dst } = op.route;
        const was = [...before.guest.defaults, ...before.guest.hostRoutes].find(
          (other) => other.family === family && other.dst?.ip === dst?.ip,
        );
        if (was) assert.ok(undo.some((back) => back.do === 'route.restore' && back.route === was));
      }
    }),
    { numRuns: 500 },
  );
});

test('from any state of ours to any other: the interface is restored last of all that is the container’s, and final steps are last', () => {
  fc.assert(
    fc.property(attachments, attachments, grounds, (has, want, groundOf) => {
      if (has.network.kind === 'phys' || want.network.kind === 'phys') return;
      const facts = achieved(has, groundOf(want.network));
      const target = achieved(want, groundOf(want.network));
      const here = {
        ...facts,
        host: {
          ...facts.host,
          network: target.host.network,
          networkType: target.host.networkType,
          vlanLink: target.host.vlanLink,
        },
      };
      const steps = planAttach(want, here, 'converge');
      const firstFinal = steps.findIndex(({ final }) => final);
      if (firstFinal >= 0) assert.ok(steps.slice(firstFinal).every(({ final }) => final));
      const changesGuest = steps
        .filter(({ final }) => !final)
        .some(({ op }) => ('side' in op && op.side === 'guest') || op.do === 'link.stash');
      const undo = undoOf(steps);
      const restore = undo.findIndex(({ do: verb }) => verb === 'link.restore');
      if (!changesGuest) return;
      assert.ok(restore >= 0, steps.map(({ op }) => describe(op)).join('\n'));
      const after = undo.slice(restore + 1);
      assert.ok(!after.some((op) => 'side' in op && op.side === 'guest'), after.map(describe).join('\n'));
    }),
    { numRuns: 500 },
  );
});

test('an IPv4 address is added with the broadcast address of its subnet', () => {
  fc.assert(
    fc.property(attachments, grounds, (want, groundOf) => {
      for (const { op } of planAttach(want, groundOf(want.network), 'refuse')) {
        if (op.do === 'addr.add')
          assert.equal(op.broadcast, op.cidr.family === 4 ? broadcastOf(op.cidr) : undefined);
      }
    }),
  );
});
