/** inotify(7), for things that another program makes, takes away and makes again: sockets of daemons. */
import { existsSync, type FSWatcher, readlinkSync, watch } from 'node:fs';
import path from 'node:path';

/** How long, and for what, is waited. */
interface TouchOptions {
  /** Whether it was there when the caller last looked. */
  readonly wasThere: boolean;
  /** Milliseconds. */
  readonly ms: number;
  readonly signal: AbortSignal;
}

/**
 * Resolves when something has been made, replaced or taken away at `place`, at once when it has been made just before;
 * after `ms` milliseconds in any case, and when the signal is aborted. Never rejects: who cannot watch waits `ms`.
 * `inotifywait --event create,delete,move FOLDER`
 * @returns whether it was touched, as far as is known
 */
export function touched(place: string, { wasThere, ms, signal }: TouchOptions): Promise<boolean> {
  return new Promise((resolve) => {
    const target = targetOf(place);
    let watcher: FSWatcher | undefined;
    const end = (wasTouched: boolean): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', giveUp);
      watcher?.close();
      resolve(wasTouched);
    };
    const giveUp = (): void => end(false);
    const onChange = (): void => end(true);
    const follow = (): void => {
      watcher?.close();
      watcher = watchNearest(target, { onChange, onWay: follow });
      // Made before anybody watched.
      if (!wasThere && existsSync(target)) onChange();
    };
    const timer = setTimeout(giveUp, ms);
    signal.addEventListener('abort', giveUp, { once: true });
    if (signal.aborted) giveUp();
    else follow();
  });
}

/** `/var/run/docker.sock` can be a link to Podman's, which is there before what it leads to is. */
function targetOf(place: string): string {
  try {
    return path.resolve(path.dirname(place), readlinkSync(place));
  } catch {
    return path.resolve(place);
  }
}

/** Watches the folder of `place`; while there is none, the nearest one above it that there is. */
function watchNearest(
  place: string,
  { onChange, onWay }: { readonly onChange: () => void; readonly onWay: () => void },
): FSWatcher | undefined {
  for (;;) {
    let [name, folder] = [path.basename(place), path.dirname(place)];
    while (!existsSync(folder)) [name, folder] = [path.basename(folder), path.dirname(folder)];
    const isItself = folder === path.dirname(place);
    let watcher: FSWatcher;
    try {
      watcher = watch(folder, { persistent: false }, (_event, entry) => {
        if (entry === null || entry === name) (isItself ? onChange : onWay)();
        // The end of the folder itself is told with its own name.
        else if (entry === path.basename(folder)) onWay();
      });
    } catch {
      // Too many watches, or the folder has just gone.
      return undefined;
    }
    watcher.on('error', () => watcher.close());
    if (isItself || !existsSync(path.join(folder, name))) return watcher;
    // It was made in between.
    watcher.close();
  }
}
