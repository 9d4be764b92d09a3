/* The only place where the library allocates: workspace that the caller did not give, or cannot
 * (the header says under Memory which calls need any). */
#include <errno.h>
#include <stdlib.h>

#include "runtime.h"

void *smxk_allocate(size_t bytes) {
  const int saved = errno;
  void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
  errno = saved;
  return p;
}

void smxk_release(void *p) { free(p); }
