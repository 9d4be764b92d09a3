/* Errors of the environment: SWIFTMAX_ISA and SWIFTMAX_NUM_THREADS are read once in a process, so
 * this program runs itself again under each bad value. */
#include <sys/wait.h>
#include <unistd.h>

#include "values.h"

static int run_child(const char *kind) {
  float x[2] = {1, 2}, out[2] = {7, 7};
  int32_t count = 7;
  const char *name = NULL;
  int isIsa = kind[0] == 'i';
  smx_status want = isIsa ? SMX_ERROR_ISA : SMX_ERROR_THREADS;
  const char *variable = isIsa ? "SWIFTMAX_ISA" : "SWIFTMAX_NUM_THREADS";
  char value[64];
  snprintf(value, sizeof value, "%s", getenv(variable));
  /* Twice: a failed choice is not forgotten. */
  for (int i = 0; i < 2; i++) {
    smx_status got = smx_softmax_f32(x, out, 1, 2);
    if (got != want || out[0] != 7 || out[1] != 7 || !strstr(smx_last_error(), variable)) return 1;
    if (!strstr(smx_last_error(), value)) return 2;
    got = smx_attention_f32(x, x, x, out, 1, 1, 1, 1, 1, 2, 2, 0);
    if (got != want || out[0] != 7 || out[1] != 7 || !strstr(smx_last_error(), value)) return 7;
    size_t size = 7;
    if (smx_attention_workspace_size(NULL, NULL, NULL, NULL, NULL, &size) != want || size != 7)
      return 8;
    /* The sentence is about what was read, not about what is there now. */
    setenv(variable, isIsa ? "v3" : "4", 1);
    if (isIsa && (smx_isa(&name) != want || name)) return 3;
    if (!isIsa && (smx_get_num_threads(&count) != want || count != 7)) return 4;
  }
  /* A count from a call is good whatever the environment says. */
  if (!isIsa)
    return smx_set_num_threads(2) == SMX_OK && smx_softmax_f32(x, out, 1, 2) == SMX_OK ? 0 : 5;
  return strstr(smx_last_error(), kind[1] == 'u' ? "does not run" : "v2, v3, v4 and neon") ? 0 : 6;
}

static void check_environment(const char *program, const char *kind, const char *variable,
                              const char *value) {
  DESCRIBE("%s=%s", variable, value);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    setenv(variable, value, 1);
    execl(program, program, kind, (char *)NULL);
    _exit(127);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with 0x%x", status);
}

int main(int count, char **words) {
  if (count > 1) return run_child(words[1]);
  static const char *const isas[] = {"v5",
                                     "avx2",
                                     "V3",
                                     "v3 ",
                                     "auto",
                                     "x86-64-v3",
                                     "a name of more than thirty-two letters, in full"};
  for (int i = 0; i < 7; i++) check_environment(words[0], "i", "SWIFTMAX_ISA", isas[i]);
#if defined(__x86_64__)
  check_environment(words[0], "iu", "SWIFTMAX_ISA", "neon");
#else
  check_environment(words[0], "iu", "SWIFTMAX_ISA", "v3");
#endif
  static const char *const counts[] = {"0",   "-1", "two", "3x", "257", "99999999999999999999",
                                       "1.5", " "};
  for (int i = 0; i < 8; i++) check_environment(words[0], "t", "SWIFTMAX_NUM_THREADS", counts[i]);
  return finish("test_environment");
}
