// SPDX-License-Identifier: Apache-2.0
// System calls without a libc, for the final stage only. Each returns the result or the negative errno.
#pragma once

#include <asm/unistd.h>

namespace layerfs::container::stage {

#if defined(__x86_64__)
inline long call6(long number, long a, long b, long c, long d, long e, long f) {
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  long result;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
inline long call6(long number, long a, long b, long c, long d, long e, long f) {
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  register long x3 asm("x3") = d;
  register long x4 asm("x4") = e;
  register long x5 asm("x5") = f;
  asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
}
#elif defined(__riscv) && __riscv_xlen == 64
inline long call6(long number, long a, long b, long c, long d, long e, long f) {
  register long a7 asm("a7") = number;
  register long a0 asm("a0") = a;
  register long a1 asm("a1") = b;
  register long a2 asm("a2") = c;
  register long a3 asm("a3") = d;
  register long a4 asm("a4") = e;
  register long a5 asm("a5") = f;
  asm volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5) : "memory");
  return a0;
}
#else
#error "the final stage needs this architecture's system call instruction"
#endif

inline long to_word(long value) { return value; }
inline long to_word(int value) { return value; }
inline long to_word(unsigned value) { return static_cast<long>(value); }
inline long to_word(unsigned long value) { return static_cast<long>(value); }
inline long to_word(decltype(nullptr)) { return 0; }
inline long to_word(const void* value) { return reinterpret_cast<long>(value); }

template <class... Args>
long call(long number, Args... args) {
  long words[6] = {};
  int at = 0;
  ((words[at++] = to_word(args)), ...);
  return call6(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}

}  // namespace layerfs::container::stage
