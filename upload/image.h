// SPDX-License-Identifier: BSD-3-Clause
//
// Image: what the user names to be uploaded, opened once for all that read it.
//
// The programs get the open file, so it does not matter what becomes of its name.

#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "disk_list.h"
#include "file_descriptor.h"
#include "outcome.h"

namespace nbdupload {

class Image {
 public:
  // Checks the argument, and that it goes with the format if one is given; opens nothing.
  // `pair` has that for its target too; `stream_size` is that of standard input, in bytes, if the
  // user has told it.
  static Or<Image> from_argument(const Pair& pair, const std::string& format,
                                 std::optional<uint64_t> stream_size);

  // Fails if it is neither a file nor a block device, or can't be opened. Does nothing for what is
  // no file.
  [[nodiscard]] Outcome open();

  // It is what an NBD server offers.
  [[nodiscard]] bool is_uri() const { return uri_; }
  // It is standard input.
  [[nodiscard]] bool is_stream() const { return stream_size_.has_value(); }
  // It is what a web server offers.
  [[nodiscard]] bool is_web() const { return web_; }
  // The name of a file in it, if it is an archive: FILE:MEMBER; else empty.
  [[nodiscard]] const std::string& member() const { return member_; }
  // As the user has written it, but for the query of a URL.
  [[nodiscard]] const std::string& name() const { return name_; }
  // The name in quotes, as messages begin with it.
  [[nodiscard]] std::string quoted() const { return "'" + name_ + "'"; }
  // An absolute path, or the URI or URL.
  [[nodiscard]] const std::string& path() const { return path_; }

  // Of the open file: its number, the name by which programs that inherit it open it, and
  // whether it is a block device.
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] std::string opened() const { return "/dev/fd/" + std::to_string(fd_.get()); }
  [[nodiscard]] bool is_block_device() const { return block_device_; }
  [[nodiscard]] Or<uint64_t> size() const;
  // Does it begin as an ISO 9660 image does?
  [[nodiscard]] bool may_be_iso() const;

 private:
  [[nodiscard]] Outcome take_url(const Pair& pair);
  [[nodiscard]] int open_file() const;

  std::string name_, path_, member_;
  std::optional<uint64_t> stream_size_;
  bool uri_ = false, web_ = false, block_device_ = false;
  FileDescriptor fd_;
};

}  // namespace nbdupload
