// SPDX-License-Identifier: BSD-3-Clause
//
// nbdupload: sends a disk image to an HTTPS upload server.
//
//   IMAGE --nbdcopy--> nbdkit with the upload plugin --HTTPS--> server
//
// It makes neither the disk at the server, nor does it resume an upload. Everything about
// HTTP is the plugin's, replay included.

#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <optional>
#include <utility>

#include "console.h"
#include "event_loop.h"
#include "exit_status.h"
#include "iso_look.h"
#include "nbd_look.h"
#include "options.h"
#include "process.h"
#include "server_request.h"
#include "source_digest.h"
#include "stream.h"
#include "trampoline.h"
#include "upload.h"

namespace nbdupload {

namespace {

// A core file would hold the secrets. Programs speak English, which is looked for in what
// they say.
void set_up_process() {
  rlimit limit{};
  if (getrlimit(RLIMIT_CORE, &limit) == 0) {
    limit.rlim_cur = 0;
    setrlimit(RLIMIT_CORE, &limit);
  }
  setenv("LC_ALL", "C", 1);
}

// Ends as everything does that a signal ends, so that a script that has called nbdupload is
// told of it: as a shell sees it, with 128 + signal.
[[noreturn]] void end_by(int stop_signal) {
  signal(stop_signal, SIG_DFL);
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, stop_signal);
  raise(stop_signal);
  sigprocmask(SIG_UNBLOCK, &mask, nullptr);
  _exit(kIncomplete);
}

int run(int argc, char** argv) {
  set_up_process();
  Console console;
  EventLoop loop;
  Or<Options> options = parse_options(argc, argv);
  Outcome outcome = options.ok() ? Outcome() : options.failure();
  ExitStatus failure_status = kNothingSent;
  if (options.ok()) {
    if (options.value().help) {
      write_all(STDOUT_FILENO, kUsage);
      return kAllGood;
    }
    Upload upload(loop, console, std::move(options.value()));
    outcome = upload.run();
    loop.ignore_signals();
    if (outcome.ending() == Ending::kStopped) {
      upload.mute();
      console.say("stopped by " + signal_name(loop.stop_signal()) + upload.state());
    }
    failure_status = upload.failure_status();
  }
  switch (outcome.ending()) {
    case Ending::kGood: return kAllGood;
    case Ending::kFailed: console.say(outcome.text()); return failure_status;
    case Ending::kUsage:
      console.say(outcome.text() + "; see nbdupload --help");
      return kUsageError;
    case Ending::kStopped: end_by(loop.stop_signal());
  }
  return kIncomplete;
}

}  // namespace

}  // namespace nbdupload

int main(int argc, char** argv) {
  nbdupload::run_trampoline(argc, argv);
  nbdupload::run_nbd_look(argc, argv);
  nbdupload::run_stream(argc, argv);
  nbdupload::run_digest(argc, argv);
  nbdupload::run_iso_look(argc, argv);
  nbdupload::run_request(argc, argv);
  return nbdupload::run(argc, argv);
}
