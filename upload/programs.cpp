// SPDX-License-Identifier: BSD-3-Clause
//
// A program that is missing is told with the package that has it, before anything begins.

#include "programs.h"

#include <sys/stat.h>

#include <string_view>

#include "look.h"
#include "process.h"

namespace nbdupload {

namespace {

// The value of "KEY=VALUE", a line of it; empty: there is none.
std::string value_in(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    if (line.starts_with(key) && line.substr(key.size()).starts_with("="))
      return std::string(line.substr(key.size() + 1));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
  }
  return "";
}

bool is_file(const std::string& name) {
  struct stat found {};
  return stat(name.c_str(), &found) == 0 && S_ISREG(found.st_mode);
}

}  // namespace

Outcome check_programs(bool needs_qemu_img) {
  struct Needed {
    const char* name;
    const char* advice;
  };
  constexpr Needed kNeeded[] = {
      {"nbdkit", "install nbdkit"},
      {"nbdcopy", "install libnbd's programs (Debian: libnbd-bin)"},
      {"nbdinfo", "install libnbd's programs (Debian: libnbd-bin)"},
      {"qemu-img",
       "install qemu's (Debian: qemu-utils), or say --format=raw if the image is raw"},
  };
  for (const auto& [name, advice] : kNeeded)
    if (!is_in_path(name) && (needs_qemu_img || std::string_view(name) != "qemu-img"))
      return Outcome::failed(std::string(name) + " is not in PATH; " + advice);
  return {};
}

Or<std::string> check_plugin(EventLoop& loop, const std::string& plugin, bool verify) {
  if (plugin.find('/') != std::string::npos && !is_file(plugin))
    return Outcome::failed("--plugin: there is no file '" + plugin + "'");
  Or<Looked> looked = look(loop, {"nbdkit", plugin, "--dump-plugin"});
  if (!looked.ok()) return looked.failure();
  if (looked.value().status != 0)
    return Outcome::failed("nbdkit can't load the plugin '" + plugin +
                           "': " + looked.value().last_words());
  const std::string described = looked.value().output;
  if (value_in(described, "name") != "upload")
    return Outcome::failed("--plugin: '" + plugin + "' is not the upload plugin");
  if (verify) {
    looked = look(loop, {"nbdkit", "--filter=checkwrite", plugin, "--dump-plugin"});
    if (!looked.ok()) return looked.failure();
    if (looked.value().status != 0)
      return Outcome::failed("--verify needs nbdkit's filter checkwrite: " +
                             looked.value().last_words());
  }
  return value_in(described, "upload_version");
}

}  // namespace nbdupload
