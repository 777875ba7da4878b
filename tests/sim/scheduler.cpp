// SPDX-License-Identifier: BSD-3-Clause
//
// Fibers are Boost.Context's. Control goes from a fiber to run() and from there
// to the next, so that there is one place where a fiber is chosen.
//
// A killed fiber is not unwound: like a process that is killed, it leaves
// everything as it is. Only its stack is used again; what it had allocated is
// lost, so a process that simulates kills is to be replaced now and then.

#include "sim/scheduler.h"

#include <cxxabi.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

// Who looks at memory is told of the stacks: valgrind, AddressSanitizer.
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UPLOAD_ASAN
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define UPLOAD_ASAN
#endif
#ifdef UPLOAD_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace upload::sim {

namespace {

constexpr size_t kStackBytes = 256 << 10;
constexpr Duration kStep = std::chrono::microseconds(1);

Scheduler* current = nullptr;
std::vector<void*> free_stacks;

// A stretch of memory that is a stack, and what AddressSanitizer keeps for it.
struct StackBounds {
  const void* bottom = nullptr;
  size_t size = 0;
  void* kept = nullptr;
};
// The one that run() is called on.
StackBounds caller_stack;

// Before control goes to another stack; `from` null: for good.
void leave_for(const StackBounds& to, StackBounds* from) {
#ifdef UPLOAD_ASAN
  __sanitizer_start_switch_fiber(from == nullptr ? nullptr : &from->kept, to.bottom, to.size);
#else
  (void)to, (void)from;
#endif
}

// After control has come to that stack, from `from` if it is to be known.
void arrive_on(const StackBounds& stack, StackBounds* from) {
#ifdef UPLOAD_ASAN
  const void* bottom = nullptr;
  size_t size = 0;
  __sanitizer_finish_switch_fiber(stack.kept, &bottom, &size);
  if (from != nullptr) *from = {bottom, size, from->kept};
#else
  (void)stack, (void)from;
#endif
}

void* take_stack() {
  if (!free_stacks.empty()) {
    void* const stack = free_stacks.back();
    free_stacks.pop_back();
#ifdef UPLOAD_ASAN
    // Who was killed has not tidied up.
    __asan_unpoison_memory_region(static_cast<char*>(stack) + 4096, kStackBytes - 4096);
#endif
    return stack;
  }
  void* const stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stack == MAP_FAILED) abort();
  mprotect(stack, 4096, PROT_NONE);  // it overflows to its beginning
#ifdef VALGRIND_STACK_REGISTER
  VALGRIND_STACK_REGISTER(stack, static_cast<char*>(stack) + kStackBytes);
#endif
  return stack;
}

// The stacks of killed fibers go back by hand, see Scheduler::kill_all().
struct NoDeallocation {
  boost::context::stack_context allocate() { abort(); }
  void deallocate(boost::context::stack_context&) {}
};

// What the C++ runtime keeps of the exceptions of a thread: those that were caught and
// are not over, and how many are thrown and not caught yet. As the Itanium C++ ABI has
// it, section 2.2.2.
struct Exceptions {
  void* caught = nullptr;
  unsigned uncaught = 0;
};

// Puts away those of whoever runs, and has those of another.
void change_exceptions(Exceptions& from, const Exceptions& to) {
  void* const there = abi::__cxa_get_globals();
  memcpy(&from, there, sizeof from);
  memcpy(there, &to, sizeof to);
}

}  // namespace

Scheduler& scheduler() { return *current; }

void fail(const std::string& why) {
  if (current != nullptr && current->throws_failures) current->end_run(why);
  fflush(stdout);
  fprintf(stderr, "%s\n%s", why.c_str(), current == nullptr ? "" : current->describe().c_str());
  fflush(stderr);
  _exit(3);
}

struct Fiber {
  FiberId id = 0;
  std::string name;
  std::function<void()> body;
  void* stack = nullptr;
  // Leaked with a killed fiber: its destructor would unwind the stack.
  boost::context::fiber* self = nullptr;
  boost::context::fiber caller;
  bool ended = false;
  bool runnable = false;
  bool timed_out = false;
  WaitList* list = nullptr;
  const char* waits_for = nullptr;
  std::optional<std::pair<TimePoint, uint64_t>> timeout;
  WaitList joiners;
  Exceptions exceptions;
  StackBounds bounds;
};

Scheduler::Scheduler(uint64_t seed, Limits limits)
    : limits_(limits), start_(std::chrono::hours(1000)), now_(start_), random_(seed, 1) {
  require(current == nullptr, "there are two schedulers");
  current = this;
}

