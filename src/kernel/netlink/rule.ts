/** Policy rules, `ip rule`. From <linux/fib_rules.h>, v6.12. */
import { type Cidr, formatCidr } from '../../model/address.ts';
import type { Rule } from '../../model/link.ts';
import { attr, decodeAttrs, encodeAttrs, ip, text, u32 } from './codec.ts';
import { afOf, familyOfAf, message } from './header.ts';
import { type NetlinkSocket, NLM_F_CREATE, NLM_F_EXCL, type Request } from './socket.ts';

const RTM_NEWRULE = 32;
const RTM_DELRULE = 33;
const RTM_GETRULE = 34;
const FR_ACT_TO_TBL = 1;
const FIB_RULE_INVERT = 2;

/** FRA_*. */
const ruleAttrs = {
  dst: attr(1, ip), // FRA_DST
  src: attr(2, ip), // FRA_SRC
  iif: attr(3, text), // FRA_IIFNAME
  priority: attr(6, u32), // FRA_PRIORITY
  fwmark: attr(10, u32), // FRA_FWMARK
  table: attr(15, u32), // FRA_TABLE
  oif: attr(17, text), // FRA_OIFNAME
} as const;

/** What addRule is given: a rule that looks up a table. */
export type NewRule = Omit<Rule, 'unknown' | 'priority'> & Partial<Pick<Rule, 'unknown' | 'priority'>>;

function ruleRequest(rule: NewRule): Omit<Request, 'op' | 'flags' | 'type'> {
  const { family, priority, src, dst, iif, oif, fwmark, table, action = FR_ACT_TO_TBL, unknown = [] } = rule;
  // struct fib_rule_hdr: family, dst_len, src_len, tos, table, two reserved, action, flags
  const header = Buffer.alloc(12);
  header.writeUInt8(afOf[family], 0);
  header.writeUInt8(dst?.prefixLen ?? 0, 1);
  header.writeUInt8(src?.prefixLen ?? 0, 2);
  header.writeUInt8(table > 255 ? 0 : table, 4);
  header.writeUInt8(rule.tos ?? 0, 3);
  header.writeUInt8(action, 7);
  header.writeUInt32LE(rule.inverted ? FIB_RULE_INVERT : 0, 8);
  const attributes = { dst: dst?.ip, src: src?.ip, iif, priority, fwmark, oif, unknown };
  const from = src === undefined ? 'all' : formatCidr(src);
  return {
    subject: `${priority === undefined ? '' : `${priority} `}from ${from} lookup ${table}${family === 6 ? ' (IPv6)' : ''}`,
    body: message(header, encodeAttrs(ruleAttrs, { ...attributes, table: table > 255 ? table : undefined })),
  };
}

/** `ip rule add`; EEXIST when there is just this rule. */
export function addRule(rule: NewRule): Request {
  return { op: 'rule.add', type: RTM_NEWRULE, flags: NLM_F_CREATE | NLM_F_EXCL, ...ruleRequest(rule) };
}

/** `ip rule del`; ENOENT when there is none. */
export function delRule(rule: NewRule): Request {
  return { op: 'rule.del', type: RTM_DELRULE, flags: 0, ...ruleRequest(rule) };
}

function decodeRule(body: Buffer): Rule | undefined {
  const family = familyOfAf(body.readUInt8(0));
  const action = body.readUInt8(7);
  if (family === undefined) return undefined;
  const { dst, src, iif, oif, priority, fwmark, table, unknown } = decodeAttrs(ruleAttrs, body.subarray(12));
  const cidr = (address: string, at: number): Cidr => ({
    family,
    ip: address,
    prefixLen: body.readUInt8(at),
  });
  return {
    family,
    priority: priority ?? 0,
    ...(src === undefined ? {} : { src: cidr(src, 2) }),
    ...(dst === undefined ? {} : { dst: cidr(dst, 1) }),
    ...(iif === undefined ? {} : { iif }),
    ...(oif === undefined ? {} : { oif }),
    ...(fwmark === undefined ? {} : { fwmark }),
    ...(action === FR_ACT_TO_TBL ? {} : { action }),
    ...(body.readUInt8(3) === 0 ? {} : { tos: body.readUInt8(3) }),
    ...((body.readUInt32LE(8) & FIB_RULE_INVERT) === 0 ? {} : { inverted: true }),
    table: table ?? body.readUInt8(4),
    unknown: unknown ?? [],
  };
}

/** `ip rule` and `ip -6 rule`: the rules that look up a table (not `goto`, `blackhole` and the like). */
export function listRules(rtnl: NetlinkSocket, family?: Rule['family']): Rule[] {
  return listAllRules(rtnl, family).filter(({ action }) => action === undefined);
}

/** Likewise, whatever they do. */
export function listAllRules(rtnl: NetlinkSocket, family?: Rule['family']): Rule[] {
  const header = Buffer.alloc(12);
  header.writeUInt8(family === undefined ? 0 : afOf[family], 0);
  return rtnl
    .dump({ op: 'rule.list', subject: 'rules', type: RTM_GETRULE, flags: 0, body: header })
    .map(decodeRule)
    .filter((rule) => rule !== undefined);
}
