/* What preload.c adds to a test program: counts of allocations and threads, and failures on demand.
 */
#ifndef PRELOAD_H
#define PRELOAD_H

/* Starts counting from 0; the `allocation`-th allocation and every `thread`-th or later thread
 * creation from now on fails, 0 for none. */
void preload_begin(long allocation, long thread);
/* Counts since preload_begin, then no more failures. */
void preload_end(long *allocations, long *threads);
/* Bytes that were asked for since preload_begin. */
long preload_bytes(void);

#endif
