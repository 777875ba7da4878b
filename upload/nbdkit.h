// SPDX-License-Identifier: BSD-3-Clause
//
// Nbdkit: the nbdkit with the upload plugin, which is the target of the copy.
//
// What it says is shown as it happens, but for what it says while it starts: that is shown
// when it is known whether it has started, since its error may be the reason of the end.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "console.h"
#include "event_loop.h"
#include "outcome.h"
#include "parameters.h"
#include "private_directory.h"
#include "process.h"
#include "said.h"
#include "statistics.h"
#include "target.h"

namespace nbdupload {

enum class Purpose { kUpload, kVerify };

// How nbdkit is run, besides the plugin's parameters.
struct NbdkitSetup {
  std::string plugin;                // a name or a file
  std::vector<std::string> filters;  // names, the outermost first
  std::string rate;                  // bits a second, as its filter takes them; empty: no limit
  bool verbose = false;
};

class Nbdkit {
 public:
  // Serves one target, or several as exports. All references and targets outlive it. `id`
  // tells its files in the directory from others.
  Nbdkit(EventLoop& loop, Console& console, const PrivateDirectory& directory, NbdkitSetup setup,
         const Parameters& parameters, std::vector<Target*> targets, std::string id);

  // Starts it, and waits until it serves. False: it has ended instead; reason() tells why.
  [[nodiscard]] Or<bool> start(Purpose purpose);
  // Starts it for an upload of images of these sizes, which the plugin is told if neither the
  // server nor the user tells the sizes of the disks. Nothing was sent if that fails.
  [[nodiscard]] Outcome open(const std::vector<uint64_t>& sizes);

  // As Process::stop(); the exit status is 0 if it had ended well or was not running.
  EventLoop::End stop(std::chrono::seconds patience);
  [[nodiscard]] int status() const { return status_; }

  // Shows nothing more of what it says: nbdupload is ending, and it will complain.
  void mute();
  // Shows what it has said and was not shown yet.
  void relay();

  [[nodiscard]] const NbdkitSaid& said() const { return said_; }
  // What an upload has sent to that target, which is one of its own; once it has ended.
  [[nodiscard]] const Statistics& statistics(const Target& target) const;
  // What another one has said while it started is not shown again.
  void know(const NbdkitSaid& said) { said_ = said; }
  [[nodiscard]] std::string reason() const;
  // What nbdcopy is given for that target.
  [[nodiscard]] std::string address(size_t target) const;
  // For a dry run: its words, with what may be shown in the place of secrets.
  [[nodiscard]] std::vector<std::string> shown_words(Purpose purpose) const;

 private:
  [[nodiscard]] std::vector<std::string> first_words(Purpose purpose) const;
  [[nodiscard]] std::string file(const char* suffix) const;
  [[nodiscard]] Outcome add_secret(const std::string& key, const std::string& secret,
                                   Process::Setup& setup, std::vector<FileDescriptor>& pipes);
  [[nodiscard]] Outcome spawn(Purpose purpose);
  [[nodiscard]] Outcome unsent();
  void take(const std::string& line);
  [[nodiscard]] bool take_counts(const std::string& line);
  [[nodiscard]] std::string with_names(std::string line) const;

  EventLoop& loop_;
  Console& console_;
  const PrivateDirectory& directory_;
  const NbdkitSetup setup_;
  const Parameters& parameters_;
  const std::vector<Target*> targets_;
  const std::string id_;
  NbdkitSaid said_;
  std::vector<Statistics> statistics_;  // one of each target
  bool live_ = false, muted_ = false;
  int status_ = 0;
  std::map<std::string, std::string> urls_;  // by "url=-N", what may be shown of them
  std::unique_ptr<Process> process_;
};

}  // namespace nbdupload
