// The OpenAPI document of the agent's API and the reference page made from it.
import { readFileSync } from 'node:fs';
import { build } from 'esbuild';

const source = 'src/agent/api/routes.ts';

/** File names and their texts. */
export async function apiPages() {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
  const { openApiDocument } = await loadRoutes();
  const document = openApiDocument(version);
  return {
    'docs/reference/api.md': page(document),
    'docs/reference/openapi.json': `${JSON.stringify(document, null, 2)}\n`,
  };
}

async function loadRoutes() {
  const { outputFiles } = await build({
    entryPoints: [source],
    write: false,
    bundle: true,
    format: 'esm',
    platform: 'node',
  });
  const code = Buffer.from(outputFiles[0].contents).toString('base64');
  return import(`data:text/javascript;base64,${code}`);
}

function page(document) {
  const routes = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, route]) => ({
      title: `${method.toUpperCase()} ${path}`,
      ...route,
    })),
  );
  return `# The agent's API

Made by \`node scripts/docs.mjs\` from ${source}. [openapi.json](openapi.json) is the same for programs; the agent
answers it at \`/openapi.json\`.

HTTP/1.1 over the unix socket \`/run/pipewright/agent.sock\`, mode 0660, of the group \`pipewright\` where there is one. Who
may use the socket can do to the host's network what root can. There is no TCP port.

    curl --unix-socket /run/pipewright/agent.sock http://agent/v1/status

Bodies are JSON of at most 1 MiB, with a content-length and without unknown fields. A failure is
\`{ "error": { "code", "message", "hint" } }\`; the codes are those of [errors.md](errors.md) and a few of the API's own:

| status | code |
| --- | --- |
| 400 | \`BAD_ARGUMENT\`; \`BAD_REQUEST\`: the body is not what is asked for |
| 403 | \`NOT_PERMITTED\` |
| 404 | \`CONTAINER_UNKNOWN\`, \`NETWORK_UNKNOWN\`; \`NOT_FOUND\`: no such path |
| 409 | \`ACT_DIRECTLY\`: a command that only its own process can carry out; the other \`CONTAINER_...\`, \`LINK_EXISTS\`, \`NAME_TAKEN\` |
| 411, 413, 415 | no content-length, \`TOO_LARGE\`, not \`application/json\` |
| 422 | \`BAD_TOPOLOGY\` |
| 501, 503, 504 | \`KIND_UNSUPPORTED\`; \`RUNTIME_UNAVAILABLE\`, \`OVS_UNAVAILABLE\`; the codes that end in \`_TIMEOUT\` |
| 500 | the others; \`INTERNAL\`: a mistake of this program, which its log has |

| | |
| --- | --- |
${routes.map(({ title, summary }) => `| [${title}](#${anchor(title)}) | ${cell(summary)} |`).join('\n')}

${routes.map((route) => section(route, document)).join('\n\n')}

## Objects

${Object.entries(document.components.schemas)
  .map(([name, schema]) => `### ${name}\n\n${fields(schema)}`)
  .join('\n\n')}
`;
}

/** As GitHub makes them. */
function anchor(title) {
  return title
    .toLowerCase()
    .replace(/[^a-z0-9 _-]/g, '')
    .replaceAll(' ', '-');
}

function section({ title, summary, description, requestBody, responses }) {
  const [type, { schema }] = Object.entries(responses[200].content)[0];
  const lines = [
    `## ${title}`,
    `${summary}.${description === undefined ? '' : ` ${description}`}`,
    ...(requestBody ? [`Takes ${typeOf(requestBody.content['application/json'].schema)}.`] : []),
    `Answers ${typeOf(schema)}${type === 'application/json' ? '' : `, as \`${type}\``}.`,
  ];
  return lines.join('\n\n');
}

function fields(schema) {
  const variants = schema.oneOf ?? schema.anyOf;
  if (!variants) return fieldTable(schema);
  const [first, ...others] = variants;
  const shared = Object.keys(first.properties).filter((name) =>
    others.every(
      ({ properties }) => properties[name] && typeOf(properties[name]) === typeOf(first.properties[name]),
    ),
  );
  const own = variants.map(({ properties, required, ...rest }) => {
    const left = Object.entries(properties).filter(([name]) => !shared.includes(name));
    return `- ${typeOf({ ...rest, required, properties: Object.fromEntries(left) })}`;
  });
  if (shared.length === 0) return `One of\n\n${own.join('\n')}`;
  const properties = Object.fromEntries(shared.map((name) => [name, first.properties[name]]));
  return `${fieldTable({ ...first, properties })}\n\nand one of\n\n${own.join('\n')}`;
}

function fieldTable(schema) {
  const rows = Object.entries(schema.properties).map(([name, field]) => {
    const use = schema.required?.includes(name)
      ? ''
      : field.default === undefined
        ? 'optional'
        : `default \`${field.default}\``;
    const example = field.example === undefined ? '' : `for example \`${text(field.example)}\``;
    const notes = [use, field.description, example].filter(Boolean).join('; ');
    return `| \`${name}\` | ${cell(typeOf(field))} | ${cell(notes)} |`;
  });
  return ['| field | type | |', '| --- | --- | --- |', ...rows].join('\n');
}

function text(example) {
  return typeof example === 'string' ? example : JSON.stringify(example);
}

function typeOf(schema) {
  if (schema.$ref) {
    const name = schema.$ref.split('/').at(-1);
    return `[${name}](#${name.toLowerCase()})`;
  }
  if (schema.const !== undefined) return `\`${JSON.stringify(schema.const)}\``;
  if (schema.enum) return schema.enum.map((value) => `\`${JSON.stringify(value)}\``).join(', ');
  const some = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  if (some) return some.map(typeOf).join(', or ');
  if (Array.isArray(schema.type)) return schema.type.join(' or ');
  if (schema.type === 'array') return `list of ${typeOf(schema.items)}`;
  if (schema.type === 'object' && schema.properties) {
    return `{ ${Object.entries(schema.properties)
      .map(([name, field]) => `\`${name}${schema.required?.includes(name) ? '' : '?'}\`: ${typeOf(field)}`)
      .join(', ')} }`;
  }
  if (schema.type === 'object') return `map of ${typeOf(schema.additionalProperties)}`;
  return schema.type;
}

function cell(text) {
  return text.replaceAll('|', '\\|');
}
