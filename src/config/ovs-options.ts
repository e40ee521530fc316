/** What only ports of Open vSwitch have, as options of a command and fields of a file say it. */
import { PipewrightError } from '../errors.ts';
import {
  type MirrorDirection,
  type MirrorSpec,
  mirrorDirections,
  type PolicingSpec,
} from '../model/attachment.ts';
import { checkIfname, parseVids, printable } from './names.ts';
import { parseRate } from './rate.ts';

/** Why this text names nothing that a mirror could be about, as the end of a sentence. */
export function checkMirrored(text: string): string | undefined {
  if (text === 'all') return 'stands by itself';
  const [, port] = /^port:(.*)$/.exec(text) ?? [];
  if (port !== undefined) {
    const why = checkIfname(port);
    return why && `is not the name of a port: it ${why}`;
  }
  const [, ifname] = /^(?:(?:docker|podman):)?[a-zA-Z0-9_][a-zA-Z0-9_.@+-]{0,254}(?:\/(.+))?$/.exec(text) ?? [
    undefined,
    '',
  ];
  if (ifname === '') return 'is not CONTAINER, CONTAINER/IFNAME or port:NAME';
  const why = ifname === undefined ? undefined : checkIfname(ifname);
  return why && `is not CONTAINER/IFNAME: the latter ${why}`;
}

/** As said: without `of` all of the bridge; in the model's order. */
export function mirrorOf(said: {
  readonly of?: readonly string[] | undefined;
  readonly direction?: MirrorDirection | undefined;
  readonly vlans?: readonly number[] | undefined;
}): MirrorSpec {
  const { of, direction, vlans } = said;
  return {
    ...(of && { of: [...new Set(of)].sort() }),
    ...(direction !== undefined && direction !== 'both' && { direction }),
    ...(vlans && { vlans: [...new Set(vlans)].sort((a, b) => a - b) }),
  };
}

/** What Open vSwitch counts, given bits per second and bits. */
export function policingOf(rate: number, burst = 0): PolicingSpec {
  const kilo = (bits: number): number => Math.min(Math.round(bits / 1000), 2 ** 32 - 1);
  return { rate: kilo(rate), burst: kilo(burst) };
}

/** As typed. */
export interface OvsOptionTexts {
  readonly mirror?: readonly string[] | undefined;
  readonly mirrorDirection?: string | undefined;
  readonly mirrorVlans?: readonly string[] | undefined;
  readonly policing?: string | undefined;
}

function bad(option: string, text: string, detail: string): PipewrightError {
  return new PipewrightError('BAD_ARGUMENT', { op: option, subject: `"${printable(text)}"`, detail });
}

/** @throws PipewrightError BAD_ARGUMENT */
export function parseOvsOptions(options: OvsOptionTexts): { mirror?: MirrorSpec; policing?: PolicingSpec } {
  const mirror = parseMirror(options);
  const { policing } = options;
  return { ...(mirror && { mirror }), ...(policing !== undefined && { policing: parsePolicing(policing) }) };
}

function parseMirror({ mirror, mirrorDirection, mirrorVlans }: OvsOptionTexts): MirrorSpec | undefined {
  const of = mirror?.flatMap((text) => text.split(','));
  for (const [option, text] of [
    ['--mirror-direction', mirrorDirection],
    ['--mirror-vlans', mirrorVlans?.join(',')],
  ] as const) {
    if (text !== undefined && of === undefined) throw bad(option, text, 'it goes with --mirror');
  }
  if (of === undefined) return undefined;
  const isAll = of.length === 1 && of[0] === 'all';
  for (const text of isAll ? [] : of) {
    const why = checkMirrored(text);
    if (why !== undefined) throw bad('--mirror', text, `it ${why}`);
  }
  const direction = mirrorDirections.find((known) => known === mirrorDirection);
  if (mirrorDirection !== undefined && (direction === undefined || isAll)) {
    const why = isAll ? 'all is both' : `it is one of ${mirrorDirections.join(', ')}`;
    throw bad('--mirror-direction', mirrorDirection, why);
  }
  const vlans = mirrorVlans?.flatMap((text) => text.split(',')).flatMap(parseMirrorVids);
  return mirrorOf({ of: isAll ? undefined : of, direction, vlans });
}

function parseMirrorVids(text: string): number[] {
  const vids = parseVids(text, 0);
  if (vids === undefined) throw bad('--mirror-vlans', text, 'VLAN ids are as 100,200-299');
  return vids;
}

/** `10mbit`, or `10mbit,1mbit` with a burst. */
function parsePolicing(text: string): PolicingSpec {
  const [rate = '', burst, ...rest] = text.split(',');
  const read = [parseRate(rate), burst === undefined ? 0 : parseRate(burst)] as const;
  for (const part of read) if (typeof part === 'string') throw bad('--policing', text, `it ${part}`);
  if (rest.length > 0) throw bad('--policing', text, 'it is RATE or RATE,BURST');
  return policingOf(Number(read[0]), Number(read[1]));
}
