// SPDX-License-Identifier: BSD-3-Clause
//
// A volume without a replay log: what goes to the server, what waits for what, and
// what failures mean.

#include "volume/volume.h"

#include "script/setup.h"
#include "upstream/keeper.h"

using namespace std::chrono_literals;
using namespace upload::script;
using upload::Kind;
using upload::Result;
using upload::Status;
using upload::target::Durability;
namespace http = upload::http;

namespace {

constexpr char kUnknownFate[] = "may still be applying it";

struct Fixture : Setup {
  explicit Fixture(unsigned connections = 2, Durability durability = Durability::kOnFlush,
                   bool can_zero = true)
      : Setup({.blocks = 1024,
               .connections = connections,
               .durability = durability,
               .can_zero = can_zero,
               .can_extents = true}) {}
};

const Status kReset(Kind::kLost, "reset");

bool says(const Status& status, const std::string& text) {
  return status.text().find(text) != std::string::npos;
}

}  // namespace

SCRIPT("a write goes out at once when a connection is free", "[volume]") {
  Fixture f;
  CHECK(f.write(0).ok());
  CHECK(f.write(1).ok());
  CHECK(f.server.requests() == Requests{wrote(0), wrote(1)});
}

// The batch is in the order of offsets; the change between is none of it.
SCRIPT("a change between two of a batch that failed is refused", "[volume]") {
  Fixture f(1);
  f.server.hold();
  auto busy = f.start_write(500);
  f.server.await_sent(1);
  auto first = f.start_write(0);
  pass();
  auto between = f.start_write(0, 'b');
  pass();
  auto last = f.start_write(1);
  pass();
  f.server.on_request([&](const Asked& asked, const http::Request& request) {
    if (asked == wrote(0, 2)) return Result<http::Reply>(Server::ok(503));
    return f.server.answer(asked, request);
  });
  f.server.release_all();
  CHECK(busy.get().ok());
  CHECK(first.get().kind() == Kind::kUnavailable);
  CHECK(last.get().kind() == Kind::kUnavailable);
  CHECK(says(between.get(), kUnknownFate));
  CHECK(f.server.requests() == Requests{wrote(500), wrote(0, 2)});
}

SCRIPT("writes that wait for a busy connection go together in one request", "[volume]") {
  Fixture f(1);
  f.server.hold();
  auto first = f.start_write(100);
  f.server.await_sent(1);
  std::vector<Task<Status>> rest;
  for (uint64_t block = 0; block < 8; ++block) rest.push_back(f.start_write(block));
  pass();
  CHECK(f.server.requests() == Requests{wrote(100)});
  f.server.release_all();
  CHECK(first.get().ok());
  for (auto& result : rest) CHECK(result.get().ok());
  CHECK(f.server.requests() == Requests{wrote(100), wrote(0, 8)});
}

SCRIPT("a flush reaches the dirty connections only, and each once", "[volume]") {
  Fixture f(4);
  CHECK(f.flush().ok());
  CHECK(f.server.requests().empty());
  CHECK(f.write(0).ok());
  CHECK(f.flush().ok());
  CHECK(f.flush().ok());
  CHECK(f.server.requests() == Requests{wrote(0), kFlushed});
}

SCRIPT("a FUA write leaves nothing to flush", "[volume]") {
  Fixture f;
  CHECK(f.write(0, 'a', 1, true).ok());
  CHECK(f.flush().ok());
  CHECK(f.server.requests() == Requests{wrote_stable(0)});
}

SCRIPT("a FUA write does not make earlier writes stable", "[volume]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  CHECK(f.write(1, 'a', 1, true).ok());
  CHECK(f.flush().ok());
  CHECK(f.server.requests().back() == kFlushed);
}

SCRIPT("where replies mean stable every write asks for it", "[volume]") {
  Fixture f(1, Durability::kOnReply);
  CHECK(f.write(0).ok());
  f.server.close_idle(1);
  CHECK(f.write(1).ok());  // nothing was lost with it
  CHECK(f.server.requests() == Requests{wrote_stable(0), wrote_stable(1)});
}

