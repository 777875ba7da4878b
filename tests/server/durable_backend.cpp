// SPDX-License-Identifier: BSD-3-Clause
//
// The durability model: what survives when connections go, as a harsh but legal server
// would have it. See "Durability" in server.h for the contract.
//
// view_ is what reads see, stable_ what a flush has made safe. For every connection with
// unflushed changes there is the set of ranges it was the last to change. Under mutex_:
//   - the sets of different connections are disjoint: who changes a range takes it away
//     from everybody else. What was there is made stable first, which a server may do at
//     any time: so if the new owner is lost, the range goes back to what the other had
//     acknowledged, and not to something older, which no flush of the other could mend;
//   - outside of all sets view_ and stable_ have the same content.
// So a flush copies what its connection owns from view_ to stable_, a lost connection
// copies it back, and then it is nobody's. A set for each connection, instead of one map
// from ranges to owners, keeps both independent of how fragmented the others' are.
//
// Whether the client of a change has gone is asked under mutex_ too. A client that gives
// up a connection and sends its change again on another one is thereby safe from the
// first copy: if the second was applied, the first sees that its client has gone.
//
// Threads: any. Reads take no lock, they may see half of a change that is under way.
// Not modelled: torn sectors, and other changes that get stable without a flush.

#include <atomic>
#include <boost/icl/interval_set.hpp>
#include <map>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "backend.h"
#include "counter_board.h"
#include "sparse_file.h"

namespace upload::testserver {

namespace {

using Interval = boost::icl::right_open_interval<std::uint64_t>;
using Ranges = boost::icl::interval_set<std::uint64_t, std::less, Interval>;

/// Granularity in which zeroes are told from data.
constexpr std::uint64_t kExtentBlock = 64 * 1024;

ByteRange to_range(const Interval& interval) {
  return {interval.lower(), interval.upper() - interval.lower()};
}

class DurableImage : public Backend {
 public:
  DurableImage(const TicketOptions& ticket, CounterBoard& board)
      : size_(ticket.size_bytes),
        board_(board),
        view_(SparseFile::anonymous(ticket.location, size_)),
        stable_(SparseFile::anonymous(ticket.location, size_)) {}

  std::unique_ptr<Session> open(ConnectionId connection, PeerGone gone,
                                std::string& error) override;
  std::uint64_t size() const override { return size_; }
  std::error_code grow(std::uint64_t size) override;
  std::size_t chunk_size() const override { return 1024 * 1024; }

  void read_stable(std::uint64_t offset, std::span<char> out) override;
  void read_view(std::uint64_t offset, std::span<char> out) override;
  void fill(std::uint64_t offset, std::span<const char> data) override;
  std::uint64_t unflushed_bytes() const override;
  bool stable_is_hole(const ByteRange& range) const override;

  /// Runs `apply` on the view, after which `owner` owns the range. With an owner whose
  /// client has gone nothing happens: ECONNABORTED.
  template <class Apply>
  std::error_code change(ConnectionId owner, const PeerGone& gone, const ByteRange& range,
                         Apply apply);
  std::error_code flush(ConnectionId owner);
  void lose(ConnectionId owner);
  std::error_code read(std::uint64_t offset, std::span<char> out) const;
  std::error_code extents(std::vector<Extent>& out) const;

  SparseFile& view() { return view_; }

 private:
  std::error_code disown_others(ConnectionId owner, const Interval& interval);

  std::atomic<std::uint64_t> size_;  // grows under mutex_, when both images have
  CounterBoard& board_;

  mutable std::mutex mutex_;  // protects unflushed_ and every change of the two images
  std::map<ConnectionId, Ranges> unflushed_;
  SparseFile view_;
  SparseFile stable_;
};

class DurableSession : public Session {
 public:
  DurableSession(DurableImage& image, ConnectionId connection, PeerGone gone)
      : image_(image), connection_(connection), gone_(std::move(gone)) {}
  ~DurableSession() override { image_.lose(connection_); }

  std::error_code read(std::uint64_t offset, std::span<char> out) override {
    return image_.read(offset, out);
  }

  std::error_code write(std::uint64_t offset, std::span<const char> data) override {
    return image_.change(connection_, gone_, {offset, data.size()},
                         [&] { return image_.view().write(offset, data); });
  }

  std::error_code zero(const ByteRange& range) override {
    return image_.change(connection_, gone_, range,
                         [&] { return image_.view().zero(range, true); });
  }

  std::error_code flush() override { return image_.flush(connection_); }

  std::error_code extents(std::vector<Extent>& out) override { return image_.extents(out); }

  void lose_unflushed() override { image_.lose(connection_); }

