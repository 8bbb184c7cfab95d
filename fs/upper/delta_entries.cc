// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/delta_entries.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

namespace layerfs::upper {

DeltaEntries::Position DeltaEntries::find_position(std::uint64_t cookie, std::string_view name) const {
  if (chunks_.empty()) return {0, 0, false};
  const auto after = std::upper_bound(firsts_.begin(), firsts_.end(), cookie);
  // Before the first chunk's first slot is still a place in the first chunk.
  const std::size_t index =
      after == firsts_.begin() ? 0 : static_cast<std::size_t>(after - firsts_.begin()) - 1;
  const Chunk& chunk = chunks_[index];
  const auto slot =
      std::lower_bound(chunk.begin(), chunk.end(), cookie, [&](const Slot& one, std::uint64_t wanted) {
        return one.cookie != wanted ? one.cookie < wanted : one.name_view() < name;
      });
  const bool found = slot != chunk.end() && slot->cookie == cookie && slot->name_view() == name;
  return {index, static_cast<std::size_t>(slot - chunk.begin()), found};
}

tree::UpperEntry DeltaEntries::find(std::string_view name) const {
  const Position position = find_position(to_number(tree::name_cookie(name)), name);
  if (!position.found) return {};
  const Slot& slot = chunks_[position.chunk][position.slot];
  return {slot.state, tree::Ino{slot.ino}, slot.kind};
}

void DeltaEntries::put(std::string_view name, const tree::UpperEntry& entry) {
  const std::uint64_t cookie = to_number(tree::name_cookie(name));
  const Position position = find_position(cookie, name);
  if (position.found) {
    Slot& slot = chunks_[position.chunk][position.slot];
    slot.ino = to_number(entry.ino);
    slot.state = entry.state;
    slot.kind = entry.kind;
    return;
  }
  auto bytes = std::make_unique_for_overwrite<char[]>(name.size());
  std::memcpy(bytes.get(), name.data(), name.size());
  Slot slot{cookie,           to_number(entry.ino),
            std::move(bytes), static_cast<std::uint8_t>(name.size()),
            entry.state,      entry.kind};
  if (chunks_.empty()) {
    chunks_.emplace_back();
    firsts_.push_back(cookie);
  }
  Chunk& chunk = chunks_[position.chunk];
  chunk.insert(chunk.begin() + static_cast<std::ptrdiff_t>(position.slot), std::move(slot));
  firsts_[position.chunk] = chunk.front().cookie;
  if (chunk.size() > kMaxChunk) split(position.chunk);
}

void DeltaEntries::split(std::size_t index) {
  Chunk& chunk = chunks_[index];
  // The cut nearest to the middle that keeps equal cookies together (invariant 2); hash collisions of a whole
  // chunk have none, and then it just grows.
  std::size_t cut = chunk.size() / 2;
  while (cut < chunk.size() && chunk[cut].cookie == chunk[cut - 1].cookie) ++cut;
  if (cut == chunk.size()) return;
  Chunk upper_half(std::make_move_iterator(chunk.begin() + static_cast<std::ptrdiff_t>(cut)),
                   std::make_move_iterator(chunk.end()));
  chunk.erase(chunk.begin() + static_cast<std::ptrdiff_t>(cut), chunk.end());
  const auto next = static_cast<std::ptrdiff_t>(index) + 1;
  firsts_.insert(firsts_.begin() + next, upper_half.front().cookie);
  chunks_.insert(chunks_.begin() + next, std::move(upper_half));
}

void DeltaEntries::erase(std::string_view name) {
  const Position position = find_position(to_number(tree::name_cookie(name)), name);
  if (!position.found) return;
  Chunk& chunk = chunks_[position.chunk];
  chunk.erase(chunk.begin() + static_cast<std::ptrdiff_t>(position.slot));
  if (!chunk.empty()) {
    firsts_[position.chunk] = chunk.front().cookie;
    return;
  }
  chunks_.erase(chunks_.begin() + static_cast<std::ptrdiff_t>(position.chunk));
  firsts_.erase(firsts_.begin() + static_cast<std::ptrdiff_t>(position.chunk));
}

void DeltaEntries::list(tree::DirCookie after, FunctionRef<bool(const tree::UpperEntryView&)> visit) const {
  const std::uint64_t from = to_number(after);
  const auto next = std::upper_bound(firsts_.begin(), firsts_.end(), from);
  std::size_t index = next == firsts_.begin() ? 0 : static_cast<std::size_t>(next - firsts_.begin()) - 1;
  for (; index < chunks_.size(); ++index) {
    for (const Slot& slot : chunks_[index]) {
      if (slot.cookie <= from) continue;
      const tree::UpperEntryView view{tree::DirCookie{slot.cookie}, slot.name_view(), slot.state,
                                      tree::Ino{slot.ino}, slot.kind};
      if (!visit(view)) return;
    }
  }
}

}  // namespace layerfs::upper
