// SPDX-License-Identifier: BSD-3-Clause
//
// Which credentials are good.
//
// Whatever the server was given counts: a key, a signature, tokens; with nothing given every
// request is allowed. What a request shows decides how it is looked at: a query with `sig` before an
// Authorization field, as in Azure.
//
// A signature is not computed but compared with the one that the server was given, with all its
// parameters: a client can't make one, it can only hand it on.
//
// Threads: no state. Errors: 403, with the reason in AuthenticationErrorDetail; 401 with a challenge
// for bearer tokens, which are what Azure answers 401 for.

#include "azure_authorization.h"

#include <chrono>

#include "azure_syntax.h"
#include "checksums.h"
#include "token_file.h"

namespace upload::testserver {

namespace {

constexpr std::chrono::minutes kClockSkew{15};

Refusal not_authenticated(const std::string& detail) {
  Refusal refusal = azure_refusal(
      403, "AuthenticationFailed",
      "Server failed to authenticate the request. Make sure the value of Authorization header is "
      "formed correctly including the signature.");
  refusal.detail = detail;
  return refusal;
}

Refusal challenge(const std::string& code, const std::string& text) {
  Refusal refusal = azure_refusal(401, code, text);
  refusal.headers.emplace_back("www-authenticate",
                               "Bearer authorization_uri=https://login.microsoftonline.com/"
                               "00000000-0000-0000-0000-000000000000/oauth2/authorize "
                               "resource_id=https://storage.azure.com");
  return refusal;
}

std::string field_or_empty(const HttpReader& http, std::string_view name) {
  return std::string(http.field(name).value_or(""));
}

std::optional<Refusal> check_key(const AzureOptions& azure, const HttpReader& http,
                                 const Target& target, std::string_view shown) {
  const auto date = parse_http_date(field_or_empty(
      http, http.field("x-ms-date") ? std::string_view("x-ms-date") : std::string_view("date")));
  const auto now = std::chrono::system_clock::now();
  if (!date || *date < now - kClockSkew || *date > now + kClockSkew) {
    return not_authenticated("Request date header not specified, or too old or too new");
  }
  const auto [account, signature] = split(shown, ':');
  if (signature.empty()) {
    return azure_refusal(400, "InvalidAuthenticationInfo",
                         "Authentication information is not given in the correct format. Check "
                         "the value of Authorization header.");
  }
  const std::string text = string_to_sign(http, target, azure.account);
  const auto key = from_base64(azure.shared_key);
  if (account != azure.account || !key || signature != base64(hmac_sha256(*key, text))) {
    return not_authenticated(
        "The MAC signature found in the HTTP request is not the same as any computed signature. "
        "Server used following string to sign: '" +
        text + "'.");
  }
  return std::nullopt;
}

std::optional<Refusal> check_signature(const std::string& sas, const Target& target,
                                       std::string_view permissions) {
  const Target wanted = parse_target("?" + sas);
  for (const auto& [name, value] : wanted.query) {
    const auto shown = target.query.find(name);
    if (shown == target.query.end() || shown->second != value) {
      return not_authenticated("Signature did not match.");
    }
  }
  if (const auto expiry = wanted.query.find("se"); expiry != wanted.query.end()) {
    const auto end = parse_iso_date(expiry->second);
    const auto now = std::chrono::system_clock::now();
    if (!end || now >= *end) {
      return not_authenticated(
          "Signature not valid in the specified time frame: Start [] - Expiry [" +
          (end ? http_date(*end) : expiry->second) + "] - Current [" + http_date(now) + "]");
    }
  }
  const auto allowed = wanted.query.find("sp");
  // With a stored policy (si) the permissions are not in the query.
  if (allowed != wanted.query.end() &&
      allowed->second.find_first_of(permissions) == std::string::npos) {
    return azure_refusal(403, "AuthorizationPermissionMismatch",
                         "This request is not authorized to perform this operation using this "
                         "permission.");
  }
  return std::nullopt;
}

std::optional<Refusal> check_token(const ServerState& state, std::string_view authorization) {
  const std::string wanted = state.require_authorization();
  const bool good = (!wanted.empty() && authorization == wanted) ||
                    (!state.options.token_file.empty() &&
                     is_valid_token(state.options.token_file, authorization));
  if (good) {
    return std::nullopt;
  }
  return challenge(
      "InvalidAuthenticationInfo",
      "Server failed to authenticate the request. Please refer to the information in "
      "the www-authenticate header.");
}

}  // namespace

std::string string_to_sign(const HttpReader& http, const Target& target,
                           const std::string& account) {
  std::string text = std::string(http.method()) + '\n';
  for (const std::string_view name :
       {"content-encoding", "content-language", "content-length", "content-md5", "content-type",
        "date", "if-modified-since", "if-match", "if-none-match", "if-unmodified-since",
        "range"}) {
    const bool empty = (name == "content-length" && http.content_length().value_or(0) == 0) ||
                       (name == "date" && http.field("x-ms-date"));
    text += (empty ? "" : field_or_empty(http, name)) + '\n';
  }
  for (const auto& [name, value] : http.fields_with("x-ms-")) {
    text += name + ':' + value + '\n';
  }
  // The path as it was sent, not as it is meant.
  text += '/' + account + std::string(split(http.target(), '?').first);
  for (const auto& [name, value] : target.query) {
    text += '\n' + name + ':' + value;
  }
  return text;
}

std::optional<Refusal> check_azure_authorization(const ServerState& state, const HttpReader& http,
                                                 const Target& target,
                                                 std::string_view permissions) {
  const AzureOptions& azure = state.options.azure;
  const std::string sas = state.azure_sas();
  const bool takes_tokens =
      !state.options.token_file.empty() || !state.require_authorization().empty();
  if (azure.shared_key.empty() && sas.empty() && !takes_tokens) {
    return std::nullopt;
  }
  if (target.query.contains("sig")) {
    return sas.empty() ? not_authenticated("Signature did not match.")
                       : check_signature(sas, target, permissions);
  }
  constexpr std::string_view kSharedKey = "SharedKey ";
  const std::string authorization = field_or_empty(http, "authorization");
  if (authorization.starts_with(kSharedKey) && !azure.shared_key.empty()) {
    return check_key(azure, http, target,
                     std::string_view(authorization).substr(kSharedKey.size()));
  }
  if (takes_tokens && !authorization.empty()) {
    return check_token(state, authorization);
  }
  if (takes_tokens) {
    return challenge("NoAuthenticationInformation",
                     "Server failed to authenticate the request. Please refer to the information "
                     "in the www-authenticate header.");
  }
  return not_authenticated("No credentials that this server takes");
}

}  // namespace upload::testserver
