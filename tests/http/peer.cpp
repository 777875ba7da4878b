// SPDX-License-Identifier: BSD-3-Clause
//
// Blocking sockets, one thread.

#include "http/peer.h"

#include <arpa/inet.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "server/certificates.h"

namespace upload::testing {

namespace {

// The length of the body that a header announces.
size_t body_length(const std::string& header) {
  const std::string name = "\r\nContent-Length: ";
  const size_t at = header.find(name);
  return at == header.npos ? 0 : strtoull(header.c_str() + at + name.size(), nullptr, 10);
}

void use_pem(SSL_CTX* context, const testserver::PemPair& pem) {
  BIO* const certificate = BIO_new_mem_buf(pem.certificate.data(), -1);
  BIO* const key = BIO_new_mem_buf(pem.key.data(), -1);
  X509* const x509 = PEM_read_bio_X509(certificate, nullptr, nullptr, nullptr);
  EVP_PKEY* const private_key = PEM_read_bio_PrivateKey(key, nullptr, nullptr, nullptr);
  const bool done = SSL_CTX_use_certificate(context, x509) == 1 &&
                    SSL_CTX_use_PrivateKey(context, private_key) == 1;
  EVP_PKEY_free(private_key);
  X509_free(x509);
  BIO_free(key);
  BIO_free(certificate);
  if (!done) throw std::runtime_error("the peer's certificate can't be used");
}

}  // namespace

// --- One connection -------------------------------------------------------

long Peer::Talk::receive(char* buffer, size_t size) {
  if (ssl_ != nullptr) return SSL_read(ssl_, buffer, static_cast<int>(size));
  return recv(fd_, buffer, size, 0);
}

std::string Peer::Talk::request() {
  char buffer[65536];
  for (;;) {
    const size_t end = read_.find("\r\n\r\n");
    if (end != read_.npos) {
      const std::string header = read_.substr(0, end + 4);
      const size_t length = header.size() + body_length(header);
      if (read_.size() >= length) {
        read_.erase(0, length);
        return header;
      }
    }
    const long n = receive(buffer, sizeof buffer);
    if (n <= 0) return "";
    read_.append(buffer, static_cast<size_t>(n));
  }
}

bool Peer::Talk::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const long n = ssl_ != nullptr ? SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()))
                                   : ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

uint64_t Peer::Talk::send_again_and_again(std::string_view bytes, uint64_t most) {
  std::string many;
  while (many.size() < 65536) many += bytes;
  uint64_t sent = 0;
  while (sent < most && send(many)) sent += many.size();
  return sent;
}

void Peer::Talk::await_delivery() {
  // Bytes that are not acknowledged (tcp(7)).
  for (int bytes = 1; ioctl(fd_, SIOCOUTQ, &bytes) == 0 && bytes > 0;) std::this_thread::yield();
}

void Peer::Talk::await_close() {
  char buffer[4096];
  while (receive(buffer, sizeof buffer) > 0) {
  }
}

// --- All of them ----------------------------------------------------------

Peer::Peer(Script script, const Tls* tls) : script_(std::move(script)) {
  if (tls != nullptr) {
    honest_ = tls->honest;
    authority_ = make_tls(*tls, tls_);
    make_tls(*tls, rogue_tls_);
  }
  listener_ = testserver::FileDescriptor(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      listen(listener_.get(), 16) != 0 ||
      getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0)
    throw std::runtime_error("the peer can't listen");
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { run(); });
}

Peer::~Peer() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    shutdown(listener_.get(), SHUT_RDWR);
    if (current_.valid()) shutdown(current_.get(), SHUT_RDWR);
  }
  thread_.join();
}

std::string Peer::make_tls(const Tls& tls, SslContext& context) {
  context.reset(SSL_CTX_new(TLS_server_method()));
  if (!context) throw std::runtime_error("the peer has no TLS");
  // Also versions that nobody should use.
  SSL_CTX_set_security_level(context.get(), 0);
  SSL_CTX_set_min_proto_version(context.get(), 0);
  if (tls.most != 0) SSL_CTX_set_max_proto_version(context.get(), tls.most);
  if (tls.ciphers != nullptr) SSL_CTX_set_cipher_list(context.get(), tls.ciphers);
  testserver::CertificateAuthority authority;
  testserver::CertificateRequest request;
  request.ip_addresses = {"127.0.0.1"};
  use_pem(context.get(), authority.issue(request));
  return authority.certificate();
}

void Peer::run() {
  while (!stop_) {
    const int fd = accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) continue;
    ++connections_;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      current_.reset(fd);
    }
    if (!stop_) serve(fd);
    const std::lock_guard<std::mutex> lock(mutex_);
    current_.reset();
  }
}

void Peer::serve(int fd) {
  SSL* ssl = nullptr;
  if (tls_) {
    ssl = SSL_new(connections_ <= honest_ ? tls_.get() : rogue_tls_.get());
    SSL_set_fd(ssl, fd);
  }
  if (ssl == nullptr || SSL_accept(ssl) == 1) {
    Talk talk(fd, ssl);
    script_(talk);
  }
  SSL_free(ssl);
  ERR_clear_error();
}

}  // namespace upload::testing
