// SPDX-License-Identifier: BSD-3-Clause
//
// MetricsFile: a small file that others read at any time, replaced as a whole (rename(2)), so that
// nobody ever sees a part of it. What is written first is in a file beside it.
//
// One thread.

#pragma once

#include <string>

#include "base/status.h"

namespace upload {

class MetricsFile {
 public:
  // `path` is absolute.
  explicit MetricsFile(std::string path);

  // Whether files can be made there, and the path is not something else than a file. Removes what
  // a process that was killed has left beside it. The text begins with the
  // parameter.
  Status probe() const;
  // A failure leaves the file as it was, and nothing beside it.
  Status replace(const std::string& text) const;

  // Its name, without the directory and ".prom".
  [[nodiscard]] std::string title() const;

 private:
  [[nodiscard]] Status write_temporary(const std::string& text) const;
  [[nodiscard]] Status failure(int error) const;

  const std::string path_;
  const std::string temporary_;
};

}  // namespace upload
