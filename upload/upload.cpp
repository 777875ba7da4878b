// SPDX-License-Identifier: BSD-3-Clause
//
// Success is exit statuses alone: nbdcopy's, which ends with a flush, and then nbdkit's.
//
// Verification is a second copy, to a filter that reads back instead of writing and
// compares. Each disk has a new nbdkit for that: its connections are new, so that what it
// reads was not kept for the old ones alone, and what it says of a difference is about that
// disk.

#include "upload.h"

#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/parse.h"
#include "base/redact.h"
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
constexpr std::chrono::seconds kStop{1};
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

std::string bytes(uint64_t size) { return std::to_string(size) + " bytes"; }

}  // namespace

Upload::Upload(EventLoop& loop, Console& console, Options options)
    : loop_(loop),
      console_(console),
      options_(std::move(options)),
      directory_(loop),
      display_(loop, console, disks_) {
  console_.set_quiet(options_.quiet);
}

Upload::~Upload() {
  mute();
  for (Disk& disk : disks_)
    if (disk.copy) disk.copy->stop(kStop);
  for (Disk& disk : disks_)
    if (disk.checksum) disk.checksum->stop(kStop);
  for (Disk& disk : disks_)
    if (disk.reader) (void)disk.reader->stop(kStop);
  if (nbdkit_) (void)nbdkit_->stop(kStop);
  for (Disk& disk : disks_) disk.source.stop(kStop);
}

void Upload::mute() {
  if (nbdkit_) nbdkit_->mute();
  for (Disk& disk : disks_)
    if (disk.reader) disk.reader->mute();
  display_.end();
}

std::string Upload::state() const {
  std::string text;
  for (const Disk& disk : disks_)
    if (disk.state == DiskState::kUploading ||
        (disk.state == DiskState::kUploaded && !disk.complete))
      text += "; " + prefix(disk) + "the disk at " + disk.target.name + " is incomplete";
  return text;
}

ExitStatus Upload::failure_status() const {
  if (!sending_) return kNothingSent;
  const bool all_complete =
      std::all_of(disks_.begin(), disks_.end(), [](const Disk& disk) { return disk.complete; });
  return all_complete ? kUnverified : kIncomplete;
}

std::string Upload::prefix(const Disk& disk) const {
  return disks_.size() > 1 ? disk.source.image().quoted() + ": " : "";
}

Outcome Upload::named(const Disk& disk, const Outcome& outcome) const {
  if (outcome.ending() != Ending::kFailed || disks_.size() == 1 ||
      outcome.text().starts_with(disk.source.image().quoted()))
    return outcome;
  return Outcome::failed(prefix(disk) + outcome.text());
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
  if (Outcome outcome = open_target(); !outcome.ok()) return outcome;
  display_.begin();
  sending_ = true;
  if (Outcome outcome = copy_all(Purpose::kUpload); !outcome.ok()) return outcome;
  if (Outcome outcome = stop_nbdkit(); !outcome.ok()) return outcome;
  if (options_.verify)
    if (Outcome outcome = copy_all(Purpose::kVerify); !outcome.ok()) return outcome;
  return result();
}

// --- Before anything is sent ---------------------------------------------------

Outcome Upload::print_version() {
  if (Outcome outcome = check_programs(true); !outcome.ok()) return outcome;
  Or<std::string> version = check_plugin(loop_, options_.plugin, false);
  if (!version.ok()) return version.failure();
  write_all(STDOUT_FILENO, "nbdupload " + version.value() + "\n");
  return {};
}

// What goes where; without --map and --list the first two words say it.
Or<std::vector<Pair>> Upload::pairs() {
  std::vector<Pair> pairs;
  if (!options_.has_list()) {
    if (options_.words.empty()) return Outcome::usage("IMAGE and URL are missing");
    if (options_.words.size() == 1) return Outcome::usage("URL is missing");
    pairs.push_back({options_.words[0], options_.words[1], "", true});
    return pairs;
  }
  for (const std::string& map : options_.maps) {
    Or<Pair> pair = parse_map(map);
    if (!pair.ok()) return pair.failure();
    pairs.push_back(std::move(pair.value()));
  }
  if (options_.list.empty()) return pairs;
  Or<std::vector<Pair>> listed = read_list(options_.list);
  if (!listed.ok()) return listed.failure();
  pairs.insert(pairs.end(), listed.value().begin(), listed.value().end());
  return pairs;
}

