// SPDX-License-Identifier: BSD-3-Clause
//
// Source: what an image is, and what nbdcopy reads it from.
//
// A raw image is read as the open file, an NBD URI as it is; any other format through a
// qemu-nbd of its own. What is packed (gzip, xz, tar, which an OVA is) or on a web server is read
// through an nbdkit for each layer, below that. An image is not trusted: whatever it refers to is read only if the
// user has given the format, and then only what was named.

#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "console.h"
#include "event_loop.h"
#include "image.h"
#include "local_server.h"
#include "look.h"
#include "outcome.h"
#include "private_directory.h"
#include "standard_input.h"

namespace nbdupload {

class Source {
 public:
  // `format` is the user's; empty: it is to be detected. All references outlive the source.
  // `id` tells its files in the directory from others.
  Source(EventLoop& loop, Console& console, const PrivateDirectory& directory, Image image,
         std::string format, std::string id);

  // Opens the image, if it is a file or standard input.
  [[nodiscard]] Outcome open() { return image_.is_stream() ? stream_.open() : image_.open(); }
  // Finds out the format, and whether the image is whole.
  [[nodiscard]] Outcome inspect();
  // Makes it ready to be read. Nothing is read if qemu-nbd has opened anything that was not
  // named.
  [[nodiscard]] Outcome serve();

  [[nodiscard]] const Image& image() const { return image_; }
  [[nodiscard]] const std::string& format() const { return format_; }
  // Makes it longer by zeroes, or shorter; at most once, after serve().
  [[nodiscard]] Outcome resize(uint64_t size);
  // Is all that follows the first `offset` bytes zero? For what qemu-nbd serves.
  [[nodiscard]] Or<bool> is_zero_behind(uint64_t offset);

  // In bytes. After serve().
  [[nodiscard]] uint64_t size() const { return size_; }
  // The checksum of a stream is to be made while it is copied.
  void check_stream() { stream_.check(); }
  // Of an image that comes as a stream, once inspected.
  [[nodiscard]] const StandardInput& stream() const { return stream_; }
  // What nbdcopy is given, and the file descriptors that it needs for it.
  [[nodiscard]] std::string address() const;
  [[nodiscard]] std::vector<int> inherited() const;

  // To be shown: the words of all servers that are needed, the lowest first.
  [[nodiscard]] std::vector<std::vector<std::string>> servers() const;

  void stop(std::chrono::seconds patience);

 private:
  [[nodiscard]] Outcome look_at(const std::string& name, bool chain, bool& good);
  [[nodiscard]] Outcome inspect_stream();
  [[nodiscard]] Outcome check_iso();
  [[nodiscard]] Outcome detect();
  [[nodiscard]] Outcome check_format();
  void trust_references();
  [[nodiscard]] Outcome unpack();
  [[nodiscard]] Outcome add_layer(const std::vector<std::string>& filter_words);
  [[nodiscard]] Or<std::string> first_bytes();
  [[nodiscard]] Or<std::string> list_members();
  [[nodiscard]] Or<std::string> choose_member();
  [[nodiscard]] std::vector<std::string> server_words() const;
  [[nodiscard]] Outcome start_server();
  [[nodiscard]] Outcome check_open_files() const;
  [[nodiscard]] bool may_be_open(const std::string& link) const;
  [[nodiscard]] Outcome ask_size();
  [[nodiscard]] std::string with_names(const std::string& words) const;
  [[nodiscard]] Outcome unopened(const std::string& why) const;
  [[nodiscard]] Outcome exchanged() const;
  [[nodiscard]] bool needs_server() const { return !image_.is_uri() && format_ != "raw"; }
  [[nodiscard]] std::string layer_file(const char* suffix) const;
  // What the open file, or the uppermost layer, is called.
  [[nodiscard]] std::string below() const;
  [[nodiscard]] std::string last_words_of_layers() const;
  [[nodiscard]] std::string file(const char* suffix) const;

  EventLoop& loop_;
  Console& console_;
  const PrivateDirectory& directory_;
  Image image_;
  StandardInput stream_;
  std::string format_;
  const std::string id_;
  // What it refers to. If the user has given the format, that is read with it, and a server
  // may be among it.
  std::vector<std::string> references_;
  std::string detected_, last_words_;  // what qemu-img has told last
  bool trusted_ = false, trusted_server_ = false;
  uint64_t size_ = 0;
  // Each reads what the one before offers, and the first the open file or a web server.
  std::deque<LocalServer> layers_;
  std::vector<std::vector<std::string>> layer_words_;
  std::optional<LocalServer> server_;   // qemu-nbd
  std::optional<LocalServer> resizer_;  // nbdkit, which reads what that offers
};

}  // namespace nbdupload
