/** The sorts of parameters that the commands of `pipewright` have. */

/** What is typed, as it is: it is read by config/. */
export const text = (input: string): string => input;

/** A flag with a value that may be left out. @param proposals values that a shell completes */
export function valued(brief: string, placeholder: string, proposals: readonly string[] = []) {
  const proposeCompletions = () => proposals;
  return { kind: 'parsed', parse: text, brief, placeholder, optional: true, proposeCompletions } as const;
}

/** The same, given as often as needed. */
export function repeated(brief: string, placeholder: string) {
  return { ...valued(brief, placeholder), variadic: true } as const;
}

/** A flag without a value. */
export function flag(brief: string) {
  return { kind: 'boolean', brief, default: false, withNegated: false } as const;
}
