/** The text that names a container on a command line or in a file. */
import { PipewrightError } from '../errors.ts';
import type { ContainerRef } from '../model/attachment.ts';

/** What Docker and Podman accept when a container is created; ids and their prefixes are of the same form. */
const engineName = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$/;
/** LXC takes almost anything; this leaves out what would be a path, an option or a pattern. */
const lxcName = /^[a-zA-Z0-9_][a-zA-Z0-9_.@:+-]{0,254}$/;
/** One name below /run/netns. `\p{C}`: control and format characters, lone surrogates. */
const netnsName = /^(?!\.{1,2}$)[^\s/\p{C}]{1,255}$/u;
const netnsPath = /^\/[^\s\p{C}]{1,4094}$/u;
/** The kernel's own limit, PID_MAX_LIMIT. */
const maxPid = 4_194_304;

/**
 * `web`, `docker:web`, `podman:web`, `lxc:web`, `pid:123`, `netns:blue`, `netns:/path`. Throws BAD_ARGUMENT
 * on everything else. The opposite of formatContainer.
 */
export function parseContainerRef(text: string): ContainerRef {
  const colon = text.indexOf(':');
  const runtime = colon < 0 ? 'any' : text.slice(0, colon);
  const name = text.slice(colon + 1);
  if (text === '') throw refuse(text, 'the name of a container is empty');
  switch (runtime) {
    case 'any':
      // The word itself is no prefix, and as a name it is a container's like any other.
      if (colon >= 0) break;
      return checked(text, { runtime, name }, engineName.test(name));
    case 'docker':
    case 'podman':
      return checked(text, { runtime, name }, engineName.test(name));
    case 'lxc':
      return checked(text, { runtime, name }, lxcName.test(name));
    case 'pid':
      return checked(text, { runtime, name }, /^[1-9]\d{0,6}$/.test(name) && Number(name) <= maxPid);
    case 'netns':
      return checked(text, { runtime, name }, (name.startsWith('/') ? netnsPath : netnsName).test(name));
  }
  throw refuse(text, 'before the colon goes docker, podman, lxc, pid or netns');
}

function checked(text: string, ref: ContainerRef, good: boolean): ContainerRef {
  if (good) return ref;
  const what = {
    any: 'the name or id of a container',
    docker: 'the name or id of a Docker container',
    podman: 'the name or id of a Podman container',
    lxc: 'the name of an LXC container',
    pid: `a process id from 1 to ${maxPid}`,
    netns: 'a name below /run/netns or an absolute path',
  }[ref.runtime];
  throw refuse(text, ref.name === '' ? 'nothing comes after the colon' : `this is not ${what}`);
}

function refuse(text: string, detail: string): PipewrightError {
  const cut = text.length > 80 ? `${text.slice(0, 80)}...` : text;
  // Nothing that a terminal would act on goes out as it came.
  const shown = JSON.stringify(cut).replace(
    /\p{C}/gu,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return new PipewrightError('BAD_ARGUMENT', { op: 'container', subject: shown, detail });
}
