/**
 * The one definition of a topology file: it gives the types of what is read, the messages about what is wrong, the JSON
 * Schema for editors and docs/reference/config.md.
 *
 * An `id` names an object in the reference page; a `title` says what sort of text a field takes.
 */
import * as z from 'zod';
import { attachmentSchema } from './schema-attachment.ts';
import { networkSchema } from './schema-network.ts';
import { fields } from './schema-parts.ts';
import { readExpect } from './selector.ts';
import * as v from './values.ts';

/** What must, or must not, be reachable. */
export const expectSchema = v.textAs(readExpect).meta({
  title: 'text',
  examples: ['web -> db tcp/5432', 'test1 -/-> test3', 'web -> 10.10.101.254'],
});

const version = z.literal(1).optional().meta({ description: 'Of the format; 1.' });

/** Hosts that the files are about. */
export const hostsSchema = z.array(v.hostName.meta({ title: 'host name', examples: ['a'] })).min(1);

/** A file, its parts unread. */
export const envelopeSchema = fields({
  version,
  hosts: z.unknown().optional(),
  networks: z.record(z.string(), z.unknown()).nullish(),
  attachments: z.array(z.unknown()).nullish(),
  expect: z.array(z.unknown()).nullish(),
});

/** A whole file. */
export const topologySchema = fields({
  version,
  hosts: hostsSchema.nullish().meta({
    description:
      'Names of the hosts that the files are about, where they are about several: each takes its own part. A host is known by ' +
      'its host name, or as `--host` says.',
    examples: [['a', 'b']],
  }),
  networks: z.record(z.string(), networkSchema).nullish().meta({
    title: 'networks',
    description: 'Places to plug into, by the name that attachments know them by.',
  }),
  attachments: z.array(attachmentSchema).nullish().meta({
    title: 'attachments',
    description: 'Interfaces of containers, each on a network.',
  }),
  expect: z
    .array(expectSchema)
    .nullish()
    .meta({
      title: 'expectations',
      description:
        'What must be reachable from where, and what must not: `A -> B`, `A -/-> B`, by ping or with `tcp/PORT`. A is a ' +
        'container by name, B one or an address.',
    }),
}).meta({ title: 'pipewright topology' });
