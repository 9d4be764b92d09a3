/* A program outside the tree: the header is found, the library links, runs, and is the one
 * installed. */
#include <stdio.h>
#include <string.h>

#include <swiftmax.h>

int main(void) {
  char version[32];
  snprintf(version, sizeof version, "%d.%d.%d", SMX_VERSION_MAJOR, SMX_VERSION_MINOR,
           SMX_VERSION_PATCH);
  if (strcmp(version, smx_version()) != 0) {
    fprintf(stderr, "header %s, library %s\n", version, smx_version());
    return 1;
  }
  const float x[2] = {0, -20};
  float lse = 0;
  if (smx_logsumexp_f32(x, &lse, 1, 2) != SMX_OK || lse != 2.0611537e-09f) {
    fprintf(stderr, "logsumexp([0, -20]) = %a: %s\n", lse, smx_last_error());
    return 1;
  }
  printf("swiftmax %s\n", version);
  return 0;
}
