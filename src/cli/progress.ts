/** Tells a person at a terminal that something is still going on. */
import { fstatSync } from 'node:fs';
import { printError } from './output.ts';

/** Prints `what` and the seconds so far when more than one has passed; nothing where nobody looks. */
export function onProgressLine(what: string): Disposable {
  // node:tty can tell a terminal from /dev/null, and takes 5 ms to load.
  if (!fstatSync(2).isCharacterDevice()) return { [Symbol.dispose]: () => {} };
  const began = Date.now();
  const timer = setInterval(
    () => printError(`${what} ... ${Math.round((Date.now() - began) / 1000)} s`),
    1000,
  );
  timer.unref();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
