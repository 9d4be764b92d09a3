/* Checks: counted, never fatal, a failure printed with the case that it belongs to. */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "swiftmax.h"

static long passed, failed;

/* The case at hand (seed, shape, strides, ...), printed with each of its failures. */
static char context[2048];

static inline const char *isa_in_use(void) {
  const char *name = "none";
  smx_isa(&name);
  return name;
}

__attribute__((format(printf, 3, 4))) static inline int check(int ok, const char *place,
                                                              const char *format, ...) {
  if (ok) {
    passed++;
    return 1;
  }
  /* Three failures of a case, and twenty cases, say what thousands would. */
  static char last[sizeof context];
  static int cases, ofCase;
  failed++;
  if (strcmp(last, context) != 0) cases++, ofCase = 0;
  memcpy(last, context, sizeof last);
  if (++ofCase <= 3 && cases <= 20) {
    va_list list;
    va_start(list, format);
    printf("FAILED at %s (isa %s): ", place, isa_in_use());
    vprintf(format, list);
    printf("\n  %s\n", context);
    va_end(list);
    fflush(stdout);
  }
  return 0;
}

#define CHECK_TEXT_(line) #line
#define CHECK_TEXT(line) CHECK_TEXT_(line)
#define CHECK(ok, ...) check(!!(ok), __FILE__ ":" CHECK_TEXT(__LINE__), __VA_ARGS__)
#define DESCRIBE(...) snprintf(context, sizeof context, __VA_ARGS__)

/* One check: `count` elements of `size` bytes are the same bit for bit. */
static inline int same_bits(const char *what, size_t size, const void *got, const void *want,
                            int64_t count) {
  const unsigned char *a = got, *b = want;
  for (int64_t i = 0; i < count; i++) {
    if (memcmp(a + i * size, b + i * size, size) == 0) continue;
    uint64_t g = 0, w = 0;
    memcpy(&g, a + i * size, size);
    memcpy(&w, b + i * size, size);
    return CHECK(0, "%s: element %" PRId64 " of %" PRId64 " is 0x%0*" PRIx64 ", not 0x%0*" PRIx64,
                 what, i, count, (int)size * 2, g, (int)size * 2, w);
  }
  return CHECK(1, "%s", what);
}

/* A slow machine (an emulator, valgrind) asks for fewer cases of the same kinds. */
static inline int is_light(void) {
  const char *value = getenv("TEST_LIGHT");
  return value && *value && *value != '0';
}

static inline int finish(const char *name) {
  printf("%s, isa %s%s\n%ld passed, %ld failed\n", name, isa_in_use(), is_light() ? ", light" : "",
         passed, failed);
  return failed != 0;
}

#endif
