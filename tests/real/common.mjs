// The common parts of the two servers: options, packages, the line of output, and the end.
//
// The packages are outside the source tree, where `setup` installs them: in `${RUNAI_TEST_CLIENTS}`, else in
// `target/clients` of this repository. An `import` by bare name looks only in folders above this file, so `load`
// resolves the name from there.

import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const clients = resolve(process.env.RUNAI_TEST_CLIENTS || fileURLToPath(new URL('../../target/clients', import.meta.url)));

export function load(module) {
  return import(pathToFileURL(createRequire(join(clients, 'package.json')).resolve(module)));
}

export const options = JSON.parse(process.argv[2] ?? '{}');

// Listens on a free port of the loopback address and returns that port.
export function listen({ cert, key }, handler) {
  const server = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, handler);
  return new Promise((done, failed) => {
    server.once('error', failed);
    server.listen(0, '127.0.0.1', () => done(server.address().port));
  });
}

// Prints the address of the server, and ends the server when the process that started it ends. The end of standard
// input shows that: the starting process holds the other end of that pipe.
export function announce(facts) {
  process.stdin.on('end', () => process.exit(0)).on('error', () => process.exit(0)).resume();
  process.stdout.write(`${JSON.stringify(facts)}\n`);
}

export function reply(response, status, body, headers = {}) {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(body));
}

export async function body(request) {
  let text = '';
  for await (const chunk of request.setEncoding('utf8')) text += chunk;
  return JSON.parse(text);
}
