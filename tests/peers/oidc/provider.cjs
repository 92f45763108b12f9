// An OpenID Connect provider that gives client-credentials tokens: node provider.cjs JWKS_FILE NODE_MODULES
//
// Prints {"issuer": "…"} once it listens. POST /rotate: reads the file again and signs with its first key from then on.
'use strict';

const { webcrypto } = require('node:crypto');
const { readFileSync } = require('node:fs');
const { createServer } = require('node:http');
const { pathToFileURL } = require('node:url');

const [, , file, modules] = process.argv;
let handle;
let Provider;

function start(issuer) {
  const { keys } = JSON.parse(readFileSync(file, 'utf8'));
  const provider = new Provider(issuer, {
    jwks: { keys },
    clients: [{
      client_id: 'trainer', client_secret: 'of-the-tests-alone', grant_types: ['client_credentials'],
      redirect_uris: [], response_types: [], token_endpoint_auth_method: 'client_secret_post',
      id_token_signed_response_alg: keys[0].alg,
    }],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: 'models', audience: 'sidecar', accessTokenFormat: 'jwt', accessTokenTTL: 300,
          jwt: { sign: { alg: keys[0].alg, kid: keys[0].kid } },
        }),
      },
    },
  });
  handle = provider.callback();
}

const server = createServer((request, response) => {
  if (request.method === 'POST' && request.url === '/rotate') {
    start(issuer());
    response.end();
  } else {
    handle(request, response);
  }
});

function issuer() {
  return `http://127.0.0.1:${server.address().port}`;
}

// Debian 12's Node 18 lacks both.
globalThis.crypto ??= webcrypto;
URL.parse ??= (text, base) => (URL.canParse(text, base) ? new URL(text, base) : null);

// The package is an ES module, which Node before 20.19 does not let `require` have.
import(pathToFileURL(`${modules}/oidc-provider/lib/index.js`)).then((found) => {
  Provider = found.Provider;
  server.listen(0, '127.0.0.1', () => {
    start(issuer());
    console.log(JSON.stringify({ issuer: issuer() }));
  });
});
