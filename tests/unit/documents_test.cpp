// SPDX-License-Identifier: BSD-3-Clause
//
// The tables that the documents show are those in the code: what a failure means
// (volume/verdict.h, target/reply.cpp), and how the spool's state changes
// (volume/spool_state.h). A table that differs is printed as it should be.

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "catch.h"
#include "target/reply.h"
#include "volume/spool_state.h"
#include "volume/verdict.h"

namespace upload::volume {

namespace {

// With one space for any white space.
std::string read_document(const std::string& name) {
  const std::string path = std::string(UPLOAD_SOURCE_DIR "/") + name;
  std::ifstream file(path);
  INFO(path);
  REQUIRE(file.good());
  std::stringstream text;
  text << file.rdbuf();
  return std::regex_replace(text.str(), std::regex("\\s+"), " ");
}

void check_contains(const std::string& document, const std::string& text) {
  const std::string flat = std::regex_replace(text, std::regex("\\s+"), " ");
  INFO("it is to say:\n" << text);
  CHECK(document.find(flat) != std::string::npos);
}

struct Name {
  Kind kind;
  const char* text;
};

constexpr Name kNames[] = {
    {Kind::kInvalid, "the request is wrong"},
    {Kind::kConnect, "no connection"},
    {Kind::kPoolWait, "no free connection"},
    {Kind::kLost, "connection lost"},
    {Kind::kMalformed, "a reply that lies"},
    {Kind::kServerError, "500 and other 5xx"},
    {Kind::kGateway, "502, 504"},
    {Kind::kUnavailable, "408, 429, 503"},
    {Kind::kForgotten, "403, 404, 410 within denied-wait"},
    {Kind::kDenied, "403, 404, 410"},
    {Kind::kUnauthorized, "401, 407"},
    {Kind::kLogin, "no login"},
    {Kind::kBusy, "ServerBusy"},
    {Kind::kLoggedOut, "401 to an old login, connection closed"},
    {Kind::kNoSpace, "413, 507"},
    {Kind::kRejected, "other 4xx"},
    {Kind::kNoMemory, "out of memory"},
    {Kind::kSpool, "the spool has failed"},
    {Kind::kClaimed, "the claim is another's"},
    {Kind::kClaimLost, "the claim is lost"},
    {Kind::kShutdown, "nbdkit is to end"},
};

std::string words(const Verdict& verdict, bool changes) {
  std::string text;
  const auto add = [&](bool is_so, const char* word) {
    if (is_so) text += (text.empty() ? "" : ", ") + std::string(word);
  };
  add(verdict.retire, "retire");
  add(verdict.fate_unknown && changes, "doubt");
  add(verdict.repeat, "repeat");
  add(verdict.latch == Latch::kAlways, "latch");
  add(verdict.latch == Latch::kWithoutReplay, "latch*");
  return text;
}

std::string error_name(int number) {
  const std::map<int, std::string> names = {{EIO, "EIO"},
                                            {EPERM, "EPERM"},
                                            {ENOSPC, "ENOSPC"},
                                            {ENOMEM, "ENOMEM"},
                                            {ESHUTDOWN, "ESHUTDOWN"}};
  return names.at(number);
}

std::string verdict_table() {
  std::string table =
      "| failure | read | change | FUA change | flush, keep-alive | resend | errno |\n"
      "|---|---|---|---|---|---|---|\n";
  for (const Name& name : kNames) {
    table += std::string("| ") + name.text + " |";
    for (const Purpose purpose : {Purpose::kRead, Purpose::kChange, Purpose::kStableChange,
                                  Purpose::kFlush, Purpose::kResend}) {
      const bool changes = purpose == Purpose::kChange || purpose == Purpose::kStableChange ||
                           purpose == Purpose::kResend;
      const std::string text = words(verdict(name.kind, purpose), changes);
      table += text.empty() ? " |" : " " + text + " |";
    }
    table += " " + error_name(verdict_of_kind(name.kind).nbd_errno) + " |\n";
  }
  return table;
}

// "403, 404, 410": the known statuses for which it is so.
template <typename Predicate>
std::string statuses(const char* last, Predicate is_so) {
  std::vector<std::string> found;
  for (const int status :
       {400, 401, 403, 404, 405, 407, 408, 410, 413, 416, 429, 500, 502, 503, 504, 507}) {
    http::Reply reply;
    reply.status = status;
    if (is_so(target::classify(reply, 200).kind())) found.push_back(std::to_string(status));
  }
  std::string text;
  for (size_t i = 0; i < found.size(); ++i)
    text += (i == 0 ? "" : i + 1 == found.size() ? last : ", ") + found[i];
  return text;
}

}  // namespace

TEST_CASE("Every kind of failure has a row in the documents") {
  for (const Kind kind : kKinds) {
    const auto named = std::find_if(std::begin(kNames), std::end(kNames),
                                    [&](const Name& name) { return name.kind == kind; });
    CHECK((named != std::end(kNames)) == (kind != Kind::kOk));
  }
}

TEST_CASE("docs/architecture.md shows what a failure means") {
  const std::string document = read_document("docs/architecture.md");
  check_contains(document, verdict_table());
  // One column is for both.
  for (const Kind kind : kKinds)
    CHECK(verdict(kind, Purpose::kFlush) == verdict(kind, Purpose::kKeepAlive));
}

TEST_CASE("The manual says of a status what the table says") {
  const std::string manual = read_document("man/nbdkit-upload-plugin.pod");
  const auto of = [](auto is_so) {
    return [is_so](Kind kind) { return is_so(verdict(kind, Purpose::kChange)); };
  };
  const auto with_errno = [&](int number) {
    return statuses(", ", of([number](const Verdict& v) { return v.nbd_errno == number; }));
  };
  check_contains(manual, "Clients see the errors EPERM (" + with_errno(EPERM) + "), ENOSPC (" +
                             with_errno(ENOSPC) + "), ENOMEM, ESHUTDOWN and otherwise EIO.");
  check_contains(manual, "=item status " + with_errno(EPERM) + " All later requests fail");
  check_contains(manual, "when a flush fails, or with the statuses " +
                             statuses(" and ", of([](const Verdict& v) { return v.retire; })) +
                             ", the connection is closed, another one is opened");
  check_contains(
      manual, "With the statuses " +
                  statuses(" and ", of([](const Verdict& v) { return v.repeat && !v.retire; })) +
                  " the request is repeated.");
  check_contains(
      manual, statuses(" and ", of([](const Verdict& v) { return v.latch == Latch::kAlways; })) +
                  " fail at once, since the ticket is gone");
  check_contains(manual, "=item status " + statuses(", ", of([](const Verdict& v) {
                                                      return v.latch == Latch::kWithoutReplay;
                                                    })) +
                             " The same, except for a read");
}

TEST_CASE("docs/architecture.md shows how the spool's state changes") {
  const auto name = [](SpoolState state) -> std::string {
    switch (state) {
      case SpoolState::kDirect: return "direct";
      case SpoolState::kSpooling: return "spooling";
      case SpoolState::kDraining: return "draining";
    }
    return "";
  };
  std::string table = "| from | to | when |\n|---|---|---|\n";
  for (const SpoolTransition& each : kSpoolTransitions)
    table += "| " + name(each.from) + " | " + name(each.to) + " | " + each.why + " |\n";
  check_contains(read_document("docs/architecture.md"), table);
}

TEST_CASE("The spool's state changes only as the table says") {
  using enum SpoolState;
  CHECK(may_follow(kDirect, kSpooling));
  CHECK(may_follow(kDraining, kDirect));
  CHECK_FALSE(may_follow(kSpooling, kDirect));
  CHECK_FALSE(may_follow(kDirect, kDirect));
}

}  // namespace upload::volume
