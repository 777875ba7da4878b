// SPDX-License-Identifier: BSD-3-Clause
//
// A file is opened without waiting for the other end of a pipe, and it is the open file
// that is looked at: its name may lead to another one meanwhile.

#include "image.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/redact.h"
#include "target_url.h"

namespace nbdupload {

namespace {

bool is_nbd_uri(std::string_view text) {
  constexpr std::array<std::string_view, 4> kSchemes = {"nbd://", "nbds://", "nbd+unix://",
                                                        "nbds+unix://"};
  return std::any_of(kSchemes.begin(), kSchemes.end(),
                     [&](std::string_view scheme) { return text.starts_with(scheme); });
}

// Absolute, since "a:b" would be a protocol to qemu, and "[" or "-" a command to nbdcopy.
std::string absolute(const std::string& name) {
  if (name.starts_with("/")) return name;
  std::array<char, PATH_MAX> here;
  return getcwd(here.data(), here.size()) != nullptr ? here.data() + ("/" + name) : "/" + name;
}

}  // namespace

// It will stand in a process list, as nbdkit's argument. If it stands there already, as nbdupload's,
// that tells nobody more; but no message shows what may be a secret in it.
Outcome Image::take_url(const Pair& pair) {
  const std::string shown = "IMAGE is '" + redacted_url(pair.image) + "': ";
  if (!is_http_url(pair.url) && !pair.url.starts_with("+"))
    return Outcome::usage(shown + "the image comes first, then the URL");
  if (pair.image.find_first_of("#@") != std::string::npos)
    return Outcome::usage(shown + "what is before '@' may be a secret; download it first");
  const size_t query = pair.image.find('?');
  if (query != std::string::npos && !pair.is_public)
    return Outcome::usage(shown +
                          "what is behind '?' may be a secret, and would be in the list of "
                          "processes; download it first");
  web_ = true;
  if (query == std::string::npos) return {};
  upload::register_credential(pair.image.substr(query + 1));
  name_ = pair.image.substr(0, query) + "?...";
  return {};
}

Or<Image> Image::from_argument(const Pair& pair, const std::string& format,
                               std::optional<uint64_t> stream_size) {
  const std::string& argument = pair.image;
  if (argument.empty()) return Outcome::usage("IMAGE is empty");
  Image image;
  if (argument == "-") {
    if (!stream_size)
      return Outcome::usage("IMAGE is '-': standard input does not tell its size; say --size=N");
    if (!format.empty() && format != "raw")
      return Outcome::usage("--format=" + format + ": standard input is read as raw only");
    image.stream_size_ = stream_size;
  }
  image.name_ = argument;
  image.path_ = argument;
  image.uri_ = is_nbd_uri(argument);
  const std::string shown = "IMAGE is '" + redacted_url(argument) + "': ";
  if (image.uri_) {
    if (!format.empty() && format != "raw")
      return Outcome::usage("--format=" + format + ": what an NBD server offers is raw");
  } else if (argument.starts_with("http://") || argument.starts_with("https://")) {
    if (Outcome outcome = image.take_url(pair); !outcome.ok()) return outcome;
  } else if (has_scheme(argument) && argument[0] >= 'a' && argument[0] <= 'z') {
    return Outcome::usage(shown + "it must be a file, a device or an NBD URI");
  } else {
    image.path_ = absolute(argument);
  }
  return image;
}

Outcome Image::open() {
  const auto failure = [&](const std::string& what) { return Outcome::failed(quoted() + what); };
  if (uri_ || web_ || is_stream()) return {};
  fd_ = FileDescriptor(open_file());
  // FILE:MEMBER, if there is no file with a colon in its name.
  for (size_t at = path_.find(':'); !fd_.is_open() && at != std::string::npos;
       at = path_.find(':', at + 1)) {
    Image file;
    file.path_ = path_.substr(0, at);
    fd_ = FileDescriptor(file.open_file());
    if (fd_.is_open()) member_ = path_.substr(at + 1);
  }
  if (!member_.empty()) path_.resize(path_.size() - member_.size() - 1);
  if (!fd_.is_open()) fd_ = FileDescriptor(open_file());
  if (!fd_.is_open()) {
    switch (errno) {
      case ENOENT:
      case ENOTDIR: return failure(": no such file");
      case EACCES: return failure(" can't be read: permission denied");
      default: return failure(std::string(" can't be opened: ") + strerror(errno));
    }
  }
  struct stat found {};
  if (fstat(fd_.get(), &found) != 0) return failure(" can't be opened");
  if (S_ISDIR(found.st_mode)) return failure(" is a directory, not a disk image");
  if (!S_ISREG(found.st_mode) && !S_ISBLK(found.st_mode))
    return failure(" is neither a file nor a block device");
  block_device_ = S_ISBLK(found.st_mode);
  fcntl(fd_.get(), F_SETFL, 0);
  return {};
}

bool Image::may_be_iso() const {
  constexpr std::string_view kMagic = "CD001";
  std::array<char, kMagic.size()> found;
  return pread(fd_.get(), found.data(), found.size(), 32769) == ssize_t{found.size()} &&
         std::string_view(found.data(), found.size()) == kMagic;
}

int Image::open_file() const { return ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); }

Or<uint64_t> Image::size() const {
  if (stream_size_) return *stream_size_;
  uint64_t size = 0;
  struct stat found {};
  if (block_device_ && ioctl(fd_.get(), BLKGETSIZE64, &size) == 0) return size;
  if (!block_device_ && fstat(fd_.get(), &found) == 0) return uint64_t(found.st_size);
  return Outcome::failed(quoted() + ": its size can't be found out: " + strerror(errno));
}

}  // namespace nbdupload
