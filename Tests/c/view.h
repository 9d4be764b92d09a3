/* A tensor with memory of its own, laid out as a number says: in C order, or with axes permuted,
 * gaps, negative strides, repeated elements (stride 0) and no alignment at all. */
#ifndef VIEW_H
#define VIEW_H

#include "values.h"

enum { RANK = 6, MARGIN = 64, CANARY = 0xa5 };

typedef struct view {
  smx_tensor tensor;
  int64_t shape[RANK], strides[RANK], count;
  unsigned char *block;
  size_t bytes;
} view;

static inline int64_t count_of(int rank, const int64_t *shape) {
  int64_t count = 1;
  for (int axis = 0; axis < rank; axis++) count *= shape[axis];
  return count;
}

/* The index of element i in C order. */
static inline void unravel(int64_t i, int rank, const int64_t *shape, int64_t *index) {
  for (int axis = rank - 1; axis >= 0; axis--) {
    index[axis] = i % shape[axis];
    i /= shape[axis];
  }
}

/* layout 0: C order, aligned. Any other number is a seed; repeats: some strides may be 0. */
static inline void view_make(view *v, smx_dtype dtype, int rank, const int64_t *shape,
                             uint64_t layout, int repeats) {
  size_t size = size_of(dtype);
  int order[RANK];
  int64_t span = (int64_t)size, base = 0;
  uint64_t random = layout;
  int isUneven = layout && random_below(&random, 3) == 0;
  for (int i = 0; i < rank; i++) order[i] = rank - 1 - i;
  for (int i = rank - 1; layout && i > 0; i--) {
    int j = (int)random_below(&random, i + 1), swapped = order[i];
    order[i] = order[j];
    order[j] = swapped;
  }
  for (int i = 0; i < rank; i++) {
    int axis = order[i];
    int64_t stride = span;
    v->shape[axis] = shape[axis];
    if (layout) {
      int64_t pad = random_below(&random, 4);
      stride += isUneven ? pad : pad / 2 * (int64_t)size;
      if (repeats && random_below(&random, 8) == 0) stride = 0;
    }
    if (stride) span = stride * (shape[axis] > 0 ? shape[axis] : 1);
    if (layout && random_below(&random, 4) == 0) {
      if (shape[axis] > 0) base += stride * (shape[axis] - 1);
      stride = -stride;
    }
    v->strides[axis] = stride;
  }
  v->count = count_of(rank, shape);
  v->bytes = (size_t)span + 2 * MARGIN;
  v->block = malloc(v->bytes);
  if (!v->block) abort();
  memset(v->block, CANARY, v->bytes);
  base += MARGIN + (isUneven ? random_below(&random, 16) : (int64_t)(layout % 4 * size));
  v->tensor = (smx_tensor){v->block + base, dtype, rank, v->shape, v->strides};
}

static inline void view_free(view *v) {
  free(v->block);
  v->block = NULL;
}

static inline unsigned char *place_of(const smx_tensor *t, const int64_t *index) {
  unsigned char *p = t->data;
  for (int axis = 0; axis < t->ndim; axis++) p += index[axis] * t->strides[axis];
  return p;
}

/* The place that index of a tensor of `rank` axes has under NumPy's broadcasting. */
static inline unsigned char *broadcast_place_of(const smx_tensor *t, int rank,
                                                const int64_t *index) {
  unsigned char *p = t->data;
  for (int axis = 0; axis < t->ndim; axis++) {
    if (t->shape[axis] != 1) p += index[axis + rank - t->ndim] * t->strides[axis];
  }
  return p;
}

/* Elements in C order, out of a view and into one. */
static inline void view_read(const view *v, void *elements) {
  int64_t index[RANK];
  size_t size = size_of(v->tensor.dtype);
  for (int64_t i = 0; i < v->count; i++) {
    unravel(i, v->tensor.ndim, v->shape, index);
    memcpy((unsigned char *)elements + i * size, place_of(&v->tensor, index), size);
  }
}

static inline void view_write(const view *v, const void *elements) {
  int64_t index[RANK];
  size_t size = size_of(v->tensor.dtype);
  for (int64_t i = 0; i < v->count; i++) {
    unravel(i, v->tensor.ndim, v->shape, index);
    memcpy(place_of(&v->tensor, index), (const unsigned char *)elements + i * size, size);
  }
}

/* A view of the same values laid out anew. */
static inline void view_copy(view *to, const view *from, uint64_t layout) {
  size_t bytes = (size_t)from->count * size_of(from->tensor.dtype);
  void *elements = malloc(bytes + 1);
  if (!elements) abort();
  view_read(from, elements);
  view_make(to, from->tensor.dtype, from->tensor.ndim, from->shape, layout, 0);
  view_write(to, elements);
  free(elements);
}

/* How many bytes of the block that belong to no element have been written. */
static inline int64_t bytes_spoilt(const view *v) {
  unsigned char *owned = calloc(v->bytes, 1);
  int64_t index[RANK], spoilt = 0;
  if (!owned) abort();
  for (int64_t i = 0; i < v->count; i++) {
    unravel(i, v->tensor.ndim, v->shape, index);
    memset(owned + (place_of(&v->tensor, index) - v->block), 1, size_of(v->tensor.dtype));
  }
  for (size_t i = 0; i < v->bytes; i++) spoilt += !owned[i] && v->block[i] != CANARY;
  free(owned);
  return spoilt;
}

/* "(2, 3) by (12, -4)" */
static inline const char *view_text(const view *v, char *text, size_t size) {
  size_t n = (size_t)snprintf(text, size, "(");
  for (int i = 0; i < v->tensor.ndim && n < size; i++) {
    n += (size_t)snprintf(text + n, size - n, i ? ", %" PRId64 : "%" PRId64, v->shape[i]);
  }
  if (n < size) n += (size_t)snprintf(text + n, size - n, ") by (");
  for (int i = 0; i < v->tensor.ndim && n < size; i++) {
    n += (size_t)snprintf(text + n, size - n, i ? ", %" PRId64 : "%" PRId64, v->strides[i]);
  }
  if (n < size) snprintf(text + n, size - n, ")");
  return text;
}

#endif
