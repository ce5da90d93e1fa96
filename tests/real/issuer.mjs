// The token issuer of the tests: the certified server `oidc-provider`, with Keycloak's paths. See README.md.

import { generateKeyPairSync, randomBytes } from 'node:crypto';

import { announce, listen, load, options, reply } from './common.mjs';

// Loads the provider itself: the package's main module only adds a warning about every Node.js before 22.
const { Provider } = await load('oidc-provider/lib/provider.js');

const { cert, key, realm = 'acme', clients = [], audience = 'runai', lifetime = 3600 } = options;
const mount = `/auth/realms/${realm}`;
const routes = { token: '/protocol/openid-connect/token', jwks: '/protocol/openid-connect/certs' };

// Clients are configured and tokens are JWTs, so the server stores nothing. Without an adapter it prints a warning.
class NoStorage {
  async upsert() {}
  async find() {}
  async destroy() {}
  async consume() {}
  async revokeByGrantId() {}
}

let handle;
const seen = { token: 0 };

const port = await listen({ cert, key }, (request, response) => {
  if (request.method === 'GET' && request.url === '/_test/requests') return reply(response, 200, seen);
  const path = request.url.split('?')[0];
  if (request.method === 'POST' && path === mount + routes.token) seen.token += 1;
  if (!path.startsWith(`${mount}/`)) return reply(response, 404, { error: 'not_found' });
  request.originalUrl = request.url;
  request.url = request.url.slice(mount.length);
  return handle(request, response);
});

const issuer = `https://localhost:${port}${mount}`;
const standard = 'urn:runai-credential:tests'; // a resource must be a URI; the audience need not be one

const provider = new Provider(issuer, {
  adapter: NoStorage,
  clients: clients.map(({ id, secret, auth = 'client_secret_post', jwks }) => ({
    client_id: id,
    client_secret: secret,
    token_endpoint_auth_method: auth,
    jwks,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
  })),
  clientBasedCORS: () => false,
  clientAuthMethods: ['client_secret_post', 'client_secret_basic', 'private_key_jwt'],
  cookies: { keys: [randomBytes(32).toString('hex')] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    dPoP: { enabled: false },
    pushedAuthorizationRequests: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => standard,
      getResourceServerInfo: (_ctx, resource) => ({
        audience: resource === standard ? audience : resource,
        scope: 'openid',
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
    rpInitiatedLogout: { enabled: false },
    userinfo: { enabled: false },
  },
  jwks: {
    keys: [{ ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig' }],
  },
  responseTypes: [],
  routes,
  scopes: ['openid'],
  ttl: { ClientCredentials: lifetime },
});
// A client that ends during its request is no error of the server: tests kill some clients. All other errors are
// printed.
provider.on('error', (error, context) => {
  if (!context || context.req.complete) provider.onerror(error);
});
handle = provider.callback();

announce({ port, issuer });
