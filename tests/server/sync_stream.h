// SPDX-License-Identifier: BSD-3-Clause
//
// The thin layer between Boost.Beast and a Channel: models SyncReadStream and
// SyncWriteStream. Used by the channel's owner only. Errors are error codes of errno, and
// net::error::eof at the end of the stream.

#pragma once

#include <sys/uio.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/system/error_code.hpp>
#include <boost/system/system_error.hpp>
#include <cstddef>
#include <span>

#include "channel.h"

namespace upload::testserver {

class SyncStream {
 public:
  explicit SyncStream(Channel& channel) : channel_(channel) {}

  template <class MutableBuffers>
  std::size_t read_some(const MutableBuffers& buffers, boost::system::error_code& ec) {
    ec = {};
    const auto end = boost::asio::buffer_sequence_end(buffers);
    for (auto it = boost::asio::buffer_sequence_begin(buffers); it != end; ++it) {
      const boost::asio::mutable_buffer buffer(*it);
      if (buffer.size() > 0) {
        return read_into({static_cast<char*>(buffer.data()), buffer.size()}, ec);
      }
    }
    return 0;
  }

  template <class ConstBuffers>
  std::size_t write_some(const ConstBuffers& buffers, boost::system::error_code& ec) {
    std::array<iovec, kMaxBuffers> vectors;
    std::size_t count = 0;
    const auto end = boost::asio::buffer_sequence_end(buffers);
    for (auto it = boost::asio::buffer_sequence_begin(buffers); it != end && count < kMaxBuffers;
         ++it) {
      const boost::asio::const_buffer buffer(*it);
      if (buffer.size() > 0) {
        vectors[count++] = {const_cast<void*>(buffer.data()), buffer.size()};
      }
    }
    ec = {};
    if (count == 0) {
      return 0;
    }
    std::error_code error;
    const std::size_t n = channel_.write_some(std::span(vectors).first(count), error);
    set(ec, error);
    return n;
  }

  // The throwing forms that the concepts ask for; nothing here uses them.
  template <class MutableBuffers>
  std::size_t read_some(const MutableBuffers& buffers) {
    boost::system::error_code ec;
    const std::size_t n = read_some(buffers, ec);
    return ec ? throw boost::system::system_error(ec) : n;
  }
  template <class ConstBuffers>
  std::size_t write_some(const ConstBuffers& buffers) {
    boost::system::error_code ec;
    const std::size_t n = write_some(buffers, ec);
    return ec ? throw boost::system::system_error(ec) : n;
  }

 private:
  static constexpr std::size_t kMaxBuffers = 16;

  static void set(boost::system::error_code& ec, const std::error_code& error) {
    if (error) {
      ec.assign(error.value(), boost::system::generic_category());
    }
  }

  std::size_t read_into(std::span<char> out, boost::system::error_code& ec) {
    std::error_code error;
    const std::size_t n = channel_.read_some(out, error);
    set(ec, error);
    if (n == 0 && !ec) {
      ec = boost::asio::error::eof;
    }
    return n;
  }

  Channel& channel_;
};

}  // namespace upload::testserver
