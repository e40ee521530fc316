/** What goes over the agent's socket. Requests are checked by these schemas, and the OpenAPI document is made from them. */
import { z } from '@hono/zod-openapi';
import { interfaceIds, ipv6Modes } from '../../model/attachment.ts';
import type { Lease } from '../../model/lease.ts';

/** JSON has no frozen lists, TypeScript does. */
export const list = <T extends z.ZodType>(schema: T) => z.array(schema).readonly();

/** A failure, as errors.ts has it. */
export const errorSchema = z
  .object({
    error: z.object({
      code: z.string().openapi({
        description:
          'A code of docs/reference/errors.md; or BAD_REQUEST, NOT_FOUND, TOO_LARGE, ACT_DIRECTLY, INTERNAL',
        example: 'CONTAINER_UNKNOWN',
      }),
      message: z.string().openapi({ description: 'One line' }),
      hint: z.string().optional().openapi({ description: 'What to do next' }),
    }),
  })
  .openapi('Error');

const atSchema = z.int().openapi({ description: 'Milliseconds since 1970' });
const keySchema = z.string().openapi({
  description: 'CONTAINER/INTERFACE, "network NAME", or CONTAINER/LABEL of a label that is wrong',
  example: 'web/eth1',
});

const stepSchema = z
  .object({
    command: z
      .string()
      .openapi({ description: 'The command of iproute2 or Open vSwitch that does the same' }),
    because: z.string(),
  })
  .openapi('Step');

const cidrSchema = z
  .object({ family: z.literal([4, 6]), ip: z.string(), prefixLen: z.int() })
  .openapi('LeasedCidr');
const lifetime = z.number().optional().openapi({ description: 'Milliseconds since 1970; absent: for ever' });

const leaseSchema = z
  .object({
    family: z.literal([4, 6]),
    addresses: list(z.object({ cidr: cidrSchema, validUntil: lifetime, preferredUntil: lifetime })),
    server: z.string().openapi({ description: 'IPv4: its address. IPv6: its DUID in hexadecimal' }),
    broadcast: z.string().optional(),
    routes: list(z.object({ dst: cidrSchema, gateway: z.string().optional() })),
    mtu: z.int().optional(),
    dns: list(z.string()),
    search: list(z.string()),
    ntp: list(z.string()),
    vendorSpecific: z.string().optional().openapi({ description: 'Option 43 in hexadecimal' }),
    since: z
      .number()
      .openapi({ description: 'When it was granted or last renewed, milliseconds since 1970' }),
    renewAt: z.number().optional().openapi({ description: 'T1: renewed with its server' }),
    rebindAt: z.number().optional().openapi({ description: 'T2: renewed with any server' }),
    expiresAt: lifetime,
  } satisfies Record<keyof Lease, z.ZodType>)
  .openapi('Lease');

const leaseStatusSchema = z
  .object({
    family: z.literal([4, 6]),
    state: z.string().openapi({
      description: 'In the words of RFC 2131; what a DHCPv6 client does likewise',
      example: 'BOUND',
    }),
    lease: leaseSchema.optional(),
    reason: z.string().optional().openapi({ description: 'Why there is none, or why the last one went' }),
  })
  .openapi('LeaseStatus');

const attachmentStatusSchema = z
  .object({
    key: keySchema,
    state: z.enum(['healthy', 'failing', 'contested', 'waiting']).openapi({
      description:
        'waiting: no such container runs; contested: something else undoes every repair, so that they have become rare',
    }),
    since: atSchema,
    repairs: z.int().openapi({ description: 'How often it was found changed and put right' }),
    detail: z.string().optional().openapi({ description: 'Why it fails, or what was repaired last' }),
    leases: list(leaseStatusSchema)
      .optional()
      .openapi({ description: 'Of an attachment that has its addresses by DHCP' }),
  })
  .openapi('AttachmentStatus');

const inode = z.int().positive();

/** How everything is doing. */
export const statusSchema = z
  .object({
    version: z.string(),
    netnsInode: inode.openapi({
      description: 'The network namespace that is the host of this agent (stat -L -c %i /proc/PID/ns/net)',
    }),
    attachments: list(attachmentStatusSchema),
    problems: list(z.string()).openapi({
      description: 'What is wrong with the topology files, an engine or the state directory',
    }),
  })
  .openapi('Status');

/** What a round would do. */
export const planSchema = z
  .object({
    outcomes: list(
      z
        .object({
          key: keySchema,
          verb: z.enum(['attach', 'detach', 'network', 'drop network', 'uplink', 'drop uplink']),
          change: z.enum(['create', 'update', 'replace']).optional().openapi({
            description:
              'Of networks and attachments: made, changed in place, or made anew in place of the former',
          }),
          steps: list(stepSchema),
          error: errorSchema.shape.error.optional(),
        })
        .openapi('Outcome'),
    ),
  })
  .openapi('Plan');

/** Something that happened. */
export const eventSchema = z
  .object({
    at: atSchema,
    key: keySchema,
    what: z.enum(['made', 'repaired', 'failed', 'contested', 'removed', 'topology', 'lease']),
    detail: z.string(),
  })
  .openapi('Event');