Outcome Upload::add_disk(const Pair& pair, bool several) {
  const std::string& format = pair.format.empty() ? options_.format : pair.format;
  if (Outcome outcome = check_format(format); !outcome.ok()) return outcome;
  Or<Image> image = Image::from_argument(pair, format, stream_size_);
  if (!image.ok()) return image.failure();
  Or<Target> target = Target::from_argument(loop_, pair.url);
  if (!target.ok()) return target.failure();
  target.value().image = image.value().quoted();
  const std::string id = several ? std::to_string(disks_.size() + 1) : "";
  disks_.emplace_back(Source(loop_, console_, directory_, std::move(image.value()), format, id),
                      std::move(target.value()));
  return {};
}

// Standard input is read once, by whoever copies it.
Outcome Upload::check_stream() {
  const auto streams = std::count_if(disks_.begin(), disks_.end(), [](const Disk& disk) {
    return disk.source.image().is_stream();
  });
  if (streams == 0 && stream_size_)
    return Outcome::usage("--size is that of standard input, and IMAGE is not '-'");
  if (streams > 1) return Outcome::usage("IMAGE is '-' more than once");
  if (streams > 0 && options_.verify && !options_.checksum)
    return Outcome::usage(
        "--verify reads the image once more, which standard input can't be; say "
        "--verify=checksum");
  for (Disk& disk : disks_)
    if (options_.checksum) disk.source.check_stream();
  if (streams > 0 && options_.zero_rest)
    return Outcome::usage("--zero-rest: not with standard input");
  return {};
}

Outcome Upload::check_arguments() {
  if (Outcome outcome = check_format(options_.format); !outcome.ok()) return outcome;
  if (!options_.size.empty()) {
    stream_size_ = upload::parse_size(options_.size);
    if (stream_size_.value_or(0) == 0)
      return Outcome::usage("--size: '" + options_.size + "' is not a size, such as 10G");
  }
  Or<std::vector<Pair>> all = pairs();
  if (!all.ok()) return all.failure();
  for (const Pair& pair : all.value())
    if (Outcome outcome = add_disk(pair, all.value().size() > 1); !outcome.ok()) return outcome;
  if (Outcome outcome = check_stream(); !outcome.ok()) return outcome;
  for (size_t i = options_.has_list() ? 0 : 2; i < options_.words.size(); ++i)
    if (Outcome outcome = parameters_.add(loop_, options_.words[i]); !outcome.ok())
      return outcome;
  return display_.choose(options_.progress, options_.progress_fd, options_.verbose);
}

Outcome Upload::prepare() {
  if (Outcome outcome = directory_.make(); !outcome.ok()) return outcome;
  bool detects = false;
  std::vector<Target*> targets;
  for (Disk& disk : disks_) {
    if (Outcome outcome = disk.source.open(); !outcome.ok()) return outcome;
    detects = detects || disk.source.format().empty();
    targets.push_back(&disk.target);
  }
  if (Outcome outcome = check_programs(detects); !outcome.ok()) return outcome;
  Or<std::string> version =
      check_plugin(loop_, options_.plugin, options_.verify && !options_.checksum);
  if (!version.ok()) return version.failure();
  const NbdkitSetup setup{options_.plugin, options_.filters, options_.rate, options_.verbose};
  nbdkit_.emplace(loop_, console_, directory_, setup, parameters_, std::move(targets), "");
  for (Disk& disk : disks_)
    if (Outcome outcome = disk.source.inspect(); !outcome.ok()) return outcome;
  return {};
}