 private:
  DurableImage& image_;
  const ConnectionId connection_;
  const PeerGone gone_;
};

std::unique_ptr<Session> DurableImage::open(ConnectionId connection, PeerGone gone,
                                            std::string&) {
  return std::make_unique<DurableSession>(*this, connection, std::move(gone));
}

std::error_code DurableImage::grow(std::uint64_t size) {
  const std::lock_guard lock(mutex_);
  if (size <= size_) {
    return {};
  }
  if (const auto ec = stable_.grow(size)) {
    return ec;
  }
  if (const auto ec = view_.grow(size)) {
    return ec;
  }
  size_ = size;
  return {};
}

std::error_code DurableImage::disown_others(ConnectionId owner, const Interval& interval) {
  for (auto it = unflushed_.begin(); it != unflushed_.end();) {
    if (it->first != owner) {
      for (const Interval& taken : it->second& interval) {
        if (const auto ec = stable_.copy_from(view_, to_range(taken))) {
          return ec;
        }
      }
      it->second.subtract(interval);
    }
    it = it->second.empty() ? unflushed_.erase(it) : std::next(it);
  }
  return {};
}

template <class Apply>
std::error_code DurableImage::change(ConnectionId owner, const PeerGone& gone,
                                     const ByteRange& range, Apply apply) {
  if (range.length == 0) {
    return {};
  }
  const Interval interval(range.offset, range.end());
  const std::lock_guard lock(mutex_);
  if (gone()) {
    return std::make_error_code(std::errc::connection_aborted);
  }
  // Owned first: whatever a failing change has left behind is then lost with its owner.
  if (const auto ec = disown_others(owner, interval)) {
    return ec;
  }
  unflushed_[owner].add(interval);
  return apply();
}

std::error_code DurableImage::flush(ConnectionId owner) {
  const std::lock_guard lock(mutex_);
  const auto found = unflushed_.find(owner);
  if (found == unflushed_.end()) {
    return {};
  }
  for (const Interval& interval : found->second) {
    if (const auto ec = stable_.copy_from(view_, to_range(interval))) {
      return ec;
    }
  }
  unflushed_.erase(found);
  return {};
}

void DurableImage::lose(ConnectionId owner) {
  std::uint64_t lost = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto found = unflushed_.find(owner);
    if (found == unflushed_.end()) {
      return;
    }
    for (const Interval& interval : found->second) {
      // Copying between two memory files of one size fails only when memory is out,
      // and then there is nobody to tell.
      static_cast<void>(view_.copy_from(stable_, to_range(interval)));
      lost += to_range(interval).length;
    }
    unflushed_.erase(found);
  }
  board_.update([&](Counters& counters) { counters.bytes_lost += lost; });
}

std::error_code DurableImage::read(std::uint64_t offset, std::span<char> out) const {
  return view_.read(offset, out);
}

std::error_code DurableImage::extents(std::vector<Extent>& out) const {
  const std::uint64_t size = size_;
  std::vector<char> buffer(kExtentBlock);
  for (std::uint64_t at = 0; at < size;) {
    const auto piece = view_.piece_at({at, size - at});
    // Whole blocks only, so that one block is never told in two extents.
    std::uint64_t length = piece.range.length;
    bool zero = piece.hole;
    if (!piece.hole || (length < kExtentBlock && piece.range.end() < size)) {
      length = std::min(kExtentBlock - at % kExtentBlock, size - at);
      const auto block = std::span(buffer).first(static_cast<std::size_t>(length));
      if (const auto ec = view_.read(at, block)) {
        return ec;
      }
      zero = is_zero(block);
    } else if (piece.range.end() < size) {
      length -= piece.range.end() % kExtentBlock;
    }
    append_extent(out, {{at, length}, zero, zero});
    at += length;
  }
  return {};
}

void DurableImage::read_stable(std::uint64_t offset, std::span<char> out) {
  const std::lock_guard lock(mutex_);
  if (const auto ec = stable_.read(offset, out)) {
    throw std::system_error(ec, "reading the stable image");
  }
}

void DurableImage::read_view(std::uint64_t offset, std::span<char> out) {
  const std::lock_guard lock(mutex_);
  if (const auto ec = view_.read(offset, out)) {
    throw std::system_error(ec, "reading the view");
  }
}

void DurableImage::fill(std::uint64_t offset, std::span<const char> data) {
  const std::lock_guard lock(mutex_);
  const auto ec_view = view_.write(offset, data);
  const auto ec_stable = stable_.write(offset, data);
  if (ec_view || ec_stable) {
    throw std::system_error(ec_view ? ec_view : ec_stable, "filling an image");
  }
  if (!data.empty()) {
    // No connection has the id 0: everybody is disowned.
    static_cast<void>(disown_others(0, Interval(offset, offset + data.size())));
  }
}

std::uint64_t DurableImage::unflushed_bytes() const {
  const std::lock_guard lock(mutex_);
  std::uint64_t sum = 0;
  for (const auto& [owner, ranges] : unflushed_) {
    sum += ranges.size();
  }
  return sum;
}

bool DurableImage::stable_is_hole(const ByteRange& range) const {
  const std::lock_guard lock(mutex_);
  const auto piece = stable_.piece_at(range);
  return piece.hole && piece.range == range;
}

}  // namespace

std::shared_ptr<Backend> make_durable_backend(const TicketOptions& ticket, CounterBoard& board) {
  return std::make_shared<DurableImage>(ticket, board);
}

}  // namespace upload::testserver
