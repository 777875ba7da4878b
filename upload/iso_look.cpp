// SPDX-License-Identifier: BSD-3-Clause
//
// The names of the primary volume are enough: other volumes name the same files at more length, with
// the same ends. So many directories of such a size are looked at and no more, whatever they say.

#include "iso_look.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>

#include "disk_reader.h"

namespace nbdupload {

namespace {

using namespace std::string_view_literals;

constexpr char kFlag[] = "--look-for-ova";
// In bytes.
constexpr uint64_t kSector = 2048;
constexpr uint64_t kPrimaryVolume = 16 * kSector;
constexpr size_t kLargestDirectory = size_t{1} << 20;
constexpr int kMostDirectories = 100;
// In a directory's record, as ECMA-119 9.1 has it.
constexpr size_t kPlace = 2, kLength = 10, kFlags = 25, kNameLength = 32, kName = 33;
constexpr size_t kRootRecord = 156;

struct Extent {
  uint64_t offset, size;
};

uint32_t number_at(std::string_view text, size_t at) {
  uint32_t number = 0;
  for (size_t i = 4; i-- > 0;) number = number << 8 | static_cast<unsigned char>(text[at + i]);
  return number;
}

Extent extent_of(std::string_view record) {
  return {number_at(record, kPlace) * kSector, number_at(record, kLength)};
}

// Its version is behind a semicolon.
bool is_ova_name(std::string_view name) {
  std::string lower(name.substr(0, name.find(';')));
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(tolower(c)); });
  return lower.ends_with(".ova") || lower.ends_with(".ovf");
}

// Looks at the records of one directory; adds those below it.
std::string look_through(std::string_view directory, std::deque<Extent>& below) {
  while (!directory.empty()) {
    const size_t length = static_cast<unsigned char>(directory[0]);
    // The rest of a sector is empty where no record fits.
    if (length == 0) {
      directory.remove_prefix(1);
      continue;
    }
    if (length <= kName || length > directory.size()) return "";
    const std::string_view record = directory.substr(0, length);
    const size_t name_length = static_cast<unsigned char>(record[kNameLength]);
    if (kName + name_length > length) return "";
    const std::string_view name = record.substr(kName, name_length);
    const bool is_directory = (record[kFlags] & 2) != 0;
    if (!is_directory && is_ova_name(name)) return std::string(name.substr(0, name.find(';')));
    // "\0" is the directory itself, "\1" the one above.
    if (is_directory && name != "\0"sv && name != "\1"sv) below.push_back(extent_of(record));
    directory.remove_prefix(length);
  }
  return "";
}

}  // namespace

std::string find_ova(const std::function<std::string(uint64_t, size_t)>& read) {
  const std::string volume = read(kPrimaryVolume, kSector);
  if (volume.size() < kSector || !volume.starts_with("\1CD001\1"sv)) return "";
  std::deque<Extent> waiting = {extent_of(std::string_view(volume).substr(kRootRecord))};
  for (int looked = 0; looked < kMostDirectories && !waiting.empty(); ++looked) {
    const Extent extent = waiting.front();
    waiting.pop_front();
    const auto size = static_cast<size_t>(std::min<uint64_t>(extent.size, kLargestDirectory));
    if (std::string name = look_through(read(extent.offset, size), waiting); !name.empty())
      return name;
  }
  return "";
}

std::vector<std::string> iso_look_words(const std::string& address) {
  return {"/proc/self/exe", kFlag, address};
}

void run_iso_look(int argc, char** argv) {
  if (argc != 3 || strcmp(argv[1], kFlag) != 0) return;
  const std::unique_ptr<DiskReader> reader = DiskReader::open(argv[2], false);
  if (reader == nullptr) exit(1);
  const std::string name = find_ova([&](uint64_t offset, size_t count) {
    std::string bytes(count, '\0');
    return reader->size() >= offset + count && reader->read(bytes.data(), count, offset)
               ? bytes
               : std::string();
  });
  puts(name.c_str());
  exit(0);
}

}  // namespace nbdupload
