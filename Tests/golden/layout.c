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

/* Byte offset of each element from tensor.data, by its place in C order of the original axes. */
static int64_t offset_of(const placed *p, int64_t index, const int64_t *shape, int rank,
                         const int *order) {
  int64_t place[MAX_RANK], offset = 0;
  for (int i = rank - 1; i >= 0; i--) {
    place[i] = index % shape[i];
    index /= shape[i];
  }
  for (int k = 0; k < rank; k++) offset += place[order[k]] * p->strides[k];
  return offset;
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
  for (int64_t i = 0; i < a->count; i++) {
    memcpy((char *)p->tensor.data + offset_of(p, i, a->shape, a->rank, order), a->data + i * size,
           (size_t)size);
  }
}

void collect(const placed *p, array *a, const layout *how, const int *reduced) {
  int order[MAX_RANK];
  int64_t size = item_size(a->dtype);
  call_order(order, a->rank, how, reduced);
  for (int64_t i = 0; i < a->count; i++) {
    memcpy(a->data + i * size,
           (const char *)p->tensor.data + offset_of(p, i, a->shape, a->rank, order), (size_t)size);
  }
}
