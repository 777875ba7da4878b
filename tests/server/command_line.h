// SPDX-License-Identifier: BSD-3-Clause
//
// The command line of upload-server.

#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "fault.h"
#include "options.h"

namespace upload::testserver {

struct CommandLine {
  ServerOptions server{};
  std::vector<TicketOptions> tickets{};
  std::vector<Fault> faults{};
  std::string cert_dir{};
  std::string port_file{};
  std::string stable_dir{};
  bool stats = false;
  bool help = false;
};

/// What was wrong, one line for each problem.
using Problems = std::vector<std::string>;

[[nodiscard]] std::variant<CommandLine, Problems> parse_command_line(int argc, char** argv);

[[nodiscard]] std::string_view help_text();

}  // namespace upload::testserver
