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
#include "iso_look.h"
#include "nbd_look.h"
#include "open_files.h"
#include "process.h"
#include "said.h"

namespace nbdupload {

namespace {

// An archive in an archive, and one more on a web server.
constexpr int kMostLayers = 4;
constexpr std::chrono::hours kUnpackTime{24};

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

// A program's words, with the names that the user knows.
std::string Source::with_names(const std::string& words) const {
  if (image_.is_web()) return replaced(words, image_.path(), image_.name());
  return replaced(words, image_.opened(), image_.name());
}

// What the layers have said tells more than that something can't be read from them.
Outcome Source::unopened(const std::string& why) const {
  if (const std::string words = last_words_of_layers(); !words.empty())
    return Outcome::failed(image_.quoted() + " can't be " +
                           (image_.is_web() && layers_.size() == 1 ? "read: " : "unpacked: ") +
                           with_names(words));
  return Outcome::failed(image_.quoted() + " can't be opened" +
                         (format_.empty() ? "" : " as " + format_) + ": " + with_names(why));
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
  if (image_.is_stream()) return inspect_stream();
  if (Outcome outcome = unpack(); !outcome.ok()) return outcome;
  if (format_ == "raw") return {};
  if (Outcome outcome = need_program("qemu-img", "install qemu's (Debian: qemu-utils)");
      !outcome.ok())
    return outcome;
  if (Outcome outcome = detect(); !outcome.ok()) return outcome;
  if (format_ == "raw") return {};
  return need_program("qemu-nbd",
                      "it reads images of format " + format_ + " (Debian: qemu-utils)");
}

Outcome Source::inspect_stream() {
  if (Outcome outcome = stream_.read_first(loop_); !outcome.ok()) return outcome;
  if (stream_.first().empty()) return Outcome::failed(image_.quoted() + " is empty");
  const Archive archive = archive_of(stream_.first());
  if (format_ != "raw" && !archive.what.empty())
    return Outcome::failed(image_.quoted() + " is " + archive.what +
                           ", not a disk: unpack it, or say --format=raw to upload it as it is");
  format_ = "raw";
  return {};
}

// Adds layers until what comes out is no archive. If the user says that it is raw, it is that
// already, unless a file in it is named.
Outcome Source::unpack() {
  if (image_.is_web())
    if (Outcome outcome = add_layer({"curl", "url=" + image_.path()}); !outcome.ok())
      return outcome;
  bool has_member = false;
  for (int depth = 0; depth < kMostLayers; ++depth) {
    if (format_ == "raw" && (image_.member().empty() || has_member)) return {};
    Or<std::string> first = first_bytes();
    if (!first.ok()) return first.failure();
    const Archive archive = archive_of(first.value());
    if (archive.what.empty()) break;
    if (archive.filter.empty())
      return Outcome::failed(
          image_.quoted() + " is " + archive.what +
          ", not a disk: unpack it, or say --format=raw to upload it as it is");
    std::vector<std::string> words = {"--filter=" + archive.filter};
    if (layers_.empty())
      words.insert(words.end(), {"file", image_.opened()});
    else
      words.insert(words.end(), {"nbd", "uri=" + below()});
    if (archive.filter == "tar") {
      Or<std::string> member = choose_member();
      if (!member.ok()) return member.failure();
      words.push_back("tar-entry=" + member.value());
      has_member = true;
    }
    console_.remark(image_.quoted() + " is " + archive.what + ", which is unpacked");
    if (Outcome outcome = add_layer(words); !outcome.ok()) return outcome;
  }
  if (!image_.member().empty() && !has_member)
    return Outcome::failed(image_.quoted() + ": no such file");
  return format_.empty() ? check_iso() : Outcome();
}

Outcome Source::check_iso() {
  if (layers_.empty() && !image_.may_be_iso()) return {};
  Or<Looked> looked = look(loop_, iso_look_words(below()),
                           layers_.empty() ? std::vector{image_.fd()} : std::vector<int>());
  if (!looked.ok()) return looked.failure();
  if (looked.value().status != 0) return unopened(looked.value().last_words());
  std::string name = looked.value().output;
  name.erase(std::min(name.find('\n'), name.size()));
  if (name.empty()) return {};
  return Outcome::failed(
      image_.quoted() + " is an ISO image with '" + name +
      "' on it: copy the OVA from there and upload that, or say --format=raw to "
      "upload the ISO image as it is");
}

std::string Source::layer_file(const char* suffix) const {
  return directory_.file("source" + id_ + "-layer" + std::to_string(layer_words_.size()) +
                         suffix);
}

std::string Source::below() const {
  return layer_words_.empty() ? image_.opened() : "nbd+unix:///?socket=" + layer_file(".socket");
}

std::string Source::last_words_of_layers() const {
  for (auto layer = layers_.rbegin(); layer != layers_.rend(); ++layer)
    if (std::string words = layer->last_words(); !words.empty()) return words;
  return "";
}

// A compressed file may have to be unpacked as a whole when it is opened first; how long that
// takes is the user's business.
Outcome Source::add_layer(const std::vector<std::string>& filter_words) {
  layer_words_.emplace_back();
  const std::string pid = layer_file(".pid");
  std::vector<std::string>& words = layer_words_.back();
  words = {"nbdkit",
           "--foreground",
           "--exit-with-parent",
           "--read-only",
           "--unix=" + layer_file(".socket"),
           "--pidfile=" + pid};
  words.insert(words.end(), filter_words.begin(), filter_words.end());
  layers_.emplace_back(loop_, words, pid);
  const std::vector<int> fds = image_.fd() < 0 ? std::vector<int>() : std::vector{image_.fd()};
  Outcome outcome = layers_.back().start(fds);
  if (outcome.ending() == Ending::kFailed) return unopened(outcome.text());
  if (!outcome.ok()) return outcome;
  Or<Looked> opened = look(loop_, {"nbdinfo", "--size", below()}, {}, kUnpackTime);
  if (!opened.ok()) return opened.failure();
  return opened.value().status == 0 ? Outcome() : unopened(opened.value().last_words());
}

Or<std::string> Source::first_bytes() {
  if (layers_.empty()) {
    std::array<char, kFirstBytes> first;
    const ssize_t length = pread(image_.fd(), first.data(), first.size(), 0);
    return std::string(first.data(), static_cast<size_t>(std::max<ssize_t>(length, 0)));
  }
  Or<Looked> looked = look(loop_, first_look_words(below()));
  if (!looked.ok()) return looked.failure();
  if (looked.value().status != 0) return unopened(looked.value().last_words());
  return looked.value().output;
}

// The names of the files in the archive that the image is, one a line.
Or<std::string> Source::list_members() {
  if (Outcome outcome = need_program("tar", "it lists archives (Debian: tar)"); !outcome.ok())
    return outcome;
  Or<Looked> looked = look(
      loop_,
      {"tar", "--list", "--force-local", "--quoting-style=literal", "--file=" + image_.opened()},
      {image_.fd()});
  if (!looked.ok()) return looked.failure();
  if (looked.value().status != 0) return unopened(looked.value().last_words());
  return looked.value().output;
}

// The file that the user has named, or else the only disk in the archive.
Or<std::string> Source::choose_member() {
  std::vector<std::string> names = {image_.member()};
  if (!layers_.empty()) {
    if (image_.member().empty())
      return Outcome::failed(image_.quoted() +
                             " has a tar archive in it: name the disk in that, '" +
                             image_.name() + ":FILE'");
  } else {
    Or<std::string> listed = list_members();
    if (!listed.ok()) return listed.failure();
    if (image_.member().empty())
      names = disk_names(listed.value());
    else if (("\n" + listed.value()).find("\n" + names[0] + "\n") == std::string::npos)
      return Outcome::failed(image_.quoted() + ": there is no such file in the archive");
  }
  if (names.empty())
    return Outcome::failed(image_.quoted() +
                           " is a tar archive, and no file in it has a disk's name; name one, '" +
                           image_.name() + ":FILE', or say --format=raw to upload it as it is");
  if (names.size() > 1) {
    std::string all;
    for (const std::string& name : names)
      all += (all.empty() ? "'" : ", '") + image_.name() + ":" + name + "'";
    return Outcome::failed(image_.quoted() + " has several disks: " + all +
                           "; each needs its own URL, see --map");
  }
  // The filter gives it to tar, which would take it for an option. Whoever has made the archive
  // has chosen it.
  if (names[0].starts_with("-"))
    return Outcome::failed(image_.quoted() +
                           ": a file in an archive whose name begins with '-', '" + names[0] +
                           "', is not taken; unpack it first");
  return names[0];
}

// Looks at the image by one of its names. `good`: qemu-img could make something of it.
Outcome Source::look_at(const std::string& name, bool chain, bool& good) {
  std::vector<std::string> words = {"qemu-img", "info", "--output=json"};
  if (!format_.empty()) words.insert(words.end(), {"-f", format_});
  if (chain) words.emplace_back("--backing-chain");
  words.insert(words.end(), {"--", name});
  Or<Looked> looked = look(loop_, std::move(words),
                           layers_.empty() ? std::vector{image_.fd()} : std::vector<int>());
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
  if (Outcome outcome = look_at(below(), false, good); !outcome.ok()) return outcome;
  if (!layers_.empty()) {
    // There is no directory where references could begin.
    if (!good) return unopened(last_words_);
    if (!references_.empty())
      return Outcome::failed(image_.quoted() + " (" + detected_ + ") refers to '" +
                             shown_references(references_) +
                             "', which can't be read together with it; unpack it first");
  } else if (!good || !references_.empty()) {
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
  if (image_.is_stream()) return "-";
  if (resizer_) return "nbd+unix:///?socket=" + directory_.file("resized" + id_ + ".socket");
  if (image_.is_uri()) return image_.path();
  if (!needs_server()) return below();
  return "nbd+unix:///?socket=" + file(".socket");
}

std::vector<int> Source::inherited() const {
  if (image_.is_stream()) return {stream_.first_fd(), stream_.rest_fd()};
  const bool is_file = !resizer_ && !image_.is_uri() && !needs_server() && layers_.empty();
  return is_file ? std::vector{image_.fd()} : std::vector<int>();
}

std::vector<std::string> Source::server_words() const {
  std::vector<std::string> words = {"qemu-nbd",
                                    "--read-only",
                                    "--persistent",
                                    "--shared=16",
                                    "--socket=" + file(".socket"),
                                    "--pid-file=" + file(".pid")};
  if (trusted_) {
    words.insert(words.end(), {"--format=" + format_, "--", image_.path()});
  } else {
    nlohmann::json file_node = {{"driver", image_.is_block_device() ? "host_device" : "file"},
                                {"filename", image_.opened()}};
    if (!layers_.empty())
      file_node = {{"driver", "nbd"},
                   {"server", {{"type", "unix"}, {"path", layer_file(".socket")}}}};
    const nlohmann::json image = {{"driver", format_}, {"backing", nullptr}, {"file", file_node}};
    words.push_back("json:" + image.dump());
  }
  return words;
}

std::vector<std::vector<std::string>> Source::servers() const {
  std::vector<std::vector<std::string>> servers = layer_words_;
  if (needs_server()) servers.push_back(server_words());
  return servers;
}

Outcome Source::serve() {
  if (needs_server())
    if (Outcome outcome = start_server(); !outcome.ok()) return outcome;
  if (!needs_server() && !image_.is_uri() && layers_.empty()) {
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
  Outcome outcome =
      server_->start(layers_.empty() ? std::vector{image_.fd()} : std::vector<int>());
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
  if (inherited().empty())
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
  if (!has_image && layers_.empty()) return exchanged();
  int sockets = 0;
  for (const OpenFile& file : files) {
    if (file.is_socket())
      ++sockets;
    else if (!file.is_harmless() && !may_be_open(file.link))
      return Outcome::failed(image_.quoted() + " refers to '" + file.shown +
                             "', which it did not when it was looked at");
  }
  // One is for nbdcopy, and one to what is below. A server can't be told from another one.
  if (sockets > (layers_.empty() ? 1 : 2) && !trusted_server_)
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
  for (auto layer = layers_.rbegin(); layer != layers_.rend(); ++layer) layer->stop(patience);
}

}  // namespace nbdupload
