// SPDX-License-Identifier: BSD-3-Clause
//
// A token server for tests/sessions.sh: oauth2-mock-server as a module, over TLS, with a short
// life time and failures when the test wants them.
//
//   node token_server.mjs DIR CERT KEY
//
// In DIR it writes `token-port` when it can be asked; `tokens`, a line "TOKEN EXPIRES" for each token
// that it has given; and `logins`, a line for each request for one: the status, and what was
// asked for, without secrets. It reads `behaviour`, for each request anew: JSON with any of
//   life      of a token, in seconds (default: 3600)
//   status    answered in place of a token
//   delay     in milliseconds, before the answer
//   body      the whole answer, in place of the usual one
//   secret    what a client's password has to be, for it to get a token
//   valid     false: upload servers are not told of the token (default: true)

import { appendFileSync, existsSync, readFileSync, writeFileSync, renameSync } from 'node:fs';
import { createServer } from 'node:https';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [dir, cert, key] = process.argv.slice(2);
// Wherever it is installed.
const { OAuth2Server } = createRequire(join(process.cwd(), 'x'))('oauth2-mock-server');

const behaviour = () => {
  const file = join(dir, 'behaviour');
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {};
};

const { issuer, service } = new OAuth2Server();
issuer.url = 'https://localhost';
await issuer.keys.generate('RS256');

const life = () => behaviour().life ?? 3600;
service.on('beforeTokenSigning', (token) => {
  token.payload.exp = Math.floor(Date.now() / 1000 + Math.max(life(), 1));
});
service.on('beforeResponse', (answer, request) => {
  const now = behaviour();
  const { grant_type: grant, username, password, scope } = request.body;
  const basic = (request.headers.authorization ?? '').replace(/^Basic /, '');
  const [client, secret] = Buffer.from(basic, 'base64').toString().split(':');
  answer.body.expires_in = life();
  if (now.secret !== undefined && now.secret !== secret && now.secret !== password) {
    answer.statusCode = 401;
    answer.body = { error: 'invalid_client', error_description: 'no such client, or secret' };
  }
  if (now.status !== undefined) {
    answer.statusCode = now.status;
    answer.body = { error: 'server_error' };
  }
  if (now.body !== undefined) answer.body = now.body;
  if (answer.statusCode === 200 && now.body === undefined && now.valid !== false)
    appendFileSync(join(dir, 'tokens'),
      `${answer.body.access_token} ${Date.now() / 1000 + life()}\n`);
  appendFileSync(join(dir, 'logins'),
    `${answer.statusCode} ${grant} ${client ?? ''} ${username ?? ''} ${scope ?? ''}\n`);
});

const server = createServer({ cert: readFileSync(cert), key: readFileSync(key) },
  (request, response) =>
    setTimeout(() => service.requestHandler(request, response), behaviour().delay ?? 0));
server.listen(0, '127.0.0.1', () => {
  writeFileSync(join(dir, 'token-port.new'), `${server.address().port}\n`);
  renameSync(join(dir, 'token-port.new'), join(dir, 'token-port'));
});
