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
