/* Memory between pages that must not be touched, and views moved against its ends. */
#ifndef GUARD_H
#define GUARD_H

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "view.h"

enum { SPACE = 2 << 20, GUARD = 512 << 10, NEAR = 256 };

/* SPACE bytes between guards: `given` to the library, `ours` to fill and to read. */
typedef struct guarded {
  unsigned char *given, *ours;
} guarded;

static void fault(int number) {
  (void)number;
  static const char text[] = "FAILED: a guard page was touched\n  ";
  ssize_t ignored = write(1, text, sizeof text - 1);
  ignored = write(1, context, strlen(context));
  ignored = write(1, "\n", 1);
  (void)ignored;
  _exit(1);
}

static inline void guard_begin(void) {
  struct sigaction action = {.sa_handler = fault};
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);
}

/* Inputs are given through a mapping that cannot be written. */
static inline void guard_map(guarded *g, int isOutput) {
  int file = memfd_create("guard", 0);
  if (file < 0 || ftruncate(file, SPACE) != 0) abort();
  unsigned char *space =
      mmap(NULL, SPACE + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int rights = PROT_READ | (isOutput ? PROT_WRITE : 0);
  g->given = mmap(space + GUARD, SPACE, rights, MAP_SHARED | MAP_FIXED, file, 0);
  g->ours = mmap(NULL, SPACE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (g->given != space + GUARD || g->ours == MAP_FAILED) abort();
  close(file);
}

/* Where a tensor's bytes begin and end, counted from its first element. */
static inline void find_extent(const view *v, int64_t *lower, int64_t *upper) {
  *lower = 0;
  *upper = v->count > 0 ? (int64_t)size_of(v->tensor.dtype) : 0;
  for (int a = 0; v->count > 0 && a < v->tensor.ndim; a++) {
    int64_t reach = v->strides[a] * (v->shape[a] - 1);
    *(reach < 0 ? lower : upper) += reach;
  }
}

/* Moves a view against the end (or start) of the space, `shift` bytes away. */
static inline void guard_move(const guarded *g, view *v, int isOutput, int atEnd, int64_t shift) {
  int64_t lower, upper;
  find_extent(v, &lower, &upper);
  int64_t from = atEnd ? SPACE - (upper - lower) - shift : shift;
  if (upper - lower + 2 * NEAR + shift > SPACE) abort();
  if (isOutput) {
    int64_t first = from > NEAR ? from - NEAR : 0, last = from + upper - lower + NEAR;
    memset(g->ours + first, CANARY, (size_t)((last < SPACE ? last : SPACE) - first));
  }
  memcpy(g->ours + from, (unsigned char *)v->tensor.data + lower, (size_t)(upper - lower));
  v->tensor.data = g->given + from - lower;
}

/* Lets the view show our side of the same memory. */
static inline void guard_turn(const guarded *g, view *v) {
  v->tensor.data = g->ours + ((unsigned char *)v->tensor.data - g->given);
}

/* How many bytes beside the elements of a turned view have been written; the elements are lost. */
static inline int64_t guard_spoilt(const guarded *g, const view *v) {
  int64_t lower, upper, spoilt = 0, index[RANK];
  find_extent(v, &lower, &upper);
  unsigned char *data = v->tensor.data;
  for (int64_t n = 0; n < v->count; n++) {
    unravel(n, v->tensor.ndim, v->shape, index);
    memset(place_of(&v->tensor, index), CANARY, size_of(v->tensor.dtype));
  }
  for (unsigned char *p = data + lower - NEAR; p < data + upper + NEAR; p++) {
    if (p >= g->ours && p < g->ours + SPACE) spoilt += *p != CANARY;
  }
  return spoilt;
}

#endif
