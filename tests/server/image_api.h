// SPDX-License-Identifier: BSD-3-Clause
//
// The images API of ovirt-imageio. Source: docs/images.md of github.com/oVirt/ovirt-imageio.

#pragma once

#include <string>
#include <vector>

#include "api_syntax.h"
#include "protocol.h"

namespace upload::testserver {

class ImageApi : public Protocol {
 public:
  ImageApi(ServerState& state, Sessions& sessions) : state_(state), sessions_(sessions) {}

  void classify(HttpReader& http, Exchange& exchange) override;
  [[nodiscard]] Reply perform(HttpReader& http, Exchange& exchange) override;
  [[nodiscard]] Reply refused(const Refusal& refusal) const override;

 private:
  // Reading what is asked for; these set the refusal if it cannot be.
  void read_request(HttpReader& http, Exchange& exchange);
  void read_put(HttpReader& http, Exchange& exchange);
  void read_get(HttpReader& http, Exchange& exchange);
  [[nodiscard]] bool read_patch(HttpReader& http, Exchange& exchange);
  void authorize(HttpReader& http, Exchange& exchange);
  void limit_range(Exchange& exchange);

  // Doing it.
  [[nodiscard]] Reply put(HttpReader& http, Exchange& exchange, Session& session);
  [[nodiscard]] Reply zero(Exchange& exchange, Session& session);
  [[nodiscard]] Reply flush(Session& session);
  [[nodiscard]] Reply get(Exchange& exchange, Session& session);
  [[nodiscard]] Reply extents(Exchange& exchange, Session& session);
  [[nodiscard]] static Reply checksum(Exchange& exchange, Session& session);
  [[nodiscard]] Reply options(Exchange& exchange);
  [[nodiscard]] std::string options_json(const Exchange& exchange) const;

  ServerState& state_;
  Sessions& sessions_;
  std::vector<char> buffer_;  // of bodies; grows to the largest chunk that was needed
};

}  // namespace upload::testserver
