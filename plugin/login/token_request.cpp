// SPDX-License-Identifier: BSD-3-Clause
//
// The request, and how its reply is read. Nothing that the endpoint says is trusted.

#include "login/token_request.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "base/percent.h"
#include "base/redact.h"

namespace upload::login {

namespace {

using nlohmann::json;

// A token of the largest size, in JSON, with another one to refresh it.
constexpr uint64_t kLongestReply = uint64_t{256} << 10;

// Names and values as in a form (RFC 6749, appendix B), with the blank encoded like others.
http::Request make_request(const http::Url& url, const OauthClient& client, Duration within) {
  http::Request request;
  request.method = http::Method::kPost;
  request.target = url.target();
  request.headers = {"Content-Type: application/x-www-form-urlencoded",
                     "Accept: application/json"};
  if (client.user.empty())
    request.text = "grant_type=client_credentials";
  else
    request.text = "grant_type=password&username=" + percent_encoded(client.user) +
                   "&password=" + percent_encoded(client.password);
  if (!client.scope.empty()) request.text += "&scope=" + percent_encoded(client.scope);
  // Section 2.3.1: a client with a secret shows both in its header; section 3.2.1: one
  // without names itself in the body.
  if (!client.secret.empty())
    request.authorization = "Basic " + base64(basic_credentials(client.id, client.secret));
  else if (!client.id.empty())
    request.text += "&client_id=" + percent_encoded(client.id);
  request.max_reply = kLongestReply;
  request.within = within;
  request.what = "ask for a token";
  return request;
}

// A string in the object; empty: there is none.
std::string text_in(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

// What an error says of itself, in brackets; else an excerpt of the text, unless there may be
// a token in it.
std::string explanation(const json& object, const std::string& body) {
  const std::string error = object.is_object() ? text_in(object, "error") : "";
  if (error.empty())
    return body.empty() || body.find("token") != body.npos ? "" : ": " + excerpt(body);
  const std::string description = text_in(object, "error_description");
  return ": " + excerpt(error + (description.empty() ? "" : " (" + description + ")"));
}

// Some servers write the number as a string.
Result<std::optional<Duration>> read_life(const json& object) {
  const auto found = object.find("expires_in");
  if (found == object.end() || found->is_null()) return std::optional<Duration>();
  if (!found->is_number() && !found->is_string())
    return Status(Kind::kLogin, "the life time (expires_in) is not a number");
  const Result<Duration> life =
      parse_life(found->is_string() ? found->get<std::string>() : found->dump());
  if (!life.ok()) return life.status();
  return std::optional(life.value());
}

}  // namespace

std::string basic_credentials(const std::string& id, const std::string& secret) {
  return percent_encoded(id) + ":" + percent_encoded(secret);
}

Result<Token> read_token_reply(const http::Reply& reply) {
  constexpr int kOk = 200;
  const json object = json::parse(reply.body, nullptr, false);
  // Before any of it is shown: access_token, refresh_token, id_token.
  if (object.is_object())
    for (const auto& [key, value] : object.items())
      if (key.ends_with("token") && value.is_string())
        register_passing_secret(value.get_ref<const std::string&>());
  if (reply.status != kOk)
    return Status(Kind::kLogin, "HTTP status " + std::to_string(reply.status) +
                                    explanation(object, reply.body));
  if (!object.is_object())
    return Status(Kind::kLogin, "the reply is not a JSON object" + explanation(object, ""));
  if (!object.contains("access_token"))
    return Status(Kind::kLogin, "the reply has no access_token" + explanation(object, ""));
  Token token;
  token.text = text_in(object, "access_token");
  if (Status status = check_token(token.text); !status.ok()) return status;
  std::string type = text_in(object, "token_type");
  for (char& c : type) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (!type.empty() && type != "bearer")
    return Status(Kind::kLogin, "the token's type (token_type) is not bearer");
  Result<std::optional<Duration>> life = read_life(object);
  if (!life.ok()) return life.status();
  token.life = life.value();
  return token;
}

TokenRequest::TokenRequest(std::shared_ptr<const http::Origin> origin, const OauthClient& client,
                           http::Connector connect)
    : origin_(std::move(origin)),
      request_(make_request(origin_->url, client, origin_->timeout)),
      requests_(std::move(connect)) {}

Result<Token> TokenRequest::log_in() {
  const Result<http::Reply> reply = requests_.perform(origin_, request_);
  if (reply.status().kind() == Kind::kShutdown)
    return Status(Kind::kLogin, "the plugin is shutting down");
  if (!reply.ok()) return reply.status();
  Result<Token> token = read_token_reply(reply.value());
  if (!token.ok()) return token.status().while_doing(origin_->name());
  return token;
}

}  // namespace upload::login
