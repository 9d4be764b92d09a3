/* What Sources/CSupport/amx.c gives, in plain C: linked in its place, the library takes the way of
 * AMX on every CPU that has x86-64-v4, and the tests can follow it there (`make test-amx`).
 * Rounding differs from the unit's. */
#include <string.h>

#include "kernels.h"
#include "runtime.h"

int32_t smxk_amx_is_ready(void) { return 1; }
void smxk_amx_begin(void) {}
void smxk_amx_end(void) {}

/* The upper or lower bfloat16 of the word at p. */
static float number(const char *p, int is_upper) {
  uint32_t word;
  memcpy(&word, p, sizeof word);
  word = is_upper ? word & 0xffff0000u : word << 16;
  float value;
  memcpy(&value, &word, sizeof value);
  return value;
}

void smxk_amx_product(const void *left, int64_t left_stride, const void *right, int64_t rows,
                      int64_t steps, int64_t vectors, float *results) {
  const int64_t columns = 16 * vectors;
  for (int64_t row = 0; row < rows; row++)
    for (int64_t column = 0; column < columns; column++) {
      float sum = 0;
      for (int64_t pair = 0; pair < 16 * steps; pair++) {
        const char *a = (const char *)left + row * left_stride + 4 * pair;
        const char *b = (const char *)right + 4 * (pair * columns + column);
        sum += number(a, 0) * number(b, 0) + number(a, 1) * number(b, 1);
      }
      results[row * columns + column] = sum;
    }
}
