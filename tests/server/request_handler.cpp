// SPDX-License-Identifier: BSD-3-Clause
//
// What happens to a request.
//
// handle() goes through the same steps for each: have the protocol find out what is asked for
// and whether that is allowed, without touching anything; count it and ask the fault plan; wait
// if there is a delay; then have the protocol do it, unless a fault says otherwise before,
// instead or after. Whoever reads answer() from top to bottom knows where each fault happens.
//
// Invariants:
//   - nothing is applied for a request that is refused;
//   - a change counts as under way from before the delay until before its reply;
//   - a body that was not read to its end closes the connection, unless the reply says that the
//     body follows it.
//
// Threads: the connection's. The only body that is held is that of a change to be applied late.
//
// Errors: refusals in the protocol's form. Not here: what requests mean, how replies look on the
// wire, and anything about TLS.

#include "request_handler.h"

#include <algorithm>
#include <utility>

namespace upload::testserver {

namespace {

/// What a fault has the request answered with; 0: it is the request's own reply.
int injected_status(const Exchange& exchange) {
  if (exchange.meets(Action::server_busy)) {
    return 503;
  }
  if (exchange.meets(Action::operation_timed_out)) {
    return 500;
  }
  return exchange.meets(Action::status) ? exchange.fault->status : 0;
}

/// An injected status from 400 on means that the request is not done.
bool fails(const Exchange& exchange) { return injected_status(exchange) >= 400; }

/// As Azure calls it when it has more to do than it can.
Refusal throttled(const Fault& fault) {
  if (fault.action == Action::server_busy) {
    Refusal refusal{503,
                    "The server is currently unable to receive requests. Please retry your "
                    "request."};
    refusal.code = "ServerBusy";
    refusal.headers.emplace_back("retry-after", std::to_string(fault.retry_after.count()));
    return refusal;
  }
  Refusal refusal{500, "The operation could not be completed within the permitted time."};
  refusal.code = "OperationTimedOut";
  return refusal;
}

/// See "Durability" in server.h.
bool loses_unflushed(const Exchange& exchange) {
  const bool flushes = exchange.op == Op::flush || (exchange.is_change() && exchange.flush);
  return fails(exchange) && (flushes || injected_status(exchange) == 500);
}

/// Counts a request as active, and a change as under way.
class ActiveRequest {
 public:
  ActiveRequest(ServerState& state, ConnectionId connection, Channel& channel,
                const Exchange& exchange)
      : state_(state), connection_(connection) {
    bool overlaps = false;
    if (exchange.is_change() && exchange.ticket && !exchange.refusal) {
      ticket_ = exchange.ticket;
      overlaps = !ticket_->begin_change(connection, exchange.range,
                                        [&channel] { return channel.gone(); });
    }
    state.board.update([&](Counters& counters) {
      ++counters.requests[static_cast<std::size_t>(exchange.op)];
      ++counters.active_requests;
      counters.max_active_requests =
          std::max(counters.max_active_requests, counters.active_requests);
      counters.overlapping_changes += overlaps ? 1 : 0;
      counters.faults_fired += exchange.fault ? 1 : 0;
    });
  }

  ~ActiveRequest() {
    if (ticket_) {
      ticket_->end_change(connection_);
    }
    state_.board.update([](Counters& counters) { --counters.active_requests; });
  }

  ActiveRequest(const ActiveRequest&) = delete;
  ActiveRequest& operator=(const ActiveRequest&) = delete;

