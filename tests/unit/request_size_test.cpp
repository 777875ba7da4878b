// SPDX-License-Identifier: BSD-3-Clause
//
// How the size of requests follows what they have met.

#include "volume/request_size.h"

#include <catch2/catch.hpp>

using namespace std::chrono_literals;
using upload::volume::RequestSize;

namespace {

// The size when a request of so many bytes has succeeded.
uint64_t after(RequestSize& size, uint64_t bytes, upload::Duration took) {
  size.succeeded(bytes, took);
  return size.now();
}

}  // namespace

TEST_CASE("requests become larger until the delay is a small part of their time",
          "[request_size]") {
  RequestSize size(4, 200);
  CHECK(size.now() == 4);
  CHECK(after(size, 1, 40ms) == 4);  // that is the delay
  CHECK(after(size, 4, 41ms) == 16);
  CHECK(after(size, 16, 100ms) == 32);
  CHECK(after(size, 32, 150ms) == 32);
  CHECK(after(size, 32, 400ms) == 32);
  CHECK(after(size, 32, 401ms) == 16);
}

TEST_CASE("requests stay small where there is no delay", "[request_size]") {
  RequestSize size(4, 200);
  size.succeeded(1, 0ms);
  for (int i = 0; i < 9; ++i) size.succeeded(4, 8ms);
  CHECK(size.now() == 4);
}

TEST_CASE("requests that took all their time for the delay become as large as may be",
          "[request_size]") {
  RequestSize size(4, 200);
  CHECK(after(size, 4, 125ms) == 16);
  CHECK(after(size, 16, 125ms) == 64);
  CHECK(after(size, 64, 250ms) == 128);
  CHECK(after(size, 128, 251ms) == 128);
  CHECK(after(size, 128, 126ms) == 200);
}

TEST_CASE("requests become no larger than what there is to send", "[request_size]") {
  RequestSize size(8, 64);
  CHECK(after(size, 4, 250ms) == 8);
  CHECK(after(size, 5, 250ms) == 16);  // it is cut where a change begins
}

TEST_CASE("requests that take long become smaller", "[request_size]") {
  RequestSize size(4, 64);
  for (int i = 0; i < 2; ++i) size.succeeded(64, 100ms);
  CHECK(after(size, 64, 500ms) == 64);
  CHECK(after(size, 64, 501ms) == 32);
  for (int i = 0; i < 9; ++i) size.succeeded(1, 10s);
  CHECK(size.now() == 4);
}

TEST_CASE("no request is as large as one that has failed", "[request_size]") {
  RequestSize size(4, 64);
  for (int i = 0; i < 2; ++i) size.succeeded(64, 1ms);
  size.failed(40);
  CHECK(size.now() == 20);
  CHECK(after(size, 20, 1ms) == 20);
  for (int i = 0; i < 4; ++i) size.failed(20);  // the server has gone away
  CHECK(size.now() == 10);
  size.failed(100);  // one change had as much
  CHECK(size.now() == 10);
  size.failed(10);
  CHECK(size.now() == 5);
  size.failed(5);
  CHECK(size.now() == 4);
  CHECK(after(size, 4, 1ms) == 4);
}

TEST_CASE("requests have at least what always goes, and a limit", "[request_size]") {
  CHECK(RequestSize(4, 2).now() == 4);
  RequestSize small(4, 2);
  small.succeeded(4, 1ms);
  CHECK(small.now() == 4);
  RequestSize large(RequestSize::kLargest / 2, UINT64_MAX);
  large.succeeded(RequestSize::kLargest / 2, 1ms);
  large.succeeded(RequestSize::kLargest, 1ms);
  CHECK(large.now() == RequestSize::kLargest);
}
