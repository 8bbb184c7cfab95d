// SPDX-License-Identifier: Apache-2.0
// What a program of ours puts right before it does anything else: a caller leaves more to a program than its
// arguments (execve(2)), and not all of it is what the program was written for.
//
// (1) Requires: first in main(), before any thread and any file.
// (2) After begin_process() no file that the program opens gets the number 0, 1 or 2.
#pragma once

#include <string_view>

namespace layerfs {

/// Of the standard streams, those that are closed become /dev/null, open for reading and writing as the Go
/// runtime opens them: else the next file of ours (the catalog of a store) would get their number, and what
/// is printed would go into it. Signals that the caller blocks are let through, and SIGCHLD has its default
/// again: who ignores it has children without an exit status (wait(2)). Other signals that the caller ignores
/// stay ignored, as nohup(1) asks of every program.
void begin_process();

/// `text` on standard error, as far as that takes it. Never fails: an error that cannot be said must not
/// become another one.
void write_standard_error(std::string_view text);

}  // namespace layerfs
