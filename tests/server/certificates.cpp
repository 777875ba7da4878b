// SPDX-License-Identifier: BSD-3-Clause
//
// Makes certificates for tests with OpenSSL, without its command line tool.
//
// One CA signs all of: a certificate that is right for localhost, one for a client, and
// those that a careful client has to refuse: expired, and for another host. A second CA
// signs nothing; a client that trusts only that one has to refuse everything.
//
// P-256 keys, because making them takes no time. Serial numbers are random. Nothing is
// stored unless asked for.
//
// Threads: an authority is used by one at a time. Errors: std::runtime_error; a partly
// written set of files may be left behind. Not for anything but tests: keys are written
// without a passphrase and there is no revocation.

#include "certificates.h"

#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <system_error>

#include "file_descriptor.h"

namespace upload::testserver {

namespace {

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* pointer) const {
    Free(pointer);
  }
};

using Key = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, Deleter<EVP_PKEY_CTX_free>>;
using Certificate = std::unique_ptr<X509, Deleter<X509_free>>;
using Extension = std::unique_ptr<X509_EXTENSION, Deleter<X509_EXTENSION_free>>;
using Bio = std::unique_ptr<BIO, Deleter<BIO_free_all>>;

void require(bool ok, const char* what) {
  if (!ok) {
    throw std::runtime_error(std::string("cannot make a certificate: ") + what);
  }
}

Key make_key() {
  const KeyContext context(EVP_PKEY_CTX_new_id(EVP_PKEY_EC, nullptr));
  EVP_PKEY* key = nullptr;
  require(context && EVP_PKEY_keygen_init(context.get()) == 1 &&
              EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context.get(), NID_X9_62_prime256v1) == 1 &&
              EVP_PKEY_keygen(context.get(), &key) == 1,
          "key generation");
  return Key(key);
}

std::string to_text(const Bio& bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

std::string to_pem(X509* certificate) {
  const Bio bio(BIO_new(BIO_s_mem()));
  require(bio && PEM_write_bio_X509(bio.get(), certificate) == 1, "PEM");
  return to_text(bio);
}

std::string to_pem(EVP_PKEY* key) {
  const Bio bio(BIO_new(BIO_s_mem()));
  require(
      bio && PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) == 1,
      "PEM");
  return to_text(bio);
}

void add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  require(extension && X509_add_ext(certificate, extension.get(), -1) == 1, "extension");
}

/// Everything but issuer, extensions and signature.
Certificate make_unsigned(EVP_PKEY* key, const std::string& common_name,
                          std::chrono::seconds from, std::chrono::seconds until) {
  Certificate certificate(X509_new());
  std::uint32_t serial = 0;
  require(
      certificate && RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial) == 1,
      "serial number");
  X509* const x509 = certificate.get();
  X509_set_version(x509, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(x509), static_cast<long>(serial >> 1) + 1);
  X509_gmtime_adj(X509_getm_notBefore(x509), from.count());
  X509_gmtime_adj(X509_getm_notAfter(x509), until.count());
  require(X509_set_pubkey(x509, key) == 1 &&
              X509_NAME_add_entry_by_txt(
                  X509_get_subject_name(x509), "CN", MBSTRING_UTF8,
                  reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1, 0) == 1,
          "subject");
  return certificate;
}

std::string alternative_names(const CertificateRequest& request) {
  std::string names;
  for (const auto& dns : request.dns_names) {
    names += (names.empty() ? "DNS:" : ",DNS:") + dns;
  }
  for (const auto& ip : request.ip_addresses) {
    names += (names.empty() ? "IP:" : ",IP:") + ip;
  }
  return names;
}

void write_file(const std::string& path, const std::string& text) {
  ::unlink(path.c_str());
  const FileDescriptor fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid() ||
      ::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    throw std::runtime_error(path + ": " + std::generic_category().message(errno));
  }
}

void write_pair(const PemPair& pair, const std::string& cert, const std::string& key) {
  write_file(cert, pair.certificate);
  write_file(key, pair.key);
}

}  // namespace

struct CertificateAuthority::Keys {
  Key key;
  Certificate certificate;
  std::string pem;
};

CertificateAuthority::CertificateAuthority(const std::string& common_name)
    : keys_(std::make_unique<Keys>()) {
  const CertificateRequest life;
  keys_->key = make_key();
  keys_->certificate =
      make_unsigned(keys_->key.get(), common_name, life.valid_from, life.valid_until);
  X509* const x509 = keys_->certificate.get();
  X509_set_issuer_name(x509, X509_get_subject_name(x509));
  add_extension(x509, x509, NID_basic_constraints, "critical,CA:TRUE");
  add_extension(x509, x509, NID_key_usage, "critical,keyCertSign,cRLSign");
  add_extension(x509, x509, NID_subject_key_identifier, "hash");
  require(X509_sign(x509, keys_->key.get(), EVP_sha256()) > 0, "signature");
  keys_->pem = to_pem(x509);
}

CertificateAuthority::~CertificateAuthority() = default;

const std::string& CertificateAuthority::certificate() const { return keys_->pem; }

PemPair CertificateAuthority::issue(const CertificateRequest& request) {
  X509* const ca = keys_->certificate.get();
  const Key key = make_key();
  const Certificate certificate =
      make_unsigned(key.get(), request.common_name, request.valid_from, request.valid_until);
  X509* const x509 = certificate.get();
  X509_set_issuer_name(x509, X509_get_subject_name(ca));
  add_extension(x509, ca, NID_basic_constraints, "critical,CA:FALSE");
  add_extension(x509, ca, NID_key_usage, "critical,digitalSignature");
  add_extension(x509, ca, NID_ext_key_usage, request.for_client ? "clientAuth" : "serverAuth");
  add_extension(x509, ca, NID_authority_key_identifier, "keyid");
  if (const std::string names = alternative_names(request); !names.empty()) {
    add_extension(x509, ca, NID_subject_alt_name, names);
  }
  require(X509_sign(x509, keys_->key.get(), EVP_sha256()) > 0, "signature");
  return {to_pem(x509), to_pem(key.get())};
}

CertificateFiles certificate_files(const std::string& directory) {
  const std::string prefix = directory + "/";
  return {prefix + "ca.pem",
          prefix + "cert.pem",
          prefix + "key.pem",
          prefix + "client-cert.pem",
          prefix + "client-key.pem",
          prefix + "expired-cert.pem",
          prefix + "expired-key.pem",
          prefix + "other-host-cert.pem",
          prefix + "other-host-key.pem",
          prefix + "other-ca.pem"};
}

CertificateFiles write_certificates(const std::string& directory) {
  CertificateFiles files = certificate_files(directory);
  CertificateAuthority ca;
  write_file(files.ca, ca.certificate());

  CertificateRequest server;
  server.dns_names = {"localhost"};
  server.ip_addresses = {"127.0.0.1", "::1"};
  write_pair(ca.issue(server), files.cert, files.key);

  CertificateRequest expired = server;
  expired.valid_from = std::chrono::hours(-48);
  expired.valid_until = std::chrono::hours(-24);
  write_pair(ca.issue(expired), files.expired_cert, files.expired_key);

  CertificateRequest other_host;
  other_host.common_name = "other.example";
  other_host.dns_names = {"other.example"};
  write_pair(ca.issue(other_host), files.other_host_cert, files.other_host_key);

  CertificateRequest client;
  client.common_name = "client";
  client.for_client = true;
  write_pair(ca.issue(client), files.client_cert, files.client_key);

  write_file(files.other_ca, CertificateAuthority("another CA").certificate());
  return files;
}

}  // namespace upload::testserver
