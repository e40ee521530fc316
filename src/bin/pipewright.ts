/** Entry point of bin/pipewright. */
import { main } from '../cli/pipewright.ts';

void main(process.argv.slice(2)).then((code) => {
  process.exitCode = code;
});
