// SPDX-License-Identifier: BSD-3-Clause
//
// One libcurl easy handle, pinned to one socket.
//
// libcurl treats connections as interchangeable: when a kept-alive one has
// died it opens another and sends the request again without a word. Here that
// would lose data (invariant 3), so the handle is pinned:
//   - CURLOPT_OPENSOCKETFUNCTION opens sockets only while the connection is
//     unopened; CURLOPT_PREREQFUNCTION, called when it is established, ends
//     that. Later attempts are refused, and the request fails.
//   - A proxy is asked for a tunnel, for http too: one that forwards requests
//     may send each over another connection to the server.
//   - No age or life-time makes libcurl drop a connection on its own, and the
//     handle's private cache holds one connection.
// The kernel's view (closed()) is asked for before a lease is given out; what
// dies after that fails the request it dies under. A reply is believed only
// when its header has ended and the whole request was sent: libcurl takes less. What a
// reply may have is bounded here, whatever libcurl's bounds are: its header, with
// everything that is one to libcurl, by kMaxHeader, its body by the request.
//
// A unix socket is connected here, not by libcurl: 7.88 does not reuse
// connections to abstract ones, whose address it takes for one that is not
// resolved yet, and it connects even sockets that it was told are connected.
// So it gets a datagram socket, which "connects" to 127.0.0.1 without sending
// anything, and before the first request the unix socket takes its place
// (dup3(2)). This needs a route to 127.0.0.1.
//
// A host may have several addresses, of which some are dead. They are tried one after
// another, each as the only one that libcurl knows of (CURLOPT_RESOLVE), until one can be
// connected, or has something else to say than nothing or a refusal; which is when no
// request has been sent yet. Each has an equal share of the time that is left. Where a
// proxy or a unix socket is in between, and for what is no name, libcurl is left alone.
//
// Time: connecting is bounded by the connect time-out. After that a request
// fails when it has not moved kProgressUnit bytes (or ended) within the
// time-out; libcurl calls on_progress at least once a second, also when
// nothing moves (CURLOPT_XFERINFOFUNCTION). So every request ends.
// Bytes move when libcurl hands them to the kernel or gets them from it, and
// when the peer acknowledges them: the socket's buffer may take a whole
// request at once, which a slow link then needs minutes to carry. What the
// peer has not acknowledged is asked with SIOCOUTQ (tcp(7)), which counts the
// bytes that are on the wire, TLS included. On a unix socket the same request
// (unix(7)) counts the memory of what the peer has not read.
//
// Threads: perform() belongs to the thread that holds the lease. abort() may
// come from any thread; it shuts the socket down under fds_mutex_, which also
// keeps the descriptor from being closed, and so reused, meanwhile.
//
// While a large body goes out the socket is corked (TCP_CORK, tcp(7)): each TLS record of
// 16 KiB is a send() of libcurl's, and would be a packet. The cork comes off when libcurl is
// given the last record's worth of the body, so before that is encrypted and sent: whatever
// becomes of the request, no byte of its end waits for the kernel to give up waiting for more.
// BBR sends by a timer, which full packets set off more often: there is no cork with it.
//
// A request with a fence is cut off when that is reached: libcurl asks before it sends, each
// time it wants more of the body, and once a second.

#include "http/curl_connection.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/format.h"
#include "base/log.h"

static_assert(LIBCURL_VERSION_NUM >= 0x075500, "libcurl 7.85 or later is needed");

