// A reporter for the test runner: a line of JSON for each test of a file, without those within tests.

/** What ended, as it ends. */
export default async function* report(events) {
  for await (const { type, data } of events) {
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    const { name, nesting, skip, details } = data;
    // What --test-name-pattern leaves out.
    if (nesting > 0 || skip === 'test name does not match pattern') continue;
    const error = details.error?.cause?.stack ?? details.error?.message;
    yield `${JSON.stringify({ name, ok: type === 'test:pass', skip, error, ms: details.duration_ms })}\n`;
  }
}
