// SPDX-License-Identifier: BSD-3-Clause
//
// ReplayLog: what of a volume is acknowledged but not stable: over which
// connections it went (invariant 1) and, with replay, its content, kept so that
// it can be sent again (invariant 2).
//
// Of each byte the newest content is kept, with the connection that carried
// it. A successful flush of that connection drops it. When the connection is
// lost, its bytes are orphans until they have been sent again and are stable.
//
// A flush has to make stable, of every byte that was acknowledged before it,
// that content or newer content. Older content that is hidden by newer content
// becomes stable when the connection that carried it is flushed; if that is lost,
// or it was an orphan, the newer content has to become stable in its place. So
// each byte knows since when it is unstable.
//
// An example: change 1 goes over connection A, change 2 over B, to the same bytes. The log has
// 2's content, unstable since 1. A flush of what was acknowledged up to 1 has to flush A only:
// then 1 is stable, although hidden. If A is lost first, nobody can send 1 again, and so B has
// to be flushed for it: B is then dirty since 1.
//
// Memory: the data of a change is one record, kept while any of its bytes is
// needed. Room is reserved before a change is sent, so that there is a place
// for it when it is acknowledged; the log never holds more than its limit.
// With a spool, the data of a record may be there instead.
//
// With write-back a change is acknowledged before it is sent: until then it is unsent, which is
// for a flush what an orphan is. What it hides of a connection's is made stable by a flush of that
// connection, as above, and so does not keep a flush waiting that began before the change; or else a
// client that writes to one place again and again could keep it waiting for ever.
//
// A data structure without threads or I/O: its owner guards it, except
// make_record(), which any thread may call.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/byte_range.h"
#include "base/connection_id.h"
#include "journal/memory.h"
#include "journal/segment_map.h"
#include "journal/store.h"

namespace upload::journal {

// The content of one change. Constant.
struct Record {
  ByteRange range;
  // Of the change.
  uint64_t sequence = 0;
  // SpoolRow::id of the row that has the content, on disk; 0: it is in memory.
  uint64_t row = 0;
  bool zero = false;
  Memory::Buffer data;  // null: zeroes, or on disk
  // Where it counts, and for what, until it goes.
  std::shared_ptr<Memory> memory;
  uint64_t cost = 0;

  Record() = default;
  Record(const Record&) = delete;
  Record& operator=(const Record&) = delete;
  ~Record();

  // The content from `offset` on, which is within the range; null: zeroes, or
  // on disk.
  [[nodiscard]] const std::byte* at(uint64_t offset) const {
    return data == nullptr ? nullptr : data.get() + (offset - range.offset);
  }
};

// A stretch of bytes whose newest content is in `record`.
struct Slice {
  ByteRange range;
  RecordPtr record;
  ConnectionId connection = 0;  // kNoConnection: an orphan
};

class ReplayLog {
 public:
  explicit ReplayLog(std::shared_ptr<Memory> memory) : memory_(std::move(memory)) {}

  // What a change of so many bytes of data counts for; none: zeroes.
  [[nodiscard]] static uint64_t cost(uint64_t bytes);
  [[nodiscard]] bool half_full() const { return memory_->used() >= memory_->left(); }

  // A copy of a change; null `data`: zeroes. Takes over its cost, which was
  // reserved before the change was sent.
  [[nodiscard]] static std::shared_ptr<Record> make_record(const std::shared_ptr<Memory>& memory,
                                                           ByteRange range, uint64_t sequence,
                                                           const void* data);
  // Of a change whose content is on disk.
  [[nodiscard]] static RecordPtr make_record(const SpoolRow& row);

  // A change was acknowledged to have come over `connection`; its content is
  // not kept.
  void add(ConnectionId connection);
  // Its content is kept. One that is in the spool came over no connection.
  void add(RecordPtr record, ConnectionId connection);
  // It was acknowledged before it is sent.
  void add_unsent(RecordPtr record);
  // What is unsent in the range has come over `connection`.
  void sent(ByteRange range, ConnectionId connection);
  // The range is stable, with what is here or with newer content.
  void supersede(ByteRange range);
  // The content of record->range, whatever connections carried it, is in the
  // spool now.
  void move(const RecordPtr& record);

