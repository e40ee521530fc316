/** Which route is which: two of the same destination, table and metric are one to the kernel. */
import { type Cidr, type Family, formatCidr } from './address.ts';
import type { RouteSpec } from './attachment.ts';
import type { Route } from './link.ts';
import type { PlannedRoute } from './operation.ts';

/** RT_TABLE_MAIN. */
export const mainTable = 254;

/** RTPROT_KERNEL: made with an address. */
const byKernel = 2;

/** The metric of a route that is given none: what `ip route replace` without one would replace. */
export const defaultMetric: Readonly<Record<Family, number>> = { 4: 0, 6: 1024 };

interface Identity {
  readonly family: Family;
  readonly dst?: Cidr | undefined;
  readonly table?: number | undefined;
  readonly metric?: number | undefined;
}

/** The same text for what the kernel takes for the same route. */
export function routeKey({ family, dst, table = mainTable, metric }: Identity): string {
  const to = dst === undefined || dst.prefixLen === 0 ? 'default' : formatCidr(dst);
  return `IPv${family} ${to} table ${table} metric ${metric ?? defaultMetric[family]}`;
}

/** Whether a route that was read is what is wanted, its gateway included. */
export function isWantedRoute(spec: RouteSpec, present: Route): boolean {
  if (spec.gateway !== present.gateway) return false;
  const own = { ...spec, family: spec.dst.family };
  // The kernel's own way to a subnet will do, which IPv6 gives another metric.
  const metric = spec.metric === undefined && present.protocol === byKernel ? undefined : present.metric;
  return routeKey(own) === routeKey({ ...present, metric });
}

/** The route by an interface, as a plan has it. */
export function plannedRoute({ dst, gateway, table, metric }: RouteSpec, link: string): PlannedRoute {
  return {
    family: dst.family,
    ...(dst.prefixLen === 0 ? {} : { dst }),
    ...(gateway === undefined ? {} : { gateway }),
    link,
    ...(table === undefined || table === mainTable ? {} : { table }),
    ...(metric === undefined ? {} : { metric }),
  };
}

/** `10.5.0.0/16 table 100`: how a route is named in a reason. */
export function routeName({ dst, table, metric }: RouteSpec): string {
  const to = dst.prefixLen === 0 ? 'default' : formatCidr(dst);
  const where = table === undefined || table === mainTable ? '' : ` table ${table}`;
  return `${to}${where}${metric === undefined ? '' : ` metric ${metric}`}`;
}