Scheduler::~Scheduler() {
  kill_all();
  current = nullptr;
}

FiberId Scheduler::spawn(std::string name, std::function<void()> body) {
  auto fiber = std::make_unique<Fiber>();
  Fiber* const f = fiber.get();
  f->id = ++last_id_;
  f->name = std::move(name) + "#" + std::to_string(f->id);
  f->body = std::move(body);
  f->stack = take_stack();
  f->bounds = {f->stack, kStackBytes, nullptr};
  boost::context::stack_context about;
  about.size = kStackBytes;
  about.sp = static_cast<char*>(f->stack) + kStackBytes;
  f->self = new boost::context::fiber(
      std::allocator_arg, boost::context::preallocated(about.sp, about.size, about),
      NoDeallocation(), [this, f](boost::context::fiber&& caller) {
        arrive_on(f->bounds, &caller_stack);
        f->caller = std::move(caller);
        f->body();
        f->ended = true;
        wake_all(f->joiners);
        leave_for(caller_stack, nullptr);
        return std::move(f->caller);
      });
  fibers_.emplace(f->id, std::move(fiber));
  make_runnable(*f);
  return f->id;
}

void Scheduler::join(FiberId id) {
  const auto found = fibers_.find(id);
  if (found == fibers_.end()) return;
  Fiber& fiber = *found->second;
  while (!fiber.ended) {
    wait(fiber.joiners, "the end of a thread");
    if (!fibers_.contains(id)) return;
  }
}

void Scheduler::make_runnable(Fiber& fiber) {
  require(!fiber.runnable && !fiber.ended, "a fiber is woken twice");
  fiber.runnable = true;
  fiber.waits_for = nullptr;
  runnable_.push_back(&fiber);
}

void Scheduler::suspend() {
  Fiber& fiber = *running_;
  leave_for(caller_stack, &fiber.bounds);
  fiber.caller = std::move(fiber.caller).resume();
  arrive_on(fiber.bounds, &caller_stack);
}

void Scheduler::yield(const char* where) {
  if (running_ == nullptr) return;
  // Most of the time it goes on: what matters is that it need not.
  if (!random_.percent(20)) return;
  // A thread may get no processor for as long as others need for all that they do.
  if (stalls > 0 && random_.below(10000) < stalls) {
    ++stalled_;
    sleep(std::chrono::microseconds(1ULL << random_.below(22)));
    --stalled_;
    return;
  }
  running_->waits_for = where;
  running_->runnable = false;
  make_runnable(*running_);
  suspend();
}

void Scheduler::remove_from(WaitList& list, Fiber& fiber) {
  std::erase(list.fibers_, &fiber);
  fiber.list = nullptr;
}

bool Scheduler::wait(WaitList& list, const char* what, std::optional<TimePoint> until) {
  require(running_ != nullptr, "somebody waits who is no fiber");
  Fiber& fiber = *running_;
  fiber.runnable = false;
  fiber.timed_out = false;
  fiber.waits_for = what;
  fiber.list = &list;
  list.fibers_.push_back(&fiber);
  if (until) {
    fiber.timeout = {*until, ++last_timer_};
    timeouts_.emplace(*fiber.timeout, &fiber);
  }
  suspend();
  return !fiber.timed_out;
}

void Scheduler::wake_one(WaitList& list) {
  if (list.fibers_.empty()) return;
  Fiber& fiber = *list.fibers_[random_.below(list.fibers_.size())];
  remove_from(list, fiber);
  if (fiber.timeout) timeouts_.erase(*std::exchange(fiber.timeout, std::nullopt));
  make_runnable(fiber);
}

void Scheduler::wake_all(WaitList& list) {
  while (!list.fibers_.empty()) wake_one(list);
}

void Scheduler::sleep(Duration time) {
  WaitList nobody;
  wait(nobody, "time to pass", now_ + time);
}

void Scheduler::before_unlock(const Mutex& mutex) {
  if (at_unlock) at_unlock(mutex);
}

void Scheduler::at(TimePoint when, std::function<void()> event) {
  events_.emplace(std::pair(std::max(when, now_), ++last_timer_), std::move(event));
}

void Scheduler::stop_process(Duration time) {
  const TimePoint start = now_;
  const Duration stopped_before = stopped_time_;
  while (!events_.empty() && events_.begin()->first.first <= start + time) {
    now_ = std::max(now_, events_.begin()->first.first);
    auto event = std::move(events_.begin()->second);
    events_.erase(events_.begin());
    event();  // it may stop the process for longer
  }
  now_ = std::max(now_, start + time);
  stopped_time_ = stopped_before + (now_ - start);
  stopped_until_ = now_;
}

