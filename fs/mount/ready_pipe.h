// SPDX-License-Identifier: Apache-2.0
// ReadyPipe: how a background server tells the command that started it that the mount answers, or why not.
// One message: a kind, an errno, context and reason; the end of the pipe without one means that the server
// died.
#pragma once

#include <string>
#include <string_view>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs::mount {

std::string encode_outcome(const Result<void>& outcome);
/// Total: anything that is no message is an error that says so.
Result<void> decode_outcome(std::string_view message);

/// Writes the outcome and closes. A reader that has gone is no error.
void send_outcome(Fd& pipe, const Result<void>& outcome);
/// Reads until the end of the pipe.
Result<void> receive_outcome(int pipe);

}  // namespace layerfs::mount
