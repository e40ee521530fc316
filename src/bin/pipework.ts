/** Entry point of bin/pipework. The program itself is loaded only when the agent does not do it. */
import { handOver } from '../cli/handover.ts';

const argv = process.argv.slice(2);
const answered = handOver('pipework', argv);
if (answered !== undefined) process.exit(answered);
else {
  void import('./pipework-program.ts')
    .then(({ main }) => main(argv))
    // Not left to end by itself: what is over need not be taken apart, which takes 3 ms.
    .then((code) => process.exit(code));
}