SCRIPT("where replies mean stable a flush sends nothing and succeeds", "[volume]") {
  Fixture f(2, Durability::kOnReply);
  CHECK(f.flush().ok());
  CHECK(f.write(0).ok());
  CHECK(f.zero(8, 32).ok());
  CHECK(f.flush().ok());
  CHECK(f.server.requests() == Requests{wrote_stable(0), zeroed(8, 32, true)});
}

SCRIPT("where replies mean stable a flush tells of the latched error", "[volume]") {
  Fixture f(1, Durability::kOnReply);
  f.server.refuse(Verb::kWrite, 403);
  const Status write = f.write(0);
  CHECK(write.kind() == Kind::kDenied);
  CHECK(f.flush().kind() == Kind::kDenied);
}

SCRIPT("without zero at the server zeroes are written out", "[volume]") {
  Fixture f(1, Durability::kOnFlush, false);
  CHECK(f.zero(0, 32).ok());
  CHECK(f.server.sent()[0].bytes == 32 * kBlock);
  CHECK(f.server.requests() == Requests{wrote(0, 32)});
}

SCRIPT("a request that fails on a clean connection fails alone", "[volume]") {
  Fixture f;
  f.server.fail(Verb::kWrite, kReset);
  const Status status = f.write(0);
  CHECK(status.text() == "disk: could not write 4096 bytes at offset 0: reset");
  f.server.on_request(nullptr);
  CHECK(f.write(1).ok());
  CHECK(f.flush().ok());
}

SCRIPT("where a change failed with unknown fate, no later change is sent", "[volume]") {
  Fixture f;
  f.server.fail(Verb::kWrite, kReset);
  CHECK_FALSE(f.write(10, 'a', 4).ok());
  f.server.on_request(nullptr);
  const size_t sent = f.server.requests().size();
  CHECK(says(f.write(13), kUnknownFate));
  CHECK_FALSE(f.zero(8, 3, true).ok());
  CHECK(f.server.requests().size() == sent);
  CHECK(f.write(14).ok());
  CHECK(f.flush().ok());
}

SCRIPT("where a change was refused or could not be sent, a later one is welcome", "[volume]") {
  Fixture f(1);
  f.server.refuse(Verb::kWrite, 416);
  CHECK_FALSE(f.write(0).ok());
  f.server.fail(Verb::kWrite, Status(Kind::kConnect, "refused"));
  f.server.close_idle(1);
  CHECK_FALSE(f.write(0).ok());
  f.server.on_request(nullptr);
  CHECK(f.write(0).ok());
}

SCRIPT("a change that got 503 may come late, until the time-out after the next answer",
       "[volume]") {
  for (const int status : {408, 429, 503}) {
    Fixture f(1);
    f.server.refuse(Verb::kWrite, status);
    CHECK_FALSE(f.write(0).ok());
    f.server.on_request(nullptr);
    pass(3600s);
    // Nobody knows yet whether the server is alive.
    CHECK(says(f.write(0), kUnknownFate));
    CHECK(f.write(5).ok());
    pass(60s - 10ms);
    CHECK(says(f.write(0), kUnknownFate));
    pass(10ms);
    CHECK(f.write(0).ok());
  }
}

SCRIPT("a large zero goes in pieces", "[volume]") {
  Fixture f;
  CHECK(f.zero(0, 150).ok());
  CHECK(f.server.requests() == Requests{zeroed(0, 64), zeroed(64, 64), zeroed(128, 22)});
}

