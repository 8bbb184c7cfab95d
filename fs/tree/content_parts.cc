// SPDX-License-Identifier: Apache-2.0
#include "fs/tree/content_parts.h"

#include <algorithm>
#include <utility>

namespace layerfs::tree {

namespace {

ContentSource whole_source(const Node& node) {
  switch (node.content) {
    case ContentKind::kNone: return ContentSource::kHole;
    case ContentKind::kInline: return ContentSource::kInline;
    case ContentKind::kObject: return ContentSource::kObject;
    case ContentKind::kData:
    case ContentKind::kShared: break;
  }
  return ContentSource::kData;
}

}  // namespace

Result<void> visit_content(const UpperView* upper, Ino ino, const Node& node, std::uint64_t begin,
                           std::uint64_t end, FunctionRef<Result<void>(const ContentPart&)> visit) {
  if (begin >= end) return {};
  if (upper == nullptr && has_data_file(node.content))
    return corrupt_error("read", "tree", "a node with a data file");
  if (node.content != ContentKind::kData || node.object.is_zero())
    return visit({whole_source(node), begin, end - begin});
  // Between the extents the object shows through, up to base_size.
  std::uint64_t done = begin;
  const auto visit_base = [&](std::uint64_t until) -> Result<void> {
    const std::uint64_t base_end = std::min(until, node.base_size);
    if (done < base_end) {
      LAYERFS_TRY(visit({ContentSource::kObject, done, base_end - done}));
      done = base_end;
    }
    if (done < until) LAYERFS_TRY(visit({ContentSource::kHole, done, until - done}));
    done = until;
    return {};
  };
  for (const Extent& extent : upper->extents_within(ino, begin, end)) {
    if (extent.offset > done) LAYERFS_TRY(visit_base(extent.offset));
    const std::uint64_t until = std::min(extent.offset + extent.length, end);
    LAYERFS_TRY(visit({ContentSource::kData, done, until - done}));
    done = until;
  }
  return done < end ? visit_base(end) : Result<void>{};
}

Result<DataPlace> open_content(const UpperView& upper, Ino ino, const Node& node) {
  if (node.content == ContentKind::kShared) return upper.open_shared(ino);
  LAYERFS_ASSIGN(auto file, upper.open_data(ino));
  return DataPlace{std::move(file)};
}

}  // namespace layerfs::tree
