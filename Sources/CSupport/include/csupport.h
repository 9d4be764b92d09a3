/* Everything that is not Swift, for the Swift targets. No libc header: the kernels are also
 * compiled for a freestanding AArch64. */
#ifndef SMXK_CSUPPORT_H
#define SMXK_CSUPPORT_H

#include "kernels.h"
#include "lanes.h"
#include "narrow.h"
#include "runtime.h"

#endif
