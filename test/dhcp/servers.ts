/** DHCP servers that are other people's programs, each in a namespace of its own: dnsmasq, Kea and ISC dhcpd. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { nsenter, plainNetns, run, runIn } from '../lab.ts';
import { until } from './support.ts';

export const serverPrograms = ['dnsmasq', 'kea', 'dhcpd'] as const;
export type ServerProgram = (typeof serverPrograms)[number];

/** The program's name as it is installed. */
export const programOf: Record<ServerProgram, string> = {
  dnsmasq: 'dnsmasq',
  kea: 'kea-dhcp4',
  dhcpd: 'dhcpd',
};

/** What a server gives. Times are seconds. */
export interface Offered {
  /** The first three bytes of all addresses, the server's own as well; `10.77.0`. */
  readonly network?: string;
  /** Of `10.77.0.x`: the first and the last address. */
  readonly pool: readonly [number, number];
  readonly lease: number;
  /** dnsmasq only: addresses of the /16 that the network is in, instead of the pool. */
  readonly wide?: readonly [string, string];
  readonly t1?: number;
  readonly t2?: number;
  readonly mtu?: number;
  /** Option 121, as `10.9.0.0/16 10.77.0.2`. */
  readonly routes?: readonly string[];
  /** Option 119. */
  readonly search?: readonly string[];
  /** Option 42 for whoever has the vendor class `pipewright` and the user class `gold`: an address. */
  readonly classNtp?: string;
  /** The content of sub-option 1 of option 43, in hexadecimal. */
  readonly vendor?: string;
  /** Whether it refuses what it does not know. Default true. */
  readonly authoritative?: boolean;
  /** The first three bytes of the server's own network, where that is another one. The relay, .254, is the gateway. */
  readonly behindRelay?: string;
}

/** A server that can be ended and started again, and told another thing. */
export interface DhcpServer {
  /** Name of its namespace; its link there is `s0`, 10.77.0.1/24 by default. */
  readonly netns: string;
  start(offered: Offered): Promise<void>;
  stop(): Promise<void>;
  log(): string;
}

const usual = '10.77.0';

/**
 * A server at the end of a wire whose other end is `wire` in the namespace `where`.
 * @param host the last byte of its address
 */
export async function dhcpServer(
  t: TestContext,
  program: ServerProgram,
  place: { readonly where: string; readonly wire: string; readonly host?: number; readonly suffix?: string },
): Promise<DhcpServer> {
  const { where, wire, host = 1, suffix = '' } = place;
  const { name: netns } = await plainNetns(t, `ds${host}${suffix}`);
  const scratch = mkdtempSync(path.join(tmpdir(), 'pwt-dhcps-'));
  t.after(() => rmSync(scratch, { recursive: true, force: true }));
  run('ip', ['-n', netns, 'link', 'add', 's0', 'type', 'veth', 'peer', 'name', wire, 'netns', where]);
  run('ip', ['-n', netns, 'link', 'set', 's0', 'up']);
  run('ip', ['-n', where, 'link', 'set', wire, 'up']);
  const logFile = path.join(scratch, 'log');
  writeFileSync(path.join(scratch, 'leases'), '');
  writeFileSync(logFile, '');
  let child: ChildProcess | undefined;
  const stop = async (): Promise<void> => {
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  };
  t.after(stop);
  const server: DhcpServer = {
    netns,
    stop,
    log: () => readFileSync(logFile, 'utf8'),
    start: async (offered) => {
      await stop();
      run('ip', ['-n', netns, 'addr', 'flush', 'dev', 's0']);
      run('ip', [
        '-n',
        netns,
        'addr',
        'add',
        `${offered.behindRelay ?? offered.network ?? usual}.${host}/${offered.wide ? 16 : 24}`,
        'dev',
        's0',
      ]);
      const [command = '', ...args] = [...nsenter(netns), ...wordsOf[program](scratch, offered, host)];
      const env = { ...process.env, KEA_LOCKFILE_DIR: scratch, KEA_PIDFILE_DIR: scratch };
      child = spawn('sh', ['-c', 'exec "$@" >>"$0" 2>&1', logFile, command, ...args], {
        stdio: 'ignore',
        env,
      });
      const { pid } = child;
      await until(`${program} listens (process ${pid})`, () => {
        if (child?.exitCode !== null) throw new Error(`${program} ended: ${server.log()}`);
        return program === 'dhcpd'
          ? /Sending on .*LPF\/s0/.test(server.log().slice(-2000))
          : runIn(netns, 'ss', ['-Hlun', 'sport', '=', '67']).stdout !== '';
      });
    },
  };
  return server;
}

