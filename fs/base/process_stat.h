// SPDX-License-Identifier: Apache-2.0
// /proc/PID/stat and /proc/PID/task/TID/stat (proc(5)): one line whose second field is a name that may hold
// anything.
#pragma once

#include <string_view>

namespace layerfs {

/// Fields of that line, counted from 1 as proc(5) does.
enum class StatField : unsigned char { kState = 3, kStartTime = 22, kProcessor = 39 };

/// The text of the field; empty where the line ends before it.
std::string_view find_stat_field(std::string_view line, StatField field);

}  // namespace layerfs
