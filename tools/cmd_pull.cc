// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_pull.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "fs/base/log.h"
#include "fs/image/manifest.h"
#include "fs/image/registry_image.h"
#include "tools/cmd_progress.h"
#include "tools/cmd_store_access.h"
#include "tools/json_text.h"

namespace layerfs::tools {

namespace {

/// What happens, as JSON objects, one a line, on standard output; nothing where they were not asked for.
class Events {
 public:
  explicit Events(bool shown) : shown_(shown) {}
  Result<void> say(const nlohmann::ordered_json& event) const {
    if (!shown_) return {};
    return print(json_line(event));
  }
  Result<void> progress(const std::string& name, const image::ImportProgress& progress) {
    constexpr std::chrono::milliseconds kPeriod{500};
    auto now = std::chrono::steady_clock::now();
    bool whole = progress.layers_done == progress.layers_total;
    if (!shown_ || (now - last_ < kPeriod && !whole)) return {};
    last_ = now;
    return say({{"event", "progress"},
                {"reference", name},
                {"bytes", progress.bytes_done},
                {"bytes_total", progress.bytes_total},
                {"layers", progress.layers_done},
                {"layers_total", progress.layers_total}});
  }

 private:
  bool shown_;
  std::chrono::steady_clock::time_point last_;
};

/// One command's pulling: the registries are opened once, the store when there is something to put in it.
class Puller {
 public:
  static Result<std::unique_ptr<Puller>> make(const Tool& tool, const PullArguments& arguments,
                                              const InterruptWatch* interrupt) {
    std::unique_ptr<Puller> puller(new Puller(tool, arguments, interrupt));
    LAYERFS_ASSIGN(puller->options_.access, make_access(arguments.access, interrupt));
    if (!arguments.platform.empty()) {
      LAYERFS_ASSIGN(image::Platform platform, image::parse_platform(arguments.platform));
      puller->options_.platform_os = platform.os;
      puller->options_.platform_architecture = platform.architecture;
      puller->options_.platform_variant = platform.variant;
    }
    LAYERFS_ASSIGN(puller->registries_, image::RegistryImages::make(puller->options_.access));
    return puller;
  }

  Result<store::ImageRecord> pull(std::string_view name) {
    LAYERFS_ASSIGN(auto resolved, resolve(name));
    LAYERFS_ASSIGN(auto stored, find_stored(resolved.candidates));
    if (stored && arguments_.policy == PullPolicy::kMissing) return tell(*stored, false);
    if (!resolved.note.empty()) log_warning("{}", resolved.note);
    for (std::size_t i = 0;; ++i) {
      auto pulled = pull_reference(resolved.candidates[i], stored);
      if (pulled) return pulled;
      bool was_interrupted = pulled.error().kind == ErrorKind::kSystem && pulled.error().code == EINTR;
      if (was_interrupted || i + 1 == resolved.candidates.size()) {
        if (!stored || arguments_.policy != PullPolicy::kNewer || was_interrupted) return pulled;
        log_warning("{}; the image that is there is used", pulled.error().message());
        return tell(*stored, false);
      }
      log_warning("{}; the next registry is asked", pulled.error().message());
    }
  }

  Result<std::vector<std::string>> list_tags(std::string_view name) {
    LAYERFS_ASSIGN(auto parts, parse_image_reference(name.starts_with(kRegistryTransport)
                                                         ? name.substr(kRegistryTransport.size())
                                                         : name));
    if (!parts.tag.empty() || !parts.digest.empty())
      return invalid_error("--all-tags", name, "it has a tag or a digest already");
    LAYERFS_ASSIGN(auto resolved, resolve(name));
    if (!resolved.note.empty()) log_warning("{}", resolved.note);
    std::vector<std::string> names;
    LAYERFS_ASSIGN(auto tags, registries_->list_tags(resolved.candidates.front()));
    for (const auto& tag : tags) names.push_back(resolved.candidates.front().name() + ':' + tag);
    if (names.empty()) return invalid_error("--all-tags", name, "the registry has no tag of it");
    return names;
  }

 private:
  Puller(const Tool& tool, const PullArguments& arguments, const InterruptWatch* interrupt)
      : tool_(tool), arguments_(arguments), interrupt_(interrupt), events_(arguments.json) {}

