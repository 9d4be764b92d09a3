/* swiftmax_training.h: gradients and losses. A part of swiftmax.h, which says what holds for every function. */
#ifndef SWIFTMAX_TRAINING_H
#define SWIFTMAX_TRAINING_H

#include "swiftmax.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __cplusplus
}
#endif

#endif /* SWIFTMAX_TRAINING_H */
