/* Which instruction set runs: decided once, by the CPU or by SWIFTMAX_ISA. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "runtime.h"

typedef struct {
  const char *name;
  int (*runs_here)(void);
  void (*fill)(smxk_kernels *);
} isa;

/* Best first. */
#if defined(__x86_64__)
static int runs_v2(void) { return __builtin_cpu_supports("x86-64-v2") != 0; }
static int runs_v3(void) { return __builtin_cpu_supports("x86-64-v3") != 0; }
static int runs_v4(void) { return __builtin_cpu_supports("x86-64-v4") != 0; }
static const isa isas[] = {
    {"v4", runs_v4, smxk_fill_v4}, {"v3", runs_v3, smxk_fill_v3}, {"v2", runs_v2, smxk_fill_v2}};
static const char *const foreign[] = {"neon"};
#elif defined(__aarch64__)
static int runs_neon(void) { return 1; }
static const isa isas[] = {{"neon", runs_neon, smxk_fill_neon}};
static const char *const foreign[] = {"v2", "v3", "v4"};
#else
#error "swiftmax has kernels for x86-64 and AArch64"
#endif

enum { COUNT = sizeof isas / sizeof isas[0], FOREIGN = sizeof foreign / sizeof foreign[0] };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static smxk_kernels table;
static const smxk_kernels *chosen;
static char chosen_name[256];

static void choose(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
#endif
  const char *forced = getenv("SWIFTMAX_ISA");
  if (forced && !*forced) forced = NULL;
  if (forced) strncpy(chosen_name, forced, sizeof chosen_name - 1);
  for (int i = 0; i < COUNT; i++) {
    if (forced ? strcmp(forced, isas[i].name) != 0 : !isas[i].runs_here()) continue;
    if (!isas[i].runs_here()) return;
    strncpy(chosen_name, isas[i].name, sizeof chosen_name - 1);
    isas[i].fill(&table);
    chosen = &table;
    return;
  }
}

const smxk_kernels *smxk_kernels_chosen(void) {
  pthread_once(&once, choose);
  return chosen;
}

const char *smxk_isa_name(void) {
  pthread_once(&once, choose);
  return chosen_name;
}

int32_t smxk_isa_runs(const char *name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
#endif
  for (int i = 0; i < COUNT; i++) {
    if (strcmp(name, isas[i].name) == 0) return isas[i].runs_here() ? 1 : 0;
  }
  for (int i = 0; i < FOREIGN; i++) {
    if (strcmp(name, foreign[i]) == 0) return 0;
  }
  return -1;
}
