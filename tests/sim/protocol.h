// SPDX-License-Identifier: BSD-3-Clause
//
// What the plugin asks of the model server, in each protocol that it speaks: the images API,
// Azure's page blobs, files over WebDAV. A request that a real server of the protocol would refuse
// as malformed ends the schedule (require()).
//
// Values and pure functions.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/byte_range.h"
#include "http/message.h"

namespace upload::sim {

enum class Protocol { kImageio, kAzure, kWebdav };

// As the plugin's parameter target= has it.
[[nodiscard]] const char* name_of(Protocol protocol);
// The path of a disk.
[[nodiscard]] std::string path_of(Protocol protocol, unsigned disk);
// Which disk a request is for, or whose probe file it is about.
[[nodiscard]] unsigned disk_of(const http::Request& request);

// A request, parsed; it outlives the client's memory.
struct Asked {
  enum class Verb {
    kOffer,   // what the server offers, and whether there is such a disk
    kDirect,  // the images API's question for a reverse proxy
    kExtents,
    kRead,
    kChange,
    kFlush,
    kCreate,  // of the disk; in WebDAV a change of one that is not there
    kRemove,  // of a probe file
  };
  Verb verb = Verb::kOffer;
  unsigned disk = 0;
  bool flushes = false;  // a change, or the flush itself
  ByteRange range;
  std::vector<char> data;  // of a change, range.length bytes
  std::string probe;       // the path of WebDAV's probe file, which it is about; else empty
  bool whole = false;      // a change of all of the probe file
  uint64_t marker = 0;     // where a page of the extents begins, in bytes

  // Of the disk.
  [[nodiscard]] bool changes() const { return verb == Verb::kChange && probe.empty(); }
};

// `size` of each disk, in bytes.
[[nodiscard]] Asked parse(Protocol protocol, const http::Request& request, uint64_t size);

}  // namespace upload::sim
