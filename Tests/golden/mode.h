/* Odd floating-point modes that a caller's thread may be in. */
#ifndef GOLDEN_MODE_H
#define GOLDEN_MODE_H

#include <stdint.h>

/* Mode 1: subnormals read and written as zero, round up. Mode 2: round toward zero. */
static inline uint64_t odd_mode(int mode) {
#if defined(__x86_64__)
  return mode == 1 ? 0x1f80u | 0x8040u | 0x4000u : 0x1f80u | 0x6000u;
#else
  return mode == 1 ? (1u << 24) | (1u << 22) : 3u << 22;
#endif
}

static inline uint64_t read_mode(void) {
#if defined(__x86_64__)
  uint32_t mode;
  __asm__ volatile("stmxcsr %0" : "=m"(mode) : : "memory");
  return mode & 0xffc0u; /* without the flags */
#elif defined(__aarch64__)
  uint64_t mode;
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode) : : "memory");
  return mode;
#else
#error "modes of x86-64 and AArch64"
#endif
}

static inline void write_mode(uint64_t mode) {
#if defined(__x86_64__)
  uint32_t word = (uint32_t)mode;
  __asm__ volatile("ldmxcsr %0" : : "m"(word) : "memory");
#else
  __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory");
#endif
}

/* Returns the mode before. */
static inline uint64_t enter_odd_mode(int mode) {
  uint64_t before = read_mode();
  if (mode) write_mode(odd_mode(mode));
  return before;
}

/* Whether the mode was another one than was entered; sets `before` again. */
static inline int leave_odd_mode(uint64_t before, int mode) {
  int changed = mode && read_mode() != odd_mode(mode);
  write_mode(before);
  return changed;
}

#endif
