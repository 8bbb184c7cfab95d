// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target on files: FILE|DIRECTORY... (each file of a directory), so that the corpus, and every
// input that once broke something, is a test of every build. Prints how many there were.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "fs/base/sys_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main(int argc, char** argv) {
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    if (!std::filesystem::is_directory(argv[i])) {
      files.emplace_back(argv[i]);
      continue;
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i]))
      if (entry.is_regular_file()) files.push_back(entry.path().string());
  }
  std::ranges::sort(files);
  for (const auto& path : files) {
    auto bytes = layerfs::read_file(path);
    if (!bytes) {
      fmt::print(stderr, "{}\n", bytes.error().message());
      return 1;
    }
    fmt::print("{}\n", path);
    std::fflush(stdout);  // the last one printed is the one that broke
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes->data()), bytes->size());
  }
  fmt::print("{} inputs\n", files.size());
  return files.empty() ? 1 : 0;
}
