// An OAuth server (oidc-provider) and a guard in front of a FHIR server, for the tests of SMART Backend Services.
//
//   node server.mjs FHIR-BASE JWKS-FILE
//
// Prints one line of JSON when both listen: issuer, token (endpoint), fhir (base behind the guard), control.
// The OAuth server knows one client, `bridge`, whose keys it reads from a jwks_uri that serves JWKS-FILE as it is now.
// The guard verifies each token by the issuer's published keys (signature, issuer, audience, end), looks whether its
// scopes allow every entry of the transaction, and passes the request on. POST to `control` changes what follows:
// {ttl: seconds, revoke: true, forget_keys: true, down: true|false}; the answer counts what came.

import { createServer, request as ask } from 'node:http';
import { readFile } from 'node:fs/promises';
import { once } from 'node:events';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import Provider from 'oidc-provider';

const [fhirBase, jwksFile] = process.argv.slice(2);
const RESOURCE = 'urn:example:fhir';
const SCOPES = ['system/*.cruds', 'system/*.rs', 'system/Patient.cruds', 'system/Encounter.cruds'];
const state = { ttl: 300, down: false, notBefore: 0, revoked: new Set(), seen: new Set(), tokens: 0, refusedTokens: 0, bundles: 0, refused: 0 };

const listening = async (server) => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${server.address().port}`;
};

// ---- the OAuth server ----

const oauth = createServer();
const issuer = await listening(oauth);

const provider = new Provider(issuer, {
  clients: [{
    client_id: 'bridge',
    token_endpoint_auth_method: 'private_key_jwt',
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    jwks_uri: `${issuer}/client-jwks.json`,
    scope: SCOPES.filter((scope) => scope !== 'system/Encounter.cruds').join(' '),
  }],
  scopes: SCOPES,
  clientAuthMethods: ['private_key_jwt'],
  enabledJWA: { clientAuthSigningAlgValues: ['RS384', 'ES384'] },
  fetch: (url, { dispatcher, ...options }) => fetch(url, options), // its dispatcher refuses this machine's addresses
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => RESOURCE,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: SCOPES.join(' '),
        audience: RESOURCE,
        accessTokenFormat: 'jwt',
        accessTokenTTL: state.ttl,
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
});
provider.on('grant.success', () => { state.tokens += 1; });
provider.on('grant.error', () => { state.refusedTokens += 1; });

const answer = (response, status, body, headers = {}) => {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(body));
};

const handle = provider.callback();
oauth.on('request', async (request, response) => {
  if (request.url === '/client-jwks.json') {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(await readFile(jwksFile));
  } else if (state.down) {
    answer(response, 503, {}, { 'retry-after': '1' });
  } else {
    handle(request, response);
  }
});

// ---- the guard ----

const LETTER = { POST: 'c', PUT: 'u', PATCH: 'u', DELETE: 'd', GET: 'r' };

const allows = (scopes, type, letter) => scopes.some((scope) => {
  const [, allowed, letters] = /^system\/([A-Za-z*]+)\.([cruds]+)$/.exec(scope) ?? [];
  return (allowed === '*' || allowed === type) && letters.includes(letter);
});

const covered = (scopes, body) => (JSON.parse(body).entry ?? []).every(({ request }) => (
  allows(scopes, request.url.split(/[/?]/u)[0], LETTER[request.method])
));

const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`));

const verified = async (header) => {
  const token = /^Bearer (.+)$/u.exec(header ?? '')?.[1] ?? '';
  const { payload } = await jwtVerify(token, keys, { issuer, audience: RESOURCE });
  if (state.revoked.has(payload.jti)) throw new Error('revoked');
  state.seen.add(payload.jti);
  return (payload.scope ?? '').split(' ');
};

const guard = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  if (request.url === '/fhir/.well-known/smart-configuration') {
    answer(response, 200, {
      token_endpoint: `${issuer}/token`,
      token_endpoint_auth_methods_supported: ['private_key_jwt'],
      token_endpoint_auth_signing_alg_values_supported: ['RS384', 'ES384'],
      grant_types_supported: ['client_credentials'],
      scopes_supported: SCOPES,
      capabilities: ['client-confidential-asymmetric', 'permission-v2'],
    });
    return;
  }
  let scopes;
  try {
    scopes = await verified(request.headers.authorization);
  } catch {
    state.refused += 1;
    answer(response, 401, {}, { 'www-authenticate': 'Bearer error="invalid_token"' });
    return;
  }
  if (request.method === 'POST') {
    state.bundles += 1;
    if (!covered(scopes, body)) {
      answer(response, 403, {}, { 'www-authenticate': 'Bearer error="insufficient_scope"' });
      return;
    }
  }
  const headers = { ...request.headers };
  for (const name of ['authorization', 'host', 'connection', 'transfer-encoding']) delete headers[name];
  const onward = ask(fhirBase + request.url.replace(/^\/fhir/u, ''), { method: request.method, headers }, (found) => {
    response.writeHead(found.statusCode, found.headers);
    found.pipe(response);
  });
  onward.on('error', () => answer(response, 502, {}));
  onward.end(body);
});
const fhir = `${await listening(guard)}/fhir`;

// ---- what tests change ----

const control = createServer(async (request, response) => {
  let text = '';
  for await (const chunk of request) text += chunk;
  const asked = text ? JSON.parse(text) : {};
  if (asked.ttl !== undefined) state.ttl = asked.ttl;
  if (asked.down !== undefined) state.down = asked.down;
  if (asked.revoke) state.revoked = new Set(state.seen);
  if (asked.forget_keys) (await provider.Client.find('bridge')).asymmetricKeyStore.freshUntil = undefined;
  const { tokens, refusedTokens, bundles, refused, seen } = state;
  answer(response, 200, { tokens, refusedTokens, bundles, refused, distinct: seen.size });
});

console.log(JSON.stringify({ issuer, token: `${issuer}/token`, fhir, control: await listening(control) }));