  // `connection` was flushed: what it carried is stable.
  void flushed(ConnectionId connection);
  // `connection` is gone: its bytes are orphans. False if it was not dirty.
  bool lost(ConnectionId connection);
  [[nodiscard]] bool is_dirty(ConnectionId connection) const {
    return dirty_.contains(connection);
  }

  // Any connection is.
  [[nodiscard]] bool is_dirty() const { return !dirty_.empty(); }

  [[nodiscard]] bool empty() const { return !has_in_memory() && spooled_.empty(); }
  [[nodiscard]] bool has_in_memory() const {
    return !carried_.empty() || has_orphans_in_memory() || has_unsent();
  }
  [[nodiscard]] bool has_unsent() const { return !unsent_.empty(); }
  // Both with zeroes, which take no memory.
  [[nodiscard]] uint64_t unsent_bytes() const { return unsent_.bytes(); }
  [[nodiscard]] uint64_t carried_bytes() const { return carried_.bytes(); }
  [[nodiscard]] bool has_orphans_in_memory() const { return !orphans_.empty(); }
  // Segments of them.
  [[nodiscard]] size_t orphans_in_memory() const { return orphans_.count(); }
  [[nodiscard]] bool has_orphans_or_rows() const {
    return has_orphans_in_memory() || !spooled_.empty();
  }
  // Acknowledged, and on no connection.
  [[nodiscard]] uint64_t bytes_to_send() const {
    return orphans_.bytes() + unsent_.bytes() + spooled_.bytes();
  }
  // The first orphans in memory from an offset on, as far as they are adjacent,
  // at most `most` bytes unless the first alone has more.
  [[nodiscard]] std::optional<ByteRange> first_orphans(uint64_t most, uint64_t from = 0) const;
  // The first unsent bytes within the range, as far as they are adjacent and begin with a kind: data,
  // and zeroes between, up to so many bytes; or zeroes alone.
  struct Most {
    uint64_t data = 0;
    uint64_t zeroes = 0;
  };
  [[nodiscard]] std::vector<Slice> first_unsent(ByteRange within, const Most& most) const;
  // Likewise of all that is in memory, orphans or not.
  [[nodiscard]] std::optional<ByteRange> first_in_memory(uint64_t most) const;
  // What is in the range, in order; and of that the orphans in memory.
  [[nodiscard]] std::vector<Slice> slices(ByteRange range) const;
  [[nodiscard]] std::vector<Slice> orphans(ByteRange range) const;

  // How many changes were added: in the order of their acknowledgement, which is not that
  // of their sequences.
  [[nodiscard]] uint64_t acknowledged() const { return acknowledged_; }
  // The connections to be flushed so that the first `acknowledged` changes are stable,
  // but for what waits_for() tells.
  [[nodiscard]] std::vector<ConnectionId> to_flush(uint64_t acknowledged) const;
  // Of the first `acknowledged` changes something is unstable for another reason than that
  // a connection has to be flushed: it is to be sent from memory, or is in the spool; kMemory: it
  // is in memory, for any reason.
  enum class Wait { kSending, kRows, kMemory };
  [[nodiscard]] bool waits_for(Wait what, uint64_t acknowledged) const;

  // As SegmentMap's.
  [[nodiscard]] uint64_t looked_at() const;
  // Asserts what holds between connections and segments.
  void check() const;

 private:
  using Maps = std::array<const SegmentMap*, 4>;
  [[nodiscard]] Maps maps() const { return {&carried_, &orphans_, &unsent_, &spooled_}; }
  // Since when bytes of a change are unstable, with what it hides; and since when, but for what a
  // flush of connections that are dirty makes stable.
  struct Ages {
    uint64_t since = 0;
    uint64_t needed = 0;
  };
  Ages hide(ByteRange range);
  void make_dirty(ConnectionId connection, uint64_t since);
  static std::optional<ByteRange> first_run(std::initializer_list<const SegmentMap*> maps,
                                            uint64_t most, uint64_t from);

  const std::shared_ptr<Memory> memory_;
  uint64_t acknowledged_ = 0;
  // The dirty connections, and the first acknowledgement that a flush of each makes
  // stable.
  std::map<ConnectionId, uint64_t> dirty_;
  // What is in memory, of connections that are dirty, of those that are lost, and of none yet; and
  // what is in the spool. Of no byte two of them.
  SegmentMap carried_;
  SegmentMap orphans_;
  SegmentMap unsent_;
  SegmentMap spooled_;
};

}  // namespace upload::journal
