/** The cases of wrong-files.txt. */
import { readFileSync } from 'node:fs';
import path from 'node:path';

interface WrongFile {
  readonly name: string;
  readonly files: readonly { readonly file: string; readonly text: string }[];
  /** The lines of the message; a place without a file's name is in the first file. */
  readonly want: readonly string[];
}

/** Every case, in the order of the file. */
export function wrongFiles(): WrongFile[] {
  const root = process.env.PIPEWRIGHT_ROOT ?? process.cwd();
  const text = readFileSync(path.join(root, 'test/config/topology/wrong-files.txt'), 'utf8');
  return text
    .split(/^=== /m)
    .slice(1)
    .map((block) => {
      const [name = '', ...lines] = block.trimEnd().split('\n');
      const files: { file: string; text: string }[] = [{ file: 't1.yaml', text: '' }];
      const want: string[] = [];
      for (const line of lines) {
        const last = files.at(-1)!;
        if (line.startsWith('~~~ ')) files.push({ file: line.slice(4), text: '' });
        else if (line.startsWith('>>> ')) want.push(line.slice(4));
        else last.text += `${line}\n`;
      }
      return { name, files, want };
    });
}
