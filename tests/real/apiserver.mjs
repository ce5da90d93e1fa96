// The part of a Kubernetes API server that kubectl and helm use. It requires a valid token of the issuer.
//
// It checks the signature by the issuer's keys, `iss`, `aud` and `exp`, as `--oidc-issuer-url` and `--oidc-client-id`
// configure it for the real server. See README.md.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { get } from 'node:https';

import { announce, body, listen, load, options, reply } from './common.mjs';

const { createLocalJWKSet, errors, jwtVerify } = await load('jose');

const { cert, key, issuer, jwks, ca, audience = 'runai' } = options;
const authority = readFileSync(ca);

// --- authentication ----------------------------------------------------------------------------------------------

function fetchKeys() {
  return new Promise((done, failed) => {
    get(jwks, { ca: authority, agent: false, timeout: 5000 }, (response) => {
      body(response).then((set) => done(createLocalJWKSet(set)), failed);
    }).on('error', failed).on('timeout', function late() { this.destroy(new Error(`no answer from ${jwks}`)); });
  });
}

let keys;

async function verify(token) {
  const expected = { issuer, audience, algorithms: ['RS256', 'ES256'], requiredClaims: ['exp', 'sub'] };
  keys ??= await fetchKeys();
  try {
    return await jwtVerify(token, keys, expected);
  } catch (error) {
    if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
    keys = await fetchKeys(); // the token's key is newer than the known ones
    return jwtVerify(token, keys, expected);
  }
}

let refusal = { mode: 'none' };

// Returns the token's owner, or `undefined` for a token that is not valid here.
async function authenticate(token, sha256) {
  if (refusal.mode === 'all' || (refusal.mode === 'tokens' && refusal.sha256.includes(sha256))) return undefined;
  try {
    return (await verify(token)).payload.sub;
  } catch (error) {
    if (error instanceof errors.JOSEError) return undefined;
    throw error; // the issuer cannot be reached: a fault of the test and not of the token
  }
}

// --- resources ---------------------------------------------------------------------------------------------------

const version = {
  major: '1', minor: '31', gitVersion: 'v1.31.0', gitCommit: '', gitTreeState: 'clean', buildDate: '2024-08-13T00:00:00Z',
  goVersion: 'go1.22.5', compiler: 'gc', platform: 'linux/amd64',
};

const created = '2024-08-13T00:00:00Z';
const object = (name, namespace, rest = {}) => ({
  metadata: { name, namespace, uid: `00000000-0000-4000-8000-${createHash('sha256').update(`${namespace}/${name}`).digest('hex').slice(0, 12)}`, resourceVersion: '1', creationTimestamp: created },
  ...rest,
});

const resources = {
  namespaces: {
    kind: 'Namespace', namespaced: false, shortNames: ['ns'],
    items: ['default', 'kube-system'].map((name) => object(name, undefined, { status: { phase: 'Active' } })),
    columns: { Status: (item) => item.status.phase },
  },
  pods: {
    kind: 'Pod', namespaced: true, shortNames: ['po'],
    items: ['trainer-0', 'trainer-1'].map((name) => object(name, 'default', {
      spec: { containers: [{ name: 'main', image: 'example.invalid/trainer' }] }, status: { phase: 'Running' },
    })),
    columns: { Status: (item) => item.status.phase },
  },
  configmaps: { kind: 'ConfigMap', namespaced: true, shortNames: ['cm'], items: [], columns: {} },
  secrets: { kind: 'Secret', namespaced: true, shortNames: [], items: [], columns: {} },
};

// Returns a resource as a table, which `kubectl get` prints. Other clients get the objects.
function table(resource, items) {
  return {
    kind: 'Table', apiVersion: 'meta.k8s.io/v1', metadata: { resourceVersion: '1' },
    columnDefinitions: ['Name', ...Object.keys(resource.columns)].map((name) => ({
      name, type: 'string', format: name === 'Name' ? 'name' : '', description: name, priority: 0,
    })),
    rows: items.map((item) => ({
      cells: [item.metadata.name, ...Object.values(resource.columns).map((cell) => cell(item))],
      object: { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: item.metadata },
    })),
  };
}

