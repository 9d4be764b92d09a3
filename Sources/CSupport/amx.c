/* Products of bfloat16 on AMX tiles, for attention with precision "fast" (AttentionFast.swift).
 *
 * TDPBF16PS adds to 16 × 16 float32 the products of 16 rows of 32 bfloat16 with 32 rows of 16, two
 * rows of these interleaved: 16384 operations in 16 cycles, sixteen times what the FMA units do. A
 * product is exact, sums are rounded to nearest; how pairs are added is the CPU's, so results are
 * outside the contract of bits. Subnormals count as 0. */
#define _GNU_SOURCE
#include "runtime.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <errno.h>
#include <immintrin.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AMX __attribute__((target("amx-tile,amx-bf16")))

enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int is_ready;

/* The CPU has AMX with bfloat16, and the kernel lets this process have its registers. */
static void ask(void) {
  unsigned a, b, c, d, low, high;
  if (!__get_cpuid_count(1, 0, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & 0x60000) != 0x60000) return;
  const unsigned bf16 = 1u << 22, tile = 1u << 24;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & (bf16 | tile)) != (bf16 | tile)) return;
  const int saved = errno;
  is_ready = syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
  errno = saved;
}

int32_t smxk_amx_is_ready(void) {
  pthread_once(&once, ask);
  return is_ready;
}

AMX void smxk_amx_begin(void) {
  /* All tiles are 16 rows of 64 bytes. */
  struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  } __attribute__((aligned(64))) config = {.palette = 1};
  for (int i = 0; i < 8; i++) {
    config.row_bytes[i] = 64;
    config.rows[i] = 16;
  }
  _tile_loadconfig(&config);
}

AMX void smxk_amx_end(void) { _tile_release(); }

/* 16 rows × 16, 32 or 48 columns of results. Tiles are named by constants, hence the three
 * cases. */
AMX static void strip(const char *left, int64_t left_stride, const char *right, int64_t steps,
                      int64_t right_step, char *result, int64_t pitch, int64_t vectors) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  for (int64_t k = 0; k < steps; k++, left += 64, right += right_step) {
    _tile_loadd(3, left, left_stride);
    _tile_loadd(4, right, pitch);
    _tile_dpbf16ps(0, 3, 4);
    if (vectors > 1) {
      _tile_loadd(5, right + 64, pitch);
      _tile_dpbf16ps(1, 3, 5);
    }
    if (vectors > 2) {
      _tile_loadd(6, right + 128, pitch);
      _tile_dpbf16ps(2, 3, 6);
    }
  }
  _tile_stored(0, result, pitch);
  if (vectors > 1) _tile_stored(1, result + 64, pitch);
  if (vectors > 2) _tile_stored(2, result + 128, pitch);
}

void smxk_amx_product(const void *left, int64_t left_stride, const void *right, int64_t rows,
                      int64_t steps, int64_t vectors, float *results) {
  const int64_t pitch = 64 * vectors;
  for (int64_t row = 0; row < rows; row += 16)
    strip((const char *)left + row * left_stride, left_stride, right, steps, 16 * pitch,
          (char *)results + row * pitch, pitch, vectors);
}
#else
int32_t smxk_amx_is_ready(void) { return 0; }
void smxk_amx_begin(void) {}
void smxk_amx_end(void) {}
void smxk_amx_product(const void *left, int64_t left_stride, const void *right, int64_t rows,
                      int64_t steps, int64_t vectors, float *results) {
  (void)left, (void)left_stride, (void)right, (void)rows, (void)steps, (void)vectors, (void)results;
}
#endif
