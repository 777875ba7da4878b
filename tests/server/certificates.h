// SPDX-License-Identifier: BSD-3-Clause
//
// Throw-away certificates for TLS tests: a CA of one's own and what it signs.
// Errors: std::runtime_error with one line of text.

#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace upload::testserver {

/// A certificate and its private key, both PEM text.
struct PemPair {
  std::string certificate;
  std::string key;
};

/// What a certificate is for.
struct CertificateRequest {
  std::string common_name = "localhost";
  std::vector<std::string> dns_names{};
  std::vector<std::string> ip_addresses{};
  std::chrono::seconds valid_from{-86'400};  // from now; negative: in the past
  std::chrono::seconds valid_until{10 * 365 * 86'400};
  bool for_client = false;  // extended key usage: clientAuth, else serverAuth
};

/// A CA that exists in memory only. Not thread safe. Keys are P-256.
class CertificateAuthority {
 public:
  explicit CertificateAuthority(const std::string& common_name = "upload test CA");
  ~CertificateAuthority();
  CertificateAuthority(const CertificateAuthority&) = delete;
  CertificateAuthority& operator=(const CertificateAuthority&) = delete;

  [[nodiscard]] const std::string& certificate() const;  // PEM
  [[nodiscard]] PemPair issue(const CertificateRequest& request);

 private:
  struct Keys;
  std::unique_ptr<Keys> keys_;
};

/// Paths in the directory given to write_certificates().
struct CertificateFiles {
  std::string ca;               // ca.pem
  std::string cert;             // cert.pem: localhost, 127.0.0.1 and ::1
  std::string key;              // key.pem
  std::string client_cert;      // client-cert.pem, of the same CA
  std::string client_key;       // client-key.pem
  std::string expired_cert;     // expired-cert.pem: localhost, ended yesterday
  std::string expired_key;      // expired-key.pem
  std::string other_host_cert;  // other-host-cert.pem: other.example, no addresses
  std::string other_host_key;   // other-host-key.pem
  std::string other_ca;         // other-ca.pem: a CA that signed none of these
};

/// The paths alone; touches no file.
[[nodiscard]] CertificateFiles certificate_files(const std::string& directory);

/// Generates all of them into an existing directory, over what is there. Keys are 0600.
CertificateFiles write_certificates(const std::string& directory);

}  // namespace upload::testserver
