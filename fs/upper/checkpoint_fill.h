// SPDX-License-Identifier: Apache-2.0
// What fills a checkpoint: records of a state that goes on changing meanwhile (DELTA.md, "checkpoint":
// covered and needs). The state lock is taken shared for a few records at a time, and never while a sink
// writes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "fs/base/function_ref.h"
#include "fs/base/result.h"
#include "fs/upper/checkpoint_file.h"
#include "fs/upper/delta_core.h"

namespace layerfs::upper {

using BodyVisitor = FunctionRef<Result<void>(std::uint64_t seq, std::string_view body)>;

/// What the log's records that `for_each_body` gives concern, as the state has it now. Errors: kCorrupt, the
/// sink's.
Result<void> write_changed_records(DeltaCore& core, RecordSink& sink,
                                   FunctionRef<Result<void>(BodyVisitor visit)> for_each_body);

/// Of the records with these keys those that the state has.
Result<void> write_present_records(DeltaCore& core, RecordSink& sink, std::span<const std::string> keys);

/// Everything that the state has. Errors: the sink's.
Result<void> write_all_records(DeltaCore& core, RecordSink& sink);

}  // namespace layerfs::upper
