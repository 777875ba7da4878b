// SPDX-License-Identifier: BSD-3-Clause
//
// CLI11 takes the words apart. It throws for what is wrong, which ends here.
//
// An argument may be a secret, so no message has one in it: of an unknown option only its
// name is shown.

#include "options.h"

#include <CLI/CLI.hpp>
#include <cctype>
#include <string_view>

namespace nbdupload {

const char* const kUsage = R"(usage: nbdupload [OPTION...] IMAGE URL [KEY=VALUE...]
       nbdupload [OPTION...] --map=IMAGE=URL... [KEY=VALUE...]

Sends a disk image to an upload server, as raw data. IMAGE is a file or block
device, raw or of any format that qemu-img knows, a disk in an archive
(guest.ova or guest.ova:disk2.vmdk), gzip or xz file, an NBD URI or a URL. URL is
https://HOST:PORT/images/TICKET or +FILE, a file with the URL in it. KEY=VALUE
are parameters of nbdkit-upload-plugin, such as cafile=FILE.

  -f, --format=FORMAT   format of IMAGE, instead of detecting it
      --map=IMAGE=URL   upload that image there; may be given many times
      --size=N          IMAGE is -, a raw stream of N bytes on standard input
      --list=FILE       the same from a file: JSON, or lines with tabs
      --jobs=N          copy so many images at a time (default: 4)
      --allow-larger    allow a target that is larger than IMAGE
      --zero-rest       the same, and write zeroes to the rest of it
      --target-is-zero  the target is known to be all zeroes
      --rate=BITS       send so many bits a second at most, such as 100M
      --filter=NAME     add a filter to nbdkit
      --verify          read everything back and compare
      --verify=checksum compare by a checksum that the server makes
  -n, --dry-run         print what would be run
  -q, --quiet           no progress bar, no remarks
      --verbose         print commands, and all that nbdkit says
      --log=FILE        add all that is printed to FILE, with times
      --stats           tell at the end how many requests there were, and how slow
      --progress=HOW    bars, lines, json (on standard output) or none
      --progress-fd=FD  write progress as lines of N/100 to file descriptor FD
      --plugin=FILE     name or file of the plugin (default: the one installed with it)
  -h, --help
  -V, --version

Example: nbdupload disk.qcow2 https://server:54322/images/TICKET cafile=ca.pem

Exit status: 0 all was written, flushed and, if asked, verified; 1 a target is
incomplete; 2 usage; 3 nothing was sent; 4 complete, but not verified.
)";

namespace {

// CLI11 would take the next argument for the value of "--name=".
std::string empty_value(const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    if (word == "--") break;
    if (word.starts_with("--") && word.size() > 3 && word.find('=') == word.size() - 1)
      return word.substr(0, word.size() - 1);
  }
  return "";
}

struct Words {
  std::string image, url, verify;
  std::vector<std::string> others;
};

void declare(CLI::App& app, Options& options, Words& words) {
  const auto value = [&app](const char* name, std::string& where) {
    app.add_option(name, where)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  };
  app.set_help_flag();
  app.add_flag("-h,--help", options.help);
  app.add_flag("-V,--version", options.version);
  app.add_flag("--allow-larger", options.allow_larger);
  app.add_flag("--verify{read}", words.verify)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.add_flag("-n,--dry-run", options.dry_run);
  app.add_flag("-q,--quiet", options.quiet);
  app.add_flag("--verbose", options.verbose);
  app.add_flag("--target-is-zero", options.target_is_zero);
  app.add_flag("--zero-rest", options.zero_rest);
  app.add_flag("--stats", options.stats);
  value("-f,--format", options.format);
  value("--log", options.log);
  value("--rate", options.rate);
  value("--size", options.size);
  app.add_option("--filter", options.filters)->allow_extra_args(false);
  value("--progress-fd", options.progress_fd);
  value("--plugin", options.plugin);
  value("--progress", options.progress);
  value("--list", options.list);
  app.add_option("--map", options.maps)->allow_extra_args(false);
  app.add_option("--jobs", options.jobs)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
      ->check(CLI::Range(1, 100));
  // One by one: CLI11 takes "[a,b]" for a list where many are expected.
  app.add_option("IMAGE", words.image);
  app.add_option("URL", words.url);
  app.add_option("KEY=VALUE", words.others);
  app.allow_extras();
}

}  // namespace

Or<Options> parse_options(int argc, const char* const* argv) {
  Options options;
  CLI::App app;
  Words positional;
  declare(app, options, positional);
  std::vector<std::string> words(argv + 1, argv + argc);
  if (const std::string name = empty_value(words); !name.empty())
    return Outcome::usage(name + " needs a value that is not empty");
  std::reverse(words.begin(), words.end());
  try {
    app.parse(words);
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string what = error.what();
    return Outcome::usage(what.substr(0, what.find(':')) + " needs a value");
  } catch (const CLI::ParseError& error) {
    return Outcome::usage(error.what());
  }
  for (const std::string& word : app.remaining())
    if (word != "--")
      return Outcome::usage("unknown option '" + word.substr(0, word.find('=')) + "'");
  for (const char* name : {"--format", "--list", "--log", "--progress", "--progress-fd",
                           "--plugin", "--rate", "--size"})
    if (app.count(name) > 0 && app.get_option(name)->as<std::string>().empty())
      return Outcome::usage(std::string(name) + " needs a value that is not empty");
  if (app.count("--verify") > 0 && positional.verify != "read" && positional.verify != "checksum")
    return Outcome::usage("--verify: '" + positional.verify + "' is neither read nor checksum");
  options.verify = !positional.verify.empty();
  options.checksum = positional.verify == "checksum";
  if (app.count("IMAGE") > 0) options.words.push_back(positional.image);
  if (app.count("URL") > 0) options.words.push_back(positional.url);
  options.words.insert(options.words.end(), positional.others.begin(), positional.others.end());
  return options;
}

}  // namespace nbdupload