namespace upload::http {

namespace {

// A request that moves fewer bytes than this within the time-out has stalled.
constexpr uint64_t kProgressUnit = 4096;
// libcurl hands over so many bytes of a reply at once.
constexpr long kReceiveBufferSize = 256L << 10;
// libcurl encrypts and sends so many bytes of a body at once. libcurl 7.88 allocates this for
// each request: more than 128 KiB the C library would return to the kernel each time.
constexpr long kUploadBufferSize = 64L << 10;
// A body of at most so many bytes goes out with its header. libcurl 7.88 does that below
// 64 KiB, and with TLS as far as header and body fit into its upload buffer.
constexpr uint64_t kMaxTogether = 56U << 10;
// Of a reply's header with all that comes with it: interim replies, trailers, and a
// proxy's reply to CONNECT. In bytes; servers take 8 KiB in a request's.
constexpr size_t kMaxHeader = size_t{64} << 10;
// What one TLS record holds (RFC 8446, section 5.1).
constexpr uint64_t kMaxRecord = 16U << 10;
// While bytes have moved within this the kernel is not asked for acknowledgements.
constexpr Duration kAskKernelAfter = std::chrono::milliseconds(50);
// Later than this after its time libcurl has not noticed a time-out.
constexpr Duration kLate = std::chrono::seconds(1);

struct SlistDeleter {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using Slist = std::unique_ptr<curl_slist, SlistDeleter>;

struct HandleDeleter {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};

void append(Slist& list, const std::string& line) {
  curl_slist* longer = curl_slist_append(list.get(), line.c_str());
  if (longer == nullptr) throw std::bad_alloc();
  (void)list.release();
  list.reset(longer);
}

long milliseconds(Duration duration) {
  return static_cast<long>(
      std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

// Whether a timer decides when the socket sends.
bool is_paced(int fd) {
  char name[16] = "";  // TCP_CA_NAME_MAX
  socklen_t length = sizeof name - 1;
  return getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length) == 0 &&
         std::string_view(name).starts_with("bbr");
}

// Reads a body's parts one after another.
class BodyReader {
 public:
  void reset(const std::vector<BodyPart>* parts) {
    parts_ = parts;
    index_ = 0;
    done_ = 0;
    left_ = 0;
    for (const BodyPart& part : *parts) left_ += part.length;
  }

  // Bytes that were not read yet.
  [[nodiscard]] uint64_t left() const { return left_; }

  size_t read(char* buffer, size_t room) {
    size_t copied = 0;
    while (copied < room && index_ < parts_->size()) {
      const BodyPart& part = (*parts_)[index_];
      const size_t n = std::min<uint64_t>(room - copied, part.length - done_);
      if (part.data != nullptr)
        memcpy(buffer + copied, static_cast<const char*>(part.data) + done_, n);
      else
        memset(buffer + copied, 0, n);
      copied += n;
      done_ += n;
      left_ -= n;
      if (done_ == part.length) {
        ++index_;
        done_ = 0;
      }
    }
    return copied;
  }

 private:
  const std::vector<BodyPart>* parts_ = nullptr;
  size_t index_ = 0;
  uint64_t done_ = 0;  // of parts_[index_]
  uint64_t left_ = 0;  // of all parts
};

class CurlConnection final : public Connection {
 public:
  CurlConnection(std::shared_ptr<const Origin> origin, std::shared_ptr<Addresses> addresses,
                 ConnectionId id, ConnectionEvents events);
  ~CurlConnection() override;

  Result<Reply> perform(const Request& request) override;
  Result<Reply> perform_throwing(const Request& request);
  bool unopened() const override { return state_ == State::kUnopened; }
  bool closed() const override;
  Status why_closed() const override;
  void abort() override;

 private:
  enum class State { kUnopened, kOpen, kClosed };
  // Why a callback has ended the request.
  enum class Ended {
    kNot,
    kNotConnected,
    kStalled,
    kTooSlow,
    kHeaderTooLong,
    kBodyTooLong,
    kBodyRefused,
    kRangeIgnored,
    kFenced,
    kNoMemory
  };

  template <typename T>
  void set(CURLoption option, T value);
  void set_up_connecting();
  void set_pem(CURLoption option, const std::string& pem);
  void set_up_tls();
  void set_up_callbacks();
  void set_up_request(const Request& request);
  void set_up_body(const Request& request);
  enum class Unasked { kNothing, kHandshake, kData, kEnd };
  Unasked look() const;
  [[nodiscard]] bool tls() const {
    return origin_->url.scheme == "https" && origin_->unix_socket.empty();
  }

  [[nodiscard]] bool has_direct_name() const;
  CURLcode perform_unopened(const std::vector<std::string>& attempts);
  Status explain(CURLcode code, const Request& request, bool fresh) const;
  Status explain_end(const Request& request) const;
  Status explain_unconnected(CURLcode code) const;
  Status check_complete(const Request& request) const;
  void read_headers();

  template <typename Body, typename Value>
  Value shielded(Value failure, Body body) noexcept;
  curl_socket_t on_open(const curl_sockaddr* address);
  int connect_unix_socket();
  int on_close(curl_socket_t fd);
  int on_established();
  size_t on_read(char* buffer, size_t room);
  void set_cork(bool on);
  bool fenced();
  size_t on_header(const char* line, size_t length);
  size_t on_write(const char* data, size_t length);
  int on_progress(uint64_t down, uint64_t up);
  bool has_moved(uint64_t bytes, TimePoint now);
  uint64_t unacknowledged();

  // Constant after construction.
  const std::shared_ptr<const Origin> origin_;
  const std::shared_ptr<Addresses> addresses_;
  const ConnectionId id_;
  const ConnectionEvents events_;
  Slist connect_to_;
  Slist resolve_;  // of the address that is being tried
  char error_[CURL_ERROR_SIZE] = "";
  std::unique_ptr<CURL, HandleDeleter> handle_;
  // What libcurl could not be told; empty: it has been told everything.
  std::string refused_option_;

  // Belong to the thread that holds the lease.
  State state_ = State::kUnopened;
  BodyReader reader_;
  std::string small_body_;  // libcurl does not copy it
  bool corked_ = false;
  const Request* request_ = nullptr;
  Reply reply_;
  int unix_fd_ = -1;          // connected, not yet libcurl's
  bool established_ = false;  // during this request
  bool refused_ = false;      // libcurl wanted another socket
  Ended ended_ = Ended::kNot;
  Status refusal_;  // with kBodyRefused
  bool header_ended_ = false;
  size_t header_bytes_ = 0;
  int socket_error_ = 0;  // of connect_unix_socket()
  uint64_t moved_ = 0;    // bytes that libcurl had moved at progress_at_
  // The most bytes that the peer had not acknowledged, of all looks since progress_at_.
  uint64_t most_unacknowledged_ = 0;
  TimePoint began_at_;  // this request
  TimePoint progress_at_;

  std::atomic<bool> aborted_ = false;

  Mutex fds_mutex_;
  // libcurl's open sockets: one, or while connecting one for each address.
  std::vector<int> fds_ GUARDED_BY(fds_mutex_);
};

CurlConnection::CurlConnection(std::shared_ptr<const Origin> origin,
                               std::shared_ptr<Addresses> addresses, ConnectionId id,
                               ConnectionEvents events)
    : origin_(std::move(origin)),
      addresses_(std::move(addresses)),
      id_(id),
      events_(std::move(events)),
      handle_(curl_easy_init()) {
  try {
    if (!handle_) throw std::bad_alloc();
    set_up_connecting();
    set_up_tls();
    set_up_callbacks();
  } catch (const std::bad_alloc&) {
    handle_.reset();  // each request says so
  }
}

CurlConnection::~CurlConnection() {
  handle_.reset();  // closes the socket, which calls on_close()
  if (unix_fd_ >= 0) close(unix_fd_);
}

// An option that libcurl refuses (its TLS library may lack something) makes
// the connection unusable: none of them is there for decoration.
template <typename T>
void CurlConnection::set(CURLoption option, T value) {
  const CURLcode code = curl_easy_setopt(handle_.get(), option, value);
  if (code == CURLE_OUT_OF_MEMORY) throw std::bad_alloc();
  if (code != CURLE_OK)
    refused_option_ = format("libcurl refuses option %d: %s", static_cast<int>(option),
                             curl_easy_strerror(code));
}

void CurlConnection::set_up_connecting() {
  set(CURLOPT_ERRORBUFFER, error_);
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_CONNECTTIMEOUT_MS, std::max(1L, milliseconds(origin_->connect_timeout)));
  set(CURLOPT_USERAGENT, "nbdkit-upload/" PACKAGE_VERSION);
  set(CURLOPT_BUFFERSIZE, kReceiveBufferSize);
  set(CURLOPT_UPLOAD_BUFFERSIZE, kUploadBufferSize);
  // The pin, see above.
  set(CURLOPT_MAXCONNECTS, 1L);
  set(CURLOPT_MAXAGE_CONN, static_cast<long>(INT32_MAX));
  set(CURLOPT_MAXLIFETIME_CONN, 0L);
  set(CURLOPT_HTTPPROXYTUNNEL, 1L);
  set(CURLOPT_TCP_KEEPALIVE, 1L);
  if (!origin_->unix_socket.empty()) {
    set(CURLOPT_NOPROXY, "*");
    append(connect_to_, "::127.0.0.1:");
    set(CURLOPT_CONNECT_TO, connect_to_.get());
  } else if (!origin_->proxy.empty()) {
    set(CURLOPT_PROXY, origin_->proxy.c_str());
  }
}

// PEM from memory: the files may be gone, or not ours to read, by the time a
// later connection is made.
void CurlConnection::set_pem(CURLoption option, const std::string& pem) {
  if (pem.empty()) return;
  // libcurl does not write to it.
  curl_blob blob = {const_cast<char*>(pem.data()), pem.size(), CURL_BLOB_NOCOPY};
  set(option, &blob);
}

void CurlConnection::set_up_tls() {
  set_pem(CURLOPT_CAINFO_BLOB, origin_->ca_pem);
  set_pem(CURLOPT_SSLCERT_BLOB, origin_->cert_pem);
  set_pem(CURLOPT_SSLKEY_BLOB, origin_->key_pem);
  // Those and nothing else: not the system's directory besides.
  if (!origin_->ca_pem.empty()) set(CURLOPT_CAPATH, static_cast<const char*>(nullptr));
  // RFC 8996. It counts more than what OPENSSL_CONF says.
  set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  set(CURLOPT_PROXY_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  set(CURLOPT_SSL_VERIFYPEER, origin_->insecure ? 0L : 1L);
  set(CURLOPT_SSL_VERIFYHOST, origin_->insecure ? 0L : 2L);
}

// Runs a callback's body; no exception passes through libcurl (invariant 9).
template <typename Body, typename Value>
Value CurlConnection::shielded(Value failure, Body body) noexcept {
  try {
    return body();
  } catch (...) {
    ended_ = Ended::kNoMemory;
    return failure;
  }
}

void CurlConnection::set_up_callbacks() {
  using Self = CurlConnection;
  set(CURLOPT_OPENSOCKETDATA, this);
  set(
      CURLOPT_OPENSOCKETFUNCTION,
      +[](void* data, curlsocktype, curl_sockaddr* address) -> curl_socket_t {
        auto* const self = static_cast<Self*>(data);
        return self->shielded(CURL_SOCKET_BAD, [&] { return self->on_open(address); });
      });
  set(CURLOPT_CLOSESOCKETDATA, this);
  set(
      CURLOPT_CLOSESOCKETFUNCTION, +[](void* self, curl_socket_t fd) -> int {
        return static_cast<Self*>(self)->on_close(fd);
      });
  set(CURLOPT_PREREQDATA, this);
  set(
      CURLOPT_PREREQFUNCTION, +[](void* data, char*, char*, int, int) -> int {
        auto* const self = static_cast<Self*>(data);
        return self->shielded(CURL_PREREQFUNC_ABORT, [&] { return self->on_established(); });
      });
  set(CURLOPT_READDATA, this);
  set(
      CURLOPT_READFUNCTION, +[](char* buffer, size_t size, size_t n, void* self) -> size_t {
        return static_cast<Self*>(self)->on_read(buffer, size * n);
      });
  set(CURLOPT_HEADERDATA, this);
  set(
      CURLOPT_HEADERFUNCTION, +[](char* line, size_t size, size_t n, void* self) -> size_t {
        return static_cast<Self*>(self)->on_header(line, size * n);
      });
  set(CURLOPT_WRITEDATA, this);
  set(
      CURLOPT_WRITEFUNCTION, +[](char* data, size_t size, size_t n, void* user) -> size_t {
        auto* const self = static_cast<Self*>(user);
        return self->shielded(size_t{0}, [&] { return self->on_write(data, size * n); });
      });
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFODATA, this);
  set(
      CURLOPT_XFERINFOFUNCTION,
      +[](void* self, curl_off_t, curl_off_t down, curl_off_t, curl_off_t up) -> int {
        return static_cast<Self*>(self)->on_progress(static_cast<uint64_t>(down),
                                                     static_cast<uint64_t>(up));
      });
}

// The one place where a socket is opened, and the pin.
curl_socket_t CurlConnection::on_open(const curl_sockaddr* address) {
  if (state_ != State::kUnopened || aborted_) {
    refused_ = true;
    return CURL_SOCKET_BAD;
  }
  int type = address->socktype;
  int protocol = address->protocol;
  if (!origin_->unix_socket.empty()) {
    unix_fd_ = connect_unix_socket();
    if (unix_fd_ < 0) return CURL_SOCKET_BAD;
    type = SOCK_DGRAM;
    protocol = 0;
  }
  const int fd = socket(address->family, type | SOCK_CLOEXEC, protocol);
  if (fd < 0) return CURL_SOCKET_BAD;
  MutexLock lock(fds_mutex_);
  fds_.push_back(fd);
  return fd;
}

// A connected socket, or -1 with the reason in socket_error_.
int CurlConnection::connect_unix_socket() {
  const std::string& name = origin_->unix_socket;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  assert(name.size() < sizeof address.sun_path);
  memcpy(address.sun_path, name.data(), name.size());
  if (name[0] == '@') address.sun_path[0] = '\0';
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());

  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    socket_error_ = errno;
    return -1;
  }
  // connect() waits while the server's backlog is full (unix(7)).
  const long ms = std::max(1L, milliseconds(origin_->connect_timeout));
  timeval limit = {ms / 1000, (ms % 1000) * 1000};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), length) != 0) {
    socket_error_ = errno;
    close(fd);
    return -1;
  }
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  return fd;
}

