// SPDX-License-Identifier: BSD-3-Clause
//
// Why a reply that is lost does no harm: a transaction that is repeated finds the holder's key
// with our own id under it, or gone with our own record beside it, and so knows that it has been
// done. A lease that was granted without our knowing it ends by itself.
//
// The time for which a claim is good is counted from before the request that has granted or
// renewed the lease was sent: whenever the cluster did so, it was later.
//
// A renewal is a keep-alive and a look at the holder's key: the lease would live on without the
// key, should somebody have deleted that.
//
// What a member says is not trusted: it may be a member of another cluster, or no etcd at all.

#include "claim/etcd.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/format.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/redact.h"

namespace upload::claim {

namespace {

using nlohmann::json;

constexpr int kOk = 200;
constexpr int kNotFound = 404;
constexpr int kFirstServerError = 500;
constexpr int kTooManyRequests = 429;
// Two keys with a little around them.
constexpr uint64_t kLongestReply = uint64_t{64} << 10;
// For connecting to a member, and again for its reply.
constexpr Duration kShortestStep = std::chrono::seconds(1);
constexpr int kStepsOfLease = 10;
// Between two rounds while the members choose a leader, which takes a second or two.
constexpr Duration kElection = std::chrono::milliseconds(200);

std::string name_of(const std::vector<http::Origin>& members) {
  std::string name = "claim=etcd:";
  for (size_t i = 0; i < members.size(); ++i)
    name += (i == 0 ? "" : ",") + members[i].url.origin();
  return name;
}

std::vector<std::shared_ptr<const http::Origin>> with_limits(std::vector<http::Origin> members,
                                                             Duration step) {
  std::vector<std::shared_ptr<const http::Origin>> origins;
  for (http::Origin& member : members) {
    member.connect_timeout = member.timeout = step;
    origins.push_back(std::make_shared<const http::Origin>(std::move(member)));
  }
  return origins;
}

// A member of an object; null if there is none.
const json& member_of(const json& object, const char* key) {
  static const json nothing;
  if (!object.is_object()) return nothing;
  const auto found = object.find(key);
  return found == object.end() ? nothing : *found;
}

// Numbers come as texts, and not at all when they are 0.
std::string number_in(const json& object, const char* key) {
  const json& found = member_of(object, key);
  if (found.is_string() && parse_number(found.get_ref<const std::string&>()))
    return found.get<std::string>();
  if (found.is_number_unsigned()) return std::to_string(found.get<uint64_t>());
  return "0";
}

std::string decoded(const json& object, const char* key) {
  const json& found = member_of(object, key);
  return found.is_string() ? from_base64(found.get_ref<const std::string&>()) : "";
}

}  // namespace

struct Etcd::Keys {
  std::string holder;  // empty: nobody
  std::string record;  // empty: none
  std::string version = "0";
};

Etcd::Etcd(std::vector<http::Origin> members, const std::string& hash, Duration lease,
           http::Connector connect, Clock& clock)
    : name_(name_of(members)),
      members_(with_limits(std::move(members), std::max(kShortestStep, lease / kStepsOfLease))),
      holder_key_("/nbdkit-upload/claims/" + hash + "/holder"),
      record_key_("/nbdkit-upload/claims/" + hash + "/record"),
      lease_(lease),
      requests_(std::move(connect)),
      clock_(clock) {}

Status Etcd::malformed(const std::string& why) const {
  return {Kind::kInvalid, name_ + ": " + why};
}

// --- Requests -------------------------------------------------------------

// Asks one member after the other, until one answers. While they choose a leader they say so, and
// are asked again, until the time is over.
Result<json> Etcd::post(const std::string& path, const json& question, BootTime until) {
  http::Request request;
  request.method = http::Method::kPost;
  request.target = path;
  request.headers = {"Content-Type: application/json"};
  request.text = question.dump();
  request.max_reply = kLongestReply;
  request.what = path;
  Result<json> reply = Status(Kind::kLost, name_ + ": there was no time to ask");
  for (bool again = true; std::exchange(again, false);) {
    for (size_t i = 0; i < members_.size() && clock_.boot_now() < until; ++i) {
      const size_t member = (current_ + i) % members_.size();
      request.within = std::min<Duration>(members_[member]->timeout, until - clock_.boot_now());
      reply = post_to(member, request);
      if (reply.ok()) current_ = member;
      if (reply.ok() || reply.status().kind() == Kind::kInvalid) return reply;
      UPLOAD_DEBUG(claim, "%s: %s", path.c_str(), reply.status().text().c_str());
      again = again || reply.status().kind() == Kind::kUnavailable;
    }
    again = again && clock_.boot_now() + kElection < until;
    if (again) clock_.sleep_until(clock_.now() + kElection);
  }
  return reply.status().while_doing(name_);
}

Result<json> Etcd::post_to(size_t member, const http::Request& request) {
  const Result<http::Reply> reply = requests_.perform(members_[member], request);
  if (!reply.ok()) return reply.status();
  return read_reply(member, reply.value());
}

// What concerns a lease is an error of its own when there is no such lease: null then.
Result<json> Etcd::read_reply(size_t member, const http::Reply& reply) {
  const std::string& server = members_[member]->name();
  json object = json::parse(reply.body, nullptr, false);
  const json& error = member_of(object, "error");
  if (reply.status >= kFirstServerError || reply.status == kTooManyRequests)
    return Status(Kind::kUnavailable,
                  server + format(": HTTP status %d: ", reply.status) + excerpt(reply.body));
  if (reply.status == kNotFound && error.is_string() && member_of(object, "code").is_number())
    return json();
  if (reply.status != kOk)
    return malformed(server +
                     format(" does not answer as etcd does: HTTP status %d: ", reply.status) +
                     excerpt(reply.body));
  // A keep-alive's is a stream of results.
  if (member_of(object, "result").is_object()) object = json(member_of(object, "result"));
  const std::string cluster = number_in(member_of(object, "header"), "cluster_id");
  if (cluster == "0") return malformed(server + " does not answer as etcd does");
  if (cluster_.empty()) cluster_ = cluster;
  if (cluster != cluster_)
    return malformed(server + " is a member of another cluster than the others");
  return object;
}

// --- The lease ------------------------------------------------------------

BootTime Etcd::good_until(BootTime asked, const std::string& seconds) const {
  const Duration granted =
      std::chrono::seconds(std::min<uint64_t>(parse_number(seconds).value_or(0), INT32_MAX));
  return asked + std::min(granted, lease_) - kMargin;
}

Result<BootTime> Etcd::grant(BootTime until) {
  const BootTime asked = clock_.boot_now();
  Result<json> reply = post("/v3/lease/grant", {{"TTL", std::to_string(seconds(lease_))}}, until);
  if (!reply.ok()) return reply.status();
  lease_id_ = number_in(reply.value(), "ID");
  if (lease_id_ == "0") return malformed("the reply to /v3/lease/grant has no ID");
  return good_until(asked, number_in(reply.value(), "TTL"));
}

// Else it ends by itself.
void Etcd::revoke(BootTime until) {
  if (lease_id_.empty()) return;
  const Result<json> reply = post("/v3/lease/revoke", {{"ID", lease_id_}}, until);
  if (!reply.ok()) UPLOAD_DEBUG(claim, "not revoked: %s", reply.status().text().c_str());
  lease_id_.clear();
}

// --- The keys -------------------------------------------------------------

json Etcd::put(const std::string& key, const std::string& value) const {
  return {{"request_put", {{"key", base64(key)}, {"value", base64(value)}}}};
}

// A read that the cluster, and not one member alone, answers for.
Result<Etcd::Keys> Etcd::read_keys(BootTime until) {
  const std::string directory = record_key_.substr(0, record_key_.rfind('/'));
  Result<json> reply = post("/v3/kv/range",
                            {{"key", base64(directory + "/")},
                             {"range_end", base64(directory + "0")}},  // what follows the slash
                            until);
  if (!reply.ok()) return reply.status();
  Keys keys;
  const json& list = member_of(reply.value(), "kvs");
  if (!list.is_array()) return keys;
  for (const json& each : list) {
    const std::string key = decoded(each, "key");
    if (key == holder_key_) keys.holder = decoded(each, "value");
    if (key != record_key_) continue;
    keys.record = decoded(each, "value");
    keys.version = number_in(each, "mod_revision");
  }
  return keys;
}

Result<Seen> Etcd::look(BootTime until) {
  Result<Keys> keys = read_keys(until);
  if (!keys.ok()) return keys.status();
  Seen seen;
  seen.held = !keys.value().holder.empty() && keys.value().holder != own_id_;
  seen.version = keys.value().version;
  if (seen.version == "0") return seen;
  Result<Record> record = from_json(keys.value().record);
  if (!record.ok())
    return malformed("the key " + record_key_ + " is damaged: it " + record.status().text() +
                     "; delete it if nobody uploads to this disk");
  seen.record = record.value();
  return seen;
}

Result<std::optional<BootTime>> Etcd::take(const Seen& seen, const Record& record,
                                           BootTime until) {
  Result<BootTime> good = grant(until);
  if (!good.ok()) return good.status();
  own_id_ = record.owner.id;
  json hold = put(holder_key_, own_id_);
  hold["request_put"]["lease"] = lease_id_;
  const json question = {{"compare",
                          {{{"key", base64(record_key_)},
                            {"target", "MOD"},
                            {"mod_revision", seen.version},
                            {"result", "EQUAL"}},
                           {{"key", base64(holder_key_)},
                            {"target", "CREATE"},
                            {"create_revision", "0"},
                            {"result", "EQUAL"}}}},
                         {"success", {put(record_key_, to_json(record)), hold}}};
  Result<json> reply = post("/v3/kv/txn", question, until);
  bool taken = reply.ok() && member_of(reply.value(), "succeeded") == true;
  Status status = reply.status();
  if (reply.ok() && !taken) {
    // It may be our own that was there, if an earlier reply was lost.
    const Result<Keys> keys = read_keys(until);
    status = keys.status();
    taken = keys.ok() && keys.value().holder == own_id_;
  }
  if (taken) return std::optional(good.value());
  own_id_.clear();
  revoke(std::min(until, clock_.boot_now() + kShortestStep));
  if (!status.ok()) return status;
  return std::optional<BootTime>();
}

Result<BootTime> Etcd::renew(BootTime until) {
  const BootTime asked = clock_.boot_now();
  Result<json> reply = post("/v3/lease/keepalive", {{"ID", lease_id_}}, until);
  if (!reply.ok()) return reply.status();
  const std::string time = number_in(reply.value(), "TTL");
  if (time == "0") return Status(Kind::kClaimLost, "its lease in etcd has ended");
  const Result<Keys> keys = read_keys(until);
  if (!keys.ok()) return keys.status();
  if (keys.value().holder != own_id_)
    return Status(Kind::kClaimLost, "the key " + holder_key_ + " was deleted or replaced");
  return good_until(asked, time);
}

Status Etcd::write(const Record& record, BootTime until) { return change(record, false, until); }

Status Etcd::let_go(const Record& record, BootTime until) {
  requests_.resume();
  Status status = change(record, true, until);
  if (status.ok()) revoke(std::min(until, clock_.boot_now() + kShortestStep));
  return status;
}

// Writes the record while the claim is ours, and perhaps lets go of it.
Status Etcd::change(const Record& record, bool let_go, BootTime until) {
  const std::string text = to_json(record);
  json success = json::array({put(record_key_, text)});
  if (let_go) success.push_back({{"request_delete_range", {{"key", base64(holder_key_)}}}});
  const json question = {{"compare", json::array({{{"key", base64(holder_key_)},
                                                   {"target", "VALUE"},
                                                   {"value", base64(own_id_)},
                                                   {"result", "EQUAL"}}})},
                         {"success", success}};
  const Result<json> reply = post("/v3/kv/txn", question, until);
  if (!reply.ok()) return reply.status();
  if (member_of(reply.value(), "succeeded") == true) return {};
  // It may have been done, if an earlier reply was lost.
  const Result<Keys> keys = read_keys(until);
  if (!keys.ok()) return keys.status();
  if (let_go && keys.value().holder.empty() && keys.value().record == text) return {};
  return {Kind::kClaimLost, "the key " + holder_key_ + " was deleted or replaced"};
}

}  // namespace upload::claim
