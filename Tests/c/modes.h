/* The floating-point mode of the calling thread: MXCSR or FPCR without their flags. */
#ifndef MODES_H
#define MODES_H

#include <stdint.h>

#if defined(__x86_64__)
/* Flush to zero, denormals are zero, both, and the three other roundings. */
static const uint64_t other_modes[] = {0x9f80, 0x1fc0, 0x9fc0, 0x3f80, 0x5f80, 0x7f80, 0xffc0};
#else
static const uint64_t other_modes[] = {1u << 24, 1u << 22, 2u << 22, 3u << 22, 1u << 25};
#endif

static inline uint64_t mode_now(void) {
#if defined(__x86_64__)
  /* Without the flags, which any operation may raise. */
  return __builtin_ia32_stmxcsr() & 0xffc0u;
#else
  uint64_t mode;
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
#endif
}

static inline void set_mode(uint64_t mode) {
#if defined(__x86_64__)
  __builtin_ia32_ldmxcsr((unsigned)mode);
#else
  __asm__ volatile("msr fpcr, %0" : : "r"(mode));
#endif
}

/* 0 under valgrind, which knows neither flush to zero nor the other roundings of vector
 * operations. */
static inline int has_modes(void) {
  uint64_t before = mode_now();
  set_mode(other_modes[0]);
  int is_kept = mode_now() == other_modes[0];
  set_mode(before);
  return is_kept;
}

#endif
