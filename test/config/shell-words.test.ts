import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { readShell } from '../../src/config/shell-words.ts';

const shown = (text: string): string[] =>
  readShell(text).map((item) =>
    'comment' in item
      ? `${item.line} #${item.comment}`
      : `${item.line} ${item.words.map((word) => `${word.isDynamic ? '?' : ''}[${word.text}]`).join(' ')}`,
  );

describe('commands of a script', () => {
  const rows: [text: string, want: string[]][] = [
    ['', []],
    ['a b  c', ['1 [a] [b] [c]']],
    ['a\nb\n\nc', ['1 [a]', '2 [b]', '4 [c]']],
    ['a; b && c || d | e & f', ['1 [a]', '1 [b]', '1 [c]', '1 [d]', '1 [e]', '1 [f]']],
    ['a \'b c\' "d e" f\\ g', ['1 [a] [b c] [d e] [f g]']],
    ['a\'b\'"c"d', ['1 [abcd]']],
    ['a "" \'\' b', ['1 [a] [] [] [b]']],
    ['a "x\\"y" "x\\ny" \'x\\\'', ['1 [a] [x"y] [x\\ny] [x\\]']],
    ['a \\\n b\nc', ['1 [a] [b]', '3 [c]']],
    ['a b\\\nc', ['1 [a] [bc]']],
    ['a # b\nc', ['1 # b', '1 [a]', '2 [c]']],
    ['a#b #', ['1 #', '1 [a#b]']],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: of the shell's
    ['a $b "$c" ${d} "x${e}y"', ['1 [a] ?[$b] ?[$c] ?[${d}] ?[x${e}y]']],
    ["a '$b' \\$c", ['1 [a] [$b] [$c]']],
    ['a $(b c; d) e', ['1 [a] ?[$(b c; d)] [e]']],
    ['a `b c` e', ['1 [a] ?[`b c`] [e]']],
    ['a $(b $(c)) e', ['1 [a] ?[$(b $(c))] [e]']],
    ['a >/dev/null 2>&1 < in b', ['1 [a] [b]']],
    ['a 2 > x', ['1 [a] [2]']],
    ['(a b)', ['1 [a b]'.replace('a b', 'a] [b')]],
    ['a "b\nc" d\ne', ['1 [a] [b\nc] [d]', '3 [e]']],
    ['a "b', ['1 [a] [b]']],
    ["a 'b", ['1 [a] [b]']],
    ['a $(b', ['1 [a] ?[$(b]']],
    ['a\r\nb', ['1 [a]', '2 [b]']],
    ['a\vb\fc', ['1 [a] [b] [c]']],
  ];
  for (const [text, want] of rows) test(JSON.stringify(text), () => assert.deepEqual(shown(text), want));

  test('words are those that sh makes of them', () => {
    const part = fc.constantFrom('a', 'b', ' ', '  ', "'", '"', '\\ ', '\\', 'x y', '=', '-i', '/', '\t');
    const line = fc.array(part, { maxLength: 8 }).map((parts) => parts.join(''));
    const balanced = line.filter(
      (text) => !/\\$/.test(text) && /^((\\.|[^'"\\])|'[^']*'|"(\\.|[^"\\])*")*$/.test(text),
    );
    fc.assert(
      fc.property(balanced, (text) => {
        const script = `f() { for word; do printf '[%s]' "$word"; done; }; f ${text}`;
        const [item] = readShell(`f ${text}`);
        assert.ok(item && 'words' in item);
        const ours = item.words
          .slice(1)
          .map((word) => `[${word.text}]`)
          .join('');
        assert.equal(ours, execFileSync('sh', ['-c', script], { encoding: 'utf8' }));
      }),
      { numRuns: 60 },
    );
  });

  test('any text comes to an end', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => void readShell(text)));
    const text = fc
      .array(fc.constantFrom(...'\'"\\$`(){}#;&|<> \n\tab'), { maxLength: 50 })
      .map((parts) => parts.join(''));
    fc.assert(
      fc.property(text, (any) => void readShell(any)),
      { numRuns: 1000 },
    );
  });
});
