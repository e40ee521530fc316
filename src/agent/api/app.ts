/** The agent's API: every route of routes.ts, carried out. */
import { OpenAPIHono } from '@hono/zod-openapi';
import type { Outcome } from '../../apply/converge.ts';
import { attachByOptions } from '../../cli/attach.ts';
import { detachByOptions } from '../../cli/detach.ts';
import { listAttachments } from '../../observe/list.ts';
import type { AgentLog } from '../parts.ts';
import type { AgentEvent } from '../teller.ts';
import { requireSameHost, runPipework, runPipewright } from './commands.ts';
import { eventStream } from './events.ts';
import { ApiError, failureOf } from './failure.ts';
import { openApiDocument, routes } from './routes.ts';
import { AgentSession, type AgentSessionParts } from './session.ts';

/** What the API speaks for. */
export interface ApiParts extends AgentSessionParts {
  readonly version: string;
  readonly log: AgentLog;
  /** Aborted when the server stops: streams end then. */
  readonly stopping: AbortSignal;
}

const maxBodyBytes = 1024 * 1024;

/** The application; `fetch` answers one request. */
export function createApi(parts: ApiParts): OpenAPIHono {
  const api = new OpenAPIHono({
    defaultHook: (result) => {
      if (!result.success)
        throw new ApiError(400, 'BAD_REQUEST', result.error.issues.map(issueText).join('; '));
    },
  });
  api.use(async (c, next) => {
    limitBody(c.req.header('content-length'), c.req.header('transfer-encoding'));
    await next();
  });
  api.notFound((c) => {
    const message = `there is no ${c.req.method} ${c.req.path}; see /openapi.json`;
    return c.json({ error: { code: 'NOT_FOUND', message } }, 404);
  });
  api.onError((error, c) => {
    const { status, failure } = failureOf(error);
    if (status === 500) parts.log.warn({ path: c.req.path, error: error.stack }, 'a request failed');
    return c.json({ error: failure }, status);
  });
  addQuestions(api, parts);
  addActs(api, parts);
  return api;
}

function statusOf({ agent, host, version }: ApiParts) {
  return { version, netnsInode: host.netns.inode, ...agent.status() };
}

function addQuestions(api: OpenAPIHono, parts: ApiParts): void {
  const { agent, host, version, stopping } = parts;
  // Made when it is asked for: it is large, and hardly ever is.
  api.get('/openapi.json', (c) => c.json(openApiDocument(version)));
  api.openapi(routes.status, (c) => c.json(statusOf(parts), 200));
  api.openapi(routes.topology, (c) => c.json(agent.topology, 200));
  api.openapi(routes.plan, async (c) => c.json({ outcomes: (await agent.plan()).map(outcomeOf) }, 200));
  api.openapi(routes.attachments, (c) => c.json({ attachments: listAttachments(host) }, 200));
  api.openapi(routes.events, () => eventStream(agent, stopping));
}

function addActs(api: OpenAPIHono, parts: ApiParts): void {
  const { agent, log } = parts;
  api.openapi(routes.apply, async (c) => {
    const events: AgentEvent[] = [];
    using _listening = agent.onEvent((event) => events.push(event));
    agent.reload();
    await agent.idle();
    return c.json({ events, status: statusOf(parts) }, 200);
  });
  api.openapi(routes.attach, async (c) => {
    const { container, netnsInode, ...options } = c.req.valid('json');
    requireSameHost(parts, netnsInode);
    return c.json(
      await attachByOptions(new AgentSession(parts), { ...options, stay: false }, container),
      200,
    );
  });
  api.openapi(routes.detach, async (c) => {
    const { container, netnsInode, ...options } = c.req.valid('json');
    requireSameHost(parts, netnsInode);
    const result = await detachByOptions(new AgentSession(parts), options, container);
    agent.wake();
    return c.json(result, 200);
  });
  api.openapi(routes.pipework, async (c) => {
    const { argv, netnsInode } = c.req.valid('json');
    requireSameHost(parts, netnsInode);
    return c.json(await runPipework(parts, log, argv), 200);
  });
  api.openapi(routes.pipewright, async (c) => {
    const { argv, netnsInode } = c.req.valid('json');
    requireSameHost(parts, netnsInode);
    return c.json(await runPipewright(parts, log, argv), 200);
  });
}

/** @throws ApiError on a body that is too large, or does not say how large it is */
function limitBody(length: string | undefined, encoding: string | undefined): void {
  if (encoding !== undefined) throw new ApiError(411, 'BAD_REQUEST', 'the body needs a content-length');
  if (Number(length ?? 0) > maxBodyBytes)
    throw new ApiError(413, 'TOO_LARGE', `a body has at most ${maxBodyBytes} bytes`);
}

function issueText({
  path,
  message,
}: {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}): string {
  return path.length === 0 ? message : `${path.map(String).join('.')}: ${message}`;
}

function outcomeOf({ key, verb, change, steps, error }: Outcome) {
  return {
    key,
    verb,
    ...(change && { change }),
    steps,
    ...(error === undefined ? {} : { error: failureOf(error).failure }),
  };
}
