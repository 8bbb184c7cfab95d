// SPDX-License-Identifier: Apache-2.0
#include "fs/base/process_stat.h"

namespace layerfs {

std::string_view find_stat_field(std::string_view line, StatField field) {
  // Fields are counted from the end of the name: no later one has a parenthesis.
  std::size_t at = line.rfind(')');
  for (int before = 2; before < static_cast<int>(field) && at != std::string_view::npos; ++before)
    at = line.find(' ', at + 1);
  if (at == std::string_view::npos) return {};
  std::string_view rest = line.substr(at + 1);
  return rest.substr(0, rest.find_first_of(" \n"));
}

}  // namespace layerfs
