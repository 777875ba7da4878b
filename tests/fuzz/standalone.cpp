// SPDX-License-Identifier: BSD-3-Clause
//
// main() of a fuzz target that is not linked with libFuzzer, so that each `make check`
// runs it, with any compiler: first what is in its corpus, then that in changed forms, for
// $UPLOAD_FUZZ_SECONDS (default 3), always in the same order. It knows nothing of coverage:
// `scripts/check --fuzz` does.

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

namespace fs = std::filesystem;
using Input = std::vector<uint8_t>;

// What is being tried, for keep_input().
Input input;

// A crash leaves its input in the directory, as libFuzzer does.
void keep_input(int signal) {
  if (FILE* const file = fopen("crash-input", "wb")) {
    fwrite(input.data(), 1, input.size(), file);
    fclose(file);
  }
  std::signal(signal, SIG_DFL);
  raise(signal);
}

void try_input() { LLVMFuzzerTestOneInput(input.data(), input.size()); }

uint64_t state = 20260101;

uint64_t random_below(uint64_t below) {
  state = state * 6364136223846793005ULL + 1442695040888963407ULL;
  return (state >> 33) % below;
}

void mutate() {
  constexpr size_t kMost = 4096;
  for (uint64_t n = random_below(8); n > 0 && !input.empty(); --n) {
    const size_t at = random_below(input.size());
    const auto place = input.begin() + static_cast<std::ptrdiff_t>(at);
    switch (random_below(5)) {
      case 0: input[at] = static_cast<uint8_t>(random_below(256)); break;
      case 1: input.erase(place); break;
      case 2:
        input.insert(place, static_cast<uint8_t>("{}[]\",:-0129e\\u/"[random_below(16)]));
        break;
      case 3: input.resize(at); break;
      default: {
        const size_t length = random_below(input.size() - at) + 1;
        const Input copy(place, place + static_cast<std::ptrdiff_t>(length));
        input.insert(place, copy.begin(), copy.end());
      }
    }
    if (input.size() > kMost) input.resize(kMost);
  }
}

// In the order of their names.
std::vector<Input> corpus(const std::string& directory) {
  std::set<fs::path> files;
  for (const auto& entry : fs::directory_iterator(directory)) files.insert(entry.path());
  std::vector<Input> inputs;
  for (const fs::path& path : files) {
    std::ifstream file(path, std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return inputs;
}

}  // namespace

int main(int, char** argv) {
  const std::string name = fs::path(argv[0]).filename();
  const char* const source = getenv("UPLOAD_SRCDIR");
  if (source == nullptr) {
    fprintf(stderr, "%s: run make check, or source tests/environment of the build first\n",
            name.c_str());
    return 1;
  }
  const auto inputs = corpus(std::string(source) + "/tests/fuzz/corpus/" + name);
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL})
    std::signal(signal, keep_input);
  for (const Input& kept : inputs) {
    input = kept;
    try_input();
  }
  const char* const seconds = getenv("UPLOAD_FUZZ_SECONDS");
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::seconds(seconds == nullptr ? 3 : atoi(seconds));
  unsigned long runs = inputs.size();
  for (; std::chrono::steady_clock::now() < end; ++runs) {
    input = inputs[random_below(inputs.size())];
    mutate();
    try_input();
  }
  printf("%s: %lu inputs\n", name.c_str(), runs);
  if (const char* path = getenv("UPLOAD_TEST_COUNTS")) {
    if (FILE* file = fopen(path, "a")) {
      fprintf(file, "%s 1 0 0\n", name.c_str());
      fclose(file);
    }
  }
  return 0;
}