// What reads the open image gets it opened.
void Upload::print_command(const Disk& disk, const std::vector<std::string>& words) const {
  std::string line = upload::redacted(quoted_words(words));
  const Image& image = disk.source.image();
  if (image.fd() >= 0 && line.find(image.opened()) != std::string::npos)
    line += " " + std::to_string(image.fd()) + "<" + quoted_word(image.path());
  line = replaced(line, directory_.file(""), directory_.shown_file(""));
  write_all(STDOUT_FILENO, line + "\n");
}

void Upload::print_commands() {
  write_all(STDOUT_FILENO,
            "# What is secret is left out here; it is given to nbdkit by pipes.\n");
  for (const Disk& disk : disks_)
    for (const auto& words : disk.source.servers()) print_command(disk, words);
  print_command(disks_[0], nbdkit_->shown_words(Purpose::kUpload));
  const auto copy_words = [&](const Disk& disk, const Nbdkit& nbdkit, size_t index, Purpose why) {
    return Copy::words(disk.source, nbdkit.address(index), why, copy_setup(),
                       options_.progress_fd);
  };
  for (size_t i = 0; i < disks_.size(); ++i)
    print_command(disks_[i], copy_words(disks_[i], *nbdkit_, i, Purpose::kUpload));
  if (options_.checksum)
    write_all(STDOUT_FILENO, "# Then the servers are asked for checksums, to compare them.\n");
  if (!options_.verify || options_.checksum) return;
  for (Disk& disk : disks_) {
    make_reader(disk);
    print_command(disk, disk.reader->shown_words(Purpose::kVerify));
    print_command(disk, copy_words(disk, *disk.reader, 0, Purpose::kVerify));
  }
}

void Upload::show_command(const std::vector<std::string>& words) {
  if (options_.verbose && !words.empty())
    console_.say("starting " + upload::redacted(quoted_words(words)));
}

Outcome Upload::open_target() {
  std::vector<uint64_t> sizes;
  for (Disk& disk : disks_) {
    for (const auto& words : disk.source.servers()) show_command(words);
    if (Outcome outcome = disk.source.serve(); !outcome.ok()) return outcome;
    sizes.push_back(disk.source.size());
  }
  show_command(nbdkit_->shown_words(Purpose::kUpload));
  if (Outcome outcome = nbdkit_->open(sizes); !outcome.ok()) return outcome;
  for (size_t i = 0; i < disks_.size(); ++i)
    if (Outcome outcome = check_target(i); !outcome.ok()) return named(disks_[i], outcome);
  return {};
}

Or<TargetFacts> Upload::ask_target(size_t index) {
  const std::string& target = disks_[index].target.name;
  Or<Looked> looked =
      look(loop_, {"nbdinfo", "--json", "--no-content", "--", nbdkit_->address(index)});
  if (!looked.ok()) return looked.failure();
  if (looked.value().status != 0)
    return Outcome::failed("nothing was sent to " + target + ": " + looked.value().last_words());
  const auto facts = parse_target_facts(looked.value().output);
  if (!facts) return Outcome::failed("the size of " + target + " is no number");
  return *facts;
}

Outcome Upload::check_target(size_t index) {
  Disk& disk = disks_[index];
  Or<TargetFacts> facts = ask_target(index);
  if (!facts.ok()) return facts.failure();
  if (facts.value().size < disk.source.size())
    if (Outcome outcome = cut_rounding(disk, facts.value().size); !outcome.ok()) return outcome;
  if (Outcome outcome = check_size(disk, facts.value()); !outcome.ok()) return outcome;
  if (facts.value().read_only) return Outcome::failed(disk.target.name + " is read-only");
  if (!options_.checksum) return {};
  // A checksum is that of a whole disk.
  if (facts.value().size != disk.source.size())
    return Outcome::failed("--verify=checksum: " + disk.target.name + " is larger than " +
                           disk.source.image().quoted() + "; --zero-rest makes the rest zero");
  return check_checksums(loop_, disk.target, parameters_);
}

