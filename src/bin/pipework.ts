/** Entry point of bin/pipework. */
import { main } from '../cli/pipework.ts';

void main(process.argv.slice(2)).then((code) => {
  process.exitCode = code;
});
