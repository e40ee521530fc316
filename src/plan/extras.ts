/** What an interface can have besides its link, addresses and routes: sysctls, policy rules. Pure. */
import { type Cidr, formatCidr } from '../model/address.ts';
import type { Attachment, RuleSpec } from '../model/attachment.ts';
import type { Rule } from '../model/link.ts';
import type { Observed } from '../model/observed.ts';
import type { Operation, Step } from '../model/operation.ts';

/** Sysctls come before addresses: some of them (accept_dad) only matter to addresses that come after. */
export function planSysctls(want: Attachment, seen: Observed): Step[] {
  // What was seen of a predecessor says nothing about a link that is yet to be born.
  const isNew = seen.guest.link === undefined;
  return Object.entries(want.sysctls ?? {}).flatMap(([key, value]) => {
    const present = isNew ? undefined : seen.guest.sysctls[key];
    if (present === value) return [];
    const set = (to: string): Operation => ({ do: 'sysctl.set', link: want.ifname, key, value: to });
    return [
      {
        op: set(value),
        because: isNew
          ? `${key}: a new link has the default`
          : `${key}: ${present ?? 'not there'} -> ${value}`,
        undo: present === undefined ? [] : [set(present)],
      },
    ];
  });
}

/**
 * Sysctls that were set for what is asked for no more are as they were before, unless somebody else has set them since.
 * Only for an entry of a topology, which says all that is wanted.
 */
export function dropSysctls(want: Attachment, seen: Observed): Step[] {
  const { formerSysctls = {}, want: former } = seen.record ?? {};
  if (want.rules === undefined) return [];
  return Object.entries(formerSysctls).flatMap(([key, was]) => {
    const present = seen.guest.sysctls[key];
    const isAsked = key in (want.sysctls ?? {}) || key === ipv6Switch;
    if (isAsked || present === was || present === undefined || present !== former?.sysctls?.[key]) return [];
    const set = (value: string): Operation => ({ do: 'sysctl.set', link: want.ifname, key, value });
    return [
      {
        op: set(was),
        because: `${key} is asked for no more: ${present} -> ${was}, as before`,
        undo: [set(present)],
      },
    ];
  });
}

/** The sysctl that switches IPv6 off, which is switched for those who ask for addresses. */
const ipv6Switch = 'ipv6/disable_ipv6';

/** The sysctls as they were, for the note: before `steps` set them, or before an earlier command did. */
export function formerSysctls(
  want: Attachment,
  seen: Observed,
  steps: readonly Step[],
): Readonly<Record<string, string>> | undefined {
  const noted = seen.record?.formerSysctls ?? {};
  const found: Record<string, string> = {};
  const keys = new Set([...Object.keys(want.sysctls ?? {}), ...(want.rules ? [] : Object.keys(noted))]);
  for (const key of keys) {
    const isSet = steps.some(({ op }) => op.do === 'sysctl.set' && op.key === key);
    const was = noted[key] ?? (isSet ? seen.guest.sysctls[key] : undefined);
    if (was !== undefined && was !== want.sysctls?.[key]) found[key] = was;
  }
  const isSwitched = steps.some(({ op }) => op.do === 'ipv6.enable' && op.enable);
  const isBack = steps.some(({ op }) => op.do === 'ipv6.enable' && !op.enable);
  if (isSwitched || (noted[ipv6Switch] !== undefined && !isBack)) found[ipv6Switch] = '1';
  return Object.keys(found).length > 0 ? found : undefined;
}

/** Policy rules that are not there, and those of earlier that are asked for no more. */
export function planRules(want: Attachment, seen: Observed): Step[] {
  const { rules } = want;
  if (rules === undefined) return [];
  const missing = rules.filter((rule) => !seen.guest.rules.some((present) => isSameRule(rule, present)));
  const key = ({ family, from, to, table, priority }: RuleSpec): string =>
    [family, from && formatCidr(from), to && formatCidr(to), table, priority].join(' ');
  const wanted = new Set(rules.map(key));
  const surplus = (seen.record?.rules ?? []).filter((rule) => !wanted.has(key(rule)));
  return [
    ...missing.map((rule) => ruleStep('rule.add', rule, 'there is no such rule')),
    ...surplus.map((rule) => ruleStep('rule.del', rule, 'it is asked for no more')),
  ];
}

function ruleStep(verb: 'rule.add' | 'rule.del', rule: RuleSpec, because: string): Step {
  return {
    op: { do: verb, rule },
    because,
    undo: [{ do: verb === 'rule.add' ? 'rule.del' : 'rule.add', rule }],
  };
}

const sameCidr = (a: Cidr | undefined, b: Cidr | undefined): boolean =>
  (a && formatCidr(a)) === (b && formatCidr(b));

function isSameRule(want: RuleSpec, present: Rule): boolean {
  return (
    want.family === present.family &&
    want.table === present.table &&
    sameCidr(want.from, present.src) &&
    sameCidr(want.to, present.dst) &&
    (want.priority === undefined || want.priority === present.priority)
  );
}
