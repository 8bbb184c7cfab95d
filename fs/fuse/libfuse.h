// SPDX-License-Identifier: Apache-2.0
// The one place that chooses libfuse's API version and names its header. 3.14 is the least that is built
// against (Debian 12); capabilities.cc turns off what the library or the kernel lacks.
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#if FUSE_VERSION < 314
#error "libfuse 3.14 or newer is needed"
#endif