// A vpc image is as large as its geometry says, which is rounded up by less than a cylinder.
Outcome Upload::cut_rounding(Disk& disk, uint64_t size) {
  Source& source = disk.source;
  const uint64_t more = source.size() - size;
  if (source.format() != "vpc" || more >= kCylinder) return {};
  Or<bool> zero = source.is_zero_behind(size);
  if (!zero.ok()) return zero.failure();
  if (!zero.value()) return {};
  console_.remark("the last " + bytes(more) + " of " + source.image().quoted() +
                  ", which are zero, are left out: the vpc format rounds sizes up");
  return source.resize(size);
}

Outcome Upload::zero_rest(Disk& disk, const TargetFacts& target) {
  console_.remark(prefix(disk) + "the last " + std::to_string(target.size - disk.source.size()) +
                  " of " + bytes(target.size) + " of " + disk.target.name + " are made zero");
  return disk.source.resize(target.size);
}

Outcome Upload::check_size(Disk& disk, const TargetFacts& target) {
  const std::string& name = disk.target.name;
  const uint64_t size = disk.source.size();
  const std::string has = disk.source.image().quoted() + " has " + bytes(size);
  if (target.size < size)
    return Outcome::failed(has + ", more than the " + std::to_string(target.size) + " of " +
                           name);
  const uint64_t more = target.size - size;
  if (more > 0 && options_.zero_rest) return zero_rest(disk, target);
  if (more >= kBlock && !options_.allow_larger)
    return Outcome::failed(
        has + ", less than the " + std::to_string(target.size) + " of " + name +
        "; --allow-larger leaves the rest as it is, --zero-rest makes it zero");
  // nbdcopy does not fill up the last block.
  const std::string least = std::to_string(target.least_block);
  if (size % target.least_block != 0)
    return Outcome::failed(has + ", and " + name + " takes whole blocks of " + least +
                           ": 'truncate -s %" + least + "' makes the image longer by zeroes");
  if (more > 0)
    console_.say("warning: " + prefix(disk) + "the last " + std::to_string(more) + " of " +
                 bytes(target.size) + " of " + name + " are left as they are");
  return {};
}

// --- Copying ---------------------------------------------------------------------

Outcome Upload::copy_all(Purpose purpose) {
  const DiskState ready =
      purpose == Purpose::kUpload ? DiskState::kWaiting : DiskState::kUploaded;
  for (Disk& disk : disks_)
    if (disk.state == ready) disk.progress = Progress(disk.source.size(), {});
  display_.begin_copies();
  size_t next = 0;
  for (;;) {
    const auto is_copying = [](const Disk& disk) { return is_running(disk.state); };
    while (next < disks_.size() &&
           std::count_if(disks_.begin(), disks_.end(), is_copying) < options_.jobs) {
      const size_t index = next++;
      if (disks_[index].state != ready) continue;
      if (Outcome outcome = start_copy(index, purpose); !outcome.ok()) return outcome;
    }
    if (std::none_of(disks_.begin(), disks_.end(), is_copying)) return {};
    const auto has_ended = [](const Disk& disk) {
      return is_running(disk.state) && disk.has_ended();
    };
    const EventLoop::End end =
        loop_.run([&] { return std::any_of(disks_.begin(), disks_.end(), has_ended); });
    if (end == EventLoop::End::kStopped) return Outcome::stopped();
    for (Disk& disk : disks_)
      if (has_ended(disk))
        if (Outcome outcome = end_copy(disk, purpose); !outcome.ok()) return outcome;
  }
}

CopySetup Upload::copy_setup() const {
  return {options_.target_is_zero, disks_.size() > 1, parameters_.write_back()};
}

