// The JSON Schema of topology files and the reference page made from it.
import { build } from 'esbuild';

const source = 'src/config/topology/schema.ts';

/** File names and their texts. */
export async function configPages() {
  const { topologySchema, toJSONSchema } = await loadSchema();
  const schema = toJSONSchema(topologySchema, { io: 'input', override: plain });
  sayPerHost(schema);
  // Keys that begin with x- are the user's.
  schema.patternProperties = { '^x-': {} };
  return {
    'docs/reference/config.md': page(schema),
    'docs/reference/pipewright.schema.json': `${JSON.stringify(schema, null, 2)}\n`,
  };
}

/** The schema and zod in one bundle: what a schema's fields mean is kept in a registry of the zod they were made with. */
async function loadSchema() {
  const { outputFiles } = await build({
    stdin: {
      contents: `export { topologySchema } from './${source}'; export { toJSONSchema } from 'zod';`,
      resolveDir: process.cwd(),
    },
    write: false,
    bundle: true,
    format: 'esm',
    platform: 'node',
  });
  const code = Buffer.from(outputFiles[0].contents).toString('base64');
  return import(`data:text/javascript;base64,${code}`);
}

/** What can be said for each host is the value, or a map of values by host. */
function sayPerHost(schema) {
  for (const network of schema.properties.networks.anyOf[0].additionalProperties.oneOf) {
    for (const [name, { perHost, description, ...field }] of Object.entries(network.properties)) {
      if (!perHost) continue;
      const byHost = { type: 'object', additionalProperties: { ...field } };
      network.properties[name] = { description, anyOf: [field, byHost] };
    }
  }
}

/**
 * Leaves out what says nothing to an editor, and puts back what zod leaves out of a schema that transforms, because there
 * it could be meant of what comes out: ours are all meant of what is written.
 */
function plain({ zodSchema, jsonSchema }) {
  if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
  if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
  if (jsonSchema.propertyNames?.type === 'string') delete jsonSchema.propertyNames;
  const { examples } = zodSchema.meta?.() ?? {};
  if (examples) jsonSchema.examples = examples;
  const { type, defaultValue } = zodSchema._zod.def;
  if (type === 'default') jsonSchema.default = defaultValue;
}

function page(schema) {
  const { hosts, networks, attachments, expect } = schema.properties;
  const kinds = unwrap(networks, schema).additionalProperties.oneOf;
  const attachment = unwrap(attachments, schema).items;
  const defs = Object.entries(schema.$defs ?? {}).map(([name, def]) => [name, { ...def }]);
  return `# Topology files

Made by \`node scripts/docs.mjs\` from ${source}.

A topology file says how containers are to be connected; \`pipewright plan\` shows what that comes to, \`apply\` makes it,
and the agent keeps it. It is YAML 1.2 in UTF-8, of at most 1 MiB; aliases and \`<<\` work, and top-level keys that begin with
\`x-\` are the user's own. An empty file says nothing. Several files, and folders of \`*.yaml\` and \`*.yml\`, are read as one.
What is wrong is told with its place, \`FILE:LINE:COLUMN\`, all of it at once, and nothing is changed.

For completion in an editor, the first line of a file can name
[the JSON Schema](pipewright.schema.json): \`# yaml-language-server: $schema=pipewright.schema.json\`.
[examples](../../examples) has whole files.

\`\`\`yaml
version: 1
networks:
  lan: { kind: bridge, bridge: br0, subnet: 10.0.0.0/24, range: 10.0.0.100-10.0.0.199 }
attachments:
  - { container: web, network: lan, addresses: 10.0.0.2/24 }
  - { container: { compose: shop/app }, network: lan, addresses: auto }
expect:
  - web -> 10.0.0.1
\`\`\`

## A file

${fieldTable(schema, schema)}

## Hosts

\`hosts\`: ${hosts.description} What differs from host to host is said by host, as in \`uplink: { a: eth0, b: enp3s0 }\`.

## A network

${table(
  ['kind', 'what it is'],
  kinds.map(({ title, description }) => [`\`${title}\``, description]),
)}

