/** Which containers an entry is about, as text. */

import { parseIp } from '../../model/address.ts';
import type { ExpectSpec, SelectedRuntime, Selector } from '../../model/topology.ts';
import { not, type Refused } from './values.ts';

/** What Docker, Podman and LXC accept in common as a name, and LXC's `@` and `+`. */
const containerName = /^[a-zA-Z0-9_][a-zA-Z0-9_.@+-]{0,254}$/;
/** A name, or with the engine's: `podman:web`. */
const expectedEnd = /^(?:(?:docker|podman):)?[a-zA-Z0-9_][a-zA-Z0-9_.@+-]{0,254}$/;
const containerPattern = /^[a-zA-Z0-9_*?][a-zA-Z0-9_.@+*?-]{0,254}$/;

/** `web`, or with `*` and `?` a pattern of names; of one engine with its name before: `podman:web`. */
export function readContainer(text: string): Selector | Refused {
  const [, engine, own = text] = /^(docker|podman):(.*)$/.exec(text) ?? [];
  const runtime: { runtime?: SelectedRuntime } =
    engine === 'docker' || engine === 'podman' ? { runtime: engine } : {};
  if (containerName.test(own)) return { by: 'name', name: own, ...runtime };
  if (containerPattern.test(own)) return { by: 'pattern', pattern: own, ...runtime };
  return notContainer(text);
}

function notContainer(text: string): Refused {
  const [, runtime, name] = /^(docker|podman|lxc|pid|netns):(.*)$/.exec(text) ?? [];
  if (runtime === 'pid' || runtime === 'netns') {
    return not('would not be found again', 'name a container as its runtime lists it');
  }
  if (runtime === 'lxc') return not('is of LXC, whose containers are not seen to start');
  if (name !== undefined) return not('has no name of a container after its runtime');
  if (text.includes('/'))
    return not('is not the name of a container', `for a Compose service: { compose: ${text} }`);
  if (text.includes('=')) return not('is not the name of a container', `for a label: { label: ${text} }`);
  return not('is not the name of a container, nor a pattern with * and ?');
}

/** `shop/web`: project and service. */
export function readCompose(text: string): Selector | Refused {
  const [, project, service] = /^([a-z0-9][a-z0-9_-]*)\/([a-zA-Z0-9._-]+)$/.exec(text) ?? [];
  return project === undefined || service === undefined
    ? not('is not PROJECT/SERVICE of Compose, as in shop/web')
    : { by: 'compose', project, service };
}

/** `tier=db`, or `tier` for any value. */
export function readLabel(text: string): Selector | Refused {
  const at = text.indexOf('=');
  const key = at < 0 ? text : text.slice(0, at);
  if (key === '' || /[\s\p{C}]/u.test(key) || /\p{C}/u.test(text)) {
    return not('is not a label, as in tier=db, or tier for any value');
  }
  return at < 0 ? { by: 'label', key } : { by: 'label', key, value: text.slice(at + 1) };
}

/** `web -> db tcp/5432`, `test1 -/-> test3`, `web -> 10.0.0.1`. */
export function readExpect(text: string): Omit<ExpectSpec, 'place'> | Refused {
  const [, from, arrow, to, probe = 'ping'] =
    /^(\S+)\s+(-\/->|->)\s+(\S+)(?:\s+(\S+))?$/.exec(text.trim()) ?? [];
  if (from === undefined || to === undefined) {
    return not('is not as in "web -> db tcp/5432" or "web -/-> db"', 'blanks go around the arrow');
  }
  for (const end of [from, to]) {
    if (/[*?]/.test(end)) return not('has a pattern: name one container on each side');
    const isAddress = end === to && parseIp(end) !== undefined;
    if (!isAddress && !expectedEnd.test(end))
      return not(`has "${end}", which is not the name of a container`);
  }
  if (from === to) return not('has the same container on both sides');
  const [, port] = /^tcp\/([1-9]\d{0,4})$/.exec(probe) ?? [];
  if (probe !== 'ping' && !(Number(port) >= 1 && Number(port) <= 65535)) {
    return not(`has "${probe}" after the names, where ping or tcp/PORT goes`);
  }
  return {
    from,
    to: parseIp(to)?.ip ?? to,
    reachable: arrow === '->',
    probe: port === undefined ? { protocol: 'ping' } : { protocol: 'tcp', port: Number(port) },
  };
}
