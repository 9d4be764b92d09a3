/* logsumexp: the log-likelihood of data under a mixture of normal distributions.
 *
 *     log p(x) = log sum over k of exp(log weight_k + log normal(x; mean_k, deviation_k))
 *
 * Far from every mean each term underflows to zero, and the plain formula gives log(0); logsumexp
 * does not.
 */
#include <math.h>
#include <stdio.h>

#include "swiftmax.h"

enum { POINTS = 5, PARTS = 3 };

int main(void) {
  const double weight[PARTS] = {0.5, 0.3, 0.2}, mean[PARTS] = {-1, 0, 4};
  const double deviation[PARTS] = {0.5, 1.0, 0.25};
  const double points[POINTS] = {-1, 0.3, 4.1, 12, 60};

  double terms[POINTS][PARTS], log_likelihood[POINTS];
  for (int i = 0; i < POINTS; i++) {
    for (int k = 0; k < PARTS; k++) {
      const double z = (points[i] - mean[k]) / deviation[k];
      /* log of the density: -z²/2 - log(deviation * sqrt(2π)) */
      terms[i][k] = log(weight[k]) - 0.5 * z * z - log(deviation[k]) - 0.91893853320467274;
    }
  }
  if (smx_logsumexp_f64(terms[0], log_likelihood, POINTS, PARTS) != SMX_OK) {
    fprintf(stderr, "logsumexp: %s\n", smx_last_error());
    return 1;
  }

  double total = 0;
  for (int i = 0; i < POINTS; i++) {
    double plain = 0;
    for (int k = 0; k < PARTS; k++) plain += exp(terms[i][k]);
    printf("x = %5.1f   log p = %13.6f   by the plain formula %13.6f\n", points[i],
           log_likelihood[i], log(plain));
    total += log_likelihood[i];
  }
  printf("log-likelihood of all: %.6f\n", total);
  return isfinite(total) ? 0 : 1;
}
