/* swiftmax_decoding.h: sampling, scoring and calibration. A part of swiftmax.h, which says what holds for every function. */
#ifndef SWIFTMAX_DECODING_H
#define SWIFTMAX_DECODING_H

#include "swiftmax.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __cplusplus
}
#endif

#endif /* SWIFTMAX_DECODING_H */