// What is cut off at the fence is not to be sent on by the kernel: it forgets what is in its
// buffer, and resets the connection (socket(7), SO_LINGER).
int CurlConnection::on_close(curl_socket_t fd) {
  const linger at_once = {1, 0};
  if (ended_ == Ended::kFenced) setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  MutexLock lock(fds_mutex_);
  std::erase(fds_, fd);
  return close(fd);
}

int CurlConnection::on_established() {
  established_ = true;
  if (state_ == State::kUnopened) {
    if (unix_fd_ >= 0) {
      MutexLock lock(fds_mutex_);
      assert(fds_.size() == 1);
      if (dup3(unix_fd_, fds_[0], O_CLOEXEC) < 0) return CURL_PREREQFUNC_ABORT;
      close(std::exchange(unix_fd_, -1));
    }
    state_ = State::kOpen;
    progress_at_ = std::chrono::steady_clock::now();
    if (events_.opened) events_.opened();
  }
  return aborted_ || fenced() ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

size_t CurlConnection::on_read(char* buffer, size_t room) {
  if (fenced()) return CURL_READFUNC_ABORT;
  const uint64_t left = reader_.left();
  const bool more = tls() && left > kMaxRecord;
  if (more != corked_) set_cork(more);
  return reader_.read(buffer, more ? std::min<uint64_t>(room, left - kMaxRecord) : room);
}

void CurlConnection::set_cork(bool on) {
  corked_ = on;
  const int value = on ? 1 : 0;
  MutexLock lock(fds_mutex_);
  for (const int fd : fds_)
    if (!on || !is_paced(fd)) setsockopt(fd, IPPROTO_TCP, TCP_CORK, &value, sizeof value);
}

// Is the request to end, since its fence is reached?
bool CurlConnection::fenced() {
  if (request_->fence == nullptr || request_->fence->open()) return false;
  ended_ = Ended::kFenced;
  return true;
}

// libcurl takes a connection that closes within the header for the end of a
// reply without a body: look for the empty line ourselves. (Interim replies
// have headers of their own, and trailers come here too.)
// All that comes here counts: whoever may add to a reply without an end would have
// libcurl keep it, or be waited for.
size_t CurlConnection::on_header(const char* line, size_t length) {
  header_bytes_ += length;
  if (header_bytes_ > kMaxHeader) {
    ended_ = Ended::kHeaderTooLong;
    return 0;
  }
  if (std::string_view(line, length).starts_with("HTTP/")) header_ended_ = false;
  if (length <= 2 && (line[0] == '\r' || line[0] == '\n')) header_ended_ = true;
  return length;
}

size_t CurlConnection::on_write(const char* data, size_t length) {
  long status = 0;
  curl_easy_getinfo(handle_.get(), CURLINFO_RESPONSE_CODE, &status);
  if (status == 206 && !request_->sink.empty()) {
    if (length > request_->sink.size() - reply_.sunk) {
      ended_ = Ended::kBodyTooLong;
      return 0;
    }
    memcpy(request_->sink.data() + reply_.sunk, data, length);
    reply_.sunk += length;
    return length;
  }
  if (request_->body_sink != nullptr && status == 200) {
    refusal_ = request_->body_sink->take({data, length});
    if (refusal_.ok()) return length;
    ended_ = Ended::kBodyRefused;
    return 0;
  }
  if (!request_->sink.empty() && status == 200)
    ended_ = Ended::kRangeIgnored;
  else if (length > request_->max_reply - reply_.body.size())
    ended_ = Ended::kBodyTooLong;
  if (ended_ != Ended::kNot) return 0;
  reply_.body.append(data, length);
  return length;
}

int CurlConnection::on_progress(uint64_t down, uint64_t up) {
  if (aborted_ || fenced()) return 1;
  const TimePoint now = std::chrono::steady_clock::now();
  if (!established_) {
    // Connecting has a time-out of libcurl's, which does not look at it while a proxy's
    // reply to CONNECT keeps coming.
    if (now - began_at_ <= origin_->connect_timeout + kLate) return 0;
    ended_ = Ended::kNotConnected;
    return 1;
  }
  if (request_->within > Duration::zero() && now - began_at_ > request_->within) {
    ended_ = Ended::kTooSlow;
    return 1;
  }
  if (has_moved(down + up, now)) {
    moved_ = down + up;
    most_unacknowledged_ = 0;
    progress_at_ = now;
    if (events_.progress) events_.progress();
  }
  if (now - progress_at_ <= origin_->timeout) return 0;
  ended_ = Ended::kStalled;
  return 1;
}

// Whether kProgressUnit bytes have moved since progress_at_; `bytes` is what
// libcurl has moved in this request. What is unacknowledged becomes less only
// by acknowledgements. The kernel is asked only when nothing has moved for a moment, which
// most requests are over before; a stall is noticed earlier by no more than that.
bool CurlConnection::has_moved(uint64_t bytes, TimePoint now) {
  if (bytes >= moved_ + kProgressUnit) return true;
  if (now - progress_at_ < kAskKernelAfter) return false;
  const uint64_t waiting = unacknowledged();
  most_unacknowledged_ = std::max(most_unacknowledged_, waiting);
  return most_unacknowledged_ - waiting >= kProgressUnit;
}

// Bytes in the socket's buffer and on the way; 0 where the kernel does not tell.
uint64_t CurlConnection::unacknowledged() {
  uint64_t sum = 0;
  MutexLock lock(fds_mutex_);
  for (const int fd : fds_) {
    int bytes = 0;
    if (ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes > 0) sum += static_cast<uint64_t>(bytes);
  }
  return sum;
}

void CurlConnection::set_up_request(const Request& request) {
  request_ = &request;
  reply_ = Reply();
  established_ = refused_ = header_ended_ = false;
  ended_ = Ended::kNot;
  header_bytes_ = 0;
  moved_ = most_unacknowledged_ = 0;
  began_at_ = progress_at_ = std::chrono::steady_clock::now();
  error_[0] = '\0';
  reader_.reset(&request.parts);
  if (corked_) set_cork(false);  // the last request has ended early

  // http also over a unix socket: there is no TLS on it.
  const Url& url = origin_->url;
  const std::string base =
      origin_->unix_socket.empty() ? url.origin() : "http://" + url.host + ":" + url.port;
  set(CURLOPT_URL, (base + request.target).c_str());

  // Each of these leaves traces of the method before it: set all of them.
  set(CURLOPT_CUSTOMREQUEST, static_cast<const char*>(nullptr));
  set(CURLOPT_UPLOAD, 0L);
  set(CURLOPT_POSTFIELDS, static_cast<const char*>(nullptr));
  set(CURLOPT_NOBODY, 0L);
  set(CURLOPT_HTTPGET, 1L);
  set_up_body(request);
  // A reply to HEAD has no body, whatever its header says (RFC 9110, section 9.3.2).
  if (request.method == Method::kHead)
    set(CURLOPT_NOBODY, 1L);
  else
    set(CURLOPT_CUSTOMREQUEST, method_name(request.method));
}

// A small body is copied, so that libcurl puts it behind the header and both are one TLS
// record and one packet; from a callback's body libcurl keeps the header apart.
void CurlConnection::set_up_body(const Request& request) {
  const uint64_t length = reader_.left();
  if (length > kMaxTogether) {
    set(CURLOPT_UPLOAD, 1L);
    set(CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(length));
    return;
  }
  if (request.parts.empty() && request.text.empty()) return;
  std::string_view body = request.text;
  if (!request.parts.empty()) {
    small_body_.resize(length);
    reader_.read(small_body_.data(), length);
    body = small_body_;
  }
  set(CURLOPT_POST, 1L);
  set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  set(CURLOPT_POSTFIELDS, body.data());
}

// Whether the URL's host is a name that is connected as such. What libcurl makes of the
// variables of the environment is its own affair (curl(1), "ENVIRONMENT").
bool CurlConnection::has_direct_name() const {
  if (!origin_->unix_socket.empty() || !origin_->proxy.empty()) return false;
  for (const char* name :
       {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"}) {
    const char* const value = getenv(name);
    if (value != nullptr && *value != '\0') return false;
  }
  return true;
}

// Nothing in `attempts`: libcurl looks the name up.
CURLcode CurlConnection::perform_unopened(const std::vector<std::string>& attempts) {
  if (attempts.empty()) return curl_easy_perform(handle_.get());
  const TimePoint end = std::chrono::steady_clock::now() + origin_->connect_timeout;
  CURLcode code = CURLE_COULDNT_CONNECT;
  for (size_t i = 0; i < attempts.size(); ++i) {
    const Duration left = end - std::chrono::steady_clock::now();
    set(CURLOPT_CONNECTTIMEOUT_MS,
        std::max(1L, milliseconds(left / static_cast<int>(attempts.size() - i))));
    Slist resolve;
    append(resolve, origin_->url.host + ":" + origin_->url.port + ":" + attempts[i]);
    set(CURLOPT_RESOLVE, resolve.get());
    resolve_ = std::move(resolve);
    error_[0] = '\0';
    code = curl_easy_perform(handle_.get());
    const bool silent = code == CURLE_COULDNT_CONNECT || code == CURLE_OPERATION_TIMEDOUT;
    if (established_ || aborted_ || !silent) break;
  }
  const char* address = nullptr;
  if (!established_)
    addresses_->failed(origin_->url.host);
  else if (curl_easy_getinfo(handle_.get(), CURLINFO_PRIMARY_IP, &address) == CURLE_OK &&
           address != nullptr)
    addresses_->worked(address);
  return code;
}

// What libcurl has begun is unknown then.
Result<Reply> CurlConnection::perform(const Request& request) {
  try {
    return perform_throwing(request);
  } catch (const std::bad_alloc&) {
    state_ = State::kClosed;
    return Status(Kind::kNoMemory, "out of memory");
  }
}

Result<Reply> CurlConnection::perform_throwing(const Request& request) {
  if (!handle_) return Status(Kind::kNoMemory, "out of memory");
  if (!refused_option_.empty()) return Status(Kind::kInvalid, refused_option_);
  if (state_ == State::kClosed || aborted_)
    return Status(Kind::kLost, origin_->name() + ": the connection is closed");
  const bool fresh = state_ == State::kUnopened;
  std::vector<std::string> attempts;
  if (fresh && has_direct_name()) {
    auto found = addresses_->attempts(origin_->url.host);
    if (!found.ok()) {
      state_ = State::kClosed;
      return found.status().while_doing(origin_->name());
    }
    attempts = std::move(found.value());
  }
  set_up_request(request);
  Slist headers;
  // What libcurl would add of its own: a wait for a reply of 100, and that a small body is a
  // form.
  append(headers, "Expect:");
  append(headers, "Content-Type:");
  for (const std::string& line : request.headers) append(headers, line);
  for (const std::string& line : origin_->headers) append(headers, line);
  if (!request.authorization.empty()) append(headers, "Authorization: " + request.authorization);
  set(CURLOPT_HTTPHEADER, headers.get());

  const TimePoint start = std::chrono::steady_clock::now();
  const CURLcode code = fresh ? perform_unopened(attempts) : curl_easy_perform(handle_.get());
  set(CURLOPT_HTTPHEADER, static_cast<curl_slist*>(nullptr));
  request_ = nullptr;
  UPLOAD_DEBUG(http, "connection %llu: %s %s: %s in %lld us",
               static_cast<unsigned long long>(id_), method_name(request.method),
               request.what.c_str(), curl_easy_strerror(code),
               static_cast<long long>(std::chrono::duration_cast<std::chrono::microseconds>(
                                          std::chrono::steady_clock::now() - start)
                                          .count()));
  // Invariant 3.
  long connects = 0;
  curl_easy_getinfo(handle_.get(), CURLINFO_NUM_CONNECTS, &connects);
  assert(code != CURLE_OK || fresh || connects == 0);

  Status status = code == CURLE_OK ? check_complete(request) : explain(code, request, fresh);
  if (!status.ok()) {
    state_ = State::kClosed;
    return status;
  }
  if (events_.progress) events_.progress();
  read_headers();
  // libcurl knows best whether it kept the connection.
  curl_socket_t fd = CURL_SOCKET_BAD;
  curl_easy_getinfo(handle_.get(), CURLINFO_ACTIVESOCKET, &fd);
  reply_.last = fd == CURL_SOCKET_BAD;
  if (reply_.last) state_ = State::kClosed;
  return std::move(reply_);
}

// What libcurl calls a success and is none.
Status CurlConnection::check_complete(const Request& request) const {
  if (!header_ended_) return {Kind::kLost, origin_->name() + ": the reply was cut short"};
  uint64_t length = request.text.size();
  for (const BodyPart& part : request.parts) length += part.length;
  curl_off_t sent = 0;
  curl_easy_getinfo(handle_.get(), CURLINFO_SIZE_UPLOAD_T, &sent);
  long status = 0;
  curl_easy_getinfo(handle_.get(), CURLINFO_RESPONSE_CODE, &status);
  // libcurl takes "HTTP/2", which this can't be, and what begins like it.
  long version = 0;
  curl_easy_getinfo(handle_.get(), CURLINFO_HTTP_VERSION, &version);
  if (status < 100 || version > CURL_HTTP_VERSION_1_1)
    return {Kind::kMalformed, origin_->name() + ": the reply is not HTTP/1.1"};
  // An error may well come early.
  if (status < 400 && static_cast<uint64_t>(sent) != length)
    return {Kind::kMalformed,
            origin_->name() +
                format(": the server answered %ld before it had the whole request", status)};
  return {};
}

void CurlConnection::read_headers() {
  long status = 0;
  curl_easy_getinfo(handle_.get(), CURLINFO_RESPONSE_CODE, &status);
  reply_.status = static_cast<int>(status);
  curl_header* field = nullptr;
  while ((field = curl_easy_nextheader(handle_.get(), CURLH_HEADER, -1, field)) != nullptr)
    reply_.headers.set(field->name, field->value);
}

Status CurlConnection::explain(CURLcode code, const Request& request, bool fresh) const {
  const std::string server = origin_->name() + ": ";
  const std::string detail = error_[0] != '\0' ? error_ : curl_easy_strerror(code);
  if (ended_ == Ended::kFenced) return request.fence->why();
  if (aborted_ && ended_ != Ended::kNoMemory)
    return {Kind::kLost, server + "the connection was shut down"};
  if (ended_ == Ended::kNotConnected) return explain_unconnected(CURLE_OPERATION_TIMEDOUT);
  if (ended_ != Ended::kNot) return explain_end(request);
  // That is also what libcurl says of a line that is too long for it.
  if (code == CURLE_OUT_OF_MEMORY && !header_ended_ && (established_ || header_bytes_ > 0))
    return {Kind::kMalformed, server +
                                  "a line of the reply's header is too long for libcurl, or "
                                  "there is no memory for it"};
  if (code == CURLE_OUT_OF_MEMORY) return {Kind::kNoMemory, server + "out of memory"};
  if (refused_) return {Kind::kLost, server + "the server closed the connection"};
  if (fresh && !established_) return explain_unconnected(code);
  switch (code) {
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
      return {Kind::kMalformed, server + "the reply is not HTTP: " + detail};
    case CURLE_PARTIAL_FILE: return {Kind::kLost, server + "the reply was cut short: " + detail};
    case CURLE_GOT_NOTHING:
      return {Kind::kLost, server + "the server closed the connection without a reply"};
    default: return {Kind::kLost, server + "the connection was lost: " + detail};
  }
}

Status CurlConnection::explain_end(const Request& request) const {
  const std::string server = origin_->name() + ": ";
  switch (ended_) {
    case Ended::kRangeIgnored:
      return {Kind::kMalformed, server + "the server ignored the range that was asked for"};
    case Ended::kHeaderTooLong:
      return {
          Kind::kMalformed,
          server + format("the reply's header is longer than it may be (%zu bytes)", kMaxHeader)};
    case Ended::kBodyRefused: return refusal_.while_doing(origin_->name());
    case Ended::kBodyTooLong:
      return {Kind::kMalformed,
              server + format("the reply is longer than it may be (%zu bytes)",
                              reply_.sunk > 0 ? request.sink.size() : request.max_reply)};
    case Ended::kTooSlow:
      return {Kind::kLost, server + format("the whole reply did not come within %ld seconds",
                                           milliseconds(request.within) / 1000)};
    case Ended::kStalled:
      return {Kind::kLost, server + format("no progress for %ld seconds (timeout=)",
                                           milliseconds(origin_->timeout) / 1000)};
    case Ended::kNot:
    case Ended::kNotConnected:
    case Ended::kFenced:
    case Ended::kNoMemory: break;
  }
  return {Kind::kNoMemory, server + "out of memory"};
}

Status CurlConnection::explain_unconnected(CURLcode code) const {
  const std::string server = origin_->name() + ": ";
  if (socket_error_ != 0 && socket_error_ != EAGAIN)
    return {Kind::kConnect, server + "could not connect: " + strerror(socket_error_)};
  if (code == CURLE_OPERATION_TIMEDOUT || socket_error_ == EAGAIN)
    return {Kind::kConnect,
            server + format("could not connect within %g seconds (connect-timeout=)",
                            static_cast<double>(milliseconds(origin_->connect_timeout)) / 1000)};
  return {Kind::kConnect, server + "could not connect: " +
                              (error_[0] != '\0' ? error_ : curl_easy_strerror(code))};
}

// What has come while nobody asked for anything. The type of a TLS record can be read
// (RFC 5246, section 6.2.1; RFC 8446, section 5.1), but in TLS 1.3 a session ticket or a
// new key looks like data, and only who decrypts it could tell. libcurl would, but reads
// nothing without a request. So that counts as data, which may be the reply to nothing.
CurlConnection::Unasked CurlConnection::look() const {
  constexpr std::byte kAlert{21};
  constexpr std::byte kHandshake{22};
  curl_socket_t fd = CURL_SOCKET_BAD;
  curl_easy_getinfo(handle_.get(), CURLINFO_ACTIVESOCKET, &fd);
  if (fd == CURL_SOCKET_BAD) return Unasked::kEnd;
  pollfd poll_fd = {fd, POLLIN | POLLRDHUP, 0};
  if (poll(&poll_fd, 1, 0) == 0) return Unasked::kNothing;
  std::byte first = {};
  if (poll_fd.revents != POLLIN || recv(fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) != 1)
    return Unasked::kEnd;
  if (tls() && first == kAlert) return Unasked::kEnd;
  // Of TLS 1.2: it asks for a new handshake, and the next request sees to it.
  return tls() && first == kHandshake ? Unasked::kHandshake : Unasked::kData;
}

bool CurlConnection::closed() const {
  if (state_ != State::kOpen) return state_ == State::kClosed;
  const Unasked unasked = look();
  return unasked == Unasked::kEnd || unasked == Unasked::kData;
}

Status CurlConnection::why_closed() const {
  if (state_ != State::kOpen || look() != Unasked::kData) return Connection::why_closed();
  return {Kind::kLost,
          "the server sent something that nobody had asked for while the connection "
          "was idle: data or, with TLS 1.3, a late session ticket, a new key or the end"};
}

void CurlConnection::abort() {
  aborted_ = true;
  MutexLock lock(fds_mutex_);
  for (const int fd : fds_) shutdown(fd, SHUT_RDWR);
}

}  // namespace

Status global_init() {
  if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
    return {Kind::kNoMemory, "libcurl could not be initialised"};
  return {};
}

void global_cleanup() { curl_global_cleanup(); }

std::string library_version() { return curl_version(); }

std::unique_ptr<Connection> make_curl_connection(std::shared_ptr<const Origin> origin,
                                                 std::shared_ptr<Addresses> addresses,
                                                 ConnectionId id, ConnectionEvents events) {
  return std::make_unique<CurlConnection>(std::move(origin), std::move(addresses), id,
                                          std::move(events));
}

}  // namespace upload::http
