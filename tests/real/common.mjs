// What the two servers share: their options, their packages, their one line of output, their end.
//
// The packages live outside the source tree, where `setup` put them: `${RUNAI_TEST_CLIENTS}`, else `target/clients` of
// this repository. An `import` by bare name looks only in folders above this file, so `load` resolves it from there.

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

// Listens on a free port of the loopback address and answers that port.
export function listen({ cert, key }, handler) {
  const server = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, handler);
  return new Promise((done, failed) => {
    server.once('error', failed);
    server.listen(0, '127.0.0.1', () => done(server.address().port));
  });
}

// Says where the server is, and ends it when whoever started it is gone: its end of our stdin closes with it.
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
