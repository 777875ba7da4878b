// SPDX-License-Identifier: BSD-3-Clause
//
// Whoever could write to a raw disk could make it look like an image of another format that
// refers to any file of this system. So an image that refers to others is refused unless the
// user has given the format.
//
// The image that stands alone is given to qemu-nbd as the open file, and no backing file is
// looked for. One that refers to others is opened by its name, as its directory is where
// names of others may begin; check_open_files() sees to it that it is the same file, and
// that nothing else is open. That holds in whatever way a format has to refer to files, and
// whoever has changed the image since it was looked at.

#include "source.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "content.h"
#include "image_info.h"
#include "open_files.h"
#include "process.h"
#include "said.h"
#include "zero_look.h"

namespace nbdupload {

namespace {

Outcome need_program(const std::string& program, const std::string& advice) {
  if (is_in_path(program)) return {};
  return Outcome::failed(program + " is not in PATH; " + advice);
}

}  // namespace

Source::Source(EventLoop& loop, Console& console, const PrivateDirectory& directory, Image image,
               std::string format, std::string id)
    : loop_(loop),
      console_(console),
      directory_(directory),
      image_(std::move(image)),
      format_(std::move(format)),
      id_(std::move(id)) {}

std::string Source::file(const char* suffix) const {
  return directory_.file("source" + id_ + suffix);
}

Outcome Source::unopened(const std::string& why) const {
  return Outcome::failed(image_.quoted() + " can't be opened" +
                         (format_.empty() ? "" : " as " + format_) + ": " +
                         replaced(why, image_.opened(), image_.name()));
}

Outcome Source::exchanged() const {
  return Outcome::failed(image_.quoted() + " has been exchanged for another file meanwhile");
}

// --- What it is ---------------------------------------------------------------

Outcome Source::inspect() {
  if (image_.is_uri()) {
    format_ = "raw";
    return {};
  }
  if (format_ == "raw") return {};
  if (Outcome outcome = need_program("qemu-img", "install qemu's (Debian: qemu-utils)");
      !outcome.ok())
    return outcome;
  if (Outcome outcome = detect(); !outcome.ok()) return outcome;
  if (format_ == "raw") return refuse_archive();
  return need_program("qemu-nbd",
                      "it reads images of format " + format_ + " (Debian: qemu-utils)");
}

// To qemu-img what is in no format that it knows is raw.
Outcome Source::refuse_archive() const {
  std::array<char, kFirstBytes> first;
  const ssize_t length = pread(image_.fd(), first.data(), first.size(), 0);
  const Archive archive =
      archive_of({first.data(), static_cast<size_t>(std::max<ssize_t>(length, 0))});
  if (archive.what.empty()) return {};
  return Outcome::failed(image_.quoted() + " is " + archive.what + ", not a disk: " +
                         archive.advice + ", or say --format=raw to upload it as it is");
}

// Looks at the image by one of its names. `good`: qemu-img could make something of it.
Outcome Source::look_at(const std::string& name, bool chain, bool& good) {
  std::vector<std::string> words = {"qemu-img", "info", "--output=json"};
  if (!format_.empty()) words.insert(words.end(), {"-f", format_});
  if (chain) words.emplace_back("--backing-chain");
  words.insert(words.end(), {"--", name});
  Or<Looked> looked = look(loop_, std::move(words), {image_.fd()});
  if (!looked.ok()) return looked.failure();
  if (looked.value().was_ended()) return unopened(looked.value().last_words());
  good = looked.value().status == 0;
  ImageInfo info = parse_image_info(looked.value().output);
  references_ = std::move(info.references);
  detected_ = std::move(info.format);
  last_words_ = looked.value().last_words();
  return {};
}

Outcome Source::detect() {
  bool good = false;
  if (Outcome outcome = look_at(image_.opened(), false, good); !outcome.ok()) return outcome;
  if (!good || !references_.empty()) {
    // The image's directory, where references may begin, is known by name only.
    if (Outcome outcome = look_at(image_.path(), !format_.empty(), good); !outcome.ok())
      return outcome;
    if (!good) return unopened(last_words_);
    if (references_.empty()) return exchanged();
  }
  if (Outcome outcome = check_format(); !outcome.ok()) return outcome;
  if (!references_.empty()) trust_references();
  return {};
}

Outcome Source::check_format() {
  if (detected_.empty())
    return Outcome::failed(image_.quoted() + ": qemu-img does not tell the format; say --format");
  if (detected_ == "luks")
    return Outcome::failed(image_.quoted() +
                           " is encrypted (luks); to upload it as it is, say --format=raw");
  if (format_.empty() && !references_.empty())
    return Outcome::failed(image_.quoted() + " (" + detected_ + ") refers to '" +
                           shown_references(references_) +
                           "'; if you trust it, say --format=" + detected_);
  format_ = detected_;
  return {};
}

void Source::trust_references() {
  trusted_ = true;
  console_.remark(image_.quoted() + " is read together with '" + shown_references(references_) +
                  "'");
  trusted_server_ =
      std::any_of(references_.begin(), references_.end(), [](const std::string& name) {
        return !name.starts_with("/") && name.find(':') != std::string::npos;
      });
}

// --- What it is read from -------------------------------------------------------

std::string Source::address() const {
  if (resizer_) return "nbd+unix:///?socket=" + directory_.file("resized" + id_ + ".socket");
  if (image_.is_uri()) return image_.path();
  if (!needs_server()) return image_.opened();
  return "nbd+unix:///?socket=" + file(".socket");
}

std::vector<int> Source::inherited() const {
  const bool is_file = !resizer_ && !image_.is_uri() && !needs_server();
  return is_file ? std::vector{image_.fd()} : std::vector<int>();
}

std::vector<std::string> Source::server_words() const {
  if (!needs_server()) return {};
  std::vector<std::string> words = {"qemu-nbd",
                                    "--read-only",
                                    "--persistent",
                                    "--shared=16",
                                    "--socket=" + file(".socket"),
                                    "--pid-file=" + file(".pid")};
  if (trusted_) {
    words.insert(words.end(), {"--format=" + format_, "--", image_.path()});
  } else {
    const char* driver = image_.is_block_device() ? "host_device" : "file";
    const nlohmann::json image = {{"driver", format_},
                                  {"backing", nullptr},
                                  {"file", {{"driver", driver}, {"filename", image_.opened()}}}};
    words.push_back("json:" + image.dump());
  }
  return words;
}

Outcome Source::serve() {
  if (needs_server())
    if (Outcome outcome = start_server(); !outcome.ok()) return outcome;
  if (!needs_server() && !image_.is_uri()) {
    Or<uint64_t> size = image_.size();
    if (!size.ok()) return size.failure();
    size_ = size.value();
  } else if (Outcome outcome = ask_size(); !outcome.ok()) {
    return outcome;
  }
  if (size_ == 0) return Outcome::failed(image_.quoted() + " is empty");
  return {};
}

Outcome Source::start_server() {
  server_.emplace(loop_, server_words(), file(".pid"));
  Outcome outcome = server_->start({image_.fd()});
  if (outcome.ending() == Ending::kFailed) return unopened(outcome.text());
  return outcome.ok() ? check_open_files() : outcome;
}

Outcome Source::resize(uint64_t size) {
  const std::string name = "resized" + id_;
  std::vector<std::string> words = {"nbdkit",
                                    "--foreground",
                                    "--exit-with-parent",
                                    "--read-only",
                                    "--unix=" + directory_.file(name + ".socket"),
                                    "--pidfile=" + directory_.file(name + ".pid"),
                                    "--filter=truncate"};
  if (needs_server() || image_.is_uri())
    words.insert(words.end(), {"nbd", "uri=" + address()});
  else
    words.insert(words.end(), {"file", image_.opened()});
  words.push_back("truncate=" + std::to_string(size));
  const std::vector<int> fds = inherited();
  resizer_.emplace(loop_, std::move(words), directory_.file(name + ".pid"));
  Outcome outcome = resizer_->start(fds);
  if (outcome.ending() == Ending::kFailed) return unopened(outcome.text());
  size_ = size;
  return outcome;
}

Or<bool> Source::is_zero_behind(uint64_t offset) {
  Or<Looked> looked = look(loop_, zero_look_words(address(), offset));
  if (!looked.ok()) return looked.failure();
  if (looked.value().status != 0)
    return Outcome::failed(image_.quoted() +
                           ": its end can't be read: " + looked.value().last_words());
  return looked.value().output == "zero\n";
}

Outcome Source::check_open_files() const {
  const std::vector<OpenFile> files = own_open_files(server_->pid());
  const bool has_image = std::any_of(files.begin(), files.end(), [&](const OpenFile& file) {
    return is_same_file(file.link, image_.opened());
  });
  if (!has_image) return exchanged();
  int sockets = 0;
  for (const OpenFile& file : files) {
    if (file.is_socket())
      ++sockets;
    else if (!file.is_harmless() && !may_be_open(file.link))
      return Outcome::failed(image_.quoted() + " refers to '" + file.shown +
                             "', which it did not when it was looked at");
  }
  // One is for nbdcopy. A server can't be told from another one.
  if (sockets > 1 && !trusted_server_)
    return Outcome::failed(image_.quoted() +
                           " refers to a server, which it did not when it was looked at");
  return {};
}

bool Source::may_be_open(const std::string& link) const {
  for (const std::string& other :
       {image_.opened(), file(".pid"), std::string("/dev/null"), std::string("/dev/urandom")})
    if (is_same_file(link, other)) return true;
  return trusted_ &&
         std::any_of(references_.begin(), references_.end(),
                     [&](const std::string& name) { return is_same_file(link, name); });
}

Outcome Source::ask_size() {
  Or<Looked> looked = look(loop_, {"nbdinfo", "--size", address()});
  if (!looked.ok()) return looked.failure();
  if (looked.value().status != 0)
    return Outcome::failed(image_.quoted() +
                           ": its size can't be found out: " + looked.value().last_words());
  std::string text = looked.value().output;
  text.erase(std::min(text.find('\n'), text.size()));
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size_);
  if (error != std::errc() || end != text.data() + text.size())
    return Outcome::failed(image_.quoted() + ": its size is no number: '" + text + "'");
  return {};
}

void Source::stop(std::chrono::seconds patience) {
  if (resizer_) resizer_->stop(patience);
  if (server_) server_->stop(patience);
}

}  // namespace nbdupload