  Result<registry::ResolvedName> resolve(std::string_view name) const {
    if (!name.starts_with(kRegistryTransport)) return registries_->resolve(name);
    LAYERFS_ASSIGN(auto reference, registry::parse_reference(name.substr(kRegistryTransport.size()),
                                                             registry::ShortNames::kDockerHub));
    return registry::ResolvedName{{std::move(reference)}, {}};
  }

  /// Of a store that may not be there yet.
  Result<std::optional<store::ImageRecord>> find_stored(const std::vector<registry::Reference>& candidates) {
    if (!store_) {
      LAYERFS_ASSIGN(bool there, has_store(tool_));
      if (!there) return std::nullopt;
      LAYERFS_TRY(open());
    }
    for (const auto& candidate : candidates) {
      LAYERFS_ASSIGN(auto found, image::find_stored(*store_, candidate, image::choice_of(options_).platform));
      if (found) return found;
    }
    return std::nullopt;
  }

  Result<void> open() {
    if (store_) return {};
    LAYERFS_ASSIGN(store_, store::Store::open(tool_.store_root, store::StoreAccess::kWrite));
    return {};
  }

  Result<store::ImageRecord> pull_reference(const registry::Reference& reference,
                                            const std::optional<store::ImageRecord>& stored) {
    std::string name = reference.str();
    image::ImageChoice choice = image::choice_of(options_);
    if (stored) {
      // Most registries count a HEAD for less than a GET, or for nothing.
      LAYERFS_ASSIGN(auto current, registries_->find_current(*store_, reference, choice));
      if (current) return tell(*current, false);
    }
    auto source = registries_->open_image(reference, choice);
    if (!source) return with_context(source.error(), "pull", name);
    LAYERFS_TRY(open());
    ProgressLine line(arguments_.quiet || arguments_.json ? ProgressLine::Shown::kNever
                                                          : ProgressLine::Shown::kWhereTerminal);
    options_.progress = [&](const image::ImportProgress& progress) -> Result<void> {
      std::size_t layer = std::min(progress.layers_done + 1, progress.layers_total);
      line.draw(progress.bytes_done, progress.bytes_total,
                fmt::format(", layer {} of {} of {}", layer, progress.layers_total, name));
      LAYERFS_TRY(events_.progress(name, progress));
      return interrupt_ == nullptr ? Result<void>{} : interrupt_->check();
    };
    LAYERFS_ASSIGN(auto record, image::import_source_image(*store_, std::move(*source), options_, name));
    return tell(record, true);
  }

  Result<store::ImageRecord> tell(const store::ImageRecord& record, bool fetched) {
    LAYERFS_TRY(events_.say({{"event", fetched ? "pulled" : "present"},
                             {"reference", record.reference},
                             {"id", record.config.hex()},
                             {"digest", record.manifest.str()}}));
    return record;
  }