SCRIPT("a dirty connection that is lost latches an error", "[volume]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  f.server.fail(Verb::kWrite, kReset);
  CHECK_FALSE(f.write(1).ok());
  f.server.on_request(nullptr);
  const size_t sent = f.server.requests().size();
  const Status flush = f.flush();
  CHECK(flush.text() ==
        "disk: a connection with unflushed changes was lost: could not write 4096 "
        "bytes at offset 4096: reset");
  CHECK(f.write(2).text() == flush.text());
  CHECK(f.zero(0, 1, true).text() == flush.text());
  char buffer[512];
  CHECK(f.volume->read({0, 512}, buffer).text() == flush.text());
  CHECK(f.volume->extents().status().text() == flush.text());
  CHECK(f.server.requests().size() == sent);  // none of these was sent
}

SCRIPT("a dirty connection that was closed while idle: the next write fails unsent", "[volume]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  f.server.close_idle(1);
  CHECK_FALSE(f.write(1).ok());
  CHECK_FALSE(f.flush().ok());
  CHECK(f.server.requests().size() == 1);
}

SCRIPT("a dirty connection that was closed while idle: a flush fails", "[volume]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  f.server.close_idle(1);
  f.server.fail(Verb::kFlush, kReset);
  CHECK_FALSE(f.flush().ok());
  f.server.on_request(nullptr);
  CHECK_FALSE(f.flush().ok());
}

SCRIPT("a clean connection that was closed while idle is replaced silently", "[volume]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  CHECK(f.flush().ok());
  f.server.close_idle(1);
  CHECK(f.write(1).ok());
  CHECK(f.flush().ok());
  CHECK(f.server.connections_made() == 2);
}

SCRIPT("a flush that answers an error is never called good later", "[volume]") {
  for (const int code : {400, 403, 500, 503}) {
    Fixture f(1);
    CHECK(f.write(0).ok());
    f.server.refuse(Verb::kFlush, code);
    const Status first = f.flush();
    CHECK_FALSE(first.ok());
    f.server.on_request(nullptr);
    CHECK(f.flush().text() == first.text());
    CHECK(f.server.connections_alive() == 0);
  }
}

SCRIPT("what each status means for later requests", "[volume]") {
  struct Row {
    int code;
    bool dirty;
    bool latches;
  };
  const Row rows[] = {{400, false, false}, {400, true, false}, {401, true, false},
                      {416, true, false},  {429, true, false}, {503, true, false},
                      {408, true, false},  {403, false, true}, {404, false, true},
                      {410, false, true},  {500, false, true}, {500, true, true},
                      {502, false, false}, {502, true, true},  {504, true, true},
                      {204, false, false}, {204, true, true},  {507, true, false}};
  for (const Row& row : rows) {
    INFO(row.code << (row.dirty ? " dirty" : " clean"));
    Fixture f(1);
    if (row.dirty) REQUIRE(f.write(0).ok());
    f.server.refuse(Verb::kWrite, row.code);
    CHECK_FALSE(f.write(1).ok());
    f.server.on_request(nullptr);
    CHECK(f.write(2).ok() == !row.latches);
    CHECK(f.flush().ok() == !row.latches);
  }
}

SCRIPT("a write whose reply closes the connection is not acknowledged", "[volume]") {
  Fixture f(1);
  f.server.on_request([](const Asked&, const http::Request&) -> Result<http::Reply> {
    http::Reply reply = Server::ok();
    reply.last = true;
    return reply;
  });
  CHECK_FALSE(f.write(0).ok());
  CHECK(f.write(1, 'a', 1, true).ok());  // stable with its reply
  f.server.on_request(nullptr);
  CHECK(f.write(2).ok());  // nothing acknowledged was lost
}

SCRIPT("an overlapping write waits for the one under way, others do not", "[volume]") {
  Fixture f(4);
  CHECK(f.write(500).ok());
  f.server.hold();
  auto first = f.start_write(0, 'a', 2);
  f.server.await_sent(2);
  auto second = f.start_write(1, 'a', 2);
  pass();
  auto elsewhere = f.start_write(100);
  f.server.await_sent(3);
  CHECK(f.server.requests().back() == wrote(100));
  pass();
  CHECK(f.server.requests().size() == 3);
  f.server.release(3);
  CHECK(first.get().ok());
  CHECK(second.get().ok());
  CHECK(elsewhere.get().ok());
  CHECK(f.server.requests() == Requests{wrote(500), wrote(0, 2), wrote(100), wrote(1, 2)});
}

