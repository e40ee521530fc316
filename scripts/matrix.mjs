// Runs tests with other versions of Node: each is a package of the npm registry, put below build/.
// usage: node scripts/matrix.mjs [VERSION,VERSION ...] [FILE | FOLDER ...]     22,24,26 and all tests when not said
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const [versions = '22,24,26', ...places] = process.argv.slice(2);
const run = (command, args, env = {}) =>
  spawnSync(command, args, { stdio: 'inherit', cwd: root, env: { ...process.env, ...env } });

let failed = 0;
for (const version of versions.split(',')) {
  const home = path.join(root, 'build', `node-${version}`);
  const name = `node-linux-${process.arch}`;
  const node = path.join(home, 'node_modules', name, 'bin/node');
  if (!existsSync(node))
    run('npm', ['install', '--prefix', home, '--no-save', '--ignore-scripts', `${name}@${version}`]);
  console.log(`\n# Node ${version}`);
  const env = { NODE_UNDER_TEST: node, PATH: `${path.dirname(node)}:${process.env.PATH}` };
  if (run(process.execPath, ['scripts/test.mjs', ...places], env).status !== 0) failed += 1;
}
process.exitCode = failed > 0 ? 1 : 0;
