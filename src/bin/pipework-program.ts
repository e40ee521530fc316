/** What bin/pipework does by itself: lib/pipework-program.cjs. */
export { main } from '../cli/pipework.ts';
