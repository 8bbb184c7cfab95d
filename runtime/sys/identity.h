// SPDX-License-Identifier: Apache-2.0
// The identity of the calling process: ids, and signals as a program expects to find them. One thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "fs/base/result.h"

namespace layerfs::sys {

/// Becomes uid and gid 0 of this user namespace; `drop_groups` also forgets the caller's supplementary groups
/// (which a namespace without setgroups(2) does not allow). Errors: EINVAL where 0 is not mapped; EPERM.
Result<void> become_namespace_root(bool drop_groups);
/// A new, empty session keyring (keyctl(2)). A kernel without keyrings, or one that forbids them here, is
/// success.
Result<void> join_new_keyring(const std::string& name);
/// Every signal as usual, none blocked.
void reset_signals();
/// Runs the program of `program_fd` (execveat(2)) with one argument more than its name. Returns only on
/// errors.
Result<void> execute_fd(int program_fd, const char* name, const char* argument);
/// Runs it with all of `arguments`, the first of them its name, and this process's environment. Returns only
/// on errors.
Result<void> execute_fd_again(int program_fd, const std::vector<std::string>& arguments);
/// Descriptor `fd` survives the next exec.
Result<void> keep_on_exec(int fd);
/// `from` becomes descriptor `to`.
Result<void> move_fd(int from, int to);
/// Whether this process may execute `path` by its permission bits. Errors: EACCES, ENOENT, ENOTDIR, EISDIR...
Result<void> check_executable(const char* path);

}  // namespace layerfs::sys
