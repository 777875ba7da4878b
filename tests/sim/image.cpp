// SPDX-License-Identifier: BSD-3-Clause
//
// Content is a byte array with, beside each byte, the order of the change that
// it is from; so "newer" is a comparison.

#include "sim/image.h"

#include <algorithm>
#include <utility>

namespace upload::sim {

void Image::apply(const Change& change, std::vector<char>& content,
                  std::vector<uint32_t>& order) {
  for (uint64_t i = 0; i < change.range.length; ++i) {
    const uint64_t at = change.range.offset + i;
    if (order[at] > change.order) continue;
    content[at] = change.data[i];
    order[at] = static_cast<uint32_t>(change.order);
  }
}

void Image::change(Client client, ByteRange range, std::vector<char> data) {
  Change change{++last_order_, range, std::move(data)};
  apply(change, view_, view_order_);
  if (client == 0)
    apply(change, stable_, stable_order_);
  else
    unflushed_[client].push_back(std::move(change));
}

void Image::flush(Client client) {
  const auto found = unflushed_.find(client);
  if (found == unflushed_.end()) return;
  for (const Change& change : found->second) apply(change, stable_, stable_order_);
  unflushed_.erase(found);
}

void Image::lose(Client client, const std::function<bool()>& survives) {
  const auto found = unflushed_.find(client);
  if (found == unflushed_.end()) return;
  const std::vector<Change> changes = std::move(found->second);
  unflushed_.erase(found);
  std::vector<ByteRange> gone;
  for (const Change& change : changes) {
    if (survives())
      apply(change, stable_, stable_order_);
    else
      gone.push_back(change.range);
  }
  for (const ByteRange& range : gone) rebuild_view(range);
}

void Image::rebuild_view(ByteRange range) {
  for (uint64_t at = range.offset; at < range.end(); ++at) {
    view_[at] = stable_[at];
    view_order_[at] = stable_order_[at];
  }
  for (const auto& [client, changes] : unflushed_)
    for (const Change& change : changes)
      if (change.range.overlaps(range)) apply(change, view_, view_order_);
}

}  // namespace upload::sim
