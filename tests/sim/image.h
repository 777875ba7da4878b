// SPDX-License-Identifier: BSD-3-Clause
//
// Image: the disk behind the model server: what reads see, what is stable, and
// the changes in between, each with the storage client that made it.
//
// A flush makes stable what its client has changed. When a client is lost, each
// of its unflushed changes is gone, or has become stable: a server may write
// anything back at any time. For each byte the order in which changes were
// applied holds also among different clients: an older change never replaces
// a newer one that is stable.
//
// A passive data structure.

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "base/byte_range.h"

namespace upload::sim {

class Image {
 public:
  using Client = uint64_t;  // 0: nobody; what it changes is stable at once

  explicit Image(uint64_t size)
      : view_(size, 0), stable_(size, 0), view_order_(size, 0), stable_order_(size, 0) {}

  [[nodiscard]] uint64_t size() const { return view_.size(); }
  [[nodiscard]] const std::vector<char>& view() const { return view_; }
  [[nodiscard]] const std::vector<char>& stable() const { return stable_; }

  void change(Client client, ByteRange range, std::vector<char> data);
  void flush(Client client);
  // `survives` is asked for each change.
  void lose(Client client, const std::function<bool()>& survives);
  [[nodiscard]] bool is_dirty(Client client) const { return unflushed_.contains(client); }

 private:
  struct Change {
    uint64_t order;
    ByteRange range;
    std::vector<char> data;
  };
  static void apply(const Change& change, std::vector<char>& content,
                    std::vector<uint32_t>& order);
  void rebuild_view(ByteRange range);

  std::vector<char> view_;
  std::vector<char> stable_;
  // Of each byte, the change that it is from.
  std::vector<uint32_t> view_order_;
  std::vector<uint32_t> stable_order_;
  uint64_t last_order_ = 0;
  std::map<Client, std::vector<Change>> unflushed_;
};

}  // namespace upload::sim