type Words = (scratch: string, offered: Offered, host: number) => string[];

const wordsOf: Record<ServerProgram, Words> = {
  dnsmasq: (
    scratch,
    {
      network = usual,
      pool,
      wide,
      lease,
      t1,
      t2,
      mtu,
      routes = [],
      authoritative = true,
      behindRelay,
      ...more
    },
    host,
  ) => [
    ...['dnsmasq', '--keep-in-foreground', '--port=0', '--conf-file=/dev/null', '--interface=s0'],
    ...['--bind-interfaces', '--no-ping', '--log-dhcp', '--log-facility=-'],
    ...(authoritative ? ['--dhcp-authoritative'] : []),
    wide
      ? `--dhcp-range=${wide.join(',')},255.255.0.0,${lease}`
      : `--dhcp-range=${network}.${pool[0]},${network}.${pool[1]},255.255.255.0,${lease}`,
    '--dhcp-lease-max=5000',
    ...[`--dhcp-leasefile=${scratch}/leases`, `--pid-file=${scratch}/pid`],
    ...[
      `--dhcp-option=3,${network}.${behindRelay === undefined ? host : 254}`,
      `--dhcp-option=6,${network}.53`,
      '--dhcp-option=15,lan.test',
    ],
    ...(t1 === undefined ? [] : [`--dhcp-option=58,${t1}s`]),
    ...(t2 === undefined ? [] : [`--dhcp-option=59,${t2}s`]),
    ...(mtu === undefined ? [] : [`--dhcp-option=26,${mtu}`]),
    ...(routes.length === 0 ? [] : [`--dhcp-option=121,${routes.join(',').replaceAll(' ', ',')}`]),
    ...(more.search === undefined ? [] : [`--dhcp-option=119,${more.search.join(',')}`]),
    ...(more.vendor === undefined ? [] : [`--dhcp-option=43,${colons(subOption(more.vendor))}`]),
    ...(more.classNtp === undefined
      ? []
      : [
          ...['--dhcp-vendorclass=set:vc,pipewright', '--dhcp-userclass=set:uc,gold'],
          `--dhcp-option=tag:vc,tag:uc,42,${more.classNtp}`,
        ]),
  ],
  kea: (scratch, offered, host) => {
    const {
      network = usual,
      pool,
      lease,
      t1,
      t2,
      mtu,
      routes = [],
      authoritative = true,
      behindRelay,
      search,
      classNtp,
      vendor,
    } = offered;
    const vendorSpace = { space: 'vendor-encapsulated-options-space', name: 'one', code: 1 };
    const option = (name: string, data: string) => ({ name, data });
    const config = {
      Dhcp4: {
        'interfaces-config': { interfaces: ['s0'] },
        'lease-database': {
          type: 'memfile',
          persist: true,
          name: `${scratch}/kea-leases`,
          'lfc-interval': 0,
        },
        'valid-lifetime': lease,
        ...(t1 === undefined ? {} : { 'renew-timer': t1 }),
        ...(t2 === undefined ? {} : { 'rebind-timer': t2 }),
        authoritative,
        'option-def': [{ ...vendorSpace, type: 'binary' }],
        ...(classNtp === undefined
          ? {}
          : {
              'client-classes': [
                {
                  name: 'gold',
                  test: "option[60].text == 'pipewright' and substring(option[77].hex, 1, 4) == 'gold'",
                  'option-data': [option('ntp-servers', classNtp)],
                },
              ],
            }),
        'option-data': [
          ...(search === undefined ? [] : [option('domain-search', search.join(', '))]),
          ...(vendor === undefined
            ? []
            : [
                { name: 'vendor-encapsulated-options' },
                { ...vendorSpace, 'csv-format': false, data: vendor },
              ]),
          option('routers', `${network}.${behindRelay === undefined ? host : 254}`),
          option('domain-name-servers', `${network}.53`),
          option('domain-name', 'lan.test'),
          ...(mtu === undefined ? [] : [option('interface-mtu', String(mtu))]),
          ...(routes.length === 0
            ? []
            : [{ code: 121, space: 'dhcp4', 'csv-format': false, data: routeHex(routes) }]),
        ],
        subnet4: [
          {
            id: 1,
            subnet: `${network}.0/24`,
            pools: [{ pool: `${network}.${pool[0]} - ${network}.${pool[1]}` }],
          },
        ],
        loggers: [{ name: 'kea-dhcp4', output_options: [{ output: 'stdout' }], severity: 'INFO' }],
      },
    };
    writeFileSync(`${scratch}/kea.json`, JSON.stringify(config));
    return ['kea-dhcp4', '-c', `${scratch}/kea.json`];
  },
  dhcpd: (scratch, offered, host) => {
    const {
      network = usual,
      pool,
      lease,
      t1,
      t2,
      mtu,
      routes = [],
      authoritative = true,
      behindRelay,
      search = [],
      classNtp,
      vendor,
    } = offered;
    const lines = [
      ...(behindRelay === undefined ? [] : [`subnet ${behindRelay}.0 netmask 255.255.255.0 {}`]),
      ...(authoritative ? ['authoritative;'] : []),
      'ping-check false;',
      `default-lease-time ${lease}; max-lease-time ${lease}; min-lease-time ${lease};`,
      'option rfc3442 code 121 = array of integer 8;',
      `subnet ${network}.0 netmask 255.255.255.0 {`,
      `  range ${network}.${pool[0]} ${network}.${pool[1]};`,
      `  option routers ${network}.${behindRelay === undefined ? host : 254}; option domain-name-servers ${network}.53; option domain-name "lan.test";`,
      ...(t1 === undefined ? [] : [`  option dhcp-renewal-time ${t1};`]),
      ...(t2 === undefined ? [] : [`  option dhcp-rebinding-time ${t2};`]),
      ...(mtu === undefined ? [] : [`  option interface-mtu ${mtu};`]),
      ...(routes.length === 0
        ? []
        : [`  option rfc3442 ${[...Buffer.from(routeHex(routes), 'hex')].join(', ')};`]),
      ...(search.length === 0
        ? []
        : [`  option domain-search ${search.map((name) => `"${name}"`).join(', ')};`]),
      ...(vendor === undefined ? [] : [`  option vendor-encapsulated-options ${colons(subOption(vendor))};`]),
      ...(classNtp === undefined
        ? []
        : [
            '  if option vendor-class-identifier = "pipewright" and substring(option user-class, 1, 4) = "gold" {',
            `    option ntp-servers ${classNtp};`,
            '  }',
          ]),
      '}',
    ];
    writeFileSync(`${scratch}/dhcpd.conf`, lines.join('\n'));
    return [
      ...['dhcpd', '-4', '-f', '-d', '-cf', `${scratch}/dhcpd.conf`],
      ...['-lf', `${scratch}/leases`, '-pf', `${scratch}/pid`, 's0'],
    ];
  },
};

/** Sub-option 1 of option 43, with its length. */
const subOption = (hex: string): string => `01${(hex.length / 2).toString(16).padStart(2, '0')}${hex}`;

const colons = (hex: string): string => hex.replace(/..(?!$)/g, '$&:');

/** Option 121 of `10.9.0.0/16 10.77.0.2` and the like. */
function routeHex(routes: readonly string[]): string {
  const bytes = routes.flatMap((route) => {
    const [dst = '', gateway = ''] = route.split(' ');
    const [ip = '', length = ''] = dst.split('/');
    const counted = Math.ceil(Number(length) / 8);
    return [
      Number(length),
      ...ip.split('.').slice(0, counted).map(Number),
      ...gateway.split('.').map(Number),
    ];
  });
  return Buffer.from(bytes).toString('hex');
}
