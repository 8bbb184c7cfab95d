// SPDX-License-Identifier: Apache-2.0
// How the parsers of untrusted input say no.
#pragma once

#include <cerrno>
#include <string>
#include <utility>

#include "fs/base/result.h"

namespace layerfs {

/// A kInvalid error of which nothing is known yet but the reason; whoever reads the document adds its name.
inline std::unexpected<Error> refuse(std::string reason) {
  return std::unexpected(Error{ErrorKind::kInvalid, EINVAL, {}, std::move(reason)});
}

}  // namespace layerfs
