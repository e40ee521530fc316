/** What bin/pipewright does by itself: lib/pipewright-program.cjs. */
export { main } from '../cli/pipewright.ts';
