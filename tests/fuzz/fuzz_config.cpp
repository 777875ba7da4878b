// SPDX-License-Identifier: BSD-3-Clause
//
// Whatever parameters are given: they make a configuration that keeps what is promised of
// it, or a failure of one line. The input is lines of KEY=VALUE.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/log.h"
#include "base/redact.h"
#include "fuzz/check.h"
#include "process/config.h"

using namespace upload;
using upload::fuzz::check;

namespace {

bool has_control_characters(const std::string& text) {
  for (const unsigned char c : text)
    if (c < ' ' || c == 0x7f) return true;
  return false;
}

void check_promises(const Config& config) {
  check(config.connections >= 1 && config.connections <= 64);
  check(config.max_request >= 4096 &&
        (config.replay == 0 || config.replay >= config.max_request));
  check(config.idle_timeout > Duration::zero() && config.retry_time > Duration::zero());
  check(config.origin.timeout > Duration::zero());
  check(config.origin.connect_timeout > Duration::zero());
  check(!config.size || (*config.size > 0 && *config.size <= static_cast<uint64_t>(INT64_MAX)));
  check(config.spool.empty() || (config.spool[0] == '/' && config.replay > 0));
  check(config.origin.url.path.size() > 1 && !has_control_characters(config.origin.url.target()));
  // Nothing that ends a header field early.
  for (const std::string& header : config.origin.headers) check(!has_control_characters(header));
  for (const std::string& text : {config.access.user, config.access.password, config.access.token,
                                  config.origin.proxy, config.origin.url.host})
    check(!has_control_characters(text));
}

void check_failure(const Status& status) {
  check(!status.text().empty() && !has_control_characters(log::line(status.text())));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  forget_secrets();
  ConfigParser parser([](const std::string& value) { return Result<std::string>(value); });
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    const size_t equals = line.find('=');
    if (equals == line.npos) continue;
    const std::string key(line.substr(0, equals));
    std::string value(line.substr(equals + 1));
    // Some files under these wait for ever, as they are meant to.
    if (value.find("/dev") != value.npos || value.find("/proc") != value.npos ||
        value.find("/sys") != value.npos)
      continue;
    // nbdkit's parameters are C strings.
    value = value.c_str();
    // nbdkit ends at the first that is wrong.
    if (const Status status = parser.set(key, value); !status.ok()) {
      check_failure(status);
      return 0;
    }
  }
  const Result<Config> config = parser.complete();
  if (config.ok())
    check_promises(config.value());
  else
    check_failure(config.status());
  return 0;
}
