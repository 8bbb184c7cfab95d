// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_store.h"

#include <fmt/format.h>

#include <array>
#include <memory>
#include <vector>

#include "fs/store/store.h"
#include "tools/cmd_image_view.h"
#include "tools/cmd_store_access.h"

namespace layerfs::tools {

namespace {

using store::Store;
using store::StoreAccess;
using Rows = std::vector<std::array<std::string, 2>>;

std::string count_and(std::uint64_t count, const char* name) {
  return fmt::format("{} {}{}", count, name, count == 1 ? "" : "s");
}

Result<void> run_df(const Tool& tool, bool json) {
  LAYERFS_ASSIGN(auto store, open_store(tool, StoreAccess::kRead));
  LAYERFS_ASSIGN(auto usage, store->usage());
  std::uint64_t disk = usage.object_disk_bytes + usage.metadata_disk_bytes + usage.container_disk_bytes;
  if (json) {
    Json out;
    out["Images"] = usage.images;
    out["LogicalBytes"] = usage.logical_bytes;
    out["LayerDedupBytes"] = usage.layer_dedup_bytes;
    out["FileDedupBytes"] = usage.file_dedup_bytes;
    out["ObjectDiskBytes"] = usage.object_disk_bytes;
    out["MetadataDiskBytes"] = usage.metadata_disk_bytes;
    out["ContainerDiskBytes"] = usage.container_disk_bytes;
    out["DiskBytes"] = disk;
    return print(json_text(out));
  }
  Rows rows{{"WHAT", "SIZE"},
            {"contents of " + count_and(usage.images, "image"), human_size(usage.logical_bytes)},
            {"with each layer once", human_size(usage.layer_dedup_bytes)},
            {"with each file once", human_size(usage.file_dedup_bytes)},
            {"on disk: contents", human_size(usage.object_disk_bytes)},
            {"on disk: trees, layers, catalog", human_size(usage.metadata_disk_bytes)},
            {"on disk: containers and uppers", human_size(usage.container_disk_bytes)},
            {"on disk", human_size(disk)}};
  return print(format_table(rows));
}

Result<void> run_gc(const Tool& tool, bool json, store::GcWait wait) {
  LAYERFS_ASSIGN(auto store, open_store(tool, StoreAccess::kWrite));
  LAYERFS_ASSIGN(auto report, store->gc(wait));
  if (json) {
    Json out;
    out["ObjectsRemoved"] = report.objects_removed;
    out["LayersRemoved"] = report.layers_removed;
    out["TreesRemoved"] = report.trees_removed;
    out["BlobsRemoved"] = report.blobs_removed;
    out["LeftoversRemoved"] = report.leftovers_removed;
    out["BytesFreed"] = report.bytes_freed;
    return print(json_text(out));
  }
  return print(fmt::format("removed {}, {}, {}, {} and {}: {} freed\n",
                           count_and(report.objects_removed, "object"),
                           count_and(report.layers_removed, "layer"), count_and(report.trees_removed, "tree"),
                           count_and(report.blobs_removed, "blob"),
                           count_and(report.leftovers_removed, "leftover"), human_size(report.bytes_freed)));
}

/// True where the store is as it should be.
Result<bool> run_check(const Tool& tool, bool json, store::CheckDepth depth) {
  LAYERFS_ASSIGN(auto store, open_store(tool, StoreAccess::kRead));
  LAYERFS_ASSIGN(auto report, store->check(depth));
  std::string text;
  if (json) {
    Json problems = Json::array();
    for (const auto& problem : report.problems)
      problems.push_back({{"Subject", problem.subject}, {"Reason", problem.reason}});
    text = json_text({{"ObjectsChecked", report.objects_checked},
                      {"LayersChecked", report.layers_checked},
                      {"TreesChecked", report.trees_checked},
                      {"Problems", problems}});
  } else {
    for (const auto& problem : report.problems)
      text += fmt::format("{}: {}\n", problem.subject, problem.reason);
    text +=
        fmt::format("checked {}, {} and {}: {}\n", count_and(report.objects_checked, "object"),
                    count_and(report.layers_checked, "layer"), count_and(report.trees_checked, "tree"),
                    report.problems.empty() ? "no problems" : count_and(report.problems.size(), "problem"));
  }
  LAYERFS_TRY(print(text));
  return report.problems.empty();
}

struct Arguments {
  bool json = false;
  bool wait = false;
  bool quick = false;
  bool contents = false;
};

}  // namespace

void add_store_commands(CLI::App& app, Tool& tool) {
  auto* group = app.add_subcommand("store", "Look after the store");
  group->require_subcommand(1);
  auto arguments = std::make_shared<Arguments>();

  auto* df = group->add_subcommand("df", "Show what the store holds and what it takes");
  df->add_flag("--json", arguments->json, "As JSON");
  df->callback([arguments, &tool] { finish(tool, run_df(tool, arguments->json)); });

  auto* gc = group->add_subcommand(
      "gc", "Remove what no image, container or mount needs, and what dead writers left");
  gc->add_flag("--json", arguments->json, "As JSON");
  gc->add_flag("--wait", arguments->wait, "Wait for imports and commits under way, instead of failing");
  gc->callback([arguments, &tool] {
    auto done = run_gc(tool, arguments->json, arguments->wait ? store::GcWait::kYes : store::GcWait::kNo);
    finish(tool, done);
  });

  auto* check =
      group->add_subcommand("check",
                            "Read the whole store and check that every content and every layer has its "
                            "digest and every reference leads somewhere; exit 1 where it is not so");
  check->add_flag("--json", arguments->json, "As JSON");
  auto* quick = check->add_flag("--quick", arguments->quick, "References and sizes only, contents unread");
  check->add_flag("--contents", arguments->contents, "Contents too (the default)")->excludes(quick);
  check->callback([arguments, &tool] {
    auto whole = run_check(tool, arguments->json,
                           arguments->quick ? store::CheckDepth::kStructure : store::CheckDepth::kContents);
    if (!whole)
      tool.status = report_error(tool, whole.error());
    else if (!*whole)
      tool.status = kExitError;
  });
}

}  // namespace layerfs::tools
