/* malloc and its kin, and pthread_create, that count and fail on demand. Built as a shared object
 * that a test program links before libc, so that the calls of every other object come here too. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "preload.h"

/* glibc's own, under the names that it keeps for interposers. */
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static atomic_int active;
static atomic_long allocations, bytes, threads;
static long failing_allocation, failing_thread;

void preload_begin(long allocation, long thread) {
  allocations = bytes = threads = 0;
  failing_allocation = allocation;
  failing_thread = thread;
  active = 1;
}

void preload_end(long *allocation_count, long *thread_count) {
  active = 0;
  *allocation_count = allocations;
  *thread_count = threads;
}

long preload_bytes(void) { return bytes; }

static int allocation_fails(size_t size) {
  if (!active) return 0;
  atomic_fetch_add(&bytes, (long)size);
  long number = atomic_fetch_add(&allocations, 1) + 1;
  return failing_allocation && number == failing_allocation;
}

static void *no_memory(void) {
  errno = ENOMEM;
  return NULL;
}

void *malloc(size_t size) { return allocation_fails(size) ? no_memory() : __libc_malloc(size); }

void *calloc(size_t count, size_t size) {
  return allocation_fails(count * size) ? no_memory() : __libc_calloc(count, size);
}

void *realloc(void *p, size_t size) {
  return allocation_fails(size) ? no_memory() : __libc_realloc(p, size);
}

void *memalign(size_t alignment, size_t size) {
  return allocation_fails(size) ? no_memory() : __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **p, size_t alignment, size_t size) {
  *p = memalign(alignment, size);
  return *p ? 0 : ENOMEM;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                   void *argument) {
  static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
  if (active) {
    long number = atomic_fetch_add(&threads, 1) + 1;
    if (failing_thread && number >= failing_thread) return EAGAIN;
  }
  return real(thread, attributes, start, argument);
}
