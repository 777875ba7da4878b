// SPDX-License-Identifier: BSD-3-Clause
//
// The connection is known to interrupt() while it is used, and not a moment longer.

#include "http/single_requests.h"

namespace upload::http {

// interrupt() knows of the connection while this is there.
class SingleRequests::UnderWay {
 public:
  UnderWay(SingleRequests& requests, Connection& connection) : requests_(requests) {
    MutexLock lock(requests_.mutex_);
    requests_.connection_ = &connection;
    interrupted_ = requests_.interrupted_;
  }
  ~UnderWay() {
    MutexLock lock(requests_.mutex_);
    requests_.connection_ = nullptr;
  }
  UnderWay(const UnderWay&) = delete;
  UnderWay& operator=(const UnderWay&) = delete;

  // Before it began.
  [[nodiscard]] bool interrupted() const { return interrupted_; }

 private:
  SingleRequests& requests_;
  bool interrupted_ = false;
};

Result<Reply> SingleRequests::perform(const std::shared_ptr<const Origin>& origin,
                                      const Request& request) {
  const auto connection = connect_(origin, 0, {});
  const UnderWay under_way(*this, *connection);
  if (under_way.interrupted()) return Status(Kind::kShutdown, "nbdkit is to end");
  return connection->perform(request);
}

void SingleRequests::interrupt() {
  MutexLock lock(mutex_);
  interrupted_ = true;
  if (connection_ != nullptr) connection_->abort();
}

void SingleRequests::resume() {
  MutexLock lock(mutex_);
  interrupted_ = false;
}

}  // namespace upload::http
