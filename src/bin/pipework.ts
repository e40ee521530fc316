/** Entry point of bin/pipework. The program itself is loaded only when the agent does not do it. */
import { handOver } from '../cli/handover.ts';

const given = process.argv.slice(2);
// The agent, which may run the line, has another environment. `pipework` without arguments explains itself.
const argv =
  process.env.PIPEWORK_BRIDGE_VLAN === '1' && given.length > 0 ? ['--bridge-vlan', ...given] : given;
const answered = handOver('pipework', argv);
if (answered !== undefined) process.exit(answered);
else {
  void import('./pipework-program.ts')
    .then(({ main }) => main(argv))
    // Not left to end by itself: what is over need not be taken apart, which takes 3 ms.
    .then((code) => process.exit(code));
}
