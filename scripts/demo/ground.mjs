// What the demo stands on: containers of the Docker Engine or plain network namespaces, and Open vSwitch where it is.
import { must, run } from './command.mjs';

/** Everything that the demo makes carries this in its name. */
export const mark = 'pwdemo';

/** The version of the Docker Engine, when one answers on a unix socket of this host. */
export async function findDocker() {
  const { DOCKER_HOST: place = '' } = process.env;
  if (place !== '' && !place.startsWith('unix://')) return undefined;
  const { code, stdout } = await run([
    'timeout',
    '5',
    'docker',
    'version',
    '--format',
    '{{.Server.Version}}',
  ]);
  return code === 0 ? stdout.trim() : undefined;
}

/** The version of Open vSwitch, when its database and its switch both answer. */
export async function findOvs() {
  const database = await run(['ovs-vsctl', '--timeout=2', 'get', 'Open_vSwitch', '.', 'ovs_version']);
  const daemon = await run(['ovs-appctl', '--timeout=2', '-t', 'ovs-vswitchd', 'version']);
  if (database.code !== 0 || daemon.code !== 0) return undefined;
  return /(\d[\d.]*)\s*$/m.exec(daemon.stdout)?.[1] ?? 'of unknown version';
}

/** Containers of the Docker Engine, without a network of their own. */
export async function dockerContainers(version) {
  const image = 'pipewright-test:1';
  const hadImage = (await run(['docker', 'image', 'inspect', image])).code === 0;
  await must(['scripts/image.sh', image]);
  const options = ['--label', 'pipewright.demo', '--network', 'none'];
  return {
    used: `Docker Engine ${version}; the containers run busybox (image ${image}, ${hadImage ? 'found' : 'made by scripts/image.sh'})`,
    /** As the programs' command lines name it. */
    ref: (name) => name,
    startCommand: (name) => ['docker', 'run', '-d', '--name', name, ...options, image],
    inside: (name, ...words) => ['docker', 'exec', name, ...words],
    remove: async (names) => {
      await run(['docker', 'rm', '-f', ...names]);
      if (!hadImage) await run(['docker', 'image', 'rm', image]);
    },
  };
}

/** Plain network namespaces, with names as `ip netns` gives them. */
export function plainNamespaces() {
  return {
    used: 'network namespaces made for the purpose, in the place of containers',
    ref: (name) => `netns:${name}`,
    startCommand: (name) => ['ip', 'netns', 'add', name],
    inside: (name, ...words) => ['ip', 'netns', 'exec', name, ...words],
    remove: async (names) => {
      for (const name of names) await run(['ip', 'netns', 'del', name]);
    },
  };
}

/**
 * Sends one echo request from each place at the same time. An answer that is expected has two seconds to come; one that
 * must not come is given one.
 * @param pings [{ from: words that run a program there, ip, expected }]
 * @returns [{ ms }] in the same order, undefined where no answer came
 */
export function pingAll(pings) {
  return Promise.all(
    pings.map(async ({ from, ip, expected }) => {
      const { code, stdout } = await run([...from, 'ping', '-c', '1', '-W', expected ? '2' : '1', ip]);
      return { ms: code === 0 ? (/time=([\d.]+)/.exec(stdout)?.[1] ?? '?') : undefined };
    }),
  );
}
