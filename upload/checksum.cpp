// SPDX-License-Identifier: BSD-3-Clause
//
// The server says in its reply which algorithm and which blocks it has taken; the checksums can be
// compared only if these are the ones that were asked for.

#include "checksum.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "block_hash.h"
#include "local_server.h"
#include "look.h"
#include "secret.h"
#include "server_request.h"
#include "source_digest.h"

namespace nbdupload {

namespace {

using nlohmann::json;

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

bool lists_algorithm(const std::string& reply) {
  const json parsed = json::parse(reply, nullptr, false);
  if (!parsed.is_object() || !parsed.contains("algorithms")) return false;
  for (const json& name : parsed["algorithms"])
    if (name == BlockHash::kAlgorithm) return true;
  return false;
}

}  // namespace

Outcome check_checksums(EventLoop& loop, const Target& target, const Parameters& parameters) {
  const auto failure = [&](const std::string& why) {
    return Outcome::failed("--verify=checksum: " + why +
                           "; --verify reads the disk back instead");
  };
  if (const std::string key = unknown_to_requests(parameters); !key.empty())
    return failure("it can't be had together with " + key + "=");
  Or<FileDescriptor> request =
      secret_pipe("url", request_for(target, parameters, "/checksum/algorithms", ""));
  if (!request.ok()) return request.failure();
  Or<Looked> looked = look(loop, request_words(request.value().get()), {request.value().get()});
  if (!looked.ok()) return looked.failure();
  const std::string why = looked.value().last_words();
  if (looked.value().status == kNotThere)
    return failure(target.name + " has no checksums: " + why);
  if (looked.value().status != 0)
    return failure(target.name + " can't be asked for checksums: " + why);
  if (!lists_algorithm(looked.value().output))
    return failure(target.name + " has no checksums by " + BlockHash::kAlgorithm);
  return {};
}

Checksum::Checksum(EventLoop& loop, const Source& source, const Target& target,
                   const Parameters& parameters, std::string known,
                   std::function<void(int)> on_progress)
    : loop_(loop),
      source_(source),
      target_(target),
      parameters_(parameters),
      known_(std::move(known)),
      progress_(loop, std::move(on_progress)) {}

Outcome Checksum::Half::start(EventLoop& loop, std::vector<std::string> words,
                              std::vector<int> inherited) {
  Process::Setup setup;
  setup.words = std::move(words);
  setup.memory = kCopyMemory;
  setup.inherited = std::move(inherited);
  setup.output = &output;
  setup.on_error_line = [this](const std::string& line) { last_line = line; };
  auto started = Process::start(loop, std::move(setup));
  if (!started.ok()) return started.failure();
  process = std::move(started.value());
  return {};
}

Outcome Checksum::start() {
  const std::string query = std::string("algorithm=") + BlockHash::kAlgorithm +
                            "&block_size=" + std::to_string(BlockHash::kBlock);
  Or<FileDescriptor> request =
      secret_pipe("url", request_for(target_, parameters_, "/checksum", query));
  if (!request.ok()) return request.failure();
  const int fd = request.value().get();
  if (Outcome outcome = server_.start(loop_, request_words(fd), {fd}); !outcome.ok())
    return outcome;
  if (!known_.empty()) return {};
  Or<FileDescriptor> progress = progress_.open();
  if (!progress.ok()) return progress.failure();
  std::vector<int> inherited = source_.inherited();
  if (progress.value().is_open()) inherited.push_back(progress.value().get());
  return image_.start(
      loop_, digest_words(source_.address(), source_.size(), progress.value().get()), inherited);
}

bool Checksum::ended() const { return server_.ended() && image_.ended(); }

void Checksum::stop(std::chrono::seconds patience) {
  for (const Half* half : {&server_, &image_})
    if (half->process != nullptr) (void)half->process->stop(patience);
}

std::string Checksum::difference() const {
  if (image_.process != nullptr && image_.process->status() != 0)
    return source_.image().quoted() + " could not be read again: " + image_.last_line;
  if (server_.process->status() != 0)
    return target_.name + " could not be compared by checksum: " + server_.last_line;
  const json reply = json::parse(server_.output, nullptr, false);
  const bool comparable = reply.is_object() && reply.contains("checksum") &&
                          reply.value("algorithm", "") == BlockHash::kAlgorithm &&
                          reply.value("block_size", uint64_t{0}) == BlockHash::kBlock;
  if (!comparable)
    return target_.name + " could not be compared by checksum: the server has made another one";
  const std::string own = known_.empty() ? first_line(image_.output) : known_;
  if (reply["checksum"] == own) return "";
  return "the disk at " + target_.name + " differs from " + source_.image().quoted();
}

}  // namespace nbdupload
