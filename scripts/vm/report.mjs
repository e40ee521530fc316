// A reporter for the test runner: a line of JSON for each test of a file, without those within tests.
import path from 'node:path';

/** What ended, as it ends. */
export default async function* report(events) {
  for await (const { type, data } of events) {
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    const { name, nesting, file = '', skip, details } = data;
    // What --only leaves out.
    if (nesting > 0 || skip === 'test name does not match pattern') continue;
    const error = details.error?.cause?.stack ?? details.error?.message;
    const result = { file: path.basename(file, '.mjs'), name, ok: type === 'test:pass', skip, error };
    yield `${JSON.stringify({ ...result, ms: details.duration_ms })}\n`;
  }
}
