/** Inside of a process that runs on, as an agent does: one attachment, and two hundred. */
import type { Container } from '../src/containers/container.ts';
import { type Attacher, bridge, type Cleanup, exec, makeNamespaces, namespaceContainer } from './ground.ts';
import { checkInterrupted, measure, type Timing, timingOf } from './rounds.ts';

/** Names of the variants. */
export const names = {
  attach: 'attach()',
  batches: '2 x ip -batch: host, container',
  spawn: '2 x true, what starting two processes takes',
  manyAttaches: '200 attach(), one after the other',
  manyDetaches: 'detach() of 200 at once',
  detachOneByOne: '200 detach(), one after the other',
} as const;

export async function measureOne(cleanup: Cleanup, attacher: Attacher, rounds: number): Promise<Timing[]> {
  const [ours, theirs] = ['pwbench-a', 'pwbench-b'] as const;
  makeNamespaces(cleanup, [ours, theirs]);
  const guest = await namespaceContainer(ours);
  const onHost = `link add name vpwbench mtu 1500 type veth peer name eth1 mtu 1500 netns ${theirs}
link set vpwbench master ${bridge} up
`;
  const inGuest = `addr add 10.99.0.3/24 brd + dev eth1
link set eth1 up
`;
  return measure(
    [
      {
        name: names.attach,
        run: () => attacher.attach(guest, '10.99.0.2/24'),
        after: () => attacher.detach(guest),
      },
      {
        name: names.batches,
        run: () => {
          exec(['ip', '-batch', '-'], onHost);
          exec(['ip', '-n', theirs, '-batch', '-'], inGuest);
        },
        after: () => exec(['ip', 'link', 'del', 'vpwbench']),
      },
      {
        name: names.spawn,
        run: () => {
          exec(['true'], '');
          exec(['true'], '');
        },
      },
    ],
    { rounds },
  );
}

export async function measureMany(cleanup: Cleanup, attacher: Attacher, rounds: number): Promise<Timing[]> {
  const labels = Array.from({ length: 200 }, (_, i) => `pwbench-${i + 1}`);
  makeNamespaces(cleanup, labels);
  const guests = await Promise.all(labels.map(namespaceContainer));
  const times = { attach: [] as number[], detach: [] as number[], oneByOne: [] as number[] };
  const attachAll = async (): Promise<void> => {
    for (const [i, guest] of guests.entries()) await attacher.attach(guest, `10.99.1.${i + 1}/16`);
  };
  for (let round = 0; round < rounds; round++) {
    checkInterrupted();
    times.attach.push(await timed(attachAll));
    times.detach.push(await timed(() => attacher.detach(...guests)));
  }
  // They take seconds each, and are for comparison only.
  for (let round = 0; round < Math.min(3, rounds); round++) {
    checkInterrupted();
    await attachAll();
    times.oneByOne.push(await timed(() => detachOneByOne(attacher, guests)));
  }
  return [
    timingOf(names.manyAttaches, times.attach),
    timingOf(names.manyDetaches, times.detach),
    timingOf(names.detachOneByOne, times.oneByOne),
  ];
}

async function detachOneByOne(attacher: Attacher, guests: readonly Container[]): Promise<void> {
  for (const guest of guests) await attacher.detach(guest);
}

async function timed(act: () => Promise<void>): Promise<number> {
  const began = performance.now();
  await act();
  return performance.now() - began;
}
