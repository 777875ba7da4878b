// SPDX-License-Identifier: BSD-3-Clause
//
// nbdcopy tells its progress as lines of N/100 through a pipe. On standard output it says nothing.

#include "copy.h"

#include <utility>

#include "said.h"
#include "stream.h"

namespace nbdupload {

namespace {

constexpr size_t kMostLines = 1000;
// Reads can't be combined, so verification asks for much at a time; so does who has one request under
// way. In bytes.
constexpr const char* kLargeRequest = "4194304";

}  // namespace

Copy::Copy(EventLoop& loop, const Source& source, std::string address, Purpose purpose,
           CopySetup how, std::function<void(int)> on_progress)
    : loop_(loop),
      source_(source),
      address_(std::move(address)),
      purpose_(purpose),
      how_(how),
      progress_(loop, std::move(on_progress)) {}

std::vector<std::string> Copy::words(const Source& source, const std::string& address,
                                     Purpose purpose, const CopySetup& how,
                                     const std::string& progress) {
  if (source.image().is_stream())
    return stream_words({address, source.size(), source.stream().first_fd(),
                         source.stream().rest_fd(), progress.empty() ? -1 : stoi(progress),
                         how.target_is_zero, source.stream().is_checked()});
  std::vector<std::string> words = {"nbdcopy"};
  if (!progress.empty()) words.push_back("--progress=" + progress);
  if (purpose == Purpose::kVerify)
    words.push_back(std::string("--request-size=") + kLargeRequest);
  else
    words.emplace_back("--flush");
  if (how.shares_nbdkit && purpose == Purpose::kUpload) {
    words.insert(words.end(), {"--connections=1", "--requests=1"});
    // Each request waits for the server then.
    if (!how.write_back) words.push_back(std::string("--request-size=") + kLargeRequest);
  }
  if (how.target_is_zero && purpose == Purpose::kUpload)
    words.emplace_back("--destination-is-zero");
  words.insert(words.end(), {"--", source.address(), address});
  return words;
}

Outcome Copy::start() {
  Process::Setup setup;
  std::string number;
  Or<FileDescriptor> progress = progress_.open();
  if (!progress.ok()) return progress.failure();
  if (progress.value().is_open()) {
    number = std::to_string(progress.value().get());
    setup.inherited.push_back(progress.value().get());
  }
  setup.words = words(source_, address_, purpose_, how_, number);
  setup.memory = kCopyMemory;
  setup.output = &output_;
  for (const int fd : source_.inherited()) setup.inherited.push_back(fd);
  setup.on_error_line = [this](const std::string& line) {
    if (said_.size() < kMostLines) said_.push_back(line);
  };
  auto started = Process::start(loop_, std::move(setup));
  if (!started.ok()) return started.failure();
  process_ = std::move(started.value());
  return {};
}

void Copy::stop(std::chrono::seconds patience) {
  if (process_ != nullptr) (void)process_->stop(patience);
}

std::vector<std::string> Copy::errors(const std::string& target) const {
  std::vector<std::string> lines;
  for (const std::string& line : said_) {
    std::string shown = replaced(line, address_, target);
    if (source_.image().fd() >= 0)
      shown = replaced(shown, source_.image().opened(), source_.image().name());
    const std::string who =
        source_.image().is_stream() ? "nbdupload: standard input: " : "nbdcopy: ";
    lines.push_back(shown.starts_with("nbdcopy:") ? shown : who + shown);
  }
  return lines;
}

std::string Copy::wrong_length() const {
  const bool wrong = source_.image().is_stream() && status() == kWrongLength && !said_.empty();
  return wrong ? "standard input " + said_.front() : "";
}

std::string Copy::failed_at() const {
  constexpr std::string_view kAt = " at offset ";
  for (const std::string& line : said_) {
    const size_t at = line.find(kAt);
    if (at == std::string::npos) continue;
    const size_t begin = at + kAt.size();
    const size_t end = line.find_first_not_of("0123456789", begin);
    if (end != std::string::npos && end > begin && line.compare(end, 7, " failed") == 0)
      return " near byte " + line.substr(begin, end - begin);
  }
  return "";
}

}  // namespace nbdupload
