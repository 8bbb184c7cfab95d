// SPDX-License-Identifier: Apache-2.0
#include "tools/oci_limits.h"

#include <unistd.h>

#include <charconv>
#include <memory>
#include <nlohmann/json.hpp>

#include "fs/base/sys_file.h"
#include "runtime/container/oci_runtime.h"
#include "runtime/plan/run_spec.h"
#include "runtime/spec/parse_spec.h"
#include "tools/io.h"
#include "tools/json_text.h"

namespace layerfs::tools {

namespace {

using container::OciRuntime;
using Json = nlohmann::ordered_json;

struct UpdateOptions {
  std::string id;
  std::string file;
  std::string memory;
  std::string memory_swap;
  std::string memory_reservation;
  std::string kernel_memory;
  std::string kernel_memory_tcp;
  std::string l3_cache_schema;
  std::string memory_bandwidth_schema;
  spec::Resources resources;
};

/// "64m", or -1 for none.
Result<void> set_size(const std::string& text, const char* option, std::optional<std::int64_t>& to) {
  if (text.empty()) return {};
  if (text == "-1") {
    to = -1;
    return {};
  }
  LAYERFS_ASSIGN(to, plan::parse_size(text, option));
  return {};
}

Result<std::string> read_resources_text(const std::string& file) {
  constexpr std::size_t kLimit = std::size_t{1} << 20;
  return read_file(file == "-" ? "/proc/self/fd/0" : file, kLimit);
}

Result<void> run_update(const OciTool& tool, const UpdateOptions& options) {
  spec::Resources resources = options.resources;
  if (!options.file.empty()) {
    LAYERFS_ASSIGN(std::string text, read_resources_text(options.file));
    auto parsed = spec::parse_resources(text);
    if (!parsed) return with_context(parsed.error(), "", options.file);
    resources = std::move(*parsed);
  }
  LAYERFS_TRY(set_size(options.memory, "--memory", resources.memory_limit));
  LAYERFS_TRY(set_size(options.memory_swap, "--memory-swap", resources.memory_swap));
  LAYERFS_TRY(set_size(options.memory_reservation, "--memory-reservation", resources.memory_reservation));
  LAYERFS_TRY(set_size(options.kernel_memory, "--kernel-memory", resources.memory_kernel));
  LAYERFS_TRY(set_size(options.kernel_memory_tcp, "--kernel-memory-tcp", resources.memory_kernel_tcp));
  resources.drop_zeros();
  OciRuntime runtime(tool.root);
  std::vector<std::string> schemata;
  for (const auto* line : {&options.l3_cache_schema, &options.memory_bandwidth_schema})
    if (!line->empty()) schemata.push_back(*line);
  if (!schemata.empty()) LAYERFS_TRY(runtime.update_schemata(options.id, schemata));
  if (!schemata.empty() && !resources.has_limits()) return {};  // it may have no cgroup
  return runtime.update(options.id, std::move(resources));
}

/// "5s", "100ms", "1m", or seconds.
Result<int> parse_interval(const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  auto [rest, code] = std::from_chars(text.data(), end, value);
  std::string_view unit(rest, static_cast<std::size_t>(end - rest));
  double factor = unit.empty() || unit == "s" ? 1'000 : unit == "ms" ? 1 : unit == "m" ? 60'000 : 0;
  if (code != std::errc{} || factor == 0 || value * factor < 1 || value * factor > 86'400'000)
    return invalid_error("--interval", text, "is no time between 1ms and one day");
  return static_cast<int>(value * factor);
}

Json usage_json(const plan::UsageStats& usage) {
  return {{"limit", usage.limit}, {"usage", usage.usage}, {"max", usage.max}, {"failcnt", usage.failures}};
}

Json block_json(const std::vector<plan::BlockEntry>& list) {
  Json array = Json::array();
  for (const auto& entry : list)
    array.push_back(
        {{"major", entry.major}, {"minor", entry.minor}, {"op", entry.operation}, {"value", entry.value}});
  return array;
}

std::string stats_line(const std::string& id, const plan::CgroupStats& stats) {
  Json data;
  Json usage = {{"total", stats.cpu.total}, {"kernel", stats.cpu.kernel}, {"user", stats.cpu.user}};
  if (!stats.cpu.per_cpu.empty()) usage["percpu"] = stats.cpu.per_cpu;
  data["cpu"] = {{"usage", std::move(usage)},
                 {"throttling",
                  {{"periods", stats.cpu.periods},
                   {"throttledPeriods", stats.cpu.throttled_periods},
                   {"throttledTime", stats.cpu.throttled_time}}}};
  data["memory"] = {{"cache", stats.memory.cache},
                    {"usage", usage_json(stats.memory.memory)},
                    {"swap", usage_json(stats.memory.swap)},
                    {"kernel", usage_json(stats.memory.kernel)},
                    {"raw", stats.memory.raw}};
  data["pids"] = {{"current", stats.pids}};
  if (stats.pids_limit != 0) data["pids"]["limit"] = stats.pids_limit;
  data["blkio"] = {{"ioServiceBytesRecursive", block_json(stats.block_bytes)},
                   {"ioServicedRecursive", block_json(stats.block_operations)}};
  data["hugetlb"] = Json::object();
  for (const auto& [size, pages] : stats.hugepages)
    data["hugetlb"][size] = {{"usage", pages.usage}, {"max", pages.max}, {"failcnt", pages.failures}};
  return json_line(Json{{"type", "stats"}, {"id", id}, {"data", std::move(data)}});
}

struct EventsOptions {
  std::string id;
  std::string interval = "5s";
  bool stats = false;
};

Result<void> run_events(const OciTool& tool, const EventsOptions& options) {
  LAYERFS_ASSIGN(int interval, parse_interval(options.interval));
  OciRuntime runtime(tool.root);
  if (options.stats) {
    LAYERFS_ASSIGN(plan::CgroupStats stats, runtime.stats(options.id));
    return print(stats_line(options.id, stats));
  }
  OciRuntime::Watcher watcher;
  watcher.interval = interval;
  watcher.on_stats = [&](const plan::CgroupStats& stats) { return print(stats_line(options.id, stats)); };
  watcher.on_out_of_memory = [&] { return print(json_line(Json{{"type", "oom"}, {"id", options.id}})); };
  return runtime.watch(options.id, watcher);
}

}  // namespace

void add_update(CLI::App& app, OciTool& tool) {
  auto options = std::make_shared<UpdateOptions>();
  CLI::App* update = app.add_subcommand("update", "Change a container's limits");
  spec::Resources& to = options->resources;
  auto* file =
      update->add_option("-r,--resources", options->file, "linux.resources as JSON; - is standard input");
  // The file is the whole of the change: these are not mixed with it.
  auto add = [&](const char* name, auto& value, const char* help) {
    update->add_option(name, value, help)->excludes(file);
  };
  add("--memory", options->memory, "Bytes, or with k, m, g; -1 for no limit");
  add("--memory-swap", options->memory_swap, "Memory plus swap; -1 for no limit");
  add("--memory-reservation", options->memory_reservation, "What it keeps under pressure");
  add("--cpu-period", to.cpu_period, "Microseconds");
  add("--cpu-quota", to.cpu_quota, "Microseconds a period; -1 for no limit");
  add("--cpu-share,--cpu-shares", to.cpu_shares, "Weight against others");
  add("--cpu-burst", to.cpu_burst, "Microseconds that may be saved up");
  add("--cpu-rt-period", to.cpu_realtime_period, "Microseconds, of realtime scheduling");
  add("--cpu-rt-runtime", to.cpu_realtime_runtime, "Microseconds a realtime period");
  add("--kernel-memory", options->kernel_memory, "Of cgroup v1");
  add("--kernel-memory-tcp", options->kernel_memory_tcp, "Of cgroup v1");
  add("--l3-cache-schema", options->l3_cache_schema, "A line of its resctrl schemata: L3:0=7f0");
  add("--mem-bw-schema", options->memory_bandwidth_schema, "A line of its resctrl schemata: MB:0=20");
  add("--cpu-idle", to.cpu_idle, "1: only what others leave");
  add("--cpuset-cpus", to.cpuset_cpus, "0-3,5");
  add("--cpuset-mems", to.cpuset_mems, "Memory nodes");
  add("--pids-limit", to.pids_limit, "Tasks; -1 for no limit");
  add("--blkio-weight", to.block_io.weight, "10 to 1000");
  update->add_option("ID", options->id, "Container id")->required();
  update->callback([options, &tool] {
    if (auto done = run_update(tool, *options); !done) tool.fail(done.error());
  });
}

void add_events(CLI::App& app, OciTool& tool) {
  auto options = std::make_shared<EventsOptions>();
  CLI::App* events = app.add_subcommand("events", "Print what a container uses, and its out-of-memory kills");
  events->add_flag("--stats", options->stats, "Once, then end");
  events->add_option("--interval", options->interval, "Time between two: 5s, 100ms");
  events->add_option("ID", options->id, "Container id")->required();
  events->callback([options, &tool] {
    if (auto done = run_events(tool, *options); !done) tool.fail(done.error());
  });
}

}  // namespace layerfs::tools
