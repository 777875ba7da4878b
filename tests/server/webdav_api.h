// SPDX-License-Identifier: BSD-3-Clause
//
// Files over WebDAV, as Apache's mod_dav_fs serves them. Source: RFC 4918, and Apache 2.4.71 by
// experiment.

#pragma once

#include <memory>
#include <string>
#include <vector>

#include "protocol.h"

namespace upload::testserver {

/// A ticket is the file /dav/ID. Nothing is ever said about what is durable, and there is no
/// flush: here a change is stable as soon as it is applied, which is more than Apache does.
/// A PUT with a Content-Range is applied as its body arrives, so one that is cut off leaves its
/// first part; one without is applied as a whole. What was sent by a client that has gone is
/// applied all the same.
class WebdavApi : public Protocol {
 public:
  WebdavApi(ServerState& state, Sessions& sessions) : state_(state), sessions_(sessions) {}

  void classify(HttpReader& http, Exchange& exchange) override;
  [[nodiscard]] Reply perform(HttpReader& http, Exchange& exchange) override;
  [[nodiscard]] Reply refused(const Refusal& refusal) const override;
  [[nodiscard]] LateChange late_change(const Exchange& exchange) const override;

 private:
  using MaybeRefusal = std::optional<Refusal>;

  [[nodiscard]] MaybeRefusal check_authorization(const HttpReader& http) const;
  [[nodiscard]] MaybeRefusal find_file(Exchange& exchange);
  void find_operation(const HttpReader& http, Exchange& exchange) const;
  [[nodiscard]] MaybeRefusal read_put(const HttpReader& http, Exchange& exchange) const;
  static void read_get(const HttpReader& http, Exchange& exchange);

  [[nodiscard]] Reply put_range(HttpReader& http, Exchange& exchange);
  [[nodiscard]] Reply put_whole(HttpReader& http, Exchange& exchange);
  [[nodiscard]] Reply get(Exchange& exchange);
  [[nodiscard]] std::shared_ptr<Ticket> make_file(const std::string& id) const;

  /// Writes the body from `offset` on, as it arrives. A dropped reply when it is cut off; nothing
  /// when all is well.
  [[nodiscard]] std::optional<Reply> copy_body(HttpReader& http, Backend& backend,
                                               Session& session, std::uint64_t offset);

  ServerState& state_;
  Sessions& sessions_;
  std::vector<char> buffer_;  // of bodies
};

}  // namespace upload::testserver
