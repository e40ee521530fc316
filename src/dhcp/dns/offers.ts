/** Brings what leases say of names into containers' resolv.conf files, one change of a container at a time. */
import type { Container } from '../../containers/container.ts';
import { changeResolvConf } from './container-file.ts';
import { type DnsOffer, type OfferSource, withOffer } from './resolv-conf.ts';

/** The last change of each container; the next one waits for it. */
const underWay = new Map<string, Promise<unknown>>();

/**
 * Puts an interface's name servers into the container's /etc/resolv.conf, or (undefined) takes them out; with the last
 * of them the file is as it was before.
 * @returns whether the file was written
 * @throws PipewrightError DNS_REFUSED, CONTAINER_GONE
 */
export async function offerDns(
  container: Container,
  source: OfferSource,
  offer: DnsOffer | undefined,
): Promise<boolean> {
  const before = underWay.get(container.id);
  const change = (async () => {
    await before?.catch(() => {});
    return changeResolvConf(container, (text) => withOffer(text, source, offer));
  })();
  underWay.set(container.id, change);
  try {
    return await change;
  } finally {
    if (underWay.get(container.id) === change) underWay.delete(container.id);
  }
}