void Upload::make_reader(Disk& disk) {
  const NbdkitSetup setup{options_.plugin, options_.filters, options_.rate, options_.verbose};
  const auto index = static_cast<size_t>(
      std::find_if(disks_.begin(), disks_.end(), [&](const Disk& one) { return &one == &disk; }) -
      disks_.begin());
  // A single disk's nbdkit is the second of its name.
  const std::string id = disks_.size() > 1 ? "-" + std::to_string(index + 1) : "";
  disk.reader.emplace(loop_, console_, directory_, setup, parameters_,
                      std::vector<Target*>{&disk.target}, id);
  disk.reader->know(nbdkit_->said());
}

// A disk that can't be read back has failed; that does not end nbdupload.
Outcome Upload::start_reader(Disk& disk) {
  make_reader(disk);
  show_command(disk.reader->shown_words(Purpose::kVerify));
  Or<bool> started = disk.reader->start(Purpose::kVerify);
  if (!started.ok()) return started.failure();
  if (!started.value()) fail(disk, "verification failed: " + disk.reader->reason());
  return {};
}

Outcome Upload::start_copy(size_t index, Purpose purpose) {
  Disk& disk = disks_[index];
  if (purpose == Purpose::kVerify && options_.checksum) return start_checksum(disk);
  if (purpose == Purpose::kVerify) {
    if (Outcome outcome = start_reader(disk); !outcome.ok()) return outcome;
    if (disk.state == DiskState::kFailed) return {};
  }
  const std::string address =
      purpose == Purpose::kUpload ? nbdkit_->address(index) : disk.reader->address(0);
  disk.state = purpose == Purpose::kUpload ? DiskState::kUploading : DiskState::kVerifying;
  disk.progress = Progress(disk.source.size(), EventLoop::Clock::now());
  if (display_.is_read() && purpose == Purpose::kUpload)
    console_.say("uploading " + disk.source.image().quoted() + " (" + disk.source.format() +
                 ", " + bytes(disk.source.size()) + ") to " + disk.target.name);
  show_command(Copy::words(disk.source, address, purpose, copy_setup(), options_.progress_fd));
  disk.copy.emplace(loop_, disk.source, address, purpose, copy_setup(), progress_handler(disk));
  return disk.copy->start();
}

std::function<void(int)> Upload::progress_handler(Disk& disk) {
  if (!display_.is_shown()) return {};
  return [this, &disk](int percent) {
    disk.progress.set_percent(percent, EventLoop::Clock::now());
    display_.changed(disk);
  };
}

Outcome Upload::start_checksum(Disk& disk) {
  disk.state = DiskState::kVerifying;
  disk.progress = Progress(disk.source.size(), EventLoop::Clock::now());
  const bool streamed = disk.source.image().is_stream();
  disk.checksum.emplace(loop_, disk.source, disk.target, parameters_,
                        streamed ? disk.copy->checksum() : "", progress_handler(disk));
  return disk.checksum->start();
}

Outcome Upload::end_copy(Disk& disk, Purpose purpose) {
  if (disk.checksum) {
    end_checksum(disk);
    return {};
  }
  disk.copy->finish_progress();
  if (purpose == Purpose::kVerify) return end_verification(disk);
  disk.took = disk.progress.elapsed(EventLoop::Clock::now());
  end_upload(disk);
  return {};
}

void Upload::end_upload(Disk& disk) {
  const int status = disk.copy->status();
  if (status == 0) {
    disk.state = DiskState::kUploaded;
    display_.changed(disk);
    return;
  }
  if (const std::string wrong = disk.copy->wrong_length(); !wrong.empty()) {
    fail(disk, wrong + "; the disk at " + disk.target.name + " is incomplete");
    return;
  }
  show_copy_errors(disk);
  if (status > 128)
    console_.say(prefix(disk) + disk.copy->program() + " was ended by " +
                 signal_name(status - 128));
  const std::string spool = parameters_.spool();
  fail(disk, "the upload failed; the disk at " + disk.target.name + " is incomplete" +
                 (spool.empty() ? "" : "; what could not be sent is kept in " + spool));
}

