// SPDX-License-Identifier: BSD-3-Clause
//
// A connection whose requests show its origin's credentials. Whoever makes requests does not
// know of logins: a request that the server refuses because a token has expired is made again
// with another one, over the same connection.
//
// That is safe: what is refused with 401 or 403 was not done.

#pragma once

#include "http/connection.h"

namespace upload::http {

// Makes connections with `plain`. Those to an origin with credentials show them. Their
// perform() fails as theirs does, and besides
//   - with kLogin when the request was not sent, or was refused, and there is no login: the
//     connection is as it was, or the server has closed it;
//   - with kLoggedOut when the server has refused it and closed the connection, and there
//     is a new login: it can be made again over another connection.
[[nodiscard]] Connector authorized(Connector plain);

}  // namespace upload::http