function status(code, reason, message) {
  return { code, body: { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code } };
}

const ok = (value) => ({ code: 200, body: value });

function look(path, accept) {
  switch (path) {
    case '/healthz': case '/livez': case '/readyz':
      return { code: 200, text: 'ok' };
    case '/version':
      return ok(version);
    case '/api':
      return ok({ kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] });
    case '/apis':
      return ok({ kind: 'APIGroupList', apiVersion: 'v1', groups: [] });
    case '/api/v1':
      return ok({
        kind: 'APIResourceList', groupVersion: 'v1',
        resources: Object.entries(resources).map(([name, { kind, namespaced, shortNames }]) => ({
          name, singularName: kind.toLowerCase(), namespaced, kind, verbs: ['get', 'list'], shortNames,
        })),
      });
    default:
  }
  // `/namespaces/default` alone is the namespace itself, so the pattern looks ahead for a following part.
  const parts = /^\/api\/v1(?:\/namespaces\/(?<namespace>[^/]+)(?=\/))?\/(?<plural>[^/]+)(?:\/(?<name>[^/]+))?$/.exec(path)?.groups;
  const resource = parts && Object.hasOwn(resources, parts.plural) ? resources[parts.plural] : undefined;
  if (!resource) return status(404, 'NotFound', 'the server could not find the requested resource');
  const found = resource.items.filter(({ metadata }) => (!parts.namespace || metadata.namespace === parts.namespace)
    && (!parts.name || metadata.name === parts.name));
  if (parts.name && !found.length) return status(404, 'NotFound', `${parts.plural} "${parts.name}" not found`);
  if (/;as=Table;v=v1;/.test(accept)) return ok(table(resource, found));
  const typed = found.map((item) => ({ kind: resource.kind, apiVersion: 'v1', ...item }));
  return ok(parts.name ? typed[0] : { kind: `${resource.kind}List`, apiVersion: 'v1', metadata: { resourceVersion: '1' }, items: typed });
}

// --- the server --------------------------------------------------------------------------------------------------

const log = [];

async function control(request, path) {
  if (request.method === 'GET' && path === '/_test/log') return ok(log);
  if (request.method === 'POST' && path === '/_test/refuse') {
    const wish = await body(request);
    if (!['none', 'all', 'tokens'].includes(wish.mode) || (wish.mode === 'tokens' && !Array.isArray(wish.sha256))) {
      return status(400, 'BadRequest', 'want {"mode": "none" | "all" | "tokens", "sha256": […]}');
    }
    refusal = wish;
    return ok(refusal);
  }
  return status(404, 'NotFound', 'no such control');
}

async function answer(request, path, entry) {
  const token = /^bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
  const sha256 = token && createHash('sha256').update(token).digest('hex');
  entry.token_sha256_prefix = sha256?.slice(0, 16) ?? null;
  entry.sub = (token && await authenticate(token, sha256)) ?? null;
  if (entry.sub === null) return status(401, 'Unauthorized', 'Unauthorized');
  if (request.method !== 'GET') return status(405, 'MethodNotAllowed', 'the server does not allow this method on the requested resource');
  return look(path, request.headers.accept ?? '');
}

const port = await listen({ cert, key }, async (request, response) => {
  const path = request.url.split('?')[0];
  const ours = path.startsWith('/_test/');
  const entry = { method: request.method, path, status: 0, sub: null, token_sha256_prefix: null };
  let result;
  try {
    result = await (ours ? control(request, path) : answer(request, path, entry));
  } catch (error) {
    result = status(500, 'InternalError', String(error));
  }
  if (!ours) log.push({ ...entry, status: result.code });
  if (result.text === undefined) return reply(response, result.code, result.body);
  response.writeHead(result.code, { 'content-type': 'text/plain' });
  return response.end(result.text);
});

announce({ port });
