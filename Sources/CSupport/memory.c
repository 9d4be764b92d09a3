/* The only place where the library allocates: workspace that the caller did not give, or cannot (the header says under
 * Memory which calls need any). */
#include <stdlib.h>

#include "runtime.h"

void *smxk_allocate(size_t bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64); }

void smxk_release(void *p) { free(p); }
