// Connects containers to a LAN and to VLANs, pings, draws the result, and takes everything away again.
// usage: node scripts/demo.mjs [--embedded]     with --embedded neither Docker nor Open vSwitch is used
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { beginTakingAway, Interrupted, interrupt, run, say, type } from './demo/command.mjs';
import { connections, draw } from './demo/draw.mjs';
import { dockerContainers, findDocker, findOvs, mark, pingAll, plainNamespaces } from './demo/ground.mjs';
import { lan, startLan } from './demo/lan.mjs';
import { inventory, leftOver, resolverDigest } from './demo/traces.mjs';

// Commands are shown as typed in this folder.
process.chdir(path.dirname(path.dirname(fileURLToPath(import.meta.url))));

const containers = [1, 2, 3, 4].map((n) => `${mark}-test${n}`);
const [test1, test2, test3, test4] = containers;
const bridge = `br0-${mark}`;
const switches = { ovs: `ovs0-${mark}`, 100: `br100-${mark}`, 200: `br200-${mark}` };
const pidFile = `/run/${mark}.pid`;

/** Host ends of what was connected: their names carry pids, not the mark. */
const hostEnds = new Set();
let wrongPings = 0;

/** One demo at a time, as the names are always the same. Whether an earlier one was killed before it could take away. */
function claim() {
  try {
    writeFileSync(pidFile, String(process.pid), { flag: 'wx' });
    return false;
  } catch (error) {
    if (error.code !== 'EEXIST') throw error;
  }
  const pid = readFileSync(pidFile, 'utf8');
  try {
    if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('demo')) {
      throw new Error(`another demo is running, process ${pid}`);
    }
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
  writeFileSync(pidFile, String(process.pid));
  return true;
}

/** Pings, and says of each what was expected and what was seen. */
async function ping(ground, pings) {
  say();
  const answers = await pingAll(
    pings.map(([name, , ip, expected]) => ({ from: ground.inside(name), ip, expected })),
  );
  const widest = Math.max(...pings.map(([, to, ip]) => to.length + ip.length));
  answers.forEach(({ ms }, i) => {
    const [name, to, ip, expected] = pings[i];
    const right = expected === (ms !== undefined);
    if (!right) wrongPings += 1;
    const seen = ms === undefined ? 'none' : `${ms} ms`;
    const where = `${to} ${ip}`.padEnd(widest + 1);
    const wanted = `answer expected: ${expected ? 'yes' : 'no '}`;
    say(`  ${name} pings ${where}  ${wanted}  seen: ${seen.padEnd(9)} ${right ? 'as expected' : 'WRONG'}`);
  });
}

/** Shows what is connected: `pipewright list`, and a drawing. */
async function show(notes) {
  say();
  await type(['bin/pipewright', 'list']);
  const networks = await connections(containers);
  for (const { hostIfname } of [...networks.values()].flat()) hostEnds.add(hostIfname);
  say();
  for (const line of await draw(networks, notes)) say(`  ${line}`.trimEnd());
  say();
}

async function detach(ground, names) {
  for (const name of names) await type(['bin/pipewright', 'detach', ground.ref(name)]);
}

async function sceneLan(ground, undo) {
  const { uplink, gateway, beyond, netns } = lan;
  say(
    `\n1. A LAN: gateway ${gateway}, a DHCP server, and ${beyond} behind the gateway, in the namespace ${netns}.`,
  );
  say(`   ${uplink} is this host's NIC on it.\n`);
  const world = await startLan();
  undo.push(world.remove);
  await type(['bin/pipework', bridge, ground.ref(test1), `10.10.101.150/24@${gateway}`]);
  await type(['ip', 'link', 'set', uplink, 'master', bridge]);
  await type(['bin/pipework', bridge, ground.ref(test2), world.dhcpWord]);
  const leased = (await connections([test2])).get(bridge)?.[0]?.addrs[0]?.split('/')[0] ?? '';
  await ping(ground, [
    [test1, 'gateway', gateway, true],
    [test1, 'beyond', beyond, true],
    [test1, test2, leased, true],
    [test2, 'gateway', gateway, true],
    [test2, 'beyond', beyond, true],
    [test2, test1, '10.10.101.150', true],
  ]);
  await show({ [uplink]: `gateway ${gateway}` });
  undo.pop();
  await world.remove();
  await detach(ground, [test1, test2]);
}

