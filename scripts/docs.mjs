// Writes the reference pages that are made from the program: docs/reference/errors.md, cli.md, config.md and the JSON
// Schema of topology files, api.md and the OpenAPI document of the agent's API.
// usage: node scripts/docs.mjs [--check]     with --check nothing is written, and a page that differs is an error
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { apiPages } from './docs/api.mjs';
import { configPages } from './docs/config.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
process.chdir(root);

/** Every code of src/errors.ts, with its sentence. */
async function errorsPage() {
  const { outputFiles } = await build({
    entryPoints: ['src/errors.ts'],
    write: false,
    format: 'esm',
    platform: 'node',
  });
  const code = Buffer.from(outputFiles[0].contents).toString('base64');
  const { errorCodes } = await import(`data:text/javascript;base64,${code}`);
  const rows = Object.entries(errorCodes).map(([code, sentence]) => `| \`${code}\` | ${sentence} |`);
  return `# Errors

Made by \`node scripts/docs.mjs\` from src/errors.ts.

A failure is one line on the standard error: what was being done, to what, why not, the kernel's errno where it has
one, and what to do next. Exit codes: 1 for what was asked wrongly or cannot be had, 2 (\`pipework\` only, as the original)
for what the kernel refused, 70 for a defect of this program, which prints a stack.

| code | meaning |
|---|---|
${rows.join('\n')}
`;
}

/** The help of every command. */
function cliPage() {
  const help = (program, ...words) =>
    execFileSync(`bin/${program}`, [...words, '--help'], { encoding: 'utf8' }).trimEnd();
  const section = (title, text) => `## ${title}\n\n\`\`\`text\n${text}\n\`\`\`\n`;
  const commands = [
    'attach',
    'detach',
    'list',
    'wait',
    'plan',
    'apply',
    'destroy',
    'check',
    'status',
    'uplink add',
    'uplink remove',
    'uplink list',
    'uplink export',
    'confirm',
    'agent',
    'import',
    'completion',
  ];
  return [
    '# Commands\n\nMade by `node scripts/docs.mjs` from the programs.\n',
    section('pipework', help('pipework')),
    section('pipewright', help('pipewright')),
    ...commands.map((command) => section(`pipewright ${command}`, help('pipewright', ...command.split(' ')))),
  ].join('\n');
}

const pages = {
  'docs/reference/errors.md': await errorsPage(),
  'docs/reference/cli.md': cliPage(),
  ...(await configPages()),
  ...(await apiPages()),
};
for (const [file, text] of Object.entries(pages)) {
  if (!process.argv.includes('--check')) writeFileSync(file, text);
  else if (readFileSync(file, 'utf8') !== text) {
    console.error(`${file} does not match the program; run: node scripts/docs.mjs`);
    process.exitCode = 1;
  }
}
