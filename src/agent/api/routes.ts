/** Every path of the agent's API with what it takes and answers, and the document that says so. */
import { createRoute, OpenAPIHono, type z } from '@hono/zod-openapi';
import {
  answerSchema,
  appliedSchema,
  attachedSchema,
  attachmentsSchema,
  attachSchema,
  commandSchema,
  detachedSchema,
  detachSchema,
  errorSchema,
  eventSchema,
  planSchema,
  statusSchema,
} from './schemas.ts';
import { topologySchema } from './topology-schema.ts';

const json = <T extends z.ZodType>(schema: T) => ({ 'application/json': { schema } });
const failed = { default: { description: 'It failed', content: json(errorSchema) } };

function answers<T extends z.ZodType>(description: string, schema: T) {
  return { 200: { description, content: json(schema) }, ...failed } as const;
}

function takes<T extends z.ZodType>(schema: T) {
  return { body: { content: json(schema), required: true } } as const;
}

const commandText = (program: string, which: string): string =>
  `What \`${program}\` does with these words, by the agent. ${which} 409 ACT_DIRECTLY: the caller has to do it itself.`;

/** By what they are for. */
export const routes = {
  status: createRoute({
    method: 'get',
    path: '/v1/status',
    summary: 'How every attachment is doing',
    responses: answers('The status', statusSchema),
  }),
  topology: createRoute({
    method: 'get',
    path: '/v1/topology',
    summary: 'What the topology files say',
    description: 'The topology in force: the last one that could be read.',
    responses: answers('The topology', topologySchema),
  }),
  plan: createRoute({
    method: 'get',
    path: '/v1/plan',
    summary: 'What would be changed now',
    responses: answers('The plan; empty when everything is as wanted', planSchema),
  }),
  apply: createRoute({
    method: 'post',
    path: '/v1/apply',
    summary: 'Read the topology files anew and make what they say',
    description: 'Answers when all has been tried once. What failed is tried again later by itself.',
    responses: answers('What happened', appliedSchema),
  }),
  attachments: createRoute({
    method: 'get',
    path: '/v1/attachments',
    summary: 'What is connected to what: `pipewright list`',
    responses: answers('The attachments as they are now', attachmentsSchema),
  }),
  attach: createRoute({
    method: 'post',
    path: '/v1/attach',
    summary: 'Connect a container: `pipewright attach`',
    description:
      'The attachment is kept from then on, through restarts of the container, unless `once` is given.',
    request: takes(attachSchema),
    responses: answers('What was done', attachedSchema),
  }),
  detach: createRoute({
    method: 'post',
    path: '/v1/detach',
    summary: 'Disconnect a container, and forget that it was kept: `pipewright detach`',
    request: takes(detachSchema),
    responses: answers('What was done', detachedSchema),
  }),
  pipework: createRoute({
    method: 'post',
    path: '/v1/pipework',
    summary: 'Run a command line of `pipework`',
    description: commandText('pipework', 'Only what connects a container without a DHCP program.'),
    request: takes(commandSchema),
    responses: answers('What it printed', answerSchema),
  }),
  pipewright: createRoute({
    method: 'post',
    path: '/v1/pipewright',
    summary: 'Run a command line of `pipewright`',
    description: commandText('pipewright', 'Only `attach` and `detach`.'),
    request: takes(commandSchema),
    responses: answers('What it printed', answerSchema),
  }),
  events: createRoute({
    method: 'get',
    path: '/v1/events',
    summary: 'What happens from now on, as server-sent events',
    description: 'A line `data: EVENT` for each; EVENT is JSON.',
    responses: {
      200: { description: 'The stream', content: { 'text/event-stream': { schema: eventSchema } } },
      ...failed,
    },
  }),
} as const;

/** The OpenAPI document, 3.1. */
export function openApiDocument(version: string) {
  const { openAPIRegistry, getOpenAPI31Document } = new OpenAPIHono();
  for (const route of Object.values(routes)) openAPIRegistry.registerPath(route);
  return getOpenAPI31Document({
    openapi: '3.1.0',
    info: {
      title: 'pipewright agent',
      version,
      description:
        'HTTP over the unix socket /run/pipewright/agent.sock, for root and the group pipewright. Who may use it is root.',
      license: { name: 'Apache-2.0' },
    },
  });
}
