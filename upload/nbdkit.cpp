// SPDX-License-Identifier: BSD-3-Clause
//
// Secrets are on no command line: nbdkit reads each from a pipe, whose number is there
// instead. So is that number in what nbdkit says of it, and is replaced.

#include "nbdkit.h"

#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "base/redact.h"
#include "local_server.h"
#include "secret.h"

namespace nbdupload {

namespace {

// For nbdkit itself: it has kThreads threads for each of nbdcopy's four connections, and each
// may hold one of the largest requests.
constexpr uint64_t kMemory = uint64_t{8} << 30;
// One thread for each of nbdcopy's requests in flight: what waits for a connection can be
// combined, which matters where requests are slow.
constexpr const char* kThreads = "64";
// With write-back a thread waits for room in memory only. Each connection has its sender, and a
// small request of a fragmented image keeps one for as long as the delay is. The server's limit
// may be less.
constexpr const char* kWriteBackThreads = "4";
constexpr const char* kWriteBackConnections = "8";

std::string export_name(size_t target) { return "disk" + std::to_string(target + 1); }

// "KEY=-N: TEXT", where N is a file descriptor: the length of "KEY=-N"; else 0.
size_t descriptor_prefix(const std::string& text) {
  const size_t equals = text.find_first_not_of("abcdefghijklmnopqrstuvwxyz");
  if (equals == 0 || equals == std::string::npos || text.compare(equals, 2, "=-") != 0) return 0;
  const size_t end = text.find_first_not_of("0123456789", equals + 2);
  return end != std::string::npos && end > equals + 2 && text[end] == ':' ? end : 0;
}

// What the first error says without the URL in front of it, as the plugin shows that. A
// server's words come later.
bool says_of_url(std::string error, const std::string& what) {
  // Of one of several it says "export NAME, " first.
  if (error.starts_with("export ")) error.erase(0, std::min(error.find(", "), error.size()));
  if (error.starts_with(", ")) error.erase(0, 2);
  if (!error.starts_with("http://") && !error.starts_with("https://")) return false;
  const size_t end = error.find(' ');
  return end != std::string::npos && error[end - 1] == ':' &&
         error.compare(end + 1, what.size(), what) == 0;
}

}  // namespace

Nbdkit::Nbdkit(EventLoop& loop, Console& console, const PrivateDirectory& directory,
               NbdkitSetup setup, const Parameters& parameters, std::vector<Target*> targets,
               std::string id)
    : loop_(loop),
      console_(console),
      directory_(directory),
      setup_(std::move(setup)),
      parameters_(parameters),
      targets_(std::move(targets)),
      id_(std::move(id)),
      statistics_(targets_.size()) {}

std::string Nbdkit::file(const char* suffix) const {
  return directory_.file("target" + id_ + suffix);
}

std::string Nbdkit::address(size_t target) const {
  const std::string name = targets_.size() > 1 ? export_name(target) : "";
  return "nbd+unix:///" + name + "?socket=" + file(".socket");
}

std::vector<std::string> Nbdkit::first_words(Purpose purpose) const {
  const bool writes_back = purpose == Purpose::kUpload && parameters_.write_back();
  std::vector<std::string> words = {
      "nbdkit",
      "--foreground",
      "--exit-with-parent",
      std::string("--threads=") + (writes_back ? kWriteBackThreads : kThreads),
      "--unix=" + file(".socket"),
      "--pidfile=" + file(".pid")};
  if (setup_.verbose) words.emplace_back("--verbose");
  if (purpose == Purpose::kUpload) words.insert(words.end(), {"-D", "upload.stats=1"});
  if (!setup_.rate.empty()) words.emplace_back("--filter=rate");
  // What reads back has to be the first to see what nbdcopy writes; how much of that goes on at a
  // time is for others to say.
  if (purpose == Purpose::kVerify) words.emplace_back("--filter=checkwrite");
  for (const std::string& filter : setup_.filters) words.push_back("--filter=" + filter);
  words.push_back(setup_.plugin);
  if (!setup_.rate.empty()) words.push_back("rate=" + setup_.rate);
  // Before what the user says, which comes later and counts.
  words.push_back("replay=" + std::to_string(parameters_.default_replay()));
  if (writes_back) {
    words.emplace_back("write-back=true");
    words.push_back(std::string("connections=") + kWriteBackConnections);
  }
  return words;
}

std::vector<std::string> Nbdkit::shown_words(Purpose purpose) const {
  std::vector<std::string> words = first_words(purpose);
  for (const Parameter& parameter : parameters_.list()) words.push_back(parameter.shown);
  for (size_t i = 0; i < targets_.size(); ++i) {
    if (targets_.size() > 1) words.push_back("export=" + export_name(i));
    words.push_back("url=" + targets_[i]->shown);
    if (targets_[i]->size) words.push_back("size=" + std::to_string(*targets_[i]->size));
  }
  return words;
}

Outcome Nbdkit::add_secret(const std::string& key, const std::string& secret,
                           Process::Setup& setup, std::vector<FileDescriptor>& pipes) {
  Or<FileDescriptor> pipe = secret_pipe(key, secret);
  if (!pipe.ok()) return pipe.failure();
  setup.inherited.push_back(pipe.value().get());
  setup.words.push_back(key + "=-" + std::to_string(pipe.value().get()));
  pipes.push_back(std::move(pipe.value()));
  return {};
}

Outcome Nbdkit::spawn(Purpose purpose) {
  Process::Setup setup;
  setup.words = first_words(purpose);
  setup.memory = kMemory + 2 * parameters_.replay();
  setup.own_session = true;
  std::vector<FileDescriptor> pipes;
  for (const Parameter& parameter : parameters_.list()) {
    if (!parameter.secret) {
      setup.words.push_back(parameter.key + "=" + parameter.value);
    } else if (Outcome outcome = add_secret(parameter.key, *parameter.secret, setup, pipes);
               !outcome.ok()) {
      return outcome;
    }
  }
  urls_.clear();
  for (size_t i = 0; i < targets_.size(); ++i) {
    const Target& target = *targets_[i];
    if (targets_.size() > 1) setup.words.push_back("export=" + export_name(i));
    if (Outcome outcome = add_secret("url", target.url, setup, pipes); !outcome.ok())
      return outcome;
    urls_[setup.words.back()] = target.name;
    if (target.size) setup.words.push_back("size=" + std::to_string(*target.size));
  }
  setup.on_error_line = [this](const std::string& line) { take(line); };
  auto started = Process::start(loop_, std::move(setup));
  if (!started.ok()) return started.failure();
  process_ = std::move(started.value());
  return {};
}

// With the image's name in the place of its export's, which the user does not know.
std::string Nbdkit::with_names(std::string line) const {
  if (targets_.size() < 2) return line;
  // The last first, as "disk1" is the beginning of "disk10".
  for (size_t i = targets_.size(); i-- > 0;)
    for (const char* const before : {"export ", "export="})
      line = replaced(std::move(line), before + export_name(i), targets_[i]->image);
  return line;
}

// The plugin names the export, if it is not the only one.
bool Nbdkit::take_counts(const std::string& line) {
  for (size_t i = 0; i < targets_.size(); ++i) {
    std::string before = "nbdkit: upload: ";
    if (targets_.size() > 1) before += "export " + export_name(i) + ": ";
    if (line.starts_with(before)) return statistics_[i].take(line.substr(before.size()));
  }
  return false;
}

const Statistics& Nbdkit::statistics(const Target& target) const {
  const auto found = std::find(targets_.begin(), targets_.end(), &target);
  return statistics_.at(static_cast<size_t>(found - targets_.begin()));
}

void Nbdkit::take(const std::string& line) {
  if (is_debug(line)) {
    if (setup_.verbose && !muted_) console_.line(upload::redacted(line));
    return;
  }
  if (take_counts(line)) return;
  said_.add(line);
  if (live_) relay();
}

void Nbdkit::relay() {
  for (const std::string& line : said_.take_shown()) console_.line(with_names(line));
}

void Nbdkit::mute() {
  live_ = false;
  muted_ = true;
}

Or<bool> Nbdkit::start(Purpose purpose) {
  const std::string pid = file(".pid");
  unlink(pid.c_str());
  unlink(file(".socket").c_str());
  live_ = false;
  said_.begin();
  if (Outcome outcome = spawn(purpose); !outcome.ok()) return outcome;
  // Its process id is written when it can be connected to. How long that takes is the
  // server's business.
  const EventLoop::End end = loop_.run([&] { return has_content(pid) || process_->ended(); });
  if (end == EventLoop::End::kStopped) return Outcome::stopped();
  if (!has_content(pid)) {
    process_.reset();
    return false;
  }
  said_.has_started();
  relay();
  live_ = true;
  return true;
}

std::string Nbdkit::reason() const {
  return said_.first_error().empty() ? said_.last() : said_.first_error();
}

Outcome Nbdkit::open(const std::vector<uint64_t>& sizes) {
  assert(sizes.size() == targets_.size());
  Or<bool> started = start(Purpose::kUpload);
  if (!started.ok()) return started.failure();
  if (started.value()) return {};
  // Some servers do not tell a disk's size, and a disk that is to be created has none.
  const bool creates = says_of_url(said_.first_error(), "create=true needs size=: ");
  if (!creates && !says_of_url(said_.first_error(), "size= is needed: ")) return unsent();
  const bool several = sizes.size() > 1;
  for (size_t i = 0; i < sizes.size(); ++i)
    targets_[i]->size = creates ? (sizes[i] + 511) / 512 * 512 : sizes[i];
  const std::string size = std::to_string(*targets_[0]->size);
  if (creates)
    console_.say(several ? "the disks are created, each as large as its image"
                         : "the disk is created, with " + size + " bytes");
  else if (several)
    console_.say("warning: the server does not tell the size of each disk; taking the images'");
  else
    console_.say("warning: the server does not tell the size of the disk; taking the image's, " +
                 size);
  started = start(Purpose::kUpload);
  if (!started.ok()) return started.failure();
  return started.value() ? Outcome() : unsent();
}

// As a rule nbdkit has given one reason, which may name a file descriptor where the user gave
// a value.
Outcome Nbdkit::unsent() {
  constexpr std::string_view kTheUrl = ": the URL";
  std::string text = reason();
  if (const size_t end = descriptor_prefix(text); end > 0) {
    const std::string rest = text.substr(end);
    const auto url = urls_.find(text.substr(0, end));
    if (url != urls_.end() && rest.starts_with(kTheUrl))
      text = "the URL " + url->second + rest.substr(kTheUrl.size());
    else
      text = text.substr(0, text.find('=')) + "=..." + rest;
  }
  if (said_.errors() == 1) said_.leave_out_first_error();
  relay();
  return Outcome::failed(with_names(text) + "; nothing was sent");
}

EventLoop::End Nbdkit::stop(std::chrono::seconds patience) {
  status_ = 0;
  if (process_ == nullptr) return EventLoop::End::kDone;
  const EventLoop::End end = process_->stop(patience);
  if (end == EventLoop::End::kStopped) return end;
  status_ = process_->status();
  process_.reset();
  return end;
}

}  // namespace nbdupload
