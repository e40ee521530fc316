/** What a mistyped word was probably meant to be. */

/** Words that other programs use for what is called otherwise here. */
const synonyms: Readonly<Record<string, string>> = {
  address: 'addresses',
  addr: 'addresses',
  cidr: 'addresses',
  dev: 'ifname',
  driver: 'kind',
  gw: 'gateway',
  host_address: 'hostAddress',
  hwaddr: 'mac',
  interface: 'ifname',
  iface: 'ifname',
  ip: 'addresses',
  ipam: 'subnet',
  ips: 'addresses',
  master: 'bridge',
  nic: 'uplink',
  parent: 'uplink',
  pool: 'range',
  service: 'compose',
  tag: 'vlan',
  trunk: 'trunks',
  type: 'kind',
  vid: 'vlan',
};

/** `did you mean "uplink"?`, or undefined when no known word is near. */
export function didYouMean(word: string, known: Iterable<string>): string | undefined {
  const words = [...known];
  const lower = word.toLowerCase();
  const synonym = synonyms[lower.replaceAll('-', '_')];
  if (synonym !== undefined && words.includes(synonym)) return `did you mean "${synonym}"?`;
  // Two letters of seven may be wrong, of three one; and the first of the nearest wins.
  let best: { word: string; distance: number } | undefined;
  for (const candidate of words) {
    const most = Math.max(1, Math.floor(Math.max(candidate.length, word.length) / 3));
    if (Math.abs(candidate.length - word.length) > most) continue;
    const distance = distanceOf(lower, candidate.toLowerCase());
    if (
      distance <= most &&
      distance < word.length &&
      distance < (best?.distance ?? Number.POSITIVE_INFINITY)
    ) {
      best = { word: candidate, distance };
    }
  }
  return best && `did you mean "${best.word}"?`;
}

/** Letters to insert, drop, replace or swap with the next (the optimal string alignment distance). */
function distanceOf(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let least = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        least = Math.min(least, (beforeLast[j - 2] ?? 0) + 1);
      }
      row.push(least);
    }
    [beforeLast, last] = [last, row];
  }
  return last[b.length] ?? 0;
}
