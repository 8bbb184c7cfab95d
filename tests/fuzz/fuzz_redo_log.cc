// SPDX-License-Identifier: Apache-2.0
// Fuzz target: the delta's files. The first byte says what the rest is: 0 a redo log, 1 a log body, 2 a
// checkpoint, 3 the changes of one checkpoint block (its checksums are made here, so that what lies behind
// them is reached).
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "fs/base/bytes.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sys_file.h"
#include "fs/upper/checkpoint_file.h"
#include "fs/upper/crc32c.h"
#include "fs/upper/delta_codec.h"
#include "fs/upper/delta_records.h"
#include "fs/upper/redo_scan.h"

namespace {

using namespace layerfs;
using namespace layerfs::upper;

void require(bool condition) {
  if (!condition) std::abort();
}

/// What can be read can be written again, and applied twice like once.
void try_body(std::string_view body, DeltaState& state) {
  const auto decoded = decode_body(body);
  if (!decoded) return;
  const auto* set = std::get_if<tree::ChangeSet>(&*decoded);
  if (set == nullptr) return;
  std::string again;
  require(append_changes(again, *set).has_value());
  require(again == body);
  DataEffects effects;
  for (const tree::Change& change : set->changes) state.apply(change, effects);
  for (const tree::Change& change : set->changes)
    for_each_key(
        change,
        [&](std::string_view key) {
          std::string value;
          append_record_value(value, state, key);
        },
        [](std::string_view) {});
}

void try_log(std::string_view bytes) {
  const auto scan = RedoScan::scan(bytes);
  if (!scan || !*scan) return;
  DeltaState state;
  std::uint64_t next = (*scan)->header().start;
  const auto last =
      (*scan)->for_each_from(next, [&](std::uint64_t seq, std::string_view body) -> Result<void> {
        require(seq == next++);
        try_body(body, state);
        return {};
      });
  require(last && *last == next - 1);
  (*scan)->has_records_beyond(*last);
  (*scan)->find_damage(*last);
}

void try_checkpoint(std::string_view bytes) {
  const std::string path = fmt::format("/dev/shm/layerfs-fuzz-checkpoint-{}", getpid());
  const Fd file(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  const ScopeExit remove_file([&] { unlink(path.c_str()); });
  require(write_full(file.get(), as_bytes(bytes)).has_value());
  SyncOps sync;
  const auto opened = CheckpointFile::open(path, CheckpointMode::kReadOnly, sync);
  if (!opened) return;
  require((*opened)->size() <= bytes.size());
  DeltaState state;
  RecordLoader loader(state);
  static_cast<void>((*opened)->load(loader));
  state.for_each_changed([](tree::Ino, const tree::ChangedParts&) { return true; });
}

std::string block_around(std::string_view changes) {
  std::string header;
  append_le(header, static_cast<std::uint32_t>(changes.size()));
  append_le(header, std::uint64_t{1});
  append_le(header, std::uint32_t{1});
  append_le(header, std::uint32_t{0});
  std::string file = "LFSCKPT1";
  append_le(file, std::uint32_t{1});
  file.resize(28, '\0');
  append_le(file, crc32c(file));
  append_le(file, crc32c(changes, crc32c(header)));
  file += header;
  file += changes;
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 0: try_log(rest); break;
    case 1: {
      DeltaState state;
      try_body(rest, state);
      break;
    }
    case 2: try_checkpoint(rest); break;
    case 3: try_checkpoint(block_around(rest)); break;
    default: break;
  }
  return 0;
}