async function sceneVlans(ground, ovs) {
  say('\n2. Two VLANs on one host, all four containers in 192.168.0.0/24.');
  if (!ovs) say('   Without Open vSwitch: a Linux bridge for each VLAN, and no tags.');
  say();
  const members = [
    [test1, 100],
    [test2, 100],
    [test3, 200],
    [test4, 200],
  ];
  for (const [i, [name, vid]] of members.entries()) {
    const address = `192.168.0.${i + 1}/24`;
    const place = ovs ? switches.ovs : switches[vid];
    await type(['bin/pipework', place, ground.ref(name), address, ...(ovs ? [`@${vid}`] : [])]);
  }
  const pairs = members.flatMap(([from, vid], i) =>
    members.slice(i + 1).map(([to, other], j) => [from, to, `192.168.0.${i + j + 2}`, vid === other]),
  );
  await ping(ground, pairs);
  await show(ovs ? {} : { [switches[100]]: 'VLAN 100', [switches[200]]: 'VLAN 200' });
  await detach(ground, containers);
}

/** Takes away what is there, however far it came. */
async function takeAway(ground, undo) {
  for (const step of undo.reverse()) await step();
  for (const name of containers) await run(['bin/pipewright', 'detach', '--all', ground.ref(name)]);
  await ground.remove(containers);
}

/** What a failure of `pipewright detach` would leave. */
async function force(present) {
  const links = [bridge, switches[100], switches[200], lan.uplink];
  for (const link of links) await run(['ip', 'link', 'del', link]);
  if (present.ovs) await run(['ovs-vsctl', '--timeout=5', '--if-exists', 'del-br', switches.ovs]);
}

/** What is left of the demo. A namespace goes a moment after its last process, and the links in it with it. */
async function findLeft(present, before) {
  for (let tries = 0; ; tries += 1) {
    const left = leftOver(before, await inventory(present), hostEnds);
    if (left.length === 0 || tries === 20) return left;
    await sleep(100);
  }
}

async function play(ground, present, undo) {
  say('');
  for (const name of containers) await type(ground.startCommand(name));
  await sceneLan(ground, undo);
  await sceneVlans(ground, present.ovs);
}

/** The exit code. */
async function demo(killedBefore) {
  const began = performance.now();
  const embedded = process.argv.includes('--embedded');
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, interrupt);
  const present = embedded ? {} : { docker: await findDocker(), ovs: await findOvs() };
  const ground = present.docker ? await dockerContainers(present.docker) : plainNamespaces();
  if (killedBefore) {
    say('An earlier demo was killed: taking away what it left.');
    await takeAway(ground, [async () => run(['ip', 'netns', 'del', lan.netns])]);
    await force(present);
  }
  say(`Used: ${ground.used};`);
  say(present.ovs ? `  Open vSwitch ${present.ovs};` : '  no Open vSwitch, so no tags on ports;');
  say(`  Node.js ${process.version}; a LAN of one namespace, with dnsmasq.`);
  const before = await inventory(present);
  const resolver = resolverDigest();
  const undo = [];
  let failure;
  try {
    await play(ground, present, undo);
  } catch (error) {
    failure = error;
  }
  const signal = beginTakingAway();
  if (failure && !(failure instanceof Interrupted)) say(`\nFailed: ${failure.message}`);
  await takeAway(ground, undo);
  const left = await findLeft(present, before);
  await force(present);
  const changed = resolverDigest() !== resolver;
  say();
  say(left.length === 0 ? 'Taken away: nothing of it is left on this host.' : 'Left, and should not be:');
  for (const line of left) say(`  ${line}`);
  say(
    changed
      ? '/etc/resolv.conf was CHANGED.'
      : `/etc/resolv.conf is untouched (sha256 ${resolver.slice(0, 16)}...).`,
  );
  if (wrongPings > 0) say(`${wrongPings} pings were not as expected.`);
  say(`${signal ? 'Stopped' : 'Done'} after ${((performance.now() - began) / 1000).toFixed(1)} s.`);
  if (signal) return 130;
  return failure || wrongPings > 0 || left.length > 0 || changed ? 1 : 0;
}

/** Claims, plays, and says what went wrong outside of the scenes. */
async function main() {
  if (process.geteuid() !== 0) throw new Error('needs root');
  const killedBefore = claim();
  try {
    return await demo(killedBefore);
  } finally {
    rmSync(pidFile, { force: true });
  }
}

process.exitCode = await main().catch((error) => {
  say(`demo: ${error.message}`);
  return error instanceof Interrupted ? 130 : 1;
});
