// SPDX-License-Identifier: BSD-3-Clause
//
// A number that nbdupload has open too, with the same file behind it, was inherited.

#include "open_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <system_error>

namespace nbdupload {

namespace {

std::string target_of(const std::string& link) {
  std::array<char, PATH_MAX> target;
  const ssize_t length = readlink(link.c_str(), target.data(), target.size());
  return length < 0 ? "" : std::string(target.data(), static_cast<size_t>(length));
}

}  // namespace

bool is_same_file(const std::string& one, const std::string& other) {
  struct stat a {
  }, b{};
  return stat(one.c_str(), &a) == 0 && stat(other.c_str(), &b) == 0 && a.st_dev == b.st_dev &&
         a.st_ino == b.st_ino;
}

bool OpenFile::is_harmless() const {
  return shown.starts_with("anon_inode:") || shown.starts_with("pipe:");
}

std::vector<OpenFile> own_open_files(pid_t pid) {
  std::vector<OpenFile> files;
  std::error_code error;
  const std::string directory = "/proc/" + std::to_string(pid) + "/fd";
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    const std::string link = entry.path();
    const std::string number = entry.path().filename();
    const int fd = atoi(number.c_str());
    if (fd <= STDERR_FILENO || is_same_file(link, "/proc/self/fd/" + number)) continue;
    files.push_back({fd, link, target_of(link)});
  }
  return files;
}

}  // namespace nbdupload
