// SPDX-License-Identifier: BSD-3-Clause
//
// Success is exit statuses alone: nbdcopy's, which ends with a flush, and then nbdkit's.
//
// Verification is a second copy, to a filter that reads back instead of writing and
// compares. It has a new nbdkit with new connections, so that what it reads was not kept for
// the old ones alone.

#include "upload.h"

#include <unistd.h>

#include <cstdlib>
#include <string_view>
#include <utility>

#include "dry_run.h"
#include "look.h"
#include "process.h"
#include "programs.h"
#include "said.h"

namespace nbdupload {

namespace {

constexpr std::string_view kFormats[] = {"raw",  "qcow2", "qcow", "qed",      "vmdk",
                                         "vhdx", "vpc",   "vdi",  "parallels"};
// Disks are made in whole blocks, so a target may be that much longer. In bytes.
constexpr uint64_t kBlock = 4096;
// The largest that a vpc image can have: 16 heads of 255 sectors. In bytes.
constexpr uint64_t kCylinder = uint64_t{16} * 255 * 512;
// What is told to end gets so long before it is killed.
constexpr std::chrono::seconds kStop{2};
// nbdkit waits until requests that have failed can't be applied by the server any more
// (timeout=, 300 seconds for Azure): worth it only if the upload is to count.
constexpr std::chrono::seconds kStopPatiently{900};

Outcome check_format(const std::string& format) {
  std::string known;
  for (const std::string_view name : kFormats) {
    if (format == name) return {};
    known += (known.empty() ? "" : " ") + std::string(name);
  }
  if (format.empty()) return {};
  return Outcome::usage("--format: unknown format '" + format + "'; known: " + known);
}

bool is_terminal() {
  const char* type = getenv("TERM");
  return isatty(STDERR_FILENO) != 0 && (type == nullptr || std::string_view(type) != "dumb");
}

std::string bytes(uint64_t size) { return std::to_string(size) + " bytes"; }

}  // namespace

Upload::Upload(EventLoop& loop, Console& console, Options options)
    : loop_(loop), console_(console), options_(std::move(options)), directory_(loop) {
  console_.set_quiet(options_.quiet);
}

Upload::~Upload() {
  mute();
  if (copy_) copy_->stop(kStop);
  if (nbdkit_) (void)nbdkit_->stop(kStop);
  if (source_) source_->stop(kStop);
  console_.set_footer(nullptr);
}

void Upload::mute() {
  if (nbdkit_) nbdkit_->mute();
  loop_.set_ticker(std::chrono::milliseconds(0), {});
  console_.set_footer(nullptr);
}

std::string Upload::state() const {
  return sending_ ? "; the disk at " + parameters_.target() + " is incomplete" : "";
}

Outcome Upload::run() {
  if (options_.version) return print_version();
  if (!options_.log.empty() && !console_.open_log(options_.log))
    return Outcome::failed("--log: '" + options_.log + "' can't be opened for writing");
  if (Outcome outcome = check_arguments(); !outcome.ok()) return outcome;
  if (Outcome outcome = prepare(); !outcome.ok()) return outcome;
  if (options_.dry_run) {
    print_commands();
    return {};
  }
  show_command(source_->server_words());
  if (Outcome outcome = source_->serve(); !outcome.ok()) return outcome;
  show_command(nbdkit_->shown_words(Purpose::kUpload));
  if (Outcome outcome = nbdkit_->open(source_->size()); !outcome.ok()) return outcome;
  if (Outcome outcome = check_target(); !outcome.ok()) return outcome;
  set_up_display();
  if (Outcome outcome = send(); !outcome.ok()) return outcome;
  if (options_.verify)
    if (Outcome outcome = verify(); !outcome.ok()) return outcome;
  if (bars_) {
    bars_->leave();
    console_.say(std::string("done") + (options_.verify ? "; the copy is identical" : ""));
  }
  return {};
}

// --- Before anything is sent ---------------------------------------------------

Outcome Upload::print_version() {
  if (Outcome outcome = check_programs(true); !outcome.ok()) return outcome;
  Or<std::string> version = check_plugin(loop_, options_.plugin, false);
  if (!version.ok()) return version.failure();
  write_all(STDOUT_FILENO, "nbdupload " + version.value() + "\n");
  return {};
}

Outcome Upload::check_arguments() {
  if (Outcome outcome = check_format(options_.format); !outcome.ok()) return outcome;
  if (options_.positional == 0) return Outcome::usage("IMAGE and URL are missing");
  if (options_.positional == 1) return Outcome::usage("URL is missing");
  Or<Image> image = Image::from_argument(options_.image, options_.format);
  if (!image.ok()) return image.failure();
  image_ = std::move(image.value());
  if (Outcome outcome = parameters_.set_url(loop_, options_.url); !outcome.ok()) return outcome;
  for (const std::string& argument : options_.parameters)
    if (Outcome outcome = parameters_.add(loop_, argument); !outcome.ok()) return outcome;
  return progress_fd_.open(options_.progress_fd);
}

Outcome Upload::prepare() {
  if (Outcome outcome = directory_.make(); !outcome.ok()) return outcome;
  if (!image_->is_uri())
    if (Outcome outcome = image_->open(); !outcome.ok()) return outcome;
  if (Outcome outcome = check_programs(options_.format.empty()); !outcome.ok()) return outcome;
  Or<std::string> version = check_plugin(loop_, options_.plugin, options_.verify);
  if (!version.ok()) return version.failure();
  source_.emplace(loop_, console_, directory_, std::move(*image_), options_.format, "");
  image_.reset();
  const NbdkitSetup setup{options_.plugin, options_.filters, options_.rate, options_.verbose};
  nbdkit_.emplace(loop_, console_, directory_, setup, parameters_);
  return source_->inspect();
}

// What reads the open image gets it opened.
void Upload::print_command(const std::vector<std::string>& words) const {
  std::string line = quoted_words(words);
  const Image& image = source_->image();
  if (!image.is_uri() && line.find(image.opened()) != std::string::npos)
    line += " " + std::to_string(image.fd()) + "<" + quoted_word(image.path());
  line = replaced(line, directory_.file(""), directory_.shown_file(""));
  write_all(STDOUT_FILENO, line + "\n");
}

void Upload::print_commands() {
  write_all(STDOUT_FILENO,
            "# What is secret is left out here; it is given to nbdkit by pipes.\n");
  if (const auto words = source_->server_words(); !words.empty()) print_command(words);
  const auto print_copy = [&](Purpose purpose) {
    print_command(nbdkit_->shown_words(purpose));
    print_command(
        Copy::words(*source_, *nbdkit_, purpose, options_.target_is_zero, options_.progress_fd));
  };
  print_copy(Purpose::kUpload);
  if (options_.verify) print_copy(Purpose::kVerify);
}

void Upload::show_command(const std::vector<std::string>& words) {
  if (options_.verbose && !words.empty()) console_.say("starting " + quoted_words(words));
}

Or<TargetFacts> Upload::ask_target() {
  Or<Looked> looked =
      look(loop_, {"nbdinfo", "--json", "--no-content", "--", nbdkit_->address()});
  if (!looked.ok()) return looked.failure();
  const std::string target = parameters_.target();
  if (looked.value().status != 0)
    return Outcome::failed("nothing was sent to " + target + ": " + looked.value().last_words());
  const auto facts = parse_target_facts(looked.value().output);
  if (!facts) return Outcome::failed("the size of " + target + " is no number");
  return *facts;
}

Outcome Upload::check_target() {
  Or<TargetFacts> facts = ask_target();
  if (!facts.ok()) return facts.failure();
  if (facts.value().size < source_->size()) {
    if (Outcome outcome = cut_rounding(facts.value().size); !outcome.ok()) return outcome;
  }
  if (Outcome outcome = check_size(facts.value()); !outcome.ok()) return outcome;
  if (facts.value().read_only) return Outcome::failed(parameters_.target() + " is read-only");
  return {};
}

// A vpc image is as large as its geometry says, which is rounded up by less than a cylinder.
Outcome Upload::cut_rounding(uint64_t size) {
  const uint64_t more = source_->size() - size;
  if (source_->format() != "vpc" || more >= kCylinder) return {};
  Or<bool> zero = source_->is_zero_behind(size);
  if (!zero.ok()) return zero.failure();
  if (!zero.value()) return {};
  console_.remark("the last " + bytes(more) + " of " + source_->image().quoted() +
                  ", which are zero, are left out: the vpc format rounds sizes up");
  return source_->resize(size);
}

Outcome Upload::zero_rest(const TargetFacts& target) {
  console_.remark("the last " + std::to_string(target.size - source_->size()) + " of " +
                  bytes(target.size) + " of " + parameters_.target() + " are made zero");
  return source_->resize(target.size);
}

Outcome Upload::check_size(const TargetFacts& target) {
  const std::string name = parameters_.target();
  const std::string has = source_->image().quoted() + " has " + bytes(source_->size());
  if (target.size < source_->size())
    return Outcome::failed(has + ", more than the " + std::to_string(target.size) + " of " +
                           name);
  const uint64_t more = target.size - source_->size();
  if (more > 0 && options_.zero_rest) return zero_rest(target);
  if (more >= kBlock && !options_.allow_larger)
    return Outcome::failed(
        has + ", less than the " + std::to_string(target.size) + " of " + name +
        "; --allow-larger leaves the rest as it is, --zero-rest makes it zero");
  // nbdcopy does not fill up the last block.
  const std::string least = std::to_string(target.least_block);
  if (source_->size() % target.least_block != 0)
    return Outcome::failed(has + ", and " + name + " takes whole blocks of " + least +
                           ": 'truncate -s %" + least + "' makes the image longer by zeroes");
  if (more > 0)
    console_.say("warning: the last " + std::to_string(more) + " of " + bytes(target.size) +
                 " of " + name + " are left as they are");
  return {};
}

// --- Copying ---------------------------------------------------------------------

void Upload::set_up_display() {
  if (progress_fd_.is_open() || options_.quiet || options_.verbose || !is_terminal()) return;
  shown_.push_back({source_->image().name(), "", {}});
  bars_.emplace(shown_);
  console_.say("uploading " + source_->image().quoted() + " (" + source_->format() + ", " +
               bytes(source_->size()) + ") to " + parameters_.target());
  console_.set_footer(&*bars_);
  loop_.set_ticker(std::chrono::seconds(1), [this] { bars_->draw(); });
}

void Upload::show_progress(int percent) {
  if (progress_fd_.is_open()) progress_fd_.tell(percent);
  if (!bars_) return;
  shown_[0].progress.set_percent(percent, EventLoop::Clock::now());
  bars_->draw();
}

Or<int> Upload::copy(Purpose purpose) {
  const bool wanted = progress_fd_.is_open() || bars_;
  if (bars_)
    shown_[0] = {shown_[0].name, purpose == Purpose::kVerify ? "verifying" : "uploading",
                 Progress(source_->size(), EventLoop::Clock::now())};
  std::function<void(int)> on_progress;
  if (wanted) on_progress = [this](int percent) { show_progress(percent); };
  copy_.emplace(loop_, *source_, *nbdkit_, purpose, options_.target_is_zero,
                std::move(on_progress));
  show_command(
      Copy::words(*source_, *nbdkit_, purpose, options_.target_is_zero, options_.progress_fd));
  if (Outcome outcome = copy_->start(); !outcome.ok()) return outcome;
  if (loop_.run([&] { return copy_->ended(); }) == EventLoop::End::kStopped)
    return Outcome::stopped();
  copy_->finish_progress();
  return copy_->status();
}

void Upload::show_copy_errors() {
  for (const std::string& line : copy_->errors(parameters_.target())) console_.line(line);
}

Outcome Upload::send() {
  const std::string target = parameters_.target();
  sending_ = true;
  Or<int> status = copy(Purpose::kUpload);
  if (!status.ok()) return status.failure();
  if (status.value() != 0) {
    show_copy_errors();
    if (status.value() > 128)
      console_.say("nbdcopy was ended by " + signal_name(status.value() - 128));
    if (nbdkit_->stop(kStop) == EventLoop::End::kStopped) return Outcome::stopped();
    const std::string spool = parameters_.spool();
    return Outcome::failed("the upload failed; the disk at " + target + " is incomplete" +
                           (spool.empty() ? "" : "; what could not be sent is kept in " + spool));
  }
  if (nbdkit_->stop(kStopPatiently) == EventLoop::End::kStopped) return Outcome::stopped();
  if (nbdkit_->status() != 0)
    return Outcome::failed("nbdkit ended with status " + std::to_string(nbdkit_->status()) +
                           "; the disk at " + target + " may be incomplete");
  sending_ = false;
  return {};
}

Outcome Upload::verify() {
  const std::string target = parameters_.target();
  show_command(nbdkit_->shown_words(Purpose::kVerify));
  Or<bool> started = nbdkit_->start(Purpose::kVerify);
  if (!started.ok()) return started.failure();
  if (!started.value()) return Outcome::failed("verification failed: " + nbdkit_->reason());
  Or<int> status = copy(Purpose::kVerify);
  if (!status.ok()) return status.failure();
  if (nbdkit_->stop(kStop) == EventLoop::End::kStopped) return Outcome::stopped();
  if (status.value() == 0) return {};
  if (nbdkit_->said().mismatch())
    return Outcome::failed("verification failed: the disk at " + target + " differs from " +
                           source_->image().quoted() + copy_->failed_at());
  show_copy_errors();
  return Outcome::failed("verification failed: " + target + " could not be read back");
}

}  // namespace nbdupload
