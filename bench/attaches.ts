/**
 * Makes N attachments of one namespace and prints what went through netlink sockets meanwhile. A process of its own, so
 * that strace can count: what N more of them add is what they take.
 * usage: attaches.mjs NAMESPACE N
 */
import { NetlinkSocket } from '../src/kernel/netlink/socket.ts';
import { Attacher, namespaceContainer } from './ground.ts';

const [name = '', count = '1'] = process.argv.slice(2);

// Every socket is opened here, and has counters of its own.
const sockets: NetlinkSocket[] = [];
const open = NetlinkSocket.open;
NetlinkSocket.open = (...args) => {
  const socket = open(...args);
  sockets.push(socket);
  return socket;
};

const attacher = new Attacher();
const guest = await namespaceContainer(name);
for (let n = 1; n <= Number(count); n++) await attacher.attach(guest, `10.99.${n}.2/24`, `eth${n}`);
const sum = (of: 'sends' | 'messages'): number =>
  sockets.reduce((all, { counters }) => all + counters[of], 0);
process.stdout.write(`${JSON.stringify({ sends: sum('sends'), messages: sum('messages') })}\n`);
