// SPDX-License-Identifier: BSD-3-Clause
//
// Writing beside, then renaming. The file beside it is made anew each time (O_EXCL), so no link
// that somebody has put there is followed, and two processes with the same file by mistake don't
// write into each other's. It is not synced: after a crash of the machine the figures are of no
// interest.

#include "process/metrics_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/file_size_limit.h"

namespace upload {

namespace {

// The umask takes away what others may not.
constexpr mode_t kMode = 0666;

}  // namespace

MetricsFile::MetricsFile(std::string path)
    : path_(std::move(path)), temporary_(path_ + ".upload-tmp") {}

Status MetricsFile::failure(int error) const {
  return {Kind::kInvalid, "metrics=" + path_ + ": can't be written: " + strerror(error)};
}

// What is no file, such as /dev/null, would be replaced by one.
Status MetricsFile::probe() const {
  struct stat about = {};
  if (stat(path_.c_str(), &about) == 0 && !S_ISREG(about.st_mode))
    return {Kind::kInvalid, "metrics=" + path_ + ": must be a regular file, or not be there yet"};
  unlink(temporary_.c_str());
  const Status status = write_temporary("");
  if (status.ok()) unlink(temporary_.c_str());
  return status;
}

Status MetricsFile::replace(const std::string& text) const {
  const FileSizeLimitFails guard;
  if (Status status = write_temporary(text); !status.ok()) return status;
  if (rename(temporary_.c_str(), path_.c_str()) == 0) return {};
  const int error = errno;
  unlink(temporary_.c_str());
  return failure(error);
}

Status MetricsFile::write_temporary(const std::string& text) const {
  const int fd =
      open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kMode);
  if (fd < 0) return failure(errno);
  int error = 0;
  for (size_t done = 0; done < text.size() && error == 0;) {
    const ssize_t n = write(fd, text.data() + done, text.size() - done);
    if (n > 0)
      done += static_cast<size_t>(n);
    else if (n == 0 || errno != EINTR)
      error = n == 0 ? ENOSPC : errno;
  }
  // Some file systems tell only now.
  if (close(fd) != 0 && error == 0) error = errno;
  if (error == 0) return {};
  unlink(temporary_.c_str());
  return failure(error);
}

std::string MetricsFile::title() const {
  constexpr std::string_view kSuffix = ".prom";
  std::string name = path_.substr(path_.rfind('/') + 1);
  if (name.size() > kSuffix.size() && name.ends_with(kSuffix))
    name.resize(name.size() - kSuffix.size());
  return name;
}

}  // namespace upload
