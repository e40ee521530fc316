/** What happens, as server-sent events. */
import type { Agent } from '../agent.ts';
import type { AgentEvent } from '../teller.ts';

/** Events that a slow reader may be behind; then it is hung up on, rather than remembered for ever. */
const mostBehind = 1000;

/** The response of `GET /v1/events`: a line `data: JSON` for each event, until the reader or the server goes. */
export function eventStream(agent: Agent, stopping: AbortSignal): Response {
  const encoder = new TextEncoder();
  let listening: Disposable | undefined;
  const stop = (): void => listening?.[Symbol.dispose]();
  const body = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        const close = (): void => {
          stop();
          controller.close();
        };
        // A comment: the reader knows now that whatever happens next will be heard.
        controller.enqueue(encoder.encode(': listening\n\n'));
        listening = agent.onEvent((event: AgentEvent) => {
          if ((controller.desiredSize ?? 0) <= -mostBehind) return close();
          controller.enqueue(encoder.encode(`data: ${JSON.stringify(event)}\n\n`));
        });
        stopping.addEventListener('abort', close, { once: true });
      },
      cancel: stop,
    },
    { highWaterMark: 1 },
  );
  return new Response(body, {
    headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' },
  });
}