SCRIPT("the keeper's flush makes a connection clean", "[volume]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  {
    upload::upstream::Keeper keeper(f.pool, nullptr, 30s, f.clock);
    pass(26s);  // a tenth earlier than the idle time-out at most
    CHECK(f.server.requests() == Requests{wrote(0)});
    pass(4s);
  }
  CHECK(f.server.requests() == Requests{wrote(0), kFlushed});
  CHECK(f.flush().ok());
  CHECK(f.server.requests().size() == 2);
}

SCRIPT("a keeper's failure is told by the next request and by flush, also when clean",
       "[volume]") {
  Fixture f(1);
  CHECK(f.write(0, 'a', 1, true).ok());
  f.server.refuse(Verb::kFlush, 503);
  {
    upload::upstream::Keeper keeper(f.pool, nullptr, 30s, f.clock);
    pass(30s);
  }
  f.server.on_request(nullptr);
  const Status write = f.write(1);
  CHECK(says(write, "could not keep the connection alive"));
  CHECK(f.flush().text() == write.text());
}

SCRIPT("a server without flush is kept alive by OPTIONS", "[volume]") {
  Fixture f(1, Durability::kOnReply);
  f.server.on_request([](const Asked&, const http::Request&) -> Result<http::Reply> {
    http::Reply reply = Server::ok();
    reply.body = R"({"features":[]})";
    return reply;
  });
  CHECK(f.write(0).ok());
  upload::upstream::Keeper keeper(f.pool, nullptr, 30s, f.clock);
  pass(30s);
  CHECK(f.server.requests() == Requests{wrote_stable(0), kAskedOptions});
  CHECK(f.write(1).ok());
}

SCRIPT("a change that waits too long says for what", "[volume]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  f.server.hold();
  auto stuck = f.start_write(0);
  f.server.await_sent(2);
  auto waiting = f.start_write(50);
  auto overlapping = f.start_write(0);
  pass(71s - 10ms);  // to connect, to stall, and a last look
  CHECK_FALSE(waiting.done());
  CHECK_FALSE(overlapping.done());
  pass(20ms);
  CHECK(waiting.done());
  CHECK(overlapping.done());
  CHECK(says(waiting.get(), "no connection became free"));
  CHECK(overlapping.get().kind() == Kind::kPoolWait);
  f.server.release_all();
  CHECK(stuck.get().ok());
  CHECK(f.write(3).ok());
}

SCRIPT("extents are cached until the first change", "[volume]") {
  Fixture f(1);
  REQUIRE(f.volume->extents().ok());
  REQUIRE(f.volume->extents().ok());
  CHECK(f.server.requests().size() == 1);
  CHECK(f.write(0).ok());
  REQUIRE(f.volume->extents().ok());
  CHECK(f.server.requests() == Requests{kAskedExtents, wrote(0), kAskedExtents});
}

SCRIPT("extents that were asked for during a change are not kept", "[volume]") {
  Fixture f(2);
  CHECK(f.write(1).ok());
  f.server.hold();
  auto write = f.start_write(0);
  f.server.await_sent(2);
  auto early = start([&] { return f.volume->extents().ok(); });
  f.server.await_sent(3);
  f.server.release_all();
  CHECK(early.get());
  CHECK(write.get().ok());
  CHECK(f.volume->extents().ok());
  CHECK(f.server.requests().size() == 4);  // asked again
}

SCRIPT("extents that end too early are an error", "[volume]") {
  Fixture f(1);
  f.server.on_request([](const Asked&, const http::Request&) -> Result<http::Reply> {
    http::Reply reply = Server::ok();
    reply.body = R"([{"start":0,"length":4096,"zero":true}])";
    return reply;
  });
  CHECK(f.volume->extents().status().kind() == Kind::kMalformed);
}
