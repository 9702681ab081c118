// A function that can be left in its middle and entered again: a thread of an emulated GPU.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace pendulum::kernels {

// Contexts begin it, jumps change between it and its caller: a change of contexts is a system call.
class Coroutine {
 public:
  Coroutine() = default;
  Coroutine(const Coroutine&) = delete;
  Coroutine& operator=(const Coroutine&) = delete;

  // The next enter() begins `body`; what was left in its middle before is forgotten.
  void start(std::function<void()> body) {
    body_ = std::move(body);
    has_begun_ = has_ended_ = false;
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack_.data();
    context_.uc_stack.ss_size = stack_.size();
    const auto self = reinterpret_cast<uintptr_t>(this);  // makecontext passes ints
    makecontext(&context_, reinterpret_cast<void (*)()>(&Coroutine::main), 2,
                static_cast<unsigned>(self), static_cast<unsigned>(self >> 32));
  }
  // Returns when it leaves or ends.
  void enter() {
    if (_setjmp(outside_) != 0) return;
    if (has_begun_) _longjmp(inside_, 1);
    has_begun_ = true;
    setcontext(&context_);
  }
  // From within: returns when it is entered again.
  void leave() {
    if (_setjmp(inside_) == 0) _longjmp(outside_, 1);
  }
  bool has_ended() const { return has_ended_; }

 private:
  static void main(unsigned low, unsigned high) {
    auto* self = reinterpret_cast<Coroutine*>(static_cast<uintptr_t>(high) << 32 | low);
    self->body_();
    self->has_ended_ = true;
    self->leave();
  }

  std::function<void()> body_;
  ucontext_t context_;
  jmp_buf inside_, outside_;
  std::vector<char> stack_ = std::vector<char>(64 << 10);
  bool has_begun_ = false, has_ended_ = false;
};

}  // namespace pendulum::kernels
