// SPDX-License-Identifier: BSD-3-Clause
//
// The figures of a process as Prometheus reads them: its text format, version 0.0.4
// (prometheus.io/docs/instrumenting/exposition_formats). Names and units follow
// prometheus.io/docs/practices/naming. A pure function; thread safe.

#pragma once

#include <string>

#include "base/status.h"
#include "process/figures.h"

namespace upload {

// `upload` is a label of every value, which tells the process from others whose files the same
// Prometheus reads. Secrets that are known are blanked out of labels (base/log.h).
[[nodiscard]] std::string metrics_text(const Figures& figures, const std::string& upload);

// What the label "failure" has for a kind: the manual lists them.
[[nodiscard]] const char* failure_label(Kind kind);

}  // namespace upload
