/** Takes the time of several ways to do a thing, round by round, so that what disturbs the machine disturbs them all alike. */

/** One way to do it. What comes before and after is not measured. */
export interface Variant {
  readonly name: string;
  before?(): unknown;
  run(): unknown;
  after?(): unknown;
}

/** What was measured of one variant, in milliseconds. */
export interface Timing {
  readonly name: string;
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

let interrupted: string | undefined;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    interrupted = signal;
  });
}

/** Ends the measuring, and by way of `finally` takes everything away, when somebody wants it ended. */
export function checkInterrupted(): void {
  if (interrupted !== undefined) throw new Error(`stopped by ${interrupted}`);
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/** Runs every variant once a round, each round beginning with another one. The first `warmUp` rounds do not count. */
export async function measure(
  variants: readonly Variant[],
  { rounds, warmUp = 2 }: { readonly rounds: number; readonly warmUp?: number },
): Promise<Timing[]> {
  const times = variants.map((): number[] => []);
  for (let round = -warmUp; round < rounds; round++) {
    for (const [position] of variants.entries()) {
      const index = (position + round + warmUp) % variants.length;
      const variant = variants[index] as Variant;
      // A signal is heard of only when the event loop gets its turn.
      await new Promise((resolve) => setImmediate(resolve));
      checkInterrupted();
      const ms = await timed(variant);
      if (round >= 0) times[index]?.push(ms);
    }
  }
  return variants.map(({ name }, i) => timingOf(name, times[i] ?? []));
}

export function timingOf(name: string, times: readonly number[]): Timing {
  return { name, median: median(times), min: Math.min(...times), max: Math.max(...times) };
}

async function timed({ before, run, after }: Variant): Promise<number> {
  await before?.();
  const began = performance.now();
  await run();
  const ms = performance.now() - began;
  await after?.();
  return ms;
}
