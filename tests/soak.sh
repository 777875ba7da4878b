#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A short soak of each target, in the modes that differ there; `scripts/check --soak` runs a long one. It counts
# for itself, and prints the seed and the command that repeats a round.

set -u
soak=${UPLOAD_BUILDDIR:?run make check, or source tests/environment of the build first}/soak
status=0
timeout 400 "$soak" --mode off --seed "${UPLOAD_SOAK_SEED:-1}" --seconds 10 || status=$?
timeout 400 "$soak" --mode replay --seed "${UPLOAD_SOAK_SEED:-1}" --seconds 15 || status=$?
timeout 400 "$soak" --mode spool --seed "${UPLOAD_SOAK_SEED:-1}" --seconds 20 || status=$?
timeout 400 "$soak" --target azure --mode off --seed "${UPLOAD_SOAK_SEED:-1}" --seconds 6 || status=$?
timeout 400 "$soak" --target azure --mode spool --seed "${UPLOAD_SOAK_SEED:-1}" --seconds 6 || status=$?
timeout 400 "$soak" --target webdav --mode spool --seed "${UPLOAD_SOAK_SEED:-1}" --seconds 6 || status=$?
exit "$status"
