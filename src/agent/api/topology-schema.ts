/** The topology in force, as the model has it: every value in its canonical form. */
import { z } from '@hono/zod-openapi';
import {
  type Ipv6Spec,
  interfaceIds,
  ipv6Modes,
  ipvlanFlags,
  ipvlanModes,
  type MirrorSpec,
  macvlanModes,
  mirrorDirections,
  ovsVlanModes,
  qinqEthtypes,
} from '../../model/attachment.ts';
import type { Dhcp6Spec, DhcpSpec } from '../../model/lease.ts';
import type { AttachmentSpec } from '../../model/topology.ts';
import { list } from './schemas.ts';

const family = z.union([z.literal(4), z.literal(6)]);
const cidr = z.object({ family, ip: z.string(), prefixLen: z.int() }).openapi('Cidr');
const gateway = z.object({ family, ip: z.string() });
const place = z.object({ file: z.string(), line: z.int(), column: z.int() }).openapi('Place');

const common = {
  name: z.string(),
  place,
  mtu: z.int().optional(),
  subnets: list(cidr),
  gateways: list(gateway),
  ranges: list(z.object({ family, first: z.string(), last: z.string() })),
  hostAddresses: list(cidr),
};
const vid = z.int().optional();
const trunks = list(z.int()).optional();

const network = z
  .discriminatedUnion('kind', [
    z.object({
      ...common,
      kind: z.literal('bridge'),
      bridge: z.string(),
      vid,
      trunks,
      vlanFiltering: z.literal(true).optional(),
    }),
    z.object({
      ...common,
      kind: z.literal('ovs'),
      bridge: z.string(),
      internal: z.literal(true).optional(),
      vid,
      trunks,
      vlanMode: z.enum(ovsVlanModes).optional(),
      cvlans: trunks,
      qinqEthtype: z.enum(qinqEthtypes).optional(),
    }),
    z.object({
      ...common,
      kind: z.literal('macvlan'),
      uplink: z.string(),
      mode: z.enum(macvlanModes),
      sourceMacs: list(z.string()).optional(),
      vid,
    }),
    z.object({
      ...common,
      kind: z.literal('ipvlan'),
      uplink: z.string(),
      mode: z.enum(ipvlanModes),
      flag: z.enum(ipvlanFlags).optional(),
      vid,
    }),
    z.object({ ...common, kind: z.literal('phys'), uplink: z.string(), vid }),
    z.object({
      ...common,
      kind: z.literal('sriov'),
      uplink: z.string(),
      vf: z.object({ vid, spoofCheck: z.boolean().optional() }),
    }),
    z.object({ ...common, kind: z.literal('dummy') }),
  ])
  .openapi('Network');

const runtime = z.enum(['docker', 'podman']).optional();

const selector = z
  .discriminatedUnion('by', [
    z.object({ by: z.literal('name'), name: z.string(), runtime }),
    z.object({ by: z.literal('pattern'), pattern: z.string(), runtime }),
    z.object({ by: z.literal('label'), key: z.string(), value: z.string().optional() }),
    z.object({ by: z.literal('compose'), project: z.string(), service: z.string() }),
  ])
  .openapi('Selector');

const attachment = z
  .object({
    place,
    selector,
    network: z.string(),
    ifname: z.string(),
    addresses: z.union([z.literal('auto'), z.literal('dhcp'), list(cidr)]),
    dhcp: z
      .object({
        hostName: z.string().optional(),
        clientId: z.string().optional(),
        vendorClass: z.string().optional(),
        userClasses: list(z.string()).optional(),
        requestAddress: z.string().optional(),
        options: z.record(z.string(), z.string()).optional(),
        noGateway: z.boolean().optional(),
      } satisfies Record<keyof DhcpSpec, z.ZodType>)
      .optional()
      .openapi({ description: 'What is said to the DHCP server; bytes as hexadecimal' }),
    ipv6: z
      .object({
        mode: z.enum(ipv6Modes),
        interfaceId: z.enum(interfaceIds),
        dhcp: z
          .object({
            hostName: z.string().optional(),
            duid: z.string().optional(),
            vendorClass: z.string().optional(),
            enterprise: z.int().optional(),
            userClasses: list(z.string()).optional(),
            requestAddress: z.string().optional(),
            options: z.record(z.string(), z.string()).optional(),
          } satisfies Record<keyof Dhcp6Spec, z.ZodType>)
          .optional()
          .openapi({ description: 'What is said to DHCPv6 servers; bytes as hexadecimal' }),
      } satisfies Record<keyof Ipv6Spec, z.ZodType>)
      .optional(),
    dns: z.literal('container').optional(),
    gateways: list(gateway),
    noGateway: z.boolean().optional(),
    mac: z.string().optional(),
    unique: z.string().optional(),
    vid,
    trunks,
    mtu: z.int().optional(),
    routes: list(
      z.object({
        dst: cidr,
        gateway: z.string().optional(),
        table: z.int().optional(),
        metric: z.int().optional(),
      }),
    ),
    rules: list(
      z.object({
        family,
        from: cidr.optional(),
        to: cidr.optional(),
        table: z.int(),
        priority: z.int().optional(),
      }),
    ),
    sysctls: z.record(z.string(), z.string()),
    vlans: list(z.object({ vid: z.int(), ifname: z.string(), cidrs: list(cidr) })).optional(),
    rate: z.object({ in: z.number().optional(), out: z.number().optional() }).optional(),
    internal: z.boolean().optional(),
    mirror: z
      .object({
        of: list(z.string()).optional(),
        direction: z.enum(mirrorDirections).optional(),
        vlans: trunks,
      } satisfies Record<keyof MirrorSpec, z.ZodType>)
      .optional(),
    policing: z
      .object({ rate: z.int(), burst: z.int() })
      .optional()
      .openapi({ description: 'kbit/s and kbit' }),
    dad: z.boolean().optional(),
  } satisfies Record<keyof AttachmentSpec, z.ZodType>)
  .openapi('WantedAttachment');

const expect = z
  .object({
    place,
    from: z.string(),
    to: z.string(),
    reachable: z.boolean(),
    probe: z.discriminatedUnion('protocol', [
      z.object({ protocol: z.literal('ping') }),
      z.object({ protocol: z.literal('tcp'), port: z.int() }),
    ]),
  })
  .openapi('Expectation');

/** All files together. */
export const topologySchema = z
  .object({ networks: list(network), attachments: list(attachment), expects: list(expect) })
  .openapi('Topology');