 private:
  ServerState& state_;
  const ConnectionId connection_;
  std::shared_ptr<Ticket> ticket_;
};

}  // namespace

RequestHandler::RequestHandler(ServerState& state, ConnectionId connection, Channel& channel)
    : state_(state),
      connection_(connection),
      channel_(channel),
      sessions_(connection, channel, state.options.protocol != ProtocolKind::webdav),
      protocol_(make_protocol(state, sessions_)) {}

std::chrono::milliseconds RequestHandler::idle_timeout() const {
  const auto of_tickets = sessions_.idle_timeout();
  return of_tickets.count() > 0 ? of_tickets : state_.idle_close.load();
}

Reply RequestHandler::handle(HttpReader& http, Exchange& exchange) {
  protocol_->classify(http, exchange);
  exchange.fault = state_.faults.match(exchange.op, exchange.ticket_id);
  Reply reply;
  {
    const ActiveRequest active(state_, connection_, channel_, exchange);
    reply = answer(http, exchange);
  }
  if (!http.body_done() && (!reply.body_follows || http.continue_awaited())) {
    reply.close = true;
  }
  limit_requests(http, reply);
  state_.board.log({connection_, exchange.op, exchange.ticket_id, exchange.range, exchange.flush,
                    reply.drop ? 0 : reply.status});
  if (!reply.drop) {
    state_.board.update([&](Counters& counters) {
      ++counters.replies;
      counters.error_replies += reply.status >= 400 ? 1 : 0;
    });
  }
  return reply;
}

void RequestHandler::limit_requests(const HttpReader& http, Reply& reply) {
  const unsigned limit = state_.options.requests_per_connection;
  ++requests_;
  if (limit == 0 || reply.close || reply.drop) {
    return;
  }
  if (requests_ >= limit) {
    reply.close = true;
  } else if (http.asks_for_keep_alive()) {
    const auto idle = std::chrono::ceil<std::chrono::seconds>(idle_timeout());
    reply.headers.emplace_back("keep-alive", "timeout=" + std::to_string(idle.count()) +
                                                 ", max=" + std::to_string(limit - requests_));
    reply.headers.emplace_back("connection", "Keep-Alive");
  }
}

Reply RequestHandler::answer(HttpReader& http, Exchange& exchange) {
  if (auto reply = fault_before(http, exchange)) {
    return std::move(*reply);
  }
  if (exchange.refusal) {
    return refuse(http, *exchange.refusal);
  }
  if (auto reply = fault_instead(http, exchange)) {
    return std::move(*reply);
  }
  Reply reply = protocol_->perform(http, exchange);
  if (reply.drop) {
    return reply;
  }
  if (auto instead = fault_after(exchange)) {
    return std::move(*instead);
  }
  return reply;
}

Reply RequestHandler::refuse(HttpReader& http, const Refusal& refusal) {
  Reply reply = protocol_->refused(refusal);
  // Unlike the others a 401 leaves the connection as it is: clients come back with better
  // credentials.
  if (refusal.status == 401 && !reply.body_follows && !http.discard_body()) {
    return Reply::dropped(CloseMode::silent);
  }
  return reply;
}

bool RequestHandler::stall() {
  const std::uint64_t release = state_.releases;
  state_.board.update([](Counters& counters) { ++counters.stalled; });
  const bool released = channel_.sleep_until([&] { return state_.releases != release; });
  state_.board.update([](Counters& counters) { --counters.stalled; });
  return released;
}

std::optional<Reply> RequestHandler::fault_before(HttpReader& http, Exchange& exchange) {
  auto delay = state_.request_delay.load();
  if (exchange.fault) {
    delay += exchange.fault->delay;
  }
  if (!channel_.sleep_for(delay)) {
    return Reply::dropped(CloseMode::silent);
  }
  if (exchange.meets(Action::close_before_body)) {
    return Reply::dropped(CloseMode::silent);
  }
  if (exchange.meets(Action::reset)) {
    return Reply::dropped(CloseMode::reset);
  }
  if (exchange.meets(Action::close_mid_body)) {
    const std::uint64_t half = http.content_length().value_or(0) / 2;
    if (half == 0 || http.body_done()) {
      return Reply::dropped(CloseMode::silent);
    }
    http.cut_body(half);
  }
  if (exchange.meets(Action::answer_before_body)) {
    Reply reply;
    reply.close = true;
    return reply;
  }
  if (exchange.meets(Action::stall) && !stall()) {
    return Reply::dropped(CloseMode::silent);
  }
  if (fails(exchange)) {
    if (!exchange.fault->early && !http.discard_body()) {
      return Reply::dropped(CloseMode::silent);
    }
    return status_reply(*exchange.fault, exchange);
  }
  return std::nullopt;
}

std::optional<Reply> RequestHandler::fault_instead(HttpReader& http, Exchange& exchange) {
  if (!exchange.meets(Action::close_after_body)) {
    return std::nullopt;
  }
  Reply reply = Reply::dropped(CloseMode::silent);
  const bool late =
      exchange.is_change() && exchange.ticket && state_.late_apply.load().count() > 0;
  std::vector<char> data;
  if (late && exchange.op == Op::put) {
    data.resize(static_cast<std::size_t>(exchange.range.length));
    if (http.read_body(data) != data.size()) {
      return reply;
    }
  } else if (!http.discard_body()) {
    return reply;
  }
  if (late) {
    reply.after_close = late_change(exchange, std::move(data));
  }
  return reply;
}

std::optional<Reply> RequestHandler::fault_after(Exchange& exchange) {
  if (exchange.meets(Action::status)) {
    return status_reply(*exchange.fault, exchange);
  }
  if (exchange.meets(Action::close_after_apply)) {
    return Reply::dropped(CloseMode::silent);
  }
  if (exchange.meets(Action::reset_after_apply)) {
    return Reply::dropped(CloseMode::reset);
  }
  if (exchange.meets(Action::stall_after_apply) && !stall()) {
    return Reply::dropped(CloseMode::silent);
  }
  return std::nullopt;
}

Reply RequestHandler::status_reply(const Fault& fault, const Exchange& exchange) {
  if (loses_unflushed(exchange) && exchange.ticket) {
    if (Session* const session = sessions_.find(exchange.ticket)) {
      session->lose_unflushed();
    }
  }
  if (fault.action != Action::status) {
    return protocol_->refused(throttled(fault));
  }
  Reply reply;
  reply.status = fault.status;
  reply.headers = fault.headers;
  reply.body = fault.body;
  reply.close = fault.early;
  return reply;
}

std::function<void()> RequestHandler::late_change(const Exchange& exchange,
                                                  std::vector<char> data) {
  auto apply = [&state = state_, change = protocol_->late_change(exchange),
                held = std::move(data)] {
    const bool applied = change(held);
    state.board.update(
        [=](Counters& counters) { ++(applied ? counters.late_applied : counters.late_refused); });
  };
  const auto after = state_.late_apply.load();
  return [&state = state_, after, work = std::move(apply)] {
    state.late_applier.schedule(after, work);
  };
}

}  // namespace upload::testserver