/** What reading the files anew has led to. */
export const appliedSchema = z.object({ events: list(eventSchema), status: statusSchema }).openapi('Applied');

/** A line of `pipewright list`. */
export const attachmentsSchema = z
  .object({
    attachments: list(
      z
        .object({
          container: z.string(),
          runtime: z.string(),
          ifname: z.string(),
          network: z.string().openapi({ example: 'ovs:ovs0@100' }),
          hostIfname: z.string().nullable(),
          addrs: list(z.string()),
          mac: z.string().nullable(),
          mtu: z.int().nullable(),
          state: z.enum(['up', 'no carrier', 'down', 'missing', 'gone']),
          since: z.string().openapi({ description: 'RFC 3339' }),
        })
        .openapi('Attachment'),
    ),
  })
  .openapi('Attachments');

const netnsInode = inode.openapi({
  description:
    "The caller's network namespace (stat -L -c %i /proc/self/ns/net). Where it is not the agent's, the answer is 409",
});

const container = z.string().openapi({
  description: 'Name, id or id prefix; or docker:, podman:, lxc:, pid:, netns: and a name',
  example: 'web',
});

/** The options of `pipewright attach`. */
export const attachSchema = z
  .strictObject({
    container,
    network: z.string().openapi({ description: 'KIND:NAME, or a name', example: 'bridge:br1' }),
    ifname: z.string().optional(),
    hostIfname: z.string().optional(),
    address: z
      .array(z.string())
      .optional()
      .openapi({ example: ['10.0.0.2/24@10.0.0.1'] }),
    gateway: z.array(z.string()).optional(),
    route: z
      .array(z.string())
      .optional()
      .openapi({ example: ['10.5.0.0/16 via 10.0.0.1'] }),
    mac: z.string().optional(),
    vlan: z.string().optional(),
    trunks: z
      .array(z.string())
      .optional()
      .openapi({ example: ['100,200-299'] }),
    vlanMode: z.string().optional(),
    mirror: z
      .array(z.string())
      .optional()
      .openapi({ example: ['web/eth1'] }),
    mirrorDirection: z.string().optional(),
    mirrorVlans: z.array(z.string()).optional(),
    policing: z.string().optional(),
    guestVlan: z
      .array(z.string())
      .optional()
      .openapi({ example: ['100=10.100.0.2/24'] }),
    vlanFiltering: z.boolean().default(false),
    mtu: z.string().optional(),
    mode: z.string().optional(),
    ipvlanFlag: z.string().optional(),
    sourceMac: z.array(z.string()).optional(),
    spoofCheck: z.enum(['on', 'off']).optional(),
    dhcp: z.boolean().default(false).openapi({ description: 'Addresses, routes and MTU from a DHCP server' }),
    ipv6: z.enum(ipv6Modes).optional(),
    interfaceId: z.enum(interfaceIds).optional(),
    dns: z.literal('container').optional(),
    hostname: z.string().optional(),
    clientId: z.string().optional(),
    duid: z.string().optional(),
    vendorClass: z.string().optional(),
    enterprise: z.string().optional(),
    userClass: z.array(z.string()).optional(),
    requestAddress: z.array(z.string()).optional(),
    dhcpOption: z
      .array(z.string())
      .optional()
      .openapi({ example: ['43=01:04:0a:00:00:01'] }),
    dhcp6Option: z.array(z.string()).optional(),
    dad: z
      .boolean()
      .default(false)
      .openapi({ description: 'Ask the link whether somebody has the addresses, before they are used' }),
    noFirewall: z.boolean().default(false),
    dryRun: z.boolean().default(false),
    once: z.boolean().default(false).openapi({ description: 'Do not keep it' }),
    netnsInode: netnsInode.optional(),
  })
  .openapi('Attach');

const done = {
  container: z.string(),
  dryRun: z.boolean(),
  steps: list(stepSchema),
  warnings: list(z.string()),
};

export const attachedSchema = z
  .object({
    ...done,
    runtime: z.enum(['docker', 'podman', 'lxc', 'pid', 'netns']),
    ifname: z.string(),
    changed: z.boolean(),
    hostIfname: z.string().optional(),
  })
  .openapi('Attached');

/** The options of `pipewright detach`. */
export const detachSchema = z
  .strictObject({
    container,
    ifname: z.string().optional().openapi({ description: 'By default eth1' }),
    all: z.boolean().default(false),
    dryRun: z.boolean().default(false),
    netnsInode: netnsInode.optional(),
  })
  .openapi('Detach');

export const detachedSchema = z.object({ ...done, ifnames: list(z.string()) }).openapi('Detached');

/** A command line. */
export const commandSchema = z
  .strictObject({
    argv: z.array(z.string()).max(10_000).openapi({ description: "Without the program's name" }),
    netnsInode,
  })
  .openapi('Command');

/** What it has printed. */
export const answerSchema = z
  .object({ exitCode: z.int(), stdout: z.string(), stderr: z.string() })
  .openapi('Answer');
