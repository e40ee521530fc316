/** Scripts and crontabs, read as far as one can without running them: commands as words, and comments. */

/** A word of a command. */
export interface ShellWord {
  /** Without its quotes. */
  readonly text: string;
  /** It holds a variable or the output of a command, so that what it comes to is not known. */
  readonly isDynamic: boolean;
}

/** A command or a comment; the line is that of its beginning, from 1. */
export type ShellItem =
  | { readonly line: number; readonly comment: string }
  | { readonly line: number; readonly words: readonly ShellWord[] };

/** Ends a command. Redirections end with the word that they lead to. */
const separators = [';', '&', '|', '(', ')', '\n'];

/** Commands in the order of the text, without redirections; comments without their `#`. Nothing is refused. */
export function readShell(text: string): ShellItem[] {
  return new ShellReader(text.replace(/\r\n?/g, '\n')).read();
}

class ShellReader {
  readonly #text: string;
  readonly #items: ShellItem[] = [];
  #at = 0;
  #line = 1;
  #words: ShellWord[] = [];
  #commandLine = 1;
  /** The word to come is where a redirection leads to. */
  #isTarget = false;

  constructor(text: string) {
    this.#text = text;
  }

  read(): ShellItem[] {
    while (this.#at < this.#text.length) this.#readNext();
    this.#endCommand();
    return this.#items;
  }

  get #char(): string {
    return this.#text[this.#at] ?? '';
  }

  #next(): string {
    const char = this.#char;
    this.#at++;
    if (char === '\n') this.#line++;
    return char;
  }

  #readNext(): void {
    const char = this.#char;
    if (this.#text.startsWith('\\\n', this.#at)) {
      this.#next();
      this.#next();
    } else if (/\s/.test(char) && char !== '\n') this.#next();
    else if (char === '#') this.#readComment();
    else if (char === '<' || char === '>') {
      this.#next();
      if (this.#char === '&') this.#next();
      this.#isTarget = true;
    } else if (separators.includes(char)) {
      this.#next();
      this.#endCommand();
    } else this.#readWord();
  }

  #endCommand(): void {
    if (this.#words.length > 0) this.#items.push({ line: this.#commandLine, words: this.#words });
    this.#words = [];
    this.#isTarget = false;
  }

  #readComment(): void {
    const end = this.#text.indexOf('\n', this.#at);
    const comment = this.#text.slice(this.#at + 1, end < 0 ? undefined : end);
    this.#items.push({ line: this.#line, comment });
    this.#at = end < 0 ? this.#text.length : end;
  }

  #readWord(): void {
    const line = this.#line;
    let text = '';
    let isDynamic = false;
    for (let char = this.#char; char !== '' && !/[\s<>]/.test(char); char = this.#char) {
      if (separators.includes(char)) break;
      const part = this.#readPart();
      text += part.text;
      isDynamic ||= part.isDynamic;
    }
    // 2>&1: the number is the redirection's.
    if (/^\d$/.test(text) && (this.#char === '>' || this.#char === '<')) return;
    if (this.#isTarget) this.#isTarget = false;
    else {
      if (this.#words.length === 0) this.#commandLine = line;
      this.#words.push({ text, isDynamic });
    }
  }

  #readPart(): ShellWord {
    const char = this.#next();
    if (char === '\\') {
      const escaped = this.#next();
      return { text: escaped === '\n' ? '' : escaped, isDynamic: false };
    }
    if (char === "'") return { text: this.#readUntil("'"), isDynamic: false };
    if (char === '`') return { text: `\`${this.#readUntil('`')}\``, isDynamic: true };
    if (char === '$') return { text: `$${this.#readExpansion()}`, isDynamic: true };
    if (char !== '"') return { text: char, isDynamic: false };
    let text = '';
    let isDynamic = false;
    while (this.#at < this.#text.length && this.#char !== '"') {
      const isEscape = this.#char === '\\' && /[\\"$`\n]/.test(this.#text[this.#at + 1] ?? '');
      const part =
        /[$`]/.test(this.#char) || isEscape ? this.#readPart() : { text: this.#next(), isDynamic: false };
      text += part.text;
      isDynamic ||= part.isDynamic;
    }
    this.#next();
    return { text, isDynamic };
  }

  #readUntil(end: string): string {
    let text = '';
    while (this.#at < this.#text.length && this.#char !== end) text += this.#next();
    this.#next();
    return text;
  }

  /** `(docker run -d x)` or `{name}` with what is in it; of `$name` nothing, the letters follow by themselves. */
  #readExpansion(): string {
    const close = { '(': ')', '{': '}' }[this.#char];
    if (close === undefined) return '';
    const open = this.#char;
    let text = '';
    let depth = 0;
    do {
      if (this.#char === open) depth++;
      if (this.#char === close) depth--;
      text += this.#next();
    } while (depth > 0 && this.#at < this.#text.length);
    return text;
  }
}
