/* The only place where the library allocates: attention's workspace, where the caller gave none. */
#include <stdlib.h>

#include "runtime.h"

void *smxk_allocate(size_t bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64); }

void smxk_release(void *p) { free(p); }
