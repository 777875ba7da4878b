// SPDX-License-Identifier: BSD-3-Clause
//
// What clang checks at compile time: that what a mutex guards is only touched
// while it is held (https://clang.llvm.org/docs/ThreadSafetyAnalysis.html).
// Other compilers see nothing here.

#pragma once

#if defined(__clang__)
#define UPLOAD_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define UPLOAD_THREAD_ANNOTATION(x)
#endif

#define CAPABILITY(x) UPLOAD_THREAD_ANNOTATION(capability(x))
#define SCOPED_CAPABILITY UPLOAD_THREAD_ANNOTATION(scoped_lockable)
#define GUARDED_BY(x) UPLOAD_THREAD_ANNOTATION(guarded_by(x))
#define REQUIRES(...) UPLOAD_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) UPLOAD_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
#define ACQUIRE(...) UPLOAD_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define RELEASE(...) UPLOAD_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define ASSERT_CAPABILITY(x) UPLOAD_THREAD_ANNOTATION(assert_capability(x))
#define NO_THREAD_SAFETY_ANALYSIS UPLOAD_THREAD_ANNOTATION(no_thread_safety_analysis)
