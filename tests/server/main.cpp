// SPDX-License-Identifier: BSD-3-Clause
//
// upload-server: the test server as a program, for demonstrations, benchmarks and tests
// in other languages.
//
// The main thread sets everything up and then only waits for signals, which are blocked
// in all threads: SIGUSR1 prints the counters, SIGTERM and SIGINT end the server with
// exit status 0. The URLs are printed to stdout when clients can connect, and so is the
// port to --port-file, by renaming, so a script that sees the file can read it whole.
//
// Errors: one line for each problem on stderr, exit status 2 for a bad command line, 1
// for everything else. Nothing is written to a log; ask the counters.

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "certificates.h"
#include "command_line.h"
#include "server.h"

namespace upload::testserver {

namespace {

std::string reason() { return std::generic_category().message(errno); }

/// The certificate of --cert-dir, made if it is not there.
void use_certificates(const std::string& directory, ServerOptions& options) {
  CertificateFiles files = certificate_files(directory);
  if (::mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST) {
    throw std::runtime_error(directory + ": " + reason());
  }
  const bool complete = ::access(files.ca.c_str(), R_OK) == 0 &&
                        ::access(files.cert.c_str(), R_OK) == 0 &&
                        ::access(files.key.c_str(), R_OK) == 0;
  if (!complete) {
    files = write_certificates(directory);
  }
  options.ca_file = files.ca;
  options.cert_file = files.cert;
  options.key_file = files.key;
}

void write_port_file(const std::string& path, std::uint16_t port) {
  const std::string temporary = path + ".new";
  {
    std::ofstream file(temporary);
    file << port << '\n';
    file.close();
    if (!file) {
      throw std::runtime_error(temporary + ": cannot be written");
    }
  }
  if (std::rename(temporary.c_str(), path.c_str()) != 0) {
    throw std::runtime_error(path + ": " + reason());
  }
}

/// Clients choose the names of what they make.
std::string file_name_of(std::string id) {
  std::replace(id.begin(), id.end(), '/', '_');
  return id;
}

/// What would be left of a ticket's image after the storage lost its caches; blocks of
/// zeroes become holes.
void save_stable(const Server& server, const TicketOptions& ticket, const std::string& path) {
  constexpr std::size_t kPieceBytes = 64 * 1024;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  for (std::uint64_t at = 0; at < ticket.size_bytes;) {
    const auto length =
        static_cast<std::size_t>(std::min<std::uint64_t>(kPieceBytes, ticket.size_bytes - at));
    const std::vector<char> piece = server.read_stable(ticket.id, at, length);
    if (std::any_of(piece.begin(), piece.end(), [](char byte) { return byte != 0; })) {
      file.seekp(static_cast<std::streamoff>(at));
      file.write(piece.data(), static_cast<std::streamsize>(piece.size()));
    }
    at += length;
  }
  file.close();
  if (!file || ::truncate(path.c_str(), static_cast<off_t>(ticket.size_bytes)) != 0) {
    throw std::runtime_error(path + ": cannot be written");
  }
}

void print_counters(const Server& server) {
  std::cerr << to_json(server.counters()) << std::endl;
}

int serve(CommandLine line) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  if (line.server.tls && !line.cert_dir.empty()) {
    use_certificates(line.cert_dir, line.server);
  }
  Server server(line.server);
  for (const TicketOptions& ticket : line.tickets) {
    server.add_ticket(ticket);
  }
  for (const Fault& fault : line.faults) {
    server.add_fault(fault);
  }
  server.start();
  for (const TicketOptions& ticket : line.tickets) {
    std::cout << server.url(ticket.id) << '\n';
  }
  std::cout << std::flush;
  if (!line.port_file.empty()) {
    write_port_file(line.port_file, server.port());
  }
  for (;;) {
    int signal = 0;
    sigwait(&signals, &signal);
    if (signal != SIGUSR1) {
      break;
    }
    print_counters(server);
  }
  server.stop();
  for (const TicketOptions& ticket : server.tickets()) {
    if (!line.stable_dir.empty() && ticket.backend == BackendKind::memory) {
      save_stable(server, ticket, line.stable_dir + "/" + file_name_of(ticket.id));
    }
  }
  if (line.stats) {
    print_counters(server);
  }
  return 0;
}

int run(int argc, char** argv) {
  auto parsed = parse_command_line(argc, argv);
  if (const auto* problems = std::get_if<Problems>(&parsed)) {
    for (const std::string& problem : *problems) {
      std::cerr << "upload-server: " << problem << '\n';
    }
    return 2;
  }
  auto& line = std::get<CommandLine>(parsed);
  if (line.help) {
    std::cout << help_text();
    return 0;
  }
  try {
    return serve(std::move(line));
  } catch (const std::exception& error) {
    std::cerr << "upload-server: " << error.what() << '\n';
    return 1;
  }
}

}  // namespace

}  // namespace upload::testserver

int main(int argc, char** argv) { return upload::testserver::run(argc, argv); }
