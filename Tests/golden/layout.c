/* The same values in another place: permuted, spread out, backwards, off alignment. */
#include <stdlib.h>
#include <string.h>

#include "golden.h"

/* order[k]: the original axis that the call sees as axis k. The reduced axes keep their order, and
 * so do the kept ones: rows and their elements stay the same. */
static void call_order(int *order, int rank, const layout *how, const int *reduced) {
  int k = 0;
  if (!how->reduced_first) {
    for (; k < rank; k++) order[k] = k;
    return;
  }
  for (int i = 0; i < rank; i++)
    if (reduced[i]) order[k++] = i;
  for (int i = 0; i < rank; i++)
    if (!reduced[i]) order[k++] = i;
}

/* order[k]: the original axis at place k in memory, the slowest first. */
static void memory_order(int *order, int rank, const layout *how) {
  for (int k = 0; k < rank; k++) {
    order[k] = how->memory_order == 1   ? rank - 1 - k
               : how->memory_order == 2 ? (k + rank - 1) % rank
                                        : k;
  }
}

/* Byte offset from tensor.data of the row at `index` in C order of the original axes; `step` is
 * from one of its elements to the next. */
static int64_t row_offset(const placed *p, int64_t index, const int64_t *shape, int rank,
                          const int *order, int64_t *step) {
  int64_t place[MAX_RANK], offset = 0;
  *step = 0;
  for (int i = rank - 2; i >= 0; i--) {
    place[i] = index % shape[i];
    index /= shape[i];
  }
  for (int k = 0; k < rank; k++) {
    if (order[k] == rank - 1) *step = p->strides[k];
    else offset += place[order[k]] * p->strides[k];
  }
  return offset;
}

/* Between `a` and where it is placed: out of the array with `is_out`, else into it. */
static void move(const placed *p, array *a, const int *order, int is_out) {
  int64_t size = item_size(a->dtype), cols = a->rank ? a->shape[a->rank - 1] : 1, step;
  for (int64_t row = 0; cols > 0 && row < a->count / cols; row++) {
    char *there = (char *)p->tensor.data + row_offset(p, row, a->shape, a->rank, order, &step);
    char *here = (char *)a->data + row * cols * size;
    int64_t pieces = step == size ? 1 : cols, bytes = cols / pieces * size;
    for (int64_t c = 0; c < pieces; c++) {
      char *from = is_out ? here + c * size : there + c * step;
      memcpy(is_out ? there + c * step : here + c * size, from, (size_t)bytes);
    }
  }
}

void place(placed *p, const array *a, const layout *how, const int *reduced) {
  int order[MAX_RANK], in_memory[MAX_RANK];
  int64_t strides[MAX_RANK], size = item_size(a->dtype), step = how->step ? how->step : 1;
  int64_t bytes = step * size, start = 0;
  call_order(order, a->rank, how, reduced);
  memory_order(in_memory, a->rank, how);
  for (int k = a->rank - 1; k >= 0; k--) {
    int axis = in_memory[k];
    strides[axis] = bytes;
    bytes *= a->shape[axis];
    if (how->backwards) {
      start += strides[axis] * (a->shape[axis] - 1);
      strides[axis] = -strides[axis];
    }
  }
  p->memory = allocate((size_t)(bytes + how->offset));
  memset(p->memory, 0xa5, (size_t)(bytes + how->offset));
  for (int k = 0; k < a->rank; k++) {
    p->shape[k] = a->shape[order[k]];
    p->strides[k] = strides[order[k]];
  }
  p->tensor =
      (smx_tensor){p->memory + how->offset + start, a->dtype, a->rank, p->shape, p->strides};
  array from = *a;
  move(p, &from, order, 1);
}

void collect(const placed *p, array *a, const layout *how, const int *reduced) {
  int order[MAX_RANK];
  call_order(order, a->rank, how, reduced);
  move(p, a, order, 0);
}
