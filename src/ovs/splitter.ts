/** Cuts a byte stream into JSON texts: OVSDB sends messages one after the other, without a delimiter. */

const quote = 0x22;
const backslash = 0x5c;
const openBracket = 0x5b;
const closeBracket = 0x5d;
const openBrace = 0x7b;
const closeBrace = 0x7d;

/**
 * A message ends where the depth of braces and brackets outside strings comes back to zero. Bytes are looked
 * at, not characters: in UTF-8 no byte of a longer character equals an ASCII one, so a chunk may end inside a
 * character.
 */
export class JsonSplitter {
  /** Chunks of a message whose end has not come yet. */
  private held: Uint8Array[] = [];
  private depth = 0;
  private inString = false;
  private escaped = false;

  /**
   * Takes the next bytes and returns the messages that end in them, parsed. Throws SyntaxError on what cannot be
   * JSON-RPC; the stream is lost then.
   */
  push(chunk: Uint8Array): unknown[] {
    const messages: unknown[] = [];
    let start = 0;
    for (let at = 0; at < chunk.length; at++) {
      if (this.ends(chunk[at] ?? 0)) {
        messages.push(this.parse(chunk.subarray(start, at + 1)));
        start = at + 1;
      }
    }
    if (start < chunk.length) this.held.push(chunk.subarray(start));
    return messages;
  }

  /** Follows the state by one byte; true when it is the last of a message. */
  private ends(byte: number): boolean {
    if (this.inString) {
      if (this.escaped) this.escaped = false;
      else if (byte === backslash) this.escaped = true;
      else if (byte === quote) this.inString = false;
      return false;
    }
    switch (byte) {
      case openBrace:
      case openBracket:
        this.depth++;
        return false;
      case closeBrace:
      case closeBracket:
        this.depth--;
        if (this.depth < 0) throw new SyntaxError('closing bracket without an opening one');
        return this.depth === 0;
      default:
        // Only white space may stand between two messages.
        if (this.depth === 0 && byte > 0x20) throw new SyntaxError('text outside of an object');
        this.inString = byte === quote;
        return false;
    }
  }

  private parse(last: Uint8Array): unknown {
    const text = Buffer.concat([...this.held, last]).toString();
    this.held = [];
    return JSON.parse(text);
  }
}