Outcome Upload::end_verification(Disk& disk) {
  const std::string& target = disk.target.name;
  if (disk.reader->stop(kStop) == EventLoop::End::kStopped) return Outcome::stopped();
  if (disk.copy->status() == 0) {
    disk.state = DiskState::kDone;
    summarize(disk);
  } else if (disk.reader->said().mismatch()) {
    fail(disk, "verification failed: the disk at " + target + " differs from " +
                   disk.source.image().quoted() + disk.copy->failed_at());
  } else {
    show_copy_errors(disk);
    fail(disk, "verification failed: " + target + " could not be read back");
  }
  return {};
}

void Upload::end_checksum(Disk& disk) {
  disk.checksum->finish_progress();
  if (const std::string difference = disk.checksum->difference(); !difference.empty()) {
    fail(disk, "verification failed: " + difference);
    return;
  }
  disk.state = DiskState::kDone;
  summarize(disk);
}

// With one disk that is what nbdupload ends with; of several it is said at once.
void Upload::fail(Disk& disk, const std::string& why) {
  disk.state = DiskState::kFailed;
  disk.why = why;
  if (disks_.size() > 1) console_.say(prefix(disk) + why);
  display_.ended(disk);
}

void Upload::show_copy_errors(const Disk& disk) {
  for (const std::string& line : disk.copy->errors(disk.target.name)) console_.line(line);
}

// After that all that was to arrive has arrived.
Outcome Upload::stop_nbdkit() {
  const auto is_uploaded = [](const Disk& disk) { return disk.state == DiskState::kUploaded; };
  const bool any = std::any_of(disks_.begin(), disks_.end(), is_uploaded);
  if (nbdkit_->stop(any ? kStopPatiently : kStop) == EventLoop::End::kStopped)
    return Outcome::stopped();
  for (Disk& disk : disks_) {
    if (!is_uploaded(disk)) continue;
    if (nbdkit_->status() != 0) {
      fail(disk, "nbdkit ended with status " + std::to_string(nbdkit_->status()) +
                     "; the disk at " + disk.target.name + " may be incomplete");
      continue;
    }
    disk.complete = true;
    if (!options_.verify) {
      disk.state = DiskState::kDone;
      summarize(disk);
    }
  }
  return {};
}

// --- After it --------------------------------------------------------------------

void Upload::summarize(const Disk& disk) {
  const double seconds = std::max<double>(static_cast<double>(disk.took.count()), 1);
  const auto size = static_cast<double>(disk.source.size());
  const Statistics& sent = nbdkit_->statistics(disk.target);
  const std::string text =
      disk.source.image().quoted() + ": " + shown_bytes(size) + " in " + shown_time(disk.took) +
      ", " + shown_bytes(size / seconds) + "/s" + (sent.empty() ? "" : ", " + sent.summary()) +
      (parameters_.claims() ? ", claimed" : "") + (options_.verify ? ", verified" : "");
  note(text);
  display_.ended(disk);
}

void Upload::tell_statistics() {
  for (const Disk& disk : disks_)
    for (const std::string& line : nbdkit_->statistics(disk.target).lines())
      console_.say(prefix(disk) + line);
}

// For those who read what is said, and for the log.
void Upload::note(const std::string& text) {
  if (display_.is_read())
    console_.remark(text);
  else
    console_.log("nbdupload: " + text);
}

Outcome Upload::result() {
  const bool read = display_.is_read();
  display_.finish();
  if (options_.stats) tell_statistics();
  const auto failed =
      static_cast<size_t>(std::count_if(disks_.begin(), disks_.end(), [](const Disk& disk) {
        return disk.state == DiskState::kFailed;
      }));
  if (failed == 0) {
    const char* const identical =
        disks_.size() > 1 ? "; the copies are identical" : "; the copy is identical";
    if (read) console_.say(std::string("done") + (options_.verify ? identical : ""));
    return {};
  }
  if (disks_.size() == 1) return Outcome::failed(disks_[0].why);
  return Outcome::failed(std::to_string(failed) + " of " + std::to_string(disks_.size()) +
                         " disks failed");
}

}  // namespace nbdupload
