/* The last error of each thread, in its own memory: nothing to allocate, nothing to fail. */
#include "runtime.h"

static _Thread_local char sentence[SMXK_SENTENCE];

char *smxk_sentence(void) { return sentence; }
