/* What the last level of the caches holds, as far as a call may count on it. */
#include <pthread.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "runtime.h"

/* Servers report all that their cores share, of which few cores of one tenant ever have so much;
 * and where nothing is reported, the half of it. */
enum { LARGEST = 64 << 20 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int64_t last_level;

#if defined(__x86_64__)
/* The largest cache of a leaf that lists them, Intel's 4 or AMD's 0x8000001D; 0 if there is
 * none. */
static int64_t largest_cache(unsigned leaf) {
  int64_t largest = 0;
  for (unsigned index = 0; index < 16; index++) {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(leaf, index, &a, &b, &c, &d) || (a & 31) == 0) break;
    int64_t bytes =
        (int64_t)((b >> 22) + 1) * ((b >> 12 & 1023) + 1) * ((b & 4095) + 1) * ((int64_t)c + 1);
    if (bytes > largest) largest = bytes;
  }
  return largest;
}
#endif

static void measure(void) {
#if defined(__x86_64__)
  last_level = largest_cache(4);
  if (last_level == 0) last_level = largest_cache(0x8000001d);
#endif
  if (last_level == 0) last_level = LARGEST / 2;
  if (last_level > LARGEST) last_level = LARGEST;
}

_Bool smxk_exceeds_caches(int64_t bytes) {
  pthread_once(&once, measure);
  return bytes > last_level;
}