${networkTable(kinds, schema)}

Two networks can share a bridge or uplink in different VLANs, and then have the same subnet and the same addresses; else
subnets that overlap, and an address or MAC address that is given twice, are refused.

## An attachment

${fieldTable(attachment, schema)}

${defs.map(([name, def]) => `### ${sectionNames[name] ?? name}\n\n${fieldTable(def, schema)}`).join('\n\n')}

## An expectation

${expect.description} For example ${unwrap(expect, schema)
    .items.examples.map((text) => `\`${text}\``)
    .join(', ')}.
`;
}

const sectionNames = {
  container: 'container, when not by name',
  route: 'routes, when not as text',
  rule: 'rules',
};

/** Past what only says that nothing may stand here, and references. */
function unwrap(schema, root) {
  const target = schema.$ref ? { ...root.$defs[schema.$ref.replace('#/$defs/', '')], ...schema } : schema;
  const some = target.anyOf?.filter(({ type }) => type !== 'null') ?? [];
  return some.length === 1 ? unwrap(some[0], root) : target;
}

function fieldTable(object, root) {
  const rows = Object.entries(object.properties).map(([name, field]) => [
    `\`${name}\``,
    typeOf(field, root),
    defaultOf(name, field, object),
    field.description ?? '',
  ]);
  return table(['field', 'type', 'default', 'meaning'], rows);
}

/** Every field of every kind; one that means another thing in another kind has several rows. */
function networkTable(kinds, root) {
  const rows = new Map();
  for (const kind of kinds) {
    for (const [name, field] of Object.entries(kind.properties)) {
      if (name === 'kind') continue;
      const cells = [
        `\`${name}\``,
        typeOf(field, root),
        defaultOf(name, field, kind),
        field.description ?? '',
      ];
      const key = JSON.stringify(cells);
      const row = rows.get(key) ?? { cells, kinds: [] };
      row.kinds.push(kind.title);
      rows.set(key, row);
    }
  }
  const sorted = [...rows.values()].sort((a, b) => b.kinds.length - a.kinds.length);
  const all = (names) => (names.length === kinds.length ? 'all' : names.join(', '));
  return table(
    ['field', 'kinds', 'type', 'default', 'meaning'],
    sorted.map(({ cells: [name, ...rest], kinds }) => [name, all(kinds), ...rest]),
  );
}

/** What a field takes, in words. */
function typeOf(field, root) {
  const schema = unwrap(field, root);
  if (schema.const !== undefined) return `\`${schema.const}\``;
  if (schema.enum) return schema.enum.map((value) => `\`${value}\``).join(', ');
  if (schema.anyOf) {
    const plain = schema.anyOf.filter(
      ({ type, additionalProperties }) => type !== 'object' || !additionalProperties,
    );
    if (plain.length === 1 && schema.anyOf.length === 2) return `${typeOf(plain[0], root)}; or that by host`;
    const parts = [...new Set(schema.anyOf.map((part) => typeOf(part, root)))];
    const [one, other] = parts;
    return parts.length === 2 && other === `list of ${one}` ? `${one}, or a list` : parts.join(', ');
  }
  if (schema.type === 'array') return `list of ${typeOf(schema.items, root)}`;
  const limits = schema.minimum === undefined ? '' : `, ${schema.minimum} to ${schema.maximum}`;
  const sort = { integer: 'whole number', object: 'map', string: 'text' }[schema.type] ?? schema.type;
  return `${schema.title ?? sort}${limits}`;
}

function defaultOf(name, field, object) {
  if (object.required?.includes(name)) return 'required';
  const value = field.default;
  if (value === undefined || (typeof value === 'object' && Object.keys(value).length === 0)) return '';
  return `\`${value}\``;
}

function table(head, rows) {
  const line = (cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}