  const Tool& tool_;
  const PullArguments& arguments_;
  const InterruptWatch* interrupt_;
  Events events_;
  image::ImportOptions options_;
  std::unique_ptr<image::RegistryImages> registries_;
  std::unique_ptr<store::Store> store_;
};

struct PullCommand {
  std::vector<std::string> names;
  PullArguments pull;
  bool all_tags = false;
};

Result<void> run_pull(const Tool& tool, const PullCommand& command, const InterruptWatch& interrupt) {
  std::vector<std::string> names = command.names;
  if (command.all_tags) {
    LAYERFS_ASSIGN(auto puller, Puller::make(tool, command.pull, &interrupt));
    names.clear();
    for (const auto& name : command.names) {
      LAYERFS_ASSIGN(auto tags, puller->list_tags(name));
      names.insert(names.end(), tags.begin(), tags.end());
    }
  }
  for (const auto& name : names) {
    auto record = get_image_pulling(tool, name, command.pull, &interrupt);
    if (!record) return std::unexpected(record.error());
    if (!command.pull.json) LAYERFS_TRY(print(record->config.hex() + '\n'));
  }
  return {};
}

}  // namespace

bool is_image_id(std::string_view name) {
  if (name.starts_with("sha256:")) name.remove_prefix(7);
  return name.size() == 2 * Digest::kSize &&
         name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

void add_access_options(CLI::App& command, AccessArguments& arguments) {
  command.add_flag(
      "--tls-verify", arguments.tls_verify,
      "With =false: take any certificate of the registry, and plain HTTP (default: as registries.conf says)");
  command.add_option("--creds", arguments.creds,
                     "USER:PASSWORD for the registry (default: those of a login)");
  command.add_option("--authfile", arguments.auth_file, "File of credentials, in place of the usual ones");
}

Result<registry::AccessOptions> make_access(const AccessArguments& arguments,
                                            const InterruptWatch* interrupt) {
  registry::AccessOptions access;
  access.config_paths = registry::config_paths_from_environment();
  access.auth_file = arguments.auth_file;
  if (!arguments.tls_verify.empty()) {
    if (arguments.tls_verify != "true" && arguments.tls_verify != "false")
      return invalid_error("--tls-verify", arguments.tls_verify, "must be true or false");
    access.verify_tls = arguments.tls_verify == "true";
  }
  if (!arguments.creds.empty()) {
    LAYERFS_ASSIGN(access.credentials, registry::parse_credentials(arguments.creds));
  }
  if (interrupt != nullptr) access.http.check = [interrupt] { return interrupt->check(); };
  return access;
}

void add_policy_option(CLI::App& command, const std::string& name, PullPolicy& policy) {
  const std::map<std::string, PullPolicy> words{{"missing", PullPolicy::kMissing},
                                                {"newer", PullPolicy::kNewer},
                                                {"always", PullPolicy::kAlways},
                                                {"never", PullPolicy::kNever}};
  std::string usual;
  for (const auto& [word, meaning] : words)
    if (meaning == policy) usual = word;
  command
      .add_option(
          name, policy,
          "When a registry is asked for the image: missing, newer, always or never (default: " + usual + ")")
      ->transform(CLI::CheckedTransformer(words, CLI::ignore_case).description(""))
      ->option_text("WHEN");
}

Result<store::ImageRecord> get_image_pulling(const Tool& tool, const std::string& name,
                                             const PullArguments& arguments,
                                             const InterruptWatch* interrupt) {
  LAYERFS_ASSIGN(bool there, has_store(tool));
  bool is_pullable = !is_image_id(name);
  if (arguments.policy == PullPolicy::kNever || !is_pullable) {
    LAYERFS_TRY(check_store_of_image(tool, name));
    LAYERFS_ASSIGN(auto store, open_store(tool, store::StoreAccess::kRead));
    return get_image_to_use(*store, name);
  }
  bool is_missing = true;
  if (there && arguments.platform.empty()) {
    // What is there, also by its id, is had without a look at what registries are configured.
    LAYERFS_ASSIGN(auto store, open_store(tool, store::StoreAccess::kRead));
    auto stored = store::get_image_by_name(*store, name);
    is_missing = !stored;
    if (!stored && stored.error().code != ENOENT) return stored;
    if (stored && arguments.policy == PullPolicy::kMissing && !arguments.json) return stored;
  }
  std::optional<InterruptWatch> own_watch;
  if (interrupt == nullptr) interrupt = &own_watch.emplace();
  auto pulled = [&]() -> Result<store::ImageRecord> {
    LAYERFS_ASSIGN(auto puller, Puller::make(tool, arguments, interrupt));
    return puller->pull(name);
  }();
  if (pulled) return pulled;
  if (own_watch && !own_watch->check()) {
    report_error(tool, pulled.error());
    own_watch->end_if_interrupted();
  }
  if (is_missing) return with_context(pulled.error(), "no such image", name);
  return pulled;
}

void add_pull_commands(CLI::App& app, Tool& tool) {
  auto arguments = std::make_shared<PullCommand>();
  arguments->pull.policy = PullPolicy::kAlways;
  CLI::App* command =
      app.add_subcommand("pull", "Bring images from registries into the store and print their ids");
  command
      ->add_option("REF", arguments->names, "HOST[:PORT]/NAME[:TAG][@DIGEST], or a short name as debian:12")
      ->required();
  command->add_option("--platform", arguments->pull.platform,
                      "OS/ARCHITECTURE[/VARIANT] (default: this machine's)");
  add_access_options(*command, arguments->pull.access);
  add_policy_option(*command, "--policy", arguments->pull.policy);
  command->add_flag("-a,--all-tags", arguments->all_tags, "Every tag of the repository");
  command->add_flag("-q,--quiet", arguments->pull.quiet, "No progress bar");
  command->add_flag("--json", arguments->pull.json,
                    "What happens as JSON, an event a line, in place of the ids");
  command->callback([arguments, &tool] {
    InterruptWatch interrupt;
    auto pulled = run_pull(tool, *arguments, interrupt);
    if (pulled) return;
    tool.status = report_error(tool, pulled.error());
    interrupt.end_if_interrupted();
  });
}

}  // namespace layerfs::tools
