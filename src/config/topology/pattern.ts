/** Patterns of container names. */

/**
 * Whether `name` is one that `pattern` stands for: `*` is any characters, `?` one. In time that grows with the product of
 * the lengths, whatever the pattern, which a regular expression of several `.*` would not.
 */
export function matchesPattern(pattern: string, name: string): boolean {
  let [at, star, retry] = [0, -1, 0];
  for (let i = 0; i < name.length; ) {
    if (pattern[at] === '*') [star, retry] = [at++, i];
    else if (pattern[at] === '?' || pattern[at] === name[i]) [at, i] = [at + 1, i + 1];
    else if (star >= 0) [at, i] = [star + 1, ++retry];
    else return false;
  }
  while (pattern[at] === '*') at++;
  return at === pattern.length;
}