// Lets time pass until something happens. False: nothing ever will.
bool Scheduler::advance() {
  const bool timeout = !timeouts_.empty();
  const bool event = !events_.empty();
  if (!timeout && !event) return false;
  if (event && (!timeout || events_.begin()->first < timeouts_.begin()->first)) {
    now_ = std::max(now_, events_.begin()->first.first);
    auto run = std::move(events_.begin()->second);
    events_.erase(events_.begin());
    run();
    return true;
  }
  const auto first = timeouts_.begin();
  now_ = std::max(now_, first->first.first);
  Fiber& fiber = *first->second;
  timeouts_.erase(first);
  fiber.timeout.reset();
  fiber.timed_out = true;
  remove_from(*fiber.list, fiber);
  make_runnable(fiber);
  return true;
}

void Scheduler::switch_to(Fiber& fiber) {
  running_ = &fiber;
  Exceptions mine;
  change_exceptions(mine, fiber.exceptions);
  leave_for(fiber.bounds, &caller_stack);
  *fiber.self = std::move(*fiber.self).resume();
  arrive_on(caller_stack, nullptr);
  change_exceptions(fiber.exceptions, mine);
  running_ = nullptr;
  if (failure_) {
    kill_all();
    throw Failure(*failure_);
  }
  if (!fiber.ended) return;
  delete fiber.self;
  free_stacks.push_back(fiber.stack);
  fibers_.erase(fiber.id);
}

// A fiber that fails never runs again; its caller kills the others.
void Scheduler::end_run(const std::string& why) {
  failure_ = why + "\n" + describe();
  if (running_ == nullptr) {
    kill_all();
    throw Failure(*failure_);
  }
  for (;;) suspend();
}

bool Scheduler::run(std::optional<uint64_t> kill_after) {
  const uint64_t kill_at = kill_after ? steps_ + *kill_after : UINT64_MAX;
  while (!fibers_.empty()) {
    if (steps_ >= kill_at) {
      note("killed");
      kill_all();
      return false;
    }
    // What is due happens while others run.
    while ((!timeouts_.empty() && timeouts_.begin()->first.first <= now_) ||
           (!events_.empty() && events_.begin()->first.first <= now_))
      advance();
    if (runnable_.empty()) {
      if (at_rest && stalled_ == 0) at_rest();
      if (!advance()) fail("deadlock: nothing will ever run again");
      continue;
    }
    if (++steps_ > limits_.steps) fail("no end within so many steps");
    if (now_ - start_ > limits_.time) fail("no end within so much time");
    now_ += kStep;
    const size_t chosen = random_.below(runnable_.size());
    Fiber& fiber = *runnable_[chosen];
    runnable_[chosen] = runnable_.back();
    runnable_.pop_back();
    mix(fiber.id);
    switch_to(fiber);
  }
  return true;
}

void Scheduler::kill_all() {
  for (auto& [id, fiber] : fibers_) {
    free_stacks.push_back(fiber->stack);
    if (fiber->list != nullptr) remove_from(*fiber->list, *fiber);
    // Not unwound: see the top.
    (void)fiber.release();
  }
  stalled_ = 0;
  fibers_.clear();
  runnable_.clear();
  timeouts_.clear();
}

const std::string& Scheduler::fiber_name() const {
  static const std::string world = "world";
  return running_ == nullptr ? world : running_->name;
}

void Scheduler::note(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  for (const char* c = text; *c != '\0'; ++c) mix(static_cast<unsigned char>(*c));
  if (print_trace)
    printf("%14.6f %-14s %s\n", std::chrono::duration<double>(now_ - start_).count(),
           fiber_name().c_str(), text);
}

std::string Scheduler::describe() const {
  char line[160];
  snprintf(line, sizeof line, "  after %.6f s and %llu steps\n",
           std::chrono::duration<double>(now_ - start_).count(),
           static_cast<unsigned long long>(steps_));
  std::string text = line;
  for (const auto& [id, fiber] : fibers_) {
    text += "  " + fiber->name +
            (fiber.get() == running_ ? " runs"
             : fiber->runnable       ? " can run"
                                     : "");
    if (fiber->waits_for != nullptr) text += std::string(" waits for ") + fiber->waits_for;
    if (fiber->timeout)
      text +=
          " until " +
          std::to_string(std::chrono::duration<double>(fiber->timeout->first - start_).count());
    text += "\n";
  }
  return text;
}

}  // namespace upload::sim
